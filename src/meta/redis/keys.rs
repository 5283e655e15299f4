//! Names of JuiceFS's keys and fields in Redis. All numbers in them are decimal text.

use crate::meta::scan::Table;
use crate::meta::txn::{Counter, Holder, LockOwner};
use crate::types::{Ino, SliceId};

pub(super) const SETTING: &str = "setting";
pub(super) const DELETED_FILES: &str = "delfiles";
pub(super) const SLICE_REFS: &str = "sliceRef";
/// Replaced slices that are put aside.
pub(super) const DELAYED_SLICES: &str = "delSlices";
/// Rules of access control by id, and the last id handed out.
pub(super) const ACL: &str = "acl";
/// See [`ACL`].
pub(super) const ACL_MAX_ID: &str = "aclMaxId";
/// Expiry of each session.
pub(super) const SESSIONS: &str = "allSessions";
pub(super) const SESSION_INFOS: &str = "sessionInfos";
/// Sessions of clients older than 1.0.
pub(super) const OLD_SESSIONS: &str = "sessions";
/// Our own: the last batch of each client. No pattern that official commands scan matches it.
pub(super) const SEQUENCES: &str = "Uring:seq";
/// Statistics of directories: data length, space, inodes.
pub(super) const DIR_STATS: [&str; 3] = ["dirDataLength", "dirUsedSpace", "dirUsedInodes"];
/// Quotas of directories and what they count.
pub(super) const DIR_QUOTAS: [&str; 3] = ["dirQuota", "dirQuotaUsedSpace", "dirQuotaUsedInodes"];
const USER_QUOTAS: [&str; 3] = ["userQuota", "userQuotaUsedSpace", "userQuotaUsedInodes"];
const GROUP_QUOTAS: [&str; 3] = ["groupQuota", "groupQuotaUsedSpace", "groupQuotaUsedInodes"];

/// Whose quota a field is.
pub(super) type HolderOf = fn(u64) -> Option<Holder>;

/// The hashes of a table of quotas: limits, space, inodes; and whose quota a field is.
pub(super) fn quotas(table: Table) -> Option<([&'static str; 3], HolderOf)> {
    Some(match table {
        Table::DirQuotas => (DIR_QUOTAS, |ino| Some(Holder::Dir(Ino(ino)))),
        Table::UserQuotas => (USER_QUOTAS, |uid| u32::try_from(uid).ok().map(Holder::User)),
        Table::GroupQuotas => (GROUP_QUOTAS, |gid| u32::try_from(gid).ok().map(Holder::Group)),
        _ => return None,
    })
}

/// The hashes that a quota is in, and its field.
pub(super) fn quota(holder: Holder) -> ([&'static str; 3], u64) {
    match holder {
        Holder::Dir(ino) => (DIR_QUOTAS, ino.0),
        Holder::User(uid) => (USER_QUOTAS, u64::from(uid)),
        Holder::Group(gid) => (GROUP_QUOTAS, u64::from(gid)),
    }
}

pub(super) fn node(ino: Ino) -> String {
    format!("i{ino}")
}

pub(super) fn dir(ino: Ino) -> String {
    format!("d{ino}")
}

pub(super) fn parents(ino: Ino) -> String {
    format!("p{ino}")
}

pub(super) fn chunk(ino: Ino, index: u32) -> String {
    format!("c{ino}_{index}")
}

pub(super) fn symlink(ino: Ino) -> String {
    format!("s{ino}")
}

pub(super) fn xattrs(ino: Ino) -> String {
    format!("x{ino}")
}

pub(super) fn flocks(ino: Ino) -> String {
    format!("lockf{ino}")
}

pub(super) fn plocks(ino: Ino) -> String {
    format!("lockp{ino}")
}

/// The lock keys in which a session holds something.
pub(super) fn locked(sid: u64) -> String {
    format!("locked{sid}")
}

/// The inodes a session keeps open.
pub(super) fn sustained(sid: u64) -> String {
    format!("session{sid}")
}

/// The field of a slice in `sliceRef`.
pub(super) fn slice(id: SliceId, size: u32) -> String {
    format!("k{id}_{size}")
}

pub(super) fn parse_slice(field: &[u8]) -> Option<(SliceId, u32)> {
    let (id, size) = std::str::from_utf8(field).ok()?.strip_prefix('k')?.split_once('_')?;
    Some((id.parse().ok()?, size.parse().ok()?))
}

/// The field of slices put aside at `at` in favour of `by`.
pub(super) fn delayed(by: SliceId, at: i64) -> String {
    format!("{by}_{at}")
}

pub(super) fn parse_delayed(field: &[u8]) -> Option<(SliceId, i64)> {
    let (by, at) = std::str::from_utf8(field).ok()?.split_once('_')?;
    Some((by.parse().ok()?, at.parse().ok()?))
}

/// A member of the queue of deleted files: inode and length. One of another form is of a client before
/// 1.0, which queues it anew itself.
pub(super) fn parse_queued(member: &[u8]) -> Option<(Ino, u64)> {
    let (ino, length) = std::str::from_utf8(member).ok()?.split_once(':')?;
    Some((Ino(ino.parse().ok()?), length.parse().ok()?))
}

pub(super) fn counter(counter: Counter) -> &'static str {
    match counter {
        Counter::UsedSpace => "usedSpace",
        Counter::TotalInodes => "totalInodes",
        Counter::NextInode => "nextinode",
        Counter::NextChunk => "nextchunk",
        Counter::NextSession => "nextsession",
        Counter::NextTrash => "nextTrash",
    }
}

/// The field of a holder in a lock's hash.
pub(super) fn owner(owner: LockOwner) -> String {
    format!("{}_{:016X}", owner.sid, owner.owner)
}

pub(super) fn parse_owner(field: &[u8]) -> Option<LockOwner> {
    let (sid, owner) = std::str::from_utf8(field).ok()?.split_once('_')?;
    Some(LockOwner { sid: sid.parse().ok()?, owner: u64::from_str_radix(owner, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_of_locks_have_their_field() {
        let holder = LockOwner { sid: 7, owner: 0xab };
        assert_eq!(owner(holder), "7_00000000000000AB");
        assert_eq!(parse_owner(b"7_00000000000000ab"), Some(holder));
        assert_eq!(parse_owner(b"7"), None);
    }

    #[test]
    fn slices_have_their_fields() {
        assert_eq!(parse_slice(slice(7, 4096).as_bytes()), Some((7, 4096)));
        assert_eq!(parse_slice(b"7_4096"), None);
        assert_eq!(parse_delayed(delayed(7, 1_700_000_000).as_bytes()), Some((7, 1_700_000_000)));
        assert_eq!(parse_delayed(b"7"), None);
    }
}
