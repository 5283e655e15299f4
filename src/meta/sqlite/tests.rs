//! The engine against the real client's file, and against itself.

use super::*;
use crate::meta::conformance::{agrees, conforms, formats};
use crate::meta::mem::MemBase;
use crate::meta::txn::{Expect, Mutation, NodeField, Patch};
use crate::types::{Name, SliceRecord, Time};
use crate::uring::block_on;

fn fresh() -> (tempfile::TempDir, Rc<dyn Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let engine = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap().engine();
    block_on(engine.store_setting("{}".into(), vec![(Ino::ROOT, dir())])).unwrap();
    (folder, engine)
}

fn dir() -> Attr {
    Attr { mtime: Time { sec: 5, nsec: 7 }, ..Attr::new(FileType::Dir, 0o777, Time::default()) }
}

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn create(text: &str, ino: u64) -> Commit {
    Commit {
        expects: vec![
            Expect::Node(Ino::ROOT, FileType::Dir),
            Expect::EntryAbsent(Ino::ROOT, name(text)),
        ],
        mutations: vec![
            Mutation::PutNode(
                Ino(ino),
                Attr { kind: FileType::File, length: 0, nlink: 1, ..dir() },
            ),
            Mutation::PutEntry(Ino::ROOT, name(text), FileType::File, Ino(ino)),
            Mutation::Add(Counter::TotalInodes, 1),
        ],
        returns: vec![Ino(ino)],
    }
}

#[test]
fn a_failed_expectation_leaves_nothing_behind() {
    let (_folder, engine) = fresh();
    block_on(async {
        assert!(
            matches!(engine.commit(create("a", 2)).await.unwrap(), Outcome::Applied(nodes) if nodes[0].is_some())
        );
        assert_eq!(engine.commit(create("a", 3)).await.unwrap(), Outcome::Conflict(1));
        let keys = [
            Key::Node(Ino(3)),
            Key::Counter(Counter::TotalInodes),
            Key::EntryNode(Ino::ROOT, name("a")),
        ];
        let found = engine.fetch(&keys).await.unwrap();
        assert_eq!(found[..2], [Value::Node(None), Value::Counter(1)]);
        assert!(matches!(&found[2], Value::EntryNode(Some((FileType::File, Ino(2), Some(_))))));
    });
}

#[test]
fn patches_commute_and_charge_growth() {
    let (_folder, engine) = fresh();
    block_on(async {
        engine.commit(create("a", 2)).await.unwrap();
        let grow = |length, sec| Commit {
            mutations: vec![Mutation::Patch(
                Ino(2),
                Patch {
                    length_at_least: Some(length),
                    mtime: Some(Time { sec, nsec: 0 }),
                    ..Patch::default()
                },
            )],
            returns: vec![Ino(2)],
            ..Commit::default()
        };
        engine.commit(grow(10_000, 20)).await.unwrap();
        let Outcome::Applied(nodes) = engine.commit(grow(500, 10)).await.unwrap() else {
            panic!("no condition")
        };
        let node = nodes[0].clone().unwrap();
        assert_eq!((node.length, node.mtime.sec), (10_000, 20));
        let used = engine.fetch(&[Key::Counter(Counter::UsedSpace)]).await.unwrap();
        assert_eq!(used, [Value::Counter(8192)]);
        let wrong = Commit {
            expects: vec![Expect::NodeFields(Ino(2), vec![NodeField::Length(500)])],
            ..Commit::default()
        };
        assert_eq!(engine.commit(wrong).await.unwrap(), Outcome::Conflict(0));
    });
}

#[test]
fn chunk_lists_keep_their_order_and_counters_the_redis_convention() {
    let (_folder, engine) = fresh();
    let record = |id, pos| SliceRecord { pos, id, size: 10, off: 0, len: 10 };
    block_on(async {
        for id in 1..4 {
            let push = Mutation::PushSlices(Ino(2), 0, vec![record(id, id as u32 * 3)]);
            engine.commit(Commit { mutations: vec![push], ..Commit::default() }).await.unwrap();
        }
        let Value::Chunk(list) = &engine.fetch(&[Key::Chunk(Ino(2), 0)]).await.unwrap()[0] else {
            panic!()
        };
        assert_eq!(*list, [record(1, 3), record(2, 6), record(3, 9)]);
        assert_eq!(engine.reserve(Counter::NextInode, 1024).await.unwrap(), 1025);
        assert_eq!(engine.reserve(Counter::NextChunk, 4096).await.unwrap(), 4096);
        assert_eq!(engine.reserve(Counter::NextSession, 1).await.unwrap(), 1);
        assert!(engine.win_job("lastCleanupFiles", 1000, 10).await.unwrap());
        assert!(!engine.win_job("lastCleanupFiles", 1005, 10).await.unwrap());
    });
}

#[test]
fn the_real_clients_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sqlite-plain/meta.sqlite3"),
        &path,
    )
    .unwrap();
    let engine = SqliteFile::open(&path, false).unwrap().engine();
    block_on(async {
        assert!(engine.load_setting().await.unwrap().unwrap().contains("sqlite-plain"));
        let listed = engine.list(Ino::ROOT, true).await.unwrap();
        assert!(
            listed.len() > 3
                && listed.iter().all(|entry| entry.attr.as_ref().unwrap().kind == entry.kind)
        );
    });
}

#[test]
fn conforms_to_the_language() {
    let folder = tempfile::tempdir().unwrap();
    let engine = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap().engine();
    block_on(async {
        formats(&*engine).await;
        conforms(engine).await;
    });
}

