//! The suite that every metadata engine passes.
//!
//! Owns what the language of `txn` means, as assertions. A new engine calls [`formats`],
//! [`conforms`] and [`agrees`] from its tests. Where engines may differ (the order of a listing, the
//! first inode handed out, parents of an inode with one name, counts of slices nobody refers to)
//! nothing is asserted.

mod acls;
mod agreement;
mod changes;
mod contents;
mod crowds;
mod expects;
mod scans;
mod sessions;

use std::rc::Rc;

use super::engine::Engine;
use super::scan::{Row, Table};
use super::txn::{Commit, Counter, Expect, Key, Mutation, Outcome, Value};
use crate::types::{Attr, FileType, Ino, Name, Time};

pub(super) use agreement::agrees;

/// Make a volume on an empty database, twice: what is there is not written again, but its setting
/// may be changed.
pub(super) async fn formats(engine: &dyn Engine) {
    assert_eq!(engine.load_setting().await.unwrap(), None, "an empty database has no setting");
    engine.store_setting("{\"a\":1}".into(), vec![(Ino::ROOT, dir())]).await.unwrap();
    assert_eq!(engine.load_setting().await.unwrap().unwrap(), "{\"a\":1}");
    let other = Attr { uid: 9, ..dir() };
    engine.store_setting("{\"b\":2}".into(), vec![(Ino::ROOT, other)]).await.unwrap();
    assert_eq!(engine.load_setting().await.unwrap().unwrap(), "{\"a\":1}", "the first stays");
    engine.store_setting("{}".into(), vec![]).await.unwrap();
    assert_eq!(engine.load_setting().await.unwrap().unwrap(), "{}");
    assert_eq!(node(engine, Ino::ROOT).await, Some(dir()));
    let counted = engine.scan(Table::DirStats, 0, 10).await.unwrap().rows;
    assert_eq!(counted, [Row::DirStats(Ino::ROOT, [0; 3])], "the root begins with statistics");
    assert!(!engine.describe().await.unwrap().text.is_empty());
}

/// All promises, on a volume that was just formatted; inodes from 100 on are used.
pub(super) async fn conforms(engine: Rc<dyn Engine>) {
    reservations(&*engine).await;
    expects::check(&*engine).await;
    changes::check(&*engine).await;
    contents::check(&*engine).await;
    sessions::check(&*engine).await;
    acls::check(&*engine).await;
    crowds::check(&engine).await;
    scans::check(&*engine).await;
}

/// Ids are handed out in ranges that end with the answer. The first inode of all is 1 or 2: nobody
/// takes the root's.
async fn reservations(engine: &dyn Engine) {
    let inodes = engine.reserve(Counter::NextInode, 1024).await.unwrap();
    assert!([1024, 1025].contains(&inodes), "{inodes}");
    assert_eq!(engine.reserve(Counter::NextInode, 1024).await.unwrap(), inodes + 1024);
    assert_eq!(engine.reserve(Counter::NextChunk, 4096).await.unwrap(), 4096);
    assert_eq!(engine.reserve(Counter::NextChunk, 1).await.unwrap(), 4097);
    assert_eq!(engine.reserve(Counter::NextSession, 1).await.unwrap(), 1);
    assert_eq!(engine.reserve(Counter::NextTrash, 1).await.unwrap(), 1);
    for (counter, last) in [
        (Counter::NextInode, inodes + 1024),
        (Counter::NextChunk, 4097),
        (Counter::NextSession, 1),
        (Counter::NextTrash, 1),
        (Counter::UsedSpace, 0),
        (Counter::TotalInodes, 0),
    ] {
        assert_eq!(get(engine, Key::Counter(counter)).await, Value::Counter(last), "{counter:?}");
    }
}

fn dir() -> Attr {
    Attr {
        atime: Time { sec: 4, nsec: 999_999_999 },
        mtime: Time { sec: 5, nsec: 7 },
        ..Attr::new(FileType::Dir, 0o777, Time { sec: 6, nsec: 1001 })
    }
}

fn file() -> Attr {
    Attr { kind: FileType::File, mode: 0o644, nlink: 1, length: 0, ..dir() }
}

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn time(sec: i64, nsec: u32) -> Option<Time> {
    Some(Time { sec, nsec })
}

/// The answer to one key.
async fn get(engine: &dyn Engine, key: Key) -> Value {
    let mut found = engine.fetch(&[key]).await.unwrap();
    assert_eq!(found.len(), 1, "one answer to one key");
    found.remove(0)
}

async fn node(engine: &dyn Engine, ino: Ino) -> Option<Attr> {
    match get(engine, Key::Node(ino)).await {
        Value::Node(found) => found,
        other => panic!("a node was asked for, not {other:?}"),
    }
}

/// Apply changes without a condition.
async fn change(engine: &dyn Engine, mutations: Vec<Mutation>) {
    let commit = Commit { mutations, ..Commit::default() };
    assert_eq!(engine.commit(commit).await.unwrap(), Outcome::Applied(vec![]));
}

/// The expectation holds now.
async fn holds(engine: &dyn Engine, expect: Expect) {
    let commit = Commit { expects: vec![expect.clone()], ..Commit::default() };
    assert_eq!(engine.commit(commit).await.unwrap(), Outcome::Applied(vec![]), "{expect:?}");
}

/// The expectation does not hold now: its index is told and nothing is written.
async fn fails(engine: &dyn Engine, expect: Expect) {
    let mark = name("never");
    let commit = Commit {
        expects: vec![
            Expect::Node(Ino::ROOT, FileType::Dir),
            expect.clone(),
            Expect::EntryIs(Ino::ROOT, mark.clone(), FileType::File, Ino(1)),
        ],
        mutations: vec![
            Mutation::PutNode(Ino(99), file()),
            Mutation::PutEntry(Ino::ROOT, mark.clone(), FileType::File, Ino(99)),
            Mutation::Add(Counter::TotalInodes, 1),
        ],
        returns: vec![Ino(99)],
    };
    let before = get(engine, Key::Counter(Counter::TotalInodes)).await;
    assert_eq!(engine.commit(commit).await.unwrap(), Outcome::Conflict(1), "{expect:?}");
    let keys =
        [Key::Node(Ino(99)), Key::Entry(Ino::ROOT, mark), Key::Counter(Counter::TotalInodes)];
    let after = engine.fetch(&keys).await.unwrap();
    assert_eq!(after, [Value::Node(None), Value::Entry(None), before], "{expect:?}");
}
