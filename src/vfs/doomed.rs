//! Deleted files whose data is to be removed, and the one task that does it.
//!
//! Owns the queue and its end. Files beyond its bound stay in the volume's queue, which every
//! client works off.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::{DELETIONS_MAX, DELETIONS_WAITING_MAX};
use crate::stdx::Gate;
use crate::types::Ino;

#[derive(Default)]
struct State {
    waiting: Vec<(Ino, u64)>,
    /// A task is at it.
    working: bool,
    /// The mount ends: what waits stays in the volume's queue.
    ending: bool,
}

/// One per mount.
#[derive(Default)]
pub(super) struct Doomed {
    state: Mutex<State>,
    idle: Gate,
}

impl Doomed {
    /// One more; whether the caller is to start the task.
    pub fn add(&self, file: (Ino, u64)) -> bool {
        let mut state = self.state();
        if state.ending || state.waiting.len() >= DELETIONS_WAITING_MAX {
            return false;
        }
        state.waiting.push(file);
        !std::mem::replace(&mut state.working, true)
    }

    /// The next ones for the task; `None` ends it.
    pub fn take(&self) -> Option<Vec<(Ino, u64)>> {
        let mut state = self.state();
        if state.ending || state.waiting.is_empty() {
            state.working = false;
            drop(state);
            self.idle.open();
            return None;
        }
        let count = state.waiting.len().min(DELETIONS_MAX);
        Some(state.waiting.drain(..count).collect())
    }

    /// Begin nothing more, and wait for what has begun.
    pub async fn end(&self) {
        loop {
            let ticket = self.idle.ticket();
            {
                let mut state = self.state();
                state.ending = true;
                if !state.working {
                    return;
                }
            }
            self.idle.wait(ticket).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;

    #[test]
    fn one_task_takes_all_and_the_end_waits_for_it() {
        let doomed = Doomed::default();
        assert!(doomed.add((Ino(5), 1)));
        assert!(!doomed.add((Ino(6), 2)), "the task is started once");
        assert_eq!(doomed.take(), Some(vec![(Ino(5), 1), (Ino(6), 2)]));
        assert_eq!(doomed.take(), None);
        assert!(doomed.add((Ino(7), 3)), "the task had ended");
        block_on(async {
            let ended = crate::uring::timeout(std::time::Duration::from_millis(5), doomed.end());
            assert!(ended.await.is_err(), "the task is still at it");
            assert_eq!(doomed.take(), None, "what waits stays in the volume's queue");
            doomed.end().await;
        });
        assert!(!doomed.add((Ino(8), 4)));
    }
}
