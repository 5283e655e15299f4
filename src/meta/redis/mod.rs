//! The Redis engine: JuiceFS's keys in a Redis, which official clients use at the same time.
//!
//! Owns the way there and back: a connection per core (`link`, `dial`, `wire`), reads as one pipeline
//! (`fetch`, `list`), commits as batches of one script call (`batch`, `pack`, `commit.lua`), and one more
//! connection for changes of others (`tracking`). Does
//! not own POSIX rules nor the bytes of records. Everything may be sent twice: reads, and what
//! the scripts recognise.

mod acl;
mod batch;
mod dial;
mod fetch;
mod garbage;
mod keys;
mod link;
mod list;
mod options;
mod pack;
mod reply;
mod scan;
mod script;
mod sentinel;
mod session;
mod target;
mod tls;
mod tracking;
mod wire;
mod words;

#[cfg(test)]
pub(crate) mod tests;

use std::rc::Rc;
use std::sync::Arc;

use self::batch::Committer;
use self::link::{Link, Shared};
use self::options::Patience;
use self::target::{Place, Target};
use super::acl::Rule;
use super::engine::{
    AclRules, Description, DirEntry, Engine, EngineError, Heard, Local, Session, UnusedSlices,
};
use super::scan::{Page, Table};
use super::txn::{Commit, Counter, Delayed, Key, Outcome, Value};
use crate::types::{Attr, Ino};

pub use target::{Passwords, RedisAddress, command_to_ask};

/// A Redis and how to enter it, to make handles from on any core.
#[derive(Clone)]
pub struct RedisServer(Arc<Shared>);

impl RedisServer {
    /// The database `db` of the server at `address`. Connects when a handle is first used.
    pub fn new(
        address: RedisAddress,
        user: Option<String>,
        password: Option<String>,
        db: u32,
    ) -> Self {
        Self(Arc::new(Shared::new(Target {
            place: Place::One(address),
            user,
            passwords: Passwords { redis: password, sentinel: None },
            db,
            patience: Patience::default(),
            tls: None,
        })))
    }

    /// As META-URL tells; what it leaves out is in `passwords`.
    ///
    /// # Errors
    /// A URL that cannot be read, with the form it should have; certificates that cannot.
    pub fn from_url(url: &str, passwords: Passwords) -> Result<Self, EngineError> {
        Ok(Self(Arc::new(Shared::new(Target::parse(url, passwords)?))))
    }

    /// A handle for the calling core; connects when first used, and again when cut off.
    pub fn engine(&self) -> Rc<dyn Engine> {
        let link = Rc::new(Link::new(Arc::clone(&self.0)));
        Rc::new(RedisEngine { committer: Committer::new(Rc::clone(&link)), link })
    }
}

/// A handle for one core.
struct RedisEngine {
    link: Rc<Link>,
    committer: Rc<Committer>,
}

impl Engine for RedisEngine {
    fn fetch<'a>(&'a self, keys: &'a [Key]) -> Local<'a, Result<Vec<Value>, EngineError>> {
        Box::pin(fetch::fetch(&self.link, keys))
    }

    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>> {
        Box::pin(self.committer.commit(commit))
    }

    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>> {
        Box::pin(list::list(&self.link, dir, with_attr))
    }

    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>> {
        // Sent twice it wastes ids, which nobody misses.
        Box::pin(async move {
            let key = keys::counter(counter);
            let words: [&[u8]; 3] = [b"INCRBY", key.as_bytes(), &n.to_string().into_bytes()];
            reply::integer(key, self.link.call(&words).await?)
        })
    }

    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>> {
        Box::pin(session::load_setting(&self.link))
    }

    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>> {
        Box::pin(async move { session::store_setting(&self.link, &json, &init).await })
    }

    fn put_session(&self, session: Session) -> Local<'_, Result<(), EngineError>> {
        Box::pin(async move { session::put(&self.link, &session).await })
    }

    fn end_session(&self, sid: u64) -> Local<'_, Result<Vec<Ino>, EngineError>> {
        Box::pin(session::end(&self.link, sid))
    }

    fn sessions(&self) -> Local<'_, Result<Vec<Session>, EngineError>> {
        Box::pin(session::all(&self.link))
    }

    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>> {
        Box::pin(session::queued_files(&self.link, before, limit))
    }

    fn unused_slices(
        &self,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<UnusedSlices, EngineError>> {
        Box::pin(garbage::unused_slices(&self.link, from, limit))
    }

    fn delayed_slices(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<Delayed>, EngineError>> {
        Box::pin(garbage::delayed_slices(&self.link, before, limit))
    }

    fn win_job(
        &self,
        name: &'static str,
        now: i64,
        period: i64,
    ) -> Local<'_, Result<bool, EngineError>> {
        Box::pin(session::win_job(&self.link, name, now, period))
    }

    fn scan(&self, table: Table, from: u64, limit: usize) -> Local<'_, Result<Page, EngineError>> {
        Box::pin(scan::page(&self.link, table, from, limit))
    }

    fn unkept_slice_ref(&self) -> i64 {
        // A field counts those beyond the first.
        1
    }

    fn keeps_parents_apart(&self) -> bool {
        true
    }

    fn acl_rules(&self, after: u32) -> Local<'_, Result<AclRules, EngineError>> {
        Box::pin(acl::rules(&self.link, after))
    }

    fn add_acl_rule(&self, rule: Rule) -> Local<'_, Result<u32, EngineError>> {
        Box::pin(async move { acl::add(&self.link, &rule).await })
    }

    fn watch(&self, hear: Rc<dyn Fn(Heard)>) -> Local<'_, EngineError> {
        Box::pin(tracking::watch(&self.link.shared, hear))
    }

    fn describe(&self) -> Local<'_, Result<Description, EngineError>> {
        Box::pin(session::describe(&self.link))
    }
}
