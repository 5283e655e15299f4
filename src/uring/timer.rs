//! Deadlines of one core.

use std::cell::RefCell;
use std::collections::BTreeMap;
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
    wakers: BTreeMap<Name, Waker>,
    last_id: u64,
}

/// A deadline in nanoseconds, and a number that tells it from others at the same time.
type Name = (u64, u64);

impl Timers {
    fn new_name(&self, deadline_ns: u64) -> Name {
        let mut state = self.0.borrow_mut();
        state.last_id += 1;
        (deadline_ns, state.last_id)
    }

    fn set(&self, name: Name, waker: &Waker) {
        self.0.borrow_mut().wakers.insert(name, waker.clone());
    }

    fn forget(&self, name: Name) {
        self.0.borrow_mut().wakers.remove(&name);
    }

    /// Wake who is due; the time until the next deadline, if there is one.
    pub(super) fn fire(&self) -> Option<Duration> {
        loop {
            let mut state = self.0.borrow_mut();
            let first = state.wakers.first_entry()?;
            let (deadline_ns, now_ns) = (first.key().0, monotonic_ns());
            if deadline_ns > now_ns {
                return Some(Duration::from_nanos(deadline_ns - now_ns));
            }
            let waker = first.remove();
            drop(state);
            waker.wake();
        }
    }
}

/// Forgets its timer when the wait is over or given up.
struct Armed(Name);

impl Drop for Armed {
    fn drop(&mut self) {
        current().timers.forget(self.0);
    }
}

/// Wait for `time`.
pub async fn sleep(time: Duration) {
    let deadline_ns = monotonic_ns().saturating_add(time.as_nanos() as u64);
    let armed = Armed(current().timers.new_name(deadline_ns));
    poll_fn(|context| {
        if monotonic_ns() >= deadline_ns {
            return Poll::Ready(());
        }
        current().timers.set(armed.0, context.waker());
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
