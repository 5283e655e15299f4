//! Disks that fail, are full or lie, and what becomes of blocks on them.

use super::*;

fn damage(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn damaged_blocks_are_not_served_and_not_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let staging = Staging::open(&config(&[dir.path()]), UUID, layout(), Some(cache)).unwrap();
    block_on(async {
        let large = keep(&staging, 1, LARGE).await.unwrap();
        damage(&staged(dir.path(), &large), 50_000);
        assert_eq!(read(&staging, &large).await, None);
        assert!(staging.read(&large, 0, 100).await.is_some(), "another piece");
        let upload = staging.next_upload().unwrap();
        let words = staging.load(&upload).await.unwrap_err();
        assert!(words.contains("checksum"), "{words}");
        staging.upload_failed(&upload, &words);
        assert_eq!(staging.status().failed_blocks, 1);
        assert!(staged(dir.path(), &large).exists(), "never deleted");

        let small = keep(&staging, 2, 1000).await.unwrap();
        let log = fs::read_dir(dir.path().join(UUID).join("log")).unwrap().next().unwrap().unwrap();
        let all = fs::read(log.path()).unwrap();
        let at = all.windows(100).position(|part| part == &bytes(2, 1000)[..100]).unwrap();
        damage(&log.path(), at as u64 + 500);
        assert_eq!(read(&staging, &small).await, None);
        let upload = staging.next_upload().unwrap();
        assert!(staging.load(&upload).await.unwrap_err().contains("checksum"));
        assert!(staging.status().lost_folders.is_empty(), "damage is not a broken disk");
    });
}

#[test]
fn a_folder_that_fails_is_taken_out_and_another_one_used() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = config(&[dirs[0].path(), dirs[1].path()]);
    let staging = Staging::open(&config, UUID, layout(), None).unwrap();
    block_on(async {
        let small = keep(&staging, 1, 10).await.unwrap();
        staging.sync().await.unwrap();
        let late = keep(&staging, 2, 10).await.unwrap();
        staging.held.lose(0, "Input/output error (os error 5)");
        let error = staging.sync().await.unwrap_err().to_string();
        assert!(error.contains("os error 5"), "what was not on its disk is not promised: {error}");
        assert_eq!(staging.standing(&small), Some(Standing::Local));
        let lost = staging.status().lost_folders;
        let name = dirs[0].path().join(UUID).display().to_string();
        assert_eq!(lost, [(name, "Input/output error (os error 5)".to_owned(), 2)]);
        for id in 3..20 {
            let key = keep(&staging, id, if id % 2 == 0 { 10 } else { LARGE }).await.unwrap();
            assert!(!staged(dirs[0].path(), &key).exists());
        }
        assert_eq!((log_files(dirs[0].path()), log_files(dirs[1].path())), (1, 1));
        for key in [small, late] {
            let upload = staging.next_upload().unwrap();
            assert_eq!(upload.key, key, "what is on the lost folder goes first");
            assert_eq!(staging.load(&upload).await.unwrap().to_vec(), bytes(key.id, 10));
            assert!(staging.uploaded(&upload));
        }
        staging.sync().await.unwrap();
        assert_eq!(staging.status().logged_blocks, 0);
    });
}

#[test]
fn without_any_folder_blocks_go_to_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    staging.held.lose(0, "gone");
    block_on(async {
        for size in [10, LARGE] {
            assert_eq!(keep(&staging, 1, size).await, Err(NotKept::Failed("gone".to_owned())));
        }
        assert_eq!(staging.status().counted.errors, 2);
        assert!(staging.note(1, b"x").is_err());
        staging.sync().await.unwrap();
    });
}

#[test]
fn a_disk_without_its_free_part_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = StagingConfig { free_space_ratio: 1.99, ..config(&[dir.path()]) };
    let staging = Staging::open(&config, UUID, layout(), None).unwrap();
    block_on(async {
        for size in [10, LARGE] {
            assert_eq!(keep(&staging, 1, size).await, Err(NotKept::NoRoom));
        }
        assert_eq!(staging.status().counted.errors, 2);
    });
}

#[test]
fn a_file_nobody_waited_for_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut staging = open(dir.path());
    Arc::get_mut(&mut staging).unwrap().patience = Duration::from_millis(20);
    let large = key(1, 3 * LARGE);
    let (release, held_up) = crossbeam_channel::bounded::<()>(0);
    block_on(async {
        let aside = staging.aside.as_ref().unwrap();
        let _busy: Vec<_> = (0..2)
            .map(|_| {
                let held_up = held_up.clone();
                aside.run(move || held_up.recv()).unwrap()
            })
            .collect();
        let kept = keep(&staging, 1, 3 * LARGE).await;
        assert_eq!(kept, Err(NotKept::Failed("the disk is too slow".to_owned())));
    });
    drop(release);
    drop(staging);
    assert!(dir_of_it_is_empty(&staged(dir.path(), &large)), "it was written, and went");
    assert!(!raw(dir.path(), &large).exists());
}

/// The directory of a file is there, and empty.
fn dir_of_it_is_empty(file: &Path) -> bool {
    fs::read_dir(file.parent().unwrap()).unwrap().next().is_none()
}
