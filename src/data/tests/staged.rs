//! Data that waits on this machine: real metadata, a real staging folder, a bucket that can be away, and
//! crashes. A mount that crashes is one whose loop ends with nothing told to it: what it had in memory
//! is gone, and another one opens the folder.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::{ConcatBytes, Model, noise};
use crate::data::{Data, DataConfig, DataShared};
use crate::meta::mem::MemBase;
use crate::meta::{Key, Meta, MetaShared, NewNode, Rules, Value, Who};
use crate::object::{Layout, Local as StoreLocal, ObjectInfo, Store, StoreError, mem};
use crate::pages::{Page, Pool};
use crate::stage::{Compression, Staging, StagingConfig};
use crate::types::{Attr, CHUNK_BYTES, FileType, Ino, Level, Publish, SliceRecord, Time};
use crate::uring;

mod leftovers;

const BLOCK: usize = 64 << 10;
const BOTH: [Publish; 2] = [Publish::Local, Publish::Uploaded];
const HOUR: Duration = Duration::from_secs(3600);
const ROOT: Who = Who { uid: 0, gid: 0 };

/// How the bucket is, and what it was asked.
#[derive(Default)]
struct Bucket {
    away: AtomicBool,
    slow: AtomicBool,
    gets: AtomicU64,
    deletes: AtomicU64,
    /// Names that were put, or are being put.
    puts: Mutex<Vec<String>>,
}

/// The bucket as a mount sees it.
struct Seen(mem::MemStore, Arc<Bucket>);

impl Store for Seen {
    fn put(&self, key: String, body: Vec<Page>) -> StoreLocal<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.1.away.load(SeqCst) {
                return Err(StoreError::Unavailable("the bucket is away".into()));
            }
            self.1.puts.lock().unwrap().push(key.clone());
            while self.1.slow.load(SeqCst) {
                uring::sleep(Duration::from_millis(2)).await;
            }
            self.0.put(key, body).await
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> StoreLocal<'_, Result<(Vec<u8>, usize), StoreError>> {
        self.1.gets.fetch_add(1, SeqCst);
        self.0.get(key, offset, into)
    }

    fn delete(&self, key: String) -> StoreLocal<'_, Result<(), StoreError>> {
        self.1.deletes.fetch_add(1, SeqCst);
        self.0.delete(key)
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> StoreLocal<'_, Result<Vec<ObjectInfo>, StoreError>> {
        self.0.list(prefix, start_after, limit)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// What outlives a mount: the volume, its bucket, and this machine's folder.
struct World {
    base: MemBase,
    objects: String,
    bucket: Arc<Bucket>,
    _folder: tempfile::TempDir,
    publish: Publish,
    trash_days: u64,
    staging: StagingConfig,
    ino: Ino,
}

/// One mount.
struct Mount {
    meta: Rc<Meta>,
    data: Rc<Data>,
    staging: Arc<Staging>,
    ino: Ino,
    length: Cell<u64>,
}

impl World {
    fn new(publish: Publish, upload_delay: Duration) -> Self {
        let name = format!("staged-{:?}-{publish:?}", std::thread::current().id());
        mem::forget(&name);
        let folder = tempfile::tempdir().unwrap();
        let staging = StagingConfig {
            folders: vec![folder.path().to_path_buf()],
            takes: true,
            threshold_bytes: 0,
            max_bytes: 0,
            max_writes: 0,
            upload_delay,
            upload_hours: None,
            upload_deadline: Duration::ZERO,
            free_space_ratio: 0.0,
            file_mode: 0o600,
            checksums: true,
        };
        let base = MemBase::new();
        let ino = uring::block_on(async {
            let root = Attr::new(FileType::Dir, 0o777, Time::default());
            let init = vec![(Ino::ROOT, root.clone()), (Ino::TRASH, root)];
            base.engine().store_setting("{}".into(), init).await.unwrap();
            let shared = MetaShared::new(Ino::ROOT, false, 0, Rules::default());
            let meta = Meta::new(base.engine(), shared);
            let kind = FileType::File;
            let new = NewNode { kind, mode: 0o644, umask: 0, rdev: 0, target: None };
            meta.create(Ino::ROOT, b"f", &new, ROOT).await.unwrap().ino
        });
        let (objects, bucket, trash_days) = (name, Arc::default(), 0);
        Self { base, objects, bucket, _folder: folder, publish, trash_days, staging, ino }
    }

