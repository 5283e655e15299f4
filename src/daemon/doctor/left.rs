//! Blocks of earlier mounts that wait in a cache folder for their upload.
//!
//! Owns the finding. A mount that works there now has such blocks, too, and nothing is wrong with that.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::daemon::leftovers::{Leftovers, volumes_in};

/// Blocks of this age, ms, are worth a word: a mount in use uploads them before.
const OLD_MS: u64 = 3_600_000;
/// Where small blocks are while a mount works, and after it was killed, below the folder of a volume.
const LOG: &str = "log";

pub fn examine(cache_folder: &Path) -> Finding {
    let what = "staged blocks";
    let volumes = volumes_in(cache_folder);
    let left = Leftovers::of(&volumes);
    let logs: Vec<PathBuf> = volumes.into_iter().filter(|volume| has_log(volume)).collect();
    let shown = cache_folder.display();
    if left.blocks == 0 && logs.is_empty() {
        return Finding::good(what, format!("none wait in {shown}"));
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
    if oldest_age_ms < OLD_MS && logs.is_empty() {
        return Finding::good(what, seen);
    }
    let folders = left.folders.iter().chain(&logs);
    let mut names: Vec<_> = folders.filter_map(|folder| folder.file_name()).collect();
    names.sort();
    names.dedup();
    let uuids: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    let cure = format!(
        "unless a mount uploads them now: jfs-uring mount --cache-dir {shown} META-URL MOUNTPOINT, of the volume with UUID {}",
        uuids.join(" or ")
    );
    Finding::poor(what, seen, cure)
}

fn has_log(volume: &Path) -> bool {
    fs::read_dir(volume.join(LOG)).is_ok_and(|mut segments| segments.next().is_some())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Health;
    use super::*;

    #[test]
    fn old_blocks_and_logs_are_told_with_their_volume() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(examine(folder.path()).health, Health::Good);
        let chunks = folder.path().join("uuid-a/rawstaging/chunks/0/4");
        fs::create_dir_all(&chunks).unwrap();
        fs::write(chunks.join("4101_0_2097152"), "x").unwrap();
        let young = examine(folder.path());
        assert_eq!(young.health, Health::Good);
        assert!(young.seen.starts_with("1 blocks (2 MiB"), "{}", young.seen);
        let old = SystemTime::now() - Duration::from_secs(7200);
        fs::File::open(chunks.join("4101_0_2097152")).unwrap().set_modified(old).unwrap();
        assert!(examine(folder.path()).cure.ends_with("UUID uuid-a"));
        fs::create_dir_all(folder.path().join("uuid-b/log")).unwrap();
        fs::write(folder.path().join("uuid-b/log/0000000001"), "x").unwrap();
        let both = examine(folder.path());
        assert_eq!(both.health, Health::Poor);
        assert!(both.cure.ends_with("uuid-a or uuid-b") && both.seen.contains("in a log"));
    }
}
