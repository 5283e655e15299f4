//! Compaction on every engine, against a plain vector of bytes, with what is stored counted.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::data::{DataConfig, DataShared};
use crate::meta::mem::MemBase;
use crate::meta::redis::tests::server::TestServer;
use crate::meta::sqlite::SqliteFile;
use crate::meta::{Commit, Engine, Key, Meta, MetaShared, Mutation, NewNode, Rules, Value, Who};
use crate::object::{Store, Tiers, mem};
use crate::pages::Pool;
use crate::stage::Compression;
use crate::stdx::Chance;
use crate::types::{Attr, FileType, Publish, Time};

const BLOCK: usize = 64 << 10;

/// A volume with one file.
struct World<'a> {
    engine: &'a dyn Fn() -> Rc<dyn Engine>,
    store: String,
    ino: Ino,
    trash_days: u64,
}

/// One mount of it.
struct Mount {
    meta: Rc<Meta>,
    data: Rc<Data>,
    length: Cell<u64>,
}

impl World<'_> {
    fn mount_as(&self, compacts: bool) -> Mount {
        let shared = MetaShared::new(Ino::ROOT, false, self.trash_days, Rules::default());
        let meta = Meta::new((self.engine)(), shared);
        let shared = DataShared::new(DataConfig {
            layout: Layout::new(64, false),
            compression: Compression::Lz4,
            encrypted: false,
            pool: Pool::new(8 << 20),
            cache: None,
            cache_large_writes: false,
            uploads: 4,
            downloads: 4,
            deletes: 10,
            tries: 3,
            max_readahead_bytes: 0,
            prefetch: 0,
            compacts,
            staging: None,
            publish: Publish::Local,
        });
        let store = Rc::new(mem::open(&self.store));
        let data = Data::new(Rc::clone(&meta) as Rc<_>, store, shared);
        Mount { meta, data, length: Cell::new(0) }
    }

    fn mount(&self) -> Mount {
        self.mount_as(true)
    }

    async fn list(&self, chunk: u32) -> Vec<SliceRecord> {
        let found = (self.engine)().fetch(&[Key::Chunk(self.ino, chunk)]).await.unwrap();
        match found.into_iter().next() {
            Some(Value::Chunk(records)) => records,
            other => panic!("a chunk was asked for, not {other:?}"),
        }
    }

    /// Names of objects, and their bytes altogether.
    async fn stored(&self) -> (BTreeSet<String>, u64) {
        let store = mem::open(&self.store);
        let objects = store.list("chunks/".into(), String::new(), 1_000_000).await.unwrap();
        let bytes = objects.iter().map(|object| object.len_bytes).sum();
        (objects.into_iter().map(|object| object.key).collect(), bytes)
    }

    /// Names of the objects of what is listed.
    async fn listed(&self) -> BTreeSet<String> {
        let layout = Layout::new(64, false);
        let mut names = BTreeSet::new();
        for record in self.list(0).await.into_iter().filter(|record| record.id > 0) {
            let blocks = layout.blocks(record.id, record.size);
            names.extend(blocks.map(|block| layout.name(block)));
        }
        names
    }

    /// Every slice that is listed has as many references as records, and no other is left.
    async fn counts_are_right(&self) {
        let engine = (self.engine)();
        let unused = engine.unused_slices(0, 100_000).await.unwrap();
        assert_eq!(unused.slices, [], "all that lost its references is removed and forgotten");
        let list = self.list(0).await;
        for record in list.iter().filter(|record| record.id > 0) {
            let key = Key::SliceRef(record.id, record.size);
            let count = list.iter().filter(|other| other.id == record.id).count() as i64;
            assert_eq!(engine.fetch(&[key]).await.unwrap(), [Value::SliceRef(count)]);
        }
    }
}

impl Mount {
    async fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) {
        let length = self.data.write(ino, offset, bytes, self.length.get()).await.unwrap();
        self.length.set(length);
        self.data.flush(ino).await.unwrap();
    }

    async fn read(&self, ino: Ino, length: usize) -> Vec<u8> {
        let pages = self.data.read(ino, 0, length as u64, length as u64).await.unwrap();
        pages.iter().flat_map(|page| page.to_vec()).collect()
    }

    /// Compact a chunk until nothing is left to do.
    async fn compact_all(&self, ino: Ino) -> Looked {
        let file = self.data.shared.file(ino);
        loop {
            let looked = self.data.compact(&file, 0).await;
            if looked != Looked::StillLong {
                return looked;
            }
        }
    }
}

