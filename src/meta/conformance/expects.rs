//! Every expectation: when it holds and when it does not.

use super::{change, dir, fails, file, get, holds, name};
use crate::meta::engine::Engine;
use crate::meta::txn::{
    Counter, Expect, Flock, Holder, Key, LockOwner, Mutation, NodeField, Plock, Quota, SetNode,
    Value,
};
use crate::types::{Attr, FileType, Ino, SliceRecord};

const DIR: Ino = Ino(100);
const FILE: Ino = Ino(101);

pub(super) async fn check(engine: &dyn Engine) {
    let node = Attr {
        flags: 1,
        uid: 7,
        gid: 8,
        length: 1 << 40,
        parent: DIR,
        access_acl: 3,
        default_acl: 4,
        ..file()
    };
    change(engine, vec![Mutation::PutNode(DIR, dir()), Mutation::PutNode(FILE, node)]).await;
    names(engine).await;
    nodes(engine).await;
    lists(engine).await;
    xattrs(engine).await;
    locks(engine).await;
    room(engine).await;
    parents(engine).await;
    quota_room(engine, Holder::Dir(Ino(113))).await;
    change(engine, vec![Mutation::DelDirStats(Ino(113))]).await;
    holds(engine, Expect::QuotaRoom(Holder::Dir(Ino(113)), 0, 1)).await;
    quota_room(engine, Holder::User(113)).await;
    quota_room(engine, Holder::Group(114)).await;
}

async fn names(engine: &dyn Engine) {
    let absent = || Expect::EntryAbsent(DIR, name("f"));
    let is = |kind, ino| Expect::EntryIs(DIR, name("f"), kind, Ino(ino));
    holds(engine, absent()).await;
    holds(engine, Expect::DirEmpty(DIR)).await;
    holds(engine, Expect::DirEmpty(Ino(199))).await;
    fails(engine, is(FileType::File, 101)).await;
    change(engine, vec![Mutation::PutEntry(DIR, name("f"), FileType::File, FILE)]).await;
    fails(engine, absent()).await;
    fails(engine, Expect::DirEmpty(DIR)).await;
    holds(engine, is(FileType::File, 101)).await;
    fails(engine, is(FileType::Dir, 101)).await;
    fails(engine, is(FileType::File, 102)).await;
    holds(engine, Expect::EntryAbsent(DIR, name("F"))).await;
    holds(engine, Expect::EntryAbsent(DIR, name("f "))).await;
    change(engine, vec![Mutation::DelEntry(DIR, name("f"))]).await;
    holds(engine, absent()).await;
    holds(engine, Expect::DirEmpty(DIR)).await;
}

async fn nodes(engine: &dyn Engine) {
    holds(engine, Expect::Node(FILE, FileType::File)).await;
    fails(engine, Expect::Node(FILE, FileType::Symlink)).await;
    fails(engine, Expect::Node(Ino(199), FileType::File)).await;
    holds(engine, Expect::NodeFields(FILE, vec![])).await;
    fails(engine, Expect::NodeFields(Ino(199), vec![])).await;
    let right = [
        NodeField::Flags(1),
        NodeField::Mode(FileType::File, 0o644),
        NodeField::Uid(7),
        NodeField::Gid(8),
        NodeField::Nlink(1),
        NodeField::Length(1 << 40),
        NodeField::Parent(DIR),
        NodeField::Acl(3, 4),
    ];
    let wrong = [
        NodeField::Flags(0),
        NodeField::Mode(FileType::File, 0o645),
        NodeField::Mode(FileType::Dir, 0o644),
        NodeField::Uid(8),
        NodeField::Gid(7),
        NodeField::Nlink(2),
        NodeField::Length(0),
        NodeField::Length((1 << 40) + 1),
        NodeField::Parent(Ino::ROOT),
        NodeField::Acl(4, 4),
        NodeField::Acl(3, 3),
        NodeField::Acl(0, 0),
    ];
    holds(engine, Expect::NodeFields(FILE, right.to_vec())).await;
    for field in right {
        holds(engine, Expect::NodeFields(FILE, vec![field])).await;
    }
    for field in wrong {
        fails(engine, Expect::NodeFields(FILE, vec![field])).await;
        fails(engine, Expect::NodeFields(FILE, vec![NodeField::Uid(7), field])).await;
    }
    // A node without ACLs may have a shorter record.
    holds(engine, Expect::NodeFields(DIR, vec![NodeField::Acl(0, 0)])).await;
    fails(engine, Expect::NodeFields(DIR, vec![NodeField::Acl(0, 1)])).await;
    let set = SetNode { uid: Some(8), ..SetNode::default() };
    change(engine, vec![Mutation::Set(FILE, set)]).await;
    fails(engine, Expect::NodeFields(FILE, vec![NodeField::Uid(7)])).await;
}

