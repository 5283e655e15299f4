//! `.control`: messages of the official tools, and answers to them, byte by byte as they expect.
//!
//! Owns the form of messages and answers, and that a handle has one message in work at a time.
//! A handle is one stream: a message takes its place in it, and the answer follows. Whoever closes
//! the handle gives up what it asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::errno::Cause;
use crate::limits::CONTROL_MESSAGE_BYTES_MAX;
use crate::vfs::Vfs;
use crate::vfs::error::Done;
use crate::vfs::op::Caller;

/// Bytes in front of a message: what it is and how long the rest.
const HEADER_BYTES: usize = 8;
/// Bytes that have been read are kept until there are so many.
const READ_KEPT_BYTES: usize = 1 << 20;

/// One open `.control`.
#[derive(Default)]
pub(in crate::vfs) struct Control(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of a message that is not whole yet.
    pending: Vec<u8>,
    /// The stream from `begin` on.
    stream: Vec<u8>,
    begin: u64,
    /// Set when what is in work is not wanted any more; gone when it is done.
    job: Option<Arc<AtomicBool>>,
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    command: u32,
    body: Vec<u8>,
}

/// What became of bytes that were written.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Part,
    Whole(Message),
    /// More bytes than the message says.
    Broken,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the stream; none where nothing is yet.
    pub fn read(&self, offset: u64, len: usize) -> Done<Vec<u8>> {
        let mut state = self.lock();
        let start = offset.checked_sub(state.begin).ok_or(Errno::IO)?;
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(state.stream.len());
        let end = start.saturating_add(len).min(state.stream.len());
        let bytes = state.stream[start..end].to_vec();
        if start > READ_KEPT_BYTES {
            state.stream.drain(..start);
            state.begin += start as u64;
        }
        Ok(bytes)
    }

    /// What is in work is not wanted any more.
    pub fn cancel(&self) {
        if let Some(job) = &self.lock().job {
            job.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self, bytes: &[u8]) -> Done<Taken> {
        let mut state = self.lock();
        if state.job.is_some() {
            return Err(Errno::BUSY.into());
        }
        if state.pending.len() + bytes.len() > CONTROL_MESSAGE_BYTES_MAX {
            return Err(Cause::TooLarge);
        }
        state.pending.extend_from_slice(bytes);
        let Some((header, body)) = state.pending.split_at_checked(HEADER_BYTES) else {
            return Ok(Taken::Part);
        };
        let word = |at: usize| {
            u32::from_be_bytes(header[at..at + 4].try_into().expect("a word has four bytes"))
        };
        let (command, len) = (word(0), word(4) as usize);
        if body.len() < len {
            return Ok(Taken::Part);
        }
        let taken = match body.len() == len {
            true => Taken::Whole(Message { command, body: body.to_vec() }),
            false => Taken::Broken,
        };
        let message = std::mem::take(&mut state.pending);
        state.stream.extend_from_slice(&message);
        Ok(taken)
    }

    /// Put bytes of an answer behind the stream.
    fn answer(&self, bytes: &[u8]) {
        self.lock().stream.extend_from_slice(bytes);
    }

    fn answer_errno(&self, errno: Errno) {
        self.answer(&[errno.raw_os_error() as u8]);
    }
}

impl Vfs {
    /// Bytes of a message were written to a handle.
    pub(super) async fn told(
        &self,
        control: &Arc<Control>,
        bytes: &[u8],
        _who: Caller,
    ) -> Done<()> {
        match control.take(bytes)? {
            Taken::Part => {}
            Taken::Broken => control.answer_errno(Errno::IO),
            Taken::Whole(Message { command, body }) => {
                let len_bytes = body.len();
                tracing::warn!(command, len_bytes, "a message that is not served");
                control.answer_errno(Errno::OPNOTSUPP);
            }
        }
        Ok(())
    }
}
