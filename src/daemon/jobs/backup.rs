//! Backups of metadata beside the objects, as JuiceFS makes them: one client of all, once a period.
//!
//! Owns the stamp that says when, when there are too many inodes for it, and the object. What is in
//! it is `dump`'s, which backups stay is `rotation`'s. In memory it is compressed, whole.

use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::hourly::Steady;
use super::rotation;
use super::{Duties, about};
use crate::daemon::dump::{DumpError, dump};
use crate::limits::{BACKUP_BYTES_MAX, CHECK_PAGE};
use crate::meta::{
    Commit, Counter, Engine, EngineError, Expect, Key, Meta, Mutation, Outcome, Value,
};
use crate::metrics::LastDone;
use crate::object::{Store, StoreError};
use crate::pages::Page;
use crate::stdx::calendar::{parse_rfc3339, rfc3339};
use crate::stdx::{Chance, monotonic_ns, now};
use crate::types::{Ino, Time};
use crate::uring;

/// Where backups are.
const FOLDER: &str = "meta/";
/// The extended attribute of the root that says when the last one began.
const STAMP: &[u8] = b"lastBackup";
/// With more inodes there is none each hour.
const HOURLY_INODES_MAX: i64 = 1_000_000;
/// The longest period that counts as that.
const HOUR: Duration = Duration::from_secs(3600);
/// How often a period is looked at.
const LOOKS: u32 = 10;
/// Bytes of compressed text in one piece of memory.
const PIECE_BYTES: usize = 256 << 10;

/// What a mount backs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// Between two backups (`--backup-meta`).
    pub period: Duration,
    /// Without what is in the trash (`--backup-skip-trash`).
    pub skip_trash: bool,
}

/// What stands in the way of a backup.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupError {
    /// The stamp could not be read or written.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The metadata could not be dumped.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The object could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stamp is not readable.
    #[error("the attribute lastBackup of the root is no time: {0:?}; remove it")]
    Stamp(String),
    /// Each hour would be too often.
    #[error(
        "{0} inodes are too many for a backup each hour or oftener; choose a longer --backup-meta"
    )]
    TooMany(i64),
}

/// Back up metadata for as long as the core runs, noting when in `last`, or say why this mount does not.
pub fn begin(
    plan: Option<BackupPlan>,
    duties: Option<&Duties>,
    (meta, last): (Rc<Meta>, Arc<LastDone>),
    store: impl FnOnce() -> Rc<dyn Store>,
) {
    let none = "this mount makes no backups of metadata";
    match (plan, duties) {
        (None, _) => tracing::info!("{none}; --backup-meta 1h has it make them"),
        (Some(_), None) => tracing::warn!("{none}: it is read-only"),
        (Some(_), Some(duties)) if !duties.clean_up => {
            tracing::warn!("{none}: --no-bgjob leaves that to others");
        }
        (Some(plan), Some(_)) => {
            uring::spawn(repeat(plan, meta, store(), last));
        }
    }
}

async fn repeat(plan: BackupPlan, meta: Rc<Meta>, store: Rc<dyn Store>, last: Arc<LastDone>) {
    let mut chance = Chance::from_system();
    let mut clock = Steady::seen(now().sec, monotonic_ns());
    loop {
        uring::sleep(about(plan.period / LOOKS, &mut chance)).await;
        let is_steady = clock.is_steady(now().sec, monotonic_ns());
        match once(plan, &meta, &*store, &last).await {
            Ok(Some(_)) if !is_steady => {
                tracing::warn!("the clock has jumped ahead: old backups of metadata stay for now");
            }
            Ok(Some(at_s)) => rotate(plan, &*store, at_s).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "metadata is not backed up this time"),
        }
    }
}

/// Back up if it is time to, nobody else does and changes are taken; returns the moment that names the object.
async fn once(
    plan: BackupPlan,
    meta: &Meta,
    store: &dyn Store,
    last: &LastDone,
) -> Result<Option<i64>, BackupError> {
    if meta.is_held() {
        return Ok(None);
    }
    let engine = meta.engine();
    let (at_s, began_ns) = (now().sec, monotonic_ns());
    if !win(plan, engine, at_s).await? {
        return Ok(None);
    }
    let mut out = GzEncoder::new(Pieces::default(), Compression::fast());
    let names = dump(engine, plan.skip_trash, &mut out).await?;
    let (body, bytes) = out.finish().map_err(DumpError::from)?.done();
    let name = format!("{FOLDER}{}", rotation::name(at_s));
    store.put(name.clone(), body).await?;
    let took_ns = monotonic_ns() - began_ns;
    last.set(at_s as u64 * 1_000_000_000, took_ns);
    let seconds = took_ns as f64 / 1e9;
    tracing::info!(name, names, bytes, seconds, "metadata is backed up");
    Ok(Some(at_s))
}

