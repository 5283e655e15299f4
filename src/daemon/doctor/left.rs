//! Blocks of earlier mounts that wait in a cache folder for their upload.
//!
//! Owns the finding. Folders that a mount works in now are left out: it uploads what is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::Finding;
use crate::daemon::leftovers::{Leftovers, volumes_in};

/// Where small blocks are while a mount works, and after it was killed, below the folder of a volume.
const LOG: &str = "log";
/// What a mount holds locked that uploads from the folder of a volume.
const LOCK: &str = "staging.lock";

pub fn examine(cache_folder: &Path) -> Finding {
    let what = "staged blocks";
    let mut volumes = volumes_in(cache_folder);
    volumes.retain(|volume| !is_served(volume));
    let left = Leftovers::of(&volumes);
    let logs: Vec<PathBuf> = volumes.into_iter().filter(|volume| has_log(volume)).collect();
    let shown = cache_folder.display();
    if left.blocks == 0 && logs.is_empty() {
        return Finding::good(what, format!("none of an earlier mount wait in {shown}"));
    }
    let Leftovers { blocks, bytes, oldest_age_ms, .. } = left;
    let mut seen = format!(
        "{blocks} blocks ({} MiB, the oldest of {} s) wait below {shown}",
        bytes >> 20,
        oldest_age_ms / 1000
    );
    if !logs.is_empty() {
        seen.push_str(", and small ones in a log");
    }
    let folders = left.folders.iter().chain(&logs);
    let mut names: Vec<_> = folders.filter_map(|folder| folder.file_name()).collect();
    names.sort();
    names.dedup();
    let uuids: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    let cure = format!(
        "jfs-uring mount --cache-dir {shown} META-URL MOUNTPOINT, of the volume with UUID {}",
        uuids.join(" or ")
    );
    Finding::poor(what, seen, cure)
}

fn has_log(volume: &Path) -> bool {
    fs::read_dir(volume.join(LOG)).is_ok_and(|mut segments| segments.next().is_some())
}

/// Whether a mount uploads from there now.
fn is_served(volume: &Path) -> bool {
    let Ok(lock) = File::open(volume.join(LOCK)) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn blocks_and_logs_are_told_with_their_volume() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(examine(folder.path()).health, Health::Good);
        let chunks = folder.path().join("uuid-a/rawstaging/chunks/0/4");
        fs::create_dir_all(&chunks).unwrap();
        fs::write(chunks.join("4101_0_2097152"), "x").unwrap();
        let one = examine(folder.path());
        assert!(one.seen.starts_with("1 blocks (2 MiB"), "{}", one.seen);
        assert!(one.cure.ends_with("UUID uuid-a"), "{}", one.cure);
        fs::create_dir_all(folder.path().join("uuid-b/log")).unwrap();
        fs::write(folder.path().join("uuid-b/log/0000000001"), "x").unwrap();
        let both = examine(folder.path());
        assert_eq!(both.health, Health::Poor);
        assert!(both.cure.ends_with("uuid-a or uuid-b") && both.seen.contains("in a log"));
        let locks = ["uuid-a", "uuid-b"].map(|uuid| {
            let lock = File::create(folder.path().join(uuid).join(LOCK)).unwrap();
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
            lock
        });
        assert_eq!(examine(folder.path()).health, Health::Good, "a mount has them");
        drop(locks);
        assert_eq!(examine(folder.path()).health, Health::Poor);
    }
}
