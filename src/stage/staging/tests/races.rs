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
