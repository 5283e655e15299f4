//! Blocks kept near: in memory, and on disk in JuiceFS's cache layout.
//!
//! `blocks` joins `memory` with one `disk` per folder; `ring` chooses the folder; `keeper` does what
//! comes due with time. Below `disk`: `writer` (its thread), `folder` (files), `scan`, `space`,
//! `health`, `checksum`, and `table` over `order`, the index that `memory` uses too.

mod blocks;
pub(super) mod checksum;
mod clock;
mod config;
mod disk;
pub(super) mod folder;
mod health;
mod keeper;
mod memory;
mod order;
mod pattern;
pub(super) mod ring;
mod scan;
pub(super) mod space;
mod stats;
mod table;
mod writer;

pub use blocks::BlockCache;
pub use config::{CacheConfig, CacheError, Eviction, Verify};
pub use stats::CacheStats;

#[cfg(test)]
mod tests;
