//! Deadlines of one core.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::reactor::current;
use crate::stdx::monotonic_ns;

#[derive(Default)]
pub(super) struct Timers(RefCell<State>);

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    wakers: std::collections::HashMap<u64, Waker>,
    next_id: u64,
}

impl Timers {
    fn set(&self, id: Option<u64>, deadline_ns: u64, waker: &Waker) -> u64 {
        let mut state = self.0.borrow_mut();
        let id = id.unwrap_or_else(|| {
            state.next_id += 1;
            let id = state.next_id;
            state.heap.push(Reverse((deadline_ns, id)));
            id
        });
        state.wakers.insert(id, waker.clone());
        id
    }

    fn drop_timer(&self, id: u64) {
        self.0.borrow_mut().wakers.remove(&id);
    }

    /// Wake who is due; the time until the next deadline, if there is one.
    pub(super) fn fire(&self) -> Option<Duration> {
        loop {
            let mut state = self.0.borrow_mut();
            let &Reverse((deadline_ns, id)) = state.heap.peek()?;
            if !state.wakers.contains_key(&id) {
                state.heap.pop();
                continue;
            }
            let now_ns = monotonic_ns();
            if deadline_ns > now_ns {
                return Some(Duration::from_nanos(deadline_ns - now_ns));
            }
            state.heap.pop();
            let waker = state.wakers.remove(&id);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Forgets its timer when the wait is over or given up.
struct Armed(Option<u64>);

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            current().timers.drop_timer(id);
        }
    }
}

/// Wait for `time`.
pub async fn sleep(time: Duration) {
    let deadline_ns = monotonic_ns().saturating_add(time.as_nanos() as u64);
    let mut armed = Armed(None);
    poll_fn(|context| {
        if monotonic_ns() >= deadline_ns {
            return Poll::Ready(());
        }
        armed.0 = Some(current().timers.set(armed.0, deadline_ns, context.waker()));
        Poll::Pending
    })
    .await;
}

/// The time was up first.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Elapsed;

/// The result of `future`, unless `time` is up first; then the future is dropped.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut late = pin!(sleep(time));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        late.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .await
}
