//! Removing what nobody refers to any more.
//!
//! Owns the order: metadata lets go first, then objects are removed, then metadata forgets. Does
//! not decide that something is garbage.

use std::rc::Rc;

use super::Data;
use super::error::DataError;
use crate::object::BlockKey;
use crate::types::{Ino, SliceId};
use crate::uring;

impl Data {
    /// Remove the data of a deleted file of `length` bytes.
    pub async fn delete_file(&self, ino: Ino, length: u64) -> Result<(), DataError> {
        let slices = self.slices.drop_chunks(ino, length).await?;
        for (id, size) in &slices {
            self.remove_slice(*id, *size).await?;
        }
        self.slices.forget_slices(ino, length, slices).await?;
        Ok(())
    }

    /// Remove all objects of a slice of `size` bytes.
    pub async fn remove_slice(&self, id: SliceId, size: u32) -> Result<(), DataError> {
        for key in self.shared.config.layout.blocks(id, size) {
            self.remove_block(key).await?;
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
