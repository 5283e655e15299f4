//! The embedded engine: JuiceFS's schema in one SQLite file, which JuiceFS itself opens.
//!
//! Owns the connection, shared by all cores, and the batching: a commit is queued, and whichever
//! core finds the connection free applies everything queued in one transaction (no thread of its
//! own: a wake across cores costs more than the transaction). Does not own POSIX rules.

mod acl;
mod apply;
mod open;
mod quota;
mod room;
mod rows;
mod scan;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use self::room::{Gauge, Room};
use super::acl::Rule;
use super::engine::{
    AclRules, Description, DirEntry, Engine, EngineError, Local, Session, UnusedSlices,
};
use super::scan::{Page, Table};
use super::txn::{Commit, Counter, Delayed, Key, Outcome, Value};
use crate::stdx::{Sender, oneshot};
use crate::types::{Attr, FileType, Ino};

/// Commits in one transaction at most.
const BATCH_MAX: usize = 512;
/// How long to leave the file to another process before asking again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How often to ask before the engine counts as unavailable: about 30 s, with SQLite's own wait.
const BUSY_TRIES: usize = 2000;

/// How long a commit is left to the core that had the connection, before asking again.
const LEFT_PAUSE: Duration = Duration::from_millis(100);

/// A commit that waits for the connection.
struct Queued {
    number: u64,
    commit: Commit,
    answer: Sender<Result<Outcome, EngineError>>,
}

struct Shared {
    base: Mutex<Connection>,
    queue: Mutex<VecDeque<Queued>>,
    next_number: AtomicU64,
    gauge: Gauge,
}

/// A handle of the engine for one core.
pub struct SqliteEngine(Arc<Shared>);

/// The open file, to make handles from on any core.
#[derive(Clone)]
pub struct SqliteFile(Arc<Shared>);

impl SqliteFile {
    /// Open the file at `path`; `create` makes it if it is not there. One that can only be read is
    /// opened for that.
    pub fn open(path: &Path, create: bool) -> Result<Self, EngineError> {
        Ok(Self(Arc::new(Shared {
            base: Mutex::new(open::connect(path, create)?),
            queue: Mutex::new(VecDeque::new()),
            next_number: AtomicU64::new(0),
            gauge: Gauge::new(path),
        })))
    }

    /// A handle for this core.
    pub fn engine(&self) -> Rc<dyn Engine> {
        Rc::new(SqliteEngine(Arc::clone(&self.0)))
    }
}

/// Sort SQLite's errors by what the caller does next.
fn sorted(error: rusqlite::Error) -> EngineError {
    match &error {
        rusqlite::Error::FromSqlConversionFailure(_, _, reason) => {
            let damage = reason.downcast_ref::<rows::Damage>();
            let key = damage.map_or("row", |damage| &damage.row).to_owned();
            EngineError::Corrupt { key, reason: reason.to_string() }
        }
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                EngineError::Unavailable(error.to_string())
            }
            Some(ErrorCode::ReadOnly) => EngineError::Refused(
                "the SQLite file can only be read; make it and its folder writable, \
                 or mount with --read-only"
                    .into(),
            ),
            Some(ErrorCode::DiskFull) => EngineError::Full(error.to_string()),
            Some(ErrorCode::NotADatabase) => {
                EngineError::Refused(format!("not an SQLite file: {error}"))
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                EngineError::Corrupt { key: "file".into(), reason: error.to_string() }
            }
            _ => EngineError::Refused(error.to_string()),
        },
    }
}

impl Shared {
    fn base(&self) -> MutexGuard<'_, Connection> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Queued>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queue a commit; the number to take it back by.
    fn enqueue(&self, commit: Commit, answer: Sender<Result<Outcome, EngineError>>) -> u64 {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.queue().push_back(Queued { number, commit, answer });
        number
    }

    /// Take a commit off the queue, for it must not be done any more; false if it is not there.
    fn take_back(&self, number: u64) -> bool {
        let mut queue = self.queue();
        let before = queue.len();
        queue.retain(|queued| queued.number != number);
        queue.len() < before
    }

