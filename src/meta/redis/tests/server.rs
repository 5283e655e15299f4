//! A real redis-server on a unix socket in a scratch folder, gone with its owner.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::{Cmd, Parser, Value};

use crate::meta::engine::Engine;
use crate::meta::redis::{RedisAddress, RedisServer};
use crate::meta::txn::{Commit, Outcome};
use crate::types::{Attr, FileType, Name, Time};

pub(crate) struct TestServer {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TestServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(&folder, options);
        let server = Self { child, folder };
        server.await_up();
        server
    }

    fn spawn(folder: &tempfile::TempDir, options: &[&str]) -> Child {
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--databases", "4", "--unixsocket", "redis.sock"])
            .args(options)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server in the path (package redis-server)")
    }

    fn await_up(&self) {
        let began = Instant::now();
        while UnixStream::connect(self.path()).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Kill the server; what it held is gone unless it kept it on disk.
    pub(super) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.path());
    }

    pub(super) fn start_again(&mut self, options: &[&str]) {
        self.child = Self::spawn(&self.folder, options);
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(super) fn server(&self, db: u32) -> RedisServer {
        RedisServer::new(RedisAddress::Unix(self.path()), None, None, db)
    }

    pub(crate) fn engine(&self) -> Rc<dyn Engine> {
        self.server(0).engine()
    }

    /// Fill the database with the commands of a dump.
    pub(crate) fn load(&self, dump: &[u8]) {
        self.line().load(dump);
    }

    /// What a command of plain words answers, as text.
    pub(crate) fn text(&self, line: &str) -> String {
        self.line().text(line)
    }

    pub(super) fn line(&self) -> Line {
        Line(UnixStream::connect(self.path()).unwrap(), Parser::new())
    }
}

/// A plain connection beside the engine.
pub(super) struct Line(UnixStream, Parser);

impl Line {
    pub(super) fn call(&mut self, words: &[&[u8]]) -> Value {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        self.exchange(&command.get_packed_command())
    }

    /// Send a packed command; its reply.
    pub(super) fn exchange(&mut self, packed: &[u8]) -> Value {
        self.0.write_all(packed).unwrap();
        self.1.parse_value(&mut self.0 as &mut dyn Read).unwrap()
    }

    pub(super) fn text(&mut self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        shown(&self.call(&words))
    }

    pub(super) fn bytes(&mut self, words: &[&[u8]]) -> Vec<u8> {
        match self.call(words) {
            Value::BulkString(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// Send packed commands of a dump, all of whose replies are good.
    pub(super) fn load(&mut self, dump: &[u8]) {
        let mut stream = self.0.try_clone().unwrap();
        let mut all = dump.to_vec();
        all.extend_from_slice(&redis::cmd("ECHO").arg("loaded").get_packed_command());
        let writer = std::thread::spawn(move || stream.write_all(&all).unwrap());
        loop {
            match self.1.parse_value(&mut self.0 as &mut dyn Read).unwrap() {
                Value::BulkString(bytes) if bytes == b"loaded" => break,
                Value::ServerError(error) => panic!("{error}"),
                _ => {}
            }
        }
        writer.join().unwrap();
    }

    /// Calls of a command since the counts were reset.
    pub(super) fn calls(&mut self, command: &str) -> usize {
        let text = String::from_utf8(self.bytes(&[b"INFO", b"commandstats"])).unwrap();
        let prefix = format!("cmdstat_{command}:calls=");
        let line = text.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

/// A port of this machine that nobody has.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(super) fn dir() -> Attr {
    Attr { mtime: Time { sec: 5, nsec: 7 }, ..Attr::new(FileType::Dir, 0o777, Time::default()) }
}

pub(super) fn file() -> Attr {
    Attr { kind: FileType::File, mode: 0o644, length: 0, nlink: 1, ..dir() }
}

pub(super) fn name(text: &str) -> Name {
    text.as_bytes().into()
}

pub(super) fn applied(outcome: &Outcome) -> &[Option<Attr>] {
    match outcome {
        Outcome::Applied(nodes) => nodes,
        Outcome::Conflict(index) => panic!("expectation {index} does not hold"),
    }
}

pub(super) fn changes(mutations: Vec<crate::meta::txn::Mutation>) -> Commit {
    Commit { mutations, ..Commit::default() }
}
