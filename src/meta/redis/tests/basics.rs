//! One engine, one server: meaning, bytes, round trips.

use super::server::*;
use crate::meta::engine::{Engine, EngineError, Session};
use crate::meta::record::{encode_node, encode_slice};
use crate::meta::redis::{Passwords, RedisAddress, RedisServer};
use crate::meta::txn::{
    Commit, Counter, Expect, Flock, Key, LockOwner, Mutation, NodeField, Outcome, Patch, Plock,
    SetNode, Value,
};
use crate::types::{Attr, FileType, Ino, SliceRecord, Time};
use crate::uring::block_on;

fn fresh() -> (TestServer, std::rc::Rc<dyn Engine>) {
    let server = TestServer::start(&[]);
    let engine = server.engine();
    block_on(engine.store_setting("{}".into(), vec![(Ino::ROOT, dir())])).unwrap();
    (server, engine)
}

fn create(text: &str, ino: u64) -> Commit {
    Commit {
        expects: vec![
            Expect::Node(Ino::ROOT, FileType::Dir),
            Expect::EntryAbsent(Ino::ROOT, name(text)),
            Expect::Room { space: 4096, inodes: 1, capacity: 1 << 40, inode_limit: 1000 },
        ],
        mutations: vec![
            Mutation::PutNode(Ino(ino), file()),
            Mutation::PutEntry(Ino::ROOT, name(text), FileType::File, Ino(ino)),
            Mutation::Add(Counter::UsedSpace, 4096),
            Mutation::Add(Counter::TotalInodes, 1),
            Mutation::AddDirStats(Ino::ROOT, 0, 4096, 1),
            Mutation::Patch(
                Ino::ROOT,
                Patch {
                    mtime: Some(Time { sec: 100, nsec: 1 }),
                    ctime: Some(Time { sec: 100, nsec: 1 }),
                    skip_if_younger_ns: 100_000_000,
                    ..Patch::default()
                },
            ),
        ],
        returns: vec![Ino(ino), Ino::ROOT, Ino(999)],
    }
}

async fn one(engine: &dyn Engine, key: Key) -> Value {
    engine.fetch(&[key]).await.unwrap().swap_remove(0)
}

#[test]
fn a_failed_expectation_leaves_nothing_behind() {
    let (_server, engine) = fresh();
    block_on(async {
        let done = engine.commit(create("a", 2)).await.unwrap();
        let nodes = applied(&done);
        assert_eq!(nodes[0], Some(file()));
        assert_eq!(nodes[1].as_ref().unwrap().mtime.sec, 100);
        assert_eq!(nodes[2], None);
        assert_eq!(engine.commit(create("a", 3)).await.unwrap(), Outcome::Conflict(1));
        let keys = [
            Key::Node(Ino(3)),
            Key::Counter(Counter::TotalInodes),
            Key::EntryNode(Ino::ROOT, name("a")),
            Key::EntryNode(Ino::ROOT, name("b")),
            Key::DirLen(Ino::ROOT),
        ];
        let found = engine.fetch(&keys).await.unwrap();
        assert_eq!(found[..2], [Value::Node(None), Value::Counter(1)]);
        assert_eq!(found[2], Value::EntryNode(Some((FileType::File, Ino(2), Some(file())))));
        assert_eq!(found[3..], [Value::EntryNode(None), Value::DirLen(1)]);
    });
}

