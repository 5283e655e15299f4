//! Operations on one node: attributes, links, extended attributes, locks.

use rustix::io::Errno;

use super::acl::rule_in;
use super::{Meta, node_in, now};
use crate::meta::engine::EngineError;
use crate::meta::plan::attr::{Atime, Wanted, setattr, touch};
use crate::meta::plan::remove::{drop_sustained, forget_sustained};
use crate::meta::slices::MetaError;
use crate::meta::txn::{Commit, Counter, Expect, Flock, Key, LockOwner, Mutation, Plock, Value};
use crate::types::{Attr, FileType, Ino, Name, Time};

/// Usage of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes charged.
    pub space: u64,
    /// Nodes.
    pub inodes: u64,
    /// Limit in bytes, 0 for none.
    pub capacity: u64,
    /// Limit in inodes, 0 for none.
    pub inode_limit: u64,
}

/// What a volume without limits reports as its size at least: 1 PiB, 10 Mi inodes.
const UNLIMITED_BYTES: u64 = 1 << 50;
const UNLIMITED_INODES: u64 = 10 << 20;
/// Permission bits of the trash, whatever is stored.
const TRASH_MODE: u16 = 0o555;

impl Usage {
    /// Size of the volume in bytes as the real client reports it.
    pub fn total_bytes(&self) -> u64 {
        match self.capacity {
            0 => doubled(UNLIMITED_BYTES, |total| total / 5 * 4 >= self.space),
            limit => limit.max(self.space),
        }
    }

    /// Inodes left, likewise.
    pub fn free_inodes(&self) -> u64 {
        match self.inode_limit {
            0 => doubled(UNLIMITED_INODES, |free| self.inodes <= free.saturating_mul(4)),
            limit => limit.saturating_sub(self.inodes),
        }
    }
}

fn doubled(first: u64, is_enough: impl Fn(u64) -> bool) -> u64 {
    let mut size = first;
    while !is_enough(size) && size < 1 << 62 {
        size *= 2;
    }
    size
}

/// From what all hold to an owner's new records (`None`: nothing left).
pub type PlockChange<'a> = dyn Fn(&[Plock]) -> Result<Option<Box<[u8]>>, Errno> + 'a;

