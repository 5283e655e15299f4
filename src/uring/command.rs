//! Driver commands on the ring (`IORING_OP_URING_CMD` with 80 bytes of argument).
//!
//! Owns the two buffers such a command may name and their place in memory, which never changes:
//! a driver may remember it from one command to the next. Does not know what commands mean.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};

use super::ops::Operation;
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

/// Run command `number` of the driver behind `fd`; the result and the buffers come back.
///
/// # Panics
/// While the envelope's body is lent out.
///
/// # Safety
/// The driver touches no memory of this process but the envelope's, and only while the command
/// flies. A driver that remembers places needs the same envelope in every command that uses them.
pub async unsafe fn command(
    fd: impl AsFd,
    number: u32,
    argument: [u8; ARGUMENT_BYTES],
    mut envelope: Box<Envelope>,
) -> (io::Result<u32>, Box<Envelope>) {
    let _alone = envelope.body_mut();
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    let done = Operation::start_wide(Kept::Envelope(envelope), |kept| {
        let Kept::Envelope(envelope) = kept else { unreachable!("a command keeps an envelope") };
        let parts = envelope.parts.as_ptr();
        let entry = opcode::UringCmd80::new(raw, number)
            .cmd(argument)
            .addr(Some(parts.expose_provenance() as u64))
            .build();
        with_len(entry, envelope.parts.len() as u32)
    });
    let (result, kept) = done.await;
    let Kept::Envelope(envelope) = kept else { unreachable!("a command keeps an envelope") };
    (result, envelope)
}

fn with_len(mut entry: squeue::Entry128, len: u32) -> squeue::Entry128 {
    const _: () = assert!(size_of::<squeue::Entry128>() == 128);
    // SAFETY: an entry is 128 plain bytes in the kernel's layout, where `len` is a u32 at 24.
    unsafe { std::ptr::from_mut(&mut entry).cast::<u8>().add(LEN_AT).cast::<u32>().write(len) };
    entry
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
        let number = 77;
        // SAFETY: the null device has no commands that touch memory.
        let refused = unsafe { command(&fd, number, [0; ARGUMENT_BYTES], envelope) };
        let (result, envelope) = block_on(refused);
        assert!(result.is_ok() || result.unwrap_err().raw_os_error().is_some());
        assert_eq!((envelope.body()[8191], envelope.body().as_ptr()), (9, place));
    }
}