#[test]
fn commits_made_at_once_share_batches_and_see_each_other() {
    let (server, engine) = fresh();
    let mut line = server.line();
    block_on(async {
        engine.fetch(&[Key::Node(Ino::ROOT)]).await.unwrap();
        line.text("CONFIG RESETSTAT");
        let mut waits = Vec::new();
        for number in 0..1200u64 {
            // Every third wants a name that its neighbour takes.
            let text = format!("f{}", number - number % 3 / 2);
            waits.push(engine.commit(create(&text, 10 + number)));
        }
        let (mut fine, mut conflicts) = (0, Vec::new());
        for outcome in join_all(waits).await {
            match outcome.unwrap() {
                Outcome::Applied(_) => fine += 1,
                Outcome::Conflict(index) => conflicts.push(index),
            }
        }
        // The room ends at 1000 inodes; a taken name is told first.
        assert_eq!(fine + conflicts.len(), 1200);
        assert_eq!(fine, 800);
        assert!(conflicts.iter().all(|index| *index == 1));
        assert_eq!(one(&*engine, Key::DirLen(Ino::ROOT)).await, Value::DirLen(800));
        assert_eq!(
            one(&*engine, Key::Counter(Counter::UsedSpace)).await,
            Value::Counter(800 * 4096)
        );
    });
    assert!(line.calls("evalsha") <= 6, "{} calls", line.calls("evalsha"));
}

/// All results, polled side by side.
pub(in crate::meta::redis) async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> =
        futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(move |context| {
        let mut waiting = false;
        for (future, output) in &mut futures {
            let Some(running) = future else { continue };
            match running.as_mut().poll(context) {
                std::task::Poll::Ready(done) => {
                    *output = Some(done);
                    *future = None;
                }
                std::task::Poll::Pending => waiting = true,
            }
        }
        if waiting {
            return std::task::Poll::Pending;
        }
        let outputs = futures.iter_mut().map(|(_, output)| output.take().unwrap());
        std::task::Poll::Ready(outputs.collect())
    })
    .await
}

#[test]
fn a_create_and_a_lookup_are_one_call_each() {
    let (server, engine) = fresh();
    let mut line = server.line();
    block_on(async {
        engine.fetch(&[Key::Node(Ino::ROOT)]).await.unwrap();
        line.text("CONFIG RESETSTAT");
        engine.commit(create("a", 2)).await.unwrap();
        assert_eq!((line.calls("evalsha"), line.calls("script|load")), (1, 0));
        engine.fetch(&[Key::EntryNode(Ino::ROOT, name("a"))]).await.unwrap();
        assert_eq!(line.calls("evalsha"), 2);
        // Scripts that Redis has lost are loaded again.
        line.text("SCRIPT FLUSH");
        assert!(matches!(engine.commit(create("b", 3)).await.unwrap(), Outcome::Applied(_)));
        line.text("SCRIPT FLUSH");
        let found = one(&*engine, Key::EntryNode(Ino::ROOT, name("b"))).await;
        assert!(matches!(found, Value::EntryNode(Some((FileType::File, Ino(3), Some(_))))));
    });
}

#[test]
fn a_mount_makes_a_second_file_in_one_call() {
    use crate::meta::{Meta, MetaShared, NewNode, Rules, Who};
    let (server, engine) = fresh();
    let mut line = server.line();
    let meta = Meta::new(engine, MetaShared::new(Ino::ROOT, false, 0, Rules::default()));
    let new = NewNode { kind: FileType::File, mode: 0o644, umask: 0, rdev: 0, target: None };
    block_on(async {
        meta.create(Ino::ROOT, b"one", &new, Who { uid: 0, gid: 0 }).await.unwrap();
        line.text("CONFIG RESETSTAT");
        meta.create(Ino::ROOT, b"two", &new, Who { uid: 0, gid: 0 }).await.unwrap();
        // The script itself reads the parent; nothing else does.
        assert_eq!((line.calls("evalsha"), line.calls("get")), (1, 1));
    });
}