    fn mount(&self) -> Mount {
        let rules = Rules::default();
        let shared = MetaShared::new(Ino::ROOT, false, self.trash_days, rules);
        let meta = Meta::new(self.base.engine(), shared);
        let layout = Layout::new(64, false);
        let staging = Staging::open(&self.staging, "volume", layout, None).unwrap();
        let shared = DataShared::new(DataConfig {
            layout,
            compression: Compression::Lz4,
            encrypted: false,
            cache: None,
            cache_large_writes: false,
            pool: Pool::new(4 << 20),
            uploads: 4,
            downloads: 4,
            deletes: 10,
            tries: 2,
            max_readahead_bytes: 0,
            prefetch: 0,
            compacts: true,
            staging: Some(Arc::clone(&staging)),
            publish: self.publish,
        });
        let store = Rc::new(Seen(mem::open(&self.objects), Arc::clone(&self.bucket)));
        let data = Data::new(Rc::clone(&meta) as Rc<_>, store, shared);
        Mount { meta, data, staging, ino: self.ino, length: Cell::new(0) }
    }

    /// One mount from its beginning to its crash.
    fn life<T>(&self, life: impl AsyncFnOnce(&Mount) -> T) -> T {
        uring::block_on(async {
            let mount = self.mount();
            mount.data.recover().await.unwrap();
            mount.learn_length().await;
            life(&mount).await
        })
    }

    async fn list(&self, chunk: u32) -> Vec<SliceRecord> {
        let found = self.base.engine().fetch(&[Key::Chunk(self.ino, chunk)]).await.unwrap();
        match found.into_iter().next() {
            Some(Value::Chunk(records)) => records,
            other => panic!("a chunk was asked for, not {other:?}"),
        }
    }

    async fn stored(&self) -> BTreeSet<String> {
        let objects = mem::open(&self.objects).list("chunks/".into(), String::new(), 100_000).await;
        objects.unwrap().into_iter().map(|object| object.key).collect()
    }

    /// Names of objects that the lists of the first chunks ask for.
    async fn listed(&self) -> BTreeSet<String> {
        let (layout, mut names) = (Layout::new(64, false), BTreeSet::new());
        for chunk in 0..2 {
            for record in self.list(chunk).await.into_iter().filter(|record| record.id > 0) {
                let blocks = layout.blocks(record.id, record.size);
                names.extend(blocks.map(|block| layout.name(block)));
            }
        }
        names
    }

    /// Until what is stored is what is listed: removals go on beside all else.
    async fn until_tidy(&self) {
        for _ in 0..100 {
            if self.stored().await == self.listed().await {
                return;
            }
            a_while().await;
        }
        assert_eq!(self.stored().await, self.listed().await);
    }

    fn puts(&self) -> usize {
        self.bucket.puts.lock().unwrap().len()
    }

    fn requests(&self) -> (usize, u64, u64) {
        (self.puts(), self.bucket.gets.load(SeqCst), self.bucket.deletes.load(SeqCst))
    }

    fn away(&self, away: bool) {
        self.bucket.away.store(away, SeqCst);
    }
}

impl Mount {
    /// As a lookup does: what metadata says, and what waits.
    async fn learn_length(&self) {
        let known = match self.meta.getattr(self.ino).await {
            Ok(attr) => attr.length,
            Err(_) => 0,
        };
        let pending = self.data.pending(self.ino).map_or(0, |pending| pending.length_end);
        self.length.set(known.max(pending));
    }

    async fn write(&self, offset: u64, bytes: &[u8]) {
        let written = self.data.write(self.ino, offset, bytes, self.length.get()).await;
        self.length.set(written.unwrap());
    }

