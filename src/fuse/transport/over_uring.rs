//! FUSE over io_uring: the kernel fills queue entries, the core answers them in place.
//!
//! Owns the entries of this core's queues: each is a task that registers, answers what arrives and
//! commits the answer, which asks for the next request. FORGET and INTERRUPT do not come this way;
//! `dev_fuse` reads them. Relies on the kernel's layout of an entry (`fuse_uring_req_header`), and
//! on `warmth` for the memory of payloads.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::loan::Home;
use super::warmth::{Place, Warmth};
use crate::fuse::decode::{IN_HEADER_BYTES, decode};
use crate::fuse::encode::{Encoded, Shape, encode};
use crate::fuse::handler::{Handler, guarded};
use crate::stdx::Gate;
use crate::uring::command::{ARGUMENT_BYTES, Envelope, command};
use crate::uring::spawn;
use crate::vfs::op::{Payload, Reply};

/// Requests of one queue that may be in the works at a time.
pub const DEPTH: usize = 64;
/// Memory that payloads of all cores may hold while no request is in them. Touching fresh memory
/// costs more than the request itself: measured on two cores, 40 direct readers of 1 MiB took
/// twice the CPU time with half of this, while 8 fit in.
const WARM_BYTES_MAX: usize = 32 << 20;
/// Payloads of the largest size that every core may hold: a stream or two.
const WARM_PAYLOADS_MIN: usize = 2;

const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;

/// Layout of the head: request or reply header, fixed argument, the ring's own words.
const FIXED_AT: usize = 128;
const WORDS_AT: usize = 256;
const COMMIT_ID_AT: usize = WORDS_AT + 8;
const PAYLOAD_BYTES_AT: usize = WORDS_AT + 16;
const HEAD_BYTES: usize = 288;
/// Bytes of a reply header.
const OUT_HEADER_BYTES: usize = 16;

/// Answer the requests of `queues` until the kernel lets go of the mount, as one of `cores`.
///
/// `payload_bytes` is the largest write, as agreed in INIT. All queues of a connection must be
/// registered, by this core or others, before the kernel sends anything through them.
///
/// # Errors
/// What the kernel said to the first entry it refused; requests then come through `/dev/fuse`.
pub async fn serve(
    device: Arc<OwnedFd>,
    queues: &[u16],
    cores: usize,
    payload_bytes: usize,
    handler: Rc<dyn Handler>,
) -> io::Result<()> {
    let ends = Rc::new(Ends::default());
    let warm_bytes = (WARM_BYTES_MAX / cores).max(WARM_PAYLOADS_MIN * payload_bytes);
    let warmth = Rc::new(Warmth::new(DEPTH * queues.len(), warm_bytes));
    // Queue by queue within a round: every queue gets its first entry before any its second.
    let rounds = (0..DEPTH).flat_map(|_| queues);
    for (queue, place) in rounds.zip(warmth.places()) {
        let entry = Entry {
            device: Arc::clone(&device),
            queue: *queue,
            home: Home::default(),
            place: Rc::clone(place),
            warmth: Rc::clone(&warmth),
            handler: Rc::clone(&handler),
        };
        ends.running.set(ends.running.get() + 1);
        let ends = Rc::clone(&ends);
        spawn(async move { ends.note(entry.serve(payload_bytes).await) });
    }
    ends.all().await
}

/// What has become of the entries.
#[derive(Default)]
struct Ends {
    running: Cell<usize>,
    error: RefCell<Option<io::Error>>,
    changed: Gate,
}

impl Ends {
    fn note(&self, end: io::Result<()>) {
        self.running.set(self.running.get() - 1);
        if let Err(error) = end {
            self.error.borrow_mut().get_or_insert(error);
        }
        self.changed.open();
    }

    /// Wait for the last entry to end, or the first to be refused.
    async fn all(&self) -> io::Result<()> {
        loop {
            let ticket = self.changed.ticket();
            if let Some(error) = self.error.borrow_mut().take() {
                return Err(error);
            }
            if self.running.get() == 0 {
                return Ok(());
            }
            self.changed.wait(ticket).await;
        }
    }
}