#[test]
fn transactions_of_official_clients_fail_on_what_was_changed() {
    let (server, engine) = fresh();
    let mut line = server.line();
    let record = SliceRecord { pos: 0, id: 1, size: 10, off: 0, len: 10 };
    let push = vec![
        Mutation::PushSlices(Ino(2), 0, vec![record]),
        // Nothing in the node changes, and yet a reader of it must look again.
        Mutation::Patch(Ino(2), Patch { length_at_least: Some(0), ..Patch::default() }),
    ];
    block_on(async {
        for (watched, commit) in
            [("d1", create("a", 2)), ("i2", changes(push)), ("i1", create("b", 3))]
        {
            // The parent's times are old enough to be touched.
            line.call(&[b"SET", b"i1", &encode_node(&dir())]);
            line.text(&format!("WATCH {watched}"));
            assert!(matches!(engine.commit(commit).await.unwrap(), Outcome::Applied(_)));
            line.text("MULTI");
            line.text("INCR touched");
            assert_eq!(line.text("EXEC"), "nil", "{watched}");
        }
        assert_eq!(line.text("EXISTS touched"), "0");
    });
}

#[test]
fn patches_commute_and_charge_growth() {
    let (server, engine) = fresh();
    block_on(async {
        let parent = Ino(0x7FFF_FFFF_1000_0001);
        let node = Attr { parent, ..file() };
        let made = vec![Mutation::PutNode(Ino(2), node), Mutation::InitDirStats(parent)];
        engine.commit(changes(made)).await.unwrap();
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
        let done = engine.commit(grow(500, 10)).await.unwrap();
        let node = applied(&done)[0].clone().unwrap();
        assert_eq!((node.length, node.mtime.sec), (10_000, 20));
        let long = (1 << 56) + 4097;
        engine.commit(grow(long, -3)).await.unwrap();
        let used = one(&*engine, Key::Counter(Counter::UsedSpace)).await;
        assert_eq!(used, Value::Counter((1 << 56) + 4096));
        let wrong = Commit {
            expects: vec![Expect::NodeFields(Ino(2), vec![NodeField::Length(500)])],
            ..Commit::default()
        };
        assert_eq!(engine.commit(wrong).await.unwrap(), Outcome::Conflict(0));
        let mut line = server.line();
        let stats = |line: &mut Line, hash: &str| line.text(&format!("HGET {hash} {parent}"));
        assert_eq!(stats(&mut line, "dirDataLength"), long.to_string());
        assert_eq!(stats(&mut line, "dirUsedSpace"), ((1u64 << 56) + 4096).to_string());
        assert_eq!(stats(&mut line, "dirUsedInodes"), "0");
    });
}