#[test]
fn agrees_with_the_reference() {
    for seed in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        let engine = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap().engine();
        let reference = MemBase::new().engine();
        block_on(async {
            formats(&*engine).await;
            formats(&*reference).await;
            agrees(&*reference, &*engine, seed).await;
        });
    }
}

/// A volume with one damaged value, put there by `sql`.
fn damaged(sql: &str) -> (tempfile::TempDir, Rc<dyn Engine>) {
    let (folder, engine) = fresh();
    block_on(engine.commit(create("a", 2))).unwrap();
    let other = Connection::open(folder.path().join("meta.db")).unwrap();
    other.execute_batch(sql).unwrap();
    (folder, engine)
}

#[test]
fn damage_is_told_with_its_table_and_key() {
    let push = Mutation::PushSlices(Ino(2), 3, vec![]);
    let entry = Key::EntryNode(Ino::ROOT, name("a"));
    for (sql, key, row) in [
        ("UPDATE jfs_node SET type = 9 WHERE inode = 2", Key::Node(Ino(2)), "jfs_node inode=2"),
        ("UPDATE jfs_node SET mode = 'x' WHERE inode = 2", entry.clone(), "jfs_node inode=2"),
        ("UPDATE jfs_edge SET type = 0", entry, "jfs_edge parent=1 name=\"a\""),
        (
            "UPDATE jfs_counter SET value = 'x'",
            Key::Counter(Counter::UsedSpace),
            "jfs_counter name=usedSpace",
        ),
        (
            "INSERT INTO jfs_chunk VALUES (1, 2, 3, x'00')",
            Key::Chunk(Ino(2), 3),
            "jfs_chunk inode=2 indx=3",
        ),
        ("INSERT INTO jfs_symlink VALUES (2, 7)", Key::Symlink(Ino(2)), "jfs_symlink inode=2"),
    ] {
        let (_folder, engine) = damaged(sql);
        match block_on(engine.fetch(&[key])).unwrap_err() {
            EngineError::Corrupt { key, reason } => {
                assert_eq!(key, row, "{sql}");
                assert!(!reason.is_empty());
            }
            other => panic!("{sql}: {other}"),
        }
        // What is not damaged goes on.
        let mutations = vec![push.clone()];
        block_on(engine.commit(Commit { mutations, ..Commit::default() })).unwrap();
    }
    let (_folder, engine) = damaged("UPDATE jfs_node SET type = 9 WHERE inode = 2");
    let listed = block_on(engine.list(Ino::ROOT, true)).unwrap_err();
    assert!(listed.to_string().contains("jfs_node inode=2"), "{listed}");
    let expects = vec![Expect::Node(Ino(2), FileType::File)];
    let told = block_on(engine.commit(Commit { expects, ..Commit::default() })).unwrap_err();
    assert!(told.to_string().contains("jfs_node inode=2"), "{told}");
}

/// A volume whose file another process keeps.
fn kept() -> (tempfile::TempDir, SqliteEngine, Connection) {
    let (folder, _engine) = fresh();
    let path = folder.path().join("meta.db");
    let engine = SqliteEngine(SqliteFile::open(&path, false).unwrap().0);
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (folder, engine, other)
}

#[test]
fn who_shares_a_batch_with_damage_waits_for_a_file_that_is_taken() {
    let (_folder, engine, other) = kept();
    let shared = &engine.0;
    let mut answers = Vec::new();
    for number in 0..3 {
        let (answer, receiver) = oneshot();
        shared.enqueue(create(&number.to_string(), 2 + number), answer);
        answers.push(receiver);
    }
    let batch = shared.queue().drain(..).collect();
    assert!(!shared.one_by_one(batch, Room::Plenty), "the file is taken");
    let waiting: Vec<_> = shared.queue().iter().map(|queued| queued.number).collect();
    assert_eq!(waiting, [0, 1, 2], "nobody is told, and the order is kept");
    other.execute_batch("COMMIT").unwrap();
    assert!(shared.combine());
    for answer in answers {
        let done = block_on(answer).expect("answered").expect("no error");
        assert!(matches!(done, Outcome::Applied(_)));
    }
}

#[test]
fn what_is_read_while_the_file_is_taken_is_read() {
    let (_folder, engine, other) = kept();
    let (answer, receiver) = oneshot();
    let number = engine.0.enqueue(create("a", 2), answer);
    let listed = block_on(engine.list(Ino::ROOT, true)).unwrap();
    assert_eq!(listed, [], "the commit of another core waits, and is in nobody's way");
    assert!(engine.0.take_back(number));
    assert!(!engine.0.take_back(number), "it is gone");
    other.execute_batch("COMMIT").unwrap();
    assert!(engine.0.combine());
    assert!(block_on(receiver).is_err(), "what was taken back is never done");
    assert_eq!(block_on(engine.list(Ino::ROOT, true)).unwrap(), []);
}

#[test]
fn a_commit_left_to_a_core_that_gives_up_is_done() {
    let (_folder, engine, other) = kept();
    // The other core has the connection, finds the file taken, and does not come back.
    let held = engine.0.base();
    let shared = Arc::clone(&engine.0);
    let waits =
        std::thread::spawn(move || block_on(SqliteEngine(shared).commit(create("a", 2))).unwrap());
    while engine.0.queue().is_empty() {
        std::thread::yield_now();
    }
    drop(held);
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(waits.join().unwrap(), Outcome::Applied(_)));
}
