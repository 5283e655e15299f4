//! How far written data has come, as it is told: the attribute `user.jfs.state`, and answers of
//! `.control`.
//!
//! Owns the JSON. How far it has come is `data`'s to know. The attribute is answered on every mount, is
//! not listed, and cannot be set.

use std::rc::Rc;

use rustix::io::Errno;
use serde_json::{Value, json};

use super::dispatch::Vfs;
use super::error::Done;
use super::op::Reply;
use super::xattr::fitting;
use crate::data::FileState;
use crate::object::Layout;
use crate::stage::{FailedUpload, StagingStatus};
use crate::stdx::now;
use crate::types::{FileType, Ino, Level, Publish};

/// The attribute.
pub(super) const NAME: &[u8] = b"user.jfs.state";

/// The value may be so much longer when it is asked for than when its length was.
const GROWTH_BYTES: u32 = 256;

impl Vfs {
    /// The value of the attribute: of a file, or on the root of the mount.
    pub(super) async fn get_state(self: &Rc<Self>, ino: Ino, room_bytes: u32) -> Done {
        let state = match ino {
            Ino::ROOT => self.mount_state(),
            ino if ino >= Ino::VIRTUAL => return Err(Errno::NODATA.into()),
            ino => file_json(&self.file_state(ino).await?.ok_or(Errno::NODATA)?),
        };
        match fitting(state.to_string().into_bytes().into(), room_bytes)? {
            Reply::XattrSize(len) => Ok(Reply::XattrSize(len + GROWTH_BYTES)),
            reply => Ok(reply),
        }
    }

    /// Of a file; `None` for what is none.
    pub(super) async fn file_state(self: &Rc<Self>, ino: Ino) -> Done<Option<FileState>> {
        let (attr, _) = self.attr(ino).await?;
        if attr.kind != FileType::File {
            return Ok(None);
        }
        Ok(Some(self.data.state_of(ino, attr.length).await?))
    }

    /// Of the whole mount.
    pub(super) fn mount_state(&self) -> Value {
        let (status, dirty_bytes) = self.data.staging().unwrap_or_else(|| {
            let dirty_bytes = self.data.counts().buffer_bytes;
            (StagingStatus::default(), dirty_bytes)
        });
        let mut state = mount_json(&status, dirty_bytes, self.data.layout(), now_ms());
        state["writeback"] = self.config.writeback.into();
        state["publish"] = match self.config.publish {
            Publish::Local => "local".into(),
            Publish::Uploaded => "uploaded".into(),
        };
        state
    }
}

fn now_ms() -> u64 {
    let time = now();
    u64::try_from(time.sec).unwrap_or(0) * 1000 + u64::from(time.nsec) / 1_000_000
}

/// Of one file, or of several that are summed up.
pub(super) fn file_json(state: &FileState) -> Value {
    json!({
        "level": state.level.name(),
        "bytes_left": state.bytes_left,
        "blocks_left": state.blocks_left,
        "oldest_age_ms": state.oldest_age_ms,
        "last_error": state.last_error,
    })
}

/// Several files as one: the lowest level, the oldest age, and an error if there is one.
pub(super) fn joined(all: FileState, one: FileState) -> FileState {
    FileState {
        level: all.level.min(one.level),
        bytes_left: all.bytes_left + one.bytes_left,
        blocks_left: all.blocks_left + one.blocks_left,
        oldest_age_ms: all.oldest_age_ms.max(one.oldest_age_ms),
        last_error: all.last_error.or(one.last_error),
    }
}

/// As [`FileState`] of nothing at all.
pub(super) const NOTHING: FileState = FileState {
    level: Level::Committed,
    bytes_left: 0,
    blocks_left: 0,
    oldest_age_ms: 0,
    last_error: None,
};

/// The level that all of the mount's data has reached.
fn level_of(status: &StagingStatus, dirty_bytes: u64) -> Level {
    match (dirty_bytes, status.logged_blocks, status.local_blocks) {
        (0, 0, 0) => Level::Committed,
        (0, 0, _) => Level::Local,
        (0, ..) => Level::Logged,
        _ => Level::Accepted,
    }
}

/// Seconds until all is uploaded at the rate of late; `None` where nothing is known of it.
fn drain_s(bytes_left: u64, bytes_per_s: u64) -> Option<u64> {
    match (bytes_left, bytes_per_s) {
        (0, _) => Some(0),
        (_, 0) => None,
        (left, rate) => Some(left.div_ceil(rate)),
    }
}