async fn lists(engine: &dyn Engine) {
    let record = |id| SliceRecord { pos: 1, id, size: 9, off: 2, len: 3 };
    let prefix = |ids: &[u64]| {
        Expect::ChunkPrefix(FILE, 3, ids.iter().map(|id| record(*id)).collect::<Vec<_>>())
    };
    holds(engine, prefix(&[])).await;
    fails(engine, prefix(&[1001])).await;
    let push = Mutation::PushSlices(FILE, 3, vec![record(1001), record(1002)]);
    change(engine, vec![push]).await;
    for ids in [&[][..], &[1001], &[1001, 1002]] {
        holds(engine, prefix(ids)).await;
    }
    for ids in [&[1002][..], &[1001, 1001], &[1001, 1002, 1003]] {
        fails(engine, prefix(ids)).await;
    }
    let moved = SliceRecord { pos: 2, ..record(1001) };
    fails(engine, Expect::ChunkPrefix(FILE, 3, vec![moved])).await;
}

async fn xattrs(engine: &dyn Engine) {
    let is = |value: Option<&[u8]>| Expect::XattrIs(FILE, name("user.x"), value.map(Box::from));
    holds(engine, is(None)).await;
    fails(engine, is(Some(b""))).await;
    change(engine, vec![Mutation::PutXattr(FILE, name("user.x"), (*b"a\0b").into())]).await;
    holds(engine, is(Some(b"a\0b"))).await;
    for value in [None, Some(&b""[..]), Some(b"a"), Some(b"a\0c")] {
        fails(engine, is(value)).await;
    }
    change(engine, vec![Mutation::PutXattr(FILE, name("user.x"), Box::default())]).await;
    holds(engine, is(Some(b""))).await;
    fails(engine, is(None)).await;
}

/// The order in which holders are told is the engine's own: an expectation repeats what was told.
async fn locks(engine: &dyn Engine) {
    let owner = |sid, owner| LockOwner { sid, owner };
    let (a, b) = (owner(1, 0xABCD_EF01_2345_6789), owner(2, 1));
    let flock = |owner, exclusive| Flock { owner, exclusive };
    holds(engine, Expect::FlocksAre(FILE, vec![])).await;
    fails(engine, Expect::FlocksAre(FILE, vec![flock(a, true)])).await;
    let set = |owner| Mutation::SetFlock(FILE, owner, Some(false));
    change(engine, vec![set(b), set(a)]).await;
    let Value::Flocks(held) = get(engine, Key::Flocks(FILE)).await else { panic!("not locks") };
    assert!(held.len() == 2 && held.contains(&flock(a, false)) && held.contains(&flock(b, false)));
    let more = [&held[..], &[flock(owner(3, 3), false)]].concat();
    let other = vec![held[0], Flock { exclusive: true, ..held[1] }];
    for wrong in [vec![], vec![held[0]], vec![held[1]], more, other] {
        fails(engine, Expect::FlocksAre(FILE, wrong)).await;
    }
    holds(engine, Expect::FlocksAre(FILE, held)).await;

    let plock = |owner, byte| Plock { owner, records: vec![byte; 24].into() };
    let set = |owner, byte| Mutation::SetPlock(FILE, owner, Some(vec![byte; 24].into()));
    holds(engine, Expect::PlocksAre(FILE, vec![])).await;
    fails(engine, Expect::PlocksAre(FILE, vec![plock(a, 1)])).await;
    change(engine, vec![set(b, 2), set(a, 1)]).await;
    let Value::Plocks(held) = get(engine, Key::Plocks(FILE)).await else { panic!("not locks") };
    assert!(held.len() == 2 && held.contains(&plock(a, 1)) && held.contains(&plock(b, 2)));
    let other = vec![held[0].clone(), plock(held[1].owner, 3)];
    for wrong in [vec![], held[..1].to_vec(), held[1..].to_vec(), other] {
        fails(engine, Expect::PlocksAre(FILE, wrong)).await;
    }
    holds(engine, Expect::PlocksAre(FILE, held)).await;

    let drop = [a, b].into_iter().flat_map(|owner| {
        [Mutation::SetFlock(FILE, owner, None), Mutation::SetPlock(FILE, owner, None)]
    });
    change(engine, drop.collect()).await;
    holds(engine, Expect::FlocksAre(FILE, vec![])).await;
    holds(engine, Expect::PlocksAre(FILE, vec![])).await;
}

