//! The whole floor against a table of slices and a store in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rustix::io::Errno;

use super::*;
use crate::meta::{Compaction, Local, MetaError, NewSlices, SizedSlice};
use crate::object::{Layout, Local as StoreLocal, ObjectInfo, StoreError, Tiers, mem};
use crate::pages::{PAGE_BYTES, Page, Pool};
use crate::stage::{BlockCache, CacheConfig, Compression};
use crate::types::{
    Attr, CHUNK_BYTES, FILE_BYTES_END, FileType, Ino, Publish, SliceId, SliceRecord, Time,
};
use crate::uring;

mod staged;

const INO: Ino = Ino(7);
const BLOCK: u64 = 64 << 10;

/// Slice lists in memory.
#[derive(Default)]
struct Table {
    next_id: Cell<SliceId>,
    chunks: RefCell<HashMap<(Ino, u32), Vec<SliceRecord>>>,
    pushed: RefCell<Vec<NewSlices>>,
    fetched: Cell<usize>,
    gone: Cell<bool>,
    tier: Cell<Option<u8>>,
    forgotten: Cell<bool>,
}

fn attr() -> Attr {
    Attr::new(FileType::File, 0o644, Time::default())
}

impl Slices for Table {
    fn takes_changes(&self) -> bool {
        true
    }

    fn next_slice_id(&self) -> Local<'_, Result<SliceId, MetaError>> {
        self.next_id.set(self.next_id.get() + 1);
        Box::pin(async { Ok(self.next_id.get()) })
    }

    fn tier(&self, _: Ino) -> Local<'_, Result<u8, MetaError>> {
        Box::pin(async { self.tier.get().ok_or(MetaError::Posix(Errno::NOENT)) })
    }

    fn length(&self, _: Ino) -> Local<'_, Result<u64, MetaError>> {
        Box::pin(async { unreachable!("nothing is staged here") })
    }

    fn listed_chunks(&self, _: Ino, _: u64) -> Local<'_, Result<Vec<u32>, MetaError>> {
        Box::pin(async { unreachable!("nothing is staged here") })
    }

    fn chunk(&self, ino: Ino, chunk: u32) -> Local<'_, Result<Vec<SliceRecord>, MetaError>> {
        self.fetched.set(self.fetched.get() + 1);
        Box::pin(async move {
            uring::sleep(std::time::Duration::from_micros(100)).await;
            Ok(self.chunks.borrow().get(&(ino, chunk)).cloned().unwrap_or_default())
        })
    }

    fn push(&self, slices: NewSlices) -> Local<'_, Result<Attr, MetaError>> {
        Box::pin(async move {
            if self.gone.get() {
                return Err(Errno::NOENT.into());
            }
            uring::sleep(std::time::Duration::from_micros(100)).await;
            self.pushed.borrow_mut().push(slices.clone());
            let mut chunks = self.chunks.borrow_mut();
            chunks.entry((slices.ino, slices.chunk)).or_default().extend(slices.records);
            Ok(attr())
        })
    }

    fn compact(
        &self,
        ino: Ino,
        chunk: u32,
        compaction: Compaction,
        id: SliceId,
    ) -> Local<'_, Result<Option<Vec<SizedSlice>>, MetaError>> {
        let _ = (ino, chunk, compaction, id);
        unreachable!("these tests do not compact; compaction.rs has its own")
    }

    fn drop_chunks(&self, _: Vec<(Ino, u64)>) -> Local<'_, Result<Vec<(SliceId, u32)>, MetaError>> {
        let records: Vec<_> = self.chunks.borrow_mut().drain().flat_map(|(_, list)| list).collect();
        Box::pin(async move { Ok(records.iter().map(|record| (record.id, record.size)).collect()) })
    }

    fn forget_slices(
        &self,
        _: Vec<(Ino, u64)>,
        _: Vec<(SliceId, u32)>,
    ) -> Local<'_, Result<(), MetaError>> {
        self.forgotten.set(true);
        Box::pin(async { Ok(()) })
    }
}

/// A store that is slow by chance of the key, and fails when told to.
struct Slow {
    inner: mem::MemStore,
    puts_left: Cell<usize>,
    gets: Cell<usize>,
    /// Deletes that are going on, and the most there were at a time.
    deletes: Cell<(usize, usize)>,
}

