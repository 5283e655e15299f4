//! Operations on names: lookup, make, remove, move, link.
//!
//! Owns what they mean beyond metadata: lifetimes, listings in progress, what becomes of files
//! that lost their last name. The rules are `meta`'s.

use std::rc::Rc;

use rustix::io::Errno;

use super::dir::Change;
use super::dispatch::Vfs;
use super::error::{Done, stale};
use super::notices::Notice;
use super::op::{Caller, EntryReply, Reply};
use crate::limits::SYMLINK_BYTES_END;
use crate::meta::{EXCHANGE, Made, MetaError, NO_REPLACE, NewNode, Who};
use crate::types::{Attr, FileType, Ino, Name, Time};

/// Whose node or permission it is.
pub(super) fn who(caller: Caller) -> Who {
    Who { uid: caller.uid, gid: caller.gid }
}

/// A node of a kind, as mknod(2) and its kin ask for it.
pub(super) fn new_node(kind: FileType, mode: u32, umask: u32, rdev: u32) -> NewNode {
    let bits = |bits: u32| (bits & 0o7777) as u16;
    NewNode { kind, mode: bits(mode), umask: bits(umask), rdev, target: None }
}

impl Vfs {
    pub(super) async fn lookup(&self, dir: Ino, name: &[u8]) -> Done {
        let began = self.shared.changes.now();
        match self.meta.lookup(dir, name).await {
            Ok((ino, attr)) => Ok(Reply::Entry(self.entry((dir, name), ino, attr, began))),
            Err(MetaError::Posix(Errno::NOENT)) if self.config.negative_ttl_ns > 0 => {
                let ttl_ns = self.config.negative_ttl_ns;
                let ttl_ns = self.name_lifetime_ns((dir, name), Ino(0), ttl_ns, began);
                Ok(Reply::Entry(absent(ttl_ns)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A name in a directory for the kernel, with attributes; both as a fetch begun at change `began`
    /// told.
    pub(super) fn entry(
        &self,
        place: (Ino, &[u8]),
        ino: Ino,
        mut attr: Attr,
        began: u64,
    ) -> EntryReply {
        let attr_ttl_ns = self.settle(ino, &mut attr, began);
        let is_dir = attr.kind == FileType::Dir;
        let config = &self.config;
        let ttl_ns = if is_dir { config.dir_entry_ttl_ns } else { config.entry_ttl_ns };
        let entry_ttl_ns = self.name_lifetime_ns(place, ino, ttl_ns, began);
        EntryReply { ino, attr, entry_ttl_ns, attr_ttl_ns }
    }

    pub(super) async fn make(&self, dir: Ino, name: Name, new: &NewNode, caller: Caller) -> Done {
        let began = self.shared.changes.now();
        let Made { ino, attr, dir: dir_attr } =
            self.meta.create(dir, &name, new, who(caller)).await?;
        self.dir_changed(dir, dir_attr, began);
        self.shared.listings.changed(dir, || Change::Added(name.clone(), new.kind, ino));
        let began = self.shared.changes.now();
        Ok(Reply::Entry(self.entry((dir, &name), ino, attr, began)))
    }

    pub(super) async fn mknod(
        &self,
        dir: Ino,
        name: Name,
        (mode, umask): (u32, u32),
        rdev: u32,
        caller: Caller,
    ) -> Done {
        let kind = FileType::from_mode(mode).ok_or(Errno::INVAL)?;
        if matches!(kind, FileType::Dir | FileType::Symlink) {
            return Err(Errno::PERM.into());
        }
        self.make(dir, name, &new_node(kind, mode, umask, rdev), caller).await
    }

    pub(super) async fn symlink(&self, dir: Ino, name: Name, target: Name, caller: Caller) -> Done {
        if target.len() >= SYMLINK_BYTES_END {
            return Err(Errno::NAMETOOLONG.into());
        }
        if target.is_empty() {
            return Err(Errno::INVAL.into());
        }
        let new = new_node(FileType::Symlink, 0o777, 0, 0);
        self.make(dir, name, &NewNode { target: Some(target), ..new }, caller).await
    }

    pub(super) async fn readlink(&self, ino: Ino) -> Done {
        let target = self.meta.readlink(ino).await.map_err(|error| stale(error.into()))?;
        self.accessed(ino).await;
        Ok(Reply::Bytes(target))
    }

    pub(super) async fn unlink(self: &Rc<Self>, dir: Ino, name: Name, caller: Caller) -> Done {
        let is_open = |ino| self.shared.inodes.is_open(ino);
        let began = self.shared.changes.now();
        let (removed, dir_attr) = self.meta.unlink(dir, &name, who(caller), &is_open).await?;
        self.dir_changed(dir, dir_attr, began);
        self.shared.listings.changed(dir, || Change::Removed(name));
        self.changed(removed.ino);
        self.lost_name(&removed);
        Ok(Reply::Ok)
    }

    pub(super) async fn rmdir(&self, dir: Ino, name: Name, caller: Caller) -> Done {
        let began = self.shared.changes.now();
        let (ino, dir_attr) = self.meta.rmdir(dir, &name, who(caller)).await?;
        self.dir_changed(dir, dir_attr, began);
        self.shared.listings.changed(dir, || Change::Removed(name));
        self.changed(ino);
        Ok(Reply::Ok)
    }

    pub(super) async fn rename(
        self: &Rc<Self>,
        (dir, name): (Ino, Name),
        (new_dir, new_name): (Ino, Name),
        flags: u32,
        caller: Caller,
    ) -> Done {
        let is_open = |ino| self.shared.inodes.is_open(ino);
        let (from, to) = ((dir, &*name), (new_dir, &*new_name));
        if flags & NO_REPLACE == 0 && self.shared.expects_unpublished() {
            self.commit_replacing(from, to, flags).await?;
        }
        let done = self.meta.rename(from, to, flags, who(caller), &is_open).await?;
        self.changed(done.ino);
        if let Some(other) = done.other {
            self.changed(other);
        }
        if flags & EXCHANGE == 0 {
            self.unnamed(dir, name);
        } else {
            self.moved(dir, &name).await;
        }
        self.moved(new_dir, &new_name).await;
        if let Some(removed) = done.removed {
            self.lost_name(&removed);
        }
        Ok(Reply::Ok)
    }

    /// Commit what takes the place of a file, so that other clients find the old content or the new one
    /// there, and never less.
    async fn commit_replacing(
        &self,
        (dir, name): (Ino, &[u8]),
        (new_dir, new_name): (Ino, &[u8]),
        flags: u32,
    ) -> Done<()> {
        // What is wrong with a name is told by the rename itself.
        let Ok((ino, _)) = self.meta.lookup(dir, name).await else { return Ok(()) };
        if self.data.pending(ino).is_none() && flags & EXCHANGE == 0 {
            return Ok(());
        }
        let Ok((other, _)) = self.meta.lookup(new_dir, new_name).await else { return Ok(()) };
        if ino == other {
            return Ok(());
        }
        self.commit_first(ino, self.shared.inodes.get(ino).as_deref()).await?;
        if flags & EXCHANGE != 0 {
            self.commit_first(other, self.shared.inodes.get(other).as_deref()).await?;
        }
        Ok(())
    }

    pub(super) async fn link(&self, ino: Ino, dir: Ino, name: Name) -> Done {
        if ino >= Ino::VIRTUAL {
            return Err(Errno::PERM.into());
        }
        let began = self.shared.changes.now();
        let attr = self.meta.link(ino, dir, &name).await?;
        if attr.nlink == 1 {
            self.shared.inodes.regain_name(ino);
        }
        let entry = self.entry((dir, &name), ino, attr, began);
        self.named(dir, &name, entry.attr.kind, ino);
        self.changed(ino);
        Ok(Reply::Entry(entry))
    }

    /// As [`Vfs::unlink`], though the kernel has not asked for it.
    pub(super) async fn unlink_unasked(
        self: &Rc<Self>,
        (dir, name): (Ino, Name),
        ino: Ino,
        caller: Caller,
    ) -> Done<()> {
        self.unlink(dir, name.clone(), caller).await?;
        self.shared.notices.tell(Notice::Removed { dir, name, ino }).await;
        Ok(())
    }

    /// As [`Vfs::rmdir`], though the kernel has not asked for it.
    pub(super) async fn rmdir_unasked(
        &self,
        (dir, name): (Ino, Name),
        ino: Ino,
        caller: Caller,
    ) -> Done<()> {
        self.rmdir(dir, name.clone(), caller).await?;
        self.shared.notices.tell(Notice::Removed { dir, name, ino }).await;
        Ok(())
    }

    /// Names in `dir` changed by a commit that began at change `began` and told its attributes.
    pub(super) fn dir_changed(&self, dir: Ino, attr: Option<Attr>, began: u64) {
        let (number, alone) = self.shared.changes.note_since(dir, began);
        if let (Some(attr), true) = (attr, alone) {
            self.shared.told.keep(dir, &attr, number);
        }
    }

    /// A name stands for something now.
    pub(super) fn named(&self, dir: Ino, name: &[u8], kind: FileType, ino: Ino) {
        self.changed(dir);
        self.shared.listings.changed(dir, || Change::Added(name.into(), kind, ino));
    }

    /// A name stands for nothing any more.
    pub(super) fn unnamed(&self, dir: Ino, name: Name) {
        self.changed(dir);
        self.shared.listings.changed(dir, || Change::Removed(name));
    }

    /// A name stands for something that is known only to metadata; asked if somebody lists.
    async fn moved(&self, dir: Ino, name: &[u8]) {
        self.changed(dir);
        if !self.shared.listings.watches(dir) {
            return;
        }
        match self.meta.lookup(dir, name).await {
            Ok((ino, attr)) => {
                self.changed(ino);
                self.shared.listings.changed(dir, || Change::Added(name.into(), attr.kind, ino));
            }
            Err(_) => self.shared.listings.changed(dir, || Change::Removed(name.into())),
        }
    }
}

/// What tells the kernel that a name is absent, for a while.
fn absent(entry_ttl_ns: u64) -> EntryReply {
    let time = Time::default();
    let attr = Attr { nlink: 0, parent: Ino(0), ..Attr::new(FileType::File, 0, time) };
    EntryReply { ino: Ino(0), attr, entry_ttl_ns, attr_ttl_ns: 0 }
}
