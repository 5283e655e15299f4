//! Blocks kept near: in memory, and on disk in JuiceFS's cache layout.
//!
//! `blocks` joins `memory` with one `disk` per folder; `ring` chooses the folder. Below `disk`:
//! `writer` (its thread), `folder` (files), `scan`, `space`, `health`, `checksum`, and `table`, the
//! index that `memory` uses too.

mod blocks;
mod checksum;
mod config;
mod disk;
mod folder;
mod health;
mod memory;
mod ring;
mod scan;
mod space;
mod stats;
mod table;
mod writer;

pub use blocks::BlockCache;
pub use config::{CacheConfig, CacheError, Eviction, Verify};
pub use stats::CacheStats;

#[cfg(test)]
mod tests;
