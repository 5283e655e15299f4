//! A store whose names all start with one prefix: the volume name and a slash.
//!
//! Owns adding and stripping it. Errors keep the full name, as an operator sees it in the bucket.

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;

/// The part of a store below a prefix.
pub struct Prefixed<S> {
    inner: S,
    prefix: String,
}

impl<S: Store> Prefixed<S> {
    /// The part of `inner` whose names start with `prefix`; give the slash too.
    pub fn new(inner: S, prefix: impl Into<String>) -> Self {
        Self { inner, prefix: prefix.into() }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn strip(&self, mut info: ObjectInfo) -> ObjectInfo {
        assert!(info.key.starts_with(&self.prefix), "a listing keeps to its prefix");
        info.key.drain(..self.prefix.len());
        info
    }
}

impl<S: Store> Store for Prefixed<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        self.inner.put(self.full(&key), body)
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        self.inner.get(self.full(&key), offset, into)
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        self.inner.delete(self.full(&key))
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        let start_after = match start_after.is_empty() {
            true => start_after,
            false => self.full(&start_after),
        };
        let listing = self.inner.list(self.full(&prefix), start_after, limit);
        Box::pin(
            async move { Ok(listing.await?.into_iter().map(|info| self.strip(info)).collect()) },
        )
    }

    fn describe(&self) -> String {
        format!("{} below {}", self.inner.describe(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::mem;
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    #[test]
    fn conforms() {
        check(&Prefixed::new(mem::open("prefix-conforms"), "vol/"));
        check(&Prefixed::new(Box::new(mem::open("prefix-boxed")) as Box<dyn Store>, "vol/"));
    }

    #[test]
    fn names_of_neighbours_stay_apart() {
        let pool = Pool::new(PAGE_BYTES);
        let bucket = mem::open("prefix-neighbours");
        block_on(bucket.put("vol2/a".into(), body(&pool, b"other"))).unwrap();
        let store = Prefixed::new(bucket.clone(), "vol/");
        block_on(store.put("a".into(), body(&pool, b"mine"))).unwrap();
        let listed = block_on(store.list(String::new(), String::new(), 10)).unwrap();
        assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(block_on(bucket.get("vol/a".into(), 0, vec![0; 4])).is_ok());
    }
}
