//! Metadata as the floors above call it: fetch, plan, commit, and plan again on a conflict.
//!
//! Owns id ranges, the session and the retry loop. Rules are `plan`'s, storage is `engine`'s.

mod acl;
mod content;
mod counts;
mod garbage;
mod look;
mod names;
mod nodes;
mod quota;
mod seen;
mod session;
mod trash;

#[cfg(test)]
mod tests;

pub use counts::MetaCounts;
pub use garbage::Released;
pub use names::{Made, Moved};
pub use nodes::Usage;
pub use trash::TrashFolder;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::engine::Engine;
use super::plan::Rules;
use super::slices::MetaError;
use super::txn::{Commit, Counter, Expect, Key, Outcome, Value};
use crate::metrics::{Sheet, Sheets};
use crate::stdx::now;
use crate::types::{Attr, FileType, Ino};
use acl::Rulebook;
use counts::Counts;
use quota::Quotas;
use seen::Seen;

/// Inode ids taken at a time.
const INODE_BATCH: i64 = 1024;
/// Slice ids taken at a time.
const SLICE_BATCH: i64 = 4096;
/// How often an operation is planned again before it gives up.
const TRIES: usize = 50;

/// A range of ids in hand: the next one and the end.
type Range = Mutex<(i64, i64)>;

/// What the cores of one mount share of metadata.
pub struct MetaShared {
    inodes: Range,
    slices: Range,
    sid: AtomicU64,
    /// The most that the wall clock was ahead of the running one at a heartbeat, in seconds.
    clock_ahead_s: AtomicI64,
    trash_days: AtomicU64,
    trash_folder: Mutex<Option<(String, Ino)>>,
    rules: Mutex<Rules>,
    seen: Seen,
    counts: Sheets<Counts>,
    rulebook: Rulebook,
    quotas: Quotas,
    root: Ino,
    read_only: bool,
    held: AtomicBool,
}

impl MetaShared {
    /// For a mount whose root is `root` (`--subdir`); rules without trash and session.
    pub fn new(root: Ino, read_only: bool, trash_days: u64, rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            inodes: Mutex::new((0, 0)),
            slices: Mutex::new((0, 0)),
            sid: AtomicU64::new(0),
            clock_ahead_s: AtomicI64::new(i64::MIN),
            trash_days: AtomicU64::new(trash_days),
            trash_folder: Mutex::new(None),
            rules: Mutex::new(rules),
            seen: Seen::default(),
            counts: Sheets::default(),
            rulebook: Rulebook::default(),
            quotas: Quotas::default(),
            root,
            read_only,
            held: AtomicBool::new(false),
        })
    }

    fn rules(&self) -> Rules {
        let rules = *self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Rules { sid: self.sid(), ..rules }
    }

    /// The session id, 0 before a session is open and on read-only mounts.
    pub fn sid(&self) -> u64 {
        self.sid.load(Ordering::Acquire)
    }
}

/// Metadata, as seen from one core.
pub struct Meta {
    engine: Rc<dyn Engine>,
    shared: Arc<MetaShared>,
    counts: Sheet<Counts>,
    /// Whether removals go there, if the volume has one.
    uses_trash: bool,
}

impl Meta {
    /// On this core's engine handle.
    pub fn new(engine: Rc<dyn Engine>, shared: Arc<MetaShared>) -> Rc<Self> {
        let counts = shared.counts.own();
        Rc::new(Self { engine, shared, counts, uses_trash: true })
    }

    /// Deletions go to the trash for so many days from now on; 0 for none.
    pub fn set_trash_days(&self, days: u64) {
        self.shared.trash_days.store(days, Ordering::Release);
    }

    /// The volume's limits from now on, and whose quotas hold.
    pub fn set_limits(&self, now: &Rules) {
        let mut rules = self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
        (rules.capacity, rules.inode_limit) = (now.capacity, now.inode_limit);
        (rules.dir_quotas, rules.owner_quotas) = (now.dir_quotas, now.owner_quotas);
    }

