//! POSIX as pure functions: (request, what was read) -> commit.
//!
//! Owns the order of checks, the errno of each refusal and what a change touches
//! (docs/formats/juicefs.md). Does no I/O and asks no clock: the time is an argument.

pub(super) mod acl;
pub(super) mod attr;
pub(super) mod compact;
pub(super) mod content;
pub(super) mod create;
pub(super) mod link;
pub(super) mod quota;
pub(super) mod remove;
pub(super) mod rename;

#[cfg(test)]
mod tests;

use rustix::io::Errno;

use super::txn::{Commit, Counter, Expect, Mutation, NodeField, Patch, SetNode};
use crate::types::{
    Attr, FLAG_APPEND, FLAG_IMMUTABLE, FileType, Ino, Time, charged_bytes, child_stats,
};

/// Who asks, for the checks that the kernel leaves to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Settings of the volume and the mount that plans follow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Limit in bytes, 0 for none.
    pub capacity: u64,
    /// Limit in inodes, 0 for none.
    pub inode_limit: u64,
    /// A directory whose mtime is younger keeps its times (`--skip-dir-mtime`).
    pub skip_dir_mtime_ns: u64,
    /// Nodes may have access control lists (`EnableACL`).
    pub acl: bool,
    /// Quotas of directories hold: they need statistics of directories (`DirStats`).
    pub dir_quotas: bool,
    /// So do those of users and groups (`UserGroupQuota`): whoever owns something has one.
    pub owner_quotas: bool,
    /// Today's trash folder, when deletions go there.
    pub trash: Option<Ino>,
    /// Session id of this mount, 0 without one.
    pub sid: u64,
}

/// The change of a directory's times and links by an operation in it.
pub(super) fn touch_dir(dir: Ino, nlink: i32, rules: &Rules, now: Time) -> Option<Mutation> {
    (!dir.is_trash()).then_some(Mutation::Patch(
        dir,
        Patch {
            nlink,
            mtime: Some(now),
            ctime: Some(now),
            skip_if_younger_ns: rules.skip_dir_mtime_ns,
            ..Patch::default()
        },
    ))
}

/// Whether names in this directory may be taken away.
pub(super) fn removable_from(dir: &Attr) -> Result<(), Errno> {
    if dir.kind != FileType::Dir {
        return Err(Errno::NOTDIR);
    }
    unchangeable(dir)
}

/// EPERM for immutable and append-only nodes.
pub(super) fn unchangeable(attr: &Attr) -> Result<(), Errno> {
    if attr.flags & (FLAG_IMMUTABLE | FLAG_APPEND) != 0 { Err(Errno::PERM) } else { Ok(()) }
}

/// Whether names may be put into this directory.
pub(super) fn accepts_names(dir: &Attr) -> Result<(), Errno> {
    if dir.kind != FileType::Dir {
        return Err(Errno::NOTDIR);
    }
    if dir.parent > Ino::TRASH {
        return Err(Errno::NOENT);
    }
    if dir.flags & FLAG_IMMUTABLE != 0 { Err(Errno::PERM) } else { Ok(()) }
}

/// The sticky bit: only the owner of the node, of the directory, or root may take a name away.
pub(super) fn sticky(dir: &Attr, node: &Attr, who: Who) -> Result<(), Errno> {
    let held = who.uid != 0 && dir.mode & 0o1000 != 0 && who.uid != dir.uid && who.uid != node.uid;
    if held { Err(Errno::ACCESS) } else { Ok(()) }
}

/// What [`sticky`] relied on, where the sticky bit let the owners decide.
pub(super) fn owners(
    (dir, parent): (Ino, &Attr),
    (ino, node): (Ino, &Attr),
    who: Who,
) -> impl Iterator<Item = Expect> {
    let matter = who.uid != 0 && parent.mode & 0o1000 != 0;
    let seen = [(dir, parent.uid), (ino, node.uid)];
    let expects = seen.map(|(ino, uid)| Expect::NodeFields(ino, vec![NodeField::Uid(uid)]));
    expects.into_iter().filter(move |_| matter)
}

/// Fields of a directory that permission to change its names relies on.
pub(super) fn relied_on(dir: &Attr) -> Vec<NodeField> {
    vec![NodeField::Mode(dir.kind, dir.mode), NodeField::Flags(dir.flags)]
}

/// The commit that sets fields of one node, as long as those it relies on stay.
pub(super) fn set_node(ino: Ino, relied: Vec<NodeField>, set: SetNode) -> Commit {
    Commit {
        expects: vec![Expect::NodeFields(ino, relied)],
        mutations: vec![Mutation::Set(ino, set)],
        returns: vec![ino],
    }
}

/// What the statistics of a directory count for one child: data length, space, inodes.
pub(super) fn counted(attr: &Attr) -> (i64, i64, i64) {
    let [length, space, inodes] = child_stats(attr.kind, attr.length);
    (length, space, inodes)
}

/// Count a child in (`sign` 1) or out (-1) of a directory.
pub(super) fn count_child(dir: Ino, attr: &Attr, sign: i64) -> Mutation {
    let (length, space, inodes) = counted(attr);
    Mutation::AddDirStats(dir, sign * length, sign * space, sign * inodes)
}

/// The node is gone for good: counters follow.
pub(super) fn uncount(commit: &mut Commit, attr: &Attr) {
    commit
        .mutations
        .push(Mutation::Add(Counter::UsedSpace, -charged_bytes(attr.kind, attr.length)));
    commit.mutations.push(Mutation::Add(Counter::TotalInodes, -1));
}

/// The name of something in the trash: `<parent>-<inode>-<name>`, cut at 255 bytes.
pub(super) fn trash_name(parent: Ino, ino: Ino, name: &[u8]) -> Box<[u8]> {
    let mut full = format!("{parent}-{ino}-").into_bytes();
    full.extend_from_slice(name);
    full.truncate(crate::types::NAME_BYTES_MAX);
    full.into()
}
