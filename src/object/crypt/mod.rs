//! Objects that only who has the volume's private key can read (`format --encrypt-rsa-key`).
//!
//! Owns the decorator: what goes in is sealed, what comes out is opened, large bodies aside of the
//! core. An object is opened whole or not at all, so a range costs all of it. Names stay readable.

mod key;
mod seal;

use std::sync::Arc;

use super::{BLOCK_BYTES_MAX, Local, ObjectInfo, Store, StoreError};
use crate::limits::SEALED_BYTES_MAX;
use crate::net::side;
use crate::pages::{self, Page};

pub use key::{BadKey, PASSPHRASE};
pub use seal::ObjectCipher;

// The largest block, made longer by a compression that fails and by the largest key.
const _: () =
    assert!(SEALED_BYTES_MAX > BLOCK_BYTES_MAX as usize + BLOCK_BYTES_MAX as usize / 128 + 4096);

/// A store whose objects are sealed.
pub struct Encrypted<S> {
    inner: S,
    cipher: Arc<ObjectCipher>,
}

impl<S: Store> Encrypted<S> {
    /// `inner`, with all bodies sealed by `cipher`.
    pub fn new(inner: S, cipher: Arc<ObjectCipher>) -> Self {
        Self { inner, cipher }
    }

    /// All bytes of an object, in a buffer that begins with room for a body of `likely_bytes`.
    async fn whole(&self, key: &str, likely_bytes: usize) -> Result<Vec<u8>, StoreError> {
        // A byte more than there should be tells that this is all.
        let mut room = likely_bytes + self.cipher.overhead_bytes() + 1;
        loop {
            room = room.min(SEALED_BYTES_MAX);
            let into = pages::buffer(room);
            let (mut bytes, count) = self.inner.get(key.to_owned(), 0, into).await?;
            if count < room {
                bytes.truncate(count);
                return Ok(bytes);
            }
            if room == SEALED_BYTES_MAX {
                let reason = format!("no sealed block has {room} bytes");
                return Err(StoreError::Corrupt { key: key.to_owned(), reason });
            }
            pages::give_back(bytes);
            room *= 2;
        }
    }

    async fn get_opened(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        let len = into.len();
        // A sealed object is longer than what was asked for.
        pages::give_back(into);
        // Somewhere behind the end is no reason to make room up to there.
        let likely_bytes = usize::try_from(offset).unwrap_or(0).min(SEALED_BYTES_MAX) + len;
        let object = self.whole(&key, likely_bytes).await?;
        let cipher = Arc::clone(&self.cipher);
        let opened = side::run_sized(object.len(), move || cipher.open(object)).await;
        let mut body = opened.map_err(|reason| StoreError::Corrupt { key, reason })?;
        if offset > 0 {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
            body.drain(..from);
        }
        let count = body.len().min(len);
        body.resize(len, 0);
        Ok((body, count))
    }
}

impl<S: Store> Store for Encrypted<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let cipher = Arc::clone(&self.cipher);
        Box::pin(async move {
            let len_bytes = body.iter().map(|page| page.len()).sum();
            let sealed = side::run_sized(len_bytes, move || cipher.seal(&body)).await;
            self.inner.put(key, vec![Page::from_vec(sealed)]).await
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(self.get_opened(key, offset, into))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        self.inner.delete(key)
    }

    /// Lengths are those of the bodies.
    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        let overhead_bytes = self.cipher.overhead_bytes() as u64;
        let listing = self.inner.list(prefix, start_after, limit);
        Box::pin(async move {
            let mut listing = listing.await?;
            for object in &mut listing {
                object.len_bytes = object.len_bytes.saturating_sub(overhead_bytes);
            }
            Ok(listing)
        })
    }

    fn describe(&self) -> String {
        format!("{} (encrypted)", self.inner.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check, pattern};
    use super::super::mem;
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    fn cipher() -> Arc<ObjectCipher> {
        let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/plain8.pem");
        let pem = std::fs::read_to_string(pem).unwrap();
        Arc::new(ObjectCipher::new("", &pem, "").unwrap())
    }

    #[test]
    fn conforms() {
        check(&Encrypted::new(mem::open("encrypted-conforms"), cipher()));
    }

    #[test]
    fn nothing_of_a_body_is_in_the_object_and_damage_is_told() {
        let pool = Pool::new(PAGE_BYTES);
        let bucket = mem::open("encrypted-damage");
        let store = Encrypted::new(bucket.clone(), cipher());
        let bytes = pattern(5000);
        block_on(store.put("a".into(), body(&pool, &bytes))).unwrap();
        let (mut object, count) = block_on(bucket.get("a".into(), 0, vec![0; 10_000])).unwrap();
        object.truncate(count);
        assert_eq!(count, bytes.len() + 287);
        assert!(!object.windows(16).any(|piece| bytes.windows(16).any(|other| piece == other)));
        object[3000] ^= 1;
        block_on(bucket.put("a".into(), vec![Page::from_vec(object)])).unwrap();
        let damaged = block_on(store.get("a".into(), 0, vec![0; 5000])).unwrap_err();
        assert!(matches!(damaged, StoreError::Corrupt { key, .. } if key == "a"));
    }

    #[test]
    fn an_object_that_is_no_block_is_not_read_to_its_end() {
        let bucket = mem::open("encrypted-huge");
        let huge = Page::from_vec(vec![0; SEALED_BYTES_MAX + 5]);
        block_on(bucket.put("huge".into(), vec![huge])).unwrap();
        let store = Encrypted::new(bucket, cipher());
        let told = block_on(store.get("huge".into(), 0, vec![0; 100])).unwrap_err();
        assert!(matches!(told, StoreError::Corrupt { .. }), "{told}");
    }
}
