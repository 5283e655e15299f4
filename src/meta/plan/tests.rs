//! Refusals, with the errno Linux programs expect.

use rustix::io::Errno;

use super::create::{NewNode, create};
use super::*;
use crate::types::{FLAG_IMMUTABLE, Name};

fn dir(mode: u16) -> Attr {
    Attr { uid: 7, gid: 8, ..Attr::new(FileType::Dir, mode, Time::default()) }
}

fn file(uid: u32) -> Attr {
    Attr { kind: FileType::File, nlink: 1, length: 0, uid, ..dir(0o644) }
}

const WHO: Who = Who { uid: 1000, gid: 1000 };
const NOW: Time = Time { sec: 100, nsec: 1 };

fn new(kind: FileType, mode: u16) -> NewNode {
    NewNode { kind, mode, umask: 0o022, rdev: 0, target: None }
}

fn permitted(mode: u16) -> acl::Permissions {
    acl::Permissions { mode, access_acl: 0, default_acl: 0 }
}

#[test]
fn a_setgid_directory_gives_its_group() {
    let (_, made) = create(
        (Ino(5), &dir(0o2775)),
        b"d",
        (Ino(9), permitted(0o755)),
        &new(FileType::Dir, 0o777),
        WHO,
        &Rules::default(),
        NOW,
    )
    .unwrap();
    assert_eq!((made.gid, made.mode, made.nlink), (8, 0o2755, 2));
    let (_, made) = create(
        (Ino(5), &dir(0o775)),
        b"f",
        (Ino(9), permitted(0o644)),
        &new(FileType::File, 0o666),
        WHO,
        &Rules::default(),
        NOW,
    )
    .unwrap();
    assert_eq!((made.gid, made.mode, made.length), (1000, 0o644, 0));
}

#[test]
fn directories_refuse_names() {
    let rules = Rules::default();
    let made = |parent: &Attr| {
        let made = (Ino(9), permitted(0o644));
        create((Ino(5), parent), b"f", made, &new(FileType::File, 0o644), WHO, &rules, NOW).err()
    };
    assert_eq!(made(&file(7)), Some(Errno::NOTDIR));
    assert_eq!(made(&Attr { flags: FLAG_IMMUTABLE, ..dir(0o777) }), Some(Errno::PERM));
    assert_eq!(made(&Attr { parent: Ino(Ino::TRASH.0 + 1), ..dir(0o777) }), Some(Errno::NOENT));
}

#[test]
fn sticky_directories_protect_names() {
    let parent = dir(0o1777);
    let rules = Rules::default();
    let gone = |node: &Attr, who| {
        remove::unlink(
            (Ino(5), &parent),
            b"f",
            (FileType::File, Ino(9), node),
            remove::Fate::default(),
            who,
            &rules,
            NOW,
        )
        .err()
    };
    assert_eq!(gone(&file(1), WHO), Some(Errno::ACCESS));
    assert_eq!(gone(&file(WHO.uid), WHO), None);
    assert_eq!(gone(&file(1), Who { uid: 0, gid: 0 }), None);
}

#[test]
fn what_the_sticky_bit_allowed_is_expected() {
    let relied = |mode, who| {
        let parent = Attr { uid: WHO.uid, ..dir(mode) };
        let found = (FileType::File, Ino(9), &file(1));
        let fate = remove::Fate::default();
        let plan =
            remove::unlink((Ino(5), &parent), b"f", found, fate, who, &Rules::default(), NOW);
        let uid = |expect: &Expect| match expect {
            Expect::NodeFields(ino, fields) => {
                fields.iter().find(|field| matches!(field, NodeField::Uid(_))).map(|_| *ino)
            }
            _ => None,
        };
        plan.unwrap().0.expects.iter().filter_map(uid).collect::<Vec<_>>()
    };
    assert_eq!(relied(0o1777, WHO), [Ino(5), Ino(9)]);
    assert_eq!(relied(0o777, WHO), []);
    assert_eq!(relied(0o1777, Who { uid: 0, gid: 0 }), []);
}

#[test]
fn trash_keeps_the_link_and_renames() {
    let trash = Ino(Ino::TRASH.0 + 3);
    let rules = Rules { trash: Some(trash), ..Rules::default() };
    let (commit, removed) = remove::unlink(
        (Ino(5), &dir(0o777)),
        b"f",
        (FileType::File, Ino(9), &file(1)),
        remove::Fate::default(),
        Who { uid: 0, gid: 0 },
        &rules,
        NOW,
    )
    .unwrap();
    assert_eq!((removed.attr.nlink, removed.attr.parent, removed.delete_data), (1, trash, false));
    let kept: Name = b"5-9-f".as_slice().into();
    assert!(commit.mutations.contains(&Mutation::PutEntry(trash, kept, FileType::File, Ino(9))));
    assert_eq!(trash_name(Ino(5), Ino(9), &[b'x'; 255]).len(), 255);
}
