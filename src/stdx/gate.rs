//! Waiting for "something changed": every waiter of an opened gate looks again.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// A place to wait at; `open` wakes all who wait now.
#[derive(Default)]
pub struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    opened: u64,
    waiting: Vec<Waker>,
}

impl Gate {
    /// Wake all waiters.
    pub fn open(&self) {
        let waiting = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.opened += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A ticket for [`Gate::wait`]; take it before looking at the state that may change.
    pub fn ticket(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).opened
    }

    /// Wait until the gate was opened after `ticket` was taken: no wake-up is lost.
    pub async fn wait(&self, ticket: u64) {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.opened != ticket {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
