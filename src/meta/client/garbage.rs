//! Slices that nobody needs any more, found for whoever removes their objects.
//!
//! Owns taking their references away. Does not own objects (`data`) nor when to look (`daemon`).

use super::Meta;
use crate::meta::engine::UnusedSlices;
use crate::meta::slices::MetaError;
use crate::meta::txn::{Commit, Delayed, Expect, Mutation, Outcome};
use crate::types::SliceId;

/// What [`Meta::release_delayed`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Compactions whose replaced slices wait no longer.
    pub entries: usize,
    /// Slices that nobody refers to any more.
    pub unused: Vec<(SliceId, u32)>,
}

impl Meta {
    /// A page of slices without a reference, see [`crate::meta::Engine::unused_slices`].
    pub async fn unused_slices(&self, from: u64, limit: usize) -> Result<UnusedSlices, MetaError> {
        Ok(self.engine.unused_slices(from, limit).await?)
    }

    /// Let go of replaced slices that were put aside before `before` (unix s), of at most `limit`
    /// compactions: each is let go once, whoever else is at it.
    pub async fn release_delayed(&self, before: i64, limit: usize) -> Result<Released, MetaError> {
        self.writable()?;
        let (mut released, mut slices) = (Released::default(), Vec::new());
        for delayed in self.engine.delayed_slices(before, limit).await? {
            if let Outcome::Applied(_) = self.engine.commit(release(&delayed)).await? {
                released.entries += 1;
                slices.extend(delayed.slices);
            }
        }
        slices.sort_unstable();
        slices.dedup();
        released.unused = self.unreferenced(slices).await?;
        Ok(released)
    }
}

fn release(delayed: &Delayed) -> Commit {
    let less = delayed.slices.iter().filter(|(id, _)| *id > 0);
    let less = less.map(|(id, size)| Mutation::AddSliceRef(*id, *size, -1));
    Commit {
        expects: vec![Expect::Delayed(delayed.clone())],
        mutations: less.chain([Mutation::DelDelayed(delayed.clone())]).collect(),
        returns: vec![],
    }
}
