//! The staging area as its users see it, on real folders.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::limits::STAGING_LOG_BLOCK_BYTES_MAX;
use crate::object::{BlockKey, Layout};
use crate::pages::Page;
use crate::stage::cache::{BlockCache, CacheConfig};
use crate::stdx::Chance;
use crate::uring::{block_on, sleep, spawn, timeout};

mod faults;
mod leftovers;
mod races;

const UUID: &str = "7244b18c-6760-41ef-8dcf-3d072497e827";
const LARGE: usize = STAGING_LOG_BLOCK_BYTES_MAX as usize + 1;

fn layout() -> Layout {
    Layout::new(4096, false)
}

fn config(folders: &[&Path]) -> StagingConfig {
    StagingConfig {
        folders: folders.iter().map(|path| path.to_path_buf()).collect(),
        takes: true,
        threshold_bytes: 0,
        max_bytes: 0,
        max_writes: 1000,
        upload_delay: Duration::ZERO,
        upload_hours: None,
        upload_deadline: Duration::ZERO,
        free_space_ratio: 0.0,
        file_mode: 0o600,
        checksums: true,
    }
}

fn cache(dir: &Path) -> Arc<BlockCache> {
    let config = CacheConfig {
        folders: vec![dir.to_path_buf()],
        memory_bytes: 0,
        free_space_ratio: 0.0,
        ..CacheConfig::default()
    };
    BlockCache::open(&config, UUID, layout()).unwrap()
}

fn open(dir: &Path) -> Arc<Staging> {
    Staging::open(&config(&[dir]), UUID, layout(), None).unwrap()
}

fn key(id: u64, size: usize) -> BlockKey {
    BlockKey { id, index: 0, size: size as u32 }
}

fn bytes(id: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64 * 7 + id) as u8).collect()
}

async fn keep(staging: &Staging, id: u64, size: usize) -> Result<BlockKey, NotKept> {
    keep_in(staging, id, size, 0).await
}

async fn keep_in(staging: &Staging, id: u64, size: usize, tier: u8) -> Result<BlockKey, NotKept> {
    let all = Page::from_vec(bytes(id, size));
    let cut = size / 3;
    let pages = [all.piece(0, cut), all.piece(cut, size - cut)];
    let key = key(id, size);
    staging
        .keep(NewBlock { key, tier, group: id, pages: &pages, kept_ms: None })
        .await
        .map(|()| key)
}

async fn read(staging: &Staging, key: &BlockKey) -> Option<Vec<u8>> {
    staging.read(key, 0, key.size).await.map(|page| page.to_vec())
}

