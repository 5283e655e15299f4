//! Blocks of files below paths are brought near, let go or looked for: `juicefs warmup`.
//!
//! Owns which files those are. A path that is not there is left out, with a line in the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::job::Job;
use crate::data::{DataError, Nearby, Nearness};
use crate::stdx::Permits;
use crate::types::{FileType, Ino, Name};
use crate::uring;
use crate::vfs::Vfs;
use crate::vfs::error::Done;

/// What the tools put in front of a number where a mount's root has no path.
const BY_NUMBER: &[u8] = b"inode:";

/// What was done, as it is told in the end.
#[derive(Default)]
struct Filled {
    slices: u64,
    missing_bytes: u64,
    places: BTreeMap<String, u64>,
}

impl Filled {
    fn add(&mut self, found: Nearby) {
        self.slices += found.slices;
        self.missing_bytes += found.missing_bytes;
        for (place, bytes) in found.places {
            *self.places.entry(place).or_default() += bytes;
        }
    }

    fn show(&self, (files, bytes): (u64, u64)) -> Value {
        json!({
            "FileCount": files,
            "SliceCount": self.slices,
            "TotalBytes": bytes,
            "MissBytes": self.missing_bytes,
            "Locations": self.places,
        })
    }
}

/// Nothing was done.
pub(super) fn nothing() -> Value {
    Filled::default().show((0, 0))
}

/// A warm-up at work.
struct Filling {
    vfs: Rc<Vfs>,
    wanted: Nearness,
    /// Files, and blocks, in work at a time.
    files: Arc<Permits>,
    blocks: Arc<Permits>,
    filled: RefCell<Filled>,
    job: Rc<Job>,
}

impl Vfs {
    /// Do it for all files at and below these paths, `workers` of them at a time, and as many blocks.
    pub(super) async fn fill(
        self: &Rc<Self>,
        paths: Vec<Name>,
        wanted: Nearness,
        workers: u16,
        job: &Rc<Job>,
    ) -> Done<Value> {
        let filling = Rc::new(Filling {
            vfs: Rc::clone(self),
            wanted,
            files: Permits::new(workers.into()),
            blocks: Permits::new(workers.into()),
            filled: RefCell::default(),
            job: Rc::clone(job),
        });
        for path in paths {
            match self.resolve(&path).await {
                Ok((ino, FileType::Dir, _)) => filling.below(ino).await?,
                Ok((ino, FileType::File, length)) => filling.begin(ino, length).await,
                Ok(_) => {}
                Err(cause) => {
                    let path = String::from_utf8_lossy(&path);
                    tracing::warn!(%path, errno = cause.number(), "not warmed up");
                }
            }
        }
        // Who has all permits knows that no file is in work.
        let mut all = Vec::with_capacity(workers.into());
        for _ in 0..workers {
            all.push(filling.files.take().await);
        }
        let shown = filling.filled.borrow().show(job.done.get());
        Ok(shown)
    }
}

impl Filling {
    /// All files below a directory.
    async fn below(self: &Rc<Self>, dir: Ino) -> Done<()> {
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            for entry in self.vfs.meta.list(dir, true).await? {
                self.job.is_wanted()?;
                match (entry.kind, entry.attr) {
                    (FileType::Dir, _) => dirs.push(entry.ino),
                    (FileType::File, Some(attr)) => self.begin(entry.ino, attr.length).await,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Begin with a file when there is room for it.
    async fn begin(self: &Rc<Self>, ino: Ino, length: u64) {
        let permit = self.files.take().await;
        let filling = Rc::clone(self);
        uring::spawn(async move {
            match filling.file(ino, length).await {
                Ok(()) => filling.job.add(1, 0),
                Err(cause) => tracing::warn!(%ino, errno = cause.number(), "not warmed up"),
            }
            drop(permit);
        });
    }

    async fn file(&self, ino: Ino, length: u64) -> Done<()> {
        for (_, pieces) in self.vfs.meta.pieces(ino, length).await? {
            self.job.is_wanted()?;
            let found = self.vfs.data.bring(&pieces, self.wanted, &self.blocks).await;
            let found = found.map_err(DataError::from)?;
            self.job.add(0, found.bytes);
            self.filled.borrow_mut().add(found);
        }
        Ok(())
    }
}

impl Vfs {
    /// What a path from the root of the mount stands for.
    async fn resolve(&self, path: &[u8]) -> Done<(Ino, FileType, u64)> {
        let number = path.strip_prefix(BY_NUMBER).and_then(|text| std::str::from_utf8(text).ok());
        if let Some(ino) = number.and_then(|text| text.parse().ok()).map(Ino) {
            let attr = self.meta.getattr(ino).await?;
            return Ok((ino, attr.kind, attr.length));
        }
        let mut at = (Ino::ROOT, FileType::Dir, 0);
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let (ino, attr) = self.meta.lookup(at.0, name).await?;
            at = (ino, attr.kind, attr.length);
        }
        Ok(at)
    }
}
