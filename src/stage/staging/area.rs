//! The staging area of a mount: its front.
//!
//! Owns the settings and the questions that need no waiting. Relies on `keep`, `durable`, `uploads` and
//! `close` for the rest of what it can do.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::aside::Aside;
use super::block::{Removed, StagingError};
use super::config::StagingConfig;
use super::durable::tend;
use super::files::Files;
use super::folder::Folder;
use super::held::{Held, State};
use super::index::{FOLDERS_MAX, Home, Stand};
use super::level::Standing;
use super::log::Record;
use super::medium::{Medium, Os};
use super::queue::Rules;
use super::recover;
use super::status::{FailedUpload, StagingStatus};
use crate::limits::{STAGING_FAILURES_TOLD, STAGING_LOG_BLOCK_BYTES_MAX};
use crate::object::{BlockKey, Layout};
use crate::stage::cache::BlockCache;
use crate::stage::cache::ring::Ring;
use crate::stdx::Gate;

/// Blocks of a volume on this machine; one per mount, shared by the cores.
pub struct Staging<M: Medium = Os> {
    pub(super) config: StagingConfig,
    pub(super) layout: Layout,
    pub(super) held: Arc<Held<M>>,
    pub(super) ring: Ring,
    /// Threads that write large files; without them they are written at once.
    pub(super) aside: Option<Aside>,
    /// Longest block that goes into the log; longer ones are files.
    pub(super) log_block_bytes_max: u32,
    /// How long a file may take to be written.
    pub(super) patience: Duration,
    /// Those that walk through folders, and the one that brings all to the disk again and again.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Staging<Os> {
    /// The staging folders of volume `uuid`; what earlier mounts and the official client left there is
    /// found, the log at once, single files maybe later (until then each question asks the disk).
    ///
    /// # Errors
    /// When another process has a folder, or a log is damaged elsewhere than at its end.
    pub fn open(
        config: &StagingConfig,
        uuid: &str,
        layout: Layout,
        cache: Option<Arc<BlockCache>>,
    ) -> Result<Arc<Self>, StagingError> {
        let mut folders = Vec::new();
        for dir in config.folders.iter().take(FOLDERS_MAX) {
            folders.extend(open_folder(config, &dir.join(uuid), layout, cache.as_ref())?);
        }
        if let Some(cache) = &cache {
            cache
                .entrust_staged(folders.iter().filter_map(|folder| Some(folder.cache.as_ref()?.1)));
        }
        let mut staging = Self::over(config, layout, folders)?;
        staging.start().map_err(|error| StagingError::Failed {
            folder: staging.names(),
            reason: format!("cannot start a thread: {error}"),
        })?;
        Ok(Arc::new(staging))
    }

    fn start(&mut self) -> std::io::Result<()> {
        self.aside = Some(Aside::start()?);
        let mut threads = recover::walk_aside(&self.held);
        threads.push(tend(&self.held)?);
        self.threads = Mutex::new(threads);
        Ok(())
    }
}

/// A folder of the system's files; `None` if it is not to be had and need not be.
fn open_folder(
    config: &StagingConfig,
    root: &Path,
    layout: Layout,
    cache: Option<&Arc<BlockCache>>,
) -> Result<Option<Folder<Os>>, StagingError> {
    let Some(lock) = recover::lock_folder(config, root)? else { return Ok(None) };
    let medium = Arc::new(Os::new(root.to_owned(), config.file_mode, config.folder_mode()));
    let files = Files::new(Arc::clone(&medium), layout, config.checksums);
    let name = root.display().to_string();
    let identity = std::fs::read_to_string(root.join(".lock")).unwrap_or_else(|_| name.clone());
    let folder = Folder::new(name, identity, medium, files);
    let mut folder = folder.at(root.to_owned(), lock, config.free_space_ratio);
    folder.cache = cache.and_then(|cache| Some((Arc::clone(cache), cache.folder(root)?)));
    Ok(Some(folder))
}

impl<M: Medium> Staging<M> {
    /// A staging area over folders whose logs are read now and whose files are not looked for yet.
    pub(super) fn over(
        config: &StagingConfig,
        layout: Layout,
        folders: Vec<Folder<M>>,
    ) -> Result<Self, StagingError> {
        let rules = Rules::new(config.upload_delay, config.upload_deadline, config.upload_hours);
        let folders: Vec<_> = folders.into_iter().map(Arc::new).collect();
        let ring = Ring::new(folders.iter().map(|folder| folder.identity.as_str()));
        let held = Arc::new(Held::new(folders, rules, config.takes));
        recover::replay(&held, config.takes)?;
        Ok(Self {
            config: config.clone(),
            layout,
            held,
            ring,
            aside: None,
            log_block_bytes_max: STAGING_LOG_BLOCK_BYTES_MAX,
            patience: super::keep::PATIENCE,
            threads: Mutex::default(),
        })
    }

