//! How far the data of a file, of all below a directory, or of the mount has come, and waiting for it:
//! `jfs-uring status`, `flush` and `retry`.
//!
//! Owns what a directory stands for: the files below it at that moment. Levels are `data`'s, the form of the
//! answers is `state`'s.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::job::Job;
use crate::data::FileState;
use crate::errno::Cause;
use crate::limits::LEVEL_FILES_MAX;
use crate::stdx::Permits;
use crate::types::{FileType, Ino, Level};
use crate::uring;
use crate::vfs::Vfs;
use crate::vfs::error::Done;
use crate::vfs::state::{NOTHING, file_json, joined};

/// How often is looked how much is left, and whether anybody still waits.
const PACE: Duration = Duration::from_millis(200);

impl Vfs {
    /// How far it has come.
    pub(super) async fn state_told(self: &Rc<Self>, ino: Ino, job: &Rc<Job>) -> Done<Value> {
        if ino == Ino::ROOT {
            return Ok(self.mount_state());
        }
        let (attr, _) = self.attr(ino).await?;
        if attr.kind != FileType::Dir {
            return Ok(file_json(&self.file_state(ino).await?.unwrap_or(NOTHING)));
        }
        let files = Rc::new(RefCell::new((0_u64, NOTHING)));
        let sum = Rc::clone(&files);
        let vfs = Rc::clone(self);
        self.each_below(ino, job, move |ino| {
            let (vfs, sum) = (Rc::clone(&vfs), Rc::clone(&sum));
            async move {
                let one: FileState = vfs.file_state(ino).await?.unwrap_or(NOTHING);
                let mut sum = sum.borrow_mut();
                sum.0 += 1;
                sum.1 = joined(sum.1.clone(), one);
                Ok(())
            }
        })
        .await?;
        let (count, state) = &*files.borrow();
        let mut told = file_json(state);
        told["files"] = (*count).into();
        Ok(told)
    }

    /// Take it so far, and tell the job how much of the mount is left meanwhile.
    pub(super) async fn taken_to(
        self: &Rc<Self>,
        ino: Ino,
        level: Level,
        job: &Rc<Job>,
    ) -> Done<()> {
        let mut work = pin!(self.take_to(ino, level, job));
        loop {
            if let Ok(done) = uring::timeout(PACE, work.as_mut()).await {
                return done;
            }
            job.is_wanted()?;
            job.done.set(self.left());
        }
    }

    /// Blocks and bytes of the mount that are not in the object store.
    fn left(&self) -> (u64, u64) {
        let (status, dirty_bytes) = self.data.staging().unwrap_or_default();
        let blocks = status.logged_blocks + status.local_blocks;
        (blocks, status.logged_bytes + status.local_bytes + dirty_bytes)
    }

    async fn take_to(self: &Rc<Self>, ino: Ino, level: Level, job: &Rc<Job>) -> Done<()> {
        if ino == Ino::ROOT {
            return Ok(self.data.reach_all(level).await?);
        }
        match self.attr(ino).await?.0.kind {
            FileType::File => Ok(self.data.reach(ino, level).await?),
            FileType::Dir => {
                let vfs = Rc::clone(self);
                self.each_below(ino, job, move |ino| {
                    let vfs = Rc::clone(&vfs);
                    async move { Ok(vfs.data.reach(ino, level).await?) }
                })
                .await
            }
            _ => Ok(()),
        }
    }

    /// Do something for each file below a directory, some at a time; the first error. A file that goes
    /// meanwhile is none.
    async fn each_below<F>(
        self: &Rc<Self>,
        dir: Ino,
        job: &Rc<Job>,
        action: impl Fn(Ino) -> F,
    ) -> Done<()>
    where
        F: Future<Output = Done<()>> + 'static,
    {
        let permits = Permits::new(LEVEL_FILES_MAX);
        let failed: Rc<RefCell<Option<Cause>>> = Rc::default();
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            for entry in self.meta.list(dir, false).await? {
                job.is_wanted()?;
                match entry.kind {
                    FileType::Dir => dirs.push(entry.ino),
                    FileType::File => {
                        let permit = permits.take().await;
                        let (work, failed) = (action(entry.ino), Rc::clone(&failed));
                        uring::spawn(async move {
                            match work.await {
                                Ok(()) | Err(Cause::Posix(rustix::io::Errno::NOENT)) => {}
                                Err(cause) => drop(failed.borrow_mut().get_or_insert(cause)),
                            }
                            drop(permit);
                        });
                    }
                    _ => {}
                }
            }
        }
        // Who has all permits knows that no file is in work.
        let mut all = Vec::with_capacity(LEVEL_FILES_MAX);
        for _ in 0..LEVEL_FILES_MAX {
            all.push(permits.take().await);
        }
        failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Failed uploads are tried again now.
    pub(super) fn retried(&self) -> Value {
        json!({"retried": self.data.retry_uploads()})
    }
}
