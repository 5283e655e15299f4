//! Reading and writing files, and making sure that what was written is kept.
//!
//! Owns the promises of close and fsync: they wait until everything written to the file through
//! this mount is stored and committed, or, with `--writeback`, is kept on this machine, and tell the
//! first error. Bytes, and how far they have come, are `data`'s.

use std::future::Future;
use std::rc::Rc;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::{Done, of_background};
use super::inode::{End, Inode};
use super::op::{Payload, Reply};
use crate::data::DataError;
use crate::errno::Cause;
use crate::limits::COPY_BYTES_MAX;
use crate::meta::MetaError;
use crate::types::{FILE_BYTES_END, Ino};

impl Vfs {
    pub(super) async fn read(&self, handle: u64, offset: u64, len_bytes: u32) -> Done {
        let file = self.shared.handles.file(handle)?;
        let length = file.inode.length();
        let read = self.data.read(file.inode.ino, offset, u64::from(len_bytes), length);
        let pages = read.await?;
        if self.config.atime.is_some() {
            Box::pin(self.accessed(file.inode.ino)).await;
        }
        Ok(Reply::Data(pages))
    }

    pub(super) async fn write(
        &self,
        handle: u64,
        offset: u64,
        data: Payload,
        kill_priv: bool,
    ) -> Done {
        let file = self.shared.handles.file(handle)?;
        if !file.writes() {
            return Err(Errno::BADF.into());
        }
        let inode = &file.inode;
        if kill_priv {
            self.drop_privileges(inode).await?;
        }
        let bytes: &[u8] = &data.0;
        let turn = inode.turns.share().await;
        let before = inode.begin_write(self.shared.changes.next());
        let written = self.data.write(inode.ino, offset, bytes, before).await;
        // Of a failed write some bytes may have been taken.
        let end = match &written {
            Ok(_) => offset + bytes.len() as u64,
            Err(_) => self.data.pending(inode.ino).map_or(0, |pending| pending.length_end),
        };
        inode.end_write(end);
        written.map_err(of_background)?;
        if file.syncs_each_write() {
            drop(turn);
            Box::pin(self.sync(inode)).await?;
        }
        Ok(Reply::Written(bytes.len() as u32))
    }

    /// Wait until all that was written to a file is stored and committed; the first error.
    pub(super) async fn flush(&self, inode: &Inode) -> Done<()> {
        self.taken_on(inode, self.data.flush(inode.ino)).await
    }

    /// As [`Vfs::flush`], also of a file that nobody opened here: an earlier mount may have written to it.
    pub(super) async fn flush_known(&self, ino: Ino, inode: Option<&Inode>) -> Done<()> {
        match inode {
            Some(inode) => self.flush(inode).await,
            None => self.data.flush(ino).await.map_err(of_background),
        }
    }

    /// Commit what is dirty of a file, so that it cannot land on top of what comes next. What is lost is
    /// told at close and fsync, not here; what was refused and is tried again would land: that is an error.
    pub(super) async fn commit_first(&self, ino: Ino, inode: Option<&Inode>) -> Done<()> {
        let flushed = self.flush_known(ino, inode).await;
        match self.data.pending(ino) {
            Some(_) => flushed,
            None => Ok(()),
        }
    }

    /// Wait until all that was written to a file survives this process; the first error.
    pub(super) async fn keep(&self, inode: &Inode) -> Done<()> {
        self.taken_on(inode, self.data.keep(inode.ino)).await
    }

    /// Wait until all that was written to a file survives a loss of power, as far as that is up to
    /// this machine; the first error.
    async fn sync(&self, inode: &Inode) -> Done<()> {
        self.taken_on(inode, self.data.sync(inode.ino)).await
    }

    /// Wait for `taking`, which takes on all that was written to a file.
    async fn taken_on(
        &self,
        inode: &Inode,
        taking: impl Future<Output = Result<(), DataError>>,
    ) -> Done<()> {
        let writes = inode.writes();
        let taken = taking.await;
        self.settled(inode, writes);
        taken.map_err(of_background)
    }