/// Whether the period is over and this client begins the next one.
async fn win(plan: BackupPlan, engine: &dyn Engine, at_s: i64) -> Result<bool, BackupError> {
    let keys = [Key::Xattr(Ino::ROOT, STAMP.into()), Key::Counter(Counter::TotalInodes)];
    let values = engine.fetch(&keys).await?;
    let [Value::Xattr(stamp), Value::Counter(inodes)] = &values[..] else {
        unreachable!("a stamp and a counter were asked for")
    };
    if let Some(stamp) = stamp.as_deref().filter(|stamp| !stamp.is_empty()) {
        let text = String::from_utf8_lossy(stamp);
        let last_s = parse_rfc3339(&text).ok_or_else(|| BackupError::Stamp(text.into_owned()))?;
        let period_s = plan.period.as_secs() as i64;
        // One that lies a period ahead is by a wrong clock.
        if (at_s - last_s).abs() < period_s {
            return Ok(false);
        }
    }
    if plan.period <= HOUR && *inodes > HOURLY_INODES_MAX {
        return Err(BackupError::TooMany(*inodes));
    }
    let text = rfc3339(Time { sec: at_s, nsec: 0 }).replace(".000000000", "");
    let commit = Commit {
        expects: vec![Expect::XattrIs(Ino::ROOT, STAMP.into(), stamp.clone())],
        mutations: vec![Mutation::PutXattr(Ino::ROOT, STAMP.into(), text.into_bytes().into())],
        returns: Vec::new(),
    };
    Ok(matches!(engine.commit(commit).await?, Outcome::Applied(_)))
}

/// Let go of what has had its time when there is a new one.
async fn rotate(plan: BackupPlan, store: &dyn Store, at_s: i64) {
    if let Err(error) = remove_outdated(plan, store, at_s).await {
        tracing::warn!(%error, "old backups of metadata stay for now");
    }
}

async fn remove_outdated(plan: BackupPlan, store: &dyn Store, at_s: i64) -> Result<(), StoreError> {
    let (mut after, mut names) = (String::new(), Vec::new());
    loop {
        let page = store.list(FOLDER.into(), after, CHECK_PAGE).await?;
        names.extend(
            page.iter().filter_map(|found| Some(found.key.strip_prefix(FOLDER)?.to_owned())),
        );
        let Some(last) = page.last() else { break };
        after = last.key.clone();
    }
    for name in rotation::outdated(&names, at_s, plan.period.as_secs() as i64) {
        store.delete(format!("{FOLDER}{name}")).await?;
        tracing::info!(name, "an old backup of metadata is removed");
    }
    Ok(())
}

/// Compressed text in pieces, so that none of it moves when it grows.
#[derive(Default)]
struct Pieces {
    full: Vec<Page>,
    last: Vec<u8>,
    bytes: usize,
}

impl Pieces {
    fn done(mut self) -> (Vec<Page>, usize) {
        self.full.push(Page::from_vec(self.last));
        (self.full, self.bytes)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes + bytes.len() > BACKUP_BYTES_MAX {
            let mib = BACKUP_BYTES_MAX >> 20;
            let text = format!("it has more than {mib} MiB; make it with `juicefs dump`");
            return Err(io::Error::other(text));
        }
        if self.last.len() == PIECE_BYTES {
            self.full.push(Page::from_vec(std::mem::take(&mut self.last)));
        }
        if self.last.capacity() == 0 {
            self.last.reserve_exact(PIECE_BYTES);
        }
        let taken = bytes.len().min(PIECE_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..taken]);
        self.bytes += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::meta::mem::MemBase;
    use crate::meta::{MetaShared, Rules};
    use crate::object::mem;
    use crate::stdx::step;
    use crate::types::{Attr, FileType};
    use crate::uring::block_on;

    const PLAN: BackupPlan = BackupPlan { period: HOUR, skip_trash: false };

    async fn volume() -> Rc<Meta> {
        let engine = MemBase::new().engine();
        let root = Attr::new(FileType::Dir, 0o777, now());
        let setting = "{\"Name\":\"v\",\"UUID\":\"u\"}".to_owned();
        engine.store_setting(setting, vec![(Ino::ROOT, root)]).await.unwrap();
        Meta::new(engine, MetaShared::new(Ino::ROOT, false, 0, Rules::default()))
    }

    async fn set(engine: &dyn Engine, mutation: Mutation) {
        let commit = Commit { mutations: vec![mutation], ..Commit::default() };
        engine.commit(commit).await.unwrap();
    }

    fn named(at_s: i64) -> String {
        format!("{FOLDER}{}", rotation::name(at_s))
    }

    async fn backups(store: &dyn Store) -> Vec<String> {
        let page = store.list(FOLDER.into(), String::new(), 1000).await.unwrap();
        page.into_iter().map(|found| found.key).collect()
    }

