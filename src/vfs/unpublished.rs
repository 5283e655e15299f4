//! Files with data that is kept on this machine and that metadata does not name yet (`--publish
//! uploaded`).
//!
//! Owns that this mount sees such a file as it was written, also one that an earlier mount wrote, and
//! that what is remembered for this goes when its data is committed. Which data that is `data` knows.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::dispatch::Vfs;
use super::inode::Inode;
use super::shared::VfsShared;
use crate::limits::UNPUBLISHED_LOOKS_MAX;
use crate::types::{Attr, Ino};
use crate::uring;

/// How often is looked whether data was committed.
const PACE: Duration = Duration::from_millis(500);

/// Inodes that wait for a commit; each has a record, so that their bound is that of records.
#[derive(Default)]
pub(super) struct Unpublished {
    /// There may be such: as `--publish` asks for, or from an earlier mount.
    expected: AtomicBool,
    waiting: Mutex<VecDeque<Ino>>,
}

impl Unpublished {
    fn add(&self, ino: Ino) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(ino);
    }

    /// Those that wait for longest.
    fn take(&self) -> Vec<Ino> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let some = waiting.len().min(UNPUBLISHED_LOOKS_MAX);
        waiting.drain(..some).collect()
    }
}

impl VfsShared {
    /// Data of files may be here that metadata does not name yet.
    pub fn expect_unpublished(&self) {
        self.unpublished.expected.store(true, Ordering::Relaxed);
    }

    pub(super) fn expects_unpublished(&self) -> bool {
        self.unpublished.expected.load(Ordering::Relaxed)
    }
}

impl Vfs {
    /// All that was written to a file before `writes` was taken is committed, or will be later.
    pub(super) fn settled(&self, inode: &Inode, writes: u64) {
        if !self.unsettle(inode) {
            inode.flushed(writes, self.shared.changes.next());
        }
    }

    /// Have a file's own length count for as long as metadata does not know of it; whether that is so.
    pub(super) fn unsettle(&self, inode: &Inode) -> bool {
        if !self.shared.expects_unpublished() {
            return false;
        }
        let Some(pending) = self.data.pending(inode.ino) else { return false };
        if inode.await_commit(pending.length_end) {
            self.shared.unpublished.add(inode.ino);
        }
        true
    }

    /// As metadata will tell of a file that this mount has not opened; whether it tells otherwise now.
    pub(super) fn add_unpublished(&self, ino: Ino, attr: &mut Attr) -> bool {
        if !self.shared.expects_unpublished() {
            return false;
        }
        let Some(pending) = self.data.pending(ino) else { return false };
        attr.length = attr.length.max(pending.length_end);
        attr.mtime = attr.mtime.max(pending.mtime);
        true
    }

    /// Look whether data was committed, for ever; one core of a mount runs this.
    pub async fn follow_commits(self: Rc<Self>) {
        while self.shared.expects_unpublished() {
            uring::sleep(PACE).await;
            self.look_at_commits();
        }
    }

    fn look_at_commits(&self) {
        for ino in self.shared.unpublished.take() {
            let Some(inode) = self.shared.inodes.get(ino) else { continue };
            let writes = inode.writes();
            inode.stop_awaiting();
            if self.unsettle(&inode) {
                continue;
            }
            inode.flushed(writes, self.shared.changes.next());
            if !self.shared.inodes.is_open(ino) {
                self.data.forget_file(ino);
            }
            self.shared.inodes.forget_again(ino);
        }
    }
}
