//! What the cores of a mount share of file bytes: the dirty state of files and the bounds.
//!
//! Owns the table of files and the list of open slices. All locks are short: a closure runs under
//! them and nothing waits. Does not own any I/O (`Data` does, per core).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::blocks::Flights;
use super::compaction::Compactions;
use super::counts::Counts;
use super::extents::{Extents, Step};
use super::staged::StagedSlices;
use crate::limits::MERGES_MAX;
use crate::metrics::Sheets;
use crate::object::Layout;
use crate::pages::Pool;
use crate::stage::{BlockCache, Compression, Staging};
use crate::stdx::{Gate, Permits, monotonic_ns};
use crate::types::{Ino, Publish};

/// Shards of the table of files.
const SHARDS: usize = 16;
/// Files per shard whose committed lists are kept after they are closed.
const FILES_PER_SHARD: usize = 4096;

/// Readers that may be read ahead of with a full window at a time.
const READERS_AHEAD: u64 = 2;

/// Settings of the data floor.
pub struct DataConfig {
    /// How slices are cut into blocks and named.
    pub layout: Layout,
    /// How blocks are encoded.
    pub compression: Compression,
    /// The store encrypts objects, so that a part of one costs all of it.
    pub encrypted: bool,
    /// The hard budget of bytes that are written and not yet stored.
    pub pool: Arc<Pool>,
    /// Blocks kept near; without it every read goes to the store.
    pub cache: Option<Arc<BlockCache>>,
    /// Keep whole blocks too when they are written, not only the short last ones.
    pub cache_large_writes: bool,
    /// Blocks stored at a time, all cores together.
    pub uploads: usize,
    /// Objects or parts of them fetched at a time, all cores together.
    pub downloads: usize,
    /// Objects removed at a time, all cores together; 0 for none at all.
    pub deletes: usize,
    /// Tries of a request to the engine before a write or read fails.
    pub tries: u32,
    /// Bytes read ahead of a sequential reader at most; 0 turns it off.
    pub max_readahead_bytes: u64,
    /// Whole blocks fetched at a time after a read of a piece; 0 turns it off.
    pub prefetch: usize,
    /// Long lists of slices are made shorter when they are met.
    pub compacts: bool,
    /// Blocks that wait for their upload.
    pub staging: Option<Arc<Staging>>,
    /// When others may see what is staged.
    pub publish: Publish,
}

/// One file's dirty state.
pub(super) struct File {
    pub ino: Ino,
    extents: Mutex<Extents>,
    /// Opens whenever a slice is committed or lost.
    pub moved: Gate,
}

impl File {
    /// Look at or move the state; nothing in `action` may wait.
    pub fn with<T>(&self, action: impl FnOnce(&mut Extents) -> T) -> T {
        action(&mut locked(&self.extents))
    }
}

struct OpenSlice {
    file: Arc<File>,
    born_ns: u64,
}

type Files = HashMap<Ino, Arc<File>, RandomState>;

