//! Operations on a volume in memory, and how often they ask the engine: a round trip each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::*;
use crate::meta::acl::Rule;
use crate::meta::engine::{
    AclRules, Description, DirEntry, EngineError, Local, Session, UnusedSlices,
};
use crate::meta::mem::MemBase;
use crate::meta::plan::rename::EXCHANGE;
use crate::meta::txn::Delayed;

/// Commits of another client, each of which comes before one of ours.
type Rivals = Rc<RefCell<VecDeque<Commit>>>;

/// An engine that counts what changes and asks for metadata.
struct Counting {
    engine: Rc<dyn Engine>,
    trips: Rc<Cell<usize>>,
    mutations: Rc<Cell<usize>>,
    rivals: Rivals,
}

impl Counting {
    fn count(&self) -> &dyn Engine {
        self.trips.set(self.trips.get() + 1);
        &*self.engine
    }
}

impl Engine for Counting {
    fn fetch<'a>(&'a self, keys: &'a [Key]) -> Local<'a, Result<Vec<Value>, EngineError>> {
        self.count().fetch(keys)
    }

    fn commit(&self, commit: Commit) -> Local<'_, Result<Outcome, EngineError>> {
        self.mutations.set(self.mutations.get() + commit.mutations.len());
        let rival = self.rivals.borrow_mut().pop_front();
        Box::pin(async move {
            if let Some(rival) = rival {
                self.engine.commit(rival).await?;
            }
            self.count().commit(commit).await
        })
    }

    fn list(&self, dir: Ino, with_attr: bool) -> Local<'_, Result<Vec<DirEntry>, EngineError>> {
        self.count().list(dir, with_attr)
    }

    fn reserve(&self, counter: Counter, n: i64) -> Local<'_, Result<i64, EngineError>> {
        self.engine.reserve(counter, n)
    }

    fn load_setting(&self) -> Local<'_, Result<Option<String>, EngineError>> {
        self.engine.load_setting()
    }

    fn store_setting(
        &self,
        json: String,
        init: Vec<(Ino, Attr)>,
    ) -> Local<'_, Result<(), EngineError>> {
        self.engine.store_setting(json, init)
    }

    fn put_session(&self, session: Session) -> Local<'_, Result<(), EngineError>> {
        self.engine.put_session(session)
    }

    fn end_session(&self, sid: u64) -> Local<'_, Result<Vec<Ino>, EngineError>> {
        self.engine.end_session(sid)
    }

    fn sessions(&self) -> Local<'_, Result<Vec<Session>, EngineError>> {
        self.engine.sessions()
    }

    fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<(Ino, u64)>, EngineError>> {
        self.engine.queued_files(before, limit)
    }

    fn unused_slices(
        &self,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<UnusedSlices, EngineError>> {
        self.engine.unused_slices(from, limit)
    }

    fn delayed_slices(
        &self,
        before: i64,
        limit: usize,
    ) -> Local<'_, Result<Vec<Delayed>, EngineError>> {
        self.engine.delayed_slices(before, limit)
    }

    fn win_job(
        &self,
        name: &'static str,
        now: i64,
        period: i64,
    ) -> Local<'_, Result<bool, EngineError>> {
        self.engine.win_job(name, now, period)
    }

    fn scan(
        &self,
        table: crate::meta::Table,
        from: u64,
        limit: usize,
    ) -> Local<'_, Result<crate::meta::Page, EngineError>> {
        self.engine.scan(table, from, limit)
    }

    fn unkept_slice_ref(&self) -> i64 {
        self.engine.unkept_slice_ref()
    }

    fn keeps_parents_apart(&self) -> bool {
        self.engine.keeps_parents_apart()
    }

    fn acl_rules(&self, after: u32) -> Local<'_, Result<AclRules, EngineError>> {
        self.engine.acl_rules(after)
    }

    fn add_acl_rule(&self, rule: Rule) -> Local<'_, Result<u32, EngineError>> {
        self.engine.add_acl_rule(rule)
    }

    fn describe(&self) -> Local<'_, Result<Description, EngineError>> {
        self.engine.describe()
    }
}

