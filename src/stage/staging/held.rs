//! What is held, shared by the cores and by the threads that look for what earlier mounts left.
//!
//! Owns the one lock around index and queue, and the steps that keep them, the log and the files in
//! agreement. Nothing waits while it holds the lock.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tracing::{info, warn};

use super::block::StagingError;
use super::files::Sort;
use super::folder::{Fill, Folder, is_broken, is_full};
use super::index::{Home, Index, Kept, Slot, Stand};
use super::log::{Log, Place, Record};
use super::medium::Medium;
use super::queue::{Now, Queue, Rules};
use super::rate::Rate;
use super::status::StagingCounts;
use crate::object::BlockKey;
use crate::stdx::{self, Gate, monotonic_ns};

/// What cores and walkers share.
pub(super) struct Held<M: Medium> {
    pub(super) folders: Vec<Arc<Folder<M>>>,
    state: Mutex<State>,
    /// Opened when a drain should look again.
    pub(super) gate: Gate,
    /// Opened when bytes went.
    pub(super) room: Gate,
    /// Opened when walks come to an end.
    pub(super) walked: Gate,
    /// Writers that wait for room.
    pub(super) starved: AtomicUsize,
    pub(super) stopping: AtomicBool,
    /// Opened when it is.
    pub(super) stop: Gate,
    /// Blocks are taken; else a folder with nothing left is given up.
    takes: bool,
    has_hours: bool,
    /// The second, and the hour of the local day in it.
    hour: AtomicU64,
}

/// What is under the lock.
pub(super) struct State {
    pub(super) index: Index,
    pub(super) queue: Queue,
    /// Bytes held, and those that are coming.
    pub(super) bytes: u64,
    pub(super) pending: Vec<Pending>,
    /// Names that left while a walk goes on, which may still come upon their files.
    departed: Option<HashSet<BlockKey, RandomState>>,
    /// Walks that go on.
    walks: usize,
    /// Folders whose files of earlier mounts may not be on the disk.
    pub(super) unflushed: usize,
    /// What a walk finds is waited for.
    pub(super) hurries: bool,
    /// Live notes: their folder, and the number of their record.
    pub(super) notes: HashMap<u64, (usize, u64), RandomState>,
    /// Notes of an earlier mount, until somebody takes them.
    pub(super) left_notes: Vec<(u64, Vec<u8>)>,
    /// Old places of blocks that were appended anew, until the new ones are on the disk.
    pub(super) moved: Vec<Moved>,
    pub(super) rate: Rate,
    pub(super) last_error: Option<(String, u64)>,
    pub(super) counts: StagingCounts,
    /// Files set aside, by folder.
    pub(super) set_aside: Vec<u64>,
    pub(super) closed: bool,
}

/// A block's old place in a log.
pub(super) struct Moved {
    pub(super) folder: usize,
    pub(super) place: Place,
    pub(super) size: u32,
    /// Number of the record that has it now.
    pub(super) mark: u64,
}

/// What a folder's next round brings to the disk.
pub(super) struct Pending {
    /// Number of that round.
    pub(super) round: u64,
    /// Files: slots, some of which may have gone or got others since.
    pub(super) blocks: Vec<u32>,
    /// Directories in which names came or went, with the last round that has to bring them.
    pub(super) dirs: HashMap<String, u64, RandomState>,
    /// Directories that are on the disk with all above them.
    pub(super) sure: HashSet<String, RandomState>,
}

