//! What mounts leave and find: after a crash, after an end, and from the official client.

use super::*;

fn unpack(name: &str, into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let packed = fs::read(root.join("cache.tar.zst")).expect("a fixture");
    let tar = zstd::stream::decode_all(&packed[..]).expect("a frame");
    let mut child = Command::new("tar")
        .args(["-x", "-f", "-", "-C"])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &tar).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Blocks in the files of a fixture, as they must be served.
fn blocks(root: &Path, layout: Layout) -> BTreeMap<BlockKey, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.join("rawstaging")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(root.join("rawstaging")).unwrap().to_str().unwrap();
            let key = layout.parse(name).unwrap();
            found.insert(key, fs::read(&path).unwrap()[..key.size as usize].to_vec());
        }
    }
    found
}

fn taken_over(name: &str, uuid: &str, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    unpack(name, dir.path());
    let layout = Layout::new(64, false);
    let root = dir.path().join(uuid);
    let blocks = blocks(&root, layout);
    assert_eq!(blocks.len(), count);
    let staging = Staging::open(&config(&[dir.path()]), uuid, layout, None).unwrap();
    block_on(async {
        for (key, bytes) in &blocks {
            assert!(staging.standing(key).is_some(), "served at once: {key:?}");
            assert_eq!(&read(&staging, key).await.unwrap(), bytes);
        }
        walked(&staging).await;
        assert_eq!(staging.status().local_blocks + staging.status().logged_blocks, count as u64);
        staging.sync().await.unwrap();
        assert_eq!(staging.status().local_blocks, count as u64);
        assert!(staging.status().oldest_age_ms > 3_600_000, "the age is the file's");
        let mut uploaded = BTreeMap::new();
        while let Some(upload) = staging.next_upload() {
            uploaded.insert(upload.key, staging.load(&upload).await.unwrap().to_vec());
            assert!(staging.uploaded(&upload));
        }
        assert_eq!(uploaded, blocks);
    });
    assert!(self::blocks(&root, layout).is_empty());
}

#[test]
fn a_killed_official_client_is_taken_over() {
    taken_over("writeback-killed", UUID, 18);
}

#[test]
fn an_unmounted_official_client_is_taken_over() {
    taken_over("writeback-unmounted", "1058a53b-822f-4951-a7bf-57bb1421cb36", 13);
}

#[test]
fn a_tier_is_found_in_the_footer() {
    let dir = tempfile::tempdir().unwrap();
    let golden = b"abc\x36\x4b\x3f\xb7FS\x00\x10\x82\xA4tier\xCC\x01\xA3pad\xC4\x02\x00\x00";
    let key = key(4097, 3);
    let file = staged(dir.path(), &key);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, golden).unwrap();
    let staging = open(dir.path());
    block_on(walked(&staging));
    let upload = staging.next_upload().unwrap();
    assert_eq!((upload.key, upload.tier), (key, 1));
    assert_eq!(&*block_on(staging.load(&upload)).unwrap(), b"abc");
}

#[test]
fn all_that_was_kept_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Chance::seeded(5);
    let mut model = BTreeMap::new();
    for round in 0..6 {
        let staging = open(dir.path());
        block_on(async {
            for (key, bytes) in &model {
                assert_eq!(&read(&staging, key).await.unwrap(), bytes, "round {round}");
            }
            for step in 0..40 {
                let size = 1 + chance.below(LARGE as u64 * 3 / 2) as usize;
                let key = keep(&staging, round * 100 + step + 1, size).await.unwrap();
                model.insert(key, bytes(key.id, size));
            }
            for _ in 0..15 {
                let upload = staging.next_upload().unwrap();
                let bytes = staging.load(&upload).await.unwrap().to_vec();
                assert_eq!(Some(bytes), model.remove(&upload.key));
                assert!(staging.uploaded(&upload));
            }
            let keys: Vec<BlockKey> = model.keys().copied().collect();
            for key in keys.iter().filter(|key| key.id % 7 == 0) {
                assert_eq!(staging.remove(key), Removed::Dropped);
                model.remove(key);
            }
            if round % 2 == 1 {
                let status = staging.close().await;
                assert_eq!(status.local_blocks, model.len() as u64);
                assert_eq!(log_files(dir.path()), 0, "the log is gone");
                assert_eq!(blocks(&dir.path().join(UUID), layout()), model);
            }
        });
        // Dropped without an end is what a crash leaves.
    }
}