/// Wait until all that earlier mounts left has been found.
async fn walked(staging: &Staging) {
    timeout(Duration::from_secs(10), async {
        while staging.held.is_walking() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

/// The area of a folder, once a mount that takes nothing has given it up.
async fn opened_soon(dir: &Path) -> Arc<Staging> {
    timeout(Duration::from_secs(10), async {
        loop {
            if let Ok(staging) = Staging::open(&config(&[dir]), UUID, layout(), None) {
                return staging;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is given up")
}

fn staged(dir: &Path, key: &BlockKey) -> PathBuf {
    dir.join(UUID).join("rawstaging").join(layout().name(*key))
}

fn raw(dir: &Path, key: &BlockKey) -> PathBuf {
    dir.join(UUID).join("raw").join(layout().name(*key))
}

fn log_files(dir: &Path) -> usize {
    fs::read_dir(dir.join(UUID).join("log")).map_or(0, Iterator::count)
}

#[test]
fn small_blocks_go_into_the_log_and_large_ones_into_files() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    block_on(async {
        let small = keep(&staging, 1, LARGE - 1).await.unwrap();
        let large = keep(&staging, 2, LARGE).await.unwrap();
        assert!(!staged(dir.path(), &small).exists() && staged(dir.path(), &large).exists());
        for key in [small, large] {
            assert_eq!(read(&staging, &key).await.unwrap(), bytes(key.id, key.size as usize));
            let part = staging.read(&key, 70_001, 9).await.unwrap();
            assert_eq!(*part, bytes(key.id, key.size as usize)[70_001..70_010]);
            staging.sync().await.unwrap();
            assert_eq!(staging.standing(&key), Some(Standing::Local));
        }
        let status = staging.status();
        assert_eq!((status.local_blocks, status.local_bytes), (2, 2 * LARGE as u64 - 1));
        assert_eq!(status.counted.write_bytes, 2 * LARGE as u64 - 1);
        assert!(status.counted.syncs >= 2 && status.counted.sync_waiters == 2);
    });
}

#[test]
fn files_are_those_of_the_official_client() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    block_on(async {
        let key = keep_in(&staging, 1, LARGE, 1).await.unwrap();
        let file = staged(dir.path(), &key);
        let stored = fs::read(&file).unwrap();
        assert_eq!(stored[..LARGE], bytes(1, LARGE));
        let sums = crate::stage::cache::checksum::sums(&bytes(1, LARGE));
        assert_eq!(stored[LARGE..LARGE + 20], sums);
        assert_eq!(&stored[LARGE + 20..], b"FS\x00\x10\x82\xA4tier\xCC\x01\xA3pad\xC4\x02\x00\x00");
        let info = fs::metadata(&file).unwrap();
        assert_eq!((info.permissions().mode() & 0o777, info.nlink()), (0o600, 2));
        assert_eq!(fs::metadata(raw(dir.path(), &key)).unwrap().ino(), info.ino());
        let folder = fs::metadata(file.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    });
}

#[test]
fn an_uploaded_file_is_cache_without_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let staging =
        Staging::open(&config(&[dir.path()]), UUID, layout(), Some(Arc::clone(&cache))).unwrap();
    block_on(async {
        let key = keep(&staging, 1, LARGE).await.unwrap();
        assert_eq!(read(&staging, &key).await.unwrap(), bytes(1, LARGE));
        assert_eq!(
            (cache.stats().disk_hits, cache.stats().disk_blocks),
            (1, 0),
            "staged ones do not count"
        );
        let upload = staging.next_upload().unwrap();
        assert_eq!((upload.key, upload.failures), (key, 0));
        assert_eq!(staging.next_upload(), None, "nobody gets it twice");
        assert_eq!(staging.load(&upload).await.unwrap().to_vec(), bytes(1, LARGE));
        let inode = fs::metadata(staged(dir.path(), &key)).unwrap().ino();
        assert!(staging.uploaded(&upload));
        assert_eq!(fs::metadata(raw(dir.path(), &key)).unwrap().ino(), inode);
        assert!(!staged(dir.path(), &key).exists());
        assert_eq!((staging.standing(&key), cache.stats().disk_blocks), (None, 1));
        assert_eq!(cache.read(&key, 0, key.size).await.unwrap().to_vec(), bytes(1, LARGE));
        assert_eq!((staging.status().counted.uploaded, staging.status().local_blocks), (1, 0));
    });
}

#[test]
fn what_is_removed_is_never_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    block_on(async {
        for size in [10, LARGE] {
            let gone = keep(&staging, 1, size).await.unwrap();
            assert_eq!(staging.remove(&gone), Removed::Dropped);
            assert_eq!((staging.remove(&gone), staging.standing(&gone)), (Removed::Unknown, None));
            assert_eq!((staging.next_upload(), read(&staging, &gone).await), (None, None));
            let flies = keep(&staging, 2, size).await.unwrap();
            let upload = staging.next_upload().unwrap();
            assert_eq!((staging.remove(&flies), staging.standing(&flies)), (Removed::Flying, None));
            assert!(!staging.uploaded(&upload), "the object is nobody's");
            let failed = keep(&staging, 3, size).await.unwrap();
            let upload = staging.next_upload().unwrap();
            assert_eq!(staging.remove(&failed), Removed::Flying);
            staging.upload_failed(&upload, "away");
            for key in [gone, flies, failed] {
                assert!(!staged(dir.path(), &key).exists() && !raw(dir.path(), &key).exists());
            }
        }
        assert_eq!((staging.status().counted.spared, staging.status().counted.uploaded), (6, 0));
        assert_eq!(staging.held.lock().bytes, 0);
        staging.sync().await.unwrap();
    });
    drop(staging);
    let staging = open(dir.path());
    block_on(walked(&staging));
    assert_eq!(staging.next_upload(), None);
}

#[test]
fn what_is_removed_in_hand_does_not_come_back_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    block_on(async {
        for (id, size) in [(1, 10), (2, LARGE)] {
            let key = keep(&staging, id, size).await.unwrap();
            let upload = staging.next_upload().unwrap();
            assert_eq!(staging.remove(&key), Removed::Flying);
            assert!(!staged(dir.path(), &key).exists() && !raw(dir.path(), &key).exists());
            assert_eq!(staging.load(&upload).await.is_err(), size == LARGE);
        }
    });
    drop(staging);
    let staging = open(dir.path());
    block_on(walked(&staging));
    assert_eq!(staging.next_upload(), None);
}

#[test]
fn failed_uploads_are_listed_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    block_on(async {
        let key = keep(&staging, 1, 10).await.unwrap();
        let upload = staging.next_upload().unwrap();
        staging.upload_failed(&upload, "the bucket is away");
        assert_eq!(staging.next_upload(), None);
        let status = staging.status();
        assert_eq!((status.failed_blocks, status.failed[0].key), (1, key));
        assert_eq!(
            (status.failed[0].failures, &*status.failed[0].reason),
            (1, "the bucket is away")
        );
        assert!(status.failed[0].retry_in_ms <= 1000);
        assert_eq!(status.last_error.unwrap().0, "the bucket is away");
        assert_eq!(staging.retry(), 1);
        assert_eq!(staging.next_upload().unwrap().failures, 1);
    });
}

#[test]
fn some_blocks_are_not_wanted_here() {
    let dir = tempfile::tempdir().unwrap();
    let config = StagingConfig { threshold_bytes: 1000, max_writes: 1, ..config(&[dir.path()]) };
    let staging = Staging::open(&config, UUID, layout(), None).unwrap();
    block_on(async {
        assert_eq!(keep(&staging, 1, 1000).await, Err(NotKept::NotWanted));
        keep(&staging, 1, 999).await.unwrap();
        staging.held.lock().counts.writing = 1;
        assert_eq!(keep(&staging, 2, 10).await, Err(NotKept::Busy));
        assert_eq!(staging.status().counted.errors, 0, "as with the official client");
    });
}

#[test]
fn writers_wait_at_the_limit_and_what_is_delayed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let config = StagingConfig { max_bytes: 100, upload_delay: hour, ..config(&[dir.path()]) };
    let staging = Staging::open(&config, UUID, layout(), None).unwrap();
    block_on(async {
        keep(&staging, 1, 60).await.unwrap();
        assert_eq!(staging.next_upload(), None);
        let ticket = staging.gate().ticket();
        let writer = Arc::clone(&staging);
        spawn(async move {
            keep(&writer, 2, 60).await.unwrap();
        });
        staging.gate().wait(ticket).await;
        let upload = staging.next_upload().unwrap();
        assert_eq!(staging.standing(&key(2, 60)), None);
        sleep(Duration::from_millis(5)).await;
        assert!(staging.uploaded(&upload));
        timeout(hour, async {
            while staging.standing(&key(2, 60)).is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        assert!(staging.status().counted.waited_ms >= 4);
        assert_eq!(staging.next_upload(), None, "nobody waits any more");
        staging.hurry(&[key(2, 60)]);
        let upload = staging.next_upload().unwrap();
        assert!(staging.uploaded(&upload));
        keep(&staging, 3, 200).await.expect("one that is larger than the limit goes alone");
    });
}

#[test]
fn notes_come_back_until_they_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    for tag in 1..=3 {
        staging.note(tag, format!("first {tag}").as_bytes()).unwrap();
    }
    staging.note(2, b"second").unwrap();
    staging.forget_note(3);
    assert!(staging.take_notes().is_empty());
    block_on(staging.close());
    drop(staging);
    let staging = open(dir.path());
    let notes = staging.take_notes();
    assert_eq!(notes, [(1, b"first 1".to_vec()), (2, b"second".to_vec())]);
    assert!(staging.take_notes().is_empty());
    staging.forget_note(1);
    staging.forget_note(2);
    block_on(staging.close());
    assert_eq!(log_files(dir.path()), 0);
}
