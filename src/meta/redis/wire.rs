//! One connection: bytes out in the order asked, replies back in that order.
//!
//! Owns the socket and the questions without an answer. Three tasks serve it, each of which closes
//! it when it ends or is dropped with its core: a writer while there is something to send, a
//! reader, and a watch that does not wait for ever. Does not know what is said nor how to connect.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use redis::{Parser, Value};

use super::words::Asked;
use crate::stdx::{Sender, monotonic_ns, oneshot};
use crate::uring::net::{recv, send_all};
use crate::uring::{sleep, spawn};

/// Without a byte for this long while an answer is due, the other side counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const WATCH_PAUSE: Duration = Duration::from_secs(5);
/// Bytes received at a time.
const RECEIVE_BYTES: usize = 64 << 10;

/// The connection is gone; what was asked may or may not have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut;

/// Who waits for the next so many replies.
struct Waiting {
    left: usize,
    replies: Vec<Value>,
    sender: Sender<Vec<Value>>,
}

pub(super) struct Wire {
    fd: OwnedFd,
    outbox: RefCell<Vec<u8>>,
    sending: Cell<bool>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// When the last byte came, or the first of those who wait began to.
    heard_ns: Cell<u64>,
    cut: Cell<bool>,
}

/// Closes the wire when the task that serves it ends, also by being dropped.
struct Serving {
    wire: Rc<Wire>,
    closes: bool,
}

impl Serving {
    fn new(wire: &Rc<Wire>) -> Self {
        Self { wire: Rc::clone(wire), closes: true }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.closes {
            self.wire.close();
        }
    }
}

impl Wire {
    /// Serve a connected socket.
    pub(super) fn new(fd: OwnedFd) -> Rc<Self> {
        let wire = Rc::new(Self {
            fd,
            outbox: RefCell::default(),
            sending: Cell::new(false),
            waiting: RefCell::default(),
            heard_ns: Cell::new(monotonic_ns()),
            cut: Cell::new(false),
        });
        spawn(read_replies(Serving::new(&wire)));
        spawn(watch(Rc::downgrade(&wire)));
        wire
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// End the connection; those who wait for replies are told.
    pub(super) fn close(&self) {
        if !self.cut.replace(true) {
            // The reader sees the end of the stream; an error means it has seen it already.
            let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
            let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
            drop(waiting);
        }
    }

    /// Send commands and wait for their replies.
    pub(super) async fn ask(self: &Rc<Self>, asked: &Asked) -> Result<Vec<Value>, Cut> {
        if self.is_cut() {
            return Err(Cut);
        }
        assert!(asked.replies > 0, "whoever asks waits for an answer");
        let (sender, receiver) = oneshot();
        {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                self.heard_ns.set(monotonic_ns());
            }
            let replies = Vec::with_capacity(asked.replies);
            waiting.push_back(Waiting { left: asked.replies, replies, sender });
        }
        self.outbox.borrow_mut().extend_from_slice(&asked.packed);
        if !self.sending.replace(true) {
            spawn(send_outbox(Serving::new(self)));
        }
        receiver.await.map_err(|_| Cut)
    }

    /// Hand a reply to whom it belongs; false if nobody has asked.
    fn deliver(&self, value: Value) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some(first) = waiting.front_mut() else { return false };
        first.replies.push(value);
        first.left -= 1;
        if first.left == 0 {
            let done = waiting.pop_front().expect("the first one is there");
            drop(waiting);
            done.sender.send(done.replies);
        }
        true
    }
}

async fn send_outbox(mut serving: Serving) {
    let wire = Rc::clone(&serving.wire);
    let mut spare = Vec::new();
    while !wire.outbox.borrow().is_empty() {
        let bytes = wire.outbox.replace(spare);
        let (sent, buffer) = send_all(&wire.fd, bytes).await;
        if sent.is_err() {
            return;
        }
        spare = buffer;
    }
    wire.sending.set(false);
    serving.closes = false;
}

/// Received bytes as a stream that says "not yet" at its end.
struct Arrived<'a>(&'a [u8]);

impl Read for Arrived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

async fn read_replies(serving: Serving) {
    let wire = &serving.wire;
    let mut parser = Parser::new();
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let (received, back) = recv(&wire.fd, buffer).await;
        buffer = back;
        let Ok(count @ 1..) = received else { return };
        wire.heard_ns.set(monotonic_ns());
        let mut arrived = Arrived(&buffer[..count]);
        loop {
            match parser.parse_value(&mut arrived) {
                Ok(value) => {
                    // A reply nobody has asked for: the order is lost.
                    if !wire.deliver(value) {
                        return;
                    }
                }
                Err(error) if error.is_io_error() => break,
                Err(_) => return,
            }
        }
    }
}

async fn watch(wire: Weak<Wire>) {
    loop {
        sleep(WATCH_PAUSE).await;
        let Some(wire) = wire.upgrade() else { return };
        if wire.is_cut() {
            return;
        }
        let silent_ns = monotonic_ns() - wire.heard_ns.get();
        if !wire.waiting.borrow().is_empty() && u128::from(silent_ns) > SILENCE_MAX.as_nanos() {
            wire.close();
        }
    }
}