    /// Written and closed.
    async fn save(&self, offset: u64, bytes: &[u8]) {
        self.write(offset, bytes).await;
        self.data.keep(self.ino).await.unwrap();
    }

    async fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let read = self.data.read(self.ino, offset, len, self.length.get()).await;
        read.unwrap().concat_bytes()
    }

    async fn all(&self) -> Vec<u8> {
        self.read(0, self.length.get()).await
    }

    async fn level(&self) -> Level {
        self.data.state_of(self.ino, self.length.get()).await.unwrap().level
    }

    fn drain(&self) {
        uring::spawn(Rc::clone(&self.data).drain());
    }

    async fn reach(&self, level: Level) {
        let reached = self.data.reach(self.ino, level);
        let reached = uring::timeout(Duration::from_secs(20), reached).await;
        reached.expect("in time").unwrap();
    }

    async fn reach_all(&self) {
        let reached = self.data.reach_all(Level::Committed);
        let reached = uring::timeout(Duration::from_secs(20), reached).await;
        reached.expect("in time").unwrap();
    }
}

async fn a_while() {
    uring::sleep(Duration::from_millis(30)).await;
}

#[test]
fn what_was_closed_survives_a_crash_while_the_bucket_is_away() {
    for publish in BOTH {
        let world = World::new(publish, Duration::ZERO);
        world.away(true);
        let small = b"a few bytes".to_vec();
        let large = noise(1, 3 * BLOCK + 500);
        world.life(async |mount| {
            mount.drain();
            mount.save(0, &small).await;
            mount.save(small.len() as u64, &large).await;
            assert!(mount.all().await == [&small[..], &large].concat());
        });
        world.life(async |mount| {
            assert!(mount.all().await == [&small[..], &large].concat(), "{publish:?}");
            assert_eq!(world.requests(), (0, 0, 0), "nothing was asked of the bucket");
            let listed = world.list(0).await.len();
            assert_eq!(listed > 0, publish == Publish::Local, "others see it now or later");
            world.away(false);
            mount.drain();
            mount.reach(Level::Committed).await;
            assert!(mount.staging.is_empty() && mount.level().await == Level::Committed);
            world.until_tidy().await;
            assert!(mount.all().await == [&small[..], &large].concat());
        });
        // From the bucket alone, on a machine that has nothing.
        let gets = world.bucket.gets.load(SeqCst);
        world.life(async |mount| {
            assert!(mount.all().await == [&small[..], &large].concat());
            assert!(world.bucket.gets.load(SeqCst) > gets);
            assert_eq!(mount.staging.take_notes(), []);
        });
    }
}

#[test]
fn each_level_is_told_and_waited_for() {
    for publish in BOTH {
        let world = World::new(publish, HOUR);
        world.life(async |mount| {
            assert_eq!(mount.level().await, Level::Committed, "nothing was written");
            mount.write(0, &noise(1, BLOCK + 100)).await;
            // The full block is on its way at once.
            let accepted = mount.data.state_of(mount.ino, mount.length.get()).await.unwrap();
            assert_eq!((accepted.level, accepted.bytes_left), (Level::Accepted, 65_636));
            mount.reach(Level::Logged).await;
            let logged = mount.data.state_of(mount.ino, mount.length.get()).await.unwrap();
            assert_eq!((logged.level, logged.blocks_left), (Level::Logged, 2));
            assert_eq!((logged.bytes_left, logged.last_error), (65_636, None));
            mount.reach(Level::Local).await;
            a_while().await;
            let local = mount.data.state_of(mount.ino, mount.length.get()).await.unwrap();
            assert_eq!((local.level, local.blocks_left), (Level::Local, 2));
            assert!(local.oldest_age_ms >= 30);
            mount.drain();
            a_while().await;
            assert_eq!(world.puts(), 0, "an hour is not over");
            mount.reach(Level::Uploaded).await;
            assert_eq!((world.puts(), mount.level().await), (2, Level::Committed));
            let dirty = mount.data.staging().unwrap();
            assert_eq!((dirty.0.logged_blocks + dirty.0.local_blocks, dirty.1), (0, 0));
        });
    }
}

