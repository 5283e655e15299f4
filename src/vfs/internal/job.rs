//! A message in work: who asked, what that caller may do, how far it is, and whether it is still
//! wanted.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::meta::Rule;
use crate::types::Attr;
use crate::vfs::error::Done;
use crate::vfs::op::Caller;

/// What it takes to change the names of a directory.
const WRITE_AND_SEARCH: u16 = 3;
/// The bits of a mode that are the group's, or the mask of an access control list.
const GROUP_CLASS: u16 = 0o070;

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

    /// EACCES unless the caller may change names in this directory, which may have an access
    /// control list: the kernel does not ask here, and this is what it would ask.
    pub fn may_change(&self, dir: &Attr, list: Option<&Rule>) -> Done<()> {
        let uid = self.caller.uid;
        let may = match list {
            _ if uid == 0 => true,
            _ if uid == dir.uid => suffices(dir.mode >> 6),
            // Where the mask is empty the kernel looks at the bits alone.
            Some(list) if dir.mode & GROUP_CLASS != 0 => self.is_let_in(list, dir.gid),
            _ if self.is_in(dir.gid) => suffices(dir.mode >> 3),
            _ => suffices(dir.mode),
        };
        if may { Ok(()) } else { Err(Errno::ACCESS.into()) }
    }

    fn is_in(&self, group: u32) -> bool {
        self.caller.gid == group || self.groups.contains(&group)
    }

    /// Whether a list lets the caller in who is not the owner, in the order that acl(5) tells.
    fn is_let_in(&self, list: &Rule, owning_group: u32) -> bool {
        let masked = |perm: u16| suffices(perm & list.mask);
        if let Some(user) = list.users.iter().find(|user| user.id == self.caller.uid) {
            return masked(user.perm);
        }
        let owning = self.is_in(owning_group).then_some(list.group);
        let named = list.groups.iter().filter(|group| self.is_in(group.id));
        let mut groups = owning.into_iter().chain(named.map(|group| group.perm)).peekable();
        match groups.peek() {
            Some(_) => groups.any(masked),
            None => suffices(list.other),
        }
    }
}

fn suffices(perm: u16) -> bool {
    perm & WRITE_AND_SEARCH == WRITE_AND_SEARCH
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
    use crate::meta::{Named, UNSET};
    use crate::types::{FileType, Time};

    /// Whether it is allowed in a directory of user 5 and group 6.
    fn asked((uid, gid, groups): (u32, u32, &[u32]), mode: u16, list: Option<&Rule>) -> bool {
        let dir = Attr { uid: 5, gid: 6, ..Attr::new(FileType::Dir, mode, Time::default()) };
        let caller = Caller { uid, gid, pid: 0 };
        let job = Job { groups: groups.to_vec(), ..Job::new(caller, Arc::default()) };
        job.may_change(&dir, list).is_ok()
    }

    #[test]
    fn a_removal_asks_what_the_kernel_would_ask() {
        let may = |uid, gid, groups: &[u32], mode| asked((uid, gid, groups), mode, None);
        assert!(may(0, 0, &[], 0));
        assert!(may(5, 9, &[], 0o300) && !may(5, 6, &[], 0o277));
        assert!(may(7, 6, &[], 0o030) && may(7, 8, &[9, 6], 0o030));
        assert!(may(7, 8, &[], 0o003) && !may(7, 8, &[], 0o770) && !may(7, 8, &[], 0o002));
    }

    #[test]
    fn a_removal_asks_the_access_control_list() {
        let list = |group, mask, other| Rule {
            owner: 7,
            group,
            mask,
            other,
            users: vec![Named { id: 70, perm: 7 }, Named { id: 71, perm: 4 }],
            groups: vec![Named { id: 80, perm: 7 }, Named { id: 81, perm: 5 }],
        };
        let may = |uid, gid, groups: &[u32], list: &Rule| {
            asked((uid, gid, groups), list.mode(), Some(list))
        };
        let open = list(5, 7, 7);
        assert!(may(0, 0, &[], &list(0, 0, 0)) && may(5, 9, &[], &open));
        // A named user is judged by the own entry alone, groups by the best of theirs.
        assert!(may(70, 9, &[], &open) && !may(71, 80, &[], &open));
        assert!(may(7, 80, &[81], &open) && may(7, 81, &[6, 80], &open));
        assert!(!may(7, 6, &[81], &open) && !may(7, 9, &[81], &open));
        assert!(may(7, 9, &[10], &open) && !may(7, 9, &[10], &list(7, 7, 4)));
        // The mask holds for everybody but owner and others.
        let masked = list(7, 5, 7);
        assert!(!may(70, 9, &[], &masked) && !may(7, 80, &[], &masked) && !may(7, 6, &[], &masked));
        assert!(may(5, 9, &[], &masked) && may(7, 9, &[], &masked));
        // The owner's bits count, also where the owner is named.
        assert!(!asked((5, 80, &[]), 0o577, Some(&open)));
        let minimal = Rule { mask: UNSET, users: vec![], groups: vec![], ..list(7, 0, 0) };
        assert!(may(7, 6, &[], &minimal) && !may(7, 9, &[], &minimal));
    }

    #[test]
    fn groups_are_those_of_the_process() {
        let own: Vec<_> = rustix::process::getgroups().unwrap();
        let own: Vec<_> = own.iter().map(|group| group.as_raw()).collect();
        assert_eq!(groups(std::process::id()), own);
        assert!(groups(0).is_empty());
    }
}
