//! mknod, create, mkdir, symlink: one new node under one new name.

use rustix::io::Errno;

use super::acl::Permissions;
use super::{Rules, Who, accepts_names, count_child, relied_on, touch_dir};
use crate::meta::txn::{Commit, Counter, Expect, Mutation, NodeField};
use crate::types::{Attr, FLAG_SKIP_TRASH, FileType, Ino, Name, Time};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Type.
    pub kind: FileType,
    /// Permission bits asked for.
    pub mode: u16,
    /// Bits taken away from them.
    pub umask: u16,
    /// Device number.
    pub rdev: u32,
    /// Target of a symlink.
    pub target: Option<Name>,
}

/// Make `ino` as `name` in `dir` with these permissions; the commit and the node it makes.
pub(in crate::meta) fn create(
    (dir, parent): (Ino, &Attr),
    name: &[u8],
    (ino, permissions): (Ino, Permissions),
    new: &NewNode,
    who: Who,
    rules: &Rules,
    now: Time,
) -> Result<(Commit, Attr), Errno> {
    accepts_names(parent)?;
    let node = node_of((dir, parent), new, permissions, who, now);
    let mut relied = inherited(parent, rules);
    if parent.mode & 0o2000 != 0 {
        relied.push(NodeField::Gid(parent.gid));
    }
    // What is removed from a full volume goes into an hour of the trash, which is made for it.
    let (capacity, inode_limit) =
        if ino.is_trash() { (0, 0) } else { (rules.capacity, rules.inode_limit) };
    let expects = vec![
        Expect::NodeFields(dir, relied),
        Expect::EntryAbsent(dir, name.into()),
        Expect::Room { space: 4096, inodes: 1, capacity, inode_limit },
    ];
    let mut mutations = vec![
        Mutation::PutNode(ino, node.clone()),
        Mutation::PutEntry(dir, name.into(), new.kind, ino),
        Mutation::Add(Counter::UsedSpace, 4096),
        Mutation::Add(Counter::TotalInodes, 1),
        count_child(dir, &node, 1),
    ];
    if let Some(target) = &new.target {
        mutations.push(Mutation::PutSymlink(ino, target.clone()));
    }
    let is_dir = new.kind == FileType::Dir;
    if is_dir {
        mutations.push(Mutation::InitDirStats(ino));
    }
    mutations.extend(touch_dir(dir, i32::from(is_dir), rules, now));
    Ok((Commit { expects, mutations, returns: vec![dir] }, node))
}

/// Make `ino` a file without a name, which this session keeps until its last close or its first
/// link; the commit and the node it makes.
pub(in crate::meta) fn create_unnamed(
    (dir, parent): (Ino, &Attr),
    (ino, permissions): (Ino, Permissions),
    new: &NewNode,
    who: Who,
    rules: &Rules,
    now: Time,
) -> Result<(Commit, Attr), Errno> {
    accepts_names(parent)?;
    if rules.sid == 0 || new.kind != FileType::File {
        return Err(Errno::OPNOTSUPP);
    }
    let node = Attr { nlink: 0, ..node_of((dir, parent), new, permissions, who, now) };
    let expects = vec![
        Expect::NodeFields(dir, inherited(parent, rules)),
        Expect::Room {
            space: 4096,
            inodes: 1,
            capacity: rules.capacity,
            inode_limit: rules.inode_limit,
        },
    ];
    let mutations = vec![
        Mutation::PutNode(ino, node.clone()),
        Mutation::PutSustained(rules.sid, ino),
        Mutation::Add(Counter::UsedSpace, 4096),
        Mutation::Add(Counter::TotalInodes, 1),
    ];
    Ok((Commit { expects, mutations, returns: vec![] }, node))
}

/// Fields of a directory that a new node in it relies on.
fn inherited(parent: &Attr, rules: &Rules) -> Vec<NodeField> {
    let mut relied = relied_on(parent);
    relied.push(NodeField::Tier(parent.tier));
    if rules.acl || parent.default_acl != 0 {
        relied.push(NodeField::Acl(parent.access_acl, parent.default_acl));
    }
    relied
}

fn node_of(
    (dir, parent): (Ino, &Attr),
    new: &NewNode,
    permissions: Permissions,
    who: Who,
    now: Time,
) -> Attr {
    let inherits_group = parent.mode & 0o2000 != 0;
    let is_dir = new.kind == FileType::Dir;
    let mut mode = permissions.mode;
    if inherits_group && is_dir {
        mode |= 0o2000;
    }
    Attr {
        flags: parent.flags & FLAG_SKIP_TRASH,
        kind: new.kind,
        mode,
        uid: who.uid,
        gid: if inherits_group { parent.gid } else { who.gid },
        atime: now,
        mtime: now,
        ctime: now,
        nlink: if is_dir { 2 } else { 1 },
        length: match (&new.target, is_dir) {
            (Some(target), _) => target.len() as u64,
            (None, true) => 4096,
            (None, false) => 0,
        },
        rdev: new.rdev,
        parent: dir,
        access_acl: permissions.access_acl,
        default_acl: permissions.default_acl,
        tier: parent.tier,
    }
}