#[test]
fn all_of_the_mount_is_waited_for() {
    for publish in BOTH {
        let world = World::new(publish, HOUR);
        world.life(async |mount| {
            let new =
                NewNode { kind: FileType::File, mode: 0o644, umask: 0, rdev: 0, target: None };
            for number in 0..30 {
                let name = format!("g{number}");
                let made = mount.meta.create(Ino::ROOT, name.as_bytes(), &new, ROOT).await.unwrap();
                mount.data.write(made.ino, 0, &noise(number, 3000), 0).await.unwrap();
                if number % 2 == 0 {
                    mount.data.keep(made.ino).await.unwrap();
                }
            }
            mount.drain();
            mount.data.reach_all(Level::Local).await.unwrap();
            let status = mount.staging.status();
            assert_eq!((status.logged_blocks, status.local_blocks, world.puts()), (0, 30, 0));
            mount.reach_all().await;
            assert!(mount.staging.is_empty());
            assert_eq!((world.puts(), world.stored().await.len()), (30, 30));
            assert_eq!(mount.data.shared.dirty_files(), []);
        });
    }
}

#[test]
fn a_flush_of_the_mount_does_not_wait_for_a_steady_writer() {
    for publish in BOTH {
        let world = World::new(publish, HOUR);
        world.life(async |mount| {
            mount.drain();
            let new =
                NewNode { kind: FileType::File, mode: 0o644, umask: 0, rdev: 0, target: None };
            let other = mount.meta.create(Ino::ROOT, b"g", &new, ROOT).await.unwrap().ino;
            mount.save(0, &noise(1, 2 * BLOCK)).await;
            let (data, ends) = (Rc::clone(&mount.data), Rc::new(Cell::new(false)));
            let end = Rc::clone(&ends);
            uring::spawn(async move {
                let mut length = 0;
                while !end.get() {
                    length = data.write(other, length % 3000, b"more", length).await.unwrap();
                    data.keep(other).await.unwrap();
                    uring::sleep(Duration::from_millis(1)).await;
                }
            });
            a_while().await;
            mount.reach_all().await;
            assert_eq!(mount.level().await, Level::Committed);
            a_while().await;
            assert!(!mount.staging.is_empty(), "what came later waits for its hour, {publish:?}");
            ends.set(true);
            a_while().await;
            mount.reach_all().await;
            // What was merged away while it was in hand is still given back.
            for _ in 0..100 {
                if mount.staging.is_empty() {
                    break;
                }
                a_while().await;
            }
            assert_eq!(mount.staging.kept(), []);
            assert!(mount.staging.is_empty(), "{publish:?}");
        });
    }
}

#[test]
fn the_state_of_a_file_of_holes_costs_what_its_lists_do() {
    let world = World::new(Publish::Local, HOUR);
    let far = 5 * CHUNK_BYTES;
    world.life(async |mount| {
        mount.save(0, b"here").await;
        mount.save(far, b"and there").await;
    });
    world.life(async |mount| {
        let state = mount.data.state_of(mount.ino, 100 << 50).await.unwrap();
        assert_eq!((state.blocks_left, state.bytes_left), (2, 13));
        let state = mount.data.state_of(mount.ino, far).await.unwrap();
        assert_eq!((state.blocks_left, state.bytes_left), (1, 4), "the rest is cut off");
        let file = mount.data.shared.file(mount.ino);
        assert!(!file.with(|extents| extents.has_lists()));
    });
}

