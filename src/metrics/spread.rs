//! How amounts are spread: counts of those up to each bound, on the official client's scales.
//!
//! Owns the scales. Bounds are computed as the official client computes them, so that they are the same
//! numbers to the last bit.

use std::sync::LazyLock;

use super::{Begun, Count, Sum, Times};

/// What an amount is counted in, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown as seconds.
    Time,
    /// A number, shown as it is.
    Plain,
}

/// Upper bounds, ascending.
pub struct Scale {
    unit: Unit,
    /// As they are shown.
    shown: Vec<f64>,
    /// As amounts are counted.
    bounds: Vec<u64>,
}

impl Scale {
    fn new(unit: Unit, shown: Vec<f64>) -> Self {
        let counted = match unit {
            Unit::Time => 1e9,
            Unit::Plain => 1.0,
        };
        let bounds = shown.iter().map(|bound| (bound * counted) as u64).collect();
        Self { unit, shown, bounds }
    }

    fn times(start_s: f64, factor: f64, count: usize) -> Self {
        let next = |bound: &f64| Some(bound * factor);
        Self::new(Unit::Time, std::iter::successors(Some(start_s), next).take(count).collect())
    }

    /// What amounts are counted in.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The bounds as they are shown.
    pub fn shown(&self) -> &[f64] {
        &self.shown
    }
}

/// For operations: 10 µs and more.
pub static OPERATIONS: LazyLock<Scale> = LazyLock::new(|| Scale::times(0.000_01, 1.8, 29));
/// For questions and commits: 100 µs and more.
pub static METADATA: LazyLock<Scale> = LazyLock::new(|| Scale::times(0.000_1, 1.5, 30));
/// For requests to an object store: 10 ms and more.
pub static OBJECTS: LazyLock<Scale> = LazyLock::new(|| Scale::times(0.01, 1.5, 25));
/// For reads and writes: pages of 4 KiB, to 128 KiB.
pub static SIZES: LazyLock<Scale> = LazyLock::new(|| {
    Scale::new(Unit::Plain, (1..=32).map(|pages| f64::from(4096 * pages)).collect())
});

/// Of one core: how many amounts lie between each two bounds.
pub struct Buckets {
    scale: &'static Scale,
    /// The last one has what is above all bounds.
    counts: Box<[Count]>,
}

impl Buckets {
    /// None yet.
    pub fn new(scale: &'static Scale) -> Self {
        let counts = (0..=scale.bounds.len()).map(|_| Count::default()).collect();
        Self { scale, counts }
    }

    /// Count an amount that stands for so many.
    pub fn add(&self, amount: u64, stands_for: u64) {
        let at = self.scale.bounds.partition_point(|bound| *bound < amount);
        self.counts[at].add(stands_for);
    }

    /// What was counted.
    pub fn sum(&self) -> BucketSum {
        BucketSum(self.counts.iter().map(Count::get).collect())
    }
}

/// Counted by all cores together, between each two bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketSum(Vec<u64>);

impl BucketSum {
    /// How many of `count` lie up to each bound. Some are counted and not measured: those measured stand
    /// for others, and what is not over yet lies above all bounds.
    pub fn up_to(&self, scale: &Scale, count: u64) -> Vec<u64> {
        let mut total = 0;
        let all = self.0.iter().copied().chain(std::iter::repeat(0)).take(scale.bounds.len());
        all.map(|more| {
            total += more;
            count.min(total)
        })
        .collect()
    }
}

impl std::iter::Sum for BucketSum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |mut all, one| {
            all.0.resize(all.0.len().max(one.0.len()), 0);
            all.0.iter_mut().zip(one.0).for_each(|(all, one)| *all = all.wrapping_add(one));
            all
        })
    }
}

/// How often something was done, how long it took all together, and how that was spread.
pub struct Spread {
    times: Times,
    buckets: Buckets,
}

impl Spread {
    /// Nothing yet.
    pub fn new(scale: &'static Scale) -> Self {
        Self { times: Times::default(), buckets: Buckets::new(scale) }
    }

    /// See [`Times::begin_often`].
    pub fn begin_often(&self) -> Begun {
        self.times.begin_often()
    }

    /// See [`Times::begin`].
    pub fn begin(&self) -> Begun {
        self.times.begin()
    }

    /// It is done.
    pub fn end(&self, begun: Begun) {
        if let Some(took_ns) = self.times.end(begun) {
            self.buckets.add(took_ns, begun.stands_for());
        }
    }

    /// What was counted.
    pub fn sum(&self) -> SpreadSum {
        SpreadSum { all: self.times.sum(), buckets: self.buckets.sum() }
    }
}

/// Counted by all cores together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpreadSum {
    /// How often, and how much.
    pub all: Sum,
    /// How that was spread.
    pub buckets: BucketSum,
}

impl std::iter::Sum for SpreadSum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |all, one| Self {
            all: [all.all, one.all].into_iter().sum(),
            buckets: [all.buckets, one.buckets].into_iter().sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_real_client() {
        let ends = |scale: &Scale| (scale.shown.len(), scale.shown[0], scale.shown[1]);
        assert_eq!(ends(&OPERATIONS), (29, 1e-5, 1.8e-5));
        assert_eq!(ends(&METADATA), (30, 1e-4, 1e-4 * 1.5));
        assert_eq!(ends(&OBJECTS), (25, 0.01, 0.015));
        assert_eq!(ends(&SIZES), (32, 4096.0, 8192.0));
        assert_eq!(OPERATIONS.shown[3], 0.000_01 * 1.8 * 1.8 * 1.8);
        assert_eq!(*SIZES.bounds.last().unwrap(), 131_072);
    }

    #[test]
    fn amounts_lie_at_or_below_their_bound() {
        let (one, other) = (Buckets::new(&SIZES), Buckets::new(&SIZES));
        for amount in [0, 4096, 4097, 131_072, 131_073, 1 << 20] {
            one.add(amount, 1);
        }
        other.add(8192, 8);
        let sum: BucketSum = [one.sum(), other.sum()].into_iter().sum();
        let up_to = sum.up_to(&SIZES, 14);
        assert_eq!((up_to.len(), &up_to[..3], up_to[31]), (32, &[2, 11, 11][..], 12));
        assert_eq!(sum.up_to(&SIZES, 5)[31], 5, "never more than there were");
        assert_eq!(BucketSum::default().up_to(&SIZES, 5), [0; 32]);
    }

    #[test]
    fn what_is_measured_stands_for_what_is_not() {
        let spread = Spread::new(&METADATA);
        (0..64).for_each(|_| spread.end(spread.begin_often()));
        let sum = spread.sum();
        assert_eq!((sum.all.count, sum.buckets.0.iter().sum::<u64>()), (64, 64));
    }
}
