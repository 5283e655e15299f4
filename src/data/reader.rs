//! Reading: where bytes are, then the bytes, as pieces of pages.
//!
//! Owns the retry with a fresh slice list: a compaction, by whomever, removes objects that a list
//! still names. Nothing is flushed for a read; dirty data is read where it is.

use std::rc::Rc;
use std::sync::Arc;

use super::Data;
use super::blocks::Purpose;
use super::error::DataError;
use super::geometry::{Span, spans};
use super::shared::File;
use super::slice::Source;
use crate::object::{BlockKey, StoreError};
use crate::pages::{PAGE_BYTES, Page};
use crate::types::Ino;
use crate::uring;

/// Lists that are fetched for a read while compactions go on under it.
const LISTS_MAX: usize = 20;

/// The blocks that bytes are in.
fn blocks_in(sources: &[Source]) -> Vec<BlockKey> {
    let blocks = sources.iter().filter_map(|source| match source {
        Source::Block(key, ..) => Some(*key),
        Source::Zero(_) | Source::Memory(_) => None,
    });
    blocks.collect()
}

impl Data {
    /// Up to `len` bytes from `offset` on of a file of `length` bytes (dirty data included), as
    /// pieces in order. Done at the first poll when everything is at hand.
    pub async fn read(
        self: &Rc<Self>,
        ino: Ino,
        offset: u64,
        len: u64,
        length: u64,
    ) -> Result<Vec<Page>, DataError> {
        let end = offset.saturating_add(len).min(length);
        if offset >= end {
            return Ok(Vec::new());
        }
        let file = self.shared.file(ino);
        let sequential = self.observe(&file, offset, end - offset, length);
        let mut pages = Vec::new();
        for span in spans(offset, end - offset) {
            self.read_span(&file, span, sequential, &mut pages).await?;
        }
        let got: usize = pages.iter().map(|page| page.len()).sum();
        assert_eq!(got as u64, end - offset, "a read covers its range exactly");
        Ok(pages)
    }

    async fn read_span(
        self: &Rc<Self>,
        file: &Arc<File>,
        span: Span,
        sequential: bool,
        pages: &mut Vec<Page>,
    ) -> Result<(), DataError> {
        let before = pages.len();
        let mut sources = self.sources(file, span).await.inspect_err(|error| {
            if !matches!(error, DataError::Posix(_)) {
                tracing::error!(ino = file.ino.0, chunk = span.chunk, %error, "no list of slices");
            }
        })?;
        for tried in 0.. {
            let blocks = blocks_in(&sources);
            let error = match self.gather(sources, sequential, pages).await {
                Err(error @ (StoreError::Missing(_) | StoreError::Corrupt { .. })) => error,
                done => return Ok(done?),
            };
            pages.truncate(before);
            file.with(|extents| extents.drop_lists(Some(span.chunk)));
            sources = self.sources(file, span).await?;
            // The first time it may have been the object; after that only another list helps.
            if tried >= LISTS_MAX || tried > 0 && blocks_in(&sources) == blocks {
                let (ino, chunk) = (file.ino.0, span.chunk);
                tracing::error!(ino, chunk, %error, "data cannot be read");
                return Err(error.into());
            }
        }
        unreachable!("the lists that are tried have an end")
    }

    /// Where the bytes of a span are; fetches the chunk's list if it is not known.
    pub(super) async fn sources(
        self: &Rc<Self>,
        file: &Arc<File>,
        span: Span,
    ) -> Result<Vec<Source>, DataError> {
        let layout = self.shared.config.layout;
        loop {
            let (known, generation) =
                file.with(|extents| (extents.sources(span, layout), extents.generation()));
            if let Some(sources) = known {
                return Ok(sources);
            }
            let records = self.chunk(file.ino, span.chunk).await?;
            let pieces =
                file.with(|extents| extents.keep_list(span.chunk, generation, &records))?;
            self.compact_if_scattered(file, span.chunk, (records.len(), pieces));
        }
    }

    pub(super) async fn chunk(
        &self,
        ino: Ino,
        chunk: u32,
    ) -> Result<Vec<crate::types::SliceRecord>, DataError> {
        Ok(self.patiently(|| self.slices.chunk(ino, chunk)).await?)
    }

    /// Take note of a read of a file of `length` bytes, and read ahead of it; whether it is part
    /// of a stream.
    fn observe(self: &Rc<Self>, file: &Arc<File>, offset: u64, len: u64, length: u64) -> bool {
        let config = &self.shared.config;
        let block = u64::from(config.layout.block_bytes());
        let window_max = if config.cache.is_some() { config.max_readahead_bytes } else { 0 };
        let advice = file.with(|extents| extents.sessions.observe(offset, len, block, window_max));
        if let Some(ahead) = advice.ahead
            && ahead.start < length
        {
            let (data, file) = (Rc::clone(self), Arc::clone(file));
            let end = ahead.end.min(length);
            uring::spawn(async move { data.read_ahead(&file, ahead.start, end).await });
        }
        advice.sequential
    }

    /// Have the blocks of a range fetched, as far as the budget goes; the reader does the rest.
    async fn read_ahead(self: &Rc<Self>, file: &Arc<File>, start: u64, end: u64) {
        for span in spans(start, end - start) {
            let Ok(sources) = self.sources(file, span).await else { return };
            for source in sources {
                let Source::Block(key, ..) = source else { continue };
                if self.is_near(key) {
                    continue;
                }
                let Some(permit) = self.shared.readahead.try_take() else { return };
                self.fetch_soon(key, Purpose::Stream, permit);
            }
        }
    }

    pub(super) async fn gather(
        self: &Rc<Self>,
        sources: Vec<Source>,
        sequential: bool,
        pages: &mut Vec<Page>,
    ) -> Result<(), StoreError> {
        self.fetch_together(&sources, sequential);
        for source in sources {
            match source {
                Source::Memory(page) => pages.push(page),
                Source::Zero(len) => {
                    let mut left = len as usize;
                    while left > 0 {
                        let len = left.min(PAGE_BYTES);
                        pages.push(Page::zeros(len));
                        left -= len;
                    }
                }
                Source::Block(key, off, len) => {
                    let alone = self.is_alone(key, len, sequential);
                    pages.push(self.block_piece(key, off, len, alone).await?);
                }
            }
        }
        Ok(())
    }

    /// Whole blocks after the first are fetched while the first is awaited.
    fn fetch_together(self: &Rc<Self>, sources: &[Source], sequential: bool) {
        if sources.len() < 2 {
            return;
        }
        let whole = sources.iter().filter_map(|source| match source {
            Source::Block(key, _, len) if !self.is_alone(*key, *len, sequential) => {
                (!self.is_near(*key)).then_some(*key)
            }
            _ => None,
        });
        for key in whole.skip(1) {
            let data = Rc::clone(self);
            uring::spawn(async move {
                // Who waits for the block hears of an error itself.
                let _ = data.block(key, Purpose::Stream).await;
            });
        }
    }

    /// Whether a piece is better fetched without the rest of its block.
    fn is_alone(&self, key: BlockKey, len: u32, sequential: bool) -> bool {
        self.shared.config.cache.is_none() || (!sequential && len <= key.size / 4)
    }

    fn is_near(&self, key: BlockKey) -> bool {
        self.shared.config.cache.as_ref().is_some_and(|cache| cache.get(&key).is_some())
    }
}
