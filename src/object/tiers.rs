//! What one core reaches the objects of a volume through: a store for each tier of files.
//!
//! Owns the cut between what differs by tier, which is how objects are put, and all else, which
//! does not. Does not know which tier a file is in.

use std::rc::Rc;

use super::Store;

/// The stores of a core.
pub trait Tiers {
    /// For objects that are there, and for puts of files in tier 0.
    fn base(&self) -> Rc<dyn Store>;

    /// For puts of files in `tier`; [`Self::base`] when the volume knows no such tier.
    fn tier(&self, tier: u8) -> Rc<dyn Store>;

    /// Whether any tier puts otherwise than tier 0.
    fn differ(&self) -> bool;
}

/// All tiers are one.
pub struct OneTier(pub Rc<dyn Store>);

impl Tiers for OneTier {
    fn base(&self) -> Rc<dyn Store> {
        Rc::clone(&self.0)
    }

    fn tier(&self, _: u8) -> Rc<dyn Store> {
        self.base()
    }

    fn differ(&self) -> bool {
        false
    }
}
