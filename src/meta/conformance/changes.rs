//! Every change of names and nodes, and what the keys tell afterwards.

use super::{change, dir, file, get, name, node, time};
use crate::meta::engine::{DirEntry, Engine};
use crate::meta::txn::{Commit, Counter, Key, Mutation, Outcome, Patch, SetNode, Value};
use crate::types::{Attr, FILE_BYTES_END, FileType, Ino, Time};

const DIR: Ino = Ino(200);
const FILE: Ino = Ino(201);

pub(super) async fn check(engine: &dyn Engine) {
    nodes(engine).await;
    names(engine).await;
    patches(engine).await;
    lengths(engine).await;
    sets(engine).await;
    symlinks(engine).await;
    xattrs(engine).await;
    parents(engine).await;
    order_and_returns(engine).await;
}

/// A node with a value of its own in every field, none of them zero.
fn full() -> Attr {
    Attr {
        flags: 32,
        kind: FileType::Char,
        mode: 0o7421,
        uid: u32::MAX,
        gid: 0x8000_0001,
        atime: Time { sec: 1 << 33, nsec: 999_999_999 },
        mtime: Time { sec: 1, nsec: 999 },
        ctime: Time { sec: 0, nsec: 1000 },
        nlink: 0xFFFF_FFFE,
        length: FILE_BYTES_END - 1,
        rdev: 0xFEDC_BA98,
        parent: Ino(Ino::TRASH.0 + 5),
        access_acl: 1,
        default_acl: 2,
        tier: 3,
    }
}

async fn nodes(engine: &dyn Engine) {
    assert_eq!(node(engine, FILE).await, None);
    let kinds = [
        FileType::File,
        FileType::Dir,
        FileType::Symlink,
        FileType::Fifo,
        FileType::Block,
        FileType::Char,
        FileType::Socket,
    ];
    let acls = [(0, 0), (1, 0), (0, 1), (7, 8)];
    for (kind, (access_acl, default_acl)) in kinds.into_iter().flat_map(|k| acls.map(|a| (k, a))) {
        let put = Attr { kind, access_acl, default_acl, ..full() };
        change(engine, vec![Mutation::PutNode(FILE, put.clone())]).await;
        assert_eq!(node(engine, FILE).await, Some(put));
    }
    change(engine, vec![Mutation::DelNode(FILE), Mutation::DelNode(FILE)]).await;
    assert_eq!(node(engine, FILE).await, None);
    let lost = vec![
        Mutation::Patch(FILE, Patch { nlink: 1, length_at_least: Some(9), ..Patch::default() }),
        Mutation::Set(FILE, SetNode { uid: Some(1), ..SetNode::default() }),
    ];
    change(engine, lost).await;
    assert_eq!(node(engine, FILE).await, None, "nothing is changed where nothing is");
    assert_eq!(get(engine, Key::Counter(Counter::UsedSpace)).await, Value::Counter(0));
}

async fn names(engine: &dyn Engine) {
    change(engine, vec![Mutation::PutNode(DIR, dir()), Mutation::PutNode(FILE, file())]).await;
    assert_eq!(get(engine, Key::DirLen(DIR)).await, Value::DirLen(0));
    assert_eq!(engine.list(DIR, true).await.unwrap(), []);
    let odd = [&b"\xFF\xFE"[..], b" ", b"'\"%_\n", "\u{e4}".as_bytes(), &[b'x'; 255]];
    let put = odd.iter().map(|odd| Mutation::PutEntry(DIR, (*odd).into(), FileType::File, FILE));
    change(engine, put.collect()).await;
    let lost = (FileType::Socket, Ino(299));
    change(engine, vec![Mutation::PutEntry(DIR, odd[1].into(), lost.0, lost.1)]).await;
    assert_eq!(get(engine, Key::DirLen(DIR)).await, Value::DirLen(odd.len() as u64));
    let keys = [
        Key::Entry(DIR, odd[0].into()),
        Key::EntryNode(DIR, odd[0].into()),
        Key::Entry(DIR, odd[1].into()),
        Key::EntryNode(DIR, odd[1].into()),
        Key::Entry(DIR, name("no")),
        Key::EntryNode(DIR, name("no")),
        Key::Entry(Ino::ROOT, odd[0].into()),
    ];
    let answers = [
        Value::Entry(Some((FileType::File, FILE))),
        Value::EntryNode(Some((FileType::File, FILE, Some(file())))),
        Value::Entry(Some(lost)),
        Value::EntryNode(Some((lost.0, lost.1, None))),
        Value::Entry(None),
        Value::EntryNode(None),
        Value::Entry(None),
    ];
    assert_eq!(engine.fetch(&keys).await.unwrap(), answers, "answers in the order of the keys");
    assert_eq!(engine.fetch(&[]).await.unwrap(), []);
    for with_attr in [false, true] {
        let mut listed = engine.list(DIR, with_attr).await.unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let mut wanted = odd.map(|odd| {
            let (kind, ino) = if odd == b" " { lost } else { (FileType::File, FILE) };
            let attr = (with_attr && ino == FILE).then(file);
            DirEntry { name: odd.into(), kind, ino, attr }
        });
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listed, wanted);
    }
    let del = odd.iter().map(|odd| Mutation::DelEntry(DIR, (*odd).into()));
    change(engine, del.chain([Mutation::DelEntry(DIR, name("no"))]).collect()).await;
    assert_eq!(get(engine, Key::DirLen(DIR)).await, Value::DirLen(0));
    assert_eq!(engine.list(DIR, false).await.unwrap(), []);
}

