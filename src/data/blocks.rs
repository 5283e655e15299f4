//! Blocks out of the object store: one fetch at a time per block, whoever asks, on any core.
//!
//! Owns the order of places (memory, what waits for its upload, disk, store), single flight and
//! decoding. Does not know files.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Data;
use crate::object::{BlockKey, StoreError};
use crate::pages::{self, Page};
use crate::stdx::{Gate, Permit};
use crate::uring;

/// What a whole block is fetched for; it decides where the cache keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A stream reads it through.
    Stream,
    /// Small or random reads come back to it.
    Pieces,
}

/// A fetch others may wait for.
#[derive(Default)]
struct Flight {
    /// `None` inside `Some` when the one who fetched left before the end.
    landed: Mutex<Option<Option<Result<Page, StoreError>>>>,
    gate: Gate,
}

/// Fetches in the air.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<BlockKey, Arc<Flight>>>);

/// The one who fetches; dropping it lets the others go on.
struct Leader<'a> {
    flights: &'a Flights,
    flight: Arc<Flight>,
    key: BlockKey,
    result: Option<Result<Page, StoreError>>,
}

enum Role<'a> {
    Lead(Leader<'a>),
    Follow(Arc<Flight>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    fn board(&self, key: BlockKey) -> Role<'_> {
        let mut flights = locked(&self.0);
        if let Some(flight) = flights.get(&key) {
            return Role::Follow(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        flights.insert(key, Arc::clone(&flight));
        Role::Lead(Leader { flights: self, flight, key, result: None })
    }

    fn is_flying(&self, key: BlockKey) -> bool {
        locked(&self.0).contains_key(&key)
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        locked(&self.flights.0).remove(&self.key);
        *locked(&self.flight.landed) = Some(self.result.take());
        self.flight.gate.open();
    }
}

impl Flight {
    /// What the leader brought; `None` if it left without.
    async fn landing(&self) -> Option<Result<Page, StoreError>> {
        loop {
            let ticket = self.gate.ticket();
            if let Some(landed) = locked(&self.landed).clone() {
                return landed;
            }
            self.gate.wait(ticket).await;
        }
    }
}

impl Data {
    /// A whole block, raw.
    pub(super) async fn block(&self, key: BlockKey, purpose: Purpose) -> Result<Page, StoreError> {
        loop {
            match self.shared.flights.board(key) {
                Role::Follow(flight) => {
                    if let Some(result) = flight.landing().await {
                        return result;
                    }
                }
                Role::Lead(mut leader) => {
                    let result = self.fetch(key, purpose).await;
                    leader.result = Some(result.clone());
                    return result;
                }
            }
        }
    }

    /// `len` bytes of a block from `off` on: from memory at once; else those alone if that is
    /// asked for and possible, or as a piece of the whole block.
    pub(super) async fn block_piece(
        self: &Rc<Self>,
        key: BlockKey,
        off: u32,
        len: u32,
        alone: bool,
    ) -> Result<Page, StoreError> {
        let cache = self.shared.config.cache.as_ref();
        if let Some(block) = cache.and_then(|cache| cache.get(&key)) {
            return Ok(block.piece(off as usize, len as usize));
        }
        if alone && len < key.size {
            if let Some(page) = self.staged_piece(&key, off, len).await {
                return Ok(page);
            }
            if let Some(cache) = cache
                && let Some(page) = cache.read(&key, off, len).await
            {
                return Ok(page);
            }
            // Who is about to have the whole block is worth waiting for.
            let config = &self.shared.config;
            let seekable = config.compression.seekable() && !config.encrypted;
            if seekable && !self.shared.flights.is_flying(key) {
                let bytes = self.get(key, u64::from(off), len as usize).await?;
                if bytes.len() == len as usize {
                    self.prefetch(key);
                    return Ok(Page::from_vec(bytes));
                }
            }
        }
        let purpose = if alone { Purpose::Pieces } else { Purpose::Stream };
        Ok(self.block(key, purpose).await?.piece(off as usize, len as usize))
    }

    /// Have the whole block fetched after a piece of it was, unless enough of that is going on.
    fn prefetch(self: &Rc<Self>, key: BlockKey) {
        let (Some(_), Some(permits)) = (&self.shared.config.cache, &self.shared.prefetch) else {
            return;
        };
        if let Some(permit) = permits.try_take() {
            self.fetch_soon(key, Purpose::Pieces, permit);
        }
    }

    /// Fetch a block in the background. An error is for the one who reads it.
    pub(super) fn fetch_soon(self: &Rc<Self>, key: BlockKey, purpose: Purpose, permit: Permit) {
        let data = Rc::clone(self);
        uring::spawn(async move {
            let fetched = data.block(key, purpose).await;
            if let Err(error) = fetched {
                tracing::debug!(?key, %error, "not fetched ahead");
            }
            drop(permit);
        });
    }

    /// A piece of a block that waits for its upload, if it does.
    async fn staged_piece(&self, key: &BlockKey, off: u32, len: u32) -> Option<Page> {
        self.shared.config.staging.as_ref()?.read(key, off, len).await
    }

    /// A whole block from disk or from the store; memory is given a share of it.
    async fn fetch(&self, key: BlockKey, purpose: Purpose) -> Result<Page, StoreError> {
        let cache = self.shared.config.cache.as_ref();
        if let Some(block) = cache.and_then(|cache| cache.get(&key)) {
            return Ok(block);
        }
        if let Some(block) = self.staged_piece(&key, 0, key.size).await {
            if let Some(cache) = cache {
                cache.insert_in_memory(key, block.clone());
            }
            return Ok(block);
        }
        if let Some(cache) = cache
            && let Some(block) = cache.read(&key, 0, key.size).await
        {
            cache.insert_in_memory(key, block.clone());
            return Ok(block);
        }
        let block = self.fetch_stored(key).await?;
        if let Some(cache) = cache {
            match purpose {
                Purpose::Stream => cache.insert_streamed(key, block.clone()),
                Purpose::Pieces => cache.insert(key, block.clone()),
            }
        }
        Ok(block)
    }

    async fn fetch_stored(&self, key: BlockKey) -> Result<Page, StoreError> {
        let raw_bytes = key.size as usize;
        let most = self.shared.config.compression.stored_bytes_max(raw_bytes);
        let stored = self.get(key, 0, most).await?;
        let raw = self.codec.borrow_mut().decode(stored, raw_bytes);
        let raw = raw.map_err(|damaged| StoreError::Corrupt {
            key: self.shared.config.layout.name(key),
            reason: damaged.0,
        })?;
        assert_eq!(raw.len(), raw_bytes, "a decoder returns the raw length or fails");
        Ok(Page::from_vec(raw))
    }

    /// Up to `most` bytes of an object from `off` on.
    pub(super) async fn get(
        &self,
        key: BlockKey,
        off: u64,
        most: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let _permit = self.shared.downloads.take().await;
        let name = self.shared.config.layout.name(key);
        let begun = self.counts.get.begin();
        let got = self.stores.base().get(name, off, pages::buffer(most)).await;
        self.counts.get.end(begun);
        let (mut bytes, count) = self.counted(got)?;
        self.counts.get_bytes.add(count as u64);
        bytes.truncate(count);
        Ok(bytes)
    }
}
