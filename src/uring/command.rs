//! Driver commands on the ring (`IORING_OP_URING_CMD` with 80 bytes of argument).
//!
//! Owns the two buffers such a command may name and their place in memory, which never changes:
//! a driver may remember it from one command to the next. Owns how the memory of a command in
//! flight goes back to the system. Does not know what commands mean.

use std::ffi::c_void;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::{opcode, squeue, types};
use rustix::mm::{Advice, madvise};

use super::ops::Operation;
use super::reactor::current;
use super::ring::Kept;
use crate::pages::Region;

/// Bytes of argument that a command carries.
pub const ARGUMENT_BYTES: usize = 80;
/// Place of `len` in a submission entry; the ring crate has no setter for commands.
const LEN_AT: usize = 24;

/// A head and a body that the kernel reads and writes while a command flies.
///
/// The body may be lent out between commands (`Rc`); it must be back before the next one.
pub struct Envelope {
    head: Box<[u8]>,
    body: Rc<Region>,
    parts: Box<[libc::iovec; 2]>,
}

impl Envelope {
    /// Buffers of `head_bytes` and `body_bytes`, zeroed; the body takes memory where touched.
    ///
    /// # Errors
    /// When the body cannot be mapped.
    pub fn new(head_bytes: usize, body_bytes: usize) -> io::Result<Box<Self>> {
        let mut head = vec![0; head_bytes].into_boxed_slice();
        let mut body = Region::map(body_bytes)?;
        let parts = Box::new([part(&mut head), part(&mut body)]);
        Ok(Box::new(Self { head, body: Rc::new(body), parts }))
    }

    /// The fixed part.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The fixed part for writing.
    pub fn head_mut(&mut self) -> &mut [u8] {
        &mut self.head
    }

    /// The bulk part; a clone is a loan that must end before the next command.
    pub fn body(&self) -> &Rc<Region> {
        &self.body
    }

    /// The bulk part for writing.
    ///
    /// # Panics
    /// While it is lent out.
    pub fn body_mut(&mut self) -> &mut [u8] {
        Rc::get_mut(&mut self.body).expect("the body is back from whom it was lent to")
    }
}

fn part(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// Start command `number` of the driver behind `fd`; the result and the buffers come back.
///
/// # Panics
/// While the envelope's body is lent out.
///
/// # Safety
/// The driver touches no memory of this process but the envelope's, and only while the command
/// flies: it reads what it is given as the command is submitted, and writes on this thread, while
/// that is in the kernel for its ring. A driver that remembers places needs the same envelope in
/// every command that uses them. `fd` stays open until the command has come back.
pub unsafe fn command(
    fd: impl AsFd,
    number: u32,
    argument: [u8; ARGUMENT_BYTES],
    mut envelope: Box<Envelope>,
) -> Flight {
    let body = envelope.body_mut();
    let (body_start, body_bytes) = (body.as_mut_ptr(), body.len());
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    let operation = Operation::start_wide(Kept::Envelope(envelope), |kept| {
        let Kept::Envelope(envelope) = kept else { unreachable!("a command keeps an envelope") };
        let parts = envelope.parts.as_ptr();
        let entry = opcode::UringCmd80::new(raw, number)
            .cmd(argument)
            .addr(Some(parts.expose_provenance() as u64))
            .build();
        with_len(entry, envelope.parts.len() as u32)
    });
    Flight { operation, body_start, body_bytes }
}

/// A command on its way.
pub struct Flight {
    operation: Operation,
    body_start: *mut u8,
    body_bytes: usize,
}

impl Future for Flight {
    type Output = (io::Result<u32>, Box<Envelope>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.operation).poll(context).map(|(result, kept)| {
            let Kept::Envelope(envelope) = kept else {
                unreachable!("a command keeps an envelope")
            };
            (result, envelope)
        })
    }
}

