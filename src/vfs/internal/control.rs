//! `.control`: messages of the official tools, and answers to them, byte by byte as they expect.
//!
//! Owns the form of messages and answers, and that a handle has one message in work at a time.
//! A handle is one stream: a message takes its place in it, and the answer follows. Whoever closes
//! the handle gives up what it asked for.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;

use super::fill;
use super::job::Job;
use super::message::Wish;
use super::question::Question;
use crate::errno::Cause;
use crate::limits::{CONTROL_ANSWERS_BYTES_MAX, CONTROL_MESSAGE_BYTES_MAX};
use crate::uring::{self, Elapsed};
use crate::vfs::Vfs;
use crate::vfs::error::Done;
use crate::vfs::op::Caller;

/// Bytes in front of a message: what it is and how long the rest.
const HEADER_BYTES: usize = 8;
/// What an answer's parts begin with: how far it is, and JSON.
const PROGRESS: u8 = 0xFE;
const DATA: u8 = 0xFF;
/// How often the tools hear how far it is.
const PROGRESS_PACE: Duration = Duration::from_millis(300);
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
    /// How far the stream was read, from `begin` on.
    read: usize,
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
#[derive(Debug)]
enum Taken {
    Part,
    Whole(Message, Arc<AtomicBool>),
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
        state.read = state.read.max(end);
        if start > READ_KEPT_BYTES {
            state.stream.drain(..start);
            state.begin += start as u64;
            state.read -= start;
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
        let whole = (body.len() == len).then(|| Message { command, body: body.to_vec() });
        let message = std::mem::take(&mut state.pending);
        state.stream.extend_from_slice(&message);
        // The caller goes on reading where it stopped writing.
        state.read = state.stream.len();
        let Some(message) = whole else { return Ok(Taken::Broken) };
        let unwanted = Arc::default();
        state.job = Some(Arc::clone(&unwanted));
        Ok(Taken::Whole(message, unwanted))
    }

    /// Put bytes of an answer behind the stream.
    fn answer(&self, bytes: &[u8]) {
        self.lock().stream.extend_from_slice(bytes);
    }

    /// The message in work is done, with this answer.
    fn finish(&self, answer: &[u8]) {
        let mut state = self.lock();
        state.stream.extend_from_slice(answer);
        state.job = None;
    }

    /// Tell how far it is, if that is read at all.
    fn progress(&self, job: &Job) {
        let (first, second) = job.done.get();
        let mut state = self.lock();
        if state.stream.len() - state.read < CONTROL_ANSWERS_BYTES_MAX {
            let both = [first.to_be_bytes(), second.to_be_bytes()];
            state.stream.push(PROGRESS);
            state.stream.extend_from_slice(both.as_flattened());
        }
    }
}

impl Vfs {
    /// Bytes of a message were written to a handle.
    pub(super) async fn told(
        self: &Rc<Self>,
        control: &Arc<Control>,
        bytes: &[u8],
        caller: Caller,
    ) -> Done<()> {
        let (message, unwanted) = match control.take(bytes)? {
            Taken::Part => return Ok(()),
            Taken::Broken => {
                control.answer(&[errno_byte(Errno::IO.into())]);
                return Ok(());
            }
            Taken::Whole(message, unwanted) => (message, unwanted),
        };
        let Message { command, body } = message;
        let wish = match Wish::parse(command, &body) {
            Ok(wish) => wish,
            Err(errno) => {
                tracing::warn!(command, "a message to .control is not served");
                control.finish(&[errno_byte(errno.into())]);
                return Ok(());
            }
        };
        match wish {
            // A tool that shows it asks again and again.
            Wish::Own(Question::State(_)) => {}
            _ => tracing::info!(uid = caller.uid, pid = caller.pid, "asked: {}", wish.name()),
        }
        match wish {
            Wish::Fill { paths, workers, background: true, wanted } => {
                // What goes on without anybody waiting is little: who asks for more waits here.
                let permit = self.shared.background_fills.take().await;
                let job = Rc::new(Job::new(caller, Arc::default()));
                control.finish(&data(&fill::nothing()));
                let vfs = Rc::clone(self);
                uring::spawn(async move {
                    if let Err(cause) = vfs.fill(paths, wanted, workers, &job).await {
                        tracing::warn!(errno = cause.number(), "the warm-up has ended early");
                    }
                    drop(permit);
                });
            }
            wish => {
                let job = Rc::new(Job::new(caller, unwanted));
                let (vfs, control) = (Rc::clone(self), Arc::clone(control));
                uring::spawn(async move { vfs.work(&control, wish, &job).await });
            }
        }
        Ok(())
    }

    /// Do what is wished, and tell how far it is, until the answer is there.
    async fn work(self: Rc<Self>, control: &Control, wish: Wish, job: &Rc<Job>) {
        let mut work = pin!(self.answer_to(wish, job));
        let answer = loop {
            match uring::timeout(PROGRESS_PACE, work.as_mut()).await {
                Ok(answer) => break answer,
                Err(Elapsed) => control.progress(job),
            }
        };
        if job.done.get() != (0, 0) {
            control.progress(job);
        }
        control.finish(&answer);
    }

    async fn answer_to(self: &Rc<Self>, wish: Wish, job: &Rc<Job>) -> Vec<u8> {
        match wish {
            Wish::Remove { .. } if self.meta.is_held() => vec![errno_byte(Errno::ROFS.into())],
            Wish::Remove { dir, name, skips_trash, workers } => {
                if skips_trash && job.caller.uid != 0 {
                    return vec![errno_byte(Errno::PERM.into())];
                }
                let vfs = if skips_trash { self.without_trash() } else { Rc::clone(self) };
                let removed = vfs.remove_all((dir, name), workers, job).await;
                vec![removed.map_or_else(errno_byte, |()| 0)]
            }
            Wish::Info { ino, recursive, raw } => {
                data(&self.info((ino, recursive, raw), job).await)
            }
            Wish::Fill { paths, workers, wanted, .. } => {
                let filled = self.fill(paths, wanted, workers, job).await;
                filled.map_or_else(|cause| vec![errno_byte(cause)], |filled| data(&filled))
            }
            Wish::Summary { ino, depth, top } => {
                let summary = self.summary((ino, depth, top), job).await;
                summary.map_or_else(|cause| vec![errno_byte(cause)], |summary| data(&summary))
            }
            Wish::Own(Question::State(ino)) => {
                let state = self.state_told(ino, job).await;
                state.map_or_else(|cause| vec![errno_byte(cause)], |state| data(&state))
            }
            Wish::Own(Question::Reach(ino, level)) => {
                let taken = self.taken_to(ino, level, job).await;
                vec![taken.map_or_else(errno_byte, |()| 0)]
            }
            Wish::Own(Question::Retry) => data(&self.retried()),
        }
    }
}

/// The last byte of an answer: how it ended.
fn errno_byte(cause: Cause) -> u8 {
    u8::try_from(cause.number()).unwrap_or(libc::EIO as u8)
}

/// An answer that is JSON.
fn data(value: &Value) -> Vec<u8> {
    let text = value.to_string().into_bytes();
    let len = u32::try_from(text.len()).expect("an answer is smaller than 4 GiB");
    [&[DATA][..], &len.to_be_bytes(), &text].concat()
}
