//! How far written data has come, and waiting until it has come so far.
//!
//! Owns the levels of a file: what is dirty, kept here, in the store, committed. Does not own the
//! files and the log that keep it (`stage`), nor who waits for which level (`vfs`).

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Data;
use super::error::DataError;
use super::extents::listed_sources;
use super::shared::File;
use super::slice::Source;
use crate::object::BlockKey;
use crate::pages::PAGE_BYTES;
use crate::stage::{Staging, StagingError, StagingStatus, Standing};
use crate::stdx::{monotonic_ns, now};
use crate::types::{CHUNK_BYTES, Ino, Level, Publish};
use crate::uring;

/// How often all that is kept is told that somebody waits for it.
const HURRY_AGAIN: Duration = Duration::from_secs(1);

/// How far the data of a file has come.
#[derive(Debug, Clone, PartialEq)]
pub struct FileState {
    /// The level that all of it has reached.
    pub level: Level,
    /// Bytes that are not in the object store yet.
    pub bytes_left: u64,
    /// Blocks that are not in the object store yet.
    pub blocks_left: u64,
    /// Age of the oldest of them, ms; 0 if there is none.
    pub oldest_age_ms: u64,
    /// Why the last upload of one of them failed.
    pub last_error: Option<String>,
}

impl Default for FileState {
    fn default() -> Self {
        let level = Level::Committed;
        Self { level, bytes_left: 0, blocks_left: 0, oldest_age_ms: 0, last_error: None }
    }
}

impl FileState {
    /// A block of so many bytes is not in the store.
    fn left(&mut self, level: Level, size: u32, age_ms: u64) {
        self.level = self.level.min(level);
        self.bytes_left += u64::from(size);
        self.blocks_left += 1;
        self.oldest_age_ms = self.oldest_age_ms.max(age_ms);
    }
}

impl From<StagingError> for DataError {
    fn from(error: StagingError) -> Self {
        Self::Io(error.to_string())
    }
}

/// What of a file is not in the list of its slices.
#[derive(Default)]
pub(super) struct Uncommitted {
    /// Number of the newest slice that there is, 0 without any.
    pub newest: u64,
    /// Lengths of blocks that are only in memory.
    pub loose: Vec<u32>,
    /// When the oldest of those slices began, monotonic ns.
    pub born_ns: u64,
    /// Blocks that are kept.
    pub staged: Vec<BlockKey>,
}

impl Data {
    /// What close waits for: everything written to the file is stored and committed, or, with
    /// `--writeback`, survives a crash of this process.
    ///
    /// # Errors
    /// The first error of any write since the file was last forgotten.
    pub async fn keep(self: &Rc<Self>, ino: Ino) -> Result<(), DataError> {
        let Some(file) = self.shared.known(ino) else { return Ok(()) };
        let last = self.begin_flush(&file).await;
        loop {
            let ticket = file.moved.ticket();
            let (kept, error, missing) =
                file.with(|extents| (extents.is_kept(last), extents.sticky(), extents.missing()));
            if kept {
                return error;
            }
            if self.shared.config.publish == Publish::Local {
                // What is published at once waits behind what never is.
                error.and(missing)?;
            }
            self.hurry_file(&file, last, true);
            file.moved.wait(ticket).await;
            self.resume(&file).await;
        }
    }

    /// What fsync waits for: as `keep`, and a loss of power does not reach it.
    ///
    /// # Errors
    /// As `keep`, and of the disk; that one is told until the file is forgotten.
    pub async fn sync(self: &Rc<Self>, ino: Ino) -> Result<(), DataError> {
        self.keep(ino).await?;
        let Some(staging) = &self.shared.config.staging else { return Ok(()) };
        let synced = staging.sync().await.map_err(DataError::from);
        if let Err(error) = &synced {
            self.shared.file(ino).with(|extents| extents.fail(error.clone()));
        }
        synced
    }