#[test]
fn a_flush_waits_for_the_commit_and_a_close_does_not() {
    let world = World::new(Publish::Uploaded, HOUR);
    world.life(async |mount| {
        mount.drain();
        mount.save(0, b"closed").await;
        a_while().await;
        assert_eq!((world.list(0).await, world.puts()), (vec![], 0));
        let soon = uring::timeout(Duration::from_millis(100), mount.data.settled(mount.ino)).await;
        assert!(soon.is_err(), "nothing goes faster for who only waits");
        let flushed = uring::timeout(Duration::from_secs(5), mount.data.flush(mount.ino)).await;
        flushed.expect("hurried").unwrap();
        assert_eq!((world.list(0).await.len(), world.puts()), (1, 1));
        mount.data.settled(mount.ino).await.unwrap();
        assert_eq!(mount.data.pending(mount.ino), None);
    });
}

#[test]
fn what_is_removed_before_its_upload_never_goes_up() {
    for publish in BOTH {
        let world = World::new(publish, HOUR);
        world.life(async |mount| {
            mount.drain();
            mount.save(0, &noise(1, 3 * BLOCK)).await;
            let (ino, length) = (mount.ino, mount.length.get());
            mount.data.discard(ino);
            mount.data.forget_file(ino);
            mount.data.delete_files(vec![(ino, length)]).await.unwrap();
            a_while().await;
            assert!(mount.staging.is_empty(), "{publish:?}");
            mount.staging.hurry_all();
            mount.data.shared.bell.open();
            a_while().await;
            assert_eq!(world.requests(), (0, 0, 0));
        });
        world.life(async |mount| {
            // It is not certain before the folder has been walked through.
            while !mount.staging.is_empty() {
                a_while().await;
            }
            assert_eq!(world.requests(), (0, 0, 0));
        });
    }
}

#[test]
fn what_is_removed_during_its_upload_is_removed_after_it() {
    for publish in BOTH {
        let world = World::new(publish, Duration::ZERO);
        world.life(async |mount| {
            world.bucket.slow.store(true, SeqCst);
            mount.drain();
            mount.save(0, b"on its way").await;
            mount.staging.hurry_all();
            mount.data.shared.bell.open();
            while world.puts() == 0 {
                a_while().await;
            }
            mount.data.discard(mount.ino);
            mount.data.delete_files(vec![(mount.ino, 10)]).await.unwrap();
            assert_eq!(world.bucket.deletes.load(SeqCst), 0);
            world.bucket.slow.store(false, SeqCst);
            while world.bucket.deletes.load(SeqCst) == 0 {
                a_while().await;
            }
            assert!(world.stored().await.is_empty() && mount.staging.is_empty());
            assert_eq!(world.puts(), 1);
        });
    }
}

#[test]
fn a_block_that_a_newer_one_hides_never_goes_up() {
    for (publish, trash_days) in [(BOTH[0], 0), (BOTH[0], 1), (BOTH[1], 0)] {
        let world = World { trash_days, ..World::new(publish, HOUR) };
        world.life(async |mount| {
            mount.drain();
            let mut last = Vec::new();
            for seed in 0..3 {
                last = noise(seed, 2 * BLOCK);
                mount.save(0, &last).await;
            }
            mount.reach(Level::Committed).await;
            assert!(mount.all().await == last);
            assert_eq!(world.puts(), 2, "{publish:?}, trash {trash_days}");
            world.until_tidy().await;
        });
        world.life(async |mount| assert_eq!(mount.length.get(), 2 * BLOCK as u64));
    }
}

/// Small pieces at the end of the file, closed after each.
async fn append(mount: &Mount, bytes: &mut Vec<u8>, count: u64) {
    for _ in 0..count {
        let piece = noise(mount.length.get(), 200);
        mount.save(mount.length.get(), &piece).await;
        bytes.extend(piece);
    }
}

#[test]
fn many_small_appends_go_up_as_one_object() {
    for (publish, trash_days) in [(BOTH[0], 0), (BOTH[0], 1), (BOTH[1], 0)] {
        let world = World { trash_days, ..World::new(publish, HOUR) };
        let mut bytes = Vec::new();
        // Over a crash, if there are notes: else it is not known whose the blocks are.
        if publish == Publish::Uploaded {
            world.life(async |mount| append(mount, &mut bytes, 60).await);
        }
        world.life(async |mount| {
            append(mount, &mut bytes, 60).await;
            mount.drain();
            mount.reach(Level::Committed).await;
            assert!(mount.all().await == bytes);
            assert_eq!(world.puts(), 1, "{publish:?}, trash {trash_days}");
            world.until_tidy().await;
        });
        world.life(async |mount| assert!(mount.all().await == bytes));
    }
}