impl Store for Slow {
    fn put(&self, key: String, body: Vec<Page>) -> StoreLocal<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let wait = key.bytes().map(u64::from).sum::<u64>() % 7 * 50;
            uring::sleep(std::time::Duration::from_micros(wait)).await;
            if self.puts_left.get() == 0 {
                return Err(StoreError::Refused("told to".into()));
            }
            self.puts_left.set(self.puts_left.get() - 1);
            self.inner.put(key, body).await
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> StoreLocal<'_, Result<(Vec<u8>, usize), StoreError>> {
        self.gets.set(self.gets.get() + 1);
        self.inner.get(key, offset, into)
    }

    fn delete(&self, key: String) -> StoreLocal<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (now, most) = self.deletes.get();
            self.deletes.set((now + 1, most.max(now + 1)));
            uring::sleep(std::time::Duration::from_micros(50)).await;
            let (now, most) = self.deletes.get();
            self.deletes.set((now - 1, most));
            self.inner.delete(key).await
        })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> StoreLocal<'_, Result<Vec<ObjectInfo>, StoreError>> {
        self.inner.list(prefix, start_after, limit)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// Stores for files in tier 0 and in tier 2.
struct TwoTiers([mem::MemStore; 2]);

impl Tiers for TwoTiers {
    fn base(&self) -> Rc<dyn Store> {
        Rc::new(self.0[0].clone())
    }

    fn tier(&self, tier: u8) -> Rc<dyn Store> {
        Rc::new(self.0[usize::from(tier == 2)].clone())
    }

    fn differ(&self) -> bool {
        true
    }
}

struct World {
    table: Rc<Table>,
    store: Rc<Slow>,
    data: Rc<Data>,
}

impl World {
    fn new(pool_bytes: usize, compression: Compression) -> Self {
        Self::with_cache(pool_bytes, compression, None)
    }

    fn with_memory(pool_bytes: usize, compression: Compression) -> Self {
        let config = CacheConfig { memory_bytes: 4 << 20, ..CacheConfig::default() };
        let cache = BlockCache::open(&config, "data", Layout::new(64, false)).expect("memory only");
        Self::with_cache(pool_bytes, compression, Some(cache))
    }

    fn with_cache(
        pool_bytes: usize,
        compression: Compression,
        cache: Option<Arc<BlockCache>>,
    ) -> Self {
        Self::with_all(pool_bytes, compression, cache, 10)
    }

    fn with_all(
        pool_bytes: usize,
        compression: Compression,
        cache: Option<Arc<BlockCache>>,
        deletes: usize,
    ) -> Self {
        let name = format!("data-{:?}", std::thread::current().id());
        mem::forget(&name);
        let inner = mem::open(&name);
        let store = Rc::new(Slow {
            inner,
            puts_left: Cell::new(usize::MAX),
            gets: Cell::new(0),
            deletes: Cell::default(),
        });
        let table = Rc::new(Table::default());
        let shared = DataShared::new(DataConfig {
            layout: Layout::new(64, false),
            compression,
            encrypted: false,
            cache,
            cache_large_writes: false,
            pool: Pool::new(pool_bytes),
            uploads: 8,
            downloads: 8,
            deletes,
            tries: 3,
            max_readahead_bytes: 1 << 20,
            prefetch: 1,
            compacts: false,
            staging: None,
            publish: Publish::Local,
        });
        let data = Data::new(table.clone(), store.clone(), shared);
        Self { table, store, data }
    }

    /// Another mount of the same volume.
    fn again(&self, cache: &Arc<BlockCache>) -> Self {
        let fresh = Self::with_cache(1 << 20, Compression::None, Some(Arc::clone(cache)));
        let (table, store) = (Rc::clone(&self.table), Rc::clone(&self.store));
        let data = Data::new(table.clone(), store.clone(), Arc::clone(&fresh.data.shared));
        Self { table, store, data }
    }

    async fn read(&self, offset: u64, len: u64, length: u64) -> Vec<u8> {
        self.data.read(INO, offset, len, length).await.expect("readable").concat_bytes()
    }

    async fn objects(&self) -> usize {
        self.store.list(String::new(), String::new(), 100_000).await.expect("a list").len()
    }