    /// Wait until all that was written to a file has come so far; uploads of it go first.
    ///
    /// # Errors
    /// The first error of a write. Uploads that fail are tried again: see `state_of`.
    pub async fn reach(self: &Rc<Self>, ino: Ino, level: Level) -> Result<(), DataError> {
        match level {
            Level::Accepted => Ok(()),
            Level::Logged => self.keep(ino).await,
            Level::Local => self.sync(ino).await,
            Level::Uploaded | Level::Committed => {
                self.flush(ino).await?;
                let Some(staging) = &self.shared.config.staging else { return Ok(()) };
                loop {
                    let length = self.patiently(|| self.slices.length(ino)).await?;
                    let staged = self.staged_of(ino, length).await?;
                    if staged.is_empty() {
                        return Ok(());
                    }
                    // Others may have taken their place when these are gone.
                    self.until_uploaded(staging, staged).await;
                }
            }
        }
    }

    /// The same for all that was written to the mount.
    ///
    /// # Errors
    /// As `reach`.
    pub async fn reach_all(self: &Rc<Self>, level: Level) -> Result<(), DataError> {
        if level == Level::Accepted {
            return Ok(());
        }
        self.flush_all().await?;
        let Some(staging) = &self.shared.config.staging else { return Ok(()) };
        if level == Level::Logged {
            return Ok(());
        }
        if level == Level::Local {
            return Ok(staging.sync().await?);
        }
        self.until_all_uploaded(staging).await;
        for ino in self.shared.dirty_files() {
            self.flush(ino).await?;
        }
        Ok(())
    }

    /// Wait until all of a file is committed, however long its upload may take; nothing goes faster for
    /// it.
    ///
    /// # Errors
    /// As `keep`.
    pub async fn settled(self: &Rc<Self>, ino: Ino) -> Result<(), DataError> {
        self.keep(ino).await?;
        let Some(file) = self.shared.known(ino) else { return Ok(()) };
        let last = file.with(|extents| extents.newest());
        loop {
            let ticket = file.moved.ticket();
            let (settled, error) =
                file.with(|extents| (extents.is_settled(last), extents.sticky()));
            if settled {
                return error;
            }
            file.moved.wait(ticket).await;
        }
    }

    /// How far the data of a file of this length has come.
    ///
    /// # Errors
    /// When its lists cannot be fetched.
    pub async fn state_of(self: &Rc<Self>, ino: Ino, length: u64) -> Result<FileState, DataError> {
        let mut state = FileState::default();
        let mut staged: BTreeSet<BlockKey> = BTreeSet::new();
        if let Some(file) = self.shared.known(ino) {
            let block_bytes = self.shared.config.layout.block_bytes();
            let uncommitted = file.with(|extents| extents.uncommitted(block_bytes));
            let age_ms = monotonic_ns().saturating_sub(uncommitted.born_ns) / 1_000_000;
            uncommitted.loose.iter().for_each(|size| state.left(Level::Accepted, *size, age_ms));
            if uncommitted.newest > 0 {
                state.level = state.level.min(Level::Uploaded);
            }
            staged.extend(uncommitted.staged);
            let refused = file.with(|extents| extents.sticky().err().or(extents.refusal()));
            state.last_error = refused.map(|error| error.to_string());
        }
        let Some(staging) = &self.shared.config.staging else { return Ok(state) };
        staged.extend(self.staged_of(ino, length).await?);
        let now = now();
        let now_ms = now.sec as u64 * 1000 + u64::from(now.nsec) / 1_000_000;
        for key in &staged {
            let level = match staging.standing(key) {
                Some(Standing::Logged) => Level::Logged,
                Some(Standing::Local) => Level::Local,
                None => continue,
            };
            let kept_ms = staging.kept_ms(key).unwrap_or(now_ms);
            state.left(level, key.size, now_ms.saturating_sub(kept_ms));
        }
        if state.last_error.is_none() && !staged.is_empty() {
            let failed = staging.status().failed;
            let mine = failed.into_iter().find(|failed| staged.contains(&failed.key));
            state.last_error = mine.map(|failed| failed.reason);
        }
        Ok(state)
    }