fn mount_json(status: &StagingStatus, dirty_bytes: u64, layout: Layout, now_ms: u64) -> Value {
    let bytes_left = status.logged_bytes + status.local_bytes + dirty_bytes;
    let failed = |upload: &FailedUpload| {
        json!({
            "block": layout.name(upload.key),
            "failures": upload.failures,
            "reason": upload.reason,
            "retry_in_ms": upload.retry_in_ms,
        })
    };
    let lost = |(folder, reason, blocks): &(String, String, u64)| json!({"folder": folder, "reason": reason, "blocks": blocks});
    let error = status.last_error.as_ref();
    json!({
        "level": level_of(status, dirty_bytes).name(),
        "bytes_left": bytes_left,
        "blocks_left": status.logged_blocks + status.local_blocks,
        "oldest_age_ms": status.oldest_age_ms,
        "last_error": error.map(|(reason, _)| reason),
        "last_error_age_ms": error.map(|(_, when_ms)| now_ms.saturating_sub(*when_ms)),
        "levels": {
            "accepted": {"bytes": dirty_bytes},
            "logged": {"blocks": status.logged_blocks, "bytes": status.logged_bytes},
            "local": {"blocks": status.local_blocks, "bytes": status.local_bytes},
        },
        "uploading_blocks": status.flying,
        "upload_bytes_per_s": status.upload_bytes_per_s,
        "drain_s": drain_s(bytes_left, status.upload_bytes_per_s),
        "failed_blocks": status.failed_blocks,
        "failed": status.failed.iter().map(failed).collect::<Vec<_>>(),
        "deadline_misses": status.counted.deadline_misses,
        "lost_folders": status.lost_folders.iter().map(lost).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> StagingStatus {
        let layout = Layout::new(64, false);
        StagingStatus {
            logged_blocks: 1,
            logged_bytes: 100,
            local_blocks: 2,
            local_bytes: 900,
            oldest_age_ms: 1500,
            flying: 1,
            failed: vec![FailedUpload {
                key: layout.block(7, 100, 0),
                failures: 3,
                reason: "no \"bucket\"".into(),
                retry_in_ms: 800,
            }],
            failed_blocks: 1,
            last_error: Some(("no bucket".into(), 9_000)),
            upload_bytes_per_s: 250,
            lost_folders: vec![("/a".into(), "EIO".into(), 4)],
            ..StagingStatus::default()
        }
    }

    #[test]
    fn a_mount_tells_all_that_is_left_on_one_line() {
        let state = mount_json(&status(), 0, Layout::new(64, false), 10_000);
        assert!(!state.to_string().contains('\n'));
        assert_eq!((&state["level"], &state["bytes_left"]), (&"logged".into(), &1000.into()));
        assert_eq!((&state["blocks_left"], &state["drain_s"]), (&3.into(), &4.into()));
        assert_eq!(state["last_error_age_ms"], 1000);
        assert_eq!(state["failed"][0]["block"], "chunks/0/0/7_0_100");
        assert_eq!(state["lost_folders"][0]["blocks"], 4);
        let nothing = mount_json(&StagingStatus::default(), 0, Layout::new(64, false), 0);
        assert_eq!((&nothing["level"], &nothing["drain_s"]), (&"committed".into(), &0.into()));
        assert_eq!(nothing["last_error"], Value::Null);
    }

    #[test]
    fn the_level_is_the_lowest_of_all() {
        let level = |logged, local, dirty| {
            let status = StagingStatus {
                logged_blocks: logged,
                local_blocks: local,
                ..StagingStatus::default()
            };
            level_of(&status, dirty)
        };
        assert_eq!(level(0, 0, 0), Level::Committed);
        assert_eq!(level(0, 1, 0), Level::Local);
        assert_eq!(level(1, 1, 0), Level::Logged);
        assert_eq!(level(1, 1, 1), Level::Accepted);
        assert_eq!(drain_s(1, 0), None);
        let file = |level, last_error: Option<&str>| FileState {
            level,
            bytes_left: 5,
            blocks_left: 1,
            oldest_age_ms: 9,
            last_error: last_error.map(str::to_owned),
        };
        let sum =
            joined(joined(NOTHING, file(Level::Local, None)), file(Level::Uploaded, Some("x")));
        let wanted = FileState { bytes_left: 10, blocks_left: 2, ..file(Level::Local, Some("x")) };
        assert_eq!(sum, wanted);
    }
}
