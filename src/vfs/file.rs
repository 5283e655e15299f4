//! Opening, making and closing files.
//!
//! Owns handles' flags and what the kernel is told to keep. As close-to-open asks, an open fetches
//! the attributes; a changed mtime drops what is kept of the content.

use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::dir::Change;
use super::dispatch::Vfs;
use super::error::{Done, stale};
use super::handle::{FileHandle, writes};
use super::inode::{End, Inode};
use super::names::{new_node, who};
use super::op::{Caller, Reply};
use crate::errno::Cause;
use crate::meta::{Made, MetaError};
use crate::types::{Attr, FLAG_APPEND, FLAG_IMMUTABLE, FileType, Ino, Name};

/// The kernel's numbers for what it may do with an open file.
const DIRECT_IO: u32 = 1;
const KEEP_CACHE: u32 = 2;
const NO_FLUSH: u32 = 32;
const PARALLEL_DIRECT_WRITES: u32 = 64;

fn has(flags: u32, bit: i32) -> bool {
    flags as i32 & bit != 0
}

/// An inode counted as open, until it is kept in a handle or this is dropped.
struct Opening<'a> {
    vfs: &'a Rc<Vfs>,
    inode: Option<Arc<Inode>>,
}

impl<'a> Opening<'a> {
    /// Count first, ask then: who unlinks meanwhile knows of it.
    fn new(vfs: &'a Rc<Vfs>, ino: Ino) -> Done<Self> {
        Ok(Self { vfs, inode: Some(vfs.shared.inodes.open(ino)?) })
    }

    fn inode(&self) -> &Arc<Inode> {
        self.inode.as_ref().expect("an opening holds its inode")
    }

    /// The handle that keeps it open.
    fn keep(mut self, flags: u32) -> Done<u64> {
        let inode = Arc::clone(self.inode());
        let handle = self.vfs.shared.handles.add_file(FileHandle { inode, flags })?;
        self.inode = None;
        Ok(handle)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(inode) = self.inode.take() {
            self.vfs.let_go(inode);
        }
    }
}

impl Vfs {
    pub(super) async fn open(self: &Rc<Self>, ino: Ino, flags: u32, kill_priv: bool) -> Done {
        if ino >= Ino::VIRTUAL && writes(flags) {
            return Err(Errno::ACCESS.into());
        }
        let opened = self.open_known(ino, flags, kill_priv).await;
        let (handle, open_flags, _) = opened.map_err(stale)?;
        self.accessed(ino).await;
        Ok(Reply::Open { handle, open_flags })
    }

    async fn open_known(
        self: &Rc<Self>,
        ino: Ino,
        flags: u32,
        kill_priv: bool,
    ) -> Done<(u64, u32, Attr)> {
        if self.config.read_only && (writes(flags) || has(flags, libc::O_TRUNC)) {
            return Err(Errno::ROFS.into());
        }
        let opening = Opening::new(self, ino)?;
        let (mut attr, _) = self.attr(ino).await?;
        may_open(&attr, flags)?;
        let inode = opening.inode();
        if has(flags, libc::O_TRUNC) && writes(flags) {
            if attr.length > 0 {
                attr = self.truncate(ino, 0).await?;
            }
            if kill_priv {
                self.drop_privileges(inode).await?;
            }
        }
        let unchanged = inode.opened(attr.mtime);
        Ok((opening.keep(flags)?, open_flags(flags, unchanged), attr))
    }

