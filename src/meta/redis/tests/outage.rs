//! Connections that break, servers that stop: nothing is lost and nothing is done twice.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::Value as Reply;
use rustix::process::Signal;

use super::basics::join_all;
use super::server::*;
use crate::meta::engine::{Engine, EngineError, Session};
use crate::meta::redis::pack::pack;
use crate::meta::redis::words::{Asked, Words};
use crate::meta::redis::{Passwords, RedisAddress, RedisServer};
use crate::meta::txn::{Commit, Counter, Expect, Key, Mutation, Outcome, Value};
use crate::types::{FileType, Ino};
use crate::uring::{block_on, sleep, spawn, timeout};

/// A create that a second application would answer with a conflict.
fn create(number: u64) -> Commit {
    let text = name(&format!("f{number}"));
    Commit {
        expects: vec![Expect::EntryAbsent(Ino::ROOT, text.clone())],
        mutations: vec![
            Mutation::PutEntry(Ino::ROOT, text, FileType::File, Ino(number)),
            Mutation::Add(Counter::TotalInodes, 1),
        ],
        returns: vec![],
    }
}

/// Create `count` files from `first` on, some at a time; all are applied.
pub(super) async fn create_many(engine: &dyn Engine, first: u64, count: u64) {
    for start in (first..first + count).step_by(20) {
        let waits = (start..start + 20).map(|number| engine.commit(create(number)));
        for outcome in join_all(waits.collect()).await {
            assert_eq!(outcome.unwrap(), Outcome::Applied(vec![]));
        }
    }
}

pub(super) async fn assert_count(engine: &dyn Engine, count: u64) {
    let keys = [Key::DirLen(Ino::ROOT), Key::Counter(Counter::TotalInodes)];
    let found = engine.fetch(&keys).await.unwrap();
    assert_eq!(found, [Value::DirLen(count), Value::Counter(count as i64)]);
}

#[test]
fn a_batch_sent_twice_is_applied_once() {
    let server = TestServer::start(&[]);
    let mut line = server.line();
    let words = pack(&create(5));
    let mut send = |client: &[u8], sequence: &[u8]| {
        let mut all = Words::default();
        all.add("EVAL").add(include_str!("../commit.lua")).number(1).add("Uring:seq");
        all.add(client).add(sequence).add("").append(&words);
        let mut asked = Asked::default();
        asked.command(&all);
        line.exchange(&asked.packed)
    };
    let applied = Reply::BulkString(b"A".to_vec());
    assert_eq!(send(b"0_one", b"7"), applied);
    assert_eq!(send(b"0_one", b"7"), applied, "the answer is the first one's");
    let conflict = Reply::BulkString(b"X\0\0".to_vec());
    assert_eq!(send(b"0_one", b"8"), conflict);
    assert_eq!(send(b"0_one", b"8"), conflict);
    assert_eq!(send(b"0_two", b"1"), conflict, "each client has its own sequence");
    assert!(matches!(send(b"0_one", b"7"), Reply::ServerError(error) if error.code() == "STALE"));
    block_on(assert_count(&*server.engine(), 1));
}

/// A client that was away so long that another one ended its session sends its last batch again.
#[test]
fn a_batch_sent_again_after_the_session_was_ended_is_applied_once() {
    let server = TestServer::start(&[]);
    let (away, other) = (server.engine(), server.engine());
    let session = |sid| Session { sid, expire: 1, info: "{}".into() };
    block_on(async {
        away.put_session(session(3)).await.unwrap();
        other.put_session(session(4)).await.unwrap();
        let first = away.commit(create(5)).await.unwrap();
        assert_eq!(first, Outcome::Applied(vec![]));
        let mut line = server.line();
        let client = line.text("HKEYS Uring:seq");
        assert!(client.starts_with("3_"), "{client}");
        other.end_session(3).await.unwrap();
        let mut all = Words::default();
        all.add("EVAL").add(include_str!("../commit.lua")).number(1).add("Uring:seq");
        all.add(client).number(1).add("").append(&pack(&create(5)));
        let mut asked = Asked::default();
        asked.command(&all);
        assert_eq!(line.exchange(&asked.packed), Reply::BulkString(b"A".to_vec()));
        assert_count(&*other, 1).await;
    });
}

