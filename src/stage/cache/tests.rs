//! The cache as its users see it, on real folders.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
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
    let config =
        CacheConfig { folders: CacheConfig::folders_from("memory").unwrap(), ..config(&[]) };
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
    let paths = |list| CacheConfig::folders_from(list).unwrap();
    assert_eq!(paths("/b:/a"), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths("/b,/a,/a"), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths("/a,b:/c"), [Path::new("/a,b"), Path::new("/c")]);
    assert_eq!(CacheConfig { file_mode: 0o640, ..CacheConfig::default() }.folder_mode(), 0o770);
}

/// A cache whose time the test moves.
fn open_with_clock(config: &CacheConfig) -> (Arc<BlockCache>, Clock) {
    let clock = Clock::default();
    (BlockCache::open_with(config, UUID, layout(), clock.clone()).unwrap(), clock)
}

const SPAN: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_least_recently_used_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk_bytes = 10 * 14_096;
    let config = CacheConfig { disk_bytes, eviction: Eviction::Lru, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    let keys: Vec<_> = (1..=8).map(|id| insert(&cache, id, 10_000)).collect();
    assert!(read(&cache, &keys[0]).is_some() && read(&cache, &keys[2]).is_some());
    for id in 9..=12 {
        insert(&cache, id, 10_000);
    }
    let here = |key: &BlockKey| path(dir.path(), key).exists();
    assert!(here(&keys[0]) && here(&keys[2]));
    assert!(!here(&keys[1]) && !here(&keys[3]) && cache.stats().evicts > 1);
}

#[test]
fn what_lies_on_disk_has_its_age_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let disk_bytes = 10 * 14_096;
    let config = CacheConfig { disk_bytes, eviction: Eviction::Lru, ..config(&[dir.path()]) };
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    let keys: Vec<_> = (1..=8).map(|id| insert(&cache, id, 10_000)).collect();
    drop(cache);
    let old = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH + SPAN);
    fs::File::open(path(dir.path(), &keys[5])).unwrap().set_times(old).unwrap();
    let cache = BlockCache::open(&config, UUID, layout()).unwrap();
    cache.settle();
    for id in 9..=11 {
        insert(&cache, id, 10_000);
    }
    assert!(!path(dir.path(), &keys[5]).exists());
}

#[test]
fn what_is_not_used_expires_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    // Without eviction too.
    let config = CacheConfig {
        expire: SPAN,
        eviction: Eviction::None,
        memory_bytes: 1 << 20,
        ..config(&[dir.path()])
    };
    let (cache, clock) = open_with_clock(&config);
    let (idle, read_often, hot) =
        (insert(&cache, 1, 1000), insert(&cache, 2, 1000), insert(&cache, 3, 1000));
    clock.advance(SPAN / 2);
    assert!(read(&cache, &read_often).is_some());
    assert!(cache.get(&hot).is_some(), "from memory; its copy on disk is as young");
    cache.settle();
    assert_eq!(cache.stats().disk_blocks, 3);
    clock.advance(SPAN / 2 + SECOND);
    cache.settle();
    let here = |key: &BlockKey| path(dir.path(), key).exists();
    assert!(!here(&idle) && here(&read_often) && here(&hot));
    let stats = cache.stats();
    assert_eq!((stats.disk_blocks, stats.evicts, stats.memory_blocks), (2, 1, 1));
}

#[test]
fn without_a_span_nothing_expires() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = open_with_clock(&config(&[dir.path()]));
    let key = insert(&cache, 1, 1000);
    clock.advance(1000 * SPAN);
    cache.settle();
    assert!(read(&cache, &key).is_some());
}

#[test]
fn a_later_scan_finds_what_others_did() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = open_with_clock(&config(&[dir.path()]));
    let keys: Vec<_> = (1..=20).map(|id| insert(&cache, id, 100)).collect();
    let folder = path(dir.path(), &keys[0]).parent().unwrap().to_owned();
    fs::copy(path(dir.path(), &keys[0]), folder.join("21_0_100")).unwrap();
    keys[..5].iter().for_each(|key| fs::remove_file(path(dir.path(), key)).unwrap());
    fs::hard_link(path(dir.path(), &keys[9]), dir.path().join("staged")).unwrap();
    cache.settle();
    assert!(read(&cache, &key(21, 100)).is_none(), "not known yet");
    clock.advance(SPAN);
    cache.settle();
    assert!(read(&cache, &key(21, 100)).is_some());
    assert_eq!(cache.stats().disk_blocks, 15, "and a staged one that does not count");
    assert_eq!(cache.stats().disk_bytes, 15 * 4196);
    assert!(read(&cache, &keys[9]).is_some());
    fs::remove_file(dir.path().join("staged")).unwrap();
    clock.advance(SPAN);
    cache.settle();
    assert_eq!(cache.stats().disk_blocks, 16, "it was uploaded");
}

#[test]
fn a_scan_is_no_use_of_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let config = CacheConfig { expire: 2 * SPAN, scan_interval: SPAN, ..config(&[dir.path()]) };
    let (cache, clock) = open_with_clock(&config);
    let key = insert(&cache, 1, 1000);
    clock.advance(SPAN);
    cache.settle();
    clock.advance(SPAN + SECOND);
    cache.settle();
    assert!(!path(dir.path(), &key).exists());
}

#[test]
fn without_an_interval_there_is_one_scan() {
    let dir = tempfile::tempdir().unwrap();
    let scan_interval = Duration::ZERO;
    let (cache, clock) = open_with_clock(&CacheConfig { scan_interval, ..config(&[dir.path()]) });
    let keys = [insert(&cache, 1, 100), insert(&cache, 2, 100)];
    fs::remove_file(path(dir.path(), &keys[0])).unwrap();
    clock.advance(100 * SPAN);
    cache.settle();
    assert_eq!(cache.stats().disk_blocks, 2);
}

