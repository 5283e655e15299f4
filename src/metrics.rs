//! Numbers that a mount counts: a sheet for each core, added up when somebody asks, and their text.
//!
//! Owns counters that cost a core no more than memory of its own; `spread` has how amounts are spread,
//! `report` the forms in which all are told. Does not own what is counted: each floor has a sheet for
//! what it does.

pub mod report;
pub mod spread;

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::stdx::monotonic_ns;

/// A number that one core adds to, and others read.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Add; the number before. Only for the core whose sheet this is: nothing is locked.
    #[inline]
    pub fn add(&self, more: u64) -> u64 {
        let before = self.get();
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
        before
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The last time that something was done which has a pace of its own; zero until then.
#[derive(Default)]
pub struct LastDone {
    at_ns: AtomicU64,
    took_ns: AtomicU64,
}

impl LastDone {
    /// It was begun at this unix time, and is done.
    pub fn set(&self, at_ns: u64, took_ns: u64) {
        self.at_ns.store(at_ns, Ordering::Relaxed);
        self.took_ns.store(took_ns, Ordering::Relaxed);
    }

    /// When it was begun, by unix time.
    pub fn at_ns(&self) -> u64 {
        self.at_ns.load(Ordering::Relaxed)
    }

    /// How long it took.
    pub fn took_ns(&self) -> u64 {
        self.took_ns.load(Ordering::Relaxed)
    }
}

/// How often something was done, and how long it took all together.
#[derive(Default)]
pub struct Times {
    count: Count,
    sum_ns: Count,
}

/// Something that was begun; whether it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// On the monotonic clock; 0 when it is not measured.
    pub at_ns: u64,
    stands_for: u64,
}

impl Begun {
    /// How many it stands for when it is measured.
    pub fn stands_for(&self) -> u64 {
        self.stands_for
    }
}

/// What happens all the time is measured once in so many, and stands for the others: two looks at
/// the clock cost 70 ns, a stat 5,600.
const OFTEN_ONE_IN: u64 = 8;

impl Times {
    /// Count something that happens all the time.
    #[inline]
    pub fn begin_often(&self) -> Begun {
        match self.count.add(1).is_multiple_of(OFTEN_ONE_IN) {
            true => Begun { at_ns: monotonic_ns(), stands_for: OFTEN_ONE_IN },
            false => Begun { at_ns: 0, stands_for: 0 },
        }
    }

    /// Count something, and measure it.
    #[inline]
    pub fn begin(&self) -> Begun {
        self.count.add(1);
        Begun { at_ns: monotonic_ns(), stands_for: 1 }
    }

    /// It is done; how long it took in nanoseconds, if that was measured.
    #[inline]
    pub fn end(&self, begun: Begun) -> Option<u64> {
        if begun.stands_for == 0 {
            return None;
        }
        let took_ns = monotonic_ns().saturating_sub(begun.at_ns);
        self.sum_ns.add(took_ns.saturating_mul(begun.stands_for));
        Some(took_ns)
    }

    /// What was counted.
    pub fn sum(&self) -> Sum {
        Sum { count: self.count.get(), total: self.sum_ns.get() }
    }
}

/// How often something was seen, and how much it was all together.
#[derive(Default)]
pub struct Amounts {
    count: Count,
    total: Count,
}

impl Amounts {
    /// Count one of this much.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.count.add(1);
        self.total.add(amount);
    }

    /// What was counted.
    pub fn sum(&self) -> Sum {
        Sum { count: self.count.get(), total: self.total.get() }
    }
}

/// Counted by all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How often.
    pub count: u64,
    /// How much: nanoseconds, bytes.
    pub total: u64,
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |all, one| Self {
            count: all.count.wrapping_add(one.count),
            total: all.total.wrapping_add(one.total),
        })
    }
}

/// The sheets of all cores.
pub struct Sheets<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Sheets<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Sheets<T> {
    /// A sheet for the calling core.
    pub fn own(&self) -> Sheet<T> {
        let sheet = Arc::new(T::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&sheet));
        Sheet { counts: sheet, stays: PhantomData }
    }

    /// What all sheets have of something, added up.
    pub fn sum<S: std::iter::Sum>(&self, each: impl Fn(&T) -> S) -> S {
        let sheets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sheets.iter().map(|sheet| each(sheet)).sum()
    }
}

/// The counts of one core, which alone adds to them.
pub struct Sheet<T> {
    counts: Arc<T>,
    /// A sheet does not leave its thread.
    stays: PhantomData<*const ()>,
}

impl<T> Clone for Sheet<T> {
    /// The same sheet, for something else on the same core.
    fn clone(&self) -> Self {
        Self { counts: Arc::clone(&self.counts), stays: PhantomData }
    }
}

impl<T> Deref for Sheet<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_count_alone_and_are_added_up() {
        let sheets = Sheets::<Amounts>::default();
        std::thread::scope(|scope| {
            for core in 1..=4 {
                let sheets = &sheets;
                scope.spawn(move || {
                    let own = sheets.own();
                    (0..1000).for_each(|_| own.add(core));
                });
            }
        });
        assert_eq!(sheets.sum(Amounts::sum), Sum { count: 4000, total: 10_000 });
    }

    #[test]
    fn what_happens_often_is_measured_now_and_then() {
        let times = Times::default();
        let measured = (0..64).filter(|_| times.end(times.begin_often()).is_some()).count();
        assert_eq!((measured, times.sum().count), (8, 64));
        assert!(times.end(times.begin()).is_some());
        assert_eq!(times.sum().count, 65);
    }
}