    async fn settle(&self) {
        uring::sleep(std::time::Duration::from_millis(5)).await;
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<Page> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|page| page.to_vec()).collect()
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: usize },
    Read { offset: u64, len: u64 },
    Flush,
    Invalidate,
    Pause,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let near_border = prop_oneof![0u64..400_000, (CHUNK_BYTES - 200_000)..(CHUNK_BYTES + 200_000),];
    let step = prop_oneof![
        6 => (near_border.clone(), 1usize..150_000)
            .prop_map(|(offset, len)| Step::Write { offset, len }),
        5 => (near_border, 1u64..300_000).prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Invalidate),
        1 => Just(Step::Pause),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A file as sparse 4 KiB pieces, so that 64 MiB of nothing cost nothing.
#[derive(Default)]
struct Model {
    pieces: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

impl Model {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            let at = offset + n as u64;
            self.pieces.entry(at / 4096).or_insert_with(|| vec![0; 4096])[at as usize % 4096] =
                *byte;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = (offset + len).min(self.length);
        (offset..end.max(offset))
            .map(|at| self.pieces.get(&(at / 4096)).map_or(0, |piece| piece[at as usize % 4096]))
            .collect()
    }
}

async fn equals_the_model(steps: Vec<Step>, world: World) {
    let mut model = Model::default();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write { offset, len } => {
                let bytes = noise(n as u64, len);
                let length = world.data.write(INO, offset, &bytes, model.length).await;
                model.write(offset, &bytes);
                assert_eq!(length.expect("written"), model.length);
            }
            Step::Read { offset, len } => {
                assert!(world.read(offset, len, model.length).await == model.read(offset, len));
            }
            Step::Flush => {
                world.data.flush(INO).await.expect("flushed");
                assert_eq!(world.data.pending(INO), None);
            }
            Step::Invalidate => world.data.invalidate(INO),
            Step::Pause => world.settle().await,
        }
    }
    world.data.flush(INO).await.expect("flushed");
    world.data.invalidate(INO);
    for offset in [0, CHUNK_BYTES - 200_000] {
        assert!(world.read(offset, 800_000, model.length).await == model.read(offset, 800_000));
    }
    assert_eq!(world.data.shared.flying(), 0);
    world.data.delete_files(vec![(INO, model.length)]).await.expect("deleted");
    assert!(world.table.forgotten.get());
    assert_eq!(world.objects().await, 0);
    assert_eq!(world.data.shared.config.pool.used_pages(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn reads_equal_a_plain_file(steps in steps()) {
        uring::block_on(equals_the_model(steps, World::new(2 << 20, Compression::None)));
    }

    #[test]
    fn reads_equal_a_plain_file_when_cached(steps in steps()) {
        uring::block_on(equals_the_model(steps, World::with_memory(2 << 20, Compression::None)));
    }

    #[test]
    fn reads_equal_a_plain_file_when_compressed(steps in steps()) {
        uring::block_on(equals_the_model(steps, World::with_memory(2 << 20, Compression::Lz4)));
    }
}

#[test]
fn a_small_pool_bounds_a_large_write() {
    let world = World::new(8 << 20, Compression::None);
    uring::block_on(async {
        let mut length = 0;
        let bytes = noise(1, 1 << 20);
        for n in 0..64u64 {
            length = world.data.write(INO, n << 20, &bytes, length).await.expect("written");
        }
        world.data.flush(INO).await.expect("flushed");
        assert_eq!(world.table.pushed.borrow().len(), 1);
        assert_eq!(world.read(10 << 20, 1 << 20, length).await, bytes);
        assert_eq!(world.objects().await as u64, (64 << 20) / BLOCK);
    });
}

#[test]
fn many_small_open_files_do_not_block_each_other() {
    let world = World::new(8 * PAGE_BYTES, Compression::None);
    uring::block_on(async {
        for n in 0..100 {
            world.data.write(Ino(100 + n), 0, b"small", 0).await.expect("written");
        }
        for n in 0..100 {
            world.data.flush(Ino(100 + n)).await.expect("flushed");
        }
        assert_eq!(world.objects().await, 100);
    });
}

#[test]
fn one_small_file_is_one_object_and_one_commit() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        assert_eq!(world.data.write(INO, 0, b"hello", 0).await, Ok(5));
        let pending = world.data.pending(INO).expect("dirty");
        assert_eq!(pending.length_end, 5);
        world.data.set_pending_mtime(INO, Time { sec: 9, nsec: 1 });
        world.data.flush(INO).await.expect("flushed");
        let pushed = world.table.pushed.borrow().clone();
        let record = SliceRecord { pos: 0, id: 1, size: 5, off: 0, len: 5 };
        let mtime = Time { sec: 9, nsec: 1 };
        let slices = NewSlices { ino: INO, chunk: 0, records: vec![record], mtime };
        assert_eq!(pushed, [slices]);
        assert!(world.data.take_committed_attr(INO).is_some());
        assert!(world.data.take_committed_attr(INO).is_none());
        assert_eq!(world.objects().await, 1);
        assert_eq!(world.read(0, 100, 5).await, b"hello");
        assert_eq!(world.table.fetched.get(), 0, "a list is known by who made it");
    });
}

