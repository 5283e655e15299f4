//! Waits that a signal to the caller ends.
//!
//! Owns which requests wait, by the kernel's number. An interrupt may come on another core, and
//! before its request has begun to wait: a few of those are remembered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::EARLY_INTERRUPTS_MAX;
use crate::stdx::Gate;

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Arc<Wait>, RandomState>,
    early: VecDeque<u64>,
}

/// All waits of a mount.
#[derive(Default)]
pub(super) struct Interrupts(Mutex<State>);

#[derive(Default)]
struct Wait {
    interrupted: AtomicBool,
    gate: Gate,
}

/// A request that may be interrupted, until this is dropped.
pub(super) struct Interruptible<'a> {
    all: &'a Interrupts,
    unique: u64,
    wait: Arc<Wait>,
}

impl Interrupts {
    /// The request `unique` is about to wait.
    pub fn enter(&self, unique: u64) -> Interruptible<'_> {
        let wait = Arc::<Wait>::default();
        let mut state = self.lock();
        if let Some(at) = state.early.iter().position(|early| *early == unique) {
            state.early.remove(at);
            wait.interrupted.store(true, Ordering::Release);
        }
        state.waiting.insert(unique, Arc::clone(&wait));
        Interruptible { all: self, unique, wait }
    }

    /// The caller of request `unique` got a signal.
    pub fn interrupt(&self, unique: u64) {
        let mut state = self.lock();
        let Some(wait) = state.waiting.get(&unique).map(Arc::clone) else {
            if state.early.len() == EARLY_INTERRUPTS_MAX {
                state.early.pop_front();
            }
            return state.early.push_back(unique);
        };
        drop(state);
        wait.interrupted.store(true, Ordering::Release);
        wait.gate.open();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interruptible<'_> {
    /// Wait for the signal.
    pub async fn interrupted(&self) {
        loop {
            let ticket = self.wait.gate.ticket();
            if self.wait.interrupted.load(Ordering::Acquire) {
                return;
            }
            self.wait.gate.wait(ticket).await;
        }
    }
}

impl Drop for Interruptible<'_> {
    fn drop(&mut self) {
        self.all.lock().waiting.remove(&self.unique);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn interrupts_end_waits_also_when_they_come_first() {
        let all = Interrupts::default();
        let mut context = Context::from_waker(Waker::noop());
        let waits = all.enter(1);
        let mut wait = pin!(waits.interrupted());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        all.interrupt(2);
        assert!(wait.as_mut().poll(&mut context).is_pending());
        all.interrupt(1);
        assert!(wait.as_mut().poll(&mut context).is_ready());
        assert!(pin!(all.enter(2).interrupted()).poll(&mut context).is_ready());
        assert!(pin!(all.enter(2).interrupted()).poll(&mut context).is_pending());
    }
}
