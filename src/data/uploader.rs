//! Sealed blocks to the object store.
//!
//! Owns what happens to a slice when its block is stored or lost. Data is in the
//! store before metadata names it: commits start only here (`tracker`).

use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::Data;
use super::abandoned::{InHand, Work};
use super::error::DataError;
use super::extents::Step;
use super::shared::File;
use super::slice::SealedBlock;
use crate::meta::MetaError;
use crate::net::side;
use crate::object::{BlockKey, Store};
use crate::pages::Page;
use crate::stage::{Codec, Compression};
use crate::types::Ino;
use crate::uring;

/// Blocks from this size on are compressed by a side thread.
const BULK_BYTES: usize = 128 << 10;

impl Data {
    /// Store the blocks of a step, each as a task of this core.
    pub(super) fn launch(self: &Rc<Self>, file: &Arc<File>, step: Step) {
        if step.blocks.is_empty() && !step.sealed.is_empty() {
            // All blocks were stored while the slice was open: only the commit is left.
            let (data, file) = (Rc::clone(self), Arc::clone(file));
            uring::spawn(async move { data.commit_ready(&file).await });
            return;
        }
        self.shared.take_off(step.blocks.len());
        for block in step.blocks {
            let (data, file) = (Rc::clone(self), Arc::clone(file));
            uring::spawn(async move { data.upload(&file, block).await });
        }
    }

    /// Store one block, then commit whatever became ready by it.
    pub(super) async fn upload(self: &Rc<Self>, file: &Arc<File>, block: SealedBlock) {
        let (chunk, seq) = (block.chunk, block.seq);
        let work = Work::Block(chunk, seq, block.index);
        let in_hand = InHand::new(&self.shared, file, work);
        let stored = self.store_block(file, block).await;
        in_hand.done();
        // Before its pages go home: who counts on what flies (`relieve`) is woken by them.
        self.shared.land();
        let orphans = match stored {
            Ok(Some(key)) => {
                let owned = file.with(|extents| extents.block_stored(chunk, seq, key));
                if owned { Vec::new() } else { vec![key] }
            }
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::error!(ino = file.ino.0, chunk, %error, "written data is lost");
                file.with(|extents| extents.block_failed(chunk, seq, error))
            }
        };
        self.remove_later(orphans);
        self.commit_ready(file).await;
        file.moved.open();
    }

    /// The key of the stored block; `None` when its slice is gone already.
    async fn store_block(
        &self,
        file: &File,
        block: SealedBlock,
    ) -> Result<Option<BlockKey>, DataError> {
        let _permit = self.shared.uploads.take().await;
        let Some(id) = self.slice_id(file, &block).await? else { return Ok(None) };
        let size = block.pages.iter().map(|page| page.len()).sum::<usize>() as u32;
        let key = BlockKey { id, index: block.index, size };
        self.put_block(file.ino, key, block.pages).await?;
        Ok(Some(key))
    }

    /// Store a block of a file, and keep it near if blocks of its size are.
    pub(super) async fn put_block(
        &self,
        ino: Ino,
        key: BlockKey,
        pages: Vec<Page>,
    ) -> Result<(), DataError> {
        let name = self.shared.config.layout.name(key);
        let kept = self.keeps(key.size).then(|| pages.clone());
        let body = self.encoded(pages, key.size as usize).await;
        let store = self.store_for(ino).await?;
        self.put_object(&*store, name, body).await?;
        if let (Some(pages), Some(cache)) = (kept, &self.shared.config.cache) {
            cache.insert_copy(key, &pages);
        }
        Ok(())
    }

    /// What blocks of a file are put through. Its tier is asked for each time: it may be changed.
    async fn store_for(&self, ino: Ino) -> Result<Rc<dyn Store>, DataError> {
        if !self.stores.differ() {
            return Ok(self.stores.base());
        }
        match self.patiently(|| self.slices.tier(ino)).await {
            Ok(tier) => Ok(self.stores.tier(tier)),
            // The file is gone, and so is soon what is stored for it.
            Err(MetaError::Posix(Errno::NOENT)) => Ok(self.stores.base()),
            Err(error) => Err(error.into()),
        }
    }

    /// The block as it is stored; what takes long is done aside.
    async fn encoded(&self, pages: Vec<Page>, len_bytes: usize) -> Vec<Page> {
        let compression = self.shared.config.compression;
        if compression == Compression::None || len_bytes < BULK_BYTES {
            return self.codec.borrow_mut().encode(pages);
        }
        side::run(move || Codec::new(compression).encode(pages)).await
    }

    /// Whether a block of `size` bytes is kept near after it was written.
    fn keeps(&self, size: u32) -> bool {
        let config = &self.shared.config;
        config.cache.is_some() && (config.cache_large_writes || size < config.layout.block_bytes())
    }

    async fn slice_id(&self, file: &File, block: &SealedBlock) -> Result<Option<u64>, DataError> {
        let (chunk, seq) = (block.chunk, block.seq);
        if let Some(id) = file.with(|extents| extents.slice_id(chunk, seq, None)) {
            return Ok(Some(id));
        }
        // Two blocks may ask at once; the id of the second is lost, as gaps are normal.
        let id = self.patiently(|| self.slices.next_slice_id()).await?;
        Ok(file.with(|extents| extents.slice_id(chunk, seq, Some(id))))
    }
}
