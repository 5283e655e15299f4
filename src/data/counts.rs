//! What file bytes count: requests to the object store, and what the bounds hold now.

use super::Data;
use crate::metrics::Count;
use crate::metrics::spread::{OBJECTS, Spread, SpreadSum};
use crate::object::{Store, StoreError};
use crate::pages::{PAGE_BYTES, Page};
use crate::stage::CacheStats;

/// Of one core.
pub(super) struct Counts {
    pub get: Spread,
    pub put: Spread,
    pub delete: Spread,
    pub get_bytes: Count,
    pub put_bytes: Count,
    pub errors: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let spread = || Spread::new(&OBJECTS);
        Self {
            get: spread(),
            put: spread(),
            delete: spread(),
            get_bytes: Count::default(),
            put_bytes: Count::default(),
            errors: Count::default(),
        }
    }
}

/// What a mount asked of its object store, and holds of file bytes.
#[derive(Clone, Debug)]
pub struct DataCounts {
    /// Objects or parts of them fetched; nanoseconds, retries included.
    pub get: SpreadSum,
    /// Objects stored; nanoseconds, retries included.
    pub put: SpreadSum,
    /// Objects removed; nanoseconds, retries included.
    pub delete: SpreadSum,
    /// Bytes as they were stored.
    pub get_bytes: u64,
    /// Bytes as they are stored.
    pub put_bytes: u64,
    /// Requests that failed in the end.
    pub errors: u64,
    /// Blocks being stored now.
    pub uploading: u64,
    /// Bytes of written data in memory now.
    pub buffer_bytes: u64,
    /// Of the block cache.
    pub cache: CacheStats,
}

impl Data {
    /// What all cores of the mount counted.
    pub fn counts(&self) -> DataCounts {
        let (shared, counts) = (&self.shared, &self.shared.counts);
        DataCounts {
            get: counts.sum(|core| core.get.sum()),
            put: counts.sum(|core| core.put.sum()),
            delete: counts.sum(|core| core.delete.sum()),
            get_bytes: counts.sum(|core| core.get_bytes.get()),
            put_bytes: counts.sum(|core| core.put_bytes.get()),
            errors: counts.sum(|core| core.errors.get()),
            uploading: shared.uploads.taken() as u64,
            buffer_bytes: (shared.config.pool.used_pages() * PAGE_BYTES) as u64,
            cache: shared.config.cache.as_ref().map(|cache| cache.stats()).unwrap_or_default(),
        }
    }

    pub(super) async fn put_object(
        &self,
        store: &dyn Store,
        name: String,
        body: Vec<Page>,
    ) -> Result<(), StoreError> {
        let len_bytes: usize = body.iter().map(|page| page.len()).sum();
        let begun = self.counts.put.begin();
        let done = store.put(name, body).await;
        self.counts.put.end(begun);
        self.counted(done)?;
        self.counts.put_bytes.add(len_bytes as u64);
        Ok(())
    }

    pub(super) async fn delete_object(&self, name: String) -> Result<(), StoreError> {
        let begun = self.counts.delete.begin();
        let done = self.stores.base().delete(name).await;
        self.counts.delete.end(begun);
        self.counted(done)
    }

    pub(super) fn counted<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        self.counts.errors.add(u64::from(done.is_err()));
        done
    }
}