    /// A staging area over one medium, complete when this returns.
    #[cfg(test)]
    pub(super) fn on(
        config: &StagingConfig,
        layout: Layout,
        medium: M,
    ) -> Result<Self, StagingError> {
        let medium = Arc::new(medium);
        let files = Files::new(Arc::clone(&medium), layout, config.checksums);
        let folder = Folder::new("disk".to_owned(), "disk".to_owned(), medium, files);
        let staging = Self::over(config, layout, vec![folder])?;
        recover::walk_now(&staging.held);
        Ok(staging)
    }

    /// How far a block that is kept here has come; `None` if it is not.
    pub fn standing(&self, key: &BlockKey) -> Option<Standing> {
        let mut state = self.held.lock();
        let at = self.held.find(&mut state, key)?;
        let slot = state.index.get(at);
        if slot.is_removed() {
            return None;
        }
        Some(if self.held.is_local(slot) { Standing::Local } else { Standing::Logged })
    }

    /// When a block that is kept here was kept, ms since 1970.
    pub fn kept_ms(&self, key: &BlockKey) -> Option<u64> {
        let mut state = self.held.lock();
        let at = self.held.find(&mut state, key)?;
        Some(state.index.get(at).kept_ms)
    }

    /// Let a block go that nobody refers to any more.
    pub fn remove(&self, key: &BlockKey) -> Removed {
        let slot = {
            let mut state = self.held.lock();
            let Some(at) = self.held.find(&mut state, key) else { return Removed::Unknown };
            let slot = *state.index.get(at);
            if slot.is_removed() {
                return Removed::Unknown;
            }
            state.counts.spared += 1;
            if slot.stand() == Stand::Flying {
                state.index.get_mut(at).set_removed();
                None
            } else {
                Some(state.depart(at))
            }
        };
        match slot {
            Some(slot) => {
                self.held.erase(&slot);
                self.left();
                Removed::Dropped
            }
            None => {
                self.forget_flying(key);
                Removed::Flying
            }
        }
    }

    /// A block in hand must not come back after a crash, though its bytes are still being sent.
    fn forget_flying(&self, key: &BlockKey) {
        let home = {
            let state = self.held.lock();
            state.in_hand(key).map(|at| state.index.get(at).home())
        };
        if let Some(Home::Log(number, _)) = home {
            self.held.retire(number, *key);
        }
    }

    /// Somebody waits for these: they go first, whatever `--upload-delay` and `--upload-hours` say.
    pub fn hurry(&self, keys: &[BlockKey]) {
        {
            let mut state = self.held.lock();
            for key in keys {
                if let Some(at) = self.held.find(&mut state, key) {
                    let State { index, queue, .. } = &mut *state;
                    queue.hurry(index, at);
                }
            }
        }
        self.held.gate.open();
    }

    /// Somebody waits for all.
    pub fn hurry_all(&self) {
        {
            let mut state = self.held.lock();
            state.hurries_all();
        }
        self.held.gate.open();
    }

    /// Try again now what failed; how many blocks.
    pub fn retry(&self) -> usize {
        let now = self.held.now();
        let count = self.held.lock().queue.retry(&now);
        self.held.gate.open();
        count
    }

    /// Opens whenever a block came, left or failed, or something may be uploaded that could not before.
    pub fn gate(&self) -> &Gate {
        &self.held.gate
    }

    /// Keep a note of the data floor beside the blocks, as safe as they; one of the same tag is replaced.
    ///
    /// # Errors
    /// Of the disk.
    pub fn note(&self, tag: u64, bytes: &[u8]) -> Result<(), StagingError> {
        let failed = |reason| StagingError::Failed { folder: self.names(), reason };
        let appended = self.held.append(&Record::Note { tag, bytes });
        let (folder, _, mark) = appended.map_err(|why| failed(why.words()))?;
        let before = self.held.lock().notes.insert(tag, (folder, mark));
        if let Some((other, _)) = before
            && other != folder
        {
            self.retire_note(other, tag);
        }
        Ok(())
    }

