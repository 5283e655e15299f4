//! One connection: bytes out in the order asked, replies back in that order.
//!
//! Owns the socket, with TLS between it and the words where the server wants that, and the questions
//! without an answer. Three tasks serve it: a writer and a reader, each of which closes it when it
//! ends or is dropped with its core, and a watch that does not wait for ever. Does not know what is
//! said nor how to connect.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use redis::{Parser, Value};

use super::tls::TlsSession;
use super::words::Asked;
use crate::stdx::{Sender, monotonic_ns, oneshot};
use crate::uring::net::{recv, send_all};
use crate::uring::{expect_within, sleep, spawn};

/// Without a byte for this long while an answer is due, the other side counts as gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at in this time.
const LOOKS: u32 = 6;
/// A server that answers within this is worth looking out for: falling asleep and being woken costs
/// about as much.
const NEAR: Duration = Duration::from_micros(250);
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

/// What comes without being asked for, and the end of it.
pub(super) enum Pushed {
    Data(Vec<Value>),
    Cut,
}

type Listener = Box<dyn Fn(Pushed)>;

pub(super) struct Wire {
    fd: OwnedFd,
    /// Who takes what nobody asked for.
    listener: RefCell<Option<Listener>>,
    tls: Option<RefCell<TlsSession>>,
    /// What ended the TLS session.
    trouble: RefCell<Option<String>>,
    outbox: RefCell<Vec<u8>>,
    /// Wakes the writer while it waits for the outbox to fill.
    writer: Cell<Option<Waker>>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// When the last byte came, or the first of those who wait began to.
    heard_ns: Cell<u64>,
    /// What answers take, smoothed.
    answer_ns: Cell<u64>,
    cut: Cell<bool>,
}

