//! Removing what nobody refers to any more.
//!
//! Owns the order: metadata lets go first, then objects are removed, then metadata forgets. Does
//! not decide that something is garbage.

use std::rc::Rc;

use super::Data;
use super::error::DataError;
use crate::object::BlockKey;
use crate::stage::Removed;
use crate::stdx::{Permits, oneshot};
use crate::types::{Ino, SliceId};
use crate::uring;

/// Slices, and blocks of one, that wait to be removed at a time.
const REMOVALS: usize = 16;

impl Data {
    /// Remove the data of deleted files (inode, length in bytes), all together.
    ///
    /// # Errors
    /// Of metadata. Objects that cannot be removed keep their slices listed as unused, for garbage
    /// collection.
    pub async fn delete_files(self: &Rc<Self>, files: Vec<(Ino, u64)>) -> Result<(), DataError> {
        let slices = self.slices.drop_chunks(files.clone()).await?;
        let gone = self.remove_slices(slices).await;
        self.slices.forget_slices(files, gone).await?;
        Ok(())
    }

    /// Remove the objects of slices (id, size) that nobody refers to, and forget the slices; how
    /// many.
    ///
    /// # Errors
    /// Of metadata, as [`Self::delete_files`].
    pub async fn delete_slices(
        self: &Rc<Self>,
        slices: Vec<(SliceId, u32)>,
    ) -> Result<usize, DataError> {
        let gone = self.remove_slices(slices).await;
        let count = gone.len();
        if count > 0 {
            self.slices.forget_slices(Vec::new(), gone).await?;
        }
        Ok(count)
    }

    /// Remove the objects of slices; those of which all are gone.
    async fn remove_slices(self: &Rc<Self>, slices: Vec<(SliceId, u32)>) -> Vec<(SliceId, u32)> {
        if self.shared.config.deletes == 0 {
            return Vec::new();
        }
        let permits = Permits::new(REMOVALS);
        let mut removals = Vec::with_capacity(slices.len());
        for (id, size) in slices {
            let permit = permits.take().await;
            let (sender, receiver) = oneshot();
            let data = Rc::clone(self);
            uring::spawn(async move {
                let removed = data.remove_slice(id, size).await;
                if let Err(error) = &removed {
                    tracing::warn!(slice = id, %error, "an unused slice stays");
                }
                sender.send(removed.is_ok().then_some((id, size)));
                drop(permit);
            });
            removals.push(receiver);
        }
        let mut gone = Vec::with_capacity(removals.len());
        for removal in removals {
            gone.extend(removal.await.expect("a removal runs to its end"));
        }
        gone
    }

    /// Remove all objects of a slice of `size` bytes.
    pub async fn remove_slice(self: &Rc<Self>, id: SliceId, size: u32) -> Result<(), DataError> {
        let keys: Vec<BlockKey> = self.shared.config.layout.blocks(id, size).collect();
        self.remove_blocks(&keys).await
    }

    /// Remove blocks, some at a time.
    async fn remove_blocks(self: &Rc<Self>, keys: &[BlockKey]) -> Result<(), DataError> {
        let Some((last, others)) = keys.split_last() else { return Ok(()) };
        let permits = Permits::new(REMOVALS);
        let mut removals = Vec::with_capacity(others.len());
        for key in others {
            let permit = permits.take().await;
            let (sender, receiver) = oneshot();
            let (data, key) = (Rc::clone(self), *key);
            uring::spawn(async move {
                sender.send(data.remove_block(key).await);
                drop(permit);
            });
            removals.push(receiver);
        }
        self.remove_block(*last).await?;
        for removal in removals {
            removal.await.expect("a removal runs to its end")?;
        }
        Ok(())
    }

    async fn remove_block(&self, key: BlockKey) -> Result<(), DataError> {
        let waits = self.let_staged_go(&key);
        if let Some(cache) = &self.shared.config.cache {
            cache.remove(&key);
        }
        if waits {
            return Ok(());
        }
        let name = self.shared.config.layout.name(key);
        let _permit = self.shared.deletes.take().await;
        Ok(self.delete_object(name).await?)
    }

    /// A block that waits for its upload need not be uploaded, and has no object; whether it does.
    pub(super) fn let_staged_go(&self, key: &BlockKey) -> bool {
        let Some(staging) = &self.shared.config.staging else { return false };
        match staging.remove(key) {
            Removed::Unknown => return false,
            Removed::Dropped => self.shared.staged.block_left(key.id),
            // Its object is removed by who uploads it.
            Removed::Flying => self.shared.staged.removed_in_hand(key),
        }
        true
    }

    /// Remove blocks that never became visible; what fails stays for garbage collection.
    pub(super) fn remove_later(self: &Rc<Self>, keys: Vec<BlockKey>) {
        if keys.is_empty() || self.shared.config.deletes == 0 {
            return;
        }
        let data = Rc::clone(self);
        uring::spawn(async move {
            for key in keys {
                if let Err(error) = data.remove_block(key).await {
                    tracing::warn!(?key, %error, "an unused object stays");
                }
            }
        });
    }
}