/// The node after one patch of `before`.
async fn patched(engine: &dyn Engine, before: &Attr, patch: Patch) -> Attr {
    let commit = Commit {
        mutations: vec![Mutation::PutNode(FILE, before.clone()), Mutation::Patch(FILE, patch)],
        returns: vec![FILE],
        ..Commit::default()
    };
    let Outcome::Applied(mut nodes) = engine.commit(commit).await.unwrap() else {
        panic!("no condition")
    };
    let after = nodes.pop().unwrap();
    assert_eq!(node(engine, FILE).await, after);
    after.unwrap()
}

/// A file's mtime tells every change, also one by a client whose clock is behind.
async fn late_clocks(engine: &dyn Engine) {
    let at = |sec, nsec| Time { sec, nsec };
    for (stored, wanted) in [
        (at(5, 7), at(5, 8)),
        (at(5, 999_999_999), at(6, 0)),
        (at((1 << 32) - 1, 999_999_999), at(1 << 32, 0)),
        (at(-1, 999_999_999), at(0, 0)),
    ] {
        change(engine, vec![Mutation::PutNode(FILE, Attr { mtime: stored, ..file() })]).await;
        for (told, wanted) in [(None, stored), (Some(stored), stored), (Some(at(-9, 1)), wanted)] {
            let patch = Patch { mtime: told, ..Patch::default() };
            change(engine, vec![Mutation::Patch(FILE, patch)]).await;
            assert_eq!(node(engine, FILE).await.unwrap().mtime, wanted, "{stored:?}, {told:?}");
        }
    }
}

async fn patches(engine: &dyn Engine) {
    late_clocks(engine).await;
    let nothing = Patch::default();
    // The mtime of a directory of these tests is 5 s and 7 ns.
    let at = |sec, nsec| Patch { mtime: time(sec, nsec), ctime: time(9, 9), ..nothing };
    let moved =
        |patch: Patch| Attr { mtime: patch.mtime.unwrap(), ctime: patch.ctime.unwrap(), ..dir() };
    let cases = [
        (nothing, dir()),
        (Patch { nlink: 3, ..nothing }, Attr { nlink: 5, ..dir() }),
        (Patch { nlink: -2, ..nothing }, Attr { nlink: 0, ..dir() }),
        (Patch { nlink: -3, ..nothing }, Attr { nlink: 0, ..dir() }),
        (Patch { atime: time(4, 999_999_998), ..nothing }, dir()),
        (Patch { atime: time(5, 0), ..nothing }, Attr { atime: time(5, 0).unwrap(), ..dir() }),
        (Patch { ctime: time(6, 1000), ..nothing }, dir()),
        (
            Patch { ctime: time(6, 1002), ..nothing },
            Attr { ctime: time(6, 1002).unwrap(), ..dir() },
        ),
        (at(5, 8), moved(at(5, 8))),
        (at(5, 6), Attr { ctime: time(9, 9).unwrap(), ..dir() }),
        (Patch { skip_if_younger_ns: 100, ..at(5, 106) }, dir()),
        (Patch { skip_if_younger_ns: 100, ..at(5, 107) }, moved(at(5, 107))),
        (Patch { skip_if_younger_ns: 3_000_000_000, ..at(8, 6) }, dir()),
        (Patch { skip_if_younger_ns: 3_000_000_000, ..at(8, 7) }, moved(at(8, 7))),
        (
            Patch { skip_if_younger_ns: 100, nlink: 1, ..at(5, 106) },
            Attr { nlink: 3, ..moved(at(5, 106)) },
        ),
        (
            Patch { skip_if_younger_ns: 100, ctime: time(9, 9), ..nothing },
            Attr { ctime: time(9, 9).unwrap(), ..dir() },
        ),
    ];
    for (patch, wanted) in cases {
        assert_eq!(patched(engine, &dir(), patch).await, wanted, "{patch:?}");
    }
    let odd = Attr { nlink: 7, ..full() };
    let after = patched(engine, &odd, Patch { nlink: 1, ..nothing }).await;
    assert_eq!(after, Attr { nlink: 8, ..odd }, "what a patch does not name stays");
}

