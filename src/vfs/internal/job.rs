//! A message in work: who asked, how far it is, and whether it is still wanted.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::types::Attr;
use crate::vfs::error::Done;
use crate::vfs::op::Caller;

/// What it takes to change the names of a directory.
const WRITE_AND_SEARCH: u16 = 3;

/// One message in work, on one core.
pub(super) struct Job {
    /// Who asked.
    pub caller: Caller,
    /// Groups of the caller besides the first.
    groups: Vec<u32>,
    unwanted: Arc<AtomicBool>,
    /// What the tools show while they wait: files, and bytes.
    pub done: Cell<(u64, u64)>,
}

impl Job {
    /// For a caller who waits until this is made: only then its groups are known.
    pub fn new(caller: Caller, unwanted: Arc<AtomicBool>) -> Self {
        Self { caller, groups: groups(caller.pid), unwanted, done: Cell::new((0, 0)) }
    }

    /// EINTR when nobody waits for it any more.
    pub fn is_wanted(&self) -> Done<()> {
        if self.unwanted.load(Ordering::Relaxed) { Err(Errno::INTR.into()) } else { Ok(()) }
    }

    /// So many more files and bytes are done.
    pub fn add(&self, files: u64, bytes: u64) {
        let (before_files, before_bytes) = self.done.get();
        self.done.set((before_files + files, before_bytes + bytes));
    }

    /// EACCES unless the caller may change names in this directory: the kernel does not ask here.
    pub fn may_change(&self, dir: &Attr) -> Done<()> {
        let Caller { uid, gid, .. } = self.caller;
        let class = if uid == dir.uid {
            6
        } else if gid == dir.gid || self.groups.contains(&dir.gid) {
            3
        } else {
            0
        };
        match uid == 0 || dir.mode >> class & WRITE_AND_SEARCH == WRITE_AND_SEARCH {
            true => Ok(()),
            false => Err(Errno::ACCESS.into()),
        }
    }
}

/// Further groups of a process; none where it is not seen from here.
fn groups(pid: u32) -> Vec<u32> {
    let told = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or_default().split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FileType, Time};

    #[test]
    fn a_removal_asks_what_the_kernel_would_ask() {
        let dir = |mode| Attr { uid: 5, gid: 6, ..Attr::new(FileType::Dir, mode, Time::default()) };
        let may = |uid, gid, groups: &[u32], mode| {
            let caller = Caller { uid, gid, pid: 0 };
            let job = Job { groups: groups.to_vec(), ..Job::new(caller, Arc::default()) };
            job.may_change(&dir(mode)).is_ok()
        };
        assert!(may(0, 0, &[], 0));
        assert!(may(5, 9, &[], 0o300) && !may(5, 6, &[], 0o277));
        assert!(may(7, 6, &[], 0o030) && may(7, 8, &[9, 6], 0o030));
        assert!(may(7, 8, &[], 0o003) && !may(7, 8, &[], 0o770) && !may(7, 8, &[], 0o002));
    }

    #[test]
    fn groups_are_those_of_the_process() {
        let own: Vec<_> = rustix::process::getgroups().unwrap();
        let own: Vec<_> = own.iter().map(|group| group.as_raw()).collect();
        assert_eq!(groups(std::process::id()), own);
        assert!(groups(0).is_empty());
    }
}
