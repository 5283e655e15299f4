//! What patches, settings and field checks mean for a node: pure, shared by engines that hold
//! nodes as values.

use super::txn::{NodeField, Patch, SetNode};
use crate::types::{Attr, FileType, Time};

fn as_ns(time: Time) -> i128 {
    i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec)
}

/// Whether the fields are as a plan saw them.
pub(super) fn fields_hold(attr: &Attr, fields: &[NodeField]) -> bool {
    fields.iter().all(|field| match *field {
        NodeField::Flags(flags) => attr.flags == flags,
        NodeField::Mode(kind, mode) => attr.kind == kind && attr.mode == mode,
        NodeField::Uid(uid) => attr.uid == uid,
        NodeField::Gid(gid) => attr.gid == gid,
        NodeField::Nlink(nlink) => attr.nlink == nlink,
        NodeField::Length(length) => attr.length == length,
        NodeField::Parent(parent) => attr.parent == parent,
        NodeField::Tier(tier) => attr.tier == tier,
        NodeField::Acl(access, default) => (attr.access_acl, attr.default_acl) == (access, default),
    })
}

/// Apply a patch; whether the node changed.
pub(super) fn patch(attr: &mut Attr, patch: &Patch) -> bool {
    let before = attr.clone();
    attr.nlink = attr.nlink.saturating_add_signed(patch.nlink);
    if let Some(length) = patch.length_at_least {
        attr.length = attr.length.max(length);
    }
    let age_ns = patch.mtime.map_or(i128::MAX, |now| as_ns(now) - as_ns(attr.mtime));
    let skip_ns = patch.skip_if_younger_ns;
    if patch.nlink != 0 || skip_ns == 0 || age_ns >= i128::from(skip_ns) {
        attr.mtime = patch.mtime.map_or(attr.mtime, |time| moved_to(attr, time));
        attr.ctime = patch.ctime.map_or(attr.ctime, |time| time.max(attr.ctime));
        attr.atime = patch.atime.map_or(attr.atime, |time| time.max(attr.atime));
    }
    *attr != before
}

/// The mtime of a node that changed at `time`. Who keeps the content of a file by its mtime must
/// see a change by a client whose clock is behind, too.
fn moved_to(attr: &Attr, time: Time) -> Time {
    if time >= attr.mtime || attr.kind != FileType::File {
        return time.max(attr.mtime);
    }
    let Time { sec, nsec } = attr.mtime;
    if nsec >= 999_999_999 { Time { sec: sec + 1, nsec: 0 } } else { Time { sec, nsec: nsec + 1 } }
}

/// Apply new values.
pub(super) fn set(attr: &mut Attr, set: &SetNode) {
    attr.flags = set.flags.unwrap_or(attr.flags);
    attr.mode = set.mode.unwrap_or(attr.mode);
    attr.uid = set.uid.unwrap_or(attr.uid);
    attr.gid = set.gid.unwrap_or(attr.gid);
    attr.length = set.length.unwrap_or(attr.length);
    attr.parent = set.parent.unwrap_or(attr.parent);
    attr.nlink = set.nlink.unwrap_or(attr.nlink);
    attr.atime = set.atime.unwrap_or(attr.atime);
    attr.mtime = set.mtime.unwrap_or(attr.mtime);
    attr.ctime = set.ctime.unwrap_or(attr.ctime);
    if let Some((access, default)) = set.acl {
        (attr.access_acl, attr.default_acl) = (access, default);
    }
}