#[test]
fn foreign_files_stay_and_empty_folders_go() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = open_with_clock(&config(&[dir.path()]));
    let key = insert(&cache, 1, 100);
    let folder = path(dir.path(), &key).parent().unwrap().to_owned();
    let raw = dir.path().join(UUID).join("raw");
    for name in ["README", "chunks/notes", "chunks/0/0/1_0", "chunks/0/0/x_0_100"] {
        fs::write(raw.join(name), b"mine").unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", folder.join("2_0_100")).unwrap();
    fs::create_dir(folder.join("3_0_100")).unwrap();
    fs::create_dir_all(raw.join("chunks/9/9000")).unwrap();
    let long_ago = std::time::UNIX_EPOCH;
    fs::File::open(raw.join("chunks/9/9000")).unwrap().set_modified(long_ago).unwrap();
    clock.advance(SPAN);
    cache.settle();
    assert_eq!(cache.stats().disk_blocks, 1);
    assert!(!raw.join("chunks/9/9000").exists() && raw.join("chunks/9").exists());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5);
    assert!(raw.join("README").exists() && raw.join("chunks/notes").exists());
    assert_eq!(read(&cache, &key).unwrap(), bytes(1, 100));
}

#[test]
fn a_disk_without_room_fails_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlockCache::open(&config(&[dir.path()]), UUID, layout()).unwrap();
    insert(&cache, 1, 1000);
    // What is written there meets ENOSPC.
    for id in 2..=9 {
        let file = path(dir.path(), &key(id, 1000));
        let temporary = file.with_file_name(format!("{id}_0_1000.tmp"));
        std::os::unix::fs::symlink("/dev/full", temporary).unwrap();
        let key = insert(&cache, id, 1000);
        assert!(read(&cache, &key).is_none() && !file.exists());
    }
    assert_eq!(cache.stats().drops, 8);
    let key = insert(&cache, 10, 1000);
    assert!(read(&cache, &key).is_some(), "a full disk is no broken one");
}

#[test]
fn a_disk_that_fails_rests_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = open_with_clock(&config(&[dir.path()]));
    let before = insert(&cache, 1, 1000);
    for id in 2..=4 {
        // Where the block would go lies a folder.
        fs::create_dir(path(dir.path(), &key(id, 1000))).unwrap();
        insert(&cache, id, 1000);
    }
    assert!(read(&cache, &before).is_none(), "three failures, then nothing is asked of it");
    let during = insert(&cache, 5, 1000);
    clock.advance(60 * SECOND);
    assert!(read(&cache, &before).is_some() && read(&cache, &during).is_none());
    let after = insert(&cache, 6, 1000);
    assert!(read(&cache, &after).is_some());
}

#[test]
fn a_folder_removed_while_mounted_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = open_with_clock(&config(&[dir.path()]));
    let keys: Vec<_> = (1..=10).map(|id| insert(&cache, id, 1000)).collect();
    let lock = dir.path().join(UUID).join(".lock");
    let identity = fs::read_to_string(&lock).unwrap();
    fs::remove_dir_all(dir.path().join(UUID)).unwrap();
    assert!(read(&cache, &keys[0]).is_none());
    clock.advance(2 * SECOND);
    let key = insert(&cache, 11, 1000);
    assert_eq!(read(&cache, &key).unwrap(), bytes(11, 1000));
    cache.settle();
    assert_eq!((cache.stats().disk_blocks, cache.stats().damaged), (1, 0));
    assert_eq!(fs::read_to_string(lock).unwrap(), identity);
}

#[test]
fn streams_pass_by_the_disk_when_only_parts_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let full = layout().block_bytes() as usize;
    for partial_only in [false, true] {
        let memory_bytes = 16 << 20;
        let config = CacheConfig { partial_only, memory_bytes, ..config(&[dir.path()]) };
        let cache = BlockCache::open(&config, UUID, layout()).unwrap();
        cache.insert_streamed(key(1, full), Page::from_vec(bytes(1, full)));
        cache.insert_streamed(key(2, 1000), Page::from_vec(bytes(2, 1000)));
        cache.insert(key(3, full), Page::from_vec(bytes(3, full)));
        cache.settle();
        assert!(cache.get(&key(1, full)).is_some(), "for the rest of the stream");
        let here = |key: &BlockKey| path(dir.path(), key).exists();
        assert_eq!(here(&key(1, full)), !partial_only);
        assert!(here(&key(2, 1000)) && here(&key(3, full)), "short ones, and those of pieces");
        cache.remove(&key(1, full));
    }
}

#[test]
fn a_pattern_without_a_folder_is_refused_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    ["disk1", "disk2"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
    let root = dir.path().to_str().unwrap();
    let folders = CacheConfig::folders_from(&format!("{root}/disk*/jfs:/other")).unwrap();
    let wanted = [dir.path().join("disk1/jfs"), dir.path().join("disk2/jfs"), "/other".into()];
    assert!(folders.iter().all(|folder| wanted.contains(folder)) && folders.len() == 3);
    let error = CacheConfig::folders_from(&format!("{root}/nvme*")).unwrap_err().to_string();
    assert!(error.contains("/nvme*") && error.contains("mount the disks"), "{error}");
}

#[test]
fn the_cache_is_shared_by_cores() {
    fn shared<T: Send + Sync>() {}
    shared::<BlockCache>();
}
