//! Room on the disk below the file, so that deletions still work when it is full.
//!
//! Owns when growth is refused and when the log is merged early. A change first goes into the log,
//! which begins anew in the room it has once all of it was merged into the file; what has grown
//! needs new room there. So little of that may wait when the disk gets full, and the log keeps
//! room from the start. Does not guard against others who take the last room.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::open::beside;
use crate::meta::txn::{Commit, Mutation};

/// With less room the log is merged after each batch.
const LOW_BYTES: u64 = 64 << 20;
/// The last room is for what deletes.
const DELETIONS_BYTES: u64 = 4 << 20;
/// Room that the log takes at once: a few hundred pages, and a deletion changes some ten.
const LOG_BYTES: u64 = 1 << 20;

/// How full the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing need be done.
    Plenty,
    /// What is written must be merged soon.
    Low,
    /// Nothing may grow.
    ForDeletions,
}

impl Room {
    fn of(free_bytes: u64) -> Self {
        match free_bytes {
            ..DELETIONS_BYTES => Self::ForDeletions,
            DELETIONS_BYTES..LOW_BYTES => Self::Low,
            _ => Self::Plenty,
        }
    }

    /// Merge the log while there is room for what has grown. If that fails, it is tried again
    /// after the next batch.
    pub(super) fn merge(self, base: &Connection) {
        if self != Self::Plenty {
            let _ = base.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }
}

/// Looks at the disk of one file.
pub(super) struct Gauge(PathBuf);

impl Gauge {
    /// For the file at `path`, which is open: its log takes its room.
    pub(super) fn new(path: &Path) -> Self {
        if let Ok(log) = File::options().write(true).open(beside(path, "-wal")) {
            // Where the file system cannot do it, or has no room, nothing is promised.
            let _ = fallocate(&log, FallocateFlags::KEEP_SIZE, 0, LOG_BYTES);
        }
        Self(path.to_owned())
    }

    /// How full the disk is; what cannot be told counts as plenty.
    pub(super) fn room(&self) -> Room {
        let Ok(told) = statvfs(&self.0) else { return Room::Plenty };
        // Some blocks are root's alone.
        let is_root = rustix::process::geteuid().is_root();
        let blocks = if is_root { told.f_bfree } else { told.f_bavail };
        Room::of(blocks.saturating_mul(told.f_frsize))
    }
}

/// Whether a commit adds what was not there: nodes, slices, attributes.
pub(super) fn grows(commit: &Commit) -> bool {
    commit.mutations.iter().any(|mutation| {
        matches!(
            mutation,
            Mutation::PutNode(..)
                | Mutation::PutSymlink(..)
                | Mutation::PushSlices(..)
                | Mutation::ShareSlices(..)
                | Mutation::PutXattr(..)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_room_is_for_deletions() {
        assert_eq!(Room::of(0), Room::ForDeletions);
        assert_eq!(Room::of(DELETIONS_BYTES), Room::Low);
        assert_eq!(Room::of(LOW_BYTES), Room::Plenty);
    }
}