/// Closes the wire when the task that serves it ends, also by being dropped.
struct Serving(Rc<Wire>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Wire {
    /// Serve a connected socket, until it is silent for too long.
    pub(super) fn new(fd: OwnedFd, tls: Option<TlsSession>, silence_max: Duration) -> Rc<Self> {
        let wire = Rc::new(Self {
            fd,
            listener: RefCell::default(),
            tls: tls.map(RefCell::new),
            trouble: RefCell::default(),
            outbox: RefCell::default(),
            writer: Cell::default(),
            waiting: RefCell::default(),
            heard_ns: Cell::new(monotonic_ns()),
            answer_ns: Cell::new(0),
            cut: Cell::new(false),
        });
        spawn(send_outbox(Serving(Rc::clone(&wire))));
        spawn(read_replies(Serving(Rc::clone(&wire))));
        spawn(watch(Rc::downgrade(&wire), silence_max));
        wire
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Why TLS ended the connection, if it did.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// End the connection; those who wait for replies are told.
    pub(super) fn close(&self) {
        if !self.cut.replace(true) {
            // The reader sees the end of the stream; an error means it has seen it already.
            let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
            let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
            drop(waiting);
            self.wake_writer();
            if let Some(listener) = self.listener.take() {
                listener(Pushed::Cut);
            }
        }
    }

    /// Take what comes without being asked for; it must not listen anew.
    pub(super) fn listen(&self, listener: impl Fn(Pushed) + 'static) {
        *self.listener.borrow_mut() = Some(Box::new(listener));
    }

    /// Hand over what came unasked; false if nobody listens.
    fn push(&self, data: Vec<Value>) -> bool {
        let listener = self.listener.borrow();
        listener.as_ref().map(|listener| listener(Pushed::Data(data))).is_some()
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Ready when there is something to send, or when nothing will be.
    fn poll_outbox(&self, context: &Context<'_>) -> Poll<()> {
        let handshake = || self.tls.as_ref().is_some_and(|tls| tls.borrow().wants_to_send());
        if self.is_cut() || !self.outbox.borrow().is_empty() || handshake() {
            return Poll::Ready(());
        }
        self.writer.set(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Send commands and wait for their replies.
    pub(super) async fn ask(&self, asked: &Asked) -> Result<Vec<Value>, Cut> {
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
        self.wake_writer();
        receiver.await.map_err(|_| Cut)
    }

    /// A message is on its way.
    fn look_out(&self) {
        let answer = Duration::from_nanos(self.answer_ns.get());
        if (Duration::from_nanos(1)..NEAR).contains(&answer) {
            expect_within((2 * answer).min(NEAR));
        }
    }

    /// Something came.
    fn hear(&self) {
        let now_ns = monotonic_ns();
        let took_ns = now_ns - self.heard_ns.replace(now_ns);
        if !self.waiting.borrow().is_empty() {
            self.answer_ns.set((7 * self.answer_ns.get() + took_ns) / 8);
        }
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

/// Questions of one round are one message: the writer is polled in the next.
async fn send_outbox(serving: Serving) {
    let wire = &serving.0;
    let mut spare = Vec::new();
    loop {
        poll_fn(|context| wire.poll_outbox(context)).await;
        if wire.is_cut() {
            return;
        }
        let bytes = match &wire.tls {
            None => wire.outbox.replace(spare),
            Some(tls) => {
                let mut words = wire.outbox.borrow_mut();
                tls.borrow_mut().seal(&words, &mut spare);
                words.clear();
                spare
            }
        };
        let (sent, buffer) = send_all(&wire.fd, bytes).await;
        if sent.is_err() {
            return;
        }
        wire.look_out();
        spare = buffer;
    }
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
    let wire = &serving.0;
    let mut parser = Parser::new();
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut opened = Vec::new();
    loop {
        let (received, back) = recv(&wire.fd, buffer).await;
        buffer = back;
        let Ok(count @ 1..) = received else { return };
        wire.hear();
        let mut arrived = Arrived(&buffer[..count]);
        if let Some(tls) = &wire.tls {
            opened.clear();
            if let Err(trouble) = tls.borrow_mut().open(arrived.0, &mut opened) {
                *wire.trouble.borrow_mut() = Some(trouble);
                return;
            }
            // The handshake goes on, or is done and lets go what waited for it.
            wire.wake_writer();
            arrived = Arrived(&opened);
        }
        loop {
            match parser.parse_value(&mut arrived) {
                Ok(value) => {
                    let taken = match value {
                        Value::Push { data, .. } => wire.push(data),
                        value => wire.deliver(value),
                    };
                    // A reply nobody has asked for: the order is lost.
                    if !taken {
                        return;
                    }
                }
                Err(error) if error.is_io_error() => break,
                Err(_) => return,
            }
        }
    }
}

async fn watch(wire: Weak<Wire>, silence_max: Duration) {
    loop {
        sleep(silence_max / LOOKS).await;
        let Some(wire) = wire.upgrade() else { return };
        if wire.is_cut() {
            return;
        }
        let silent_ns = monotonic_ns() - wire.heard_ns.get();
        if !wire.waiting.borrow().is_empty() && u128::from(silent_ns) > silence_max.as_nanos() {
            wire.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;
    use crate::meta::redis::tests::basics::join_all;
    use crate::uring::block_on;

    const SILENCE: Duration = Duration::from_millis(300);

    fn pair() -> (UnixStream, OwnedFd) {
        let (far, near) = UnixStream::pair().unwrap();
        (far, near.into())
    }

    #[test]
    fn replies_in_pieces_reach_those_who_asked_in_their_order() {
        let (mut far, near) = pair();
        let writer = std::thread::spawn(move || {
            far.read_exact(&mut [0; 16]).unwrap();
            for byte in b"*2\r\n$3\r\na\r\n\r\n:-7\r\n+OK\r\n$-1\r\n-ERR no\r\n" {
                far.write_all(&[*byte]).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
            far
        });
        block_on(async {
            let wire = Wire::new(near, None, SILENCE);
            let mut two = Asked::one(&[b"A"]);
            two.add(&[b"B"]);
            let (third, fourth) = (Asked::one(&[b"C"]), Asked::one(&[b"D"]));
            let all = join_all(vec![wire.ask(&two), wire.ask(&third), wire.ask(&fourth)]).await;
            let text = Value::BulkString(b"a\r\n".to_vec());
            let array = Value::Array(vec![text, Value::Int(-7)]);
            assert_eq!(all[0], Ok(vec![array, Value::Okay]));
            assert_eq!(all[1], Ok(vec![Value::Nil]));
            let [Value::ServerError(error)] = &all[2].as_ref().unwrap()[..] else { panic!() };
            assert_eq!(error.code(), "ERR");
        });
        writer.join().unwrap();
    }

    #[test]
    fn questions_larger_than_the_socket_takes_keep_their_order() {
        let (mut far, near) = pair();
        let large = vec![b'x'; 4 << 20];
        let (first, second) = (Asked::one(&[&large]), Asked::one(&[b"LATER"]));
        let sent = [&first.packed[..], &second.packed, &second.packed].concat();
        let server = std::thread::spawn(move || {
            let mut received = vec![0; sent.len()];
            let (some, rest) = received.split_at_mut(first.packed.len());
            std::thread::sleep(Duration::from_millis(20));
            far.read_exact(some).unwrap();
            far.write_all(b":1\r\n").unwrap();
            far.read_exact(rest).unwrap();
            assert!(received == sent);
            far.write_all(b":2\r\n:3\r\n").unwrap();
            far
        });
        block_on(async {
            let wire = Wire::new(near, None, 10 * SILENCE);
            let first = Asked::one(&[&large]);
            let ask = async |asked: &Asked, pause_ms| {
                sleep(Duration::from_millis(pause_ms)).await;
                wire.ask(asked).await
            };
            // The last one comes while the writer waits for room.
            let all = vec![ask(&first, 0), ask(&second, 0), ask(&second, 5)];
            let numbers = [1, 2, 3].map(|number| Ok(vec![Value::Int(number)]));
            assert_eq!(join_all(all).await, numbers);
        });
        server.join().unwrap();
    }

    #[test]
    fn silence_ends_a_connection_only_while_an_answer_is_due() {
        let (_far, near) = pair();
        block_on(async {
            let wire = Wire::new(near, None, SILENCE);
            sleep(2 * SILENCE).await;
            assert!(!wire.is_cut(), "nobody asked");
            let began = Instant::now();
            assert_eq!(wire.ask(&Asked::one(&[b"PING"])).await, Err(Cut));
            assert!((SILENCE..10 * SILENCE).contains(&began.elapsed()));
            assert_eq!(wire.ask(&Asked::one(&[b"PING"])).await, Err(Cut));
        });
    }

    #[test]
    fn replies_nobody_asked_for_and_bytes_that_are_none_end_it() {
        for bytes in ["+OK\r\n", "?what\r\n", ">2\r\n$1\r\na\r\n_\r\n"] {
            let (mut far, near) = pair();
            far.write_all(bytes.as_bytes()).unwrap();
            block_on(async {
                let wire = Wire::new(near, None, SILENCE);
                sleep(SILENCE / 2).await;
                assert!(wire.is_cut(), "{bytes}");
            });
        }
    }
}
