//! What a user decides about the cache, with JuiceFS's defaults, and what can be wrong with it.

use std::path::PathBuf;
use std::time::Duration;

use super::pattern;

/// The cache of one volume on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheConfig {
    /// Folders, without the volume's UUID; none for memory only.
    pub folders: Vec<PathBuf>,
    /// Bytes on disk, over all folders.
    pub disk_bytes: u64,
    /// Blocks on disk, over all folders; 0 leaves it to the free inodes.
    pub disk_blocks: u64,
    /// Part of the disk's space and inodes that stays free, 0.0 to 1.0.
    pub free_space_ratio: f64,
    /// When checksums are looked at.
    pub verify: Verify,
    /// What makes room.
    pub eviction: Eviction,
    /// Permissions of cache files; folders get x and w for everyone who has r.
    pub file_mode: u32,
    /// Blocks unused for longer go; zero for never.
    pub expire: Duration,
    /// Pace at which folders are scanned again for what others did there; zero for never.
    pub scan_interval: Duration,
    /// Blocks that a stream reads through are not kept on disk, unless they are short.
    pub partial_only: bool,
    /// Bytes in memory.
    pub memory_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            disk_bytes: 100 << 30,
            disk_blocks: 0,
            free_space_ratio: 0.1,
            verify: Verify::Extend,
            eviction: Eviction::TwoRandom,
            file_mode: 0o600,
            expire: Duration::ZERO,
            scan_interval: Duration::from_secs(3600),
            partial_only: false,
            memory_bytes: 100 << 20,
        }
    }
}

impl CacheConfig {
    /// Folders from JuiceFS's `--cache-dir`: separated by colons, or by commas when there is no
    /// colon, and sorted; patterns stand for the folders that are there; `memory` is no folder.
    ///
    /// # Errors
    /// When a pattern matches nothing.
    pub fn folders_from(list: &str) -> Result<Vec<PathBuf>, CacheError> {
        let separator = if list.contains(':') { ':' } else { ',' };
        let parts = list.split(separator).filter(|part| !part.is_empty() && *part != "memory");
        let mut folders = Vec::new();
        for part in parts {
            let found = pattern::expand(part);
            if found.is_empty() {
                return Err(CacheError::NoMatch { pattern: part.to_owned() });
            }
            folders.extend(found);
        }
        folders.sort();
        folders.dedup();
        Ok(folders)
    }

    /// Time after which an unused block goes, in nanoseconds; 0 for never. Not below a second: the
    /// real client counts in seconds.
    pub(super) fn expire_ns(&self) -> u64 {
        match self.expire.is_zero() {
            true => 0,
            false => u64::try_from(self.expire.as_nanos()).unwrap_or(u64::MAX).max(1_000_000_000),
        }
    }

    /// Permissions of cache folders.
    pub(super) fn folder_mode(&self) -> u32 {
        let readers = self.file_mode & 0o444;
        self.file_mode | readers >> 1 | readers >> 2
    }
}

/// JuiceFS's levels of `--verify-cache-checksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Checksums are neither written nor looked at.
    None,
    /// Looked at when a whole block is read.
    Full,
    /// Looked at for the 32 KiB pieces that lie inside what is read.
    Shrink,
    /// What is read is widened to 32 KiB pieces, and all of them are looked at.
    Extend,
}

/// What makes room on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Of two blocks drawn at random the one unused for longer goes.
    TwoRandom,
    /// The block unused for longest goes.
    Lru,
    /// Nothing goes; new blocks are not kept.
    None,
}

/// The cache cannot be used as asked for.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A pattern among the folders stands for nothing.
    #[error("no folder matches --cache-dir {pattern}; mount the disks, or name folders")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A folder cannot be made or written.
    #[error(
        "cannot write to cache folder {folder}: {reason}; \
         give it to this user (chown), or choose another one with --cache-dir"
    )]
    Unwritable {
        /// The folder of this volume.
        folder: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// No thread for a folder.
    #[error("cannot start a thread for cache folder {folder}: {reason}")]
    Thread {
        /// The folder of this volume.
        folder: String,
        /// What the system said.
        reason: std::io::Error,
    },
}