    /// Apply what is queued if nobody else is at it; false while another process has the file. Who
    /// queued it waits and tries again, so that nobody else need care.
    fn combine(&self) -> bool {
        while !self.queue().is_empty() {
            let base = match self.base.try_lock() {
                Ok(base) => base,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Its holder looks at the queue again when it is done.
                Err(TryLockError::WouldBlock) => return true,
            };
            let batch: Vec<Queued> = {
                let mut queue = self.queue();
                let count = queue.len().min(BATCH_MAX);
                queue.drain(..count).collect()
            };
            let room = self.gauge.room();
            let batch = if room == Room::ForDeletions { without_growth(batch) } else { batch };
            if batch.is_empty() {
                continue;
            }
            let applied = apply_batch(&base, &batch);
            room.merge(&base);
            drop(base);
            match applied {
                Ok(outcomes) => {
                    assert_eq!(outcomes.len(), batch.len(), "each commit has one outcome");
                    batch
                        .into_iter()
                        .zip(outcomes)
                        .for_each(|(queued, outcome)| queued.answer.send(Ok(outcome)));
                }
                Err(EngineError::Unavailable(_)) => {
                    self.put_back(batch);
                    return false;
                }
                Err(_) if batch.len() > 1 => {
                    if !self.one_by_one(batch, room) {
                        return false;
                    }
                }
                Err(error) => {
                    let queued = batch.into_iter().next().expect("a batch is not empty");
                    queued.answer.send(Err(error));
                }
            }
        }
        true
    }

    /// One damaged record must not fail those who shared its batch; false as [`Self::combine`].
    fn one_by_one(&self, batch: Vec<Queued>, room: Room) -> bool {
        let base = self.base();
        let mut rest = batch.into_iter();
        while let Some(queued) = rest.next() {
            let alone = apply_batch(&base, std::slice::from_ref(&queued));
            if let Err(EngineError::Unavailable(_)) = alone {
                self.put_back(std::iter::once(queued).chain(rest).collect());
                return false;
            }
            room.merge(&base);
            queued.answer.send(alone.map(only));
        }
        true
    }

    /// What could not be tried goes back to the head of the queue.
    fn put_back(&self, batch: Vec<Queued>) {
        let mut queue = self.queue();
        batch.into_iter().rev().for_each(|queued| queue.push_front(queued));
    }
}

/// Those of a batch that may be done on a full disk; the others are told.
fn without_growth(batch: Vec<Queued>) -> Vec<Queued> {
    let (refused, kept): (Vec<_>, _) =
        batch.into_iter().partition(|queued| room::grows(&queued.commit));
    for queued in refused {
        let text = "the last room on the disk of the SQLite file is kept for deletions";
        queued.answer.send(Err(EngineError::Full(text.into())));
    }
    kept
}

fn only(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().next().expect("one commit has one outcome")
}

fn apply_batch(base: &Connection, batch: &[Queued]) -> Result<Vec<Outcome>, EngineError> {
    transact(base, |base| {
        let mut together = apply::Batch::new(base);
        let outcomes = batch
            .iter()
            .map(|queued| together.commit(&queued.commit))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        together.finish()?;
        Ok(outcomes)
    })
}

fn fetch_one(base: &Connection, key: &Key) -> rusqlite::Result<Value> {
    Ok(match key {
        Key::Node(ino) => Value::Node(rows::node(base, *ino)?),
        Key::Entry(dir, name) => Value::Entry(rows::entry(base, *dir, name)?),
        Key::EntryNode(dir, name) => Value::EntryNode(rows::entry_node(base, *dir, name)?),
        Key::DirLen(dir) => Value::DirLen(rows::dir_len(base, *dir)?),
        Key::Chunk(ino, index) => Value::Chunk(rows::chunk(base, *ino, *index)?),
        Key::Chunks(ino, ..) => Value::Chunks(rows::chunks(base, *ino)?),
        Key::SliceRef(id, _) => Value::SliceRef(rows::slice_ref(base, *id)?),
        Key::Symlink(ino) => Value::Symlink(rows::symlink(base, *ino)?),
        Key::Xattr(ino, name) => Value::Xattr(rows::xattr(base, *ino, name)?),
        Key::XattrNames(ino) => Value::XattrNames(rows::xattr_names(base, *ino)?),
        Key::Parents(ino) => Value::Parents(rows::parents(base, *ino)?),
        Key::Counter(counter) => Value::Counter(rows::counter(base, *counter)?),
        Key::Flocks(ino) => Value::Flocks(rows::flocks(base, *ino)?),
        Key::Plocks(ino) => Value::Plocks(rows::plocks(base, *ino)?),
        Key::Acl(id) => Value::Acl(acl::rule(base, *id)?),
        Key::Quota(holder) => Value::Quota(quota::of(base, *holder)?),
    })
}