#[test]
fn a_flush_given_up_anywhere_is_finished_by_the_next() {
    for patience in (0..1500).step_by(25) {
        let world = World::new(1 << 20, Compression::None);
        uring::block_on(async {
            let bytes = noise(patience, 150_000);
            world.data.write(INO, 0, &bytes, 0).await.expect("taken");
            let patience = std::time::Duration::from_micros(patience);
            let first = uring::timeout(patience, world.data.flush(INO)).await;
            assert!(matches!(first, Ok(Ok(())) | Err(_)));
            world.data.flush_all().await.expect("flushed");
            assert_eq!((world.data.pending(INO), world.data.shared.flying()), (None, 0));
            world.data.invalidate(INO);
            assert!(world.read(0, 150_000, 150_000).await == bytes);
        });
    }
}

#[test]
fn the_tick_takes_up_what_was_given_up() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        uring::spawn(Rc::clone(&world.data).tick());
        world.data.write(INO, 0, b"given up", 0).await.expect("taken");
        let none = std::time::Duration::ZERO;
        let first = uring::timeout(none, world.data.flush(INO)).await;
        assert!(first.is_err());
        uring::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(world.table.pushed.borrow().len(), 1);
    });
}

#[test]
fn a_failing_store_is_told_until_the_file_is_forgotten() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        world.store.puts_left.set(1);
        let bytes = noise(1, 3 * BLOCK as usize);
        world.data.write(INO, 0, &bytes, 0).await.expect("taken");
        let told = world.data.flush(INO).await.expect_err("lost");
        assert_eq!(told.errno(), Errno::IO);
        assert_eq!(world.data.flush(INO).await, Err(told.clone()));
        assert_eq!(world.data.write(INO, 0, b"x", 0).await, Err(told));
        world.settle().await;
        assert_eq!(world.objects().await, 0, "blocks of a lost slice are removed");
        assert!(world.table.pushed.borrow().is_empty());
        world.data.forget_file(INO);
        world.store.puts_left.set(usize::MAX);
        world.data.write(INO, 0, b"x", 0).await.expect("a new life");
        world.data.flush(INO).await.expect("flushed");
    });
}

#[test]
fn objects_of_a_file_that_is_gone_are_removed() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        world.table.gone.set(true);
        world.data.write(INO, 0, b"too late", 0).await.expect("taken");
        assert_eq!(world.data.flush(INO).await, Err(DataError::Posix(Errno::NOENT)));
        world.settle().await;
        assert_eq!(world.objects().await, 0);
        world.data.forget_file(INO);
        world.data.write(INO, 0, &noise(1, 200_000), 0).await.expect("taken");
        world.data.discard(INO);
        assert_eq!(world.data.flush(INO).await, Ok(()));
        world.settle().await;
        assert_eq!((world.objects().await, world.data.pending(INO)), (0, None));
    });
}

/// What `work` puts into the log.
fn logged(work: impl FnOnce()) -> String {
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::clone(&file)).finish();
    tracing::subscriber::with_default(log, work);
    let mut text = String::new();
    (&*file).rewind().expect("a file is rewound");
    (&*file).read_to_string(&mut text).expect("a log is text");
    text
}

