//! getattr, setattr, truncation, and how fetched attributes meet what was written here.

use std::rc::Rc;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::inode::{Inode, News};
use super::op::{Reply, SetAttr, SetTime};
use crate::errno::Cause;
use crate::meta::Wanted;
use crate::stdx::now;
use crate::types::{Attr, FILE_BYTES_END, FileType, Ino, Time};

/// Set-user-id and set-group-id.
const PRIVILEGES: u16 = 0o6000;

impl Vfs {
    pub(super) async fn getattr(&self, ino: Ino) -> Done {
        let (attr, attr_ttl_ns) = self.attr(ino).await?;
        Ok(Reply::Attr { ino, attr, attr_ttl_ns })
    }

    /// Attributes, with what was written here, and how long the kernel may keep them; as metadata
    /// tells, or told within `--open-cache`.
    pub(super) async fn attr(&self, ino: Ino) -> Done<(Attr, u64)> {
        let ttl_ns = self.attr_lifetime_ns(ino);
        if self.config.open_cache_ns > 0
            && let Some(inode) = self.shared.inodes.get(ino)
            && let Some(attr) = inode.cached(self.open_cache_ns())
        {
            return Ok((attr, ttl_ns));
        }
        if let Some(told) = self.shared.told.recall(ino, ttl_ns, &self.shared.changes) {
            return Ok(told);
        }
        let began = self.shared.changes.now();
        let mut attr = self.meta.getattr(ino).await?;
        let attr_ttl_ns = self.settle(ino, &mut attr, began);
        Ok((attr, attr_ttl_ns))
    }

    /// Correct attributes that a fetch begun at change `began` told; how long the kernel may keep
    /// them.
    pub(super) fn settle(&self, ino: Ino, attr: &mut Attr, began: u64) -> u64 {
        let ttl_ns = self.attr_lifetime_ns(ino);
        let mut changed = self.shared.changes.since(ino, began);
        if attr.kind == FileType::File {
            match self.shared.inodes.get(ino) {
                Some(inode) => changed |= self.fold(&inode, attr, began).touched,
                None => changed |= self.add_unpublished(ino, attr),
            }
        }
        if changed {
            return 0;
        }
        if attr.kind == FileType::Dir {
            self.shared.told.keep(ino, attr, began);
        }
        ttl_ns
    }

    /// As [`Vfs::settle`], of an inode at hand.
    pub(super) fn fold(&self, inode: &Inode, attr: &mut Attr, began: u64) -> News {
        self.unsettle(inode);
        let late = if inode.is_settled() { None } else { self.late_mtime(inode.ino) };
        let news = inode.fold(attr, began, late, self.config.open_cache_ns > 0);
        if news.content {
            self.data.invalidate(inode.ino);
        }
        if self.config.watch && self.shared.changes.since(inode.ino, began) {
            inode.forget_told();
        }
        news
    }

    /// The latest mtime of writes that are not committed, or just were.
    fn late_mtime(&self, ino: Ino) -> Option<Time> {
        let committed = self.data.take_committed_attr(ino).map(|attr| attr.mtime);
        committed.max(self.data.pending(ino).map(|pending| pending.mtime))
    }

    /// This mount changed attributes or names of an inode.
    pub(super) fn changed(&self, ino: Ino) {
        self.shared.changes.note(ino);
        if self.config.open_cache_ns > 0
            && let Some(inode) = self.shared.inodes.get(ino)
        {
            inode.attributes_set();
        }
    }

