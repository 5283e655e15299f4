//! Trying again what may pass.
//!
//! Owns how long and how often. Only what may pass is tried again: missing, refused and damaged
//! stay so. Patience is JuiceFS's for the same `--io-retries`: it pauses 1, 4, 9 ... seconds; this
//! one begins with short pauses, because most failures are short, and gives up after the same time.

use std::cell::RefCell;
use std::time::Duration;

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::{self, Page};
use crate::stdx::Chance;
use crate::uring;

/// First pause; each further one is up to twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause: a store that is back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The decorator.
pub struct Retried<S> {
    inner: S,
    patience: Duration,
    chance: RefCell<Chance>,
}

/// Pauses of one request; all together they are as long as the patience.
struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    /// The next pause: between half and all of its length as `chance` says, so that those who
    /// failed together do not come back together. `None` when patience is at its end.
    fn next(&mut self, chance: &mut Chance) -> Option<Duration> {
        if self.left.is_zero() {
            return None;
        }
        let half_ns = self.next.as_nanos() as u64 / 2;
        let pause = Duration::from_nanos(half_ns + chance.below(half_ns + 1)).min(self.left);
        self.left -= pause;
        self.next = (self.next * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

/// How long JuiceFS goes on for this count.
fn patience(retries: u32) -> Duration {
    let seconds = (1..=u64::from(retries.min(100))).map(|round| round * round).sum();
    Duration::from_secs(seconds)
}

/// Whether trying again may help.
fn may_pass(error: &StoreError) -> bool {
    match error {
        StoreError::Throttled(_) | StoreError::Unavailable(_) => true,
        StoreError::Missing(_)
        | StoreError::Full(_)
        | StoreError::Refused(_)
        | StoreError::Corrupt { .. } => false,
    }
}

impl<S: Store> Retried<S> {
    /// `inner`, asked again for as long as JuiceFS would with `retries`; 0 for never.
    pub fn new(inner: S, retries: u32) -> Self {
        let chance = RefCell::new(Chance::from_system());
        Self { inner, patience: patience(retries), chance }
    }

    /// Whether to go on after `error`, and the pause before that.
    async fn again(&self, pauses: &mut Pauses, what: &str, error: &StoreError) -> bool {
        if !may_pass(error) {
            return false;
        }
        let pause = pauses.next(&mut self.chance.borrow_mut());
        let Some(pause) = pause else { return false };
        if pause > Duration::from_secs(1) {
            tracing::warn!(what, %error, ?pause, "tried again after a pause");
        } else {
            tracing::debug!(what, %error, ?pause, "tried again after a pause");
        }
        uring::sleep(pause).await;
        true
    }

    fn pauses(&self) -> Pauses {
        Pauses { left: self.patience, next: PAUSE_FIRST }
    }
}

impl<S: Store> Store for Retried<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut pauses = self.pauses();
            loop {
                match self.inner.put(key.clone(), body.clone()).await {
                    Err(error) if self.again(&mut pauses, &key, &error).await => {}
                    done => return done,
                }
            }
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(async move {
            let mut pauses = self.pauses();
            let (len, mut into) = (into.len(), into);
            loop {
                match self.inner.get(key.clone(), offset, into).await {
                    Err(error) if self.again(&mut pauses, &key, &error).await => {
                        into = pages::buffer(len);
                    }
                    done => return done,
                }
            }
        })
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut pauses = self.pauses();
            loop {
                match self.inner.delete(key.clone()).await {
                    Err(error) if self.again(&mut pauses, &key, &error).await => {}
                    done => return done,
                }
            }
        })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(async move {
            let mut pauses = self.pauses();
            loop {
                match self.inner.list(prefix.clone(), start_after.clone(), limit).await {
                    Err(error) if self.again(&mut pauses, &prefix, &error).await => {}
                    done => return done,
                }
            }
        })
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::{Faults, Faulty, mem};
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    #[test]
    fn conforms_over_a_store_that_often_fails() {
        let often = Faults { unreached: 80, answer_lost: 80, throttled: 80, ..Faults::default() };
        check(&Retried::new(Faulty::new(mem::open("retry-conforms"), 11, often), 10));
    }

    #[test]
    fn patience_is_that_of_juicefs_and_pauses_grow() {
        assert_eq!(patience(10), Duration::from_secs(385));
        assert_eq!(patience(0), Duration::ZERO);
        let mut chance = Chance::seeded(3);
        let mut pauses = Pauses { left: patience(10), next: PAUSE_FIRST };
        let all: Vec<_> = std::iter::from_fn(|| pauses.next(&mut chance)).collect();
        assert_eq!(all.iter().sum::<Duration>(), patience(10));
        assert!(all[0] >= PAUSE_FIRST / 2 && all[0] <= PAUSE_FIRST, "{all:?}");
        assert!(all.iter().all(|pause| *pause <= PAUSE_MAX), "{all:?}");
        let late = &all[10..all.len() - 1];
        assert!(late.iter().all(|pause| *pause >= PAUSE_MAX / 2), "{all:?}");
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        let pool = Pool::new(PAGE_BYTES);
        // Were it tried again, the second try would be reached and the third ...
        let store = Retried::new(Faulty::new(mem::open("retry-missing"), 1, Faults::default()), 10);
        let missing = block_on(store.get("a".into(), 0, vec![0; 1]));
        assert!(matches!(missing, Err(StoreError::Missing(_))));
        let off = Retried::new(Faulty::new(mem::open("retry-off"), 1, Faults::default()), 0);
        off.inner.set_outage(true);
        assert!(block_on(off.put("a".into(), body(&pool, b"x"))).is_err());
        assert_eq!(pool.used_pages(), 0);
    }

    #[test]
    fn an_outage_is_waited_for() {
        let pool = Pool::new(PAGE_BYTES);
        let store = std::rc::Rc::new(Retried::new(
            Faulty::new(mem::open("retry-outage"), 1, Faults::default()),
            10,
        ));
        store.inner.set_outage(true);
        block_on(async {
            let other = std::rc::Rc::clone(&store);
            uring::spawn(async move {
                uring::sleep(Duration::from_millis(120)).await;
                other.inner.set_outage(false);
            });
            store.put("a".into(), body(&pool, b"x")).await.unwrap();
            assert_eq!(store.get("a".into(), 0, vec![0; 1]).await.unwrap().0, b"x");
        });
    }
}
