//! chmod, chown, utimes, inode flags.

use rustix::io::Errno;

use crate::meta::txn::{Commit, Expect, Mutation, NodeField, SetNode};
use crate::types::{Attr, FLAG_IMMUTABLE, FileType, Ino, Time};

/// What a setattr asks for; times are already concrete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// New permission bits.
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New access time.
    pub atime: Option<Time>,
    /// New modification time.
    pub mtime: Option<Time>,
    /// New inode flags.
    pub flags: Option<u8>,
    /// Clear suid and sgid as a write does.
    pub kill_priv: bool,
}

/// The commit, or `None` when nothing changes; the node as it will be.
pub(in crate::meta) fn setattr(
    ino: Ino,
    node: &Attr,
    wanted: &Wanted,
    now: Time,
) -> Result<Option<(Commit, Attr)>, Errno> {
    if node.parent > Ino::TRASH || node.flags & FLAG_IMMUTABLE != 0 && wanted.flags.is_none() {
        return Err(Errno::PERM);
    }
    let mut after = node.clone();
    after.uid = wanted.uid.unwrap_or(node.uid);
    after.gid = wanted.gid.unwrap_or(node.gid);
    after.flags = wanted.flags.unwrap_or(node.flags);
    after.mode = mode_after(node, wanted);
    after.atime = wanted.atime.unwrap_or(node.atime);
    after.mtime = wanted.mtime.unwrap_or(node.mtime);
    let asked = wanted.uid.is_some() || wanted.gid.is_some() || wanted.mode.is_some();
    if after == *node && !asked {
        return Ok(None);
    }
    after.ctime = now;
    let set = SetNode {
        flags: wanted.flags,
        mode: (after.mode != node.mode || wanted.mode.is_some()).then_some(after.mode),
        uid: wanted.uid,
        gid: wanted.gid,
        atime: wanted.atime,
        mtime: wanted.mtime,
        ctime: Some(now),
        ..SetNode::default()
    };
    let relied = vec![
        NodeField::Mode(node.kind, node.mode),
        NodeField::Uid(node.uid),
        NodeField::Gid(node.gid),
        NodeField::Flags(node.flags),
    ];
    let commit = Commit {
        expects: vec![Expect::NodeFields(ino, relied)],
        mutations: vec![Mutation::Set(ino, set)],
        returns: vec![ino],
    };
    Ok(Some((commit, after)))
}

/// chown and writes clear suid, and sgid where the group may execute.
fn mode_after(node: &Attr, wanted: &Wanted) -> u16 {
    let mut mode = wanted.mode.map_or(node.mode, |mode| mode & 0o7777);
    let chowned = (wanted.uid.is_some() || wanted.gid.is_some()) && wanted.mode.is_none();
    if node.kind != FileType::Dir && (chowned || wanted.kill_priv) && mode & 0o6000 != 0 {
        mode &= !0o4000;
        if mode & 0o010 != 0 {
            mode &= !0o2000;
        }
    }
    mode
}
