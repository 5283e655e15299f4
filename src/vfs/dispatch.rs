//! The file system as seen from one core: a request in, a reply out.
//!
//! Owns which operation a request is. Each kind that is asked all the time is a future of its own,
//! no larger than that kind needs: memory for large ones costs more than small ones take in all.

use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::config::VfsConfig;
use super::error::{Done, stale};
use super::internal;
use super::lock::Wish;
use super::names::new_node;
use super::op::{Caller, Op, Reply, Request};
use super::shared::VfsShared;
use super::span::Counts;
use crate::data::Data;
use crate::errno::Cause;
use crate::meta::{Local, Meta};
use crate::metrics::Sheet;
use crate::types::FileType;

/// One core's view; all cores of a mount share `VfsShared`.
pub struct Vfs {
    pub(super) meta: Rc<Meta>,
    pub(super) data: Rc<Data>,
    pub(super) shared: Arc<VfsShared>,
    pub(super) config: VfsConfig,
    pub(super) counts: Sheet<Counts>,
}

impl Vfs {
    /// For one core.
    pub fn new(
        meta: Rc<Meta>,
        data: Rc<Data>,
        shared: Arc<VfsShared>,
        config: VfsConfig,
    ) -> Rc<Self> {
        let counts = shared.counts.own();
        Rc::new(Self { meta, data, shared, config, counts })
    }

    /// The same file system, but what is removed is gone and does not go to the trash.
    pub(super) fn without_trash(&self) -> Rc<Self> {
        Rc::new(Self {
            meta: self.meta.without_trash(),
            data: Rc::clone(&self.data),
            shared: Arc::clone(&self.shared),
            config: self.config.clone(),
            counts: self.counts.clone(),
        })
    }

