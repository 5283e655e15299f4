//! chmod, chown, utimes, inode flags.

use rustix::io::Errno;

use super::set_node;
use crate::meta::txn::{Commit, Expect, Mutation, NodeField, Patch, SetNode};
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

/// When an access moves the access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    /// When it is not younger than a change, or a day old.
    Relative,
    /// Also when it is older than a second.
    Strict,
}

/// Seconds after which an access time moves, by mode.
const RELATIVE_AGE_S: i64 = 86_400;
const STRICT_AGE_S: i64 = 1;

/// The commit by which an access moves the access time, if it does.
pub(in crate::meta) fn touch(ino: Ino, node: &Attr, atime: Atime, now: Time) -> Option<Commit> {
    let age_s = now.sec - node.atime.sec;
    let due = node.mtime > node.atime
        || node.ctime > node.atime
        || age_s > RELATIVE_AGE_S
        || atime == Atime::Strict && age_s > STRICT_AGE_S;
    due.then(|| Commit {
        expects: vec![Expect::Node(ino, node.kind)],
        mutations: vec![Mutation::Patch(ino, Patch { atime: Some(now), ..Patch::default() })],
        returns: vec![ino],
    })
}

/// The commit, or `None` when nothing changes; the node as it will be. `access_acl` is the id of its
/// access list with the new permission bits, if it has one.
pub(in crate::meta) fn setattr(
    ino: Ino,
    node: &Attr,
    wanted: &Wanted,
    access_acl: u32,
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
    after.access_acl = access_acl;
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
        acl: (access_acl != node.access_acl).then_some((access_acl, node.default_acl)),
        ..SetNode::default()
    };
    let relied = vec![
        NodeField::Mode(node.kind, node.mode),
        NodeField::Uid(node.uid),
        NodeField::Gid(node.gid),
        NodeField::Flags(node.flags),
        NodeField::Acl(node.access_acl, node.default_acl),
    ];
    Ok(Some((set_node(ino, relied, set), after)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_move_the_time_when_they_are_due() {
        let at = |sec| Time { sec, nsec: 0 };
        let mut node = Attr { atime: at(1000), ..Attr::new(FileType::File, 0o644, at(900)) };
        let moves = |node: &Attr, atime, sec| touch(Ino(5), node, atime, at(sec)).is_some();
        assert!(!moves(&node, Atime::Relative, 1002) && moves(&node, Atime::Strict, 1002));
        assert!(!moves(&node, Atime::Strict, 1001));
        assert!(moves(&node, Atime::Relative, 1000 + 86_401));
        node.mtime = at(1001);
        assert!(moves(&node, Atime::Relative, 1002));
    }
}
