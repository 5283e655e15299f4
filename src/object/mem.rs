//! A store in memory, shared by name inside the process.
//!
//! Owns its bytes: pages that are put leave the pool's account, so that its budget stays a bound
//! on what writers hold. Does not survive the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Local, ObjectInfo, Store, StoreError};
use crate::net::side;
use crate::pages::{PAGE_BYTES, Page};
use crate::stdx;

static BUCKETS: Mutex<BTreeMap<String, Arc<Bucket>>> = Mutex::new(BTreeMap::new());

/// The store called `name`, the same one for all who ask in this process; made when new.
pub fn open(name: &str) -> MemStore {
    let mut buckets = locked(&BUCKETS);
    let bucket = Arc::clone(buckets.entry(name.to_owned()).or_default());
    MemStore { name: name.to_owned(), bucket }
}

/// Drop the store called `name`; handles that are open keep it.
pub fn forget(name: &str) {
    locked(&BUCKETS).remove(name);
}

/// A handle on a named store; clones share it.
#[derive(Clone)]
pub struct MemStore {
    name: String,
    bucket: Arc<Bucket>,
}

#[derive(Default)]
struct Bucket {
    blobs: Mutex<BTreeMap<String, Arc<Blob>>>,
}

struct Blob {
    /// All of the same length, but the last one.
    pages: Vec<Page>,
    len: usize,
    mtime: i64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bucket {
    fn put(&self, key: String, body: &[Page]) {
        let len = body.iter().map(|page| page.len()).sum();
        let blob = Arc::new(Blob { pages: kept(body), len, mtime: stdx::now().sec });
        locked(&self.blobs).insert(key, blob);
    }

    fn get(&self, key: String, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let blob = locked(&self.blobs).get(&key).cloned().ok_or(StoreError::Missing(key))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len);
        let count = into.len().min(blob.len - offset);
        let mut done = 0;
        while done < count {
            let at = offset + done;
            let from = &blob.pages[at / PAGE_BYTES][at % PAGE_BYTES..];
            let step = from.len().min(count - done);
            into[done..done + step].copy_from_slice(&from[..step]);
            done += step;
        }
        Ok(count)
    }

    fn list(&self, prefix: &str, start_after: String, limit: usize) -> Vec<ObjectInfo> {
        let start = match start_after.as_str() < prefix {
            true => Bound::Included(prefix.to_owned()),
            false => Bound::Excluded(start_after),
        };
        let blobs = locked(&self.blobs);
        let found = blobs.range((start, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        let info = |(key, blob): (&String, &Arc<Blob>)| ObjectInfo {
            key: key.clone(),
            len_bytes: blob.len as u64,
            mtime: blob.mtime,
        };
        found.map(info).collect()
    }
}

/// The bytes of `body` in whole pages and a rest.
fn kept(body: &[Page]) -> Vec<Page> {
    let whole = body.iter().rev().skip(1).all(|page| page.len() == PAGE_BYTES);
    if whole && body.last().is_none_or(|page| page.len() <= PAGE_BYTES) {
        return body.iter().map(Page::kept).collect();
    }
    let all: Vec<u8> = body.iter().flat_map(|page| page.iter().copied()).collect();
    all.chunks(PAGE_BYTES).map(|piece| Page::from_vec(piece.to_vec())).collect()
}

impl Store for MemStore {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.bucket.put(key, &body);
            Ok(())
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        mut into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        let bucket = Arc::clone(&self.bucket);
        Box::pin(side::run_sized(into.len(), move || {
            let count = bucket.get(key, offset, &mut into)?;
            Ok((into, count))
        }))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            locked(&self.bucket.blobs).remove(&key);
            Ok(())
        })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(async move { Ok(self.bucket.list(&prefix, start_after, limit)) })
    }

    fn describe(&self) -> String {
        format!("mem://{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::*;
    use crate::pages::Pool;
    use crate::uring;

    #[test]
    fn conforms() {
        check(&open("conforms"));
        forget("conforms");
    }

    #[test]
    fn a_name_is_one_store() {
        let pool = Pool::new(PAGE_BYTES);
        let (first, second) = (open("shared"), open("shared"));
        uring::block_on(first.put("a".into(), body(&pool, b"x"))).unwrap();
        assert_eq!(pool.used_pages(), 0, "pages go home");
        let (bytes, count) = uring::block_on(second.get("a".into(), 0, vec![0; 4])).unwrap();
        assert_eq!(&bytes[..count], b"x");
        forget("shared");
        assert!(uring::block_on(open("shared").get("a".into(), 0, vec![0; 1])).is_err());
    }

    #[test]
    fn pieces_of_any_length_are_one_blob() {
        let store = open("pieces");
        let bytes: Vec<u8> = (0..3 * PAGE_BYTES as u32).map(|at| (at / 7) as u8).collect();
        let cuts = [&bytes[..10], &bytes[10..PAGE_BYTES + 3], &bytes[PAGE_BYTES + 3..]];
        let body = cuts.iter().map(|cut| Page::from_vec(cut.to_vec())).collect();
        uring::block_on(store.put("a".into(), body)).unwrap();
        let (read, count) =
            uring::block_on(store.get("a".into(), 5, vec![0; 2 * PAGE_BYTES])).unwrap();
        assert!(read[..count] == bytes[5..5 + 2 * PAGE_BYTES]);
        forget("pieces");
    }
}