#[test]
fn records_have_the_real_clients_bytes() {
    let (server, engine) = fresh();
    let mut line = server.line();
    let owner = LockOwner { sid: 3, owner: 0xBEEF };
    let record = SliceRecord { pos: 100, id: 1, size: 5000, off: 0, len: 5000 };
    let hole = SliceRecord { pos: 0, id: 0, size: 0, off: 0, len: 9 };
    let node = Attr { access_acl: 5, tier: 2, ..file() };
    let made = vec![
        Mutation::PutNode(Ino(2), node.clone()),
        Mutation::PutEntry(Ino::ROOT, name("f"), FileType::File, Ino(2)),
        Mutation::PutSymlink(Ino(3), name("target")),
        Mutation::PushSlices(Ino(2), 0, vec![record]),
        Mutation::PushHolesIfListed(Ino(2), 0, vec![hole]),
        Mutation::PushHolesIfListed(Ino(2), 7, vec![hole]),
        Mutation::ShareSlices(Ino(2), 1, vec![record, hole]),
        Mutation::AddParent(Ino(2), Ino(1), 2),
        Mutation::PutXattr(Ino(2), name("user.a"), b"\0v"[..].into()),
        Mutation::QueueFile(Ino(9), 77, 1_700_000_000),
        Mutation::PutSustained(3, Ino(8)),
        Mutation::InitDirStats(Ino(4)),
        Mutation::SetFlock(Ino(2), owner, Some(true)),
        Mutation::SetPlock(Ino(2), owner, Some([7; 24].into())),
    ];
    block_on(engine.commit(changes(made))).unwrap();
    assert_eq!(line.bytes(&[b"GET", b"i2"]), encode_node(&node));
    assert_eq!(line.bytes(&[b"HGET", b"d1", b"f"]), [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(line.text("GET s3"), "target");
    assert_eq!(line.bytes(&[b"LINDEX", b"c2_0", b"0"]), encode_slice(&record));
    assert_eq!((line.text("LLEN c2_0"), line.text("LLEN c2_1")), ("2".into(), "2".into()));
    assert_eq!(line.text("EXISTS c2_7"), "0");
    assert_eq!(
        (line.text("HLEN sliceRef"), line.text("HGET sliceRef k1_5000")),
        ("1".into(), "1".into())
    );
    assert_eq!(line.text("HGET p2 1"), "2");
    assert_eq!(line.bytes(&[b"HGET", b"x2", b"user.a"]), b"\0v");
    assert_eq!(line.text("ZSCORE delfiles 9:77"), "1700000000");
    assert_eq!(line.text("SISMEMBER session3 8"), "1");
    for hash in ["dirDataLength", "dirUsedSpace", "dirUsedInodes"] {
        assert_eq!(line.text(&format!("HGET {hash} 4")), "0");
    }
    assert_eq!(line.text("HGET lockf2 3_000000000000BEEF"), "W");
    assert_eq!(line.bytes(&[b"HGET", b"lockp2", b"3_000000000000BEEF"]), [7; 24]);
    assert_eq!(line.text("SCARD locked3"), "2");
    assert_eq!(line.text("TYPE Uring:seq"), "hash");
    let gone = vec![
        Mutation::SetFlock(Ino(2), owner, None),
        Mutation::DelDirStats(Ino(4)),
        Mutation::DelSustained(3, Ino(8)),
        Mutation::UnqueueFile(Ino(9), 77),
    ];
    block_on(engine.commit(changes(gone))).unwrap();
    assert_eq!(
        (line.text("EXISTS lockf2 session3 delfiles"), line.text("SMEMBERS locked3")),
        ("0".into(), "lockp2".into())
    );
    assert_eq!(line.text("HGETALL dirUsedSpace"), "1 0", "the root's stay");
}

#[test]
fn fields_are_set_in_place_and_unknown_bytes_stay() {
    let (server, engine) = fresh();
    let mut line = server.line();
    let set = SetNode {
        mode: Some(0o4711),
        uid: Some(u32::MAX),
        parent: Some(Ino::TRASH),
        acl: Some((3, 4)),
        ctime: Some(Time { sec: -1, nsec: 5 }),
        ..SetNode::default()
    };
    let clear = SetNode { acl: Some((0, 0)), length: Some(u64::MAX >> 8), ..SetNode::default() };
    block_on(async {
        for tier in [0, 2] {
            let before = Attr { tier, ..file() };
            engine.commit(changes(vec![Mutation::PutNode(Ino(2), before.clone())])).await.unwrap();
            let mut after = before;
            for change in [&set, &clear] {
                crate::meta::node::set(&mut after, change);
                engine.commit(changes(vec![Mutation::Set(Ino(2), *change)])).await.unwrap();
                assert_eq!(line.bytes(&[b"GET", b"i2"]), encode_node(&after));
            }
        }
        // A record from before there were parents is completed when it is changed.
        line.call(&[b"SET", b"i2", &encode_node(&file())[..63]]);
        engine.commit(changes(vec![Mutation::Set(Ino(2), set)])).await.unwrap();
        let Value::Node(Some(node)) = one(&*engine, Key::Node(Ino(2))).await else { panic!() };
        assert_eq!(
            (node.parent, node.access_acl, node.default_acl, node.tier),
            (Ino::TRASH, 3, 4, 0)
        );
    });
}

#[test]
fn sessions_end_with_their_locks_and_sequences() {
    let (server, engine) = fresh();
    let mut line = server.line();
    let (ours, theirs) = (LockOwner { sid: 3, owner: 1 }, LockOwner { sid: 30, owner: 1 });
    block_on(async {
        let session = Session { sid: 3, expire: 500, info: "{\"Version\":\"x\"}".into() };
        engine.put_session(session.clone()).await.unwrap();
        let other = Session { sid: 30, expire: 600, info: "{}".into() };
        line.text("ZADD allSessions 600 30");
        let made = vec![
            Mutation::SetFlock(Ino(2), ours, Some(false)),
            Mutation::SetFlock(Ino(2), theirs, Some(false)),
            Mutation::SetPlock(Ino(2), ours, Some([1; 24].into())),
            Mutation::PutSustained(3, Ino(8)),
            Mutation::PutSustained(3, Ino::TRASH),
        ];
        engine.commit(changes(made)).await.unwrap();
        assert_eq!(engine.sessions().await.unwrap(), [session, other.clone()]);
        assert_eq!(line.text("HLEN Uring:seq"), "1");
        let fields = "0_01_99 1 0_02_9999999999 1 9_03_99 1 9_03_99! 1 9_ended 99 30_04_99 1 9_05 0001 \
                      7_06_99 1 30_ended 99";
        line.text(&format!("HSET Uring:seq {fields}"));
        let mut kept = engine.end_session(3).await.unwrap();
        kept.sort_unstable();
        assert_eq!(kept, [Ino(8), Ino::TRASH]);
        assert_eq!(engine.sessions().await.unwrap().len(), 2);
        line.text("DEL session3");
        assert_eq!(engine.end_session(3).await.unwrap(), []);
        // A session that another client has ended is marked, its sequences stay for a day.
        assert!(line.text("HGET Uring:seq 7_ended").parse::<i64>().unwrap() > 1_700_000_000);
        line.text("HDEL Uring:seq 7_ended");
        assert_eq!(line.text("HKEYS Uring:seq"), "0_02_9999999999 30_04_99 7_06_99");
        assert_eq!(engine.sessions().await.unwrap(), [other]);
        let found = engine.fetch(&[Key::Flocks(Ino(2)), Key::Plocks(Ino(2))]).await.unwrap();
        let left = Flock { owner: theirs, exclusive: false };
        assert_eq!(found, [Value::Flocks(vec![left]), Value::Plocks(vec![])]);
        assert_eq!(line.text("EXISTS locked3 sessionInfos"), "0");
    });
}

#[test]
fn locks_are_expected_as_they_were_seen() {
    let (_server, engine) = fresh();
    let (first, second) = (LockOwner { sid: 1, owner: u64::MAX }, LockOwner { sid: 2, owner: 0 });
    block_on(async {
        let take = |seen: Vec<Flock>, owner| Commit {
            expects: vec![Expect::FlocksAre(Ino(2), seen)],
            mutations: vec![Mutation::SetFlock(Ino(2), owner, Some(false))],
            returns: vec![],
        };
        engine.commit(take(vec![], first)).await.unwrap();
        assert_eq!(engine.commit(take(vec![], second)).await.unwrap(), Outcome::Conflict(0));
        let Value::Flocks(seen) = one(&*engine, Key::Flocks(Ino(2))).await else { panic!() };
        assert!(matches!(engine.commit(take(seen, second)).await.unwrap(), Outcome::Applied(_)));
        let mutations = vec![Mutation::SetPlock(Ino(2), second, Some([5; 48].into()))];
        let expects = vec![Expect::PlocksAre(Ino(2), vec![])];
        let commit = Commit { expects, mutations, returns: vec![] };
        engine.commit(commit.clone()).await.unwrap();
        assert_eq!(engine.commit(commit).await.unwrap(), Outcome::Conflict(0));
        let held = vec![Plock { owner: second, records: [5; 48].into() }];
        assert_eq!(one(&*engine, Key::Plocks(Ino(2))).await, Value::Plocks(held));
    });
}

#[test]
fn counters_jobs_and_the_queue_follow_the_official_client() {
    let (server, engine) = fresh();
    block_on(async {
        assert_eq!(engine.reserve(Counter::NextInode, 1024).await.unwrap(), 1024);
        assert_eq!(engine.reserve(Counter::NextChunk, 4096).await.unwrap(), 4096);
        assert_eq!(engine.reserve(Counter::NextSession, 1).await.unwrap(), 1);
        assert_eq!(server.line().text("GET nextinode"), "1024");
        assert!(engine.win_job("lastCleanupFiles", 1000, 10).await.unwrap());
        assert!(!engine.win_job("lastCleanupFiles", 1005, 10).await.unwrap());
        assert!(engine.win_job("lastCleanupFiles", 1010, 10).await.unwrap());
        let queue = (1..5).map(|ino| Mutation::QueueFile(Ino(ino), ino * 10, ino as i64 * 100));
        engine.commit(changes(queue.collect())).await.unwrap();
        server.line().text("ZADD delfiles 1 legacy");
        let queued = engine.queued_files(300, 10).await.unwrap();
        assert_eq!(queued, [(Ino(1), 10), (Ino(2), 20)]);
        let told = engine.describe().await.unwrap();
        let settings =
            "database 0, appendonly no, appendfsync everysec, maxmemory-policy noeviction";
        assert!(told.text.contains(settings), "{told:?}");
        assert_eq!(told.warnings.len(), 1, "{told:?}");
    });
}

#[test]
fn lists_of_chunks_are_found_and_compacted_in_place() {
    let (_server, engine) = fresh();
    let record = |id, pos| SliceRecord { pos, id, size: 10, off: 0, len: 10 };
    block_on(async {
        let long = Attr { length: 3 << 26, ..file() };
        let huge = Attr { length: 1 << 56, ..file() };
        let mut made = vec![Mutation::PutNode(Ino(2), long), Mutation::PutNode(Ino(3), huge)];
        for (ino, index) in [(2, 0), (2, 2), (3, 12_000_000), (3, 5), (4, 1), (6, 2), (6, 16_385)] {
            made.push(Mutation::PushSlices(Ino(ino), index, vec![record(1, 0), record(2, 5)]));
        }
        engine.commit(changes(made)).await.unwrap();
        // The first pages are tried where few chunks are left, else all keys are searched.
        let asked = [(2, 0, 3), (3, 0, 1 << 30), (4, 1, 2), (5, 0, 9), (6, 1, 16_387)];
        let keys = asked.map(|(ino, start, end)| Key::Chunks(Ino(ino), start, end));
        let found = engine.fetch(&keys).await.unwrap();
        let expected = [vec![0, 2], vec![5, 12_000_000], vec![1], vec![], vec![2, 16_385]];
        assert_eq!(found, expected.map(Value::Chunks));
        let few = [Key::Chunks(Ino(6), 0, 3), Key::Chunks(Ino(2), 1, 3), Key::Chunks(Ino(9), 0, 0)];
        let found = engine.fetch(&few).await.unwrap();
        assert_eq!(found, [vec![2], vec![2], vec![]].map(Value::Chunks));
        let seen = vec![record(1, 0), record(2, 5)];
        let compact = Commit {
            expects: vec![Expect::ChunkPrefix(Ino(2), 0, seen)],
            mutations: vec![
                Mutation::PushSlices(Ino(2), 0, vec![record(3, 7)]),
                Mutation::ReplacePrefix(Ino(2), 0, 2, vec![record(8, 0), record(9, 4)]),
            ],
            returns: vec![],
        };
        engine.commit(compact.clone()).await.unwrap();
        let list = one(&*engine, Key::Chunk(Ino(2), 0)).await;
        assert_eq!(list, Value::Chunk(vec![record(8, 0), record(9, 4), record(3, 7)]));
        assert_eq!(engine.commit(compact).await.unwrap(), Outcome::Conflict(0));
    });
}

#[test]
fn room_is_counted_exactly_beyond_what_doubles_hold() {
    let (server, engine) = fresh();
    let mut line = server.line();
    let room = |space, capacity| Commit {
        expects: vec![Expect::Room { space, inodes: 0, capacity, inode_limit: 0 }],
        ..Commit::default()
    };
    let limit = (1u64 << 62) + 1;
    block_on(async {
        for (used, space, fits) in [
            (limit as i64 - 7, 7, true),
            (limit as i64 - 7, 8, false),
            (-5, 3, true),
            (limit as i64 + 5000, -1, true),
        ] {
            line.text(&format!("SET usedSpace {used}"));
            let outcome = engine.commit(room(space, limit)).await.unwrap();
            assert_eq!(matches!(outcome, Outcome::Applied(_)), fits, "{used} + {space}");
        }
    });
}

#[test]
fn damaged_records_are_named_and_stop_only_their_own_commit() {
    let (server, engine) = fresh();
    let mut line = server.line();
    line.text("SET i2 short");
    line.text("SET d5 nohash");
    line.text("RPUSH c2_0 short");
    block_on(async {
        let patch = Mutation::Patch(Ino(2), Patch { nlink: 1, ..Patch::default() });
        let entry = Mutation::PutEntry(Ino(5), name("x"), FileType::File, Ino(6));
        let waits = vec![
            engine.commit(changes(vec![patch])),
            engine.commit(create("a", 7)),
            engine.commit(changes(vec![entry])),
        ];
        let outcomes = join_all(waits).await;
        assert!(matches!(&outcomes[0], Err(EngineError::Corrupt { key, .. }) if key == "i2"));
        assert!(matches!(outcomes[1], Ok(Outcome::Applied(_))));
        assert!(matches!(&outcomes[2], Err(EngineError::Corrupt { .. })));
        for (key, text) in [
            (Key::Node(Ino(2)), "i2"),
            (Key::Entry(Ino(5), name("x")), "d5"),
            (Key::EntryNode(Ino(5), name("x")), "d5"),
            (Key::Chunk(Ino(2), 0), "c2_0"),
        ] {
            match engine.fetch(&[key]).await {
                Err(EngineError::Corrupt { key, .. }) => assert_eq!(key, text),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn the_real_clients_volumes_are_read() {
    for volume in ["plain", "clone"] {
        let server = TestServer::start(&[]);
        let path = format!("{}/tests/fixtures/{volume}/meta.redis", env!("CARGO_MANIFEST_DIR"));
        server.line().load(&std::fs::read(path).unwrap());
        let engine = server.engine();
        block_on(async {
            let setting = engine.load_setting().await.unwrap().unwrap();
            assert!(setting.contains(&format!("\"{volume}\"")), "{setting}");
            let (mut stack, mut seen) = (vec![Ino::ROOT], 0);
            while let Some(dir) = stack.pop() {
                let listed = engine.list(dir, true).await.unwrap();
                assert_eq!(
                    one(&*engine, Key::DirLen(dir)).await,
                    Value::DirLen(listed.len() as u64)
                );
                for entry in listed {
                    let attr = entry.attr.clone().unwrap();
                    assert_eq!(attr.kind, entry.kind);
                    let found = one(&*engine, Key::EntryNode(dir, entry.name.clone())).await;
                    assert_eq!(found, Value::EntryNode(Some((entry.kind, entry.ino, Some(attr)))));
                    check_content(&*engine, entry.ino, entry.kind).await;
                    seen += 1;
                    if entry.kind == FileType::Dir {
                        stack.push(entry.ino);
                    }
                }
            }
            assert!(seen > 10, "{volume} has {seen} names");
        });
    }
}

async fn check_content(engine: &dyn Engine, ino: Ino, kind: FileType) {
    if kind == FileType::Symlink {
        assert!(matches!(one(engine, Key::Symlink(ino)).await, Value::Symlink(Some(_))));
    }
    let Value::Chunks(indexes) = one(engine, Key::Chunks(ino, 0, u32::MAX)).await else { panic!() };
    for index in indexes {
        let Value::Chunk(records) = one(engine, Key::Chunk(ino, index)).await else { panic!() };
        assert!(!records.is_empty());
        for record in records.iter().filter(|record| record.id > 0) {
            let refs = one(engine, Key::SliceRef(record.id, record.size)).await;
            assert!(matches!(refs, Value::SliceRef(1..)), "{refs:?}");
        }
    }
    one(engine, Key::XattrNames(ino)).await;
    one(engine, Key::Parents(ino)).await;
}

#[test]
fn large_directories_are_listed_once_each() {
    let (_server, engine) = fresh();
    block_on(async {
        let put = |number: u64| {
            let text = format!("name-{number}");
            [
                Mutation::PutEntry(Ino::ROOT, name(&text), FileType::File, Ino(number + 2)),
                Mutation::PutNode(Ino(number + 2), Attr { uid: number as u32, ..file() }),
            ]
        };
        for start in [0, 5000] {
            let all = (start..start + 5000).flat_map(put).collect();
            engine.commit(changes(all)).await.unwrap();
        }
        let listed = engine.list(Ino::ROOT, true).await.unwrap();
        let names: std::collections::HashSet<_> = listed.iter().map(|entry| &entry.name).collect();
        assert_eq!((listed.len(), names.len()), (10_000, 10_000));
        assert!(
            listed
                .iter()
                .all(|entry| { u64::from(entry.attr.as_ref().unwrap().uid) + 2 == entry.ino.0 })
        );
        let bare = engine.list(Ino::ROOT, false).await.unwrap();
        assert!(bare.len() == 10_000 && bare[0].attr.is_none());
        assert_eq!(engine.list(Ino(77), true).await.unwrap(), []);
    });
}

#[test]
fn a_full_redis_is_told_and_nothing_changes() {
    let (server, engine) = fresh();
    let mut line = server.line();
    block_on(async {
        engine.commit(create("a", 2)).await.unwrap();
        line.text("CONFIG SET maxmemory 1");
        let unlink = Mutation::DelEntry(Ino::ROOT, name("a"));
        let waits = vec![engine.commit(changes(vec![unlink])), engine.commit(create("b", 3))];
        for outcome in join_all(waits).await {
            assert!(matches!(outcome, Err(EngineError::Full(_))), "{outcome:?}");
        }
        line.text("CONFIG SET maxmemory 0");
        assert_eq!(one(&*engine, Key::DirLen(Ino::ROOT)).await, Value::DirLen(1));
        assert!(matches!(engine.commit(create("b", 3)).await.unwrap(), Outcome::Applied(_)));
    });
}

#[test]
fn who_may_not_enter_is_told_why() {
    let server = TestServer::start(&["--requirepass", "secret"]);
    let entered = |user: Option<&str>, password: Option<&str>, db| {
        let address = RedisAddress::Unix(server.path());
        let server = RedisServer::new(address, user.map(Into::into), password.map(Into::into), db);
        let engine = server.engine();
        block_on(engine.load_setting())
    };
    assert_eq!(entered(None, Some("secret"), 1).unwrap(), None);
    assert_eq!(entered(Some("default"), Some("secret"), 0).unwrap(), None);
    for (password, db) in [(None, 0), (Some("wrong"), 0), (Some("secret"), 99)] {
        let error = entered(None, password, db).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
    let url = format!("unix://:secret@{}?db=2", server.path().display());
    let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
    block_on(engine.store_setting("two".into(), vec![])).unwrap();
    assert_eq!(entered(None, Some("secret"), 2).unwrap().as_deref(), Some("two"));
}

#[test]
fn nodes_of_a_cluster_are_refused_by_name() {
    let port = free_port().to_string();
    let server = TestServer::start(&["--cluster-enabled", "yes", "--cluster-port", &port]);
    for db in [0, 1] {
        let error = block_on(server.server(db).engine().load_setting()).unwrap_err().to_string();
        assert!(error.contains("Redis Cluster, which is not served"), "{error}");
    }
}