    /// close(2) of a descriptor.
    pub(super) async fn flush_handle(&self, handle: u64, lock_owner: u64) -> Done {
        let file = self.shared.handles.file(handle)?;
        let kept = match is_wanted(&file.inode, file.writes()) {
            true => self.keep(&file.inode).await,
            false => Ok(()),
        };
        self.unlock_owner(&file.inode, lock_owner).await;
        kept.map(|()| Reply::Ok)
    }

    pub(super) async fn fsync(&self, handle: u64) -> Done {
        let file = self.shared.handles.file(handle)?;
        if is_wanted(&file.inode, file.writes()) {
            self.sync(&file.inode).await?;
        }
        Ok(Reply::Ok)
    }

    pub(super) async fn fallocate(
        &self,
        handle: u64,
        (offset, len_bytes): (u64, u64),
        mode: u32,
    ) -> Done {
        let file = self.shared.handles.file(handle)?;
        let inode = &file.inode;
        if !file.writes() {
            return Err(Errno::BADF.into());
        }
        if inode.ino >= Ino::VIRTUAL {
            return Err(Errno::PERM.into());
        }
        within_file(offset, len_bytes)?;
        let _turn = inode.turns.alone().await;
        self.flush(inode).await?;
        let attr = self.meta.fallocate(inode.ino, offset, len_bytes, mode).await?;
        self.resized(inode, &attr);
        Ok(Reply::Ok)
    }

    /// A file is one extent of data.
    pub(super) fn lseek(&self, handle: u64, offset: u64, whence: u32) -> Done {
        let length = self.shared.handles.file(handle)?.inode.length();
        match whence as i32 {
            libc::SEEK_DATA | libc::SEEK_HOLE if offset >= length => Err(Errno::NXIO.into()),
            libc::SEEK_DATA => Ok(Reply::Offset(offset)),
            libc::SEEK_HOLE => Ok(Reply::Offset(length)),
            _ => Err(Errno::INVAL.into()),
        }
    }

    pub(super) async fn copy_file_range(
        self: &Rc<Self>,
        (handle, offset): (u64, u64),
        (to_handle, to_offset): (u64, u64),
        len_bytes: u64,
        flags: u64,
    ) -> Done {
        let (from, to) = (self.shared.handles.file(handle)?, self.shared.handles.file(to_handle)?);
        if !to.writes() {
            return Err(Errno::ACCESS.into());
        }
        let (from, to) = (&from.inode, &to.inode);
        let len = len_bytes.min(COPY_BYTES_MAX);
        within_file(offset, len)?;
        within_file(to_offset, len)?;
        let overlap = from.ino == to.ino && offset.abs_diff(to_offset) < len;
        if flags != 0 || overlap {
            return Err(Errno::INVAL.into());
        }
        let _turn = to.turns.alone().await;
        self.flush(from).await?;
        self.flush(to).await?;
        let copied = self.meta.copy_range((from.ino, offset), (to.ino, to_offset), len).await?;
        match self.meta.getattr(to.ino).await {
            Ok(attr) => self.resized(to, &attr),
            // Copied all the same; the next to look asks again.
            Err(MetaError::Posix(_) | MetaError::Engine(_)) => self.data.invalidate(to.ino),
        }
        Ok(Reply::Copied(copied))
    }
}

/// Whether what was written is worth keeping: not if nobody can ever see it, as the file lost its last
/// name.
fn is_wanted(inode: &Inode, writes: bool) -> bool {
    writes && inode.end() == End::Stays
}

/// Whether a range ends before the last byte a file may have.
fn within_file(offset: u64, len: u64) -> Done<()> {
    match offset.checked_add(len) {
        Some(end) if end < FILE_BYTES_END => Ok(()),
        _ => Err(Cause::TooLarge),
    }
}
