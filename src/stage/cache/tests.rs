//! The cache as its users see it, on real folders.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::object::{BlockKey, Layout};
use crate::pages::Page;
use crate::uring::block_on;

const UUID: &str = "7244b18c-6760-41ef-8dcf-3d072497e827";

fn layout() -> Layout {
    Layout::new(4096, false)
}

fn config(folders: &[&Path]) -> CacheConfig {
    CacheConfig {
        folders: folders.iter().map(|path| path.to_path_buf()).collect(),
        memory_bytes: 0,
        free_space_ratio: 0.0,
        ..CacheConfig::default()
    }
}

fn key(id: u64, size: usize) -> BlockKey {
    BlockKey { id, index: 0, size: size as u32 }
}

fn bytes(id: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64 * 7 + id) as u8).collect()
}

fn insert(cache: &BlockCache, id: u64, size: usize) -> BlockKey {
    cache.insert(key(id, size), Page::from_vec(bytes(id, size)));
    cache.settle();
    key(id, size)
}

fn read(cache: &BlockCache, key: &BlockKey) -> Option<Vec<u8>> {
    block_on(cache.read(key, 0, key.size)).map(|page| page.to_vec())
}

fn path(dir: &Path, key: &BlockKey) -> PathBuf {
    dir.join(UUID).join("raw").join(layout().name(*key))
}

#[test]
fn files_are_those_of_juicefs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlockCache::open(&config(&[dir.path()]), UUID, layout()).unwrap();
    let key = insert(&cache, 1, 9);
    cache.insert(BlockKey { id: 2, index: 0, size: 9 }, Page::from_vec(b"123456789".to_vec()));
    cache.settle();
    let file = dir.path().join(UUID).join("raw/chunks/0/0/2_0_9");
    assert_eq!(fs::read(&file).unwrap(), b"123456789\xE3\x06\x92\x83");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = fs::metadata(file.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    let lock = fs::read_to_string(dir.path().join(UUID).join(".lock")).unwrap();
    assert_eq!((lock.len(), lock.matches('-').count()), (36, 4));
    assert_eq!(read(&cache, &key).unwrap(), bytes(1, 9));
}

#[test]
fn a_block_of_the_real_client_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let block = BlockKey { id: 2, index: 3, size: 3392 };
    let file = path(dir.path(), &block);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let stored = include_bytes!("../../../tests/fixtures/cached_2_3_3392");
    fs::write(&file, stored).unwrap();
    let cache = BlockCache::open(&config(&[dir.path()]), UUID, layout()).unwrap();
    assert_eq!(read(&cache, &block).unwrap(), stored[..3392]);
    cache.settle();
    assert_eq!((cache.stats().disk_blocks, cache.stats().damaged), (1, 0));
}

#[test]
fn parts_of_large_blocks_are_read_at_every_level() {
    let size = (1 << 20) + 77;
    for verify in [Verify::None, Verify::Full, Verify::Shrink, Verify::Extend] {
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig { verify, ..config(&[dir.path()]) };
        let cache = BlockCache::open(&config, UUID, layout()).unwrap();
        let key = insert(&cache, 1, size);
        for (offset, len) in [(0, size), (5, 10), (32_767, 2), (size - 1, 1), (70_000, 400_000)] {
            let page = block_on(cache.read(&key, offset as u32, len as u32)).unwrap();
            assert!(*page == bytes(1, size)[offset..offset + len], "{verify:?} {offset} {len}");
        }
    }
}

#[test]
fn a_damaged_block_is_removed_and_missed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlockCache::open(&config(&[dir.path()]), UUID, layout()).unwrap();
    let key = insert(&cache, 1, 100_000);
    let file = path(dir.path(), &key);
    fs::File::options().write(true).open(&file).unwrap().write_at(b"!!", 50_000).unwrap();
    assert!(block_on(cache.read(&key, 0, 100)).is_some(), "another piece");
    assert!(block_on(cache.read(&key, 40_000, 100)).is_none(), "widened to the damaged piece");
    assert!(!file.exists());
    assert_eq!((cache.stats().damaged, cache.stats().disk_blocks), (1, 0));
    let key = insert(&cache, 2, 100_000);
    fs::File::options().write(true).open(path(dir.path(), &key)).unwrap().set_len(99_999).unwrap();
    assert!(read(&cache, &key).is_none(), "too short");
    assert_eq!(cache.stats().damaged, 2);
}

#[test]
fn a_file_that_vanished_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlockCache::open(&config(&[dir.path()]), UUID, layout()).unwrap();
    let key = insert(&cache, 1, 1000);
    fs::remove_file(path(dir.path(), &key)).unwrap();
    assert!(read(&cache, &key).is_none());
    assert_eq!((cache.stats().disk_blocks, cache.stats().damaged), (0, 0));
}