impl Flight {
    /// Give the memory of the body from `from` on back to the system; it is zero when it is
    /// touched again. False, and nothing is done, if the command has come back meanwhile.
    pub fn forget_body(&self, _quiet: &Quiet, from: usize) -> bool {
        assert!(from.is_multiple_of(4096) && from <= self.body_bytes, "whole pages of the body");
        if !self.operation.is_flying() {
            return false;
        }
        // SAFETY: the range lies in the envelope's own private mapping, which its slot in the ring
        // keeps while the command flies; nothing in this process refers to its bytes meanwhile
        // (`body_mut` in `command`). The driver has read what it was given and written nothing
        // yet (`Quiet`), so no byte that somebody waits for is lost.
        let done = unsafe {
            let tail = self.body_start.add(from).cast::<c_void>();
            madvise(tail, self.body_bytes - from, Advice::LinuxDontNeed)
        };
        done.is_ok()
    }
}

/// Shows that the kernel is not at work on any command in flight.
pub struct Quiet(());

/// Hand commands over, take completions in, and run `action` if the kernel then leaves the buffers
/// of what still flies alone until this thread enters it for the ring again. `action` must not.
pub fn when_quiet(action: impl FnOnce(&Quiet)) {
    // An error comes again when the core goes to rest, which tells it.
    if current().ring.settle().is_ok_and(|quiet| quiet) {
        action(&Quiet(()));
    }
}

fn with_len(mut entry: squeue::Entry128, len: u32) -> squeue::Entry128 {
    const _: () = assert!(size_of::<squeue::Entry128>() == 128);
    // SAFETY: an entry is 128 plain bytes in the kernel's layout, where `len` is a u32 at 24.
    unsafe { std::ptr::from_mut(&mut entry).cast::<u8>().add(LEN_AT).cast::<u32>().write(len) };
    entry
}

/// A command of the null device, which has none that touch memory.
#[cfg(test)]
pub fn null_command(null: &std::fs::File, envelope: Box<Envelope>) -> Flight {
    // SAFETY: nobody touches the envelope, and the command does not outlive the test's file.
    unsafe { command(null, 77, [0; ARGUMENT_BYTES], envelope) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;

    #[test]
    fn the_length_lands_in_its_field() {
        let plain = || opcode::Nop::new().build().into();
        // SAFETY: entries are 128 plain bytes.
        let [before, after]: [[u8; 128]; 2] =
            unsafe { std::mem::transmute([plain(), with_len(plain(), 2)]) };
        let changed: Vec<_> = (0..128).filter(|&at| before[at] != after[at]).collect();
        assert_eq!((changed, after[LEN_AT]), (vec![LEN_AT], 2));
    }

    #[test]
    fn a_refused_command_hands_the_buffers_back() {
        let fd = std::fs::File::open("/dev/null").unwrap();
        let mut envelope = Envelope::new(16, 8192).unwrap();
        envelope.body_mut()[8191] = 9;
        let place = envelope.body().as_ptr();
        let (result, envelope) = block_on(async { null_command(&fd, envelope).await });
        assert!(result.is_ok() || result.unwrap_err().raw_os_error().is_some());
        assert_eq!((envelope.body()[8191], envelope.body().as_ptr()), (9, place));
    }

    #[test]
    fn a_command_that_came_back_keeps_its_body() {
        block_on(async {
            let fd = std::fs::File::open("/dev/null").unwrap();
            let mut envelope = Envelope::new(16, 8192).unwrap();
            envelope.body_mut().fill(9);
            let flight = null_command(&fd, envelope);
            let mut asked = false;
            when_quiet(|quiet| {
                asked = true;
                assert!(!flight.forget_body(quiet, 4096), "it is over, as nobody has seen yet");
            });
            assert!(asked, "a ring without work is quiet");
            let (_, envelope) = flight.await;
            assert!(envelope.body().iter().all(|byte| *byte == 9));
        });
    }
}
