//! Whose turn it is with a file: many writers, or one that changes its length or layout.
//!
//! Owns the waiting. Who waits for a turn alone lets no new writers in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stdx::Gate;

#[derive(Default)]
struct State {
    sharing: usize,
    alone: bool,
    want_alone: usize,
}

/// One file's turns; across cores.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    left: Gate,
}

/// A turn; dropping it ends it.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    alone: bool,
}

/// Counts who wants to be alone, also if the wait is given up.
struct Wanting<'a>(&'a Turns);

impl Turns {
    /// A turn beside others who share.
    pub async fn share(&self) -> Turn<'_> {
        loop {
            let ticket = {
                let mut state = self.lock();
                if !state.alone && state.want_alone == 0 {
                    state.sharing += 1;
                    return Turn { turns: self, alone: false };
                }
                self.left.ticket()
            };
            self.left.wait(ticket).await;
        }
    }

    /// A turn alone.
    pub async fn alone(&self) -> Turn<'_> {
        self.lock().want_alone += 1;
        let _wanting = Wanting(self);
        loop {
            let ticket = {
                let mut state = self.lock();
                if !state.alone && state.sharing == 0 {
                    state.alone = true;
                    return Turn { turns: self, alone: true };
                }
                self.left.ticket()
            };
            self.left.wait(ticket).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        if self.alone {
            assert!(std::mem::take(&mut state.alone), "a turn alone ends once");
        } else {
            state.sharing = state.sharing.checked_sub(1).expect("a shared turn ends once");
        }
        let somebody_waits = self.alone || state.want_alone > 0;
        drop(state);
        if somebody_waits {
            self.turns.left.open();
        }
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.want_alone -= 1;
        drop(state);
        self.0.left.open();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn writers_share_and_a_truncation_is_alone() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(turns.share()).poll(&mut context) else { panic!("waits") };
        let Poll::Ready(second) = pin!(turns.share()).poll(&mut context) else { panic!("waits") };
        let mut alone = pin!(turns.alone());
        assert!(alone.as_mut().poll(&mut context).is_pending());
        let mut late = pin!(turns.share());
        assert!(late.as_mut().poll(&mut context).is_pending());
        drop((first, second));
        let Poll::Ready(turn) = alone.as_mut().poll(&mut context) else { panic!("waits") };
        assert!(late.as_mut().poll(&mut context).is_pending());
        drop(turn);
        assert!(late.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_wait_given_up_lets_writers_in() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(turns.share()).poll(&mut context) else { panic!("waits") };
        {
            let mut alone = pin!(turns.alone());
            assert!(alone.as_mut().poll(&mut context).is_pending());
        }
        assert!(pin!(turns.share()).poll(&mut context).is_ready());
        drop(first);
    }
}