#[test]
fn the_size_bound_holds() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = CacheConfig { disk_bytes: 10 * 14_096, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&bounded, UUID, layout()).unwrap();
    for id in 1..=40 {
        insert(&cache, id, 10_000);
        assert!(cache.stats().disk_bytes <= bounded.disk_bytes);
    }
    let stats = cache.stats();
    assert!(stats.disk_blocks >= 7 && stats.evicts >= 30 && stats.drops == 0, "{stats:?}");
    let folder = path(dir.path(), &key(1, 1)).parent().unwrap().to_owned();
    assert_eq!(fs::read_dir(folder).unwrap().count() as u64, stats.disk_blocks);
}

#[test]
fn without_eviction_new_blocks_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let eviction = Eviction::None;
    let bounded = CacheConfig { disk_bytes: 3 * 14_096, eviction, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&bounded, UUID, layout()).unwrap();
    let first = insert(&cache, 1, 10_000);
    for id in 2..=10 {
        insert(&cache, id, 10_000);
    }
    assert!(cache.stats().disk_blocks <= 3 && cache.stats().drops >= 7);
    assert!(read(&cache, &first).is_some());
}

#[test]
fn a_disk_that_is_too_full_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = CacheConfig { free_space_ratio: 1.0, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&full, UUID, layout()).unwrap();
    let key = insert(&cache, 1, 1000);
    assert!(read(&cache, &key).is_none());
    assert_eq!((cache.stats().disk_blocks, cache.stats().drops), (0, 1));
}

#[test]
fn the_next_mount_finds_blocks_and_sweeps_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&[dir.path()]);
    let kept = insert(&BlockCache::open(&config, UUID, layout()).unwrap(), 1, 1000);
    let folder = path(dir.path(), &kept).parent().unwrap().to_owned();
    fs::write(folder.join("7_0_50"), b"short").unwrap();
    fs::write(folder.join("8_0_50.tmp"), b"half").unwrap();
    let old = fs::File::options().write(true).open(folder.join("8_0_50.tmp")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    let staged = key(9, 4);
    fs::write(folder.join("9_0_4"), b"safe").unwrap();
    fs::hard_link(folder.join("9_0_4"), dir.path().join("staged")).unwrap();

    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    cache.settle();
    assert_eq!(cache.stats().disk_blocks, 1);
    assert_eq!(read(&cache, &kept).unwrap(), bytes(1, 1000));
    assert_eq!(read(&cache, &staged).unwrap(), b"safe");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
}

#[test]
fn several_folders_share_and_a_misplaced_block_is_found() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(&[first.path(), second.path()]);
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    let keys: Vec<_> = (1..=40).map(|id| insert(&cache, id, 100)).collect();
    assert!(keys.iter().all(|key| read(&cache, key).unwrap() == bytes(key.id, 100)));
    let here =
        |dir: &tempfile::TempDir| keys.iter().filter(|key| path(dir.path(), key).exists()).count();
    let counts = (here(&first), here(&second));
    assert!(counts.0 > 0 && counts.1 > 0 && counts.0 + counts.1 == 40, "{counts:?}");
    drop(cache);

    let moved = keys.iter().find(|key| path(first.path(), key).exists()).unwrap();
    fs::create_dir_all(path(second.path(), moved).parent().unwrap()).unwrap();
    fs::copy(path(first.path(), moved), path(second.path(), moved)).unwrap();
    fs::remove_file(path(first.path(), moved)).unwrap();
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    cache.settle();
    assert!(read(&cache, moved).is_some());
}

#[test]
fn removed_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let config = CacheConfig { memory_bytes: 1 << 20, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    let key = insert(&cache, 1, 1000);
    assert_eq!(*cache.get(&key).unwrap(), bytes(1, 1000));
    cache.remove(&key);
    cache.settle();
    assert!(cache.get(&key).is_none() && read(&cache, &key).is_none());
    assert!(!path(dir.path(), &key).exists());
}

#[test]
fn memory_alone_is_enough() {
    let config = CacheConfig { folders: CacheConfig::folders_from("memory"), ..config(&[]) };
    let config = CacheConfig { memory_bytes: 1 << 20, ..config };
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    cache.insert_copy(key(1, 4), &[Page::from_vec(b"ab".to_vec()), Page::from_vec(b"cd".to_vec())]);
    assert_eq!(*cache.get(&key(1, 4)).unwrap(), *b"abcd");
    assert!(read(&cache, &key(1, 4)).is_none());
}

#[test]
fn an_unwritable_folder_is_refused_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for wrong in [file.as_path(), Path::new("/proc/jfs-cache")] {
        let error = BlockCache::open(&config(&[wrong]), UUID, layout()).err().unwrap().to_string();
        assert!(error.contains(&wrong.display().to_string()), "{error}");
        assert!(error.contains("chown") && error.contains("--cache-dir"), "{error}");
    }
}

#[test]
fn folders_are_written_as_juicefs_has_them() {
    let paths = |list| CacheConfig::folders_from(list);
    assert_eq!(paths("/b:/a"), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths("/b,/a,/a"), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths("/a,b:/c"), [Path::new("/a,b"), Path::new("/c")]);
    assert_eq!(CacheConfig { file_mode: 0o640, ..CacheConfig::default() }.folder_mode(), 0o770);
}

#[test]
fn the_cache_is_shared_by_cores() {
    fn shared<T: Send + Sync>() {}
    shared::<BlockCache>();
}