async fn lengths(engine: &dyn Engine) {
    let used = async || match get(engine, Key::Counter(Counter::UsedSpace)).await {
        Value::Counter(used) => used,
        other => panic!("a counter was asked for, not {other:?}"),
    };
    let mut before = used().await;
    for (from, to, charged) in [
        (0, 0, 0),
        (0, 1, 0),
        (0, 4096, 0),
        (0, 4097, 4096),
        (4096, 4095, 0),
        (4096, 4097, 4096),
        (10_000, 4097, 0),
        (0xFFFF_FFFF, 0x1_0000_0001, 4096),
        (0xFFFF_FFFF, 3, 0),
        (1, FILE_BYTES_END - 1, FILE_BYTES_END as i64 - 4096),
    ] {
        let node = Attr { length: from, ..file() };
        let grow = Patch { length_at_least: Some(to), ..Patch::default() };
        let after = patched(engine, &node, grow).await;
        assert_eq!(after, Attr { length: from.max(to), ..node });
        assert_eq!(used().await - before, charged, "{from} {to}");
        before += charged;
    }
    change(engine, vec![Mutation::Add(Counter::UsedSpace, -before)]).await;
    assert_eq!(used().await, 0);
}

async fn sets(engine: &dyn Engine) {
    let nothing = SetNode::default();
    let later = Time { sec: 1, nsec: 1 };
    let cases = [
        (nothing, full()),
        (SetNode { flags: Some(1), ..nothing }, Attr { flags: 1, ..full() }),
        (SetNode { mode: Some(0o1234), ..nothing }, Attr { mode: 0o1234, ..full() }),
        (SetNode { uid: Some(0), ..nothing }, Attr { uid: 0, ..full() }),
        (SetNode { gid: Some(5), ..nothing }, Attr { gid: 5, ..full() }),
        (SetNode { length: Some(3), ..nothing }, Attr { length: 3, ..full() }),
        (SetNode { parent: Some(Ino(0)), ..nothing }, Attr { parent: Ino(0), ..full() }),
        (SetNode { nlink: Some(0), ..nothing }, Attr { nlink: 0, ..full() }),
        // A time is set as asked for, back too.
        (SetNode { atime: Some(later), ..nothing }, Attr { atime: later, ..full() }),
        (SetNode { mtime: Some(later), ..nothing }, Attr { mtime: later, ..full() }),
        (SetNode { ctime: Some(later), ..nothing }, Attr { ctime: later, ..full() }),
        (
            SetNode { acl: Some((0, 9)), ..nothing },
            Attr { access_acl: 0, default_acl: 9, ..full() },
        ),
        (
            SetNode { acl: Some((0, 0)), ..nothing },
            Attr { access_acl: 0, default_acl: 0, ..full() },
        ),
    ];
    for (set, wanted) in cases {
        change(engine, vec![Mutation::PutNode(FILE, full()), Mutation::Set(FILE, set)]).await;
        assert_eq!(node(engine, FILE).await, Some(wanted), "{set:?}");
    }
    let plain = Attr { access_acl: 0, default_acl: 0, tier: 0, ..full() };
    let acl = SetNode { acl: Some((1, 2)), ..nothing };
    change(engine, vec![Mutation::PutNode(FILE, plain), Mutation::Set(FILE, acl)]).await;
    assert_eq!(node(engine, FILE).await, Some(Attr { tier: 0, ..full() }));
    let used = get(engine, Key::Counter(Counter::UsedSpace)).await;
    assert_eq!(used, Value::Counter(0), "a plan moves usedSpace itself");
}

async fn symlinks(engine: &dyn Engine) {
    let target = |bytes: &[u8]| Value::Symlink(Some(bytes.into()));
    assert_eq!(get(engine, Key::Symlink(FILE)).await, Value::Symlink(None));
    for bytes in [&b"a"[..], b"../\xFF", &[b't'; 4095]] {
        change(engine, vec![Mutation::PutSymlink(FILE, bytes.into())]).await;
        assert_eq!(get(engine, Key::Symlink(FILE)).await, target(bytes));
    }
    change(engine, vec![Mutation::DelSymlink(FILE)]).await;
    assert_eq!(get(engine, Key::Symlink(FILE)).await, Value::Symlink(None));
}

