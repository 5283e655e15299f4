//! A store that fails, loses answers, damages bytes and delays, as a seed decides.
//!
//! Owns the dice and the outage switch. What it does is what real stores do: a failed put may have
//! happened, a get may bring wrong bytes, and answers come out of order.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;
use crate::stdx::Chance;
use crate::uring;

/// How often each fault happens, per thousand calls; all zero is a faithful store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The store is not asked, the caller hears `Unavailable`.
    pub unreached: u32,
    /// The store did it, the caller hears `Unavailable`.
    pub answer_lost: u32,
    /// The store is not asked, the caller hears `Throttled`.
    pub throttled: u32,
    /// A get brings one flipped bit.
    pub damaged: u32,
    /// Longest delay before a call; each call draws its own. Zero for none.
    pub delay_max: Duration,
}

/// The decorator.
pub struct Faulty<S> {
    inner: S,
    faults: Cell<Faults>,
    outage: Cell<bool>,
    chance: RefCell<Chance>,
}

impl<S: Store> Faulty<S> {
    /// `inner` with `faults` drawn from `seed`.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        let chance = RefCell::new(Chance::seeded(seed));
        Self { inner, faults: Cell::new(faults), outage: Cell::new(false), chance }
    }

    /// Change what happens from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.set(faults);
    }

    /// Begin or end an outage: no call reaches the store.
    pub fn set_outage(&self, outage: bool) {
        self.outage.set(outage);
    }

    fn draw(&self, permille: u32) -> bool {
        permille > 0 && self.chance.borrow_mut().below(1000) < u64::from(permille)
    }

    /// What happens on the way to the store.
    async fn reach(&self) -> Result<(), StoreError> {
        let faults = self.faults.get();
        if !faults.delay_max.is_zero() {
            let most = faults.delay_max.as_nanos() as u64;
            let delay = self.chance.borrow_mut().below(most + 1);
            uring::sleep(Duration::from_nanos(delay)).await;
        }
        if self.outage.get() {
            return Err(StoreError::Unavailable("outage".into()));
        }
        if self.draw(faults.throttled) {
            return Err(StoreError::Throttled("drawn".into()));
        }
        if self.draw(faults.unreached) {
            return Err(StoreError::Unavailable("not reached".into()));
        }
        Ok(())
    }

    /// What happens to the answer.
    fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        if self.draw(self.faults.get().answer_lost) {
            return Err(StoreError::Unavailable("answer lost".into()));
        }
        Ok(answer)
    }

    fn damage(&self, bytes: &mut [u8]) {
        if !bytes.is_empty() && self.draw(self.faults.get().damaged) {
            let bit = self.chance.borrow_mut().below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

impl<S: Store> Store for Faulty<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.reach().await?;
            self.answer(self.inner.put(key, body).await?)
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(async move {
            self.reach().await?;
            let (mut bytes, count) = self.inner.get(key, offset, into).await?;
            self.damage(&mut bytes[..count]);
            self.answer((bytes, count))
        })
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.reach().await?;
            self.answer(self.inner.delete(key).await?)
        })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(async move {
            self.reach().await?;
            self.answer(self.inner.list(prefix, start_after, limit).await?)
        })
    }

    fn describe(&self) -> String {
        format!("{} with faults", self.inner.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::mem;
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    #[test]
    fn conforms_without_faults_and_with_delays() {
        check(&Faulty::new(mem::open("fault-none"), 1, Faults::default()));
        let delays = Faults { delay_max: Duration::from_micros(50), ..Faults::default() };
        check(&Faulty::new(mem::open("fault-delays"), 1, delays));
    }

    #[test]
    fn a_lost_answer_is_a_done_deed() {
        let pool = Pool::new(PAGE_BYTES);
        let lost = Faults { answer_lost: 1000, ..Faults::default() };
        let store = Faulty::new(mem::open("fault-lost"), 1, lost);
        let put = block_on(store.put("a".into(), body(&pool, b"x")));
        assert!(matches!(put, Err(StoreError::Unavailable(_))));
        store.set_faults(Faults::default());
        assert_eq!(block_on(store.get("a".into(), 0, vec![0; 1])).unwrap().0, b"x");
    }

    #[test]
    fn an_outage_ends_and_damage_shows() {
        let pool = Pool::new(PAGE_BYTES);
        let store = Faulty::new(mem::open("fault-outage"), 1, Faults::default());
        store.set_outage(true);
        assert!(block_on(store.put("a".into(), body(&pool, b"xyz"))).is_err());
        store.set_outage(false);
        assert!(matches!(
            block_on(store.get("a".into(), 0, vec![0; 3])),
            Err(StoreError::Missing(_))
        ));
        block_on(store.put("a".into(), body(&pool, b"xyz"))).unwrap();
        store.set_faults(Faults { damaged: 1000, ..Faults::default() });
        assert_ne!(block_on(store.get("a".into(), 0, vec![0; 3])).unwrap().0, b"xyz");
    }

    #[test]
    fn a_seed_repeats_its_faults() {
        let run = |seed| {
            let half = Faults { unreached: 500, ..Faults::default() };
            let store = Faulty::new(mem::open("fault-seed"), seed, half);
            let calls = (0..64).map(|_| block_on(store.delete("a".into())).is_ok());
            calls.collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
