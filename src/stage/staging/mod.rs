//! Blocks kept on this machine until the object store has them.
//!
//! Owns that what was kept is found again after a crash, how far onto the disk it has come, and the
//! order of uploads. Does not own the uploads (`data` does), what a slice is, nor who waits.

mod config;
#[cfg(test)]
mod crash;
mod level;
mod log;
mod medium;
mod sync;

use std::sync::Arc;

pub use config::{StagingConfig, UploadHours};
pub use level::Standing;

use super::cache::BlockCache;
use crate::object::{BlockKey, Layout};
use crate::pages::Page;
use crate::stdx::Gate;

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
    /// The disk has less than half of `--free-space-ratio` free.
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

/// Blocks of a volume on this machine; one per mount, shared by the cores.
pub struct Staging {}

impl Staging {
    /// The staging folders of volume `uuid`; what earlier mounts and the official client left there is
    /// found, the log at once, single files maybe later (until then each question asks the disk).
    ///
    /// # Errors
    /// When another process has a folder, or a log is damaged elsewhere than at its end.
    pub fn open(
        _config: &StagingConfig,
        _uuid: &str,
        _layout: Layout,
        _cache: Option<Arc<BlockCache>>,
    ) -> Result<Arc<Self>, StagingError> {
        unimplemented!()
    }

    /// Keep a block: it survives a crash of this process when this returns. Waits while
    /// `--max-staging-size` is reached.
    ///
    /// # Errors
    /// Why it is not kept.
    pub async fn keep(&self, _block: NewBlock<'_>) -> Result<(), NotKept> {
        unimplemented!()
    }

    /// Bring all blocks and notes kept before this call to where a loss of power does not reach them.
    /// Who comes while the disk is at it shares the next round.
    ///
    /// # Errors
    /// Of the disk; never taken back by a later success.
    pub async fn sync(&self) -> Result<(), StagingError> {
        unimplemented!()
    }

    /// How far a block that is kept here has come; `None` if it is not.
    pub fn standing(&self, _key: &BlockKey) -> Option<Standing> {
        unimplemented!()
    }

    /// `len` bytes from `offset` of a block that is kept; `None` if it is not here or not readable.
    pub async fn read(&self, _key: &BlockKey, _offset: u32, _len: u32) -> Option<Page> {
        unimplemented!()
    }

    /// Let a block go that nobody refers to any more.
    pub fn remove(&self, _key: &BlockKey) -> Removed {
        unimplemented!()
    }

    /// The block whose turn it is, if any may be uploaded now; it is in the caller's hands then.
    pub fn next_upload(&self) -> Option<Upload> {
        unimplemented!()
    }

    /// All bytes of a block in hand, checked.
    ///
    /// # Errors
    /// Words for people, when they are not what was kept.
    pub async fn load(&self, _upload: &Upload) -> Result<Page, String> {
        unimplemented!()
    }

    /// A block in hand is in the object store; from now on it is only cached. False if it was removed
    /// meanwhile: the object is nobody's.
    pub fn uploaded(&self, _upload: &Upload) -> bool {
        unimplemented!()
    }

    /// A block in hand could not be stored; it will be tried again after a while.
    pub fn upload_failed(&self, _upload: &Upload, _reason: &str) {
        unimplemented!()
    }

    /// Somebody waits for these: they go first, whatever `--upload-delay` and `--upload-hours` say.
    pub fn hurry(&self, _keys: &[BlockKey]) {
        unimplemented!()
    }

    /// Somebody waits for all.
    pub fn hurry_all(&self) {
        unimplemented!()
    }

    /// Try again now what failed; how many blocks.
    pub fn retry(&self) -> usize {
        unimplemented!()
    }

    /// Opens whenever a block came, left or failed, or something may be uploaded that could not before.
    pub fn gate(&self) -> &Gate {
        unimplemented!()
    }

    /// Keep a note of the data floor beside the blocks, as safe as they; one of the same tag is replaced.
    ///
    /// # Errors
    /// Of the disk.
    pub fn note(&self, _tag: u64, _bytes: &[u8]) -> Result<(), StagingError> {
        unimplemented!()
    }

    /// A note is no longer needed.
    pub fn forget_note(&self, _tag: u64) {
        unimplemented!()
    }

    /// The notes an earlier mount left, in the order they were made; once.
    pub fn take_notes(&self) -> Vec<(u64, Vec<u8>)> {
        unimplemented!()
    }

    /// What is here now.
    pub fn status(&self) -> StagingStatus {
        unimplemented!()
    }

    /// The end of the mount: nothing is taken any more, and what is left becomes files that the official
    /// client can upload, too.
    pub async fn close(&self) -> StagingStatus {
        unimplemented!()
    }
}

/// What is kept, for people and for metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StagingStatus {
    /// Blocks, and their bytes, that survive our crash but maybe not a loss of power.
    pub logged_blocks: u64,
    /// See `logged_blocks`.
    pub logged_bytes: u64,
    /// Blocks, and their bytes, that survive a loss of power.
    pub local_blocks: u64,
    /// See `local_blocks`.
    pub local_bytes: u64,
    /// Age of the oldest block, ms; 0 without any.
    pub oldest_age_ms: u64,
    /// Blocks being uploaded.
    pub flying: u64,
    /// Blocks whose upload failed and that wait to be tried again, worst first, not all of them.
    pub failed: Vec<FailedUpload>,
    /// How many failed ones there are.
    pub failed_blocks: u64,
    /// The last error of an upload, and when, ms since 1970.
    pub last_error: Option<(String, u64)>,
    /// Bytes a second uploaded of late.
    pub upload_bytes_per_s: u64,
    /// Counted since the mount.
    pub counted: StagingCounts,
    /// Folders that were taken out, with the reason and the blocks left on them.
    pub lost_folders: Vec<(String, String, u64)>,
}

/// A block in the list of failed uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedUpload {
    /// Its name.
    pub key: BlockKey,
    /// Uploads that failed.
    pub failures: u32,
    /// Why the last one did.
    pub reason: String,
    /// How long until it is tried again, ms.
    pub retry_in_ms: u64,
}

/// Counted since the mount.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StagingCounts {
    /// Bytes kept.
    pub write_bytes: u64,
    /// Blocks being written to the disk now.
    pub writing: u64,
    /// Blocks that the disk did not take.
    pub errors: u64,
    /// Sum of ages when uploads began, ms.
    pub delay_ms: u64,
    /// Blocks that were older than `--upload-deadline` when they were uploaded, or are now.
    pub deadline_misses: u64,
    /// Rounds of bringing data to the disk, how many waited for them, and how long they took, us.
    pub syncs: u64,
    /// See `syncs`.
    pub sync_waiters: u64,
    /// See `syncs`.
    pub sync_us: u64,
    /// Time that writers waited for room, ms.
    pub waited_ms: u64,
    /// Blocks uploaded, and blocks that were never uploaded as nobody referred to them any more.
    pub uploaded: u64,
    /// See `uploaded`.
    pub spared: u64,
}
