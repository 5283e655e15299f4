//! What happens to sealed blocks on this machine: their encoding, and keeping them near.
//!
//! Does not know inodes, paths, the order of commits or who waits.

mod cache;
mod codec;
mod staging;

pub use cache::{BlockCache, CacheConfig, CacheError, CacheStats, Eviction, Verify};
pub use codec::{Codec, Compression, Damaged};
pub use staging::{
    FailedUpload, NewBlock, NotKept, Removed, Staging, StagingConfig, StagingCounts, StagingError,
    StagingStatus, Standing, Upload, UploadHours,
};
