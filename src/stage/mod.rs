//! What happens to sealed blocks on this machine: their encoding, and keeping them near.
//!
//! Does not know inodes, paths, the order of commits or who waits.

mod cache;
mod codec;

pub use cache::{BlockCache, CacheConfig, CacheError, CacheStats, Eviction, Verify};
pub use codec::{Codec, Compression, Damaged};
