//! The embedded engine: JuiceFS's schema in one SQLite file, which JuiceFS itself opens.
//!
//! Owns the connection, shared by all cores, and the batching: a commit is queued, and whichever
//! core finds the connection free applies everything queued in one transaction (no thread of its
//! own: a wake across cores costs more than the transaction). Does not own POSIX rules.

mod apply;
mod rows;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::engine::{Description, DirEntry, Engine, EngineError, Local, Session};
use super::txn::{Commit, Counter, Key, Outcome, Value};
use crate::stdx::{Sender, oneshot};
use crate::types::{Attr, FileType, Ino};

/// Commits in one transaction at most.
const BATCH_MAX: usize = 512;
/// How long to leave the file to another process before asking again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How often to ask before the engine counts as unavailable: about 30 s, with SQLite's own wait.
const BUSY_TRIES: usize = 2000;

type Queued = (Commit, Sender<Result<Outcome, EngineError>>);

struct Shared {
    base: Mutex<Connection>,
    queue: Mutex<VecDeque<Queued>>,
}

/// A handle of the engine for one core.
pub struct SqliteEngine(Arc<Shared>);

/// The open file, to make handles from on any core.
#[derive(Clone)]
pub struct SqliteFile(Arc<Shared>);

impl SqliteFile {
    /// Open the file at `path`; `create` makes it if it is not there.
    pub fn open(path: &Path, create: bool) -> Result<Self, EngineError> {
        if !create && !path.exists() {
            let advice =
                format!("{} does not exist; make a volume with `jfs-uring format`", path.display());
            return Err(EngineError::Refused(advice));
        }
        let base = Connection::open(path).map_err(sorted)?;
        base.set_prepared_statement_cache_capacity(128);
        // Without it a statement is compiled again whenever a bound value might ask for another plan.
        base.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(sorted)?;
        base.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10; \
             PRAGMA wal_autocheckpoint = 8192;",
        )
        .map_err(sorted)?;
        Ok(Self(Arc::new(Shared { base: Mutex::new(base), queue: Mutex::new(VecDeque::new()) })))
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