async fn room(engine: &dyn Engine) {
    let add = |space, inodes| {
        vec![Mutation::Add(Counter::UsedSpace, space), Mutation::Add(Counter::TotalInodes, inodes)]
    };
    let room = |space, inodes, capacity, inode_limit| Expect::Room {
        space,
        inodes,
        capacity,
        inode_limit,
    };
    let full = 1 << 33;
    change(engine, add(full, 10)).await;
    let limit = full as u64;
    for fits in [
        room(0, 0, 0, 0),
        room(1 << 40, 1 << 20, 0, 0),
        room(4096, 1, limit + 4096, 11),
        room(0, 0, limit, 10),
        room(-4096, -1, 1, 1),
        room(0, 0, 1, 1),
        room(4096, 0, limit + 4096, 1),
    ] {
        holds(engine, fits).await;
    }
    for full in [
        room(4096, 0, limit + 4095, 0),
        room(0, 1, 0, 10),
        room(4096, 1, limit + 4096, 10),
        room(4096, 1, limit, 11),
    ] {
        fails(engine, full).await;
    }
    change(engine, add(-full, -10)).await;
}

/// All links of an inode have to be told, and no other; one that has gone leaves no trace.
async fn parents(engine: &dyn Engine) {
    let [a, b, linked] = [Ino(110), Ino(111), Ino(112)];
    let is = |parents: &[(Ino, i64)]| Expect::ParentsAre(linked, parents.to_vec());
    let name_it = |dir, text: &str| {
        vec![
            Mutation::PutEntry(dir, name(text), FileType::File, linked),
            Mutation::AddParent(linked, dir, 1),
        ]
    };
    holds(engine, is(&[])).await;
    fails(engine, is(&[(a, 1)])).await;
    for (dir, text) in [(a, "x"), (b, "x"), (b, "y")] {
        change(engine, name_it(dir, text)).await;
    }
    holds(engine, is(&[(a, 1), (b, 2)])).await;
    for wrong in [&[][..], &[(a, 1)], &[(b, 2)], &[(a, 2), (b, 2)], &[(a, 1), (b, 2), (DIR, 1)]] {
        fails(engine, is(wrong)).await;
    }
    change(engine, vec![Mutation::DelEntry(a, name("x")), Mutation::AddParent(linked, a, -1)])
        .await;
    holds(engine, is(&[(b, 2)])).await;
    fails(engine, is(&[(a, 1), (b, 2)])).await;
    let last = ["x", "y"].map(|text| Mutation::DelEntry(b, name(text)));
    change(engine, last.into_iter().chain([Mutation::DelParents(linked)]).collect()).await;
    holds(engine, is(&[])).await;
}

/// Limits that are not above zero are none, and what does not grow always fits.
async fn quota_room(engine: &dyn Engine, holder: Holder) {
    let room = |space, inodes| Expect::QuotaRoom(holder, space, inodes);
    let put = |max_space, max_inodes, used_space, used_inodes| {
        vec![Mutation::PutQuota(holder, Quota { max_space, max_inodes, used_space, used_inodes })]
    };
    holds(engine, room(i64::MAX, i64::MAX)).await;
    let much = 1 << 50;
    change(engine, put(much + 8192, 10, much, 9)).await;
    for (space, inodes) in [(8192, 1), (0, 0), (8192, -5), (-4096, 1), (1, 0), (0, 1)] {
        holds(engine, room(space, inodes)).await;
    }
    for (space, inodes) in [(8193, 0), (8193, -1), (0, 2), (-8192, 2), (much, 0)] {
        fails(engine, room(space, inodes)).await;
    }
    change(engine, put(4096, 1, 8192, 2)).await;
    for (space, inodes) in [(0, 0), (-4096, -1)] {
        holds(engine, room(space, inodes)).await;
    }
    for (space, inodes) in [(1, 0), (0, 1), (1, -1)] {
        fails(engine, room(space, inodes)).await;
    }
    change(engine, put(4096, 1, -4096, -1)).await;
    holds(engine, room(8192, 2)).await;
    fails(engine, room(8193, 0)).await;
    for unlimited in [0, -1] {
        change(engine, put(unlimited, unlimited, 1 << 40, 1 << 30)).await;
        holds(engine, room(1 << 40, 1 << 30)).await;
    }
    change(engine, put(-1, 5, 0, 5)).await;
    holds(engine, room(1 << 40, 0)).await;
    fails(engine, room(0, 1)).await;
}
