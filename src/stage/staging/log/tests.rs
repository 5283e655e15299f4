//! The log on files of the system; crashes are in `crash`.

use std::path::Path;

use super::super::medium::Os;
use super::*;
use crate::uring::block_on;

fn open(dir: &Path, segment_bytes: u32) -> (Log<Os>, Vec<Found>) {
    let medium = Arc::new(Os::new(dir.to_path_buf(), 0o600, 0o700));
    let mut found = Vec::new();
    let log = Log::open(medium, segment_bytes, &mut |one| found.push(one)).unwrap();
    (log, found)
}

fn key(id: u64, size: u32) -> BlockKey {
    BlockKey { id, index: 1, size }
}

fn append(log: &Log<Os>, id: u64, bytes: &[u8]) -> Place {
    let pages = [Page::from_vec(bytes.to_vec())];
    let key = key(id, bytes.len() as u32);
    log.append(&Record::Block { key, tier: 3, group: 7, kept_ms: 11, pages: &pages }).unwrap()
}

#[test]
fn what_is_appended_is_found_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, found) = open(dir.path(), 64 << 20);
    assert!(found.is_empty() && log.tail() == 0 && log.holding_up().is_none());
    assert!(!dir.path().join("log").exists(), "a log is made with its first record");
    let place = append(&log, 1, b"123456789");
    log.append(&Record::Note { tag: 5, bytes: b"note" }).unwrap();
    log.append(&Record::Note { tag: 4, bytes: b"older" }).unwrap();
    log.append(&Record::Note { tag: 4, bytes: b"other" }).unwrap();
    log.append(&Record::NoteGone { tag: 5 }).unwrap();
    log.append(&Record::Gone { key: key(9, 9) }).unwrap();
    let mut bytes = [0; 4];
    log.read(place, key(1, 9), 3, &mut bytes).unwrap();
    assert_eq!(&bytes, b"4567");
    let error = log.read(place, key(2, 9), 3, &mut bytes).unwrap_err();
    assert!(error.to_string().contains("log/0000000001"), "{error}");
    block_on(log.sync(log.tail())).unwrap();
    assert_eq!((log.tail(), log.synced(), log.counts().rounds), (6, 6, 1));
    drop(log);

    let (log, found) = open(dir.path(), 64 << 20);
    let block = Found::Block { key: key(1, 9), tier: 3, group: 7, kept_ms: 11, place };
    let note = Found::Note { tag: 4, bytes: b"other".to_vec() };
    assert_eq!(found, [block, Found::Gone { key: key(9, 9) }, note]);
    let mut bytes = [0; 9];
    log.read(place, key(1, 9), 0, &mut bytes).unwrap();
    assert_eq!((&bytes, log.tail()), (b"123456789", 6));
}

#[test]
fn a_segment_and_its_index_are_those_of_the_page_of_formats() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), 64 << 10);
    append(&log, 1, b"123456789");
    drop(log);
    drop(open(dir.path(), 64 << 10));
    let bytes = std::fs::read(dir.path().join("log/0000000001")).unwrap();
    assert_eq!(bytes.len(), 64 << 10);
    let record = &bytes[64..128];
    assert_eq!(&bytes[128..137], b"123456789");
    assert_eq!(bytes[137 + 4], 6, "the index follows the last record");
    assert_eq!(&bytes[137 + 64..137 + 128], record);
    assert!(bytes[137 + 128..].iter().all(|byte| *byte == 0));
}

#[test]
fn many_segments_are_opened_by_their_indices() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), 16 << 10);
    let places: Vec<_> = (1..=500).map(|id| append(&log, id, &[id as u8; 300])).collect();
    block_on(log.sync(log.tail())).unwrap();
    // What follows tells that all before was synced.
    append(&log, 501, b"x");
    drop(log);
    assert!(places.last().unwrap().segment > 10);
    let (log, found) = open(dir.path(), 16 << 10);
    assert_eq!(found.len(), 501);
    for (at, place) in places.iter().enumerate() {
        let mut bytes = [0; 300];
        log.read(*place, key(at as u64 + 1, 300), 0, &mut bytes).unwrap();
        assert_eq!(bytes, [(at + 1) as u8; 300]);
    }
    for place in &places {
        log.release(*place, 300);
    }
    assert_eq!(log.holding_up(), None, "the only block that is left is in the newest segment");
    block_on(log.sync(log.tail())).unwrap();
    assert!(std::fs::read_dir(dir.path().join("log")).unwrap().count() <= 2);
    block_on(log.destroy()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("log")).unwrap().count(), 0);
    append(&log, 502, b"after that it begins anew");
    drop(log);
    assert_eq!(open(dir.path(), 16 << 10).1.len(), 1);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), 4096);
    let first = append(&log, 1, &[1; 100]);
    let large = append(&log, 2, &[2; 10_000]);
    let next = append(&log, 3, &[3; 100]);
    assert!(first.segment < large.segment && large.segment < next.segment);
    drop(log);
    let (log, found) = open(dir.path(), 4096);
    assert_eq!(found.len(), 3);
    let mut bytes = vec![0; 10_000];
    log.read(large, key(2, 10_000), 0, &mut bytes).unwrap();
    assert_eq!(bytes, [2; 10_000]);
}

#[test]
fn a_later_form_is_refused_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), 4096);
    append(&log, 1, b"x");
    drop(log);
    let path = dir.path().join("log/0000000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[12] = 2;
    let sum = format::sum(&[&bytes[4..64]]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let medium = Arc::new(Os::new(dir.path().to_path_buf(), 0o600, 0o700));
    let error = Log::open(medium, 4096, &mut |_| ()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("later version") && error.contains("mount again"), "{error}");
}