impl Meta {
    /// Attributes; the roots of mount and trash always answer, as they do for the real client.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr, MetaError> {
        match self.node(self.real(ino)).await {
            Err(MetaError::Posix(_) | MetaError::Engine(EngineError::Corrupt { .. }))
                if ino == Ino::ROOT || ino == Ino::TRASH =>
            {
                Ok(made_up(ino))
            }
            // A volume that was loaded from a dump may hold it without any permission.
            Ok(attr) if ino == Ino::TRASH => Ok(Attr { mode: TRASH_MODE, ..attr }),
            done => done,
        }
    }

    /// Change attributes other than the length; the attributes afterwards.
    pub async fn setattr(&self, ino: Ino, wanted: &Wanted) -> Result<Attr, MetaError> {
        let ino = self.real(ino);
        let ask = |found: &[Value]| match (found, wanted.mode) {
            ([Value::Node(Some(node))], Some(_)) if node.access_acl != 0 => {
                Some(Key::Acl(node.access_acl))
            }
            _ => None,
        };
        self.with_rules(async || {
            let done = self.decide_asking([Key::Node(ino)], ask, |found| {
                let node = node_in(&found[0])?;
                let mut access_acl = node.access_acl;
                if let (Some(rule), Some(mode)) = (found.get(1), wanted.mode) {
                    let rule = rule_in(rule)?.with_mode(mode);
                    match self.shared.rulebook.id(&rule) {
                        Some(id) => access_acl = id,
                        None => return Ok((None, Err(rule))),
                    }
                }
                Ok(match setattr(ino, node, wanted, access_acl, now())? {
                    Some((commit, after)) => (Some(commit), Ok(after)),
                    None => (None, Ok(node.clone())),
                })
            });
            let (planned, nodes) = done.await?;
            Ok(planned.map(|planned| self.afterwards(ino, nodes, planned)))
        })
        .await
    }

    /// Move the access time if that is due; whether it was.
    pub async fn touch(&self, ino: Ino, atime: Atime) -> Result<bool, MetaError> {
        let ino = self.real(ino);
        let keys = [Key::Node(ino)];
        let is_due = |found: &[Value]| {
            node_in(&found[0]).is_ok_and(|node| touch(ino, node, atime, now()).is_some())
        };
        if self.shared.seen.guess(&keys).is_some_and(|guessed| !is_due(&guessed)) {
            return Ok(false);
        }
        let done = self.decide_warm(&keys, |found| {
            let commit = touch(ino, node_in(&found[0])?, atime, now());
            let moves = commit.is_some();
            Ok((commit, moves))
        });
        let (moved, nodes) = done.await?;
        if let Some(attr) = nodes.into_iter().next().flatten() {
            self.shared.seen.node(ino, &attr);
        }
        Ok(moved)
    }

    /// The attributes that a commit returned, or else those that stand for them.
    pub(super) fn afterwards(&self, ino: Ino, nodes: Vec<Option<Attr>>, otherwise: Attr) -> Attr {
        let attr = nodes.into_iter().next().flatten().unwrap_or(otherwise);
        self.shared.seen.node(ino, &attr);
        attr
    }

    /// Target of a symlink.
    pub async fn readlink(&self, ino: Ino) -> Result<Name, MetaError> {
        let found = self.asking(self.engine.fetch(&[Key::Symlink(ino)])).await?;
        match found.into_iter().next() {
            Some(Value::Symlink(Some(target))) => Ok(target),
            // Gone, or no link.
            _ => match self.node(self.real(ino)).await?.kind {
                FileType::Symlink => Err(Errno::IO.into()),
                _ => Err(Errno::INVAL.into()),
            },
        }
    }

    /// The last handle of `ino` is closed: if it has no name any more it goes; its length then.
    pub async fn drop_sustained(&self, ino: Ino) -> Result<Option<u64>, MetaError> {
        self.drop_sustained_of(self.shared.sid(), ino).await
    }

    /// As [`Self::drop_sustained`], for a file that session `sid` kept open.
    pub(super) async fn drop_sustained_of(
        &self,
        sid: u64,
        ino: Ino,
    ) -> Result<Option<u64>, MetaError> {
        let done = self.decide([Key::Node(ino)], |found| {
            Ok(match &found[0] {
                Value::Node(Some(node)) if node.nlink == 0 => {
                    (Some(drop_sustained(ino, node, sid, now())), Some(node.length))
                }
                Value::Node(node) => (Some(forget_sustained(ino, node.as_ref(), sid)), None),
                other => unreachable!("a node was asked for, not {other:?}"),
            })
        });
        Ok(done.await?.0)
    }

    /// Usage and limits.
    pub async fn usage(&self) -> Result<Usage, MetaError> {
        let keys = [Key::Counter(Counter::UsedSpace), Key::Counter(Counter::TotalInodes)];
        let found = self.asking(self.engine.fetch(&keys)).await?;
        let number =
            |value: &Value| if let Value::Counter(n) = value { (*n).max(0) as u64 } else { 0 };
        let rules = self.shared.rules();
        Ok(Usage {
            space: number(&found[0]),
            inodes: number(&found[1]),
            capacity: rules.capacity,
            inode_limit: rules.inode_limit,
        })
    }

    /// Value of an extended attribute; ENODATA if there is none.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>, MetaError> {
        let found =
            self.asking(self.engine.fetch(&[Key::Xattr(self.real(ino), name.into())])).await?;
        match found.into_iter().next() {
            Some(Value::Xattr(Some(value))) => Ok(value),
            _ => Err(Errno::NODATA.into()),
        }
    }

    /// Names of all extended attributes.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<Name>, MetaError> {
        let found = self.asking(self.engine.fetch(&[Key::XattrNames(self.real(ino))])).await?;
        match found.into_iter().next() {
            Some(Value::XattrNames(names)) => Ok(names),
            _ => Ok(Vec::new()),
        }
    }

    /// Set an extended attribute; `flags` 1 only creates, 2 only replaces.
    pub async fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), MetaError> {
        if flags > 2 {
            return Err(Errno::INVAL.into());
        }
        let ino = self.real(ino);
        let done = self.decide([Key::Xattr(ino, name.into())], |found| {
            let Value::Xattr(before) = &found[0] else {
                unreachable!("an attribute was asked for")
            };
            match (before, flags) {
                (Some(_), 1) => return Err(Errno::EXIST),
                (None, 2) => return Err(Errno::NODATA),
                _ => {}
            }
            let expects = if flags == 0 {
                vec![]
            } else {
                vec![Expect::XattrIs(ino, name.into(), before.clone())]
            };
            let mutations = vec![Mutation::PutXattr(ino, name.into(), value.into())];
            Ok((Some(Commit { expects, mutations, returns: vec![] }), ()))
        });
        done.await.map(|_| ())
    }

    /// Remove an extended attribute; ENODATA if there is none.
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), MetaError> {
        let ino = self.real(ino);
        let done = self.decide([Key::Xattr(ino, name.into())], |found| {
            let Value::Xattr(Some(before)) = &found[0] else { return Err(Errno::NODATA) };
            let expects = vec![Expect::XattrIs(ino, name.into(), Some(before.clone()))];
            let mutations = vec![Mutation::DelXattr(ino, name.into())];
            Ok((Some(Commit { expects, mutations, returns: vec![] }), ()))
        });
        done.await.map(|_| ())
    }

    /// Who is the owner of locks taken through this mount.
    pub fn lock_owner(&self, owner: u64) -> LockOwner {
        LockOwner { sid: self.shared.sid(), owner }
    }

    /// Take (`Some(exclusive)`) or give back a BSD lock; EAGAIN while others hold it.
    pub async fn flock(
        &self,
        ino: Ino,
        owner: LockOwner,
        want: Option<bool>,
    ) -> Result<(), MetaError> {
        let done = self.decide([Key::Flocks(ino)], |found| {
            let Value::Flocks(held) = &found[0] else { unreachable!("locks were asked for") };
            if let Some(exclusive) = want
                && held
                    .iter()
                    .any(|lock: &Flock| lock.owner != owner && (exclusive || lock.exclusive))
            {
                return Err(Errno::AGAIN);
            }
            let expects = vec![Expect::FlocksAre(ino, held.clone())];
            let mutations = vec![Mutation::SetFlock(ino, owner, want)];
            Ok((Some(Commit { expects, mutations, returns: vec![] }), ()))
        });
        done.await.map(|_| ())
    }

    /// Change the POSIX locks of an owner: `change` sees what all hold and answers the owner's new
    /// records (`None`: nothing left).
    pub async fn plock(
        &self,
        ino: Ino,
        owner: LockOwner,
        change: &PlockChange<'_>,
    ) -> Result<(), MetaError> {
        let done = self.decide([Key::Plocks(ino)], |found| {
            let Value::Plocks(held) = &found[0] else { unreachable!("locks were asked for") };
            let expects = vec![Expect::PlocksAre(ino, held.clone())];
            let mutations = vec![Mutation::SetPlock(ino, owner, change(held)?)];
            Ok((Some(Commit { expects, mutations, returns: vec![] }), ()))
        });
        done.await.map(|_| ())
    }

    /// All holders of BSD locks, and all of POSIX locks.
    pub async fn locks(&self, ino: Ino) -> Result<(Vec<Flock>, Vec<Plock>), MetaError> {
        let ino = self.real(ino);
        let mut found =
            self.asking(self.engine.fetch(&[Key::Flocks(ino), Key::Plocks(ino)])).await?;
        match (found.pop(), found.pop()) {
            (Some(Value::Plocks(ranges)), Some(Value::Flocks(whole))) => Ok((whole, ranges)),
            other => unreachable!("locks were asked for, not {other:?}"),
        }
    }

    /// All holders of POSIX locks.
    pub async fn plocks(&self, ino: Ino) -> Result<Vec<Plock>, MetaError> {
        let found = self.asking(self.engine.fetch(&[Key::Plocks(ino)])).await?;
        match found.into_iter().next() {
            Some(Value::Plocks(held)) => Ok(held),
            _ => Ok(Vec::new()),
        }
    }
}

fn made_up(ino: Ino) -> Attr {
    let time = Time { sec: now().sec, nsec: 0 };
    Attr::new(FileType::Dir, if ino == Ino::TRASH { TRASH_MODE } else { 0o777 }, time)
}
