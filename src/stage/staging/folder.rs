//! One cache folder as the staging area has it: its files, its log, and whether its disk works.
//!
//! Owns the rule of which errors take a folder out, for good, and how full its disk is. Does not own
//! what is kept there.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::files::Files;
use super::log::{Found, Log, LogError};
use super::medium::Medium;
use super::sync::Rounds;
use crate::limits::STAGING_SEGMENT_BYTES;
use crate::stage::cache::BlockCache;
use crate::stage::cache::space::Disk;
use crate::stdx::monotonic_ns;

/// How long the view of the free space is good for.
const VIEW_NS: u64 = 1_000_000_000;

/// How full a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// There is room.
    Roomy,
    /// What must stay free is used.
    Pressed,
    /// Half of that is used: nothing more comes here.
    Full,
}

/// A cache folder.
pub(super) struct Folder<M: Medium> {
    /// Its path, for people.
    pub(super) name: String,
    /// Its place on the ring.
    pub(super) identity: String,
    pub(super) medium: Arc<M>,
    pub(super) files: Files<M>,
    /// The same folder as the cache has it.
    pub(super) cache: Option<(Arc<BlockCache>, usize)>,
    /// Where it is in the system's files.
    pub(super) root: Option<PathBuf>,
    /// Rounds of bringing files and their names to the disk.
    pub(super) rounds: Rounds,
    /// Bytes of a segment of its log.
    pub(super) segment_bytes: u32,
    log: OnceLock<Log<M>>,
    opening: Mutex<()>,
    lost: OnceLock<String>,
    /// Others may have it.
    given_up: AtomicBool,
    free_ratio: f64,
    view: Mutex<Option<(u64, Fill)>>,
    /// Held while this process may keep blocks here.
    lock: Mutex<Option<fs::File>>,
}

impl<M: Medium> Folder<M> {
    pub(super) fn new(name: String, identity: String, medium: Arc<M>, files: Files<M>) -> Self {
        Self {
            name,
            identity,
            medium,
            files,
            cache: None,
            root: None,
            rounds: Rounds::new(0),
            segment_bytes: STAGING_SEGMENT_BYTES,
            log: OnceLock::new(),
            opening: Mutex::new(()),
            lost: OnceLock::new(),
            given_up: AtomicBool::new(false),
            free_ratio: 0.0,
            view: Mutex::new(None),
            lock: Mutex::new(None),
        }
    }

    /// It lies in the system's files at `root`, of whose disk this part stays free.
    pub(super) fn at(mut self, root: PathBuf, lock: fs::File, free_ratio: f64) -> Self {
        (self.root, self.lock, self.free_ratio) = (Some(root), Mutex::new(Some(lock)), free_ratio);
        self
    }

    /// Nothing here touches the folder any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Let another process have the folder, and the log that it may make there.
    pub(super) fn unlock(&self) {
        self.given_up.store(true, Ordering::Release);
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why it was taken out.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// It is taken out; whether that is news.
    pub(super) fn lose(&self, reason: &str) -> bool {
        self.lost.set(reason.to_owned()).is_ok()
    }

    /// The log, if there is one and it is ours.
    pub(super) fn log(&self) -> Option<&Log<M>> {
        self.log.get().filter(|_| !self.is_given_up())
    }

    /// The log, made or opened if it is not yet.
    pub(super) fn need_log(&self, found: &mut dyn FnMut(Found)) -> Result<&Log<M>, LogError> {
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.log.get().is_none() {
            let log = Log::open(Arc::clone(&self.medium), self.segment_bytes, found)?;
            // The lock is held: nobody else sets it.
            let _ = self.log.set(log);
        }
        Ok(self.log.get().expect("set above"))
    }

    /// Whether a record of the log is on the disk.
    pub(super) fn has_record(&self, number: u64) -> bool {
        self.log().is_some_and(|log| number <= log.synced())
    }

    /// How full the disk is, at most a second ago.
    pub(super) fn fill(&self) -> Fill {
        let Some(root) = &self.root else { return Fill::Roomy };
        let now_ns = monotonic_ns();
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen_ns, fill)) = *view
            && now_ns - seen_ns < VIEW_NS
        {
            return fill;
        }
        // Who cannot tell lets the write tell.
        let fill = Disk::of(root).map_or(Fill::Roomy, |disk| fill_of(disk, self.free_ratio));
        *view = Some((now_ns, fill));
        fill
    }

    /// The disk said that it is full.
    pub(super) fn is_full(&self) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((monotonic_ns(), Fill::Full));
    }
}

fn fill_of(disk: Disk, ratio: f64) -> Fill {
    let free = |supply: crate::stage::cache::space::Supply| match supply.total {
        // Some file systems count no inodes.
        0 => 1.0,
        total => supply.free as f64 / total as f64,
    };
    let free = free(disk.bytes).min(free(disk.inodes));
    if free < ratio / 2.0 {
        Fill::Full
    } else if free < ratio {
        Fill::Pressed
    } else {
        Fill::Roomy
    }
}

/// Whether an error says that the disk does not work. A disk that is full, a file that is gone or a
/// process without descriptors says nothing of that kind.
pub(super) fn is_broken(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::NOENT,
        Errno::INTR,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::AGAIN,
    ];
    let known = error.raw_os_error().map(Errno::from_raw_os_error);
    known.is_some_and(|errno| !passing.contains(&errno))
}

/// Whether an error says that the disk is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::cache::space::Supply;

    #[test]
    fn half_of_what_stays_free_is_the_end() {
        let supply = |free| Supply { total: 1000, free };
        let disk = |bytes, inodes| Disk { bytes: supply(bytes), inodes: supply(inodes) };
        assert_eq!(fill_of(disk(100, 500), 0.1), Fill::Roomy);
        assert_eq!(fill_of(disk(99, 500), 0.1), Fill::Pressed);
        assert_eq!(fill_of(disk(500, 50), 0.1), Fill::Pressed);
        assert_eq!(fill_of(disk(500, 49), 0.1), Fill::Full);
        let uncounted = Disk { bytes: supply(500), inodes: Supply { total: 0, free: 0 } };
        assert_eq!(fill_of(uncounted, 0.1), Fill::Roomy);
    }

    #[test]
    fn a_disk_that_fails_is_told_from_one_that_is_full() {
        let error = |errno: rustix::io::Errno| io::Error::from(errno);
        for errno in [rustix::io::Errno::IO, rustix::io::Errno::ROFS, rustix::io::Errno::NXIO] {
            assert!(is_broken(&error(errno)) && !is_full(&error(errno)));
        }
        let full = error(rustix::io::Errno::NOSPC);
        assert!(is_full(&full) && !is_broken(&full));
        assert!(!is_broken(&error(rustix::io::Errno::NOENT)));
    }
}
