//! What earlier mounts and the official client left.
//!
//! Owns the lock of a folder, the replay of its log, which is over when the mount begins, and the walk
//! through `rawstaging/`, which may go on beside it: until it is over, questions about unknown blocks
//! ask the disk (`held`). A file that is shorter than its name says is set aside, never uploaded.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use tracing::warn;

use super::block::StagingError;
use super::config::StagingConfig;
use super::durable::bring_all;
use super::files::{SET_ASIDE, STAGED, Sort};
use super::held::Held;
use super::index::{Home, Kept};
use super::lock::{self, Refused};
use super::log::{Found, LogError, Place};
use super::medium::Medium;
use crate::object::BlockKey;
use crate::stage::cache::folder::TEMPORARY_END;

/// A half-written file of this age has no writer any more, ms.
const LEFT_AGE_MS: u64 = 60_000;
/// Where a log is.
const LOG: &str = "log";

/// The lock of a folder; `None` if a mount that takes no blocks has no use for it.
pub(super) fn lock_folder(
    config: &StagingConfig,
    root: &Path,
) -> Result<Option<fs::File>, StagingError> {
    let folder = || root.display().to_string();
    let left = |name: &str| fs::read_dir(root.join(name)).is_ok_and(|mut dir| dir.next().is_some());
    if !config.takes && !left(STAGED) && !left(LOG) {
        return Ok(None);
    }
    let made = DirBuilder::new().recursive(true).mode(config.folder_mode()).create(root);
    let locked = made.map_err(Refused::Failed).and_then(|()| lock::take(root, config.file_mode));
    match locked {
        Ok(file) => Ok(Some(file)),
        Err(Refused::By(pid)) if config.takes => Err(StagingError::InUse { folder: folder(), pid }),
        Err(Refused::By(_)) => Ok(None),
        Err(Refused::Failed(reason)) => {
            warn!("cache folder {} cannot keep blocks: {reason}", folder());
            Ok(None)
        }
    }
}

/// Read the logs.
pub(super) fn replay<M: Medium>(held: &Held<M>, takes: bool) -> Result<(), StagingError> {
    for (number, folder) in held.folders.iter().enumerate() {
        let first = number == 0 && takes;
        let there = folder.medium.list(LOG).is_ok_and(|names| !names.is_empty());
        if !first && !there {
            continue;
        }
        let mut replay = Replay {
            number,
            blocks: Vec::new(),
            places: HashMap::default(),
            old: Vec::new(),
            notes: Vec::new(),
        };
        match folder.need_log(&mut |found| replay.take(found)) {
            Ok(log) => {
                let mark = log.tail();
                for (place, size) in replay.old.drain(..) {
                    log.release(place, size);
                }
                replay.bring_in(held, mark);
            }
            Err(LogError::Damaged(words)) => return Err(StagingError::Damaged(words)),
            Err(LogError::Failed(error)) => held.lose(number, &error.to_string()),
        }
    }
    Ok(())
}

/// What a log says in the end.
struct Replay {
    number: usize,
    /// In the order they came; some have gone.
    blocks: Vec<Option<Kept>>,
    places: HashMap<BlockKey, usize, foldhash::fast::RandomState>,
    /// Places that are no longer needed.
    old: Vec<(Place, u32)>,
    notes: Vec<(u64, Vec<u8>)>,
}

impl Replay {
    fn take(&mut self, found: Found) {
        match found {
            Found::Block { key, tier, group, kept_ms, place } => {
                let home = Home::Log(self.number, place);
                let kept = Kept { key, tier, group, kept_ms, home, mark: 0 };
                match self.places.get(&key).copied() {
                    // Appended anew: it keeps its turn.
                    Some(at) => self.replace(at, Some(kept)),
                    None => {
                        self.places.insert(key, self.blocks.len());
                        self.blocks.push(Some(kept));
                    }
                }
            }
            Found::Gone { key } => {
                if let Some(at) = self.places.remove(&key) {
                    self.replace(at, None);
                }
            }
            Found::Note { tag, bytes } => self.notes.push((tag, bytes)),
        }
    }

    fn replace(&mut self, at: usize, kept: Option<Kept>) {
        if let Some(old) = std::mem::replace(&mut self.blocks[at], kept)
            && let Home::Log(_, place) = old.home
        {
            self.old.push((place, old.key.size));
        }
    }

