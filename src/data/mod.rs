//! File bytes: the one join of metadata, staging and objects. Does not know FUSE or other cores.
//!
//! Owns dirty data and the order data before metadata before visible. `Data` belongs to a core;
//! `DataShared` is what the cores of a mount share.

mod abandoned;
mod blocks;
mod compaction;
mod counts;
mod deleter;
mod drain;
mod error;
mod extents;
mod geometry;
mod levels;
mod merge;
mod near;
mod notes;
mod overlay;
mod patience;
mod prefetch;
mod publish;
mod reader;
mod shared;
mod slice;
mod staged;
mod tracker;
mod uploader;
mod writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::meta::Slices;
use crate::metrics::Sheet;
use crate::object::{OneTier, Store, Tiers};
use crate::stage::Codec;

pub use counts::DataCounts;
pub use error::DataError;
pub use extents::Pending;
pub use levels::FileState;
pub use near::{Nearby, Nearness, blocks_of};
pub use shared::{DataConfig, DataShared};

/// File bytes, as seen from one core.
pub struct Data {
    slices: Rc<dyn Slices>,
    stores: Rc<dyn Tiers>,
    shared: Arc<DataShared>,
    codec: RefCell<Codec>,
    counts: Sheet<counts::Counts>,
}

impl Data {
    /// For one core; all cores of a mount pass the same `shared`.
    pub fn new(slices: Rc<dyn Slices>, store: Rc<dyn Store>, shared: Arc<DataShared>) -> Rc<Self> {
        Self::with_tiers(slices, Rc::new(OneTier(store)), shared)
    }

    /// The same, for volumes whose files may be in tiers.
    pub fn with_tiers(
        slices: Rc<dyn Slices>,
        stores: Rc<dyn Tiers>,
        shared: Arc<DataShared>,
    ) -> Rc<Self> {
        let codec = RefCell::new(Codec::new(shared.config.compression));
        let counts = shared.counts.own();
        Rc::new(Self { slices, stores, shared, codec, counts })
    }
}
