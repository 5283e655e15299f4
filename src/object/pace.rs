//! As many requests to a bucket at a time as it likes (additive increase, multiplicative decrease).
//!
//! Owns the width, shared by all cores of a mount. A store that throttles halves it, answers make
//! it grow by one for each round; requests that left before the last halving do not halve it again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;
use crate::stdx::{Sender, oneshot};

/// The width of a bucket.
pub struct Pace {
    most: usize,
    state: Mutex<State>,
}

struct State {
    width: f64,
    flying: usize,
    /// How often it was halved: tells which requests were of a wider time.
    halvings: u64,
    waiting: VecDeque<Sender<Turn>>,
}

/// The right to ask; dropping it hands it on.
struct Turn {
    pace: Option<Arc<Pace>>,
    halvings: u64,
}

impl Pace {
    /// Begins with `most` at a time, and never has more.
    pub fn new(most: usize) -> Arc<Self> {
        assert!(most > 0, "somebody must get in");
        let state = State { width: most as f64, flying: 0, halvings: 0, waiting: VecDeque::new() };
        Arc::new(Self { most, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn, after those who asked earlier.
    async fn turn(self: &Arc<Self>) -> Turn {
        let receiver = {
            let mut state = self.lock();
            if state.has_room() && state.waiting.is_empty() {
                state.flying += 1;
                return Turn { pace: Some(Arc::clone(self)), halvings: state.halvings };
            }
            let (sender, receiver) = oneshot();
            state.waiting.push_back(sender);
            receiver
        };
        receiver.await.expect("a pace outlives those who wait for it")
    }

    /// Learn from an answer to a request of `turn`.
    fn learn<T>(&self, turn: &Turn, answer: &Result<T, StoreError>) {
        let mut state = self.lock();
        match answer {
            Err(StoreError::Throttled(_)) if turn.halvings == state.halvings => {
                state.width = (state.width / 2.0).max(1.0);
                state.halvings += 1;
                let width = state.width as usize;
                drop(state);
                tracing::warn!(width, "the store throttles: fewer requests at a time");
            }
            Ok(_) => state.width = (state.width + 1.0 / state.width).min(self.most as f64),
            Err(_) => {}
        }
    }

    /// A turn has ended: who waits gets what there is room for.
    fn hand_on(self: &Arc<Self>) {
        let mut served = Vec::new();
        let mut state = self.lock();
        state.flying -= 1;
        while state.has_room()
            && let Some(next) = state.waiting.pop_front()
        {
            state.flying += 1;
            served.push((next, state.halvings));
        }
        drop(state);
        // Who stopped waiting drops the turn it is sent, which comes back here.
        for (next, halvings) in served {
            next.send(Turn { pace: Some(Arc::clone(self)), halvings });
        }
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.flying < self.width as usize
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pace) = self.pace.take() {
            pace.hand_on();
        }
    }
}

/// The decorator.
pub struct Paced<S> {
    inner: S,
    pace: Arc<Pace>,
}

impl<S: Store> Paced<S> {
    /// `inner`, asked at `pace`.
    pub fn new(inner: S, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }

    async fn ask<T>(&self, request: Local<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        let turn = self.pace.turn().await;
        let answer = request.await;
        self.pace.learn(&turn, &answer);
        answer
    }
}

impl<S: Store> Store for Paced<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(self.ask(self.inner.put(key, body)))
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(self.ask(self.inner.get(key, offset, into)))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(self.ask(self.inner.delete(key)))
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(self.ask(self.inner.list(prefix, start_after, limit)))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::conformance::check;
    use super::super::{Faults, Faulty, mem};
    use super::*;
    use crate::uring::block_on;

    fn width(pace: &Arc<Pace>) -> usize {
        pace.lock().width as usize
    }

    #[test]
    fn conforms() {
        check(&Paced::new(mem::open("pace-conforms"), Pace::new(1)));
    }

    #[test]
    fn throttling_halves_once_for_all_that_were_in_the_air() {
        let pace = Pace::new(16);
        let slow = || Err::<(), _>(StoreError::Throttled("slow".into()));
        block_on(async {
            let (one, two) = (pace.turn().await, pace.turn().await);
            pace.learn(&one, &slow());
            pace.learn(&two, &slow());
            assert_eq!(width(&pace), 8);
            let later = pace.turn().await;
            pace.learn(&later, &slow());
            assert_eq!(width(&pace), 4);
            drop((one, two, later));
            for _ in 0..10 {
                let turn = pace.turn().await;
                pace.learn(&turn, &slow());
            }
        });
        assert_eq!(width(&pace), 1, "one always gets in");
    }

    #[test]
    fn answers_make_it_grow_back() {
        let pace = Pace::new(8);
        pace.lock().width = 1.0;
        block_on(async {
            let mut asked = 0;
            while width(&pace) < 8 {
                let turn = pace.turn().await;
                pace.learn(&turn, &Ok(()));
                asked += 1;
            }
            assert!((20..60).contains(&asked), "one more for each round: {asked}");
            let turn = pace.turn().await;
            pace.learn(&turn, &Ok(()));
            pace.learn(&turn, &Err::<(), _>(StoreError::Unavailable("away".into())));
        });
        assert_eq!(width(&pace), 8, "never more than it began with, and an outage is no hint");
    }

    #[test]
    fn no_more_are_in_the_air_than_the_width_and_who_left_is_skipped() {
        let pace = Pace::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let held = block_on(pace.turn());
        let mut last = pin!(pace.turn());
        {
            let mut left = pin!(pace.turn());
            assert!(left.as_mut().poll(&mut context).is_pending());
            assert!(last.as_mut().poll(&mut context).is_pending());
        }
        drop(held);
        assert!(last.as_mut().poll(&mut context).is_ready());
        assert_eq!(pace.lock().flying, 0, "the last turn came home with its future");
    }

    #[test]
    fn a_store_that_throttles_is_asked_by_fewer() {
        let throttles = Faults { throttled: 1000, ..Faults::default() };
        let pace = Pace::new(64);
        let faulty = Faulty::new(mem::open("pace-faulty"), 1, throttles);
        let store = Paced::new(faulty, Arc::clone(&pace));
        for _ in 0..3 {
            assert!(block_on(store.delete("a".into())).is_err());
        }
        assert_eq!(width(&pace), 8);
    }
}
