//! A proxy between the engine and its Redis that hurts every batch of commits once.
//!
//! Owns the faults and the knowledge of which batches it has seen: the first sending of a batch is
//! hurt, the next one passes. Reads requests and replies one by one, so that a fault falls on
//! an exact point of an exact batch. Does not know what a batch means.

use std::collections::{HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::server::TestServer;
use crate::meta::redis::{RedisAddress, RedisServer};

/// What befalls a batch. Parts of messages are in sixteenths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// This part of the request reaches Redis, less than all; then the connection is cut.
    CutRequest(usize),
    /// Redis does it, this part of the reply comes back, less than all; then the connection is cut.
    CutReply(usize),
    /// Redis does it; the way back is closed, the way there stays open.
    HalfClose,
    /// The reply takes so long.
    Delay(Duration),
    /// Both messages go byte by byte, in pieces of so many.
    Rate(usize),
    /// Redis gets the request twice; both answers must be the same.
    DuplicateRequest,
    /// The reply comes twice.
    DuplicateReply,
    /// The connection is cut, and the request reaches Redis when so many later batches have begun:
    /// the one sent again is there before.
    Late(usize),
}

#[derive(Default)]
struct Seen {
    batches: HashSet<(Vec<u8>, Vec<u8>)>,
    held: VecDeque<Vec<u8>>,
    stale: usize,
}

/// A fault proxy in front of a server, as long as its process.
pub(super) struct FaultProxy {
    path: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl FaultProxy {
    pub(super) fn start(server: &TestServer, fault: Fault) -> Self {
        let path = server.path().with_extension("faults");
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (to, known) = (server.path(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for near in listener.incoming().map(Result::unwrap) {
                let (to, seen) = (to.clone(), Arc::clone(&known));
                std::thread::spawn(move || {
                    Passing::new(near, &to).serve(&seen, fault, &to);
                });
            }
        });
        Self { path, seen }
    }

    pub(super) fn server(&self) -> RedisServer {
        RedisServer::new(RedisAddress::Unix(self.path.clone()), None, None, 0)
    }

    /// Batches hurt so far.
    pub(super) fn hurt(&self) -> usize {
        self.seen.lock().unwrap().batches.len()
    }

    /// Requests that came so late that Redis refused them.
    pub(super) fn stale(&self) -> usize {
        self.seen.lock().unwrap().stale
    }
}

/// A stream whose messages are taken one by one.
struct Messages {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Messages {
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(len) = message_len(&self.bytes) {
                let rest = self.bytes.split_off(len);
                return Some(std::mem::replace(&mut self.bytes, rest));
            }
            let count = self.stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    fn send_slowly(&mut self, bytes: &[u8], piece: usize) -> Option<()> {
        bytes.chunks(piece).try_for_each(|some| {
            std::thread::sleep(Duration::from_micros(50));
            self.send(some)
        })
    }
}

/// The length of the message that begins here, once all of it is there.
fn message_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).unwrap().parse::<i64>().unwrap();
    match bytes[0] {
        b'$' => {
            let len = end + usize::try_from(number() + 2).map_or(0, |len| len.max(1));
            let len = if number() < 0 { end } else { len };
            (bytes.len() >= len).then_some(len)
        }
        b'*' => (0..number()).try_fold(end, |at, _| Some(at + message_len(&bytes[at..])?)),
        _ => Some(end),
    }
}

/// The words of a request.
fn words(request: &[u8]) -> Vec<&[u8]> {
    let head = |bytes: &[u8]| bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let (mut at, mut found) = (head(request), Vec::new());
    while at < request.len() {
        let begin = at + head(&request[at..]);
        at += message_len(&request[at..]).unwrap();
        found.push(&request[begin..at - 2]);
    }
    found
}

/// The client and the number of a batch of commits.
fn batch(request: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let words = words(request);
    let commits = words.len() > 6 && words[0] == b"EVALSHA" && words[3] == b"Uring:seq";
    commits.then(|| (words[4].to_vec(), words[5].to_vec()))
}

struct Passing {
    near: Messages,
    far: Messages,
}

impl Passing {
    fn new(near: UnixStream, to: &Path) -> Self {
        let messages = |stream| Messages { stream, bytes: Vec::new() };
        Self { near: messages(near), far: messages(UnixStream::connect(to).unwrap()) }
    }

    fn serve(mut self, seen: &Mutex<Seen>, fault: Fault, to: &Path) {
        while let Some(request) = self.near.next() {
            let first = batch(&request).is_some_and(|id| seen.lock().unwrap().batches.insert(id));
            let passed =
                if first { self.hurt(&request, seen, fault, to) } else { self.pass(&request) };
            if passed.is_none() {
                break;
            }
        }
        let _ = self.near.stream.shutdown(Shutdown::Both);
        let _ = self.far.stream.shutdown(Shutdown::Both);
    }

    fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        self.far.send(request)?;
        self.far.next()
    }

    fn pass(&mut self, request: &[u8]) -> Option<()> {
        let reply = self.ask(request)?;
        self.near.send(&reply)
    }

    /// Nothing when the connection ends with this.
    fn hurt(&mut self, request: &[u8], seen: &Mutex<Seen>, fault: Fault, to: &Path) -> Option<()> {
        let part = |bytes: &[u8], sixteenths: usize| {
            assert!(sixteenths < 16, "something is cut off");
            bytes.len() * sixteenths / 16
        };
        match fault {
            Fault::CutRequest(sixteenths) => {
                self.far.send(&request[..part(request, sixteenths)])?;
                None
            }
            Fault::CutReply(sixteenths) => {
                let reply = self.ask(request)?;
                self.near.send(&reply[..part(&reply, sixteenths)])?;
                None
            }
            Fault::HalfClose => {
                self.ask(request)?;
                self.near.stream.shutdown(Shutdown::Write).ok()?;
                while self.near.next().is_some() {}
                None
            }
            Fault::Delay(time) => {
                let reply = self.ask(request)?;
                std::thread::sleep(time);
                self.near.send(&reply)
            }
            Fault::Rate(piece) => {
                self.far.send_slowly(request, piece)?;
                let reply = self.far.next()?;
                self.near.send_slowly(&reply, piece)
            }
            Fault::DuplicateRequest => {
                let replies = [self.ask(request)?, self.ask(request)?];
                assert_eq!(replies[0], replies[1], "a batch is answered the same twice");
                self.near.send(&replies[0])
            }
            Fault::DuplicateReply => {
                let reply = self.ask(request)?;
                self.near.send(&[&reply[..], &reply].concat())
            }
            Fault::Late(batches) => {
                let mut seen = seen.lock().unwrap();
                seen.held.push_back(request.to_vec());
                if seen.held.len() > batches {
                    let late = seen.held.pop_front().expect("one is held");
                    let mut line = Self::new(UnixStream::pair().unwrap().0, to);
                    let reply = line.ask(&late)?;
                    seen.stale += usize::from(reply.starts_with(b"-STALE"));
                    assert!(reply.starts_with(b"-STALE") || reply.starts_with(b"$"), "{reply:?}");
                }
                None
            }
        }
    }
}
