//! One operation as a future: started at once, cancelled when dropped.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::{opcode, squeue, types};

use super::reactor::{Reactor, current};
use super::ring::Kept;

pub(super) struct Operation {
    reactor: Rc<Reactor>,
    slot: Option<usize>,
}

impl Operation {
    /// Start an operation on this core's ring.
    pub(super) fn start(kept: Kept, make: impl FnOnce(&mut Kept) -> squeue::Entry) -> Self {
        Self::start_wide(kept, |kept| make(kept).into())
    }

    /// As [`Operation::start`], for entries that use all 128 bytes.
    pub(super) fn start_wide(kept: Kept, make: impl FnOnce(&mut Kept) -> squeue::Entry128) -> Self {
        let reactor = current();
        let slot = reactor.ring.start(kept, make);
        Self { reactor, slot: Some(slot) }
    }

    /// Whether its completion has not been taken in.
    pub(super) fn is_flying(&self) -> bool {
        self.slot.is_some_and(|slot| self.reactor.ring.is_flying(slot))
    }
}

impl Future for Operation {
    type Output = (io::Result<u32>, Kept);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self.slot.expect("an operation is polled until it is done");
        let Poll::Ready((result, kept)) = self.reactor.ring.poll(slot, context) else {
            return Poll::Pending;
        };
        self.slot = None;
        let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Poll::Ready((result, kept))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.reactor.ring.abandon(slot);
        }
    }
}

/// An operation around a buffer; the buffer comes back with the result.
pub(super) async fn with_buffer(
    buffer: Vec<u8>,
    make: impl FnOnce(*mut u8, u32) -> squeue::Entry,
) -> (io::Result<usize>, Vec<u8>) {
    let done = Operation::start(Kept::Buffer(buffer), |kept| {
        let Kept::Buffer(buffer) = kept else { unreachable!("this operation keeps a buffer") };
        let len_bytes = u32::try_from(buffer.len()).expect("one operation moves less than 4 GiB");
        make(buffer.as_mut_ptr(), len_bytes)
    });
    let (result, kept) = done.await;
    let Kept::Buffer(buffer) = kept else { unreachable!("this operation keeps a buffer") };
    (result.map(|count| count as usize), buffer)
}

/// Wait until a descriptor has something to read (or its other end is gone).
pub async fn poll_readable(fd: &impl AsFd) -> io::Result<()> {
    poll(fd, libc::POLLIN as u32).await
}

/// As [`poll_readable`]; of several cores that wait so on one thing, one is woken.
pub async fn poll_readable_alone(fd: &impl AsFd) -> io::Result<()> {
    poll(fd, libc::POLLIN as u32 | libc::EPOLLEXCLUSIVE as u32).await
}

async fn poll(fd: &impl AsFd, events: u32) -> io::Result<()> {
    let fd = types::Fd(fd.as_fd().as_raw_fd());
    let entry = opcode::PollAdd::new(fd, events).build();
    Operation::start(Kept::Nothing, |_| entry).await.0.map(|_| ())
}
