//! A store in memory, shared by name inside the process.
//!
//! Owns its bytes: it copies what is put, so that the page pool's budget stays a bound on what
//! writers hold, and keeps whole buffers of replaced or removed blobs for the next put.
//! Does not survive the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Local, ObjectInfo, Store, StoreError};
use crate::net::side;
use crate::pages::{PAGE_BYTES, Page};
use crate::stdx;

/// Most free buffers kept for reuse: 64 MiB.
const FREE_BUFFERS_MAX: usize = 1024;

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
    free: Mutex<Vec<Box<[u8]>>>,
}

/// All buffers are `PAGE_BYTES` long, but the last one has the length of the rest.
struct Blob {
    buffers: Vec<Box<[u8]>>,
    len: usize,
    mtime: i64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bucket {
    fn put(&self, key: String, body: &[Page]) {
        let len = body.iter().map(|page| page.len()).sum();
        let mut buffers = self.buffers(len);
        copy_pages(body, &mut buffers);
        let blob = Arc::new(Blob { buffers, len, mtime: stdx::now().sec });
        let replaced = locked(&self.blobs).insert(key, blob);
        self.recycle(replaced);
    }

    /// Buffers that hold `len` bytes in all.
    fn buffers(&self, len: usize) -> Vec<Box<[u8]>> {
        let whole = len / PAGE_BYTES;
        let mut buffers = {
            let mut free = locked(&self.free);
            let kept = free.len().saturating_sub(whole);
            free.split_off(kept)
        };
        buffers.resize_with(whole, || vec![0; PAGE_BYTES].into());
        let rest = len % PAGE_BYTES;
        if rest > 0 {
            buffers.push(vec![0; rest].into());
        }
        buffers
    }

    /// Keep the whole buffers of a blob that nobody reads any more.
    fn recycle(&self, blob: Option<Arc<Blob>>) {
        let Some(blob) = blob.and_then(Arc::into_inner) else { return };
        let mut free = locked(&self.free);
        let room = FREE_BUFFERS_MAX.saturating_sub(free.len());
        let whole = blob.buffers.into_iter().filter(|buffer| buffer.len() == PAGE_BYTES);
        free.extend(whole.take(room));
    }

    fn get(&self, key: String, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let blob = locked(&self.blobs).get(&key).cloned().ok_or(StoreError::Missing(key))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len);
        let count = into.len().min(blob.len - offset);
        let mut done = 0;
        while done < count {
            let at = offset + done;
            let from = &blob.buffers[at / PAGE_BYTES][at % PAGE_BYTES..];
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

fn copy_pages(body: &[Page], buffers: &mut [Box<[u8]>]) {
    let mut at = 0;
    for page in body {
        let mut rest: &[u8] = page;
        while !rest.is_empty() {
            let to = &mut buffers[at / PAGE_BYTES][at % PAGE_BYTES..];
            let step = to.len().min(rest.len());
            to[..step].copy_from_slice(&rest[..step]);
            rest = &rest[step..];
            at += step;
        }
    }
}

impl Store for MemStore {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let bucket = Arc::clone(&self.bucket);
        let len_bytes = body.iter().map(|page| page.len()).sum();
        Box::pin(async move {
            side::run_sized(len_bytes, move || bucket.put(key, &body)).await;
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
            let removed = locked(&self.bucket.blobs).remove(&key);
            self.bucket.recycle(removed);
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
    fn buffers_are_used_again() {
        let pool = Pool::new(4 * PAGE_BYTES);
        let store = open("recycled");
        let bytes = vec![7; 2 * PAGE_BYTES + 5];
        for _ in 0..3 {
            uring::block_on(store.put("a".into(), body(&pool, &bytes))).unwrap();
        }
        assert_eq!(locked(&store.bucket.free).len(), 2);
        uring::block_on(store.delete("a".into())).unwrap();
        assert_eq!(locked(&store.bucket.free).len(), 4);
    }
}