async fn xattrs(engine: &dyn Engine) {
    let sorted = async || match get(engine, Key::XattrNames(FILE)).await {
        Value::XattrNames(mut names) => {
            names.sort();
            names
        }
        other => panic!("names were asked for, not {other:?}"),
    };
    assert_eq!(sorted().await, []);
    let put = |text, value: &[u8]| Mutation::PutXattr(FILE, name(text), value.into());
    change(engine, vec![put("user.b", b"1"), put("user.a", b""), put("user.c", b"\0\xFF")]).await;
    change(engine, vec![put("user.b", b"22"), Mutation::DelXattr(FILE, name("user.c"))]).await;
    assert_eq!(sorted().await, [name("user.a"), name("user.b")]);
    for (text, value) in [("user.a", Some(&b""[..])), ("user.b", Some(b"22")), ("user.c", None)] {
        let found = get(engine, Key::Xattr(FILE, name(text))).await;
        assert_eq!(found, Value::Xattr(value.map(Box::from)), "{text}");
    }
    change(engine, vec![Mutation::PutXattr(DIR, name("user.a"), (*b"dir").into())]).await;
    change(engine, vec![Mutation::DelXattrs(FILE), Mutation::DelXattr(FILE, name("no"))]).await;
    assert_eq!(sorted().await, []);
    let of_dir = get(engine, Key::Xattr(DIR, name("user.a"))).await;
    assert_eq!(of_dir, Value::Xattr(Some((*b"dir").into())));
    change(engine, vec![Mutation::DelXattrs(DIR)]).await;
}

/// Some engines count parents, others ask the names: both move together.
async fn parents(engine: &dyn Engine) {
    let told = async || match get(engine, Key::Parents(FILE)).await {
        Value::Parents(mut parents) => {
            parents.sort();
            parents
        }
        other => panic!("parents were asked for, not {other:?}"),
    };
    let named = |dir, text| {
        let entry = Mutation::PutEntry(dir, name(text), FileType::File, FILE);
        [entry, Mutation::AddParent(FILE, dir, 1)]
    };
    let unnamed =
        |dir, text| [Mutation::DelEntry(dir, name(text)), Mutation::AddParent(FILE, dir, -1)];
    change(engine, [named(DIR, "p1"), named(Ino::ROOT, "p2"), named(DIR, "p3")].concat()).await;
    assert_eq!(told().await, [(Ino::ROOT, 1), (DIR, 2)]);
    change(engine, unnamed(DIR, "p1").to_vec()).await;
    assert_eq!(told().await, [(Ino::ROOT, 1), (DIR, 1)]);
    change(engine, unnamed(DIR, "p3").to_vec()).await;
    assert_eq!(told().await, [(Ino::ROOT, 1)]);
    let last = [&unnamed(Ino::ROOT, "p2")[..1], &[Mutation::DelParents(FILE)]].concat();
    change(engine, last).await;
    assert_eq!(told().await, []);
}

/// Changes are made in their order; what is asked back is as it is after all of them.
async fn order_and_returns(engine: &dyn Engine) {
    let uid = |uid| Mutation::Set(FILE, SetNode { uid: Some(uid), ..SetNode::default() });
    let put = |ino| Mutation::PutEntry(DIR, name("o"), FileType::File, Ino(ino));
    let commit = Commit {
        mutations: vec![
            Mutation::PutNode(FILE, file()),
            uid(1),
            Mutation::Patch(FILE, Patch { nlink: 1, ..Patch::default() }),
            put(5),
            Mutation::DelEntry(DIR, name("o")),
            put(6),
            Mutation::DelNode(Ino(250)),
            uid(2),
        ],
        returns: vec![FILE, Ino(250), DIR, FILE],
        ..Commit::default()
    };
    let after = Some(Attr { uid: 2, nlink: 2, ..file() });
    let outcome = engine.commit(commit).await.unwrap();
    assert_eq!(outcome, Outcome::Applied(vec![after.clone(), None, Some(dir()), after]));
    let entry = get(engine, Key::Entry(DIR, name("o"))).await;
    assert_eq!(entry, Value::Entry(Some((FileType::File, Ino(6)))));
    change(engine, vec![Mutation::DelEntry(DIR, name("o"))]).await;
}