#[test]
fn a_block_in_log_and_file_is_uploaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    let key = block_on(keep(&staging, 1, 10)).unwrap();
    drop(staging);
    let file = staged(dir.path(), &key);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes(1, 10)).unwrap();
    let staging = open(dir.path());
    block_on(async {
        walked(&staging).await;
        let upload = staging.next_upload().unwrap();
        assert_eq!((upload.key, staging.next_upload()), (key, None));
        assert!(staging.uploaded(&upload) && !file.exists());
    });
    drop(staging);
    assert_eq!(open(dir.path()).next_upload(), None);
}

#[test]
fn a_block_is_as_old_after_the_end_of_a_mount_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    let (key, kept_ms) = (key(1, 10), 1_500_000_000_123);
    let pages = [Page::from_vec(bytes(1, 10))];
    let block = NewBlock { key, tier: 0, group: 1, pages: &pages, kept_ms: Some(kept_ms) };
    block_on(async {
        staging.keep(block).await.unwrap();
        staging.close().await;
    });
    drop(staging);
    let changed = fs::metadata(staged(dir.path(), &key)).unwrap().modified().unwrap();
    assert_eq!(changed, std::time::UNIX_EPOCH + Duration::from_millis(kept_ms));
    let staging = open(dir.path());
    block_on(walked(&staging));
    assert_eq!(staging.next_upload().unwrap().kept_ms, kept_ms);
}

#[test]
fn a_short_file_is_set_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(9, 10);
    let file = staged(dir.path(), &key);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, b"short").unwrap();
    fs::write(file.with_file_name("9_0_11.tmp"), b"half").unwrap();
    for _ in 0..2 {
        let staging = open(dir.path());
        block_on(walked(&staging));
        assert_eq!((staging.next_upload(), staging.standing(&key)), (None, None));
        let kept = dir.path().join(UUID).join("set-aside");
        assert_eq!(fs::read(kept.join("9_0_10")).unwrap(), b"short");
        assert_eq!(staging.status().lost_folders[0].0, kept.display().to_string());
        assert_eq!(staging.status().lost_folders[0].2, 1);
        assert!(!file.exists() && file.with_file_name("9_0_11.tmp").exists());
    }
}

#[test]
fn a_second_process_is_refused_and_one_that_takes_nothing_has_no_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    block_on(keep(&first, 1, 10)).unwrap();
    let again = Staging::open(&config(&[dir.path()]), UUID, layout(), None);
    let own = std::process::id();
    assert!(matches!(again, Err(StagingError::InUse { pid, .. }) if pid == own));
    let reads = StagingConfig { takes: false, ..config(&[dir.path()]) };
    let second = Staging::open(&reads, UUID, layout(), None).unwrap();
    assert_eq!((second.next_upload(), second.standing(&key(1, 10))), (None, None));
    drop((first, second));

    let second = Staging::open(&reads, UUID, layout(), None).unwrap();
    block_on(async {
        walked(&second).await;
        assert_eq!(keep(&second, 2, 10).await, Err(NotKept::NotWanted));
        assert!(Staging::open(&config(&[dir.path()]), UUID, layout(), None).is_err());
        let upload = second.next_upload().unwrap();
        assert_eq!(upload.key, key(1, 10));
        assert!(second.uploaded(&upload));
    });
    open(dir.path());
}

#[test]
fn a_mount_that_takes_nothing_and_finds_nothing_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reads = StagingConfig { takes: false, ..config(&[dir.path()]) };
    let staging = Staging::open(&reads, UUID, layout(), None).unwrap();
    assert_eq!((staging.next_upload(), staging.status()), (None, StagingStatus::default()));
    assert!(!dir.path().join(UUID).exists());
}

#[test]
fn what_was_found_is_brought_to_the_disk_when_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(UUID);
    let staging = open(dir.path());
    block_on(async {
        keep(&staging, 1, 10).await.unwrap();
        keep(&staging, 2, LARGE).await.unwrap();
    });
    drop(staging);
    let medium = medium::Os::new(root, 0o600, 0o700);
    let staging = Staging::on(&config(&[dir.path()]), layout(), medium).unwrap();
    let file = key(2, LARGE);
    assert_eq!(staging.standing(&file), Some(Standing::Logged));
    block_on(staging.sync()).unwrap();
    assert_eq!(staging.standing(&file), Some(Standing::Local));
    assert_eq!((staging.status().local_blocks, staging.status().logged_blocks), (2, 0));
}