    /// Take no new changes from now on, or take them again; returns what it was. What was taken before is
    /// still committed.
    pub fn set_held(&self, held: bool) -> bool {
        self.shared.held.swap(held, Ordering::AcqRel)
    }

    /// Whether no new changes are to be taken. Callers ask before they take one; what is asked of these floors
    /// is done.
    pub fn is_held(&self) -> bool {
        self.shared.held.load(Ordering::Acquire)
    }

    /// The engine, for commands that read more than a file system does.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// The kernel's number 1 is the root of the mount.
    fn real(&self, ino: Ino) -> Ino {
        if ino == Ino::ROOT { self.shared.root } else { ino }
    }

    fn writable(&self) -> Result<(), MetaError> {
        if self.shared.read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
    }

    async fn next_id(&self, range: &Range, counter: Counter, batch: i64) -> Result<u64, MetaError> {
        loop {
            {
                let mut range = range.lock().unwrap_or_else(PoisonError::into_inner);
                if range.0 < range.1 {
                    range.0 += 1;
                    return Ok(range.0 as u64 - 1);
                }
            }
            let last = self.engine.reserve(counter, batch).await?;
            let mut range = range.lock().unwrap_or_else(PoisonError::into_inner);
            if range.0 >= range.1 {
                // Inodes 0 and 1 are never handed out.
                let first = last - batch + 1;
                *range = (
                    if counter == Counter::NextInode { first.max(2) } else { first.max(1) },
                    last + 1,
                );
            }
        }
    }

    async fn next_inode(&self) -> Result<Ino, MetaError> {
        self.next_id(&self.shared.inodes, Counter::NextInode, INODE_BATCH).await.map(Ino)
    }

    /// Fetch, plan, commit; on a conflict fetch and plan again. A plan without a commit is done.
    async fn decide<T>(
        &self,
        keys: impl AsRef<[Key]>,
        plan: impl FnMut(&[Value]) -> Result<(Option<Commit>, T), Errno>,
    ) -> Result<(T, Vec<Option<Attr>>), MetaError> {
        self.decide_from(false, keys.as_ref(), |_| None, plan).await
    }

    /// As [`Self::decide`], but begin from what was seen lately: when that still holds, the commit
    /// is the only round trip.
    async fn decide_warm<T>(
        &self,
        keys: impl AsRef<[Key]>,
        plan: impl FnMut(&[Value]) -> Result<(Option<Commit>, T), Errno>,
    ) -> Result<(T, Vec<Option<Attr>>), MetaError> {
        self.decide_from(true, keys.as_ref(), |_| None, plan).await
    }

    /// As [`Self::decide_warm`], where what is known tells what else must be: `ask` names one more
    /// key at a time, and its value comes behind the others.
    async fn decide_asking<T>(
        &self,
        keys: impl AsRef<[Key]>,
        ask: impl Fn(&[Value]) -> Option<Key>,
        plan: impl FnMut(&[Value]) -> Result<(Option<Commit>, T), Errno>,
    ) -> Result<(T, Vec<Option<Attr>>), MetaError> {
        self.decide_from(true, keys.as_ref(), ask, plan).await
    }