/// A volume, and mounts of it that remember nothing yet.
pub(super) struct Volume {
    base: MemBase,
    trips: Rc<Cell<usize>>,
    mutations: Rc<Cell<usize>>,
    rivals: Rivals,
    trash_days: u64,
}

impl Volume {
    pub(super) async fn new(trash_days: u64) -> Self {
        let base = MemBase::new();
        let init = vec![(Ino::ROOT, root()), (Ino::TRASH, Attr { mode: 0o555, ..root() })];
        base.engine().store_setting("{}".into(), init).await.unwrap();
        let (trips, mutations, rivals) = (Rc::default(), Rc::default(), Rc::default());
        Self { base, trips, mutations, rivals, trash_days }
    }

    pub(super) fn mount(&self) -> Rc<Meta> {
        let engine = Counting {
            engine: self.base.engine(),
            trips: Rc::clone(&self.trips),
            mutations: Rc::clone(&self.mutations),
            rivals: Rc::clone(&self.rivals),
        };
        let rules = Rules { dir_quotas: true, ..Rules::default() };
        let shared = MetaShared::new(Ino::ROOT, false, self.trash_days, rules);
        Meta::new(Rc::new(engine), shared)
    }

    /// Another client's commits, each right before one of the next of every mount here.
    pub(super) fn rivals(&self, commits: impl IntoIterator<Item = Commit>) {
        self.rivals.borrow_mut().extend(commits);
    }

    /// Round trips of what is done.
    pub(super) async fn trips<T>(&self, done: impl Future<Output = Result<T, MetaError>>) -> usize {
        self.counts(done).await.0
    }

    /// Round trips and mutations of what is done.
    pub(super) async fn counts<T>(
        &self,
        done: impl Future<Output = Result<T, MetaError>>,
    ) -> (usize, usize) {
        self.trips.set(0);
        self.mutations.set(0);
        done.await.unwrap();
        (self.trips.get(), self.mutations.get())
    }
}

pub(super) async fn dir(meta: &Meta, parent: Ino, name: &[u8]) -> Ino {
    meta.create(parent, name, &new(FileType::Dir), ROOT).await.unwrap().ino
}

pub(super) async fn file(meta: &Meta, parent: Ino, name: &[u8]) -> Ino {
    meta.create(parent, name, &new(FileType::File), ROOT).await.unwrap().ino
}

#[test]
fn an_unlink_asks_for_the_trash_only_where_it_matters() {
    block_on(async {
        let volume = Volume::new(1).await;
        let (meta, cold) = (volume.mount(), volume.mount());
        for name in [b"a", b"b", b"c"] {
            file(&meta, Ino::ROOT, name).await;
        }
        let unlink =
            async |meta: &Meta, name: &[u8]| meta.unlink(Ino::ROOT, name, ROOT, &|_| false).await;
        unlink(&meta, b"c").await.unwrap();
        assert_eq!(volume.trips(unlink(&meta, b"b")).await, 1);
        let (kept, _) = meta.lookup(Ino::ROOT, b"a").await.unwrap();
        meta.link(kept, Ino::ROOT, b"other").await.unwrap();
        assert_eq!(volume.trips(unlink(&meta, b"a")).await, 1, "the trash is guessed to be free");
        meta.link(kept, Ino::ROOT, b"a").await.unwrap();
        cold.trash_folder().await.unwrap();
        let trips = volume.trips(unlink(&cold, b"a")).await;
        assert_eq!(trips, 5, "a guess that does not hold: two, and all is asked for");
        let names = meta.list(Ino::ROOT, false).await.unwrap().len();
        let trash = meta.trash_folder().await.unwrap().unwrap();
        let in_trash = meta.list(trash, false).await.unwrap();
        let of_kept = in_trash.iter().filter(|entry| entry.ino == kept).count();
        assert_eq!((names, of_kept), (1, 1));
        assert_eq!(meta.getattr(kept).await.unwrap().nlink, 2);
    });
}

