//! Sealed blocks to the object store, or with `--writeback` to this machine's disk.
//!
//! Owns what happens to a slice when its block is stored, kept or lost. Data is in the store, or kept
//! where it survives a crash, before metadata names it: commits start only here (`tracker`). What is
//! kept is uploaded by `drain`.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustix::io::Errno;

use super::Data;
use super::abandoned::{InHand, Work};
use super::error::DataError;
use super::extents::Step;
use super::shared::File;
use super::slice::SealedBlock;
use super::staged::Owner;
use crate::meta::MetaError;
use crate::net::side;
use crate::object::BlockKey;
use crate::pages::Page;
use crate::stage::{Codec, Compression, NewBlock};
use crate::types::{Ino, Publish};
use crate::uring;

/// Blocks from this size on are compressed by a side thread, and uploaded without gathering others.
const BULK_BYTES: usize = 128 << 10;

/// What a block does while `--max-staging-size` is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WithoutRoom {
    /// It waits until others are uploaded.
    Waits,
    /// It is stored directly: others may wait for it before they are uploaded.
    Goes,
}

/// Where a block has come to.
enum Where {
    Staging,
    Store,
}

impl Data {
    /// Store the blocks of a step, each as a task of this core.
    pub(super) fn launch(self: &Rc<Self>, file: &Arc<File>, step: Step) {
        if step.blocks.is_empty() && !step.sealed.is_empty() {
            // All blocks were stored while the slice was open: only the commit is left.
            let (data, file) = (Rc::clone(self), Arc::clone(file));
            uring::spawn(async move { data.advance(&file).await });
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
        let waits = self.shared.config.publish == Publish::Uploaded;
        let orphans = match stored {
            Ok(Some((key, at))) => {
                let owned = file.with(|extents| match at {
                    Where::Staging if waits => extents.block_staged(chunk, seq, key),
                    Where::Staging | Where::Store => extents.block_stored(chunk, seq, key),
                });
                if owned { Vec::new() } else { vec![key] }
            }
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::error!(ino = file.ino.0, chunk, %error, "written data is lost");
                let lost = file.with(|extents| extents.block_failed(chunk, seq, error));
                lost.iter().for_each(|key| self.shared.staged.forget(key.id));
                lost
            }
        };
        self.remove_later(orphans);
        self.advance(file).await;
        file.moved.open();
    }

    /// The key of the stored block and where it is; `None` when its slice is gone already.
    async fn store_block(
        &self,
        file: &File,
        block: SealedBlock,
    ) -> Result<Option<(BlockKey, Where)>, DataError> {
        let size = block.pages.iter().map(|page| page.len()).sum::<usize>() as u32;
        if self.shared.config.staging.is_some() {
            let Some(id) = self.slice_id(file, &block).await? else { return Ok(None) };
            let key = BlockKey { id, index: block.index, size };
            let seq = if self.shared.config.publish == Publish::Uploaded { block.seq } else { 0 };
            let owner = Owner { ino: file.ino, chunk: block.chunk, seq };
            let (age, waits) = (None, WithoutRoom::Waits);
            if self.keep_block(owner, key, &block.pages, (age, waits)).await? {
                return Ok(Some((key, Where::Staging)));
            }
        }
        let _permit = self.shared.uploads.take().await;
        let Some(id) = self.slice_id(file, &block).await? else { return Ok(None) };
        let key = BlockKey { id, index: block.index, size };
        self.put_block(file.ino, key, block.pages).await?;
        Ok(Some((key, Where::Store)))
    }

    /// Keep a block on this machine, as old as `kept_ms` says; false if it must be put into the store.
    pub(super) async fn keep_block(
        &self,
        owner: Owner,
        key: BlockKey,
        pages: &[Page],
        (kept_ms, without_room): (Option<u64>, WithoutRoom),
    ) -> Result<bool, DataError> {
        let Some(staging) = &self.shared.config.staging else { return Ok(false) };
        let tier = if self.stores.differ() { self.tier_of(owner.ino).await? } else { 0 };
        // Before it is kept: it may be uploaded at once, and must find the way to its file.
        self.shared.staged.add(key.id, owner);
        let block = NewBlock { key, tier, group: owner.ino.0, pages, kept_ms };
        let mut keeping = pin!(async {
            match without_room {
                WithoutRoom::Waits => staging.keep(block).await,
                WithoutRoom::Goes => staging.try_keep(block).await,
            }
        });
        let at_once = poll_fn(|context| Poll::Ready(keeping.as_mut().poll(context))).await;
        if at_once.is_pending() || key.size as usize >= BULK_BYTES {
            // There may be no room before something is uploaded, and there is enough for that.
            self.shared.bell.open();
        }
        let kept = match at_once {
            Poll::Ready(kept) => kept,
            Poll::Pending => keeping.await,
        };
        match kept {
            Ok(()) => Ok(true),
            Err(why) => {
                self.shared.staged.block_left(key.id);
                tracing::debug!(?key, ?why, "stored directly");
                Ok(false)
            }
        }
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
        let store = match self.stores.differ() {
            true => self.stores.tier(self.tier_of(ino).await?),
            false => self.stores.base(),
        };
        self.put_object(&*store, name, body).await?;
        if let (Some(pages), Some(cache)) = (kept, &self.shared.config.cache) {
            cache.insert_copy(key, &pages);
        }
        Ok(())
    }

    /// The tier that blocks of a file are put into. It is asked for each time: it may be changed.
    async fn tier_of(&self, ino: Ino) -> Result<u8, DataError> {
        match self.patiently(|| self.slices.tier(ino)).await {
            Ok(tier) => Ok(tier),
            // The file is gone, and so is soon what is stored for it.
            Err(MetaError::Posix(Errno::NOENT)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The block as it is stored; what takes long is done aside.
    pub(super) async fn encoded(&self, pages: Vec<Page>, len_bytes: usize) -> Vec<Page> {
        let compression = self.shared.config.compression;
        if compression == Compression::None || len_bytes < BULK_BYTES {
            return self.codec.borrow_mut().encode(pages);
        }
        side::run(move || Codec::new(compression).encode(pages)).await
    }

    /// Whether a block of `size` bytes is kept near after it was written.
    pub(super) fn keeps(&self, size: u32) -> bool {
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
