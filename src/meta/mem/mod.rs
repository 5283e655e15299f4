//! The engine in memory: what every other engine is held against, and what the product is
//! measured with when the engine shall cost nothing.
//!
//! Owns a volume behind one short lock that all cores share; nothing in it waits. Does not own
//! POSIX rules. Has no bound of its own: what it holds is the volume, which the volume's limits
//! bound, and it goes with the process.

mod apply;
mod scan;
mod volume;

#[cfg(test)]
mod tests;

use std::future::ready;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::volume::Volume;
use super::acl::Rule;
use super::engine::{
    AclRules, Description, DirEntry, Engine, EngineError, Local, Session, UnusedSlices,
};
use super::scan::{Page, Table};
use super::txn::{Commit, Counter, Delayed, Key, Outcome, Value};
use crate::types::{Attr, Ino};

/// A volume in memory, shared by the cores of this process: clones are the same volume.
#[derive(Clone, Default)]
pub struct MemBase(Arc<Mutex<Volume>>);

/// A handle of the engine for one core.
struct MemEngine(MemBase);

impl MemBase {
    /// An empty one, as a database before `format`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for this core.
    pub fn engine(&self) -> Rc<dyn Engine> {
        Rc::new(MemEngine(self.clone()))
    }

    /// Data length, space and inodes of a directory, which no key of the language reads.
    #[cfg(test)]
    pub(in crate::meta) fn dir_stats(&self, dir: Ino) -> Option<[i64; 3]> {
        self.volume().dirs.get(&dir)?.stats
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is there already.
fn done<'a, T: 'a>(answer: T) -> Local<'a, Result<T, EngineError>> {
    Box::pin(ready(Ok(answer)))
}

impl Engine for MemEngine {
    fn fetch<'a>(&'a self, keys: &'a [Key]) -> Local<'a, Result<Vec<Value>, EngineError>> {
        let volume = self.0.volume();
        done(keys.iter().map(|key| volume.value(key)).collect())
    }

    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>> {
        done(self.0.volume().commit(commit))
    }

    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>> {
        done(self.0.volume().list(dir, with_attr))
    }

    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>> {
        let mut volume = self.0.volume();
        let value = volume.counter_mut(counter);
        *value += n;
        done(*value)
    }

    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>> {
        done(self.0.volume().setting.clone())
    }

    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>> {
        let mut volume = self.0.volume();
        if init.is_empty() || volume.setting.is_none() {
            volume.setting = Some(json);
        }
        for (ino, attr) in init {
            volume.nodes.entry(ino).or_insert(attr);
            if ino == Ino::ROOT {
                volume.dirs.entry(ino).or_default().stats.get_or_insert_default();
            }
        }
        done(())
    }

    fn put_session(&self, session: Session) -> Local<'_, Result<(), EngineError>> {
        self.0.volume().sessions.insert(session.sid, session);
        done(())
    }

    fn end_session(&self, sid: u64) -> Local<'_, Result<Vec<Ino>, EngineError>> {
        done(self.0.volume().end_session(sid))
    }

    fn sessions(&self) -> Local<'_, Result<Vec<Session>, EngineError>> {
        done(self.0.volume().sessions.values().cloned().collect())
    }

    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>> {
        done(self.0.volume().queued_files(before, limit))
    }

    fn unused_slices(
        &self,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<UnusedSlices, EngineError>> {
        done(self.0.volume().unused_slices(from, limit))
    }

    fn delayed_slices(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<Delayed>, EngineError>> {
        done(self.0.volume().delayed_slices(before, limit))
    }

    fn win_job(
        &self,
        name: &'static str,
        now: i64,
        period: i64,
    ) -> Local<'_, Result<bool, EngineError>> {
        done(self.0.volume().win_job(name, now, period))
    }

    fn scan(&self, table: Table, from: u64, limit: usize) -> Local<'_, Result<Page, EngineError>> {
        done(self.0.volume().scan(table, from, limit))
    }

    fn unkept_slice_ref(&self) -> i64 {
        0
    }

    fn keeps_parents_apart(&self) -> bool {
        true
    }

    fn acl_rules(&self, after: u32) -> Local<'_, Result<AclRules, EngineError>> {
        done(self.0.volume().acl_rules(after))
    }

    fn add_acl_rule(&self, rule: Rule) -> Local<'_, Result<u32, EngineError>> {
        done(self.0.volume().add_acl_rule(rule))
    }

    fn describe(&self) -> Local<'_, Result<Description, EngineError>> {
        let text = "memory, gone with this process".to_owned();
        Box::pin(ready(Ok(Description { text, warnings: Vec::new() })))
    }
}