    pub(super) async fn create(
        self: &Rc<Self>,
        dir: Ino,
        name: Name,
        (mode, umask): (u32, u32),
        flags: u32,
        caller: Caller,
    ) -> Done {
        let new = new_node(FileType::File, mode, umask, 0);
        let began = self.shared.changes.now();
        match self.meta.create(dir, &name, &new, who(caller)).await {
            Ok(Made { ino, attr, dir: dir_attr }) => {
                self.dir_changed(dir, dir_attr, began);
                let added = || Change::Added(name.clone(), FileType::File, ino);
                self.shared.listings.changed(dir, added);
                self.made((dir, &name), ino, attr, flags)
            }
            Err(MetaError::Posix(Errno::EXIST)) if !has(flags, libc::O_EXCL) => {
                self.open_existing(dir, &name, flags).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Another client was faster: without O_EXCL that is no error.
    async fn open_existing(self: &Rc<Self>, dir: Ino, name: &[u8], flags: u32) -> Done {
        let began = self.shared.changes.now();
        let (ino, attr) = self.meta.lookup(dir, name).await?;
        if attr.kind != FileType::File {
            return Err(Errno::EXIST.into());
        }
        let (handle, open_flags, attr) = self.open_known(ino, flags, false).await?;
        let entry = self.entry((dir, name), ino, attr, began);
        Ok(Reply::Create { entry, handle, open_flags })
    }

    pub(super) async fn tmpfile(
        self: &Rc<Self>,
        dir: Ino,
        (mode, umask): (u32, u32),
        flags: u32,
        caller: Caller,
    ) -> Done {
        let new = new_node(FileType::File, mode, umask, 0);
        let (ino, attr) = self.meta.create_unnamed(dir, &new, who(caller)).await?;
        let reply = self.made((dir, b""), ino, attr, flags)?;
        if !self.shared.inodes.lose_name(ino, End::Sustained) {
            return Err(Cause::Failed);
        }
        Ok(reply)
    }

    /// A file of our own making is open.
    fn made(self: &Rc<Self>, place: (Ino, &[u8]), ino: Ino, attr: Attr, flags: u32) -> Done {
        let opening = Opening::new(self, ino)?;
        opening.inode().made(&attr);
        let handle = opening.keep(flags)?;
        let began = self.shared.changes.now();
        let entry = self.entry(place, ino, attr, began);
        Ok(Reply::Create { entry, handle, open_flags: open_flags(flags, false) })
    }

    /// Only bookkeeping: whatever takes time goes on by itself.
    pub(super) fn release(self: &Rc<Self>, handle: u64, flock_owner: Option<u64>) -> Done {
        if let Some(file) = self.shared.handles.remove_file(handle) {
            self.unlock_all_later(&file.inode, handle, flock_owner);
            self.let_go(Arc::clone(&file.inode));
        }
        Ok(Reply::Ok)
    }
}

/// What JuiceFS's inode flags and the trash forbid.
fn may_open(attr: &Attr, flags: u32) -> Done<()> {
    if attr.kind == FileType::Dir {
        return if writes(flags) { Err(Errno::ISDIR.into()) } else { Ok(()) };
    }
    let truncates = has(flags, libc::O_TRUNC);
    let changes = writes(flags) || truncates;
    let frozen = attr.flags & FLAG_IMMUTABLE != 0 || attr.parent > Ino::TRASH;
    let appends = has(flags, libc::O_APPEND) && !truncates;
    if changes && (frozen || attr.flags & FLAG_APPEND != 0 && !appends) {
        return Err(Errno::PERM.into());
    }
    Ok(())
}

/// What the kernel may do with a handle.
fn open_flags(flags: u32, unchanged: bool) -> u32 {
    let mut told = 0;
    if unchanged {
        told |= KEEP_CACHE;
    }
    if !writes(flags) {
        told |= NO_FLUSH;
    }
    if has(flags, libc::O_DIRECT) {
        told |= DIRECT_IO | PARALLEL_DIRECT_WRITES;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_is_told() {
        assert_eq!(open_flags(libc::O_RDONLY as u32, true), KEEP_CACHE | NO_FLUSH);
        assert_eq!(open_flags(libc::O_RDWR as u32, false), 0);
        let direct = (libc::O_WRONLY | libc::O_DIRECT) as u32;
        assert_eq!(open_flags(direct, false), DIRECT_IO | PARALLEL_DIRECT_WRITES);
    }
}