#[test]
fn a_file_that_went_meanwhile_is_no_error_in_the_log() {
    let log = logged(|| {
        let world = World::new(1 << 20, Compression::None);
        uring::block_on(async {
            world.table.gone.set(true);
            world.data.write(INO, 0, b"too late", 0).await.expect("taken");
            assert_eq!(world.data.flush(INO).await, Err(DataError::Posix(Errno::NOENT)));
        });
    });
    assert!(log.contains("WARN") && log.contains("removed meanwhile"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn slices_commit_in_order_and_growth_has_no_gaps() {
    let world = World::new(4 << 20, Compression::None);
    uring::block_on(async {
        let mut length = 0;
        for n in [3u64, 1, 0, 2, 1, 3, 0] {
            // Far apart pieces of two chunks, newest not highest.
            for base in [0, CHUNK_BYTES] {
                let offset = base + n * 300_000;
                length = world.data.write(INO, offset, &noise(n, 70_000), length).await.unwrap();
            }
        }
        world.data.flush(INO).await.expect("flushed");
        let pushed = world.table.pushed.borrow();
        for chunk in [0, 1] {
            let slices = pushed.iter().filter(|slices| slices.chunk == chunk);
            let order: Vec<_> = slices
                .flat_map(|slices| &slices.records)
                .map(|record| record.pos / 300_000)
                .collect();
            assert_eq!(order, [3, 1, 0, 2, 1, 3, 0]);
        }
        assert_eq!(pushed[0].chunk, 0, "the first growth is the first committed");
        assert!(pushed.len() < 14, "what is ready together is committed together");
    });
}

#[test]
fn idle_slices_are_sealed_by_the_tick() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        uring::spawn(Rc::clone(&world.data).tick());
        world.data.write(INO, 0, b"left alone", 0).await.expect("taken");
        uring::sleep(std::time::Duration::from_millis(1500)).await;
        assert_eq!(world.table.pushed.borrow().len(), 1);
        assert_eq!(world.data.pending(INO), None);
    });
}

#[test]
fn a_compacted_chunk_is_read_by_its_new_list() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        world.data.write(INO, 0, b"first", 0).await.expect("taken");
        world.data.flush(INO).await.expect("flushed");
        assert_eq!(world.read(0, 5, 5).await, b"first");
        // Another client writes the same bytes as slice 50 and removes slice 1.
        let record = SliceRecord { pos: 0, id: 50, size: 5, off: 0, len: 5 };
        world.table.chunks.borrow_mut().insert((INO, 0), vec![record]);
        let name = |id| Layout::new(64, false).name(Layout::new(64, false).block(id, 5, 0));
        let body = vec![Page::from_vec(b"first".to_vec())];
        world.store.put(name(50), body).await.expect("stored");
        world.store.delete(name(1)).await.expect("deleted");
        assert_eq!(world.read(0, 5, 5).await, b"first");
        world.store.delete(name(50)).await.expect("deleted");
        let lost = world.data.read(INO, 0, 5, 5).await.expect_err("nothing there");
        assert_eq!(lost.errno(), Errno::IO);
    });
}

#[test]
fn a_sequential_reader_finds_its_blocks_near_and_none_is_fetched_twice() {
    let world = World::with_memory(8 << 20, Compression::None);
    uring::block_on(async {
        let bytes = noise(3, 2 << 20);
        world.data.write(INO, 0, &bytes, 0).await.expect("taken");
        world.data.flush(INO).await.expect("flushed");
        for offset in (0..2u64 << 20).step_by(16 << 10) {
            let read = world.read(offset, 16 << 10, 2 << 20).await;
            assert!(read == bytes[offset as usize..][..16 << 10]);
        }
        assert_eq!(world.store.gets.get() as u64, (2 << 20) / BLOCK);
        let pages = world.data.read(INO, 0, 1 << 20, 2 << 20).await.expect("readable");
        assert_eq!(pages.len() as u64, (1 << 20) / BLOCK, "one piece per cached block");
        assert_eq!(world.store.gets.get() as u64, (2 << 20) / BLOCK);
    });
}

