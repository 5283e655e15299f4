//! The one door through which chance comes in: a small seeded generator.
//!
//! Owns the sequence (SplitMix64). Not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A sequence of numbers that its seed decides.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence that differs from process to process.
    pub fn from_system() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0 .. end`; `end` is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a range holds a number");
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_sequence() {
        let mut first = Chance::seeded(7);
        let mut second = Chance::seeded(7);
        for _ in 0..100 {
            assert_eq!(first.next_u64(), second.next_u64());
            assert!(first.below(10) < 10);
            second.below(10);
        }
        assert_ne!(Chance::seeded(8).next_u64(), Chance::seeded(9).next_u64());
    }
}
