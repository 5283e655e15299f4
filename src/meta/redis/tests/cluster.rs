//! A volume in a real Redis Cluster; how it fares under load is the suite `cluster`'s.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::basics::join_all;
use super::outage::{assert_count, create_many};
use super::server::*;
use crate::meta::conformance::{agrees, conforms, formats};
use crate::meta::engine::{Engine, EngineError, Heard};
use crate::meta::mem::MemBase;
use crate::meta::redis::{Passwords, RedisServer};
use crate::meta::txn::{Key, LockOwner, Mutation, Value};
use crate::types::{FileType, Ino};
use crate::uring::{block_on, sleep, spawn, timeout};

/// Three masters with a third of the slots each.
struct Cluster(Vec<(TestServer, u16)>);

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Cluster {
    fn start() -> Self {
        let mut nodes = Vec::new();
        for (first, last) in [(0, 5460), (5461, 10922), (10923, 16383)] {
            let (port, bus) = (free_port(), free_port());
            let (port_text, bus_text) = (port.to_string(), bus.to_string());
            let options = ["--port", &port_text, "--cluster-enabled", "yes"];
            let more = ["--cluster-port", &bus_text, "--cluster-node-timeout", "5000"];
            let server = TestServer::start(&[&options[..], &more].concat());
            server.text(&format!("CLUSTER SET-CONFIG-EPOCH {}", nodes.len() + 1));
            assert_eq!(server.text(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "ok");
            if let Some((met, ..)) = nodes.first().map(|(server, _): &(TestServer, u16)| (server,))
            {
                met.text(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
            }
            nodes.push((server, port));
        }
        let cluster = Self(nodes);
        for (node, _) in &cluster.0 {
            let ready = || {
                let text = node.text("CLUSTER INFO");
                text.contains("cluster_state:ok") && text.contains("cluster_known_nodes:3")
            };
            eventually("the cluster stands", ready);
        }
        cluster
    }

    fn url(&self, nodes: &[usize], db: u32) -> String {
        let hosts: Vec<_> = nodes.iter().map(|at| format!("127.0.0.1:{}", self.0[*at].1)).collect();
        format!("redis://{}/{db}", hosts.join(","))
    }

    fn server(&self, db: u32) -> RedisServer {
        RedisServer::from_url(&self.url(&[0, 1, 2], db), Passwords::default()).unwrap()
    }

    fn engine(&self, db: u32) -> Rc<dyn Engine> {
        self.server(db).engine()
    }

    fn id(&self, node: usize) -> String {
        self.0[node].0.text("CLUSTER MYID")
    }

    /// Which node has the slot of a database.
    fn home(&self, db: u32) -> usize {
        let has = |(node, _): &(TestServer, u16)| node.text(&format!("EXISTS {{{db}}}x")) == "0";
        self.0.iter().position(has).unwrap()
    }

    /// Begin to move the slot of a database: where from, to, and its number.
    fn begin_move(&self, db: u32) -> (usize, usize, String) {
        let from = self.home(db);
        let to = (from + 1) % 3;
        let slot = self.0[0].0.text(&format!("CLUSTER KEYSLOT {{{db}}}"));
        let (old, new) = (self.id(from), self.id(to));
        self.0[to].0.text(&format!("CLUSTER SETSLOT {slot} IMPORTING {old}"));
        self.0[from].0.text(&format!("CLUSTER SETSLOT {slot} MIGRATING {new}"));
        (from, to, slot)
    }

    /// Move some keys; how many there were.
    fn move_keys(&self, (from, to, slot): &(usize, usize, String), count: usize) -> usize {
        let node = &self.0[*from].0;
        let keys = node.text(&format!("CLUSTER GETKEYSINSLOT {slot} {count}"));
        if keys.is_empty() {
            return 0;
        }
        let port = self.0[*to].1;
        node.text(&format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {keys}"));
        keys.split(' ').count()
    }

    fn end_move(&self, (from, to, slot): &(usize, usize, String)) {
        let new = self.id(*to);
        for node in [to, from] {
            self.0[*node].0.text(&format!("CLUSTER SETSLOT {slot} NODE {new}"));
        }
    }
}

#[test]
fn conforms_to_the_language_and_agrees_with_the_reference() {
    let cluster = Cluster::start();
    block_on(async {
        let engine = cluster.engine(1);
        formats(&*engine).await;
        conforms(engine).await;
        for seed in 1..=8 {
            let (engine, reference) = (cluster.engine(seed as u32 + 1), MemBase::new().engine());
            formats(&*engine).await;
            formats(&*reference).await;
            agrees(&*reference, &*engine, seed).await;
        }
    });
}

#[test]
fn every_key_and_every_member_that_is_one_has_the_prefix() {
    let cluster = Cluster::start();
    let (engine, holder) = (cluster.engine(5), LockOwner { sid: 3, owner: 9 });
    block_on(async {
        formats(&*engine).await;
        create_many(&*engine, 100, 100).await;
        let nodes = (100..200).map(|number| Mutation::PutNode(Ino(number), file())).collect();
        engine.commit(changes(nodes)).await.unwrap();
        let lock = vec![Mutation::SetFlock(Ino(100), holder, Some(true))];
        engine.commit(changes(lock)).await.unwrap();
    });
    let home = &cluster.0[cluster.home(5)].0;
    assert_eq!(home.text("SMEMBERS {5}locked3"), "{5}lockf100");
    for (node, _) in &cluster.0 {
        let keys = node.text("KEYS *");
        assert!(keys.split(' ').all(|key| key.is_empty() || key.starts_with("{5}")), "{keys}");
        assert!(!keys.contains("Uring:none"), "{keys}");
    }
    assert_eq!(home.text("HLEN {5}d1"), "100");
    block_on(async {
        let unlock = vec![Mutation::SetFlock(Ino(100), holder, None)];
        engine.commit(changes(unlock)).await.unwrap();
        let lock = vec![Mutation::SetPlock(Ino(100), holder, Some(vec![0; 24].into()))];
        engine.commit(changes(lock)).await.unwrap();
    });
    assert_eq!(home.text("SMEMBERS {5}locked3"), "{5}lockp100");
    block_on(engine.end_session(3)).unwrap();
    assert_eq!(home.text("EXISTS {5}locked3 {5}lockp100 {5}lockf100"), "0");
}

#[test]
fn any_node_leads_to_the_volume() {
    let cluster = Cluster::start();
    let nobody = free_port();
    for node in 0..3 {
        let url = cluster.url(&[node], 2);
        let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
        block_on(async {
            create_many(&*engine, 100 + node as u64 * 1000, 20).await;
            let told = engine.describe().await.unwrap().text;
            assert!(told.contains("a Cluster, keys with {2}"), "{told}");
        });
    }
    let url = format!("redis://127.0.0.1:{nobody},127.0.0.1:{}/2", cluster.0[0].1);
    let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
    block_on(assert_count(&*engine, 60));
}

#[test]
fn what_is_no_cluster_is_told_so() {
    let (one, two) = (free_port(), free_port());
    let _server = TestServer::start(&["--port", &one.to_string()]);
    let url = format!("redis://127.0.0.1:{one},127.0.0.1:{two}/1");
    let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
    let error = block_on(engine.load_setting()).unwrap_err();
    assert!(
        matches!(&error, EngineError::Refused(text) if text.contains("name one host")),
        "{error}"
    );
}

/// A node that has all slots, on a port; and the options to start it again with.
fn alone() -> (TestServer, u16, Vec<String>) {
    let (port, bus) = (free_port(), free_port());
    let words = format!("--port {port} --cluster-enabled yes --cluster-port {bus}");
    let options: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let server = TestServer::start(&options.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.text("CLUSTER ADDSLOTSRANGE 0 16383"), "ok");
    eventually("it stands", || server.text("CLUSTER INFO").contains("cluster_state:ok"));
    (server, port, options)
}

#[test]
fn a_stray_server_among_the_nodes_ends_no_wait_for_the_others() {
    let (mut node, port, options) = alone();
    let stray_port = free_port();
    let _stray = TestServer::start(&["--port", &stray_port.to_string()]);
    let url = format!("redis://127.0.0.1:{stray_port},127.0.0.1:{port}/1");
    let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
    assert_eq!(block_on(engine.load_setting()).unwrap(), None);
    node.stop();
    block_on(async {
        let early = timeout(Duration::from_millis(500), engine.load_setting()).await;
        assert!(early.is_err(), "it is no error: {early:?}");
        node.start_again(&options.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(engine.load_setting().await.unwrap(), None);
    });
}

#[test]
fn nodes_that_do_not_answer_keep_nobody_for_long() {
    let (node, port, _options) = alone();
    // What is connected to waits in the kernel, and nobody answers.
    let silent: Vec<_> =
        (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let at = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
    let nodes: Vec<_> = silent.iter().map(at).collect();
    let url = format!("redis://{},127.0.0.1:{port}/1", nodes.join(","));
    let began = Instant::now();
    let engine = RedisServer::from_url(&url, Passwords::default()).unwrap().engine();
    assert_eq!(block_on(engine.load_setting()).unwrap(), None);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "three that are silent take {took:?}");
    assert_eq!(node.line().calls("select"), 0, "the number is in the names of keys");
}

/// While a slot moves nothing is done by half: all waits, and goes on at the new place.
#[test]
fn work_waits_while_the_slot_moves_and_goes_on() {
    let cluster = Rc::new(Cluster::start());
    block_on(async {
        let engine = cluster.engine(1);
        formats(&*engine).await;
        create_many(&*engine, 1000, 500).await;
        for round in 0..4 {
            let moving = cluster.begin_move(1);
            let (working, first) = (cluster.engine(1), 10_000 * (round + 1));
            let work = async {
                create_many(&*working, first, 200).await;
                Instant::now()
            };
            let mover = async {
                sleep(Duration::from_millis(50)).await;
                while cluster.move_keys(&moving, 3) > 0 {
                    sleep(Duration::from_millis(20)).await;
                }
                sleep(Duration::from_millis(200)).await;
                let ended = Instant::now();
                cluster.end_move(&moving);
                ended
            };
            let both: Vec<std::pin::Pin<Box<dyn Future<Output = Instant>>>> =
                vec![Box::pin(work), Box::pin(mover)];
            let ends = join_all(both).await;
            assert!(ends[0] > ends[1], "nobody had to wait");
            assert_ne!(cluster.home(1), moving.0);
            assert_count(&*engine, 500 + 200 * (round + 1)).await;
        }
        let listed = engine.list(Ino::ROOT, false).await.unwrap();
        assert_eq!(listed.len(), 1300);
    });
}

#[test]
fn a_scan_does_not_go_on_at_another_node() {
    let cluster = Cluster::start();
    block_on(async {
        let engine = cluster.engine(1);
        let nodes = (1..5000).map(|number| Mutation::PutNode(Ino(number), file())).collect();
        engine.commit(changes(nodes)).await.unwrap();
        let table = crate::meta::scan::Table::Nodes;
        let first = engine.scan(table, 0, 10).await.unwrap();
        let moving = cluster.begin_move(1);
        while cluster.move_keys(&moving, 100) > 0 {}
        cluster.end_move(&moving);
        let Err(error) = engine.scan(table, first.next.unwrap(), 10).await else {
            panic!("it went on")
        };
        assert!(error.to_string().contains("begin again"), "{error}");
        let (mut from, mut count) = (Some(0), 0);
        while let Some(at) = from {
            let page = engine.scan(table, at, 10).await.unwrap();
            (from, count) = (page.next, count + page.rows.len());
        }
        assert_eq!(count, 4999);
    });
}

#[test]
fn changes_are_heard_until_the_slot_moves() {
    let cluster = Cluster::start();
    block_on(async {
        let engine = cluster.engine(1);
        let told = Rc::new(std::cell::RefCell::new(Vec::new()));
        let (hears, watching) = (Rc::clone(&told), cluster.engine(1));
        let ended = Rc::new(std::cell::Cell::new(false));
        let end = Rc::clone(&ended);
        spawn(async move {
            watching.watch(Rc::new(move |heard| hears.borrow_mut().push(heard))).await;
            end.set(true);
        });
        let until = async |is_so: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !is_so() {
                assert!(began.elapsed() < Duration::from_secs(10), "it did not happen");
                sleep(Duration::from_millis(5)).await;
            }
        };
        until(&|| *told.borrow() == [Heard::Began]).await;
        let entry = Mutation::PutEntry(Ino(1), name("a"), FileType::File, Ino(7));
        engine.commit(changes(vec![Mutation::PutNode(Ino(7), file()), entry])).await.unwrap();
        until(&|| told.borrow().len() == 3).await;
        assert!(told.borrow().contains(&Heard::Node(Ino(7))));
        assert!(told.borrow().contains(&Heard::Dir(Ino(1))));
        let moving = cluster.begin_move(1);
        until(&|| ended.get()).await;
        while cluster.move_keys(&moving, 100) > 0 {}
        cluster.end_move(&moving);
        let found = engine.fetch(&[Key::DirLen(Ino(1))]).await.unwrap();
        assert_eq!(found, [Value::DirLen(1)]);
    });
}