/// What the cores share; one per mount.
pub struct DataShared {
    pub(super) config: DataConfig,
    pub(super) uploads: Arc<Permits>,
    pub(super) downloads: Arc<Permits>,
    pub(super) deletes: Arc<Permits>,
    /// Blocks fetched ahead of readers at a time.
    pub(super) readahead: Arc<Permits>,
    /// Blocks fetched around random reads at a time.
    pub(super) prefetch: Option<Arc<Permits>>,
    pub(super) flights: Flights,
    pub(super) compactions: Compactions,
    /// Slices that wait for their upload.
    pub(super) staged: StagedSlices,
    /// Blocks in hand whose chunks are made shorter before they are uploaded.
    pub(super) merges: Arc<Permits>,
    /// Opens when uploads are to begin at once.
    pub(super) bell: Gate,
    pub(super) counts: Sheets<Counts>,
    files: [Mutex<Files>; SHARDS],
    open: Mutex<BTreeMap<u64, OpenSlice>>,
    /// Files with work that was given up.
    left_behind: Mutex<Vec<Arc<File>>>,
    pub(super) next_seq: AtomicU64,
    /// Blocks that are sealed and whose pages are still to go home.
    flying: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DataShared {
    /// For one mount.
    pub fn new(config: DataConfig) -> Arc<Self> {
        let block_bytes = u64::from(config.layout.block_bytes());
        let ahead = READERS_AHEAD * config.max_readahead_bytes.div_ceil(block_bytes);
        Arc::new(Self {
            readahead: Permits::new(ahead.max(1) as usize),
            prefetch: (config.prefetch > 0).then(|| Permits::new(config.prefetch)),
            uploads: Permits::new(config.uploads.max(1)),
            downloads: Permits::new(config.downloads.max(1)),
            deletes: Permits::new(config.deletes.max(1)),
            flights: Flights::default(),
            compactions: Compactions::default(),
            staged: StagedSlices::default(),
            merges: Permits::new(MERGES_MAX),
            bell: Gate::default(),
            counts: Sheets::default(),
            files: std::array::from_fn(|_| Mutex::default()),
            open: Mutex::default(),
            left_behind: Mutex::default(),
            next_seq: AtomicU64::new(1),
            flying: AtomicUsize::new(0),
            config,
        })
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, Files> {
        locked(&self.files[ino.0 as usize % SHARDS])
    }

    /// The state of a file, made when new.
    pub(super) fn file(&self, ino: Ino) -> Arc<File> {
        let mut shard = self.shard(ino);
        if let Some(file) = shard.get(&ino) {
            return Arc::clone(file);
        }
        if shard.len() >= FILES_PER_SHARD {
            // Whoever else holds a file is about to use it.
            let mut surplus = shard.len() / 2;
            shard.retain(|_, file| {
                let goes =
                    surplus > 0 && Arc::strong_count(file) == 1 && file.with(|e| e.is_idle());
                surplus -= usize::from(goes);
                !goes
            });
        }
        let file = File { ino, extents: Mutex::default(), moved: Gate::default() };
        Arc::clone(shard.entry(ino).or_insert_with(|| Arc::new(file)))
    }

    /// The state of a file if there is any.
    pub(super) fn known(&self, ino: Ino) -> Option<Arc<File>> {
        self.shard(ino).get(&ino).map(Arc::clone)
    }

    /// Nobody has the file open any more: its error was told to all who could hear it.
    pub(super) fn forget(&self, ino: Ino) {
        let mut shard = self.shard(ino);
        let Some(file) = shard.get(&ino) else { return };
        let idle = file.with(|extents| {
            extents.clear_error();
            extents.is_idle() && !extents.has_lists() && !extents.has_weight()
        });
        if idle && Arc::strong_count(file) == 1 {
            shard.remove(&ino);
        }
    }

    /// Keep the list of open slices in step with what a write or a seal did.
    pub(super) fn note(&self, file: &Arc<File>, step: &Step) {
        if step.opened.is_none() && step.sealed.is_empty() {
            return;
        }
        let mut open = locked(&self.open);
        if let Some(seq) = step.opened {
            open.insert(seq, OpenSlice { file: Arc::clone(file), born_ns: monotonic_ns() });
        }
        for seq in &step.sealed {
            open.remove(seq);
        }
    }

    /// The oldest open slices, born before `before_ns`.
    pub(super) fn oldest_open(&self, before_ns: u64, limit: usize) -> Vec<(u64, Arc<File>)> {
        let open = locked(&self.open);
        let old = open.iter().take_while(|(_, slice)| slice.born_ns < before_ns);
        old.take(limit).map(|(seq, slice)| (*seq, Arc::clone(&slice.file))).collect()
    }

    /// Drop slices from the list that turned out not to be open.
    pub(super) fn not_open(&self, seq: u64) {
        locked(&self.open).remove(&seq);
    }

    /// Work on a file was given up; somebody has to take it up.
    pub(super) fn leave_behind(&self, file: &Arc<File>) {
        locked(&self.left_behind).push(Arc::clone(file));
    }

    /// Files with work to be taken up.
    pub(super) fn take_left_behind(&self) -> Vec<Arc<File>> {
        std::mem::take(&mut locked(&self.left_behind))
    }

    /// Files with dirty data.
    pub(super) fn dirty_files(&self) -> Vec<Ino> {
        let mut dirty = Vec::new();
        for shard in &self.files {
            let files = locked(shard);
            let found = files.values().filter(|file| file.with(|e| e.newest() > 0));
            dirty.extend(found.map(|file| file.ino));
        }
        dirty
    }

    /// So many blocks set out.
    pub(super) fn take_off(&self, count: usize) {
        self.flying.fetch_add(count, Ordering::SeqCst);
    }

    /// One block is stored or lost.
    pub(super) fn land(&self) {
        let before = self.flying.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a block lands once");
    }

    /// Blocks on their way.
    pub(super) fn flying(&self) -> usize {
        self.flying.load(Ordering::SeqCst)
    }
}