#[test]
fn a_random_read_fetches_its_bytes_and_then_the_block() {
    let world = World::with_memory(8 << 20, Compression::None);
    uring::block_on(async {
        let bytes = noise(3, 2 << 20);
        world.data.write(INO, 0, &bytes, 0).await.expect("taken");
        world.data.flush(INO).await.expect("flushed");
        let read = world.read(1_500_000, 4096, 2 << 20).await;
        assert!(read == bytes[1_500_000..][..4096]);
        world.settle().await;
        let gets = world.store.gets.get();
        let again = world.read(1_504_096, 100, 2 << 20).await;
        assert!(again == bytes[1_504_096..][..100]);
        assert_eq!((gets, world.store.gets.get()), (2, 2));
    });
}

#[test]
fn a_small_written_file_is_read_back_without_the_store() {
    let world = World::with_memory(1 << 20, Compression::Lz4);
    uring::block_on(async {
        world.data.write(INO, 0, b"near", 0).await.expect("taken");
        world.data.flush(INO).await.expect("flushed");
        assert_eq!(world.read(0, 4, 4).await, b"near");
        assert_eq!(world.store.gets.get(), 0);
    });
}

#[test]
fn damaged_lists_are_an_error_not_a_crash() {
    let world = World::new(1 << 20, Compression::None);
    let record = SliceRecord { pos: 0, id: 50, size: 5, off: 3, len: 5 };
    world.table.chunks.borrow_mut().insert((INO, 0), vec![record]);
    uring::block_on(async {
        let error = world.data.read(INO, 0, 5, 5).await.expect_err("impossible");
        assert_eq!(error.errno(), Errno::IO);
    });
}

#[test]
fn the_end_of_all_files_is_too_large() {
    let world = World::new(1 << 20, Compression::None);
    uring::block_on(async {
        let far = world.data.write(INO, FILE_BYTES_END - 1, b"x", 0).await;
        assert_eq!(far, Err(DataError::TooLarge));
        assert_eq!(world.data.write(INO, u64::MAX, b"xx", 0).await, Err(DataError::TooLarge));
    });
}

/// A cache in a folder.
fn cache_in(dir: &tempfile::TempDir, partial_only: bool, memory_bytes: u64) -> Arc<BlockCache> {
    let config = CacheConfig {
        folders: vec![dir.path().to_path_buf()],
        free_space_ratio: 0.0,
        memory_bytes,
        partial_only,
        ..CacheConfig::default()
    };
    BlockCache::open(&config, "data", Layout::new(64, false)).expect("a cache")
}

/// Until so many blocks lie on disk; a test that hangs here has lost one.
async fn until_on_disk(world: &World, cache: &BlockCache, blocks: u64) {
    while cache.stats().disk_blocks != blocks {
        world.settle().await;
    }
}

#[test]
fn with_parts_only_a_stream_fills_no_disk_and_random_reads_do() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let caches = dirs.each_ref().map(|dir| cache_in(dir, true, 1 << 20));
    let world = World::with_cache(8 << 20, Compression::None, Some(Arc::clone(&caches[0])));
    let length = 8 * BLOCK + 100;
    let bytes = noise(3, length as usize);
    uring::block_on(async {
        world.data.write(INO, 0, &bytes, 0).await.expect("written");
        world.data.flush(INO).await.expect("flushed");
        until_on_disk(&world, &caches[0], 1).await;
        for offset in (0..4 * BLOCK).step_by(16_384) {
            let read = world.read(offset, 16_384, length).await;
            assert!(read == bytes[offset as usize..][..16_384]);
        }
        // The stream is read ahead of; what that brings does not go to disk either.
        world.settle().await;
        assert_eq!(caches[0].stats().writes, 1, "the short last block");
        let gets = world.store.gets.get();
        assert!(gets <= 9, "each block once: {gets}");

        let again = world.again(&caches[1]);
        let offset = 5 * BLOCK + 30_000;
        assert!(again.read(offset, 1000, length).await == bytes[offset as usize..][..1000]);
        until_on_disk(&again, &caches[1], 1).await;
    });
}

#[test]
fn a_damaged_cached_block_is_read_from_the_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = cache_in(&dir, false, 0);
    let world = World::with_cache(1 << 20, Compression::None, Some(Arc::clone(&cache)));
    let bytes = noise(4, 1000);
    uring::block_on(async {
        world.data.write(INO, 0, &bytes, 0).await.expect("written");
        world.data.flush(INO).await.expect("flushed");
        until_on_disk(&world, &cache, 1).await;
        assert!(world.read(0, 1000, 1000).await == bytes);
        assert_eq!(world.store.gets.get(), 0);
        let objects = world.store.list(String::new(), String::new(), 10).await.expect("a list");
        let file = dir.path().join("data/raw").join(&objects[0].key);
        let mut damaged = std::fs::read(&file).expect("a cached block");
        damaged[500] ^= 1;
        std::fs::write(&file, damaged).expect("damaged");
        assert!(world.read(0, 1000, 1000).await == bytes);
        assert_eq!((cache.stats().damaged, world.store.gets.get()), (1, 1));
    });
}