    fn bring_in<M: Medium>(self, held: &Held<M>, mark: u64) {
        let mut state = held.lock();
        for kept in self.blocks.into_iter().flatten() {
            state.arrive(&Kept { mark, ..kept });
        }
        let notes = self.notes.iter().map(|(tag, _)| (*tag, (self.number, mark)));
        state.notes.extend(notes);
        state.left_notes.extend(self.notes);
    }
}

/// Walk through all folders, each on a thread.
pub(super) fn walk_aside<M: Medium>(held: &Arc<Held<M>>) -> Vec<JoinHandle<()>> {
    held.begin_walks(held.folders.len());
    held.lock().unflushed = held.folders.len();
    let spawn = |number: usize| {
        let walker = Arc::clone(held);
        let thread = thread::Builder::new().name("stage-walk".to_owned());
        let walk = move || {
            let flushed = walker.flush(number);
            walker.walk(number, flushed);
        };
        thread.spawn(walk).inspect_err(|error| {
            // What is there is found by a later mount.
            held.lose(number, &format!("no thread: {error}"));
            held.lock().unflushed -= 1;
            held.end_walk();
        })
    };
    (0..held.folders.len()).filter_map(|number| spawn(number).ok()).collect()
}

/// Walk through all folders now.
#[cfg(test)]
pub(super) fn walk_now<M: Medium>(held: &Arc<Held<M>>) {
    held.begin_walks(held.folders.len());
    (0..held.folders.len()).for_each(|number| held.walk(number, false));
}

impl<M: Medium> Held<M> {
    /// Bring what earlier mounts wrote to the disk, whole; whether it is there.
    fn flush(&self, number: usize) -> bool {
        let folder = &self.folders[number];
        let there = folder.medium.list(STAGED).is_ok_and(|names| !names.is_empty());
        let flushed = match folder.root.as_ref().filter(|_| there).map(|root| bring_all(root)) {
            Some(Err(error)) => {
                self.lose(number, &error.to_string());
                false
            }
            Some(Ok(())) | None => true,
        };
        self.lock().unflushed -= 1;
        self.walked.open();
        flushed
    }

    /// Find the files of a folder; `flushed` if they are on the disk.
    fn walk(&self, number: usize, flushed: bool) {
        let folder = &self.folders[number];
        let walked = self.enter(number, STAGED, flushed);
        let aside = folder.medium.list(SET_ASIDE).map(|names| names.len() as u64);
        self.lock().set_aside[number] = aside.unwrap_or(0);
        if let Err(error) = walked {
            warn!("not all staged blocks in {} could be found: {error}", folder.name);
            self.heard(number, &error);
        }
        self.end_walk();
    }

    fn enter(&self, number: usize, dir: &str, flushed: bool) -> io::Result<()> {
        if !flushed {
            // Of names that an earlier mount made and removed here neither may be on the disk.
            self.lock().pending[number].changed(dir.to_owned());
        }
        for (name, is_dir) in self.folders[number].medium.list(dir)? {
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            let path = format!("{dir}/{name}");
            match is_dir {
                true => self.enter(number, &path, flushed)?,
                false => self.judge(number, &path, flushed)?,
            }
        }
        Ok(())
    }

    fn judge(&self, number: usize, path: &str, flushed: bool) -> io::Result<()> {
        let folder = &self.folders[number];
        let Some(key) = folder.files.parse(path) else {
            if path.ends_with(TEMPORARY_END) && self.is_left(number, path) {
                folder.medium.remove(path)?;
            }
            return Ok(());
        };
        match folder.files.sort(key) {
            Ok(Sort::Block { kept_ms, tier }) => {
                self.found(number, key, kept_ms, tier, flushed);
                Ok(())
            }
            Ok(Sort::Short) => self.short(number, key, path),
            // It went while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_left(&self, number: usize, path: &str) -> bool {
        let changed_ms = self.folders[number].medium.stat(path).map(|(_, changed_ms)| changed_ms);
        changed_ms.is_ok_and(|changed_ms| changed_ms + LEFT_AGE_MS < self.now().wall_ms)
    }

    /// A file shorter than its name says: what a crash left of a block that the log has, or a loss.
    fn short(&self, number: usize, key: BlockKey, path: &str) -> io::Result<()> {
        let folder = &self.folders[number];
        if self.lock().index.find(&key).is_some() {
            return folder.files.remove(key);
        }
        let kept = folder.files.set_aside(key)?;
        warn!(
            "staged block {path} in {} is shorter than its name says; it is kept as {kept} and not uploaded",
            folder.name
        );
        Ok(())
    }
}
