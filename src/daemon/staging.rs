//! What a mount keeps on this machine until it is uploaded: from its flags to the staging area, and the
//! end of that.
//!
//! Owns when there is one: on every mount that may write and has a cache on disk, for blocks that an
//! earlier one left are uploaded by any. Only `--writeback` puts new ones there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::serve::ServePlan;
use crate::object::Layout;
use crate::stage::{
    BlockCache, CacheConfig, Staging, StagingConfig, StagingStatus, UploadHours, Verify,
};
use crate::types::Publish;

/// What `--writeback` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StagingPlan {
    /// Raw blocks from this length on are stored directly (`--writeback-threshold-size`); 0 for none.
    pub threshold_bytes: u64,
    /// Bytes at which writers wait (`--max-staging-size`); 0 for no limit.
    pub max_bytes: u64,
    /// Blocks written at a time (`--max-stage-write`); 0 for no limit.
    pub max_writes: usize,
    /// Least age of an upload (`--upload-delay`).
    pub upload_delay: Duration,
    /// Hours of the day in which is uploaded (`--upload-hours`).
    pub upload_hours: Option<UploadHours>,
    /// From this age on a block goes first (`--upload-deadline`); zero for never.
    pub upload_deadline: Duration,
    /// When others may see it (`--publish`).
    pub publish: Publish,
}

/// As JuiceFS has it.
pub const STAGE_WRITES: usize = 1000;

impl Default for StagingPlan {
    fn default() -> Self {
        Self {
            threshold_bytes: 0,
            max_bytes: 0,
            max_writes: STAGE_WRITES,
            upload_delay: Duration::ZERO,
            upload_hours: None,
            upload_deadline: Duration::ZERO,
            publish: Publish::Local,
        }
    }
}

/// Why a mount that was asked for `--writeback` does without, as the official client's does.
pub fn hindrance(cache: &CacheConfig) -> Option<&'static str> {
    if cache.folders.is_empty() {
        Some("--writeback is off: the cache is in memory; name a folder with --cache-dir")
    } else if cache.disk_bytes == 0 {
        Some("--writeback is off: --cache-size is 0; give it a size")
    } else {
        None
    }
}

/// The staging area of a mount of volume `uuid`.
///
/// # Errors
/// When another process has the folder, or what an earlier mount left is damaged.
pub fn open(
    plan: &ServePlan,
    uuid: &str,
    layout: Layout,
    cache: &Arc<BlockCache>,
) -> Result<Option<Arc<Staging>>, Failure> {
    if !may_keep(plan.vfs.read_only, &plan.cache.blocks) {
        return Ok(None);
    }
    let config = config(plan.cache.staging.as_ref(), &plan.cache.blocks);
    let staging = Staging::open(&config, uuid, layout, Some(Arc::clone(cache)));
    Ok(Some(staging.map_err(|error| Failure::failed(error.to_string()))?))
}

/// Whether a mount has to do with blocks that wait on this machine.
fn may_keep(read_only: bool, cache: &CacheConfig) -> bool {
    !read_only && hindrance(cache).is_none()
}

fn config(plan: Option<&StagingPlan>, cache: &CacheConfig) -> StagingConfig {
    let asked = plan.copied().unwrap_or_default();
    StagingConfig {
        folders: cache.folders.clone(),
        takes: plan.is_some(),
        threshold_bytes: asked.threshold_bytes,
        max_bytes: asked.max_bytes,
        max_writes: asked.max_writes,
        upload_delay: asked.upload_delay,
        upload_hours: asked.upload_hours,
        upload_deadline: asked.upload_deadline,
        free_space_ratio: cache.free_space_ratio,
        file_mode: cache.file_mode,
        checksums: cache.verify != Verify::None,
    }
}

/// The mount has ended: tell what the next one will upload.
pub fn tell_left(left: &StagingStatus, folders: &[PathBuf]) {
    let blocks = left.logged_blocks + left.local_blocks;
    if blocks > 0 {
        let (bytes, age_ms) = (left.logged_bytes + left.local_bytes, left.oldest_age_ms);
        tracing::warn!(blocks, bytes, age_ms, ?folders, "blocks wait here for their upload");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let cache = |folders: &[&str], disk_bytes| CacheConfig {
            folders: folders.iter().map(PathBuf::from).collect(),
            disk_bytes,
            ..CacheConfig::default()
        };
        assert!(hindrance(&cache(&[], 1)).unwrap().contains("--cache-dir"));
        assert!(hindrance(&cache(&["/a"], 0)).unwrap().contains("--cache-size"));
        assert_eq!(hindrance(&cache(&["/a"], 1)), None);
    }

    #[test]
    fn a_mount_that_only_reads_leaves_leftovers_alone() {
        let cache = CacheConfig { folders: vec!["/a".into()], ..CacheConfig::default() };
        assert!(may_keep(false, &cache) && !may_keep(true, &cache));
        assert!(!may_keep(false, &CacheConfig::default()));
    }

    #[test]
    fn only_write_back_takes_new_blocks() {
        let cache = CacheConfig { verify: Verify::None, ..CacheConfig::default() };
        let left = config(None, &cache);
        assert!(!left.takes && !left.checksums && left.upload_delay.is_zero());
        let plan = StagingPlan { max_bytes: 7, ..StagingPlan::default() };
        let asked = config(Some(&plan), &CacheConfig::default());
        assert!(asked.takes && asked.checksums);
        assert_eq!((asked.max_bytes, asked.max_writes, asked.file_mode), (7, 1000, 0o600));
    }
}