    /// What is kept on this machine, with what is dirty in memory: bytes of it.
    pub fn staging(&self) -> Option<(StagingStatus, u64)> {
        let dirty_bytes = (self.shared.config.pool.used_pages() * PAGE_BYTES) as u64;
        self.shared.config.staging.as_ref().map(|staging| (staging.status(), dirty_bytes))
    }

    /// Try failed uploads again now; how many.
    pub fn retry_uploads(&self) -> usize {
        let Some(staging) = &self.shared.config.staging else { return 0 };
        let count = staging.retry();
        self.shared.bell.open();
        count
    }

    /// The mount ends: what is written from now on is kept though `--max-staging-size` is reached.
    pub fn end_limits(&self) {
        if let Some(staging) = &self.shared.config.staging {
            staging.end_limits();
        }
    }

    /// Blocks that must be uploaded before slices of a file up to this number are committed go first;
    /// with `unnoted` only those of slices that could not be noted. Where slices are published at once, new
    /// ones wait behind those of an earlier mount.
    pub(super) fn hurry_file(&self, file: &File, last: u64, unnoted: bool) {
        let config = &self.shared.config;
        let Some(staging) = &config.staging else { return };
        let unnoted = unnoted && config.publish == Publish::Uploaded;
        let keys = file.with(|extents| extents.staged_blocks(last, unnoted));
        if !keys.is_empty() {
            staging.hurry(&keys);
            self.shared.bell.open();
        }
    }

    /// Blocks of what is visible of a file by its lists that wait for their upload.
    async fn staged_of(
        self: &Rc<Self>,
        ino: Ino,
        length: u64,
    ) -> Result<BTreeSet<BlockKey>, DataError> {
        let mut staged = BTreeSet::new();
        let Some(staging) = &self.shared.config.staging else { return Ok(staged) };
        if length == 0 || staging.is_empty() {
            return Ok(staged);
        }
        // A file of holes may be longer than all its lists, and a long one has too many to keep them.
        for chunk in self.patiently(|| self.slices.listed_chunks(ino, length)).await? {
            let records = self.chunk(ino, chunk).await?;
            let before = u64::from(chunk) * CHUNK_BYTES;
            let end = length.saturating_sub(before).min(CHUNK_BYTES) as u32;
            for source in listed_sources(chunk, &records, end, self.shared.config.layout)? {
                if let Source::Block(key, ..) = source
                    && staging.standing(&key).is_some()
                {
                    staged.insert(key);
                }
            }
        }
        Ok(staged)
    }

    /// Wait until nothing that is kept now waits for its upload, nor what it was merged into, which is as
    /// old. What comes meanwhile is not waited for: a steady writer would have no end.
    async fn until_all_uploaded(&self, staging: &Arc<Staging>) {
        loop {
            let ticket = staging.gate().ticket();
            if !staging.is_walking() {
                break;
            }
            staging.hurry_all();
            self.shared.bell.open();
            let _ = uring::timeout(HURRY_AGAIN, staging.gate().wait(ticket)).await;
        }
        // Not the clock's: it may have been ahead when one was kept.
        let newest_ms = staging.kept().into_iter().map(|(_, kept_ms)| kept_ms).max();
        loop {
            let mut keys = staging.kept();
            keys.retain(|(_, kept_ms)| Some(*kept_ms) <= newest_ms);
            if keys.is_empty() {
                return;
            }
            let keys = keys.into_iter().map(|(key, _)| key).collect();
            let _ = uring::timeout(HURRY_AGAIN, self.until_uploaded(staging, keys)).await;
        }
    }

    /// Wait until none of these waits for its upload any more.
    async fn until_uploaded(&self, staging: &Arc<Staging>, keys: BTreeSet<BlockKey>) {
        let mut keys: Vec<BlockKey> = keys.into_iter().collect();
        staging.hurry(&keys);
        self.shared.bell.open();
        loop {
            let ticket = staging.gate().ticket();
            while keys.pop_if(|key| staging.standing(key).is_none()).is_some() {}
            if keys.is_empty() {
                return;
            }
            staging.gate().wait(ticket).await;
        }
    }
}