/// Passes bytes on to the server, and cuts each connection after so many bytes of replies.
fn cutting_proxy(
    server: &TestServer,
    stop: &Arc<AtomicBool>,
    cuts: &Arc<AtomicU64>,
) -> RedisServer {
    let (to, from) = (server.path(), server.path().with_extension("proxy"));
    let listener = UnixListener::bind(&from).unwrap();
    let (stop, cuts) = (Arc::clone(stop), Arc::clone(cuts));
    // About what the handshake takes; after it replies are lost at any place.
    let handshake = server.line().bytes(&[b"INFO", b"server"]).len() as u64 + 250;
    std::thread::spawn(move || {
        for near in listener.incoming().map(Result::unwrap) {
            let far = UnixStream::connect(&to).unwrap();
            let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
            let number = cuts.fetch_add(1, Ordering::SeqCst);
            let limit =
                if stop.load(Ordering::SeqCst) { u64::MAX } else { handshake + number * 37 % 300 };
            pass(far, near, limit);
        }
    });
    RedisServer::new(RedisAddress::Unix(from), None, None, 0)
}

fn pass(mut from: UnixStream, mut to: UnixStream, limit: u64) {
    std::thread::spawn(move || {
        let (mut passed, mut buffer) = (0, [0; 512]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let count = count.min((limit - passed) as usize);
            if to.write_all(&buffer[..count]).is_err() || passed + count as u64 == limit {
                break;
            }
            passed += count as u64;
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn lost_replies_lose_nothing_and_repeat_nothing() {
    let server = TestServer::start(&[]);
    let (stop, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let engine = cutting_proxy(&server, &stop, &cuts).engine();
    block_on(async {
        create_many(&*engine, 100, 3000).await;
        stop.store(true, Ordering::SeqCst);
        assert_count(&*engine, 3000).await;
    });
    assert!(cuts.load(Ordering::SeqCst) > 5, "connections were cut");
}

#[test]
fn killed_connections_lose_nothing_and_repeat_nothing() {
    let server = TestServer::start(&[]);
    let (engine, mut line) = (server.engine(), server.line());
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&done);
    let killer = std::thread::spawn(move || {
        let mut killed = 0;
        while !seen.load(Ordering::SeqCst) {
            killed += line.text("CLIENT KILL TYPE normal SKIPME yes").parse::<u64>().unwrap();
            std::thread::sleep(Duration::from_millis(7));
        }
        killed
    });
    block_on(async {
        create_many(&*engine, 100, 4000).await;
        done.store(true, Ordering::SeqCst);
        let killed = killer.join().unwrap();
        assert!(killed > 3, "{killed} connections were killed");
        assert_count(&*engine, 4000).await;
    });
}

#[test]
fn a_redis_that_stands_still_is_waited_for() {
    let server = TestServer::start(&[]);
    let engine = server.engine();
    block_on(async {
        create_many(&*engine, 100, 20).await;
        server.signal(Signal::STOP);
        let began = Instant::now();
        let waiting = create_many(&*engine, 200, 20);
        let resumed = async {
            sleep(Duration::from_secs(2)).await;
            server.signal(Signal::CONT);
        };
        let mut both = (std::pin::pin!(waiting), std::pin::pin!(resumed));
        assert!(timeout(Duration::from_millis(100), both.0.as_mut()).await.is_err());
        both.1.as_mut().await;
        both.0.as_mut().await;
        assert!(began.elapsed() < Duration::from_secs(4));
        assert_count(&*engine, 40).await;
    });
}

#[test]
fn a_scan_that_another_server_took_over_from_begins_again() {
    let mut server = TestServer::start(&[]);
    let engine = server.engine();
    block_on(async {
        let nodes = (1..100).map(|number| Mutation::PutNode(Ino(number), file())).collect();
        engine.commit(changes(nodes)).await.unwrap();
        server.signal(rustix::process::Signal::STOP);
        let (table, changed) = (crate::meta::scan::Table::Nodes, async {
            sleep(Duration::from_millis(50)).await;
            server.stop();
            server.start_again(&[]);
        });
        // The first page was asked of the old one, and answered by the new one.
        let (page, ()) = futures_util::future::join(engine.scan(table, 0, 10), changed).await;
        let told = page.unwrap_err().to_string();
        assert!(told.contains("begin again"), "{told}");
        assert_eq!(engine.scan(table, 0, 10).await.unwrap().rows, []);
    });
}

#[test]
fn a_redis_that_is_started_again_is_waited_for() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = TestServer::start(&options);
    let engine = server.engine();
    block_on(async {
        create_many(&*engine, 100, 200).await;
        server.stop();
        let mut waiting = std::pin::pin!(create_many(&*engine, 500, 200));
        assert!(timeout(Duration::from_secs(1), waiting.as_mut()).await.is_err());
        server.start_again(&options);
        waiting.await;
        assert_count(&*engine, 400).await;
    });
}

#[test]
fn a_replica_that_becomes_master_is_waited_for() {
    let server = TestServer::start(&[]);
    let (engine, mut line) = (server.engine(), server.line());
    block_on(async {
        create_many(&*engine, 100, 20).await;
        line.text("REPLICAOF 127.0.0.1 1");
        let mut waiting = std::pin::pin!(create_many(&*engine, 200, 20));
        assert!(timeout(Duration::from_millis(300), waiting.as_mut()).await.is_err());
        line.text("REPLICAOF NO ONE");
        waiting.await;
        assert_count(&*engine, 40).await;
    });
}

#[test]
fn a_redis_that_was_never_there_is_told_by_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        (format!("redis://{address}/0"), address.to_string()),
        (format!("unix://{}/none.sock", folder.path().display()), "none.sock".into()),
        ("redis://no-such-host.invalid:7/0".into(), "no-such-host.invalid:7".into()),
    ];
    for (url, shown) in urls {
        let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
        let began = Instant::now();
        match block_on(engine.load_setting()) {
            Err(EngineError::Unavailable(text)) => assert!(text.contains(&shown), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{url}");
    }
}

#[test]
fn what_accepts_and_never_answers_is_given_up_at_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mute.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let engine = RedisServer::new(RedisAddress::Unix(path), None, None, 0).engine();
    let began = Instant::now();
    let error = block_on(engine.load_setting()).unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[test]
fn host_names_are_resolved() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let _server = TestServer::start(&["--port", &port.to_string()]);
    let engine = RedisServer::from_url(&format!("localhost:{port}/3"), Passwords::default())
        .unwrap()
        .engine();
    block_on(async {
        create_many(&*engine, 100, 20).await;
        assert!(
            engine
                .describe()
                .await
                .unwrap()
                .text
                .contains(&format!("localhost:{port}, database 3"))
        );
    });
}

#[test]
fn a_commit_whose_caller_is_gone_is_still_carried() {
    let server = TestServer::start(&[]);
    let engine = server.engine();
    block_on(async {
        engine.load_setting().await.unwrap();
        let given_up = timeout(Duration::ZERO, engine.commit(create(3))).await;
        assert!(given_up.is_err());
        create_many(&*engine, 100, 20).await;
        assert_count(&*engine, 21).await;
    });
}

#[test]
fn cores_that_want_the_same_names_get_each_once() {
    let server = TestServer::start(&[]);
    let shared = server.server(0);
    let cores: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let engine = shared.engine();
                block_on(async {
                    let waits = (0..300).map(|number| engine.commit(create(number + 100)));
                    let outcomes = join_all(waits.collect()).await;
                    let fine = |outcome: &Outcome| matches!(outcome, Outcome::Applied(_));
                    outcomes.into_iter().filter(|outcome| fine(outcome.as_ref().unwrap())).count()
                })
            })
        })
        .collect();
    let won: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
    assert_eq!(won, 300);
    block_on(assert_count(&*server.engine(), 300));
}

#[test]
fn a_handle_outlives_the_loop_that_used_it() {
    let server = TestServer::start(&[]);
    let engine = server.engine();
    for round in 0..3 {
        block_on(create_many(&*engine, 100 + round * 20, 20));
        // The loop ends with a commit on its way, in a task of its own.
        block_on(async {
            let engine = std::rc::Rc::clone(&engine);
            spawn(async move {
                let _ = engine.commit(create(1000 + round)).await;
            });
            sleep(Duration::from_micros(50)).await;
        });
    }
    let Value::DirLen(count) = block_on(engine.fetch(&[Key::DirLen(Ino::ROOT)])).unwrap()[0] else {
        panic!()
    };
    assert!((60..=63).contains(&count), "{count}");
    block_on(assert_count(&*engine, count));
}