#[test]
fn the_trash_gets_nothing_but_what_is_removed() {
    block_on(async {
        let volume = Volume::new(1).await;
        let meta = volume.mount();
        file(&meta, Ino::ROOT, b"a").await;
        file(&meta, Ino::ROOT, b"b").await;
        meta.unlink(Ino::ROOT, b"a", ROOT, &|_| false).await.unwrap();
        let hour = meta.list(Ino::TRASH, false).await.unwrap().remove(0);
        let kept = meta.list(hour.ino, false).await.unwrap().remove(0);
        let rename = async |from: (Ino, &[u8]), to: (Ino, &[u8]), flags| {
            meta.rename(from, to, flags, ROOT, &|_| false).await
        };
        let (kept, b) = ((hour.ino, &*kept.name), (Ino::ROOT, &b"b"[..]));
        for (from, to, flags) in
            [(b, kept, 0), (kept, b, EXCHANGE), ((Ino::TRASH, &*hour.name), (Ino::ROOT, b"c"), 0)]
        {
            assert_eq!(errno(rename(from, to, flags).await), Errno::PERM);
        }
        assert_eq!(errno(meta.rmdir(Ino::TRASH, &hour.name, ROOT).await), Errno::PERM);
        rename(kept, (Ino::ROOT, b"a"), 0).await.unwrap();
        assert_eq!(errno(meta.rmdir(Ino::TRASH, &hour.name, ROOT).await), Errno::PERM);
    });
}

/// Names in three directories below one another: the directories.
async fn nested(meta: &Meta) -> [Ino; 3] {
    let a = dir(meta, Ino::ROOT, b"a").await;
    let b = dir(meta, a, b"b").await;
    let c = dir(meta, b, b"c").await;
    for parent in [Ino::ROOT, a, b, c] {
        file(meta, parent, b"file").await;
    }
    [a, b, c]
}

#[test]
fn a_file_moves_in_one_trip_or_two() {
    block_on(async {
        let volume = Volume::new(0).await;
        let warm = volume.mount();
        let [a, _, c] = nested(&warm).await;
        let rename = async |meta: &Meta, from, to| {
            meta.rename((from, b"file"), (to, b"moved"), 0, ROOT, &|_| false).await
        };
        assert_eq!(volume.trips(rename(&warm, a, c)).await, 1);
        assert_eq!(volume.trips(rename(&volume.mount(), c, a)).await, 2);
    });
}

#[test]
fn a_directory_never_gets_below_itself() {
    block_on(async {
        let volume = Volume::new(0).await;
        let warm = volume.mount();
        let [a, b, c] = nested(&warm).await;
        for flags in [0, EXCHANGE] {
            let below = warm.rename((Ino::ROOT, b"a"), (c, b"file"), flags, ROOT, &|_| false).await;
            assert_eq!(errno(below), if flags == 0 { Errno::NOTDIR } else { Errno::INVAL });
        }
        let up = warm.rename((c, b"file"), (Ino::ROOT, b"a"), EXCHANGE, ROOT, &|_| false).await;
        assert_eq!(errno(up), Errno::INVAL);
        let onto = warm.rename((b, b"c"), (Ino::ROOT, b"a"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(onto), Errno::NOTEMPTY);
        let below = warm.rename((Ino::ROOT, b"a"), (b, b"new"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(below), Errno::INVAL);
        let d = dir(&warm, Ino::ROOT, b"d").await;
        let moved = warm.rename((a, b"b"), (d, b"b"), 0, ROOT, &|_| false);
        assert_eq!(volume.trips(moved).await, 1);
        // Another mount believes both to lie side by side.
        let other = volume.mount();
        for name in [b"a", b"d"] {
            other.lookup(Ino::ROOT, name).await.unwrap();
        }
        other.lookup(Ino::ROOT, b".").await.unwrap();
        warm.rename((Ino::ROOT, b"d"), (a, b"d"), 0, ROOT, &|_| false).await.unwrap();
        let below = other.rename((Ino::ROOT, b"a"), (d, b"a"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(below), Errno::INVAL);
        recount(&warm).await;
    });
}