impl<M: Medium> Held<M> {
    pub(super) fn new(folders: Vec<Arc<Folder<M>>>, rules: Rules, takes: bool) -> Self {
        let pending = || Pending {
            round: 1,
            blocks: Vec::new(),
            dirs: HashMap::default(),
            sure: HashSet::default(),
        };
        let state = State {
            index: Index::new(),
            queue: Queue::new(rules),
            bytes: 0,
            pending: folders.iter().map(|_| pending()).collect(),
            departed: None,
            walks: 0,
            unflushed: 0,
            hurries: false,
            notes: HashMap::default(),
            left_notes: Vec::new(),
            moved: Vec::new(),
            rate: Rate::default(),
            last_error: None,
            counts: StagingCounts::default(),
            set_aside: vec![0; folders.len()],
            closed: false,
        };
        Self {
            folders,
            state: Mutex::new(state),
            gate: Gate::default(),
            room: Gate::default(),
            walked: Gate::default(),
            starved: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            stop: Gate::default(),
            takes,
            has_hours: rules.hours.is_some(),
            hour: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment, as the queue wants it.
    pub(super) fn now(&self) -> Now {
        let time = stdx::now();
        let wall_ms = time.sec.max(0) as u64 * 1000 + u64::from(time.nsec / 1_000_000);
        let usable = || self.folders.iter().filter(|folder| folder.lost().is_none());
        Now {
            wall_ms,
            steady_ms: monotonic_ns() / 1_000_000,
            hour: if self.has_hours { self.local_hour(time.sec) } else { 0 },
            pressed: usable().any(|folder| folder.fill() != Fill::Roomy),
            starved: self.starved.load(Ordering::Relaxed) > 0,
        }
    }

    /// The hour of the local day, asked of the system once a second.
    fn local_hour(&self, sec: i64) -> u32 {
        let known = self.hour.load(Ordering::Relaxed);
        let second = sec.max(0) as u64;
        if known >> 8 == second {
            return (known & 0xFF) as u32;
        }
        let hour = stdx::local_hour(sec);
        self.hour.store(second << 8 | u64::from(hour), Ordering::Relaxed);
        hour
    }

    /// A block came into the log.
    pub(super) fn arrive(&self, kept: &Kept, now: &Now) {
        let open = {
            let mut state = self.lock();
            state.arrive(kept);
            state.queue.goes_at_once(now)
        };
        if open {
            self.gate.open();
        }
    }

    /// A file came; the folder's next round brings it to the disk.
    pub(super) fn arrive_in_round(&self, mut kept: Kept, now: &Now) {
        let number = kept.home.folder();
        let dir = self.folders[number].files.dir(kept.key);
        let open = {
            let mut state = self.lock();
            kept.mark = state.pending[number].round;
            state.arrive(&kept);
            state.pending[number].changed(dir);
            state.queue.goes_at_once(now)
        };
        if open {
            self.gate.open();
        }
    }

    /// The slot of a block; while a walk goes on the disk is asked about one that is not known.
    pub(super) fn find(&self, state: &mut State, key: &BlockKey) -> Option<u32> {
        if let Some(at) = state.index.find(key) {
            return Some(at);
        }
        if state.departed.as_ref().is_none_or(|departed| departed.contains(key)) {
            return None;
        }
        for (number, folder) in self.folders.iter().enumerate() {
            if let Ok(Sort::Block { kept_ms, tier }) = folder.files.sort(*key) {
                let mark = state.pending[number].round;
                let home = Home::File(number);
                let at = state.arrive(&Kept { key: *key, tier, group: 0, kept_ms, home, mark });
                state.pending[number].changed(folder.files.dir(*key));
                return Some(at);
            }
        }
        None
    }

    /// A file was found. One of a block in the log is its twin, which goes with it.
    /// Files that are not `flushed` come with the folder's next round.
    pub(super) fn found(
        &self,
        folder: usize,
        key: BlockKey,
        kept_ms: u64,
        tier: u8,
        flushed: bool,
    ) {
        let mut state = self.lock();
        if state.departed.as_ref().is_some_and(|departed| departed.contains(&key)) {
            return;
        }
        match state.index.find(&key) {
            Some(at) => match state.index.get(at).home() {
                Home::Log(own, _) if own == folder => state.index.get_mut(at).set_twin(true),
                // Another folder has it as well; what is left here is found again by a later mount.
                Home::Log(..) | Home::File(_) => {}
            },
            None => {
                let mark = if flushed { 0 } else { state.pending[folder].round };
                let home = Home::File(folder);
                state.arrive(&Kept { key, tier, group: 0, kept_ms, home, mark });
            }
        }
    }

    /// Walks begin.
    pub(super) fn begin_walks(&self, walks: usize) {
        let mut state = self.lock();
        state.walks = walks;
        state.departed = (walks > 0).then(HashSet::default);
    }

    /// A walk came to its end.
    pub(super) fn end_walk(&self) {
        let over = {
            let mut state = self.lock();
            state.walks -= 1;
            if state.walks == 0 {
                state.departed = None;
                state.hurries = false;
            }
            state.walks == 0
        };
        if over {
            self.give_up_empty();
            let (blocks, bytes) = {
                let state = self.lock();
                (state.index.len(), state.bytes)
            };
            if blocks > 0 {
                info!("{blocks} blocks ({bytes} bytes) of earlier mounts wait for their upload");
            }
        }
        self.gate.open();
        self.walked.open();
    }

    /// Whether a walk goes on.
    pub(super) fn is_walking(&self) -> bool {
        self.lock().walks > 0
    }

    /// Whether nothing is kept, and no walk may still find something.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.walks == 0 && state.index.len() == 0
    }

    /// A mount that takes no blocks lets others have the folders when nothing is left there.
    pub(super) fn give_up_empty(&self) {
        let empty = {
            let state = self.lock();
            state.walks == 0 && state.index.len() == 0 && state.notes.is_empty()
        };
        if !self.takes && empty {
            self.folders.iter().for_each(|folder| folder.unlock());
        }
    }

    /// The log that takes records: of the first folder that works.
    pub(super) fn log(&self) -> Result<(usize, &Log<M>), String> {
        let mut reason = "no cache folder is usable".to_owned();
        for (number, folder) in self.folders.iter().enumerate() {
            if let Some(lost) = folder.lost() {
                reason = lost.to_owned();
                continue;
            }
            match folder.need_log(&mut |_| ()) {
                Ok(log) => return Ok((number, log)),
                Err(error) => {
                    reason = error.to_string();
                    self.lose(number, &reason);
                }
            }
        }
        Err(reason)
    }

    /// Append to a log; a disk that fails is taken out, and another one tried.
    pub(super) fn append(&self, record: &Record<'_>) -> Result<(usize, Place, u64), Unwritten> {
        loop {
            let (number, log) = self.log().map_err(Unwritten::Failed)?;
            match log.append(record) {
                Ok(place) => return Ok((number, place, log.tail())),
                Err(error) if is_full(&error) => {
                    self.folders[number].is_full();
                    return Err(Unwritten::Full);
                }
                Err(error) if is_broken(&error) => self.lose(number, &error.to_string()),
                Err(error) => return Err(Unwritten::Failed(error.to_string())),
            }
        }
    }

    /// Take a folder out, for good: what is on it goes to the store first.
    pub(super) fn lose(&self, number: usize, reason: &str) {
        let folder = &self.folders[number];
        if !folder.lose(reason) {
            return;
        }
        let left = {
            let mut state = self.lock();
            let State { index, queue, .. } = &mut *state;
            let on_it = index.iter().filter(|(_, slot)| slot.home().folder() == number);
            let on_it: Vec<u32> = on_it.map(|(at, _)| at).collect();
            on_it.iter().for_each(|at| queue.hurry(index, *at));
            on_it.len()
        };
        let name = &folder.name;
        warn!(
            "cache folder {name} fails ({reason}) and takes no more blocks; {left} on it are uploaded first"
        );
        self.gate.open();
    }

    /// An error of a disk: is it the end of its folder?
    pub(super) fn heard(&self, number: usize, error: &io::Error) {
        if is_full(error) {
            self.folders[number].is_full();
        } else if is_broken(error) {
            self.lose(number, &error.to_string());
        }
    }

    /// How far onto the disk a block has come.
    pub(super) fn is_local(&self, slot: &Slot) -> bool {
        match slot.home() {
            Home::Log(folder, _) => self.folders[folder].has_record(slot.mark),
            Home::File(folder) => slot.mark <= self.folders[folder].rounds.reached(),
        }
    }

    /// The bytes of a block whose slot has gone are no longer needed here.
    pub(super) fn erase(&self, slot: &Slot) {
        let key = slot.key();
        match slot.home() {
            Home::Log(number, place) => {
                self.retire(number, key);
                if let Some(log) = self.folders[number].log() {
                    log.release(place, key.size);
                }
                if slot.has_twin() {
                    self.erase_file(number, key);
                }
            }
            Home::File(number) => self.erase_file(number, key),
        }
    }

    /// The log forgets a block.
    pub(super) fn retire(&self, number: usize, key: BlockKey) {
        let Some(log) = self.folders[number].log() else { return };
        if let Err(error) = log.append(&Record::Gone { key }) {
            // The block may come back after a crash; it is then uploaded once more.
            self.heard(number, &error);
        }
    }

    fn erase_file(&self, number: usize, key: BlockKey) {
        let files = &self.folders[number].files;
        if let Err(error) = files.remove(key) {
            self.heard(number, &error);
        }
        self.lock().pending[number].changed(files.dir(key));
    }

    /// Blocks of a folder that was lost before they were on its disk, if there are any.
    pub(super) fn stranded(&self, number: usize) -> Option<StagingError> {
        let folder = &self.folders[number];
        let reason = folder.lost()?.to_owned();
        let state = self.lock();
        let here = |slot: &Slot| slot.home().folder() == number && !slot.is_removed();
        let block = state.index.iter().any(|(_, slot)| here(slot) && !self.is_local(slot));
        let mut notes = state.notes.values();
        let note = notes.any(|(own, mark)| *own == number && !folder.has_record(*mark));
        let folder = folder.name.clone();
        (block || note).then_some(StagingError::Failed { folder, reason })
    }
}

/// Why a record is in no log.
pub(super) enum Unwritten {
    /// The disk is full.
    Full,
    /// No disk takes it.
    Failed(String),
}

impl Unwritten {
    /// For people.
    pub(super) fn words(self) -> String {
        match self {
            Self::Full => "the disk is full".to_owned(),
            Self::Failed(reason) => reason,
        }
    }
}

impl State {
    /// A block came in; one that a walk found before is where it is said to be now.
    pub(super) fn arrive(&mut self, kept: &Kept) -> u32 {
        let at = match self.index.find(&kept.key) {
            Some(at) => {
                let slot = self.index.get_mut(at);
                slot.move_to(kept.home);
                slot.mark = kept.mark;
                at
            }
            None => {
                self.bytes += u64::from(kept.key.size);
                let at = self.index.insert(kept);
                self.queue.push(&mut self.index, at);
                if self.hurries {
                    self.queue.hurry(&mut self.index, at);
                }
                at
            }
        };
        if let Home::File(folder) = kept.home
            && kept.mark == self.pending[folder].round
        {
            self.pending[folder].blocks.push(at);
        }
        at
    }

    /// A block leaves index and queue.
    pub(super) fn depart(&mut self, at: u32) -> Slot {
        self.queue.leave(&mut self.index, at);
        let slot = self.index.remove(at);
        self.bytes -= u64::from(slot.key().size);
        if let Some(departed) = &mut self.departed {
            departed.insert(slot.key());
        }
        slot
    }

    /// All that is here and that a walk still finds is waited for.
    pub(super) fn hurries_all(&mut self) {
        self.hurries = self.walks > 0;
        self.queue.hurry_all(&mut self.index);
    }

    /// The slot of a block that is in somebody's hands.
    pub(super) fn in_hand(&self, key: &BlockKey) -> Option<u32> {
        let at = self.index.find(key)?;
        (self.index.get(at).stand() == Stand::Flying).then_some(at)
    }
}

impl Pending {
    /// Names came or went in a directory.
    pub(super) fn changed(&mut self, dir: String) {
        self.dirs.insert(dir, self.round);
    }
}