impl SqliteEngine {
    /// Run one short statement sequence in a transaction of its own, waiting for other processes.
    async fn with<T>(
        &self,
        job: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, EngineError> {
        self.patiently(|base| transact(base, &job)).await
    }

    /// Run `job` until no other process is in its way.
    async fn patiently<T>(
        &self,
        job: impl Fn(&Connection) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        for _ in 0..BUSY_TRIES {
            match self.once(&job) {
                Err(EngineError::Unavailable(_)) => crate::uring::sleep(BUSY_PAUSE).await,
                done => return done,
            }
        }
        Err(EngineError::Unavailable("another process keeps the file locked".into()))
    }

    fn once<T>(
        &self,
        job: impl Fn(&Connection) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let done = job(&self.0.base());
        // Those who found the connection taken left their commits to whoever had it.
        self.0.combine();
        done
    }

    /// Read without a transaction: answered at once unless another process is in the way.
    fn read<'a, T: 'a>(
        &'a self,
        job: impl Fn(&Connection) -> rusqlite::Result<T> + 'a,
    ) -> Local<'a, Result<T, EngineError>> {
        let job = move |base: &Connection| job(base).map_err(sorted);
        match self.once(&job) {
            Err(EngineError::Unavailable(_)) => Box::pin(self.patiently(job)),
            done => Box::pin(std::future::ready(done)),
        }
    }

    async fn commit_queued(&self, commit: Commit) -> Result<Outcome, EngineError> {
        let (answer, receiver) = oneshot();
        let number = self.0.enqueue(commit, answer);
        let mut receiver = std::pin::pin!(receiver);
        let mut tries = 0..BUSY_TRIES;
        loop {
            // The core that had the connection may find the file taken, and then asks no more.
            let pause = if self.0.combine() {
                LEFT_PAUSE
            } else if tries.next().is_some() {
                BUSY_PAUSE
            } else if self.0.take_back(number) {
                let text = "another process keeps the file locked";
                return Err(EngineError::Unavailable(text.into()));
            } else {
                // It is being applied right now.
                LEFT_PAUSE
            };
            if let Ok(answered) = crate::uring::timeout(pause, receiver.as_mut()).await {
                return answered.expect("a queued commit is answered");
            }
        }
    }
}