#[test]
fn cores_share_files_and_wake_each_other() {
    let shared = DataShared::new(DataConfig {
        layout: Layout::new(64, false),
        compression: Compression::None,
        encrypted: false,
        cache: None,
        cache_large_writes: false,
        pool: Pool::new(16 * PAGE_BYTES),
        uploads: 2,
        downloads: 2,
        deletes: 10,
        tries: 3,
        max_readahead_bytes: 0,
        prefetch: 0,
        compacts: false,
        staging: None,
        publish: Publish::Local,
    });
    let inner = mem::open("data-cores");
    let done = Arc::new(AtomicUsize::new(0));
    let cores: Vec<_> = (0..4u64)
        .map(|core| {
            let (shared, inner, done) = (Arc::clone(&shared), inner.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let table = Rc::new(Table::default());
                table.next_id.set(core * 1_000_000);
                let store = Rc::new(Slow {
                    inner,
                    puts_left: Cell::new(usize::MAX),
                    gets: Cell::new(0),
                    deletes: Cell::default(),
                });
                let data = Data::new(table, store, shared);
                uring::block_on(async {
                    for n in 0..50 {
                        let offset = (n * 4 + core) * 50_000;
                        data.write(INO, offset, &noise(core, 50_000), 0).await.expect("written");
                    }
                    data.flush(INO).await.expect("flushed");
                    // A core may carry what others wait for: it leaves when all are done.
                    done.fetch_add(1, Ordering::SeqCst);
                    while done.load(Ordering::SeqCst) < 4 {
                        uring::sleep(std::time::Duration::from_millis(1)).await;
                    }
                });
            })
        })
        .collect();
    cores.into_iter().for_each(|core| core.join().expect("no core panics"));
    assert_eq!((shared.flying(), shared.config.pool.used_pages()), (0, 0));
}

#[test]
fn blocks_are_put_through_the_tier_of_their_file() {
    let world = World::new(1 << 20, Compression::None);
    let stores = ["tier-0", "tier-2"].map(|name| {
        mem::forget(name);
        mem::open(name)
    });
    let tiers = Rc::new(TwoTiers(stores.clone()));
    let shared = Arc::clone(&world.data.shared);
    let data = Data::with_tiers(world.table.clone(), tiers, shared);
    let count = async |store: &mem::MemStore| {
        store.list(String::new(), String::new(), 10).await.expect("a list").len()
    };
    uring::block_on(async {
        // The last one: the file is gone.
        for (number, tier) in [Some(0), Some(2), Some(1), None].into_iter().enumerate() {
            world.table.tier.set(tier);
            let at = number as u64 * BLOCK;
            data.write(INO, at, &noise(at, BLOCK as usize), at).await.expect("written");
            data.flush(INO).await.expect("stored");
        }
        assert_eq!([count(&stores[0]).await, count(&stores[1]).await], [3, 1]);
    });
}

#[test]
fn no_more_objects_are_removed_at_a_time_than_allowed() {
    for (deletes, most, left) in [(0, 0, 40), (1, 1, 0), (3, 3, 0)] {
        let world = World::with_all(4 << 20, Compression::None, None, deletes);
        uring::block_on(async {
            for number in 0..4 {
                let (at, len) = (number * 10 * BLOCK, 10 * BLOCK);
                world.data.write(INO, at, &noise(at, len as usize), at).await.expect("written");
                world.data.flush(INO).await.expect("stored");
            }
            assert_eq!(world.objects().await, 40);
            world.data.delete_files(vec![(INO, 40 * BLOCK)]).await.expect("removed");
            assert_eq!((world.store.deletes.get(), world.objects().await), ((0, most), left));
            assert!(world.table.forgotten.get(), "the file is off the queue");
        });
    }
}
