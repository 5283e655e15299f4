//! A folder tree as a sorted list of keys.
//!
//! Owns the order: by bytes of the whole key, so a folder sorts as its name with a slash. Skips
//! temporary files, names that are not UTF-8 and what vanishes while it looks.

use std::fs::{self, DirEntry, Metadata};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::io::Errno;

use super::super::{ObjectInfo, StoreError};
use super::disk::{is_temporary, sorted};

/// What is wanted, and what was found so far.
struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    start_after: &'a str,
    limit: usize,
    found: Vec<ObjectInfo>,
}

/// Keys below `root` that start with `prefix`, after `start_after`, at most `limit`.
pub(super) fn list(
    root: &Path,
    prefix: &str,
    start_after: &str,
    limit: usize,
) -> Result<Vec<ObjectInfo>, StoreError> {
    let mut walk = Walk { root, prefix, start_after, limit, found: Vec::new() };
    // Start at the deepest folder that holds all of the prefix.
    let top = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    walk.folder(top)?;
    Ok(walk.found)
}

impl Walk<'_> {
    /// All of one folder; `folder` ends with a slash, or is empty for the root.
    fn folder(&mut self, folder: &str) -> Result<(), StoreError> {
        let path = self.root.join(folder);
        for (key, info) in entries(&path, folder).map_err(|errno| sorted(errno, "list", &path))? {
            if self.found.len() >= self.limit {
                break;
            }
            if info.is_dir() {
                if self.may_hold(&key) {
                    self.folder(&key)?;
                }
            } else if key.starts_with(self.prefix) && key.as_str() > self.start_after {
                self.found.push(blob(key, &info));
            }
        }
        Ok(())
    }

    /// Whether a folder can hold a key that is wanted.
    fn may_hold(&self, folder: &str) -> bool {
        let in_prefix = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        let after = folder > self.start_after || self.start_after.starts_with(folder);
        in_prefix && after
    }
}

/// The entries of a folder as keys, sorted; folders end with a slash.
fn entries(path: &Path, folder: &str) -> Result<Vec<(String, Metadata)>, Errno> {
    let listing = match fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
                errno => Err(errno.unwrap_or(Errno::IO)),
            };
        }
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        found.extend(keyed(&entry, folder));
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}

fn keyed(entry: &DirEntry, folder: &str) -> Option<(String, Metadata)> {
    let name = entry.file_name().into_string().ok()?;
    // Through symbolic links, as opening the blob would go.
    let info = fs::metadata(entry.path()).ok()?;
    if info.is_dir() {
        return Some((format!("{folder}{name}/"), info));
    }
    (info.is_file() && !is_temporary(&name)).then(|| (format!("{folder}{name}"), info))
}

fn blob(key: String, info: &Metadata) -> ObjectInfo {
    let since_1970 = info.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    ObjectInfo {
        key,
        len_bytes: info.len(),
        mtime: since_1970.map_or(0, |time| time.as_secs() as i64),
    }
}
