//! What the cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the mount, and held now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads answered from memory.
    pub memory_hits: u64,
    /// Reads answered from disk.
    pub disk_hits: u64,
    /// Bytes of both.
    pub hit_bytes: u64,
    /// Reads that the disk was asked for and did not answer.
    pub misses: u64,
    /// Bytes of these.
    pub miss_bytes: u64,
    /// Blocks written to disk, and their bytes.
    pub writes: u64,
    /// See `writes`.
    pub write_bytes: u64,
    /// Blocks not written: the queue or the disk was full, or the folder rests.
    pub drops: u64,
    /// Blocks that made room on disk, or expired there.
    pub evicts: u64,
    /// Blocks whose checksum or length was wrong; they were removed.
    pub damaged: u64,
    /// Blocks in memory, and their bytes.
    pub memory_blocks: u64,
    /// See `memory_blocks`.
    pub memory_bytes: u64,
    /// Blocks on disk, and their bytes with 4 KiB for each.
    pub disk_blocks: u64,
    /// See `disk_blocks`.
    pub disk_bytes: u64,
}

/// The counters behind [`CacheStats`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) memory_hits: Counter,
    pub(super) disk_hits: Counter,
    pub(super) hit_bytes: Counter,
    pub(super) misses: Counter,
    pub(super) miss_bytes: Counter,
    pub(super) writes: Counter,
    pub(super) write_bytes: Counter,
    pub(super) drops: Counter,
    pub(super) evicts: Counter,
    pub(super) damaged: Counter,
}

/// One number that only grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn snapshot(&self) -> CacheStats {
        CacheStats {
            memory_hits: self.memory_hits.get(),
            disk_hits: self.disk_hits.get(),
            hit_bytes: self.hit_bytes.get(),
            misses: self.misses.get(),
            miss_bytes: self.miss_bytes.get(),
            writes: self.writes.get(),
            write_bytes: self.write_bytes.get(),
            drops: self.drops.get(),
            evicts: self.evicts.get(),
            damaged: self.damaged.get(),
            ..CacheStats::default()
        }
    }
}