#[test]
fn many_slices_may_wait_while_the_bucket_is_away() {
    for publish in BOTH {
        let world = World::new(publish, Duration::ZERO);
        world.away(true);
        let mut bytes = Vec::new();
        world.life(async |mount| {
            mount.drain();
            for seed in 0..1500 {
                bytes.extend(noise(seed, 50));
                mount.save(mount.length.get(), &noise(seed, 50)).await;
            }
            assert!(mount.all().await == bytes);
        });
        world.life(async |mount| {
            assert!(mount.all().await == bytes, "{publish:?}");
            world.away(false);
            mount.drain();
            mount.reach(Level::Committed).await;
            assert!(mount.all().await == bytes);
            assert!(world.puts() < 150, "{} objects", world.puts());
        });
    }
}

#[test]
fn a_bucket_that_fails_is_told_and_tried_again() {
    for publish in BOTH {
        let world = World::new(publish, Duration::ZERO);
        world.away(true);
        world.life(async |mount| {
            mount.drain();
            mount.save(0, b"waits").await;
            mount.staging.hurry_all();
            mount.data.shared.bell.open();
            while mount.staging.status().failed_blocks == 0 {
                a_while().await;
            }
            let state = mount.data.state_of(mount.ino, 5).await.unwrap();
            assert!(state.last_error.unwrap().contains("the bucket is away"));
            assert_eq!(mount.all().await, b"waits");
            world.away(false);
            assert_eq!(mount.data.retry_uploads(), 1);
            while !mount.staging.is_empty() {
                a_while().await;
            }
            mount.reach(Level::Committed).await;
            let state = mount.data.state_of(mount.ino, 5).await.unwrap();
            assert_eq!((state.level, state.last_error), (Level::Committed, None));
        });
    }
}

#[test]
fn what_is_not_taken_is_stored_at_once() {
    for publish in BOTH {
        let mut world = World::new(publish, HOUR);
        world.staging.threshold_bytes = BLOCK as u64;
        let bytes = noise(1, 2 * BLOCK + 100);
        world.life(async |mount| {
            mount.drain();
            mount.save(0, &bytes).await;
            assert_eq!(world.puts(), 2, "the whole blocks; the short one is kept");
            assert!(mount.all().await == bytes);
            let state = mount.data.state_of(mount.ino, mount.length.get()).await.unwrap();
            assert_eq!((state.level, state.blocks_left, state.bytes_left), (Level::Logged, 1, 100));
        });
        world.life(async |mount| {
            assert!(mount.all().await == bytes);
            mount.drain();
            mount.reach(Level::Committed).await;
            assert_eq!(world.puts(), 3);
            world.until_tidy().await;
        });
    }
}

#[test]
fn a_full_folder_drains_though_merges_find_no_room() {
    for publish in BOTH {
        let mut world = World::new(publish, Duration::ZERO);
        world.staging.max_bytes = 20_300;
        world.away(true);
        world.life(async |mount| {
            mount.drain();
            // Who gives up a write in the middle leaves it to others.
            uring::spawn(Rc::clone(&mount.data).tick());
            let mut appended = Vec::new();
            let appends = append(mount, &mut appended, 150);
            let all = uring::timeout(Duration::from_secs(5), appends).await;
            assert!(all.is_err() && mount.length.get() > 20_000, "writers wait for room");
            world.away(false);
            mount.data.retry_uploads();
            mount.reach(Level::Committed).await;
            mount.reach_all().await;
            let pieces = (0..mount.length.get()).step_by(200).map(|at| noise(at, 200));
            assert!(mount.all().await == pieces.flatten().collect::<Vec<u8>>(), "{publish:?}");
        });
    }
}

