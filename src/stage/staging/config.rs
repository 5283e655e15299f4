//! What a user can say about blocks that wait for their upload.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the staging area.
#[derive(Debug, Clone)]
pub struct StagingConfig {
    /// The cache folders; JuiceFS's ring spreads blocks over them.
    pub folders: Vec<PathBuf>,
    /// Blocks are taken (`--writeback`); else what is left there is only served and uploaded.
    pub takes: bool,
    /// Raw blocks from this length on are not taken (`--writeback-threshold-size`); 0 for no limit.
    pub threshold_bytes: u64,
    /// Bytes at which writers wait (`--max-staging-size`); 0 for no limit.
    pub max_bytes: u64,
    /// Blocks written at a time (`--max-stage-write`); 0 for no limit.
    pub max_writes: usize,
    /// Least age of an upload (`--upload-delay`).
    pub upload_delay: Duration,
    /// Hours of the day in which is uploaded (`--upload-hours`).
    pub upload_hours: Option<UploadHours>,
    /// From this age on a block goes before all others (`--upload-deadline`); zero for never.
    pub upload_deadline: Duration,
    /// Share of the disk that stays free (`--free-space-ratio`); below half of it nothing is taken.
    pub free_space_ratio: f64,
    /// Mode of files (`--cache-mode`).
    pub file_mode: u32,
    /// Whether checksums are written (`--verify-cache-checksum` is not `none`).
    pub checksums: bool,
}

impl StagingConfig {
    /// Mode of folders, as that of cache folders.
    pub(super) fn folder_mode(&self) -> u32 {
        let readers = self.file_mode & 0o444;
        self.file_mode | readers >> 1 | readers >> 2
    }
}

/// From which hour to which of the local day; the same for always, and it may go past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadHours {
    /// First hour, 0 to 23.
    pub from: u32,
    /// First hour that does not belong to it.
    pub to: u32,
}