    /// Answer one request. What needs no wait is done at the first poll, or here.
    pub fn handle(self: Rc<Self>, request: Request) -> Local<'static, Reply> {
        if internal::concerns(&request.op) {
            return Box::pin(async move { told(self.internal(request).await) });
        }
        let span = self.begin(&request);
        let Request { unique, caller, op } = request;
        if self.meta.is_held() && op.changes() {
            return Box::pin(ready(self.end(span, Err(Errno::ROFS.into()))));
        }
        match op {
            Op::Lookup { dir, name } => Box::pin(async move {
                let done = self.lookup(dir, &name).await;
                self.end(span, done)
            }),
            Op::Getattr { ino, handle: None } => Box::pin(async move {
                let done = self.getattr(ino).await.map_err(stale);
                self.end(span, done)
            }),
            Op::Getattr { ino, .. } => Box::pin(async move {
                let done = self.getattr(ino).await;
                self.end(span, done)
            }),
            Op::Read { handle, offset, len_bytes, .. } => Box::pin(async move {
                let done = self.read(handle, offset, len_bytes).await;
                self.end(span, done)
            }),
            Op::Write { handle, offset, data, kill_priv, .. } => Box::pin(async move {
                let done = self.write(handle, offset, data, kill_priv).await;
                self.end(span, done)
            }),
            Op::Forget { items } => {
                for (ino, _) in &items {
                    self.shared.inodes.forget(*ino);
                    self.shared.watched.forget_listing(*ino);
                }
                Box::pin(ready(Reply::None))
            }
            Op::Release { handle, flock_owner, .. } => {
                let done = self.release(handle, flock_owner);
                Box::pin(ready(self.end(span, done)))
            }
            Op::Opendir { ino, .. } => Box::pin(ready(self.end(span, self.opendir(ino)))),
            Op::Releasedir { handle, .. } => {
                Box::pin(ready(self.end(span, self.releasedir(handle))))
            }
            other => Box::pin(async move {
                let done = self.named_operation(unique, caller, other).await;
                self.end(span, done)
            }),
        }
    }

    /// The caller of request `unique` got a signal: if it waits for a lock, the wait ends.
    pub fn interrupt(&self, unique: u64) {
        self.shared.interrupts.interrupt(unique);
    }

    async fn named_operation(self: &Rc<Self>, unique: u64, caller: Caller, op: Op) -> Done {
        match op {
            Op::Symlink { dir, name, target } => self.symlink(dir, name, target, caller).await,
            Op::Readlink { ino } => self.readlink(ino).await,
            Op::Mknod { dir, name, mode, rdev, umask } => {
                self.mknod(dir, name, (mode, umask), rdev, caller).await
            }
            Op::Mkdir { dir, name, mode, umask } => {
                let new = new_node(FileType::Dir, mode, umask, 0);
                self.make(dir, name, &new, caller).await
            }
            Op::Unlink { dir, name } => self.unlink(dir, name, caller).await,
            Op::Rmdir { dir, name } => self.rmdir(dir, name, caller).await,
            Op::Rename { dir, name, new_dir, new_name, flags } => {
                self.rename((dir, name), (new_dir, new_name), flags, caller).await
            }
            Op::Link { ino, new_dir, new_name } => self.link(ino, new_dir, new_name).await,
            Op::Open { ino, flags, kill_priv } => self.open(ino, flags, kill_priv).await,
            Op::Create { dir, name, mode, umask, flags } => {
                self.create(dir, name, (mode, umask), flags, caller).await
            }
            Op::Tmpfile { dir, mode, umask, flags } => {
                self.tmpfile(dir, (mode, umask), flags, caller).await
            }
            Op::Setattr { ino, set } => self.setattr(ino, &set).await,
            Op::Readdir { handle, offset, len_bytes, plus, .. } => {
                self.readdir(handle, offset, len_bytes, plus).await
            }
            other => self.open_operation(unique, caller, other).await,
        }
    }

    async fn open_operation(self: &Rc<Self>, unique: u64, caller: Caller, op: Op) -> Done {
        match op {
            Op::Flush { handle, lock_owner, .. } => self.flush_handle(handle, lock_owner).await,
            Op::Fsync { handle, .. } => self.fsync(handle).await,
            Op::Fallocate { handle, offset, len_bytes, mode, .. } => {
                self.fallocate(handle, (offset, len_bytes), mode).await
            }
            Op::Lseek { handle, offset, whence, .. } => self.lseek(handle, offset, whence),
            Op::CopyFileRange {
                handle, offset, to_handle, to_offset, len_bytes, flags, ..
            } => {
                let (from, to) = ((handle, offset), (to_handle, to_offset));
                self.copy_file_range(from, to, len_bytes, flags).await
            }
            Op::Getlk { handle, owner, range, .. } => self.getlk(handle, owner, range).await,
            Op::Setlk { handle, owner, range, wait, flock, .. } => {
                self.setlk(Wish { handle, owner, range, flock }, wait, unique).await
            }
            Op::Statfs { ino } => self.statfs(ino).await,
            Op::Setxattr { ino, name, value, flags, drops_group_id } => {
                self.setxattr(ino, &name, &value, flags, drops_group_id).await
            }
            Op::Getxattr { ino, name, len_bytes } => self.getxattr(ino, &name, len_bytes).await,
            Op::Listxattr { ino, len_bytes } => self.listxattr(ino, len_bytes).await,
            Op::Removexattr { ino, name } => self.removexattr(ino, &name).await,
            Op::Ioctl { ino, command, data, out_bytes, .. } => {
                self.ioctl(ino, command, &data, out_bytes, caller).await
            }
            // Names are committed before they are acknowledged: a directory is always in sync.
            Op::Fsyncdir { .. } | Op::Destroy => Ok(Reply::Ok),
            // The kernel decides permissions from the attributes.
            _ => Err(Cause::NotDone),
        }
    }
}

/// The answer, or the error's number.
pub(super) fn told(done: Done) -> Reply {
    done.unwrap_or_else(|cause| Reply::Error(cause.number()))
}
