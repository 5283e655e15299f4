//! Blocks in a cache folder that wait for their upload, counted from outside of a mount.
//!
//! Owns counting the files that every client finds there: after the end of a mount, small blocks are files,
//! too. Does not know whether they are readable (`stage`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where they are, below the folder of a volume.
const STAGED: &str = "rawstaging";

/// What is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Age of the oldest, ms.
    pub oldest_age_ms: u64,
    /// Folders of volumes with blocks.
    pub folders: Vec<PathBuf>,
}

impl Leftovers {
    /// Those of these folders of volumes.
    pub fn of(folders: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for folder in folders {
            let before = all.blocks;
            all.add(&folder.join(STAGED), SystemTime::now());
            if all.blocks > before {
                all.folders.push(folder.clone());
            }
        }
        all
    }

    fn add(&mut self, dir: &Path, now: SystemTime) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path(), now);
                continue;
            }
            let Some(len_bytes) = block_bytes(&entry.file_name().to_string_lossy()) else {
                continue;
            };
            let age = entry.metadata().and_then(|found| found.modified()).ok();
            let age = age.and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
            self.blocks += 1;
            self.bytes += len_bytes;
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.oldest_age_ms = self.oldest_age_ms.max(age_ms);
        }
    }
}

/// The length in the name of a block, `SLICE_INDEX_LENGTH`.
fn block_bytes(name: &str) -> Option<u64> {
    let numbers: Vec<u64> = name.split('_').map(str::parse).collect::<Result<_, _>>().ok()?;
    match numbers[..] {
        [_, _, len_bytes] => Some(len_bytes),
        _ => None,
    }
}

/// The folders of volumes in a cache folder.
pub fn volumes_in(cache_folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cache_folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn blocks_are_counted_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("uuid");
        assert_eq!(Leftovers::of(std::slice::from_ref(&volume)), Leftovers::default());
        let dir = volume.join("rawstaging/chunks/0/4");
        fs::create_dir_all(&dir).unwrap();
        for name in ["4101_0_65536", "4101_1_1", "4102_0_7.tmp", "other"] {
            fs::write(dir.join(name), b"x").unwrap();
        }
        let old = SystemTime::now() - Duration::from_secs(90);
        fs::File::open(dir.join("4101_1_1")).unwrap().set_modified(old).unwrap();
        let found = Leftovers::of(&volumes_in(folder.path()));
        assert_eq!((found.blocks, found.bytes), (2, 65_537));
        assert!((90_000..100_000).contains(&found.oldest_age_ms), "{found:?}");
        assert_eq!(found.folders, [volume]);
    }
}
