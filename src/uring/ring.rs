//! The kernel's ring and the table of what flies on it.
//!
//! Owns submission, completion, and every buffer the kernel may write to: a buffer moves into the
//! slot with its operation and leaves it only after the completion. Does not own tasks.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::command::Envelope;

/// Entries of the submission queue; the completion queue holds twice as many.
const ENTRIES: u32 = 512;
/// Completions nobody waits for carry this.
const UNWATCHED: u64 = u64::MAX;

/// What an operation needs to stay valid: its buffer, its address.
pub(super) enum Kept {
    Nothing,
    Buffer(Vec<u8>),
    Address(Box<libc::sockaddr_storage>),
    Envelope(Box<Envelope>),
}

enum State {
    Flying(Option<Waker>),
    Done(i32),
    /// Its future is gone; the slot goes at the completion.
    Orphan,
}

struct Slot {
    state: State,
    kept: Kept,
}

pub(super) struct Ring {
    ring: RefCell<IoUring<squeue::Entry128, cqueue::Entry>>,
    slots: RefCell<Slab<Slot>>,
}

impl Ring {
    /// A ring for this thread only; older kernels get one without deferred task work.
    pub(super) fn new() -> io::Result<Self> {
        let mut best = IoUring::<squeue::Entry128, cqueue::Entry>::builder();
        // The flag says when completions wait for us to enter, though nobody sleeps.
        best.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        let ring = best
            .build(ENTRIES)
            .or_else(|_| IoUring::<squeue::Entry128, cqueue::Entry>::builder().build(ENTRIES))?;
        // Spares a look-up per call; kernels that cannot do without it.
        let _ = ring.submitter().register_ring_fd();
        Ok(Self { ring: RefCell::new(ring), slots: RefCell::new(Slab::new()) })
    }

    /// Queue an operation; `make` builds it around the place its buffer will stay at.
    pub(super) fn start(
        &self,
        mut kept: Kept,
        make: impl FnOnce(&mut Kept) -> squeue::Entry128,
    ) -> usize {
        let entry = make(&mut kept);
        let slot = self.slots.borrow_mut().insert(Slot { state: State::Flying(None), kept });
        self.push(entry.user_data(slot as u64));
        slot
    }

    fn push(&self, entry: squeue::Entry128) {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: what the entry points to is owned by its slot (`start`) until the completion
            // is seen, or by the caller of `watch`, whose descriptor outlives this ring.
            let pushed = unsafe { ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            match ring.submit() {
                Err(error) if !passes(&error) => {
                    panic!("a full submission queue can be handed to the kernel: {error}")
                }
                _ => {}
            }
        }
    }

    /// The result of an operation with what it kept, once it is there.
    pub(super) fn poll(&self, slot: usize, context: &Context<'_>) -> Poll<(i32, Kept)> {
        let mut slots = self.slots.borrow_mut();
        let found =
            slots.get_mut(slot).expect("an operation keeps its slot until its result is taken");
        match &mut found.state {
            State::Done(result) => {
                let result = *result;
                Poll::Ready((result, slots.remove(slot).kept))
            }
            State::Flying(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Orphan => unreachable!("an orphan has no future to poll it"),
        }
    }

    /// The future of an operation is gone: keep its buffer, ask the kernel to stop.
    pub(super) fn abandon(&self, slot: usize) {
        let mut slots = self.slots.borrow_mut();
        let Some(found) = slots.get_mut(slot) else { return };
        if let State::Done(_) = found.state {
            slots.remove(slot);
            return;
        }
        found.state = State::Orphan;
        drop(slots);
        self.push(opcode::AsyncCancel::new(slot as u64).build().user_data(UNWATCHED).into());
    }

    /// Hand queued operations over; wait for a completion, at most `patience`, or not at all.
    pub(super) fn enter(&self, wait: bool, patience: Option<Duration>) -> io::Result<()> {
        let mut ring = self.ring.borrow_mut();
        let queue = ring.submission();
        if !wait && queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        drop(queue);
        let want = usize::from(wait);
        let done = match patience {
            Some(patience) if wait => {
                let time = Timespec::from(patience);
                ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&time))
            }
            _ => ring.submitter().submit_and_wait(want),
        };
        match done {
            Err(error) if !passes(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether entering with a wait would come back with something at once; costs no call.
    pub(super) fn has_news(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        let queue = ring.submission();
        let pending = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        pending || !ring.completion().is_empty()
    }

    /// Hand over what is queued and take in what is completed, without waiting. True if that left
    /// nothing in between: then the kernel has read all that commands gave it, has written to
    /// nothing that still flies, and will not before somebody enters again.
    pub(super) fn settle(&self) -> io::Result<bool> {
        self.enter(false, None)?;
        self.reap();
        let mut ring = self.ring.borrow_mut();
        // Made together with deferred task work (`new`). Without that the kernel works for us
        // whenever it likes.
        let deferred = ring.params().is_setup_single_issuer();
        let queue = ring.submission();
        let handed_over = queue.is_empty() && !queue.cq_overflow();
        drop(queue);
        Ok(deferred && handed_over && ring.completion().is_empty())
    }

    /// Whether the completion of an operation has not been taken in.
    pub(super) fn is_flying(&self, slot: usize) -> bool {
        let slots = self.slots.borrow();
        slots.get(slot).is_some_and(|slot| matches!(slot.state, State::Flying(_)))
    }

    /// Take completions in and wake who waits for them; how many there were.
    pub(super) fn reap(&self) -> usize {
        let mut count = 0;
        loop {
            let Some((data, result)) = self.next_completion() else { return count };
            count += 1;
            if data != UNWATCHED {
                self.complete(data as usize, result);
            }
        }
    }

    fn next_completion(&self) -> Option<(u64, i32)> {
        let mut ring = self.ring.borrow_mut();
        let entry = ring.completion().next()?;
        Some((entry.user_data(), entry.result()))
    }

    fn complete(&self, slot: usize, result: i32) {
        let waker = {
            let mut slots = self.slots.borrow_mut();
            let found = slots.get_mut(slot).expect("a completion belongs to a slot");
            match std::mem::replace(&mut found.state, State::Done(result)) {
                State::Flying(waker) => waker,
                State::Orphan => {
                    slots.remove(slot);
                    None
                }
                State::Done(_) => unreachable!("an operation completes once"),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Whether entering again, after a look at the completions, is all there is to do.
fn passes(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still write into kept buffers: they leave with the process instead.
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        if !slots.is_empty() {
            std::mem::forget(slots);
        }
    }
}