/// Bytes that do not repeat.
fn noise(chance: &mut Chance, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&chance.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Run a test on a new volume of each engine.
fn on_each_engine(name: &str, trash_days: u64, test: impl AsyncFn(&World<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    let (server, base) = (TestServer::start(&[]), MemBase::new());
    let engines: [&dyn Fn() -> Rc<dyn Engine>; 3] =
        [&|| base.engine(), &|| file.engine(), &|| server.engine()];
    for (number, engine) in engines.into_iter().enumerate() {
        uring::block_on(async {
            let store = format!("compaction-{name}-{number}");
            mem::forget(&store);
            let root = Attr::new(FileType::Dir, 0o777, Time::default());
            let init = vec![(Ino::ROOT, root.clone()), (Ino::TRASH, root)];
            engine().store_setting("{}".into(), init).await.unwrap();
            let mut world = World { engine, store, ino: Ino(0), trash_days };
            let kind = FileType::File;
            let new = NewNode { kind, mode: 0o644, umask: 0, rdev: 0, target: None };
            let mount = world.mount_as(false);
            let who = Who { uid: 0, gid: 0 };
            world.ino = mount.meta.create(Ino::ROOT, b"f", &new, who).await.unwrap().ino;
            test(&world).await;
            mem::forget(&world.store);
        });
    }
}

/// Random writes, each a slice of its own, here and in `bytes`.
async fn scribble(
    (world, mount): (&World<'_>, &Mount),
    bytes: &mut [u8],
    len_max: u64,
    chance: &mut Chance,
) {
    let len = 1 + chance.below(len_max) as usize;
    let offset = chance.below((bytes.len() - len) as u64 + 1) as usize;
    let new = noise(chance, len);
    bytes[offset..offset + len].copy_from_slice(&new);
    mount.write(world.ino, offset as u64, &new).await;
}

#[test]
fn an_overwritten_file_keeps_a_small_multiple_of_its_size() {
    on_each_engine("overwritten", 0, async |world| {
        let (mount, mut chance) = (world.mount(), Chance::seeded(1));
        let mut bytes = noise(&mut chance, 3 * BLOCK + 100);
        mount.write(world.ino, 0, &bytes).await;
        let (mut most_bytes, mut most_records) = (0, 0);
        for number in 0..600 {
            let len_max = if number % 3 == 0 { bytes.len() } else { BLOCK / 2 };
            scribble((world, &mount), &mut bytes, len_max as u64, &mut chance).await;
            if number % 10 == 0 {
                most_bytes = most_bytes.max(world.stored().await.1);
                most_records = most_records.max(world.list(0).await.len());
                assert!(mount.read(world.ino, bytes.len()).await == bytes, "after {number}");
            }
        }
        mount.data.end_compactions().await;
        let size = bytes.len() as u64;
        assert!(most_bytes < 8 * size, "{most_bytes} bytes were kept for {size}");
        assert!(most_records < 400, "{most_records} records were listed");
        assert!(world.mount_as(false).read(world.ino, bytes.len()).await == bytes);
        assert_eq!(world.stored().await.0, world.listed().await);
        world.counts_are_right().await;
    });
}

#[test]
fn writers_of_two_mounts_and_compactions_of_both_do_not_disturb_each_other() {
    on_each_engine("two", 0, async |world| {
        let (a, b) = (world.mount(), world.mount());
        let mut chance = Chance::seeded(2);
        let mut halves = [noise(&mut chance, 2 * BLOCK), noise(&mut chance, 2 * BLOCK)];
        a.write(world.ino, 0, &halves.concat()).await;
        b.length.set(4 * BLOCK as u64);
        for number in 0..400_usize {
            // Both write at once, each in its half, and compact when they like.
            let mut writes = Vec::new();
            for half in &mut halves {
                let len = 1 + chance.below(BLOCK as u64) as usize;
                let offset = chance.below((half.len() - len) as u64) as usize;
                let new = noise(&mut chance, len);
                half[offset..offset + len].copy_from_slice(&new);
                writes.push((offset as u64, new));
            }
            let (second, first) = (writes.pop().unwrap(), writes.pop().unwrap());
            let (sender, receiver) = crate::stdx::oneshot();
            let (data, ino) = (Rc::clone(&b.data), world.ino);
            uring::spawn(async move {
                let offset = second.0 + 2 * BLOCK as u64;
                data.write(ino, offset, &second.1, 4 * BLOCK as u64).await.unwrap();
                data.flush(ino).await.unwrap();
                sender.send(());
            });
            a.write(world.ino, first.0, &first.1).await;
            if number % 7 == 0 {
                let file = a.data.shared.file(world.ino);
                a.data.compact_soon(&file, 0);
                b.data.compact_soon(&b.data.shared.file(world.ino), 0);
            }
            receiver.await.unwrap();
            if number % 20 == 0 {
                // What another mount wrote is seen when the list is fetched anew.
                a.data.invalidate(world.ino);
                b.data.invalidate(world.ino);
                let bytes = halves.concat();
                assert!(a.read(world.ino, bytes.len()).await == bytes, "a after {number}");
                assert!(b.read(world.ino, bytes.len()).await == bytes, "b after {number}");
            }
        }
        a.data.end_compactions().await;
        b.data.end_compactions().await;
        let bytes = halves.concat();
        assert!(world.mount_as(false).read(world.ino, bytes.len()).await == bytes);
        // A compaction that lost its race removes its objects in the background.
        uring::sleep(Duration::from_millis(50)).await;
        assert_eq!(world.stored().await.0, world.listed().await);
        world.counts_are_right().await;
    });
}

#[test]
fn given_up_anywhere_nothing_is_lost() {
    on_each_engine("crash", 0, async |world| {
        let quiet = world.mount_as(false);
        let mut chance = Chance::seeded(3);
        let mut bytes = noise(&mut chance, 3 * BLOCK);
        quiet.write(world.ino, 0, &bytes).await;
        let mut through = 0;
        for polls in 0.. {
            for _ in 0..12 {
                scribble((world, &quiet), &mut bytes, BLOCK as u64, &mut chance).await;
            }
            // A process that is killed: nothing it began goes on, and another one looks.
            let dying = world.mount();
            let mut done = false;
            {
                let file = dying.data.shared.file(world.ino);
                let mut compaction = pin!(dying.data.compact(&file, 0));
                for _ in 0..polls {
                    let mut context = Context::from_waker(Waker::noop());
                    if let Poll::Ready(looked) = compaction.as_mut().poll(&mut context) {
                        assert_eq!(looked, Looked::Short);
                        done = true;
                        break;
                    }
                    uring::sleep(Duration::from_micros(300)).await;
                }
            }
            assert!(world.stored().await.0.is_superset(&world.listed().await));
            assert!(world.mount_as(false).read(world.ino, bytes.len()).await == bytes, "{polls}");
            through += usize::from(done);
            if through == 3 {
                break;
            }
        }
        // What was left behind is found, by counts or by who compares objects with lists.
        let page = (world.engine)().unused_slices(0, 1000).await.unwrap();
        quiet.data.delete_slices(page.slices).await.unwrap();
        world.counts_are_right().await;
    });
}

#[test]
fn who_has_the_old_list_reads_on() {
    on_each_engine("reader", 0, async |world| {
        let (writer, reader, compactor) =
            (world.mount_as(false), world.mount_as(false), world.mount());
        let mut chance = Chance::seeded(4);
        let mut bytes = noise(&mut chance, 2 * BLOCK);
        writer.write(world.ino, 0, &bytes).await;
        for _ in 0..20 {
            scribble((world, &writer), &mut bytes, 5000, &mut chance).await;
        }
        assert!(reader.read(world.ino, bytes.len()).await == bytes);
        let before = world.stored().await.0;
        assert_eq!(compactor.compact_all(world.ino).await, Looked::Short);
        assert_eq!(world.list(0).await.len(), 1);
        assert!(world.stored().await.0.is_disjoint(&before), "the old objects are gone");
        assert!(reader.read(world.ino, bytes.len()).await == bytes);
        assert!(writer.read(world.ino, bytes.len()).await == bytes);
    });
}

#[test]
fn with_a_trash_what_was_replaced_stays_for_its_days() {
    on_each_engine("trash", 2, async |world| {
        let mount = world.mount();
        let mut chance = Chance::seeded(5);
        let mut bytes = noise(&mut chance, 2 * BLOCK);
        mount.write(world.ino, 0, &bytes).await;
        for _ in 0..20 {
            scribble((world, &mount), &mut bytes, 5000, &mut chance).await;
        }
        mount.data.end_compactions().await;
        let (before, mount) = (world.stored().await.0, world.mount());
        assert_eq!(mount.compact_all(world.ino).await, Looked::Short);
        let after = world.stored().await.0;
        assert!(after.is_superset(&before));
        assert!(after.len() > before.len());
        let now_s = crate::stdx::now().sec;
        assert_eq!(mount.meta.release_delayed(now_s - 10, 10).await.unwrap().entries, 0);
        // Two clients let go of it at once: each slice loses its references once.
        let other = world.mount();
        let (sender, receiver) = crate::stdx::oneshot();
        uring::spawn(async move {
            sender.send(other.meta.release_delayed(now_s + 10, 10).await.unwrap());
        });
        let mine = mount.meta.release_delayed(now_s + 10, 10).await.unwrap();
        let others = receiver.await.unwrap();
        assert_eq!(mine.entries + others.entries, 1);
        let unused = [mine.unused, others.unused].concat();
        mount.data.delete_slices(unused).await.unwrap();
        assert_eq!(world.stored().await.0, world.listed().await);
        world.counts_are_right().await;
        assert!(mount.read(world.ino, bytes.len()).await == bytes);
    });
}

#[test]
fn what_a_long_list_hides_goes_without_a_copy() {
    on_each_engine("hidden", 0, async |world| {
        let (writer, mut chance) = (world.mount_as(false), Chance::seeded(6));
        let mut bytes = Vec::new();
        for _ in 0..30 {
            bytes = noise(&mut chance, 2 * BLOCK);
            writer.write(world.ino, 0, &bytes).await;
        }
        let last = world.list(0).await.pop().unwrap();
        assert_eq!(world.mount().compact_all(world.ino).await, Looked::Short);
        assert_eq!(world.list(0).await, [last], "the last write is there as it was");
        assert_eq!(world.stored().await.0, world.listed().await);
        world.counts_are_right().await;
        assert!(writer.read(world.ino, bytes.len()).await == bytes);
    });
}

#[test]
fn a_list_that_is_full_makes_its_writer_wait() {
    on_each_engine("full", 0, async |world| {
        let (quiet, mut chance) = (world.mount_as(false), Chance::seeded(7));
        let mut bytes = noise(&mut chance, BLOCK);
        quiet.write(world.ino, 0, &bytes).await;
        while world.list(0).await.len() < FULL_RECORDS {
            // Many slices are one commit.
            for _ in 0..100 {
                let at = chance.below(BLOCK as u64 - 1) as usize;
                bytes[at] = chance.next_u64() as u8;
                let (data, length) = (&quiet.data, BLOCK as u64);
                data.write(world.ino, at as u64, &bytes[at..=at], length).await.unwrap();
            }
            quiet.data.flush(world.ino).await.unwrap();
        }
        let before = world.list(0).await.len();
        let writer = world.mount();
        writer.length.set(BLOCK as u64);
        let file = writer.data.shared.file(world.ino);
        let mut weight = Weight::default();
        weight.push(&world.list(0).await);
        file.with(|extents| *extents.weight_mut(0) = weight);
        assert!(weight.is_full());
        scribble((world, &writer), &mut bytes, 10, &mut chance).await;
        writer.data.end_compactions().await;
        assert!(world.list(0).await.len() <= before - 900, "it was made shorter first");
        assert!(world.mount_as(false).read(world.ino, bytes.len()).await == bytes);
    });
}

#[test]
fn looking_is_due_by_number_or_by_bytes() {
    let record = |len| SliceRecord { pos: 0, id: 1, size: len, off: 0, len };
    let mut weight = Weight::default();
    weight.push(&[record(1000)]);
    assert!(!weight.matters());
    weight.push(&[record(1000); 3]);
    assert!(weight.matters() && !weight.is_due(), "four are few");
    weight.push(&[record(1000)]);
    assert!(weight.is_due(), "five times what it holds");
    weight.looked_at(&[record(1 << 20)]);
    weight.push(&[record(100); 99]);
    assert!(!weight.is_due());
    weight.push(&[record(100)]);
    assert!(weight.is_due() && !weight.is_full());
    weight.push(&[record(100); FULL_RECORDS]);
    assert!(weight.is_full());
    weight.shortened(999);
    assert!(!weight.is_full());
}

#[test]
fn a_mount_that_takes_no_changes_compacts_nothing() {
    on_each_engine("held", 0, async |world| {
        let mount = world.mount();
        for byte in 0..4 {
            mount.write(world.ino, 0, &[byte; BLOCK]).await;
        }
        let before = world.list(0).await;
        mount.meta.set_held(true);
        let file = mount.data.shared.file(world.ino);
        mount.data.compact_soon(&file, 0);
        assert!(mount.data.shared.compactions.state().running.is_empty(), "none begins");
        // Held while it was copying.
        assert_eq!(mount.data.compact(&file, 0).await, Looked::InVain);
        assert_eq!(world.list(0).await, before);
        mount.meta.set_held(false);
        assert_eq!(mount.compact_all(world.ino).await, Looked::Short);
        assert_eq!(world.list(0).await.len(), 1);
        assert_eq!(mount.read(world.ino, BLOCK).await, [3; BLOCK]);
    });
}

#[test]
fn the_end_of_the_mount_lets_none_begin() {
    on_each_engine("end", 0, async |world| {
        let (mount, mut chance) = (world.mount(), Chance::seeded(8));
        mount.data.end_compactions().await;
        let mut bytes = noise(&mut chance, BLOCK);
        mount.write(world.ino, 0, &bytes).await;
        for _ in 0..150 {
            scribble((world, &mount), &mut bytes, 100, &mut chance).await;
        }
        let shared = &mount.data.shared;
        assert_eq!(begin(shared, world.ino, 0).err(), Some(NotNow::Ending));
        assert_eq!(world.list(0).await.len(), 151);
        // One that was under way gives up, and removes what it has stored.
        let before = world.stored().await.0;
        assert_eq!(mount.compact_all(world.ino).await, Looked::InVain);
        uring::sleep(Duration::from_millis(20)).await;
        assert_eq!(world.stored().await.0, before);
        assert!(mount.read(world.ino, bytes.len()).await == bytes);
    });
}

/// Two stores in one: what is put for tier 1 has another name in front.
struct Marked(mem::MemStore, mem::MemStore);

impl Tiers for Marked {
    fn base(&self) -> Rc<dyn Store> {
        Rc::new(self.0.clone())
    }

    fn tier(&self, tier: u8) -> Rc<dyn Store> {
        if tier == 1 { Rc::new(self.1.clone()) } else { self.base() }
    }

    fn differ(&self) -> bool {
        true
    }
}

#[test]
fn what_is_merged_is_put_through_the_tier_the_file_is_in_by_then() {
    on_each_engine("tiers", 0, async |world| {
        let mount = world.mount();
        let marked = format!("{}-tier-1", world.store);
        mem::forget(&marked);
        let tiers = Rc::new(Marked(mem::open(&world.store), mem::open(&marked)));
        let shared = Arc::clone(&mount.data.shared);
        let slices = Rc::clone(&mount.meta) as Rc<_>;
        let mount = Mount { data: Data::with_tiers(slices, tiers, shared), ..mount };
        let (mut chance, mut bytes) = (Chance::seeded(5), vec![0; 200_000]);
        for _ in 0..12 {
            scribble((world, &mount), &mut bytes, 50_000, &mut chance).await;
        }
        let merged = async || {
            let store = mem::open(&marked);
            store.list("chunks/".into(), String::new(), 100).await.unwrap().len()
        };
        assert_eq!(merged().await, 0);
        let engine = (world.engine)();
        let found = engine.fetch(&[Key::Node(world.ino)]).await.unwrap();
        let [Value::Node(Some(node))] = &found[..] else { panic!("a node was asked for") };
        let moved = Mutation::PutNode(world.ino, Attr { tier: 1, ..node.clone() });
        engine.commit(Commit { mutations: vec![moved], ..Commit::default() }).await.unwrap();
        assert_eq!(mount.compact_all(world.ino).await, Looked::Short);
        let names = world.listed().await.len();
        assert_eq!(names, merged().await);
        assert!(names > 1, "{names} blocks");
        mem::forget(&marked);
    });
}
