//! Blocks of whole files that are brought near, let go, or looked for, because somebody asked.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::Data;
use super::blocks::Purpose;
use crate::object::{BlockKey, Layout, StoreError};
use crate::stdx::{Permits, oneshot};
use crate::types::SliceRecord;
use crate::uring;

/// What is to become of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// They are to be in the cache.
    Fetch,
    /// They are not.
    Drop,
    /// It is only asked whether they are.
    Look,
}

/// What was found of the blocks of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nearby {
    /// Slices.
    pub slices: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Of those, bytes that were not in the cache, where that was asked for.
    pub missing_bytes: u64,
    /// Bytes for each place where they are, where that was asked for.
    pub places: Vec<(String, u64)>,
}

/// The blocks that a visible piece of a slice is in, each with the piece's offset in it and its
/// length there; none for a hole, and for a record that cannot be.
pub fn blocks_of(layout: Layout, piece: &SliceRecord) -> Vec<(BlockKey, u32, u32)> {
    let SliceRecord { id, size, off, len, .. } = *piece;
    let block = layout.block_bytes();
    let end = u64::from(off) + u64::from(len);
    if id == 0 || len == 0 || end > u64::from(size) {
        return Vec::new();
    }
    let parts = super::geometry::parts(off, len, block);
    parts.map(|part| (layout.block(id, size, part.index), part.off, part.len)).collect()
}

impl Data {
    /// How slices are cut and named.
    pub fn layout(&self) -> Layout {
        self.shared.config.layout
    }

    /// Do this to all blocks that these pieces are in; `workers` bounds how many are fetched at a
    /// time, everything together.
    ///
    /// # Errors
    /// Of the first block that could not be fetched; the others were tried, too.
    pub async fn bring(
        self: &Rc<Self>,
        pieces: &[SliceRecord],
        wanted: Nearness,
        workers: &Arc<Permits>,
    ) -> Result<Nearby, StoreError> {
        let blocks: BTreeSet<_> = pieces
            .iter()
            .flat_map(|piece| blocks_of(self.layout(), piece))
            .map(|(key, ..)| key)
            .collect();
        let slices: BTreeSet<_> = blocks.iter().map(|key| key.id).collect();
        let mut found = Nearby { slices: slices.len() as u64, ..Nearby::default() };
        let mut fetches = Vec::new();
        for key in blocks {
            let bytes = u64::from(key.size);
            found.bytes += bytes;
            let Some(cache) = self.shared.config.cache.as_ref() else {
                found.missing_bytes += bytes;
                continue;
            };
            match (wanted, cache.place(&key)) {
                (Nearness::Drop, _) => cache.remove(&key),
                (Nearness::Look, Some(place)) => found.places.push((place, bytes)),
                (Nearness::Fetch, Some(_)) => {}
                (Nearness::Look, None) => found.missing_bytes += bytes,
                (Nearness::Fetch, None) => fetches.push(self.fetch_one(key, workers).await),
            }
        }
        for fetch in fetches {
            fetch.await.expect("a fetch runs to its end")?;
        }
        Ok(found)
    }

    async fn fetch_one(
        self: &Rc<Self>,
        key: BlockKey,
        workers: &Arc<Permits>,
    ) -> crate::stdx::Receiver<Result<(), StoreError>> {
        let permit = workers.take().await;
        let (sender, receiver) = oneshot();
        let data = Rc::clone(self);
        uring::spawn(async move {
            sender.send(data.block(key, Purpose::Pieces).await.map(drop));
            drop(permit);
        });
        receiver
    }
}