    pub(super) async fn setattr(self: &Rc<Self>, ino: Ino, set: &SetAttr) -> Done {
        let began = self.shared.changes.now();
        if ino >= Ino::VIRTUAL && !ino.is_trash() {
            return Err(Errno::PERM.into());
        }
        if ino == Ino::TRASH {
            // As with the real client: it seems to work.
            let attr = self.meta.getattr(ino).await?;
            return Ok(Reply::Attr { ino, attr, attr_ttl_ns: self.config.attr_ttl_ns });
        }
        let mut resized = None;
        if let Some(length) = set.size {
            resized = Some(self.truncate(ino, length).await?);
        }
        let mut attr = match (resized, wanted(set)) {
            (Some(attr), wanted) if !asks(&wanted, &attr) => attr,
            (None, wanted) if wanted == Wanted::default() => self.meta.getattr(ino).await?,
            (_, wanted) => self.set(ino, &wanted).await?,
        };
        let attr_ttl_ns = self.settle(ino, &mut attr, began);
        self.changed(ino);
        Ok(Reply::Attr { ino, attr, attr_ttl_ns })
    }

    async fn set(self: &Rc<Self>, ino: Ino, wanted: &Wanted) -> Done<Attr> {
        if wanted.mtime.is_none() {
            return Ok(self.meta.setattr(ino, wanted).await?);
        }
        let inode = self.shared.inodes.get(ino);
        let dirty = self.data.pending(ino).is_some();
        let _turn = match &inode {
            Some(inode) if dirty => Some(inode.turns.alone().await),
            _ => None,
        };
        if dirty {
            // A commit moves mtime, whatever time it carries: those of earlier writes go first.
            self.flush_known(ino, inode.as_deref()).await?;
        }
        let attr = self.meta.setattr(ino, wanted).await?;
        if let Some(inode) = &inode {
            inode.attributes_set();
        }
        Ok(attr)
    }

    /// Change the length of a file; the attributes afterwards. What is dirty is committed first,
    /// so that it cannot land on top.
    pub(super) async fn truncate(self: &Rc<Self>, ino: Ino, length: u64) -> Done<Attr> {
        if ino >= Ino::VIRTUAL {
            return Err(Errno::PERM.into());
        }
        if length >= FILE_BYTES_END {
            return Err(Cause::TooLarge);
        }
        let Some(inode) = self.shared.inodes.get(ino) else {
            self.commit_first(ino, None).await?;
            let attr = self.meta.truncate(ino, length).await?;
            self.data.invalidate(ino);
            return Ok(attr);
        };
        let _turn = inode.turns.alone().await;
        self.commit_first(ino, Some(&inode)).await?;
        let attr = self.meta.truncate(ino, length).await?;
        self.resized(&inode, &attr);
        Ok(attr)
    }

    /// This mount changed the layout of a file in metadata.
    pub(super) fn resized(&self, inode: &Inode, attr: &Attr) {
        self.data.invalidate(inode.ino);
        inode.resized(attr, self.shared.changes.next());
    }

    /// Clear set-user-id and set-group-id as a write by another user does.
    pub(super) async fn drop_privileges(&self, inode: &Inode) -> Done<()> {
        if inode.mode() & PRIVILEGES == 0 {
            return Ok(());
        }
        let wanted = Wanted { kill_priv: true, ..Wanted::default() };
        let began = self.shared.changes.now();
        let mut attr = self.meta.setattr(inode.ino, &wanted).await?;
        self.fold(inode, &mut attr, began);
        self.changed(inode.ino);
        Ok(())
    }
}

/// Whether anything is left to do after the length was changed.
fn asks(wanted: &Wanted, attr: &Attr) -> bool {
    let kills = wanted.kill_priv && attr.mode & PRIVILEGES != 0;
    kills || Wanted { kill_priv: false, ..*wanted } != Wanted::default()
}

fn wanted(set: &SetAttr) -> Wanted {
    Wanted {
        mode: set.mode,
        uid: set.uid,
        gid: set.gid,
        atime: set.atime.map(concrete),
        mtime: set.mtime.map(concrete),
        flags: None,
        kill_priv: set.kill_priv,
    }
}

/// Times before 1970 become now, as with the real client.
fn concrete(time: SetTime) -> Time {
    match time {
        SetTime::At(time) if time.sec >= 0 => time,
        SetTime::At(_) | SetTime::Now => now(),
    }
}
