//! Files that are gone: what happens at the last close, and to their data.
//!
//! Owns when data goes: never before metadata let go of the file and the last handle is closed.
//! How it goes is `data`'s. What is not removed here stays in the volume's queue, which every
//! client works off.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::dispatch::Vfs;
use super::inode::{End, Inode};
use crate::meta::Removed;
use crate::types::{FileType, Ino, Level};
use crate::uring;

/// How long deleted files gather before their data is removed.
const GATHER: Duration = Duration::from_millis(50);

impl Vfs {
    /// A non-directory lost a name.
    pub(super) fn lost_name(self: &Rc<Self>, removed: &Removed) {
        self.shared.changes.note(removed.ino);
        if removed.attr.kind != FileType::File || removed.attr.nlink > 0 {
            return;
        }
        let end =
            if removed.delete_data { End::Doomed(removed.attr.length) } else { End::Sustained };
        // The last handle may have been closed, or a first one opened, while metadata decided.
        if !self.shared.inodes.lose_name(removed.ino, end) {
            self.end_file(removed.ino, end);
        }
    }

    /// A handle is closed, and what follows from it is begun.
    pub(super) fn let_go(self: &Rc<Self>, inode: Arc<Inode>) {
        match self.shared.inodes.close(&inode) {
            None => {}
            Some(End::Stays) if inode.is_settled() => self.data.forget_file(inode.ino),
            Some(End::Stays) => {
                let vfs = Rc::clone(self);
                uring::spawn(async move {
                    // Who closed was told at the flush of the close.
                    let _ = vfs.keep(&inode).await;
                    if !vfs.shared.inodes.is_open(inode.ino) {
                        vfs.data.forget_file(inode.ino);
                    }
                });
            }
            Some(end) => self.end_file(inode.ino, end),
        }
    }

    /// Nobody can reach the file any more.
    fn end_file(self: &Rc<Self>, ino: Ino, end: End) {
        self.data.discard(ino);
        self.data.forget_file(ino);
        match end {
            End::Stays => unreachable!("only files without a name end"),
            End::Doomed(length) => self.delete_later(ino, length),
            End::Sustained => {
                let vfs = Rc::clone(self);
                uring::spawn(async move {
                    match vfs.meta.drop_sustained(ino).await {
                        Ok(Some(length)) => vfs.delete_later(ino, length),
                        Ok(None) => {}
                        // The end of the session takes care of it.
                        Err(error) => tracing::warn!(%ino, %error, "a deleted file stays"),
                    }
                });
            }
        }
        self.shared.inodes.remove(ino);
    }

    /// Remove the data of a deleted file in the background, together with that of others.
    fn delete_later(self: &Rc<Self>, ino: Ino, length: u64) {
        if !self.shared.doomed.add((ino, length)) {
            return;
        }
        let vfs = Rc::clone(self);
        uring::spawn(async move {
            uring::sleep(GATHER).await;
            while let Some(files) = vfs.shared.doomed.take() {
                if let Err(error) = vfs.data.delete_files(files).await {
                    tracing::warn!(%error, "data of deleted files stays for now");
                }
            }
        });
    }

    /// The mount ends: store and commit all that is dirty, or keep it on this machine for the next mount
    /// to upload, and let neither a compaction nor a removal stop half-way.
    pub async fn drain(self: Rc<Self>) {
        self.data.end_limits();
        let stored = match self.config.writeback {
            true => self.data.reach_all(Level::Local).await,
            false => self.data.flush_all().await,
        };
        if let Err(error) = stored {
            tracing::error!(%error, "not everything could be stored before the end");
        }
        self.data.end_compactions().await;
        self.shared.doomed.end().await;
    }
}
