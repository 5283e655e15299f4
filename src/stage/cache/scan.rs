//! Finding the blocks that lie in a folder.
//!
//! Owns the walk below `raw/`, and the removal of half-written files and of empty folders. Hands
//! over what it finds; leaves alone what is not of a cache.

use std::fs::{self, DirEntry, Metadata};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::{Folder, TEMPORARY_END};
use crate::object::BlockKey;

/// A temporary file of this age has no writer any more, and an empty folder none that is about to.
const LEFT_AGE: Duration = Duration::from_secs(60);

/// What a folder's scanner is asked for.
pub(super) enum Ask {
    /// Scan the folder.
    Scan,
    /// Answer when all before is done.
    #[cfg(test)]
    Settle(crossbeam_channel::Sender<()>),
}

/// A block that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: BlockKey,
    /// Last access, nanoseconds since 1970.
    pub(super) used_ns: u64,
    /// It waits for its upload (a second link in `rawstaging/`) and must stay.
    pub(super) staged: bool,
}

/// How far a walk came.
#[derive(Debug)]
pub(super) enum Walked {
    /// All that was there from beginning to end has been visited.
    All,
    /// `visit` said no.
    Stopped,
    /// Not all could be looked at; the last reason.
    Partly(io::Error),
}

/// Visit all blocks; stops when `visit` says no.
pub(super) fn scan(folder: &Folder, visit: &mut dyn FnMut(Found) -> bool) -> Walked {
    let raw = folder.raw();
    let mut walk = Walk { folder, raw: &raw, visit, failure: None };
    match (walk.enter(&raw), walk.failure) {
        (ControlFlow::Break(()), _) => Walked::Stopped,
        (ControlFlow::Continue(_), Some(error)) => Walked::Partly(error),
        (ControlFlow::Continue(_), None) => Walked::All,
    }
}

struct Walk<'a> {
    folder: &'a Folder,
    raw: &'a Path,
    visit: &'a mut dyn FnMut(Found) -> bool,
    failure: Option<io::Error>,
}

impl Walk<'_> {
    /// Visit what is in a folder; how many entries it has.
    fn enter(&mut self, at: &Path) -> ControlFlow<(), usize> {
        let mut count = 0;
        let entries = match fs::read_dir(at) {
            Ok(entries) => entries,
            Err(error) => {
                self.missed(error);
                return ControlFlow::Continue(count);
            }
        };
        for entry in entries {
            count += 1;
            let known = entry.and_then(|entry| Ok((entry.file_type()?.is_dir(), entry)));
            match known {
                Ok((true, entry)) => self.descend(&entry.path())?,
                Ok((false, entry)) => {
                    if let Some(found) = self.judge(&entry)
                        && !(self.visit)(found)
                    {
                        return ControlFlow::Break(());
                    }
                }
                Err(error) => self.missed(error),
            }
        }
        ControlFlow::Continue(count)
    }

    /// Visit a folder below; one that has been empty for a while goes.
    fn descend(&mut self, at: &PathBuf) -> ControlFlow<()> {
        if self.enter(at)? == 0
            && let Ok(info) = fs::symlink_metadata(at)
            && is_old(&info)
        {
            // It may have got something by now, and then it stays.
            let _ = fs::remove_dir(at);
        }
        ControlFlow::Continue(())
    }

    /// What vanished while we looked is not missing; all else was not seen though it may be there.
    fn missed(&mut self, error: io::Error) {
        if error.kind() != ErrorKind::NotFound {
            self.failure = Some(error);
        }
    }

    /// What a file is; a file that cannot be a whole block is removed.
    fn judge(&self, entry: &DirEntry) -> Option<Found> {
        let path = entry.path();
        // It may be gone by now, which is as good.
        let info = entry.metadata().ok().filter(Metadata::is_file)?;
        let name = path.strip_prefix(self.raw).ok()?.to_str()?;
        let Some(key) = self.folder.parse(name) else {
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
}

fn is_old(info: &Metadata) -> bool {
    let age = info.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > LEFT_AGE)
}
