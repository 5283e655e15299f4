//! What is in the trash for longer than it keeps things goes for good.
//!
//! Owns emptying the folders of the trash, as somebody would do it by hand: files that are open
//! stay until they are closed, listings and the kernel learn of it. When it is time is told by the caller.

use std::rc::Rc;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::notices::Notice;
use super::op::Caller;
use crate::errno::Cause;
use crate::types::{FileType, Ino, Name};

/// Only root takes things out of the trash.
const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Directories inside each other that are emptied. There are none, but in a damaged volume.
const DEPTH_MAX: usize = 64;

/// Work that ends when its time is over.
type IsOver<'a> = &'a dyn Fn() -> bool;

impl Vfs {
    /// Empty the trash folders of hours that began before `edge_s` (unix seconds), the oldest
    /// first, until `is_over`; how many names went.
    ///
    /// # Errors
    /// When the folders cannot be listed. What cannot be removed stays, with a line in the log.
    pub async fn expire_trash(self: &Rc<Self>, edge_s: i64, is_over: IsOver<'_>) -> Done<usize> {
        let mut count = 0;
        for folder in self.meta.trash_folders().await? {
            if folder.hour_s >= edge_s || is_over() {
                break;
            }
            let emptied = self.empty(folder.ino, DEPTH_MAX, is_over, &mut count).await;
            let gone = match emptied {
                Ok(true) => self.remove_trash_folder(folder.ino, folder.name.clone()).await,
                Ok(false) => break,
                Err(cause) => Err(cause),
            };
            if let Err(cause) = gone
                && cause != Cause::Posix(Errno::NOENT)
            {
                let name = String::from_utf8_lossy(&folder.name);
                tracing::warn!(%name, ?cause, "this folder of the trash stays for now");
            }
        }
        Ok(count)
    }

    async fn remove_trash_folder(&self, ino: Ino, name: Name) -> Done<()> {
        self.meta.remove_trash_folder(&name).await?;
        self.unnamed(Ino::TRASH, name.clone());
        self.changed(ino);
        self.shared.notices.tell(Notice::Removed { dir: Ino::TRASH, name, ino }).await;
        Ok(())
    }

    /// Remove what is in a directory; whether it came to the end of it.
    async fn empty(
        self: &Rc<Self>,
        dir: Ino,
        depth: usize,
        is_over: IsOver<'_>,
        count: &mut usize,
    ) -> Done<bool> {
        for entry in self.meta.list(dir, false).await? {
            if is_over() {
                return Ok(false);
            }
            let name = entry.name.clone();
            let mut done = if entry.kind == FileType::Dir {
                self.rmdir_unasked((dir, name), entry.ino, ROOT).await
            } else {
                self.unlink_unasked((dir, name), entry.ino, ROOT).await
            };
            if matches!(done, Err(Cause::Posix(Errno::NOTEMPTY))) && depth > 0 {
                if !Box::pin(self.empty(entry.ino, depth - 1, is_over, count)).await? {
                    return Ok(false);
                }
                done = self.rmdir_unasked((dir, entry.name), entry.ino, ROOT).await;
            }
            match done {
                Ok(()) => *count += 1,
                // Somebody else was faster.
                Err(Cause::Posix(Errno::NOENT)) => {}
                Err(cause) => {
                    tracing::warn!(ino = entry.ino.0, ?cause, "this stays in the trash for now");
                }
            }
        }
        Ok(true)
    }
}
