//! A bound on how many do something at once, across cores; who waits is served in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::oneshot::{Sender, oneshot};

/// So many may be in at a time.
pub struct Permits(Mutex<State>);

struct State {
    count: usize,
    free: usize,
    waiting: VecDeque<Sender<Permit>>,
}

/// The right to be in; leaving is dropping it.
pub struct Permit(Option<Arc<Permits>>);

impl Permits {
    /// `count` may be in at a time.
    pub fn new(count: usize) -> Arc<Self> {
        assert!(count > 0, "somebody must get in");
        Arc::new(Self(Mutex::new(State { count, free: count, waiting: VecDeque::new() })))
    }

    /// How many are in now.
    pub fn taken(&self) -> usize {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count - state.free
    }

    /// A permit if one is free now.
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.free = state.free.checked_sub(1)?;
        Some(Permit(Some(Arc::clone(self))))
    }

    /// A permit, after those who asked earlier.
    pub async fn take(self: &Arc<Self>) -> Permit {
        let receiver = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Permit(Some(Arc::clone(self)));
            }
            let (sender, receiver) = oneshot();
            state.waiting.push_back(sender);
            receiver
        };
        receiver.await.expect("permits outlive those who wait for them")
    }

    fn give_back(self: Arc<Self>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.waiting.pop_front() {
            // Who stopped waiting drops the permit it is sent, which comes back here.
            Some(next) => {
                drop(state);
                next.send(Permit(Some(self)));
            }
            None => state.free += 1,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permits) = self.0.take() {
            permits.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn who_waits_is_served_in_order_and_who_left_is_skipped() {
        let permits = Permits::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let held = permits.try_take().unwrap();
        assert!(permits.try_take().is_none());
        let mut last = pin!(permits.take());
        {
            let mut left = pin!(permits.take());
            assert!(left.as_mut().poll(&mut context).is_pending());
            assert!(last.as_mut().poll(&mut context).is_pending());
        }
        drop(held);
        let Poll::Ready(held) = last.as_mut().poll(&mut context) else { panic!("not served") };
        assert!(permits.try_take().is_none());
        drop(held);
        assert!(permits.taken() == 0 && permits.try_take().is_some());
    }
}
