//! The cut where metadata engines slot in.
//!
//! Owns the trait and its errors. Relies on `meta::txn` for the language. Does not own POSIX
//! rules. An engine handle belongs to one core (`!Send`); what its instances share is its own.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use super::acl::Rule;
use super::scan::{Page, Table};
use super::txn::{Commit, Counter, Delayed, Key, Outcome, Value};
use crate::types::{Attr, FileType, Ino, Name, SliceId};

/// A future that stays on its core.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the caller of an engine does next.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine is away or busy; wait and try again.
    #[error("metadata engine unavailable: {0}")]
    Unavailable(String),
    /// The engine has no space left (Redis OOM, SQLite full): ENOSPC.
    #[error("metadata engine is full: {0}")]
    Full(String),
    /// A stored record cannot be read: EIO, naming the key.
    #[error("damaged record {key}: {reason}")]
    Corrupt {
        /// The engine's name of the record.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine refuses (password, permission, version); trying again is useless.
    #[error("metadata engine refuses: {0}")]
    Refused(String),
}

/// One entry of a listing; attributes as they were when listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Name,
    /// Its type.
    pub kind: FileType,
    /// Its inode.
    pub ino: Ino,
    /// Attributes, if asked for and present.
    pub attr: Option<Attr>,
}

/// A session record as JuiceFS keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Session id.
    pub sid: u64,
    /// Unix seconds after which the session is dead.
    pub expire: i64,
    /// The JSON text shown by `juicefs status`.
    pub info: String,
}

/// A page of slices that no list record refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnusedSlices {
    /// They, with their sizes.
    pub slices: Vec<(SliceId, u32)>,
    /// What to ask on with for the next page; `None` after the last one.
    pub next: Option<u64>,
}

/// A page of the volume's rules of access control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRules {
    /// They, by ascending id.
    pub rules: Vec<(u32, Rule)>,
    /// No other rule has an id up to this.
    pub told_to: u32,
    /// Others have a greater one.
    pub more: bool,
}

/// What an engine is, without any password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Kind, version and persistence settings on one line.
    pub text: String,
    /// What should be otherwise, each with the command that cures it.
    pub warnings: Vec<(String, String)>,
}

/// What is heard of changes by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Every change from now on is heard of.
    Began,
    /// A node was written or removed.
    Node(Ino),
    /// Names in a directory were.
    Dir(Ino),
    /// Anything may have been.
    Everything,
}

/// A metadata engine, as seen from one core.
pub trait Engine {
    /// Fetch typed keys, in one round trip where the engine can; values in the order of the keys.
    fn fetch<'a>(&'a self, keys: &'a [Key]) -> Local<'a, Result<Vec<Value>, EngineError>>;

    /// Apply one commit: conditions, then changes, all or nothing. Concurrent calls share a batch.
    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>>;

    /// All names of a directory, each once, in no promised order.
    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>>;

    /// Add `n` to a counter and return the new value under JuiceFS-on-Redis's convention:
    /// after `reserve(NextInode, 1024)` = v the caller owns ids v-1023 ..= v.
    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>>;

    /// The volume's `setting` text (JSON), or `None` on an empty database.
    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>>;

    /// Write `setting`. With `init` it is that of a new volume: it and those nodes are written
    /// together, each only where there is none, so that of two who make one the first stays. A root
    /// begins with the statistics of an empty directory.
    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>>;

    /// Register or refresh a session.
    fn put_session(&self, session: Session) -> Local<'_, Result<(), EngineError>>;

    /// Remove a session's locks; returns the inodes it keeps open, still to be deleted. Where it
    /// keeps none, its own record goes too: until then whoever looks for dead sessions finds it.
    fn end_session(&self, sid: u64) -> Local<'_, Result<Vec<Ino>, EngineError>>;

    /// Sessions known, live and dead.
    fn sessions(&self) -> Local<'_, Result<Vec<Session>, EngineError>>;

    /// Deleted files whose data waits, queued before `before` (unix s): inode and length.
    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>>;

    /// Slices whose count of references is gone but not forgotten, about `limit` of them: the first
    /// page for 0, others for what the one before says. Who changes counts meanwhile may make one
    /// come twice.
    fn unused_slices(
        &self,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<UnusedSlices, EngineError>>;

    /// Replaced slices put aside before `before` (unix s), at most `limit` compactions' worth.
    fn delayed_slices(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<Delayed>, EngineError>>;

    /// JuiceFS's leader election: set the named stamp to `now` unless it is younger than
    /// `now - period`; true for the winner. One that is a period from now or more is by a wrong clock.
    fn win_job(
        &self,
        name: &'static str,
        now: i64,
        period: i64,
    ) -> Local<'_, Result<bool, EngineError>>;

    /// About `limit` rows of a table: the first page for 0, others for what the one before says.
    /// Records that cannot be read are rows too, so that a check sees what else there is.
    fn scan(&self, table: Table, from: u64, limit: usize) -> Local<'_, Result<Page, EngineError>>;

    /// How many references a slice has for which no count is kept.
    fn unkept_slice_ref(&self) -> i64;

    /// Whether parents of hard-linked inodes are kept apart from names, as [`Table::Parents`].
    fn keeps_parents_apart(&self) -> bool;

    /// Rules of access control with an id greater than `after`: one page, of which an id may be
    /// missing that another client is about to write.
    fn acl_rules(&self, after: u32) -> Local<'_, Result<AclRules, EngineError>>;

    /// Store a rule of access control under an id of its own, not 0, also where there is one like it.
    fn add_acl_rule(&self, rule: Rule) -> Local<'_, Result<u32, EngineError>>;

    /// Tell `hear` what is changed, by any client and this one, soon after; until that is not possible
    /// any more: the reason. What may have been missed is the caller's to forget.
    fn watch(&self, hear: Rc<dyn Fn(Heard)>) -> Local<'_, EngineError> {
        let _ = hear;
        Box::pin(async { EngineError::Refused("this engine tells nobody of changes".into()) })
    }

    /// What `doctor` tells of it.
    fn describe(&self) -> Local<'_, Result<Description, EngineError>>;
}