/// Run `job` in a transaction. The words around it are prepared once, as all others are.
fn transact<T>(
    base: &Connection,
    job: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, EngineError> {
    let say = |words: &str| base.prepare_cached(words)?.execute([]);
    say("BEGIN IMMEDIATE").map_err(sorted)?;
    let done = job(base).and_then(|found| say("COMMIT").map(|_| found));
    done.map_err(|error| {
        // Some errors have ended the transaction by themselves.
        if !base.is_autocommit() {
            let _ = say("ROLLBACK");
        }
        sorted(error)
    })
}

fn listed(base: &Connection, dir: Ino, with_attr: bool) -> rusqlite::Result<Vec<DirEntry>> {
    let sql = format!(
        "SELECT e.name, e.type, e.inode, {} FROM jfs_edge e {} WHERE e.parent = ? ORDER BY e.name",
        if with_attr { rows::NODE_COLUMNS } else { "NULL" },
        if with_attr { "LEFT JOIN jfs_node n ON n.inode = e.inode" } else { "" }
    );
    let found = base
        .prepare_cached(&sql)?
        .query_map([dir.0 as i64], |row| {
            let number: u8 = row.get(1)?;
            let ino = Ino(row.get::<_, i64>(2)? as u64);
            Ok(DirEntry {
                name: rows::bytes(row, 0)?,
                kind: FileType::from_number(number).unwrap_or(FileType::File),
                ino,
                attr: rows::at(|| rows::node_row(ino), rows::node_at(row, 3))?,
            })
        })?
        .collect();
    rows::at(|| format!("jfs_edge parent={dir}"), found)
}

impl Engine for SqliteEngine {
    fn fetch<'a>(&'a self, keys: &'a [Key]) -> Local<'a, Result<Vec<Value>, EngineError>> {
        self.read(|base| keys.iter().map(|key| fetch_one(base, key)).collect())
    }

    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>> {
        Box::pin(self.commit_queued(commit))
    }

    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>> {
        self.read(move |base| listed(base, dir, with_attr))
    }

    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>> {
        Box::pin(self.with(move |base| rows::add(base, counter, n)))
    }

    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>> {
        self.read(|base| {
            let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'jfs_setting'";
            if base.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
                return Ok(None);
            }
            let sql = "SELECT value FROM jfs_setting WHERE name = 'format'";
            let found = base.query_row(sql, [], |row| row.get(0)).optional();
            rows::at(|| "jfs_setting name=format".to_owned(), found)
        })
    }

    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>> {
        Box::pin(self.with(move |base| {
            base.execute_batch(schema::SCHEMA)?;
            let or = if init.is_empty() { "REPLACE" } else { "IGNORE" };
            let sql = format!("INSERT OR {or} INTO jfs_setting VALUES ('format', ?)");
            base.execute(&sql, [&json])?;
            for (ino, attr) in &init {
                if rows::node(base, *ino)?.is_none() {
                    rows::put_node(base, *ino, attr)?;
                    if *ino == Ino::ROOT {
                        let sql = "INSERT OR IGNORE INTO jfs_dir_stats VALUES (?, 0, 0, 0)";
                        apply::run(base, sql, params![ino.0 as i64])?;
                    }
                }
            }
            Ok(())
        }))
    }

    fn put_session(&self, session: Session) -> Local<'_, Result<(), EngineError>> {
        Box::pin(self.with(move |base| {
            apply::run(
                base,
                "INSERT OR REPLACE INTO jfs_session2 VALUES (?, ?, ?)",
                params![session.sid as i64, session.expire, session.info.as_bytes()],
            )
        }))
    }

    fn end_session(&self, sid: u64) -> Local<'_, Result<Vec<Ino>, EngineError>> {
        Box::pin(self.with(move |base| {
            let sid = sid as i64;
            apply::run(base, "DELETE FROM jfs_flock WHERE sid = ?", params![sid])?;
            apply::run(base, "DELETE FROM jfs_plock WHERE sid = ?", params![sid])?;
            let kept = base
                .prepare_cached("SELECT inode FROM jfs_sustained WHERE sid = ?")?
                .query_map([sid], |row| Ok(Ino(row.get::<_, i64>(0)? as u64)))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if kept.is_empty() {
                apply::run(base, "DELETE FROM jfs_session2 WHERE sid = ?", params![sid])?;
            }
            Ok(kept)
        }))
    }

    fn sessions(&self) -> Local<'_, Result<Vec<Session>, EngineError>> {
        self.read(|base| {
            let found = base
                .prepare_cached("SELECT sid, expire, info FROM jfs_session2 ORDER BY sid")?
                .query_map([], |row| {
                    Ok(Session {
                        sid: row.get::<_, i64>(0)? as u64,
                        expire: row.get(1)?,
                        info: String::from_utf8_lossy(&rows::bytes(row, 2)?).into_owned(),
                    })
                })?
                .collect();
            rows::at(|| "jfs_session2".to_owned(), found)
        })
    }

    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>> {
        self.read(move |base| {
            let found = base
                .prepare_cached("SELECT inode, length FROM jfs_delfile WHERE expire < ? LIMIT ?")?
                .query_map(params![before, limit as i64], |row| {
                    Ok((Ino(row.get::<_, i64>(0)? as u64), row.get::<_, i64>(1)? as u64))
                })?
                .collect();
            rows::at(|| "jfs_delfile".to_owned(), found)
        })
    }

    fn unused_slices(
        &self,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<UnusedSlices, EngineError>> {
        self.read(move |base| {
            let slices = rows::unused_slices(base, from, limit)?;
            let next = slices.last().map(|(id, _)| *id).filter(|_| slices.len() == limit);
            Ok(UnusedSlices { slices, next })
        })
    }

    fn delayed_slices(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<Delayed>, EngineError>> {
        self.read(move |base| rows::delayed_before(base, before, limit))
    }

    fn win_job(
        &self,
        name: &'static str,
        now: i64,
        period: i64,
    ) -> Local<'_, Result<bool, EngineError>> {
        Box::pin(self.with(move |base| {
            let changed = base
                .prepare_cached(
                    "INSERT INTO jfs_counter VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value \
                     WHERE abs(value - ?2) >= ?3",
                )?
                .execute(params![name, now, period])?;
            Ok(changed > 0)
        }))
    }

    fn scan(&self, table: Table, from: u64, limit: usize) -> Local<'_, Result<Page, EngineError>> {
        self.read(move |base| scan::page(base, table, from, limit))
    }

    fn unkept_slice_ref(&self) -> i64 {
        0
    }

    fn keeps_parents_apart(&self) -> bool {
        false
    }

    fn acl_rules(&self, after: u32) -> Local<'_, Result<AclRules, EngineError>> {
        self.read(move |base| acl::rules(base, after))
    }

    fn add_acl_rule(&self, rule: Rule) -> Local<'_, Result<u32, EngineError>> {
        Box::pin(self.with(move |base| acl::add(base, &rule)))
    }

    fn describe(&self) -> Local<'_, Result<Description, EngineError>> {
        let text = format!("SQLite {}, write-ahead log, synchronous=NORMAL", rusqlite::version());
        Box::pin(std::future::ready(Ok(Description { text, warnings: Vec::new() })))
    }
}
