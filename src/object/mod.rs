//! Blobs by name: the cut where object stores slot in.
//!
//! Owns the trait, the sorted errors and the only maker of object names (`key`). Does not know
//! slices' meaning, inodes, or when something is safe to delete.

#[cfg(test)]
pub(crate) mod conformance;
mod crypt;
mod deadline;
#[cfg(feature = "object-extra")]
mod extra;
mod fault;
mod file;
mod following;
mod key;
pub mod mem;
mod pace;
mod prefix;
mod rate;
mod remote;
mod retry;
mod s3;
mod shard;
mod tiers;

use std::future::Future;
use std::pin::Pin;

use crate::pages::Page;

pub use crypt::{BadKey, Encrypted, ObjectCipher, PASSPHRASE};
pub use deadline::Deadline;
#[cfg(feature = "object-extra")]
pub use extra::{BadBucket, Extra, ExtraStore};
pub use fault::{Faults, Faulty};
pub use file::FileStore;
pub use following::{Current, Following};
pub use key::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BlockKey, Layout};
pub use pace::{Pace, Paced};
pub use prefix::Prefixed;
pub use rate::{Rate, Rated};
pub use retry::Retried;
pub use s3::{Address, BadAddress, Flavour, Keys, S3Store, Tls};
pub use shard::{SHARDS_MAX, Sharded, shard_bucket};
pub use tiers::{OneTier, Tiers};

/// A future that stays on its core.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the caller does next is what tells these apart.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such blob.
    #[error("object {0} does not exist")]
    Missing(String),
    /// The store asks for less; slow down, then again.
    #[error("object store throttles: {0}")]
    Throttled(String),
    /// Not reachable or failing for now; again with back-off.
    #[error("object store unavailable: {0}")]
    Unavailable(String),
    /// The store has no space left: ENOSPC.
    #[error("object store is full: {0}")]
    Full(String),
    /// Credentials, permission or bucket are wrong; again is useless.
    #[error("object store refuses: {0}")]
    Refused(String),
    /// The bytes are not what was stored.
    #[error("object {key} is damaged: {reason}")]
    Corrupt {
        /// Name of the blob.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// One listed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Name.
    pub key: String,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Last change, unix seconds.
    pub mtime: i64,
}

/// A store of immutable blobs, as seen from one core.
pub trait Store {
    /// Store a blob made of these pages, in order; replaces one of the same name.
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>>;

    /// Fill `into` with bytes from `offset` on; returns how many there were.
    /// The buffer goes in and comes back, so that it may cross threads.
    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>>;

    /// Remove a blob; a missing one is fine.
    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>>;

    /// Blobs whose names start with `prefix`, at most `limit`, names sorted, after `start_after`.
    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>>;

    /// One line for `status` and logs; no secret.
    fn describe(&self) -> String;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        (**self).put(key, body)
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        (**self).get(key, offset, into)
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        (**self).delete(key)
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        (**self).list(prefix, start_after, limit)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}
