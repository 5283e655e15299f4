//! Removing what nobody refers to any more.
//!
//! Owns the order: metadata lets go first, then objects are removed, then metadata forgets. Does
//! not decide that something is garbage.

use std::rc::Rc;

use super::Data;
use super::error::DataError;
use crate::object::BlockKey;
use crate::stdx::{Permits, oneshot};
use crate::types::{Ino, SliceId};
use crate::uring;

/// Objects of a file removed at a time.
const REMOVALS: usize = 16;

impl Data {
    /// Remove the data of a deleted file of `length` bytes.
    pub async fn delete_file(self: &Rc<Self>, ino: Ino, length: u64) -> Result<(), DataError> {
        let slices = self.slices.drop_chunks(ino, length).await?;
        let layout = self.shared.config.layout;
        let keys: Vec<BlockKey> =
            slices.iter().flat_map(|(id, size)| layout.blocks(*id, *size)).collect();
        self.remove_blocks(&keys).await?;
        self.slices.forget_slices(ino, length, slices).await?;
        Ok(())
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
        if let Some(cache) = &self.shared.config.cache {
            cache.remove(&key);
        }
        let name = self.shared.config.layout.name(key);
        Ok(self.store.delete(name).await?)
    }

    /// Remove blocks that never became visible; what fails stays for garbage collection.
    pub(super) fn remove_later(self: &Rc<Self>, keys: Vec<BlockKey>) {
        if keys.is_empty() {
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