#[test]
fn a_burst_of_small_files_is_not_held_up_by_its_own_uploads() {
    let world = World::new(Publish::Local, Duration::ZERO);
    world.life(async |mount| {
        mount.drain();
        a_while().await;
        for _ in 0..20 {
            mount.save(0, b"small").await;
        }
        assert_eq!(world.puts(), 0);
        while !mount.staging.is_empty() {
            a_while().await;
        }
        assert!((1..5).contains(&world.puts()), "{}", world.puts());
    });
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64, usize),
    Read(u64, u64),
    Close,
    Sync,
    Flush,
    Upload,
    Away(bool),
    /// Crash and come back; what was closed is there.
    Crash,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let near = prop_oneof![0u64..300_000, (CHUNK_BYTES - 100_000)..(CHUNK_BYTES + 100_000)];
    let act = prop_oneof![
        6 => (near.clone(), 1usize..100_000).prop_map(|(at, len)| Act::Write(at, len)),
        4 => (near.clone(), 1usize..300).prop_map(|(at, len)| Act::Write(at, len)),
        4 => (near, 1u64..200_000).prop_map(|(at, len)| Act::Read(at, len)),
        5 => Just(Act::Close),
        1 => Just(Act::Sync),
        1 => Just(Act::Flush),
        1 => Just(Act::Upload),
        2 => any::<bool>().prop_map(Act::Away),
        2 => Just(Act::Crash),
    ];
    proptest::collection::vec(act, 1..60)
}

/// One life, from the acts that are left to the next crash; what is left then.
async fn live(mount: &Mount, world: &World, acts: &mut std::vec::IntoIter<Act>, model: &mut Model) {
    mount.drain();
    assert_eq!(mount.length.get(), model.length);
    for act in acts.by_ref() {
        match act {
            Act::Write(at, len) => {
                let bytes = noise(at ^ len as u64, len);
                model.write(at, &bytes);
                mount.write(at, &bytes).await;
            }
            Act::Read(at, len) => assert!(mount.read(at, len).await == model.read(at, len)),
            Act::Close => mount.data.keep(mount.ino).await.unwrap(),
            Act::Sync => mount.data.sync(mount.ino).await.unwrap(),
            Act::Flush if !world.bucket.away.load(SeqCst) => {
                mount.data.flush(mount.ino).await.unwrap();
                assert_eq!(mount.data.pending(mount.ino), None);
            }
            Act::Upload if !world.bucket.away.load(SeqCst) => mount.reach(Level::Committed).await,
            Act::Flush | Act::Upload => {}
            Act::Away(away) => {
                world.away(away);
                mount.data.retry_uploads();
            }
            Act::Crash => {
                mount.data.keep(mount.ino).await.unwrap();
                return;
            }
        }
    }
    world.away(false);
    mount.data.retry_uploads();
    mount.reach(Level::Committed).await;
    mount.reach_all().await;
    for at in [0, CHUNK_BYTES - 200_000] {
        assert!(mount.read(at, 500_000).await == model.read(at, 500_000));
    }
}

fn equals_the_model(acts: Vec<Act>, publish: Publish, delay: Duration) {
    let world = World::new(publish, delay);
    let (mut acts, mut model) = (acts.into_iter(), Model::default());
    while acts.len() > 0 {
        world.life(async |mount| live(mount, &world, &mut acts, &mut model).await);
    }
    world.away(false);
    world.life(async |mount| {
        live(mount, &world, &mut Vec::new().into_iter(), &mut model).await;
        // What was given up when a mount crashed is not listed; the rest is exactly what is.
        assert!(world.stored().await.is_superset(&world.listed().await));
        assert!(mount.staging.is_empty());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn through_crashes_it_equals_a_plain_file_when_published_at_once(acts in acts()) {
        equals_the_model(acts, Publish::Local, HOUR);
    }

    #[test]
    fn through_crashes_it_equals_a_plain_file_when_published_late(acts in acts()) {
        equals_the_model(acts, Publish::Uploaded, Duration::ZERO);
    }
}
