//! Finding the blocks an earlier mount left.
//!
//! Owns the walk below `raw/` and the removal of half-written files. Hands over what it finds.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::folder::{Folder, TEMPORARY_END};
use crate::object::BlockKey;

/// A temporary file of this age has no writer any more.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);

/// A block that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: BlockKey,
    /// Last access, nanoseconds since 1970.
    pub(super) used_ns: u64,
    /// It waits for its upload (a second link in `rawstaging/`) and must stay.
    pub(super) staged: bool,
}

/// Walk all blocks; stops when `visit` says no.
pub(super) fn scan(folder: &Folder, visit: &mut dyn FnMut(Found) -> bool) -> io::Result<()> {
    let raw = folder.raw();
    walk(folder, &raw, &raw, visit).map(|_| ())
}

fn walk(
    folder: &Folder,
    raw: &Path,
    at: &Path,
    visit: &mut dyn FnMut(Found) -> bool,
) -> io::Result<bool> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if !walk(folder, raw, &entry.path(), visit)? {
                return Ok(false);
            }
        } else if let Some(found) = judge(folder, raw, &entry)
            && !visit(found)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a file is; a file that cannot be a whole block is removed.
fn judge(folder: &Folder, raw: &Path, entry: &DirEntry) -> Option<Found> {
    let path = entry.path();
    // It may be gone by now, which is as good.
    let info = entry.metadata().ok()?;
    let name = path.strip_prefix(raw).ok()?.to_str()?;
    let Some(key) = folder.parse(name) else {
        if name.ends_with(TEMPORARY_END) && is_old(&info) {
            let _ = fs::remove_file(&path);
        }
        return None;
    };
    if info.len() < u64::from(key.size) {
        let _ = fs::remove_file(&path);
        return None;
    }
    let used_ns = info.atime().max(0) as u64 * 1_000_000_000 + info.atime_nsec().max(0) as u64;
    Some(Found { key, used_ns, staged: info.nlink() > 1 })
}

fn is_old(info: &Metadata) -> bool {
    let age = info.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > TEMPORARY_AGE)
}
