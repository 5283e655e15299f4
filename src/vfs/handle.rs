//! The table of open handles: numbers the kernel holds, shared by all cores.
//!
//! Owns numbers and what stands behind them: files, directories, and the files of the mount. As with JuiceFS, handles that write have even
//! numbers, all others odd ones.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustix::io::Errno;

use super::dir::DirHandle;
use super::error::Done;
use super::inode::Inode;
use super::internal::OpenNode;
use crate::limits::HANDLES_MAX;

const SHARDS: usize = 16;

/// An open file.
pub(super) struct FileHandle {
    /// What is open.
    pub inode: Arc<Inode>,
    /// Flags of open(2).
    pub flags: u32,
}

impl FileHandle {
    /// Whether it may change the file.
    pub fn writes(&self) -> bool {
        writes(self.flags)
    }

    /// Whether each write must be kept before it is over, and the kernel does not see to that:
    /// direct writes of O_SYNC and O_DSYNC.
    pub fn syncs_each_write(&self) -> bool {
        // O_SYNC holds the bit of O_DSYNC.
        let both = libc::O_DIRECT | libc::O_DSYNC;
        self.flags as i32 & both == both
    }
}

/// Whether flags of open(2) ask to change the file.
pub(super) fn writes(flags: u32) -> bool {
    flags as i32 & libc::O_ACCMODE != libc::O_RDONLY
}

enum Handle {
    File(Arc<FileHandle>),
    Dir(Arc<DirHandle>),
    Internal(Arc<OpenNode>),
}

/// All open handles of a mount.
#[derive(Default)]
pub(super) struct Handles {
    shards: [Mutex<HashMap<u64, Handle, RandomState>>; SHARDS],
    last: AtomicU64,
    count: AtomicUsize,
}

impl Handles {
    /// Take an open file in; its number. ENFILE when there are too many.
    pub fn add_file(&self, file: FileHandle) -> Done<u64> {
        let odd = u64::from(!file.writes());
        self.add(Handle::File(Arc::new(file)), odd)
    }

    /// Take an open directory in; its number. ENFILE when there are too many.
    pub fn add_dir(&self, dir: Arc<DirHandle>) -> Done<u64> {
        self.add(Handle::Dir(dir), 1)
    }

    /// Take an open file of the mount in; its number. ENFILE when there are too many.
    pub fn add_internal(&self, node: Arc<OpenNode>) -> Done<u64> {
        self.add(Handle::Internal(node), 1)
    }

    fn add(&self, handle: Handle, odd: u64) -> Done<u64> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= HANDLES_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::NFILE.into());
        }
        let number = (self.last.fetch_add(1, Ordering::Relaxed) + 1) * 2 + odd;
        let before = self.shard(number).insert(number, handle);
        assert!(before.is_none(), "a handle's number is given out once");
        Ok(number)
    }

    /// The open file of a number; EBADF if there is none.
    pub fn file(&self, number: u64) -> Done<Arc<FileHandle>> {
        match self.shard(number).get(&number) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// The open directory of a number; EBADF if there is none.
    pub fn dir(&self, number: u64) -> Done<Arc<DirHandle>> {
        match self.shard(number).get(&number) {
            Some(Handle::Dir(dir)) => Ok(Arc::clone(dir)),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// The open file of the mount of a number; EBADF if there is none.
    pub fn internal(&self, number: u64) -> Done<Arc<OpenNode>> {
        match self.shard(number).get(&number) {
            Some(Handle::Internal(node)) => Ok(Arc::clone(node)),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// Take an open file out.
    pub fn remove_file(&self, number: u64) -> Option<Arc<FileHandle>> {
        match self.remove(number)? {
            Handle::File(file) => Some(file),
            Handle::Dir(_) | Handle::Internal(_) => None,
        }
    }

    /// Take an open directory out.
    pub fn remove_dir(&self, number: u64) -> Option<Arc<DirHandle>> {
        match self.remove(number)? {
            Handle::Dir(dir) => Some(dir),
            Handle::File(_) | Handle::Internal(_) => None,
        }
    }

    /// Take an open file of the mount out.
    pub fn remove_internal(&self, number: u64) -> Option<Arc<OpenNode>> {
        match self.remove(number)? {
            Handle::Internal(node) => Some(node),
            Handle::File(_) | Handle::Dir(_) => None,
        }
    }

    fn remove(&self, number: u64) -> Option<Handle> {
        let removed = self.shard(number).remove(&number);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Handle, RandomState>> {
        let shard = &self.shards[(number / 2) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