    /// Apply what is queued if nobody else is at it. `Err` while another process has the file.
    fn combine(&self) -> Result<(), EngineError> {
        while !self.queue().is_empty() {
            let base = match self.base.try_lock() {
                Ok(base) => base,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Its holder looks at the queue again when it is done.
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            let batch: Vec<Queued> = {
                let mut queue = self.queue();
                let count = queue.len().min(BATCH_MAX);
                queue.drain(..count).collect()
            };
            let applied = apply_batch(&base, &batch);
            drop(base);
            match applied {
                Ok(outcomes) => {
                    assert_eq!(outcomes.len(), batch.len(), "each commit has one outcome");
                    batch
                        .into_iter()
                        .zip(outcomes)
                        .for_each(|((_, sender), outcome)| sender.send(Ok(outcome)));
                }
                Err(error @ EngineError::Unavailable(_)) => {
                    let mut queue = self.queue();
                    batch.into_iter().rev().for_each(|queued| queue.push_front(queued));
                    return Err(error);
                }
                // One damaged record must not fail those who shared its batch.
                Err(_) if batch.len() > 1 => {
                    let base = self.base();
                    for queued in batch {
                        let alone = apply_batch(&base, std::slice::from_ref(&queued));
                        queued.1.send(alone.map(only));
                    }
                }
                Err(error) => {
                    batch.into_iter().next().expect("a batch is not empty").1.send(Err(error));
                }
            }
        }
        Ok(())
    }
}

fn only(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().next().expect("one commit has one outcome")
}

fn apply_batch(base: &Connection, batch: &[Queued]) -> Result<Vec<Outcome>, EngineError> {
    transact(base, |base| {
        let mut together = apply::Batch::new(base);
        let outcomes = batch
            .iter()
            .map(|(commit, _)| together.commit(commit))
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
    })
}

impl SqliteEngine {
    /// Run one short statement sequence in a transaction of its own, waiting for other processes.
    async fn with<T>(
        &self,
        job: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, EngineError> {
        for _ in 0..BUSY_TRIES {
            let tried = {
                let base = self.0.base();
                transact(&base, &job)
            };
            let left_over = self.0.combine();
            match tried {
                Err(EngineError::Unavailable(_)) => crate::uring::sleep(BUSY_PAUSE).await,
                done => return left_over.and(done),
            }
        }
        Err(EngineError::Unavailable("another process keeps the file locked".into()))
    }

    async fn commit_queued(&self, commit: Commit) -> Result<Outcome, EngineError> {
        let (sender, receiver) = oneshot();
        self.0.queue().push_back((commit, sender));
        let mut receiver = std::pin::pin!(receiver);
        for _ in 0..BUSY_TRIES {
            if self.0.combine().is_ok() {
                return receiver.await.expect("a queued commit is answered");
            }
            // Another core may be the one that gets through.
            if let Ok(Ok(done)) = crate::uring::timeout(BUSY_PAUSE, receiver.as_mut()).await {
                return done;
            }
        }
        Err(EngineError::Unavailable("another process keeps the file locked".into()))
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
        let found = {
            let base = self.0.base();
            keys.iter().map(|key| fetch_one(&base, key)).collect::<rusqlite::Result<Vec<_>>>()
        };
        let left_over = self.0.combine();
        Box::pin(std::future::ready(match left_over {
            Ok(()) | Err(EngineError::Unavailable(_)) => found.map_err(sorted),
            Err(error) => Err(error),
        }))
    }

    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>> {
        Box::pin(self.commit_queued(commit))
    }

    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>> {
        let found = listed(&self.0.base(), dir, with_attr).map_err(sorted);
        Box::pin(std::future::ready(self.0.combine().and(found)))
    }

    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>> {
        Box::pin(self.with(move |base| rows::add(base, counter, n)))
    }

    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>> {
        let found = {
            let base = self.0.base();
            base.query_row(
                "SELECT count(*) FROM sqlite_master WHERE name = 'jfs_setting'",
                [],
                |row| row.get::<_, i64>(0),
            )
            .and_then(|tables| {
                if tables == 0 {
                    return Ok(None);
                }
                let sql = "SELECT value FROM jfs_setting WHERE name = 'format'";
                let found = base.query_row(sql, [], |row| row.get(0)).optional();
                rows::at(|| "jfs_setting name=format".to_owned(), found)
            })
        };
        Box::pin(std::future::ready(found.map_err(sorted)))
    }

    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>> {
        Box::pin(self.with(move |base| {
            base.execute_batch(schema::SCHEMA)?;
            base.execute("INSERT OR REPLACE INTO jfs_setting VALUES ('format', ?)", [&json])?;
            for (ino, attr) in &init {
                if rows::node(base, *ino)?.is_none() {
                    rows::put_node(base, *ino, attr)?;
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
        Box::pin(self.with(|base| {
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
        }))
    }

    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>> {
        Box::pin(self.with(move |base| {
            let found = base
                .prepare_cached("SELECT inode, length FROM jfs_delfile WHERE expire < ? LIMIT ?")?
                .query_map(params![before, limit as i64], |row| {
                    Ok((Ino(row.get::<_, i64>(0)? as u64), row.get::<_, i64>(1)? as u64))
                })?
                .collect();
            rows::at(|| "jfs_delfile".to_owned(), found)
        }))
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
                     WHERE value <= ?2 - ?3",
                )?
                .execute(params![name, now, period])?;
            Ok(changed > 0)
        }))
    }

    fn has_dir_quotas(&self) -> Local<'_, Result<bool, EngineError>> {
        Box::pin(self.with(|base| {
            let sql = "SELECT EXISTS (SELECT 1 FROM jfs_dir_quota)";
            base.prepare_cached(sql)?.query_row([], |row| row.get(0))
        }))
    }

    fn describe(&self) -> Local<'_, Result<Description, EngineError>> {
        let text = format!("SQLite {}, write-ahead log, synchronous=NORMAL", rusqlite::version());
        Box::pin(std::future::ready(Ok(Description { text, warnings: Vec::new() })))
    }
}
