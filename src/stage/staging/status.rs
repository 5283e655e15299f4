//! What the staging area tells people and metrics about itself.

use crate::object::BlockKey;

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