    async fn decide_from<T>(
        &self,
        mut may_guess: bool,
        keys: &[Key],
        ask: impl Fn(&[Value]) -> Option<Key>,
        mut plan: impl FnMut(&[Value]) -> Result<(Option<Commit>, T), Errno>,
    ) -> Result<(T, Vec<Option<Attr>>), MetaError> {
        self.writable()?;
        for tried in 0..TRIES {
            self.counts.restarts.add(u64::from(tried > 0));
            let (found, guessed) = self.know(may_guess, keys, &ask).await?;
            let first = std::mem::replace(&mut may_guess, false);
            let (commit, result) = match plan(&found) {
                // A refusal that rests on a guess is no refusal yet.
                Err(_) | Ok((None, _)) if guessed => continue,
                planned => planned?,
            };
            let Some(mut commit) = commit else { return Ok((result, Vec::new())) };
            let mut guessed = guessed;
            if let Some(watched) = self.shared.quotas.watched() {
                // In a box, for most volumes have none.
                guessed |= match Box::pin(self.charge(&watched, &mut commit, first)).await {
                    Err(_) if first => continue,
                    charged => charged?,
                };
            }
            // Only these are final; whatever else moved is planned for again.
            let finals: Vec<Option<Errno>> = commit.expects.iter().map(final_refusal).collect();
            match self.committing(self.engine.commit(commit)).await? {
                Outcome::Applied(nodes) => return Ok((result, nodes)),
                Outcome::Conflict(index) => {
                    if let Some(errno) = finals[index].filter(|_| !guessed) {
                        return Err(errno.into());
                    }
                }
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Values of `keys` and of what `ask` wants to know besides, and whether any is a guess.
    async fn know(
        &self,
        may_guess: bool,
        keys: &[Key],
        ask: &impl Fn(&[Value]) -> Option<Key>,
    ) -> Result<(Vec<Value>, bool), MetaError> {
        let guess = |keys: &[Key]| may_guess.then(|| self.shared.seen.guess(keys)).flatten();
        let (mut values, mut guessed) = match guess(keys) {
            Some(values) => (values, true),
            None => (self.fetch(keys).await?, false),
        };
        while let Some(key) = ask(&values) {
            if let Key::Acl(id) = key
                && let Some(rule) = self.shared.rulebook.rule(id)
            {
                values.push(Value::Acl(Some((*rule).clone())));
                continue;
            }
            let key = std::slice::from_ref(&key);
            match guess(key) {
                Some(more) => {
                    guessed = true;
                    values.extend(more);
                }
                None => values.extend(self.fetch(key).await?),
            }
        }
        Ok((values, guessed))
    }

    /// Fetch, and keep what was seen.
    async fn fetch(&self, keys: &[Key]) -> Result<Vec<Value>, MetaError> {
        let found = self.asking(self.engine.fetch(keys)).await?;
        self.shared.seen.fetched(keys, &found);
        for (key, value) in keys.iter().zip(&found) {
            if let (Key::Acl(id), Value::Acl(Some(rule))) = (key, value) {
                self.shared.rulebook.learn(*id, rule.clone());
            }
        }
        Ok(found)
    }

    async fn node(&self, ino: Ino) -> Result<Attr, MetaError> {
        let found = self.fetch(&[Key::Node(ino)]).await?;
        Ok(node_in(&found[0])?.clone())
    }
}

/// What a condition that does not hold says for good.
fn final_refusal(expect: &Expect) -> Option<Errno> {
    match expect {
        Expect::DirEmpty(_) => Some(Errno::NOTEMPTY),
        Expect::Room { .. } => Some(Errno::NOSPC),
        Expect::QuotaRoom(..) => Some(Errno::DQUOT),
        _ => None,
    }
}

/// The node in an answer; ENOENT if it is gone.
fn node_in(value: &Value) -> Result<&Attr, Errno> {
    match value {
        Value::Node(found) => found.as_ref().ok_or(Errno::NOENT),
        other => unreachable!("a node was asked for, not {other:?}"),
    }
}

/// What stands under a name; a name whose node is missing is damage (EIO).
fn found_in(value: &Value) -> Result<Option<super::plan::remove::Found<'_>>, Errno> {
    match value {
        Value::EntryNode(None) => Ok(None),
        Value::EntryNode(Some((kind, ino, Some(attr)))) => Ok(Some((*kind, *ino, attr))),
        Value::EntryNode(Some((_, _, None))) => Err(Errno::IO),
        other => unreachable!("a name was asked for, not {other:?}"),
    }
}

/// What a name stands for, if anything.
fn entry_in(value: &Value) -> Option<(FileType, Ino)> {
    match value {
        Value::Entry(found) => *found,
        other => unreachable!("a name was asked for, not {other:?}"),
    }
}
