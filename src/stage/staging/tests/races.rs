//! Cores and mounts that are at the same block, log or folder at once.

use super::*;

#[test]
fn a_block_that_two_cores_append_anew_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let staging = open(dir.path());
    let key = block_on(keep(&staging, 1, 10)).unwrap();
    let copied = staging.slot(&key).unwrap();
    staging.held.renew(0, &copied).unwrap();
    let moved = staging.slot(&key).unwrap().home();
    assert!(moved != copied.home());
    staging.held.renew(0, &copied).unwrap();
    assert!(staging.slot(&key).unwrap().home() == moved, "it is appended once");
    drop(staging);
    let next = open(dir.path());
    assert_eq!(block_on(read(&next, &key)).expect("it is not lost"), bytes(1, 10));
}

#[test]
fn a_block_that_was_removed_is_not_appended_anew() {
    for in_hand in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let staging = open(dir.path());
        let key = block_on(keep(&staging, 1, 10)).unwrap();
        let copied = staging.slot(&key).unwrap();
        assert!(!in_hand || staging.next_upload().is_some());
        let removed = if in_hand { Removed::Flying } else { Removed::Dropped };
        assert_eq!(staging.remove(&key), removed);
        let read = staging.held.renew(0, &copied);
        assert!(read.is_ok(), "its segment is still there: {read:?}");
        drop(staging);
        assert_eq!(open(dir.path()).next_upload(), None, "in hand: {in_hand}");
    }
}

#[test]
fn a_mount_that_gave_its_folder_up_leaves_the_next_one_s_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    block_on(keep(&first, 1, 10)).unwrap();
    drop(first);
    let reads = StagingConfig { takes: false, ..config(&[dir.path()]) };
    let reader = Staging::open(&reads, UUID, layout(), None).unwrap();
    block_on(async {
        let upload = reader.next_upload().unwrap();
        assert!(reader.uploaded(&upload));
        let writer = opened_soon(dir.path()).await;
        assert_eq!(log_files(dir.path()), 0, "the log went before the lock");
        let key = keep(&writer, 2, 10).await.unwrap();
        reader.sync().await.unwrap();
        reader.close().await;
        drop(reader);
        assert_eq!(log_files(dir.path()), 1);
        assert_eq!(read(&writer, &key).await.unwrap(), bytes(2, 10));
        drop(writer);
        let next = open(dir.path());
        assert_eq!(read(&next, &key).await.expect("it is not lost"), bytes(2, 10));
    });
}

#[test]
fn nobody_waits_for_room_when_the_mount_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = StagingConfig { max_bytes: 100, ..config(&[dir.path()]) };
    let staging = Staging::open(&config, UUID, layout(), None).unwrap();
    block_on(async {
        keep(&staging, 1, 60).await.unwrap();
        let writer = Arc::clone(&staging);
        spawn(async move {
            keep(&writer, 2, 60).await.unwrap();
        });
        sleep(Duration::from_millis(5)).await;
        assert_eq!(staging.standing(&key(2, 60)), None, "it waits");
        staging.end_limits();
        sleep(Duration::from_millis(5)).await;
        assert!(staging.standing(&key(2, 60)).is_some());
        keep(&staging, 3, 60).await.unwrap();
    });
}