    #[test]
    fn one_client_backs_up_once_a_period() {
        block_on(async {
            let last = LastDone::default();
            let (meta, store) = (volume().await, mem::open("backup-once"));
            meta.set_held(true);
            assert_eq!(once(PLAN, &meta, &store, &last).await.unwrap(), None, "it changes nothing");
            assert_eq!((last.at_ns(), last.took_ns()), (0, 0));
            meta.set_held(false);
            let at_s = once(PLAN, &meta, &store, &last).await.unwrap().expect("none was made yet");
            assert_eq!(last.at_ns() / 1_000_000_000, at_s as u64);
            assert!((1..60_000_000_000).contains(&last.took_ns()));
            let name = named(at_s);
            assert_eq!(once(PLAN, &meta, &store, &last).await.unwrap(), None);
            let (body, count) = store.get(name.clone(), 0, vec![0; 1 << 16]).await.unwrap();
            let mut text = String::new();
            GzDecoder::new(&body[..count]).read_to_string(&mut text).unwrap();
            assert!(text.contains("\"FSTree\":{\"attr\":{\"inode\":1,"), "{text}");
            assert!(text.contains("{\"name\":\"lastBackup\",\"value\":\"20"), "{text}");
            step::set_ahead_s(3599);
            assert_eq!(once(PLAN, &meta, &store, &last).await.unwrap(), None);
            step::set_ahead_s(3601);
            let next = once(PLAN, &meta, &store, &last).await.unwrap().expect("the hour is over");
            assert_eq!(backups(&store).await, [name, named(next)]);
            // A stamp by a wrong clock holds nobody up.
            step::set_ahead_s(-7200);
            assert!(once(PLAN, &meta, &store, &last).await.unwrap().is_some());
            mem::forget("backup-once");
        });
    }

    #[test]
    fn of_two_that_see_the_same_stamp_one_wins() {
        block_on(async {
            let meta = volume().await;
            let at_s = now().sec;
            let (one, other) = futures_util::future::join(
                win(PLAN, meta.engine(), at_s),
                win(PLAN, meta.engine(), at_s),
            )
            .await;
            assert_eq!(usize::from(one.unwrap()) + usize::from(other.unwrap()), 1);
        });
    }

    #[test]
    fn there_is_none_where_it_would_be_too_much_or_the_stamp_is_odd() {
        block_on(async {
            let last = LastDone::default();
            let (meta, store) = (volume().await, mem::open("backup-none"));
            let told = async |period| {
                let plan = BackupPlan { period, ..PLAN };
                once(plan, &meta, &store, &last).await.map_err(|error| error.to_string())
            };
            set(meta.engine(), Mutation::Add(Counter::TotalInodes, HOURLY_INODES_MAX + 1)).await;
            let many = told(HOUR).await.unwrap_err();
            assert!(many.contains("1000001 inodes") && many.contains("--backup-meta"), "{many}");
            assert!(told(HOUR * 2).await.unwrap().is_some(), "as long as they are not each hour");
            let odd = b"yesterday"[..].into();
            set(meta.engine(), Mutation::PutXattr(Ino::ROOT, STAMP.into(), odd)).await;
            let odd = told(HOUR * 2).await.unwrap_err();
            assert!(odd.contains("lastBackup") && odd.contains("yesterday"), "{odd}");
            mem::forget("backup-none");
        });
    }

    #[test]
    fn old_ones_go_and_what_others_put_there_stays() {
        block_on(async {
            let last = LastDone::default();
            let (meta, store) = (volume().await, mem::open("backup-old"));
            let old = ["dump-2001-01-01-000000.json.gz", "note", "dump-2001-01-01.json"];
            let put = async |name: String| {
                store.put(name, vec![Page::from_vec(vec![1])]).await.unwrap();
            };
            for name in old {
                put(format!("{FOLDER}{name}")).await;
            }
            let at_s = once(PLAN, &meta, &store, &last).await.unwrap().expect("none was made yet");
            rotate(PLAN, &store, at_s).await;
            assert_eq!(backups(&store).await.len(), 4, "who was away for long lets nothing go");
            let mut kept: Vec<_> = (0..16).rev().map(|hour| named(at_s - hour * 3600)).collect();
            for name in &kept[..15] {
                put(name.clone()).await;
            }
            rotate(PLAN, &store, at_s).await;
            kept.insert(0, format!("{FOLDER}{}", old[2]));
            kept.push(format!("{FOLDER}note"));
            assert_eq!(backups(&store).await, kept);
            mem::forget("backup-old");
        });
    }

    #[test]
    fn a_backup_has_a_bound() {
        let mut pieces = Pieces::default();
        pieces.write_all(&vec![7; PIECE_BYTES + 1]).unwrap();
        pieces.bytes = BACKUP_BYTES_MAX - 1;
        pieces.write_all(&[7]).unwrap();
        let told = pieces.write_all(&[7]).unwrap_err().to_string();
        assert!(told.contains("juicefs dump"), "{told}");
        let (pages, _) = pieces.done();
        assert_eq!(pages.iter().map(|page| page.len()).collect::<Vec<_>>(), [PIECE_BYTES, 2]);
    }
}
