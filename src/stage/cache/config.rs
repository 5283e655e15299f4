//! What a user decides about the cache, with JuiceFS's defaults, and what can be wrong with it.

use std::path::PathBuf;

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
            memory_bytes: 100 << 20,
        }
    }
}

impl CacheConfig {
    /// Folders from JuiceFS's `--cache-dir`: separated by colons, or by commas when there is no
    /// colon, and sorted; `memory` is no folder.
    pub fn folders_from(list: &str) -> Vec<PathBuf> {
        let separator = if list.contains(':') { ':' } else { ',' };
        let parts = list.split(separator).filter(|part| !part.is_empty() && *part != "memory");
        let mut folders: Vec<PathBuf> = parts.map(PathBuf::from).collect();
        folders.sort();
        folders.dedup();
        folders
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
    /// Nothing goes; new blocks are not kept.
    None,
}

/// The cache cannot be used as asked for.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
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