    /// A note is no longer needed.
    pub fn forget_note(&self, tag: u64) {
        let known = self.held.lock().notes.remove(&tag);
        if let Some((folder, _)) = known {
            self.retire_note(folder, tag);
            self.held.give_up_empty();
        }
    }

    fn retire_note(&self, folder: usize, tag: u64) {
        let Some(log) = self.held.folders[folder].log() else { return };
        if let Err(error) = log.append(&Record::NoteGone { tag }) {
            // It comes back after a crash; its owner knows that it was dealt with.
            self.held.heard(folder, &error);
        }
    }

    /// The notes an earlier mount left, in the order they were made; once.
    pub fn take_notes(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.held.lock().left_notes)
    }

    /// Whether every block is in the object store.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Every block that is here, and when it was kept, ms since 1970.
    pub fn kept(&self) -> Vec<(BlockKey, u64)> {
        let state = self.held.lock();
        let slots = state.index.iter().map(|(_, slot)| slot).filter(|slot| !slot.is_removed());
        slots.map(|slot| (slot.key(), slot.kept_ms)).collect()
    }

    /// Whether files that an earlier mount left may still be found.
    pub fn is_walking(&self) -> bool {
        self.held.is_walking()
    }

    /// What is here now.
    pub fn status(&self) -> StagingStatus {
        let now = self.held.now();
        let mut state = self.held.lock();
        let mut status = StagingStatus { counted: state.counts, ..StagingStatus::default() };
        let mut oldest_ms = u64::MAX;
        let mut lost = vec![0; self.held.folders.len()];
        for (_, slot) in state.index.iter().filter(|(_, slot)| !slot.is_removed()) {
            let bytes = u64::from(slot.key().size);
            let (blocks, sum) = match self.held.is_local(slot) {
                true => (&mut status.local_blocks, &mut status.local_bytes),
                false => (&mut status.logged_blocks, &mut status.logged_bytes),
            };
            (*blocks, *sum) = (*blocks + 1, *sum + bytes);
            oldest_ms = oldest_ms.min(slot.kept_ms);
            lost[slot.home().folder()] += 1;
            status.flying += u64::from(slot.stand() == Stand::Flying);
            status.counted.deadline_misses += u64::from(state.queue.is_late(slot.kept_ms, &now));
        }
        status.oldest_age_ms =
            if oldest_ms == u64::MAX { 0 } else { now.wall_ms.saturating_sub(oldest_ms) };
        let mut failed: Vec<_> = state.queue.waiting_retries().collect();
        status.failed_blocks = failed.len() as u64;
        failed.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.failures));
        let told = failed.into_iter().take(STAGING_FAILURES_TOLD);
        status.failed = told
            .map(|(at, failure)| FailedUpload {
                key: state.index.get(at).key(),
                failures: failure.failures,
                reason: failure.reason.to_string(),
                retry_in_ms: failure.retry_ms.saturating_sub(now.steady_ms),
            })
            .collect();
        status.last_error = state.last_error.clone();
        status.upload_bytes_per_s = state.rate.per_second(now.steady_ms);
        status.lost_folders = self.lost_folders(&lost, &state.set_aside);
        drop(state);
        self.count_rounds(&mut status.counted);
        status
    }

    /// Folders that were taken out, and what was set aside in any.
    fn lost_folders(&self, left: &[u64], set_aside: &[u64]) -> Vec<(String, String, u64)> {
        let mut told = Vec::new();
        for (folder, (left, aside)) in self.held.folders.iter().zip(left.iter().zip(set_aside)) {
            if let Some(reason) = folder.lost() {
                told.push((folder.name.clone(), reason.to_owned(), *left));
            }
            if *aside > 0 {
                let name = format!("{}/{}", folder.name, super::files::SET_ASIDE);
                told.push((
                    name,
                    "files shorter than their names say, never uploaded".to_owned(),
                    *aside,
                ));
            }
        }
        told
    }

    /// Something left: there may be room, and somebody may wait for it.
    pub(super) fn left(&self) {
        self.held.room.open();
        self.held.gate.open();
        self.held.give_up_empty();
    }

    fn names(&self) -> String {
        let names: Vec<&str> =
            self.held.folders.iter().map(|folder| folder.name.as_str()).collect();
        names.join(", ")
    }
}

impl<M: Medium> Drop for Staging<M> {
    fn drop(&mut self) {
        self.held.stopping.store(true, Ordering::Relaxed);
        self.held.stop.open();
        // What is being written is written to its end; then nothing here touches the folders any more.
        self.aside = None;
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
        self.held.folders.iter().for_each(|folder| folder.unlock());
    }
}
