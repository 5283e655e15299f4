//! Listing directories while they change.

use std::collections::HashMap;

use jfs_uring::types::{FileType, Ino};
use jfs_uring::vfs::op::{Op, SetAttr};

use crate::world::*;

#[test]
fn a_listing_has_every_name_once_and_the_dots() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let mut expected = Vec::new();
        for number in 0..300 {
            let name = format!("file-{number:03}");
            m.put(dir, name.as_bytes(), b"").await;
            expected.push(name);
        }
        assert_eq!(m.names(dir).await, expected);
        let handle = m.opendir(dir).await;
        let entries = m.readdir(dir, handle, 0, 100, false).await;
        assert_eq!((&*entries[0].name, entries[0].ino), (&b"."[..], dir));
        assert_eq!((&*entries[1].name, entries[1].ino), (&b".."[..], Ino::ROOT));
        assert!(entries.len() < 5, "no more than fit");
    });
}

#[test]
fn names_neither_repeat_nor_vanish_while_the_directory_changes() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        for number in 0..100 {
            m.put(dir, format!("{number:02}").as_bytes(), b"").await;
        }
        let handle = m.opendir(dir).await;
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut offset = 0;
        // As rm -r does: remove what was listed, list on.
        loop {
            let entries = m.readdir(dir, handle, offset, 400, false).await;
            let Some(last) = entries.last() else { break };
            offset = last.next_offset;
            for entry in entries.iter().filter(|entry| entry.kind == FileType::File) {
                *seen.entry(entry.name.to_vec()).or_default() += 1;
                m.unlink(dir, &entry.name).await;
            }
            if seen.len() < 30 {
                m.put(dir, format!("new-{}", seen.len()).as_bytes(), b"").await;
            }
        }
        assert!(seen.values().all(|count| *count == 1));
        assert!((0..100).all(|number| seen.contains_key(format!("{number:02}").as_bytes())));
        m.ok(Op::Rmdir { dir: Ino::ROOT, name: (*b"d").into() }).await;
    });
}

#[test]
fn removed_names_are_not_listed_and_added_ones_are() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        for name in [b"a", b"b", b"c"] {
            m.put(dir, name, b"").await;
        }
        let handle = m.opendir(dir).await;
        let first = m.readdir(dir, handle, 0, 64, false).await;
        m.unlink(dir, b"b").await;
        m.mkdir(dir, b"e").await;
        m.rename(dir, b"c", dir, b"z").await;
        let offset = first.last().unwrap().next_offset;
        let rest = m.readdir(dir, handle, offset, 4096, false).await;
        let names: Vec<&[u8]> = rest.iter().map(|entry| &*entry.name).collect();
        assert!(!names.contains(&&b"b"[..]) && !names.contains(&&b"c"[..]));
        assert!(names.contains(&&b"e"[..]) && names.contains(&&b"z"[..]));
        // rewinddir sees it all anew.
        let again = m.readdir(dir, handle, 0, 4096, false).await;
        assert_eq!(again.len(), 2 + 3);
    });
}

#[test]
fn attributes_come_with_names_unless_they_changed_since() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let a = m.put(dir, b"a", b"1234").await;
        let b = m.put(dir, b"b", b"").await;
        let handle = m.opendir(dir).await;
        let dots = m.readdir(dir, handle, 0, 320, true).await;
        assert_eq!(dots.len(), 2);
        m.setattr(b, SetAttr { mode: Some(0o600), ..SetAttr::default() }).await;
        let entries = m.readdir(dir, handle, 2, 4096, true).await;
        let plus = |ino| entries.iter().find(|entry| entry.ino == ino).unwrap().plus.as_ref();
        assert_eq!(plus(a).unwrap().attr.length, 4);
        assert!(plus(a).unwrap().attr_ttl_ns > 0);
        assert!(plus(b).is_none(), "stale attributes are not told");
    });
}

#[test]
fn lengths_of_dirty_files_are_listed_right() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let (ino, handle) = m.create(dir, b"f").await;
        m.write(ino, handle, 0, b"12345").await;
        let listing = m.opendir(dir).await;
        let entries = m.readdir(dir, listing, 0, 4096, true).await;
        assert_eq!(entries[2].plus.as_ref().unwrap().attr.length, 5);
        assert_eq!(m.lookup(dir, b"f").await.attr.length, 5);
    });
}

#[test]
fn directories_go_only_when_empty() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        m.put(dir, b"f", b"").await;
        let rmdir = || Op::Rmdir { dir: Ino::ROOT, name: (*b"d").into() };
        assert_eq!(m.errno(rmdir()).await, libc::ENOTEMPTY);
        let unlink = Op::Unlink { dir: Ino::ROOT, name: (*b"d").into() };
        assert_eq!(m.errno(unlink).await, libc::EISDIR);
        m.unlink(dir, b"f").await;
        m.ok(rmdir()).await;
        let handle = m.opendir(dir).await;
        let list = Op::Readdir { ino: dir, handle, offset: 0, len_bytes: 99, plus: false };
        assert_eq!(m.errno(list).await, libc::ENOENT);
        m.ok(Op::Fsyncdir { ino: dir, handle, datasync: false }).await;
    });
}
