//! Words of the staging area: blocks that come, blocks that go, and why one is not kept.

use crate::object::BlockKey;
use crate::pages::Page;

/// The folder cannot be used as asked for.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Another process keeps blocks there.
    #[error(
        "{folder} is in use by process {pid}; unmount it, or give this mount its own --cache-dir"
    )]
    InUse {
        /// The folder of this volume.
        folder: String,
        /// Who has it, 0 if not known.
        pid: u32,
    },
    /// What an earlier mount left cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// The disk failed: what is kept on it may not survive a loss of power.
    #[error("{folder}: {reason}")]
    Failed {
        /// The folder of this volume.
        folder: String,
        /// What the system said.
        reason: String,
    },
}

/// Why a block is not kept here; its writer stores it directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotKept {
    /// Not below `--writeback-threshold-size`, or nothing is kept on this mount.
    NotWanted,
    /// `--max-stage-write` blocks are being written.
    Busy,
    /// The disk has less than half of `--free-space-ratio` free, or `--max-staging-size` is reached and
    /// the block does not wait.
    NoRoom,
    /// The disk failed.
    Failed(String),
}

/// A block to be kept.
pub struct NewBlock<'a> {
    /// Its name.
    pub key: BlockKey,
    /// Storage tier of its file, 0 as a rule.
    pub tier: u8,
    /// Blocks of one group are uploaded in the order they came; groups take turns.
    pub group: u64,
    /// All its bytes.
    pub pages: &'a [Page],
    /// When the oldest of its bytes was kept, ms since 1970; `None` for now.
    pub kept_ms: Option<u64>,
}

/// A block whose turn it is; its upload ends with `uploaded` or `upload_failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub key: BlockKey,
    /// Storage tier of its file.
    pub tier: u8,
    /// When it was kept, ms since 1970.
    pub kept_ms: u64,
    /// Uploads that failed before.
    pub failures: u32,
}

/// What a removal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The block is not here.
    Unknown,
    /// It was here, and will never be uploaded.
    Dropped,
    /// It is being uploaded: `uploaded` will answer that it is not wanted.
    Flying,
}
