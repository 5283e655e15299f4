//! What the kernel keeps and must forget, on its way there.
//!
//! Owns a bounded queue between the cores and the one thread that tells the kernel. The kernel takes
//! some notices only when its own requests about the same directory are answered, so whoever answers
//! requests never brings one itself; and a request is never answered only after a notice was taken.
//! Work that no request waits for may wait here: for a place, and until all is told.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::NOTICES_MAX;
use crate::stdx::Gate;
use crate::types::{Ino, Name};

/// What the kernel must forget, by the numbers it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A name is gone, and so are attributes of its directory and of what it stood for.
    Removed {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: Name,
        /// What it stood for.
        ino: Ino,
    },
    /// What a name stands for, or that it stands for nothing.
    Name {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: Name,
    },
    /// Attributes of an inode.
    Attributes(Ino),
    /// Attributes of an inode and all that is kept of its content: the listing of a directory.
    Content(Ino),
}

#[derive(Default)]
struct State {
    /// Somebody takes them; until then and afterwards there is nobody to tell.
    taken: bool,
    waiting: VecDeque<Notice>,
    /// Notices put in so far, and those that the kernel has heard.
    put: u64,
    heard: u64,
}

/// The notices of a mount, all cores together.
#[derive(Default)]
pub struct Notices {
    state: Mutex<State>,
    /// Wakes who takes them.
    filled: Condvar,
    /// Opens when the kernel has heard one.
    told: Gate,
}

impl Notices {
    /// Somebody takes them from now on.
    pub fn begin(&self) {
        self.lock().taken = true;
    }

    /// Nobody takes them any more: the kernel has let go of the mount.
    pub fn end(&self) {
        let mut state = self.lock();
        state.taken = false;
        state.waiting.clear();
        drop(state);
        self.filled.notify_all();
        self.told.open();
    }

    /// The next one, waited for by this thread; `None` when there will be none. What was taken before
    /// has been told.
    pub fn next(&self) -> Option<Notice> {
        let mut state = self.lock();
        loop {
            if !state.taken {
                return None;
            }
            if let Some(notice) = state.waiting.pop_front() {
                return Some(notice);
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The kernel has heard what was taken last.
    pub fn heard(&self) {
        let mut state = self.lock();
        state.heard += 1;
        assert!(state.heard <= state.put, "what is heard was put in");
        drop(state);
        self.told.open();
    }

    /// Put one in, once there is a place. Not for those who answer a request of the kernel.
    pub async fn tell(&self, notice: Notice) {
        loop {
            let ticket = self.told.ticket();
            {
                let mut state = self.lock();
                if !state.taken {
                    return;
                }
                if state.waiting.len() < NOTICES_MAX {
                    state.waiting.push_back(notice);
                    state.put += 1;
                    drop(state);
                    self.filled.notify_one();
                    return;
                }
            }
            self.told.wait(ticket).await;
        }
    }

    /// Wait until the kernel has heard all that was put in before. Not for those who answer a request
    /// of the kernel.
    pub async fn settled(&self) {
        let goal = self.lock().put;
        loop {
            let ticket = self.told.ticket();
            {
                let state = self.lock();
                if !state.taken || state.heard >= goal {
                    return;
                }
            }
            self.told.wait(ticket).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll_once(future: impl Future<Output = ()>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(future).poll(&mut context) == Poll::Ready(())
    }

    fn removed(number: u64) -> Notice {
        Notice::Removed { dir: Ino(1), name: number.to_be_bytes().into(), ino: Ino(number) }
    }

    #[test]
    fn a_full_queue_keeps_who_tells_waiting() {
        let notices = Notices::default();
        assert!(poll_once(notices.tell(removed(0))), "nobody takes them: dropped");
        notices.begin();
        for number in 0..NOTICES_MAX as u64 {
            assert!(poll_once(notices.tell(removed(number))));
        }
        assert!(!poll_once(notices.tell(removed(7))));
        assert_eq!(notices.next(), Some(removed(0)));
        notices.heard();
        assert!(poll_once(notices.tell(removed(7))));
    }

    #[test]
    fn all_is_told_when_the_kernel_has_heard_it() {
        let notices = Notices::default();
        assert!(poll_once(notices.settled()));
        notices.begin();
        assert!(poll_once(notices.tell(removed(1))));
        assert!(!poll_once(notices.settled()));
        assert_eq!(notices.next(), Some(removed(1)));
        assert!(!poll_once(notices.settled()), "taken is not heard");
        notices.heard();
        assert!(poll_once(notices.settled()));
        assert!(poll_once(notices.tell(removed(2))));
        notices.end();
        assert!(poll_once(notices.settled()), "nobody is left to hear it");
        assert_eq!(notices.next(), None);
    }
}
