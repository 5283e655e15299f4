//! A name and all below it is removed, for `juicefs rmr`.
//!
//! Owns the order: a directory goes when everything in it is gone. It is done by the operations of
//! the file system, so that trash, open files, listings and what the kernel keeps are as after rm(1). What
//! the kernel would check for rm(1) is checked here.

use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::job::Job;
use crate::errno::Cause;
use crate::stdx::{Permits, oneshot};
use crate::types::{FileType, Ino, Name};
use crate::uring;
use crate::vfs::Vfs;
use crate::vfs::error::Done;

/// How often a directory is emptied again because others put something into it.
const ROUNDS: u32 = 50;

/// A directory on the way down.
struct Level {
    dir: Ino,
    /// Where it is: its parent, and its name there.
    place: (Ino, Name),
    /// Directories in it that are still there.
    below: Vec<(Name, Ino)>,
    rounds: u32,
}

impl Level {
    fn new(dir: Ino, place: (Ino, Name)) -> Self {
        Self { dir, place, below: Vec::new(), rounds: 0 }
    }
}

impl Vfs {
    /// Remove `name` in `dir` with all below it; files `workers` at a time.
    pub(super) async fn remove_all(
        self: &Rc<Self>,
        (dir, name): (Ino, Name),
        workers: u16,
        job: &Rc<Job>,
    ) -> Done<()> {
        self.may_change(dir, job).await?;
        let (ino, attr) = self.meta.lookup(dir, &name).await?;
        let removed = if attr.kind == FileType::Dir {
            self.remove_folder(ino, (dir, name), workers, job).await
        } else {
            self.unlink_unasked((dir, name), ino, job.caller).await.map(|()| job.add(1, 0))
        };
        // Whoever is told that it is over sees it so.
        self.shared.notices.settled().await;
        removed
    }

    async fn remove_folder(
        self: &Rc<Self>,
        ino: Ino,
        place: (Ino, Name),
        workers: u16,
        job: &Rc<Job>,
    ) -> Done<()> {
        if ino.is_trash() && job.caller.uid != 0 {
            return Err(Errno::PERM.into());
        }
        let workers = Permits::new(usize::from(workers));
        let mut levels = vec![Level::new(ino, place)];
        while let Some(level) = levels.last_mut() {
            job.is_wanted()?;
            if let Some((name, below)) = level.below.pop() {
                let place = (level.dir, name);
                levels.push(Level::new(below, place));
                continue;
            }
            if self.remove_files(level, &workers, job).await? {
                continue;
            }
            let place = level.place.clone();
            // The trash and its folders stay.
            if !level.dir.is_trash() {
                match self.rmdir_unasked(place, level.dir, job.caller).await {
                    Ok(()) | Err(Cause::Posix(Errno::NOENT)) => job.add(1, 0),
                    Err(Cause::Posix(Errno::NOTEMPTY)) if level.rounds < ROUNDS => continue,
                    Err(cause) => return Err(cause),
                }
            }
            levels.pop();
        }
        Ok(())
    }

    /// EACCES unless who asked may change the names of a directory.
    async fn may_change(&self, dir: Ino, job: &Job) -> Done<()> {
        let (attr, _) = self.attr(dir).await?;
        let list = match attr.access_acl {
            id if id != 0 && self.config.acl => Some(self.meta.acl_rule(id).await?),
            _ => None,
        };
        job.may_change(&attr, list.as_ref())
    }

    /// Remove the files in a directory; whether it has directories that must go first.
    async fn remove_files(
        self: &Rc<Self>,
        level: &mut Level,
        workers: &Arc<Permits>,
        job: &Rc<Job>,
    ) -> Done<bool> {
        level.rounds += 1;
        let entries = self.meta.list(level.dir, false).await?;
        // What was emptied and stays is no work any more.
        let stays = level.dir == Ino::TRASH && level.rounds > 1;
        if entries.is_empty() || stays {
            return Ok(false);
        }
        if level.dir != Ino::TRASH {
            self.may_change(level.dir, job).await?;
        }
        let mut removals = Vec::new();
        for entry in entries {
            if entry.kind == FileType::Dir {
                level.below.push((entry.name, entry.ino));
                continue;
            }
            job.is_wanted()?;
            let permit = workers.take().await;
            let (sender, receiver) = oneshot();
            let (vfs, job, dir) = (Rc::clone(self), Rc::clone(job), level.dir);
            uring::spawn(async move {
                let place = (dir, entry.name);
                let removed = vfs.unlink_unasked(place, entry.ino, job.caller).await;
                job.add(u64::from(removed.is_ok()), 0);
                sender.send(removed);
                drop(permit);
            });
            removals.push(receiver);
        }
        for removal in removals {
            match removal.await.expect("a removal runs to its end") {
                Ok(()) | Err(Cause::Posix(Errno::NOENT)) => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(!level.below.is_empty())
    }
}