struct Entry {
    device: Arc<OwnedFd>,
    queue: u16,
    home: Home,
    place: Rc<Place>,
    warmth: Rc<Warmth>,
    handler: Rc<dyn Handler>,
}

impl Entry {
    /// Its life.
    async fn serve(self, payload_bytes: usize) -> io::Result<()> {
        let mut envelope = Envelope::new(HEAD_BYTES, payload_bytes)?;
        let mut commit_id = None;
        loop {
            let number = if commit_id.is_some() { COMMIT_AND_FETCH } else { REGISTER };
            let argument = argument(self.queue, commit_id.unwrap_or(0));
            // SAFETY: the kernel remembers the envelope of REGISTER, and this loop gives the same
            // one to every command of the entry. It reads replies as a command is submitted, and
            // writes requests in task work of this thread or right then.
            let flight = unsafe { command(&*self.device, number, argument, envelope) };
            let (arrived, back) = self.warmth.landing(&self.place, flight).await;
            envelope = back;
            match arrived.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => {}
                Err((Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
            commit_id = Some(self.answer(&mut envelope).await);
        }
    }

    /// Answer the request in the envelope; its commit id.
    async fn answer(&self, envelope: &mut Envelope) -> u64 {
        let head = envelope.head();
        let unique = long(head, 8);
        let commit_id = long(head, COMMIT_ID_AT);
        let words = &head[PAYLOAD_BYTES_AT..PAYLOAD_BYTES_AT + 4];
        let payload_bytes = u32::from_ne_bytes(words.try_into().expect("4 bytes")) as usize;
        self.warmth.touch(&self.place, payload_bytes);
        let body = envelope.body();
        let keep = || Payload(Box::new(self.home.lend(body, 0..payload_bytes)));
        let (header, fixed) = (&head[..IN_HEADER_BYTES], &head[FIXED_AT..WORDS_AT]);
        let encoded = match decode(header, fixed, &body[..payload_bytes], keep) {
            Ok(request) => {
                let shape = Shape::of(&request.op);
                encode(guarded(&*self.handler, request).await, shape)
            }
            Err(errno) => encode(Reply::Error(errno), Shape::default()),
        };
        self.home.returned().await;
        self.warmth.touch(&self.place, encoded.len_bytes());
        put(envelope, unique, &encoded);
        commit_id
    }
}

fn long(head: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(head[at..at + 8].try_into().expect("8 bytes"))
}

/// `fuse_uring_cmd_req`: flags, commit id, queue.
fn argument(queue: u16, commit_id: u64) -> [u8; ARGUMENT_BYTES] {
    let mut argument = [0; ARGUMENT_BYTES];
    argument[8..16].copy_from_slice(&commit_id.to_ne_bytes());
    argument[16..18].copy_from_slice(&queue.to_ne_bytes());
    argument
}

/// Write a reply into its entry.
fn put(envelope: &mut Envelope, unique: u64, reply: &Encoded) {
    let body = envelope.body_mut();
    let fits = reply.len_bytes() <= body.len();
    let (mut error, mut at) = (reply.error, 0);
    if fits {
        for piece in reply.pieces() {
            body[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
    } else {
        error = -libc::EIO;
    }
    let len_bytes = u32::try_from(at).expect("an entry is far smaller than 4 GiB");
    let head = envelope.head_mut();
    let total = OUT_HEADER_BYTES as u32 + len_bytes;
    head[0..4].copy_from_slice(&total.to_ne_bytes());
    head[4..8].copy_from_slice(&error.to_ne_bytes());
    head[8..16].copy_from_slice(&unique.to_ne_bytes());
    head[WORDS_AT..WORDS_AT + 8].fill(0);
    head[PAYLOAD_BYTES_AT..PAYLOAD_BYTES_AT + 4].copy_from_slice(&len_bytes.to_ne_bytes());
}
