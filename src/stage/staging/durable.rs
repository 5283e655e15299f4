//! Bringing what is kept to where a loss of power does not reach it.
//!
//! Owns one round of a folder's files: the files, then the directories that got or lost names. Rounds are
//! shared by all who wait (`sync`); those of the log are the log's own. An error takes the folder out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::area::Staging;
use super::block::StagingError;
use super::files::parent;
use super::folder::Folder;
use super::held::Held;
use super::index::Home;
use super::medium::Medium;
use super::status::StagingCounts;
use crate::limits::STAGING_SYNCS_MAX;
use crate::net::side;
use crate::object::BlockKey;
use crate::uring;

/// From so many files on, the file system is brought to the disk whole.
const WHOLE_FILES: usize = 256;

/// Longest time until what is kept is brought to the disk, whoever waits for it.
const PACE: Duration = Duration::from_secs(1);

/// What a round brings.
struct Batch {
    round: u64,
    /// Entries of the folder's list that it is made of.
    entries: usize,
    keys: Vec<BlockKey>,
    dirs: Vec<String>,
}

impl<M: Medium> Staging<M> {
    /// Bring all blocks and notes kept before this call to where a loss of power does not reach them.
    /// Who comes while the disk is at it shares the next round. What was removed before it stays away
    /// then, too, unless a disk failed of which nothing is needed any more: that is no error.
    ///
    /// # Errors
    /// Of the disk; never taken back by a later success.
    pub async fn sync(&self) -> Result<(), StagingError> {
        self.held.lock().counts.sync_waiters += 1;
        loop {
            let ticket = self.held.walked.ticket();
            if self.held.lock().unflushed == 0 {
                break;
            }
            self.held.walked.wait(ticket).await;
        }
        bring(&self.held).await
    }

    /// Rounds so far.
    pub(super) fn count_rounds(&self, counts: &mut StagingCounts) {
        for folder in &self.held.folders {
            let files = folder.rounds.counts();
            let log = folder.log().map(|log| log.counts()).unwrap_or_default();
            counts.syncs += files.rounds + log.rounds;
            counts.sync_us += files.took_us + log.took_us;
        }
    }
}

/// Bring all folders to the disk; files before the log, as its notes are about blocks that are files, too.
async fn bring<M: Medium>(held: &Arc<Held<M>>) -> Result<(), StagingError> {
    for number in 0..held.folders.len() {
        if held.folders[number].lost().is_none() && !held.folders[number].is_given_up() {
            bring_files(held, number).await;
        }
        if held.folders[number].lost().is_none() {
            bring_log(held, number).await;
        }
        if let Some(stranded) = held.stranded(number) {
            return Err(stranded);
        }
    }
    Ok(())
}

/// A thread that brings all to the disk again and again, so that a loss of power takes little of what
/// nobody asked to be brought there, and the log gives room back. Folders that are needed no more are
/// given up.
pub(super) fn tend<M: Medium>(held: &Arc<Held<M>>) -> io::Result<JoinHandle<()>> {
    let held = Arc::clone(held);
    let tend = move || uring::block_on(keep_up(held));
    thread::Builder::new().name("stage-sync".to_owned()).spawn(tend)
}

async fn keep_up<M: Medium>(held: Arc<Held<M>>) {
    while !held.stopping.load(Ordering::Relaxed) {
        let ticket = held.stop.ticket();
        let over = held.stopping.load(Ordering::Relaxed);
        if over || uring::timeout(PACE, held.stop.wait(ticket)).await.is_ok() {
            return;
        }
        // Whoever asks for it is told of an error, now and later.
        let _ = bring(&held).await;
        held.give_up_empty().await;
    }
}

/// Bring a folder's log to the disk, as far as it goes now.
pub(super) async fn bring_log<M: Medium>(held: &Held<M>, number: usize) {
    let folder = &held.folders[number];
    let Some(log) = folder.log() else { return };
    let tail = log.tail();
    if folder.has_record(tail) {
        return;
    }
    match log.sync(tail).await {
        Ok(()) => held.release_moved(number),
        Err(error) => held.lose(number, &error.to_string()),
    }
}

/// Bring a folder's files and their names to the disk.
pub(super) async fn bring_files<M: Medium>(held: &Arc<Held<M>>, number: usize) {
    let wanted = {
        let state = held.lock();
        let pending = &state.pending[number];
        if pending.blocks.is_empty() && pending.dirs.is_empty() {
            return;
        }
        pending.round
    };
    let round = || carry(Arc::clone(held), number);
    if let Err(error) = held.folders[number].rounds.reach(wanted, round).await {
        held.lose(number, &error.to_string());
    }
}

/// One round: all that is there now; its number.
async fn carry<M: Medium>(held: Arc<Held<M>>, number: usize) -> io::Result<u64> {
    let batch = held.begin_round(number);
    let folder = Arc::clone(&held.folders[number]);
    if !whole(&folder, batch.keys.len()).await? {
        let files = stream::iter(batch.keys.iter().map(|key| bring_file(&folder, *key)));
        files.buffer_unordered(STAGING_SYNCS_MAX).try_collect::<()>().await?;
        for dir in &batch.dirs {
            found(folder.medium.sync_dir(dir).await)?;
        }
    }
    held.end_round(number, &batch);
    Ok(batch.round)
}

async fn bring_file<M: Medium>(folder: &Folder<M>, key: BlockKey) -> io::Result<()> {
    match folder.medium.open(&folder.files.staged(key)) {
        Ok(file) => folder.medium.sync_file(&file).await,
        error => found(error.map(|_| ())),
    }
}

/// What is gone by now need not be brought anywhere.
fn found(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Bring the whole file system to the disk if that is less work; whether it was done.
async fn whole<M: Medium>(folder: &Folder<M>, files: usize) -> io::Result<bool> {
    let Some(root) = folder.root.clone().filter(|_| files >= WHOLE_FILES) else { return Ok(false) };
    side::run(move || bring_all(&root)).await?;
    Ok(true)
}

/// Bring the file system of a folder to the disk.
pub(super) fn bring_all(root: &std::path::Path) -> io::Result<()> {
    let dir = std::fs::File::open(root)?;
    Ok(rustix::fs::syncfs(dir)?)
}

impl<M: Medium> Held<M> {
    fn begin_round(&self, number: usize) -> Batch {
        let mut state = self.lock();
        let state = &mut *state;
        let pending = &mut state.pending[number];
        let round = pending.round;
        pending.round += 1;
        let slots = pending.blocks.iter().filter_map(|at| state.index.used(*at));
        let here = slots.filter(|slot| slot.home() == Home::File(number) || slot.has_twin());
        let keys = here.map(|slot| slot.key()).collect();
        let mut dirs = Vec::new();
        for dir in pending.dirs.keys() {
            dirs.push(dir.clone());
            let mut above = dir.as_str();
            while !pending.sure.contains(dir) && !above.is_empty() {
                above = parent(above);
                dirs.push(above.to_owned());
            }
        }
        dirs.sort_unstable();
        dirs.dedup();
        Batch { round, entries: pending.blocks.len(), keys, dirs }
    }

    fn end_round(&self, number: usize, batch: &Batch) {
        let mut state = self.lock();
        let pending = &mut state.pending[number];
        pending.blocks.drain(..batch.entries);
        pending.dirs.retain(|_, round| *round > batch.round);
        pending.sure.extend(batch.dirs.iter().cloned());
    }
}
