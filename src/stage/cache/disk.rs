//! One cache folder at work: its index, its writer thread, its scans.
//!
//! Owns what is indexed and what makes room. Reads happen on the caller's core; writes and their
//! evictions on one thread per folder behind a bounded queue, which drops blocks when it is full:
//! a slow disk must not slow down the mount.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tracing::{debug, info, warn};

use super::clock::Clock;
use super::config::{CacheConfig, CacheError};
use super::folder::{Folder, ReadError};
use super::health::Health;
use super::keeper::Bell;
use super::scan::{Ask, Found, Walked, scan};
use super::stats::Counters;
use super::table::Table;
use super::writer::{Job, Writer};
use crate::object::BlockKey;
use crate::pages::Page;

/// Jobs that may wait for the writer.
const QUEUE_JOBS_MAX: usize = 1024;
/// Bytes that may wait for the writer.
const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// What JuiceFS charges a block besides its bytes.
const BLOCK_OVERHEAD_BYTES: u64 = 4096;
/// Blocks looked at under one lock; readers wait for it.
const LOCKED_STEPS: usize = 1024;

/// Why a sender is there.
const OPEN: &str = "there until dropped";

/// A folder and its two threads.
pub(super) struct Disk {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    scans: Option<Sender<Ask>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the cores share.
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) health: Health,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
    /// Bytes waiting for the writer.
    pub(super) queued_bytes: AtomicU64,
    pub(super) stopping: AtomicBool,
    scanned: AtomicBool,
    /// The staging area knows what waits for its upload here.
    entrusted: AtomicBool,
    index: Mutex<Index>,
}

/// What lies in the folder.
pub(super) struct Index {
    /// Blocks, each with the number of the scan that saw it last, or in which it was written.
    pub(super) table: Table<u32>,
    /// Blocks that wait for their upload; they count for nothing and never make room.
    staged: HashMap<BlockKey, u32, RandomState>,
    /// Number of the last scan that began.
    scan: u32,
}

impl Disk {
    pub(super) fn open(
        folder: Folder,
        config: &CacheConfig,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Result<Self, CacheError> {
        let name = folder.root().display().to_string();
        let table = Table::new(config.eviction, !config.expire.is_zero());
        let shared = Arc::new(Shared {
            folder,
            health: Health::default(),
            counters,
            clock,
            queued_bytes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            scanned: AtomicBool::new(false),
            entrusted: AtomicBool::new(false),
            index: Mutex::new(Index { table, staged: HashMap::default(), scan: 0 }),
        });
        let (jobs, queue) = bounded(QUEUE_JOBS_MAX);
        let (scans, asked) = bounded(1);
        let writer = Writer::new(Arc::clone(&shared), config, scans.clone());
        let scanner = Arc::clone(&shared);
        let thread = |reason| CacheError::Thread { folder: name.clone(), reason };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let mut disk = Self { shared, jobs: Some(jobs), scans: Some(scans), threads: Vec::new() };
        // The writer can ask for scans, so it has to end before the scanner can.
        disk.threads.push(named("cache-write").spawn(|| writer.run(queue)).map_err(thread)?);
        disk.threads.push(named("cache-scan").spawn(move || scanner.run(asked)).map_err(thread)?);
        Ok(disk)
    }

    /// How the keeper calls this folder's threads.
    pub(super) fn bell(&self) -> Bell {
        let (jobs, scans) = (self.jobs.clone(), self.scans.clone());
        Bell { jobs: jobs.expect(OPEN), scans: scans.expect(OPEN) }
    }

    pub(super) fn identity(&self) -> &str {
        self.shared.folder.identity()
    }

    /// Whether it is the folder at this path.
    pub(super) fn is_at(&self, root: &Path) -> bool {
        self.shared.folder.root() == root
    }

    /// The folder's path.
    pub(super) fn root(&self) -> String {
        self.shared.folder.root().display().to_string()
    }

    /// Whether the block may be here; certain once the first scan is over.
    fn may_hold(&self, key: &BlockKey) -> bool {
        self.shared.indexed(key) || !self.shared.scanned.load(Ordering::Acquire)
    }

    /// A part of a block, if it is here, readable and right.
    pub(super) async fn read(&self, key: &BlockKey, offset: usize, len: usize) -> Option<Page> {
        if !self.shared.health.usable(self.shared.clock.steady_ns()) {
            return None;
        }
        let indexed = self.shared.indexed(key);
        if !indexed && self.shared.scanned.load(Ordering::Acquire) {
            return None;
        }
        match self.shared.folder.read(*key, offset..offset + len).await {
            Ok(page) => Some(page),
            // Not known, not there: before the scan is over that is no news. The writer may be
            // indexing the block right now, so this must not touch the index.
            Err(ReadError::Missing) if !indexed => None,
            Err(error) => {
                self.shared.unread(*key, &error);
                None
            }
        }
    }

    /// Blocks that wait for their upload are known elsewhere from now on.
    pub(super) fn entrust_staged(&self) {
        self.shared.entrusted.store(true, Ordering::Release);
        self.shared.lock().staged = HashMap::default();
    }

    /// A part of a block that waits for its upload. What is wrong with it is its owner's to judge.
    pub(super) async fn read_staged(
        &self,
        key: BlockKey,
        wanted: Range<usize>,
    ) -> Result<Page, ReadError> {
        self.shared.folder.read(key, wanted).await
    }

    /// A block that waited for its upload is cache from now on.
    pub(super) fn came(&self, key: BlockKey) {
        self.shared.wrote(key);
    }

    /// Take note that a block was used elsewhere; whether it is here.
    pub(super) fn touch(&self, key: &BlockKey) -> bool {
        self.shared.indexed(key)
    }

    /// Have a block written, unless too much is waiting already.
    pub(super) fn insert(&self, key: BlockKey, block: Page) {
        let bytes = block.len() as u64;
        let shared = &self.shared;
        let waiting = shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + bytes <= QUEUE_BYTES_MAX;
        if !fits || self.send(Job::Write(key, block)).is_err() {
            shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.counters.drops.add(1);
        }
    }

    /// Forget a block. Behind everything that waits, so that a waiting write does not bring it back.
    pub(super) fn remove(&self, key: &BlockKey) {
        let idle = self.shared.queued_bytes.load(Ordering::Relaxed) == 0;
        if idle && !self.may_hold(key) {
            return;
        }
        if self.send(Job::Remove(*key)).is_err() {
            self.shared.remove(*key);
        }
    }

    /// Blocks and bytes held.
    pub(super) fn held(&self) -> (u64, u64) {
        held(&self.shared.lock())
    }

    /// Wait until everything asked for before is done.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let (done, wait) = bounded(2);
        self.send(Job::Settle(done.clone())).expect("room for a job");
        wait.recv().expect("the writer answers");
        let scans = self.scans.as_ref().expect(OPEN);
        scans.send(Ask::Settle(done)).expect("the scanner listens");
        wait.recv().expect("the scanner answers");
    }

    fn send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.as_ref().expect(OPEN).try_send(job)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.scans = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the index knows the block; counts as a use.
    fn indexed(&self, key: &BlockKey) -> bool {
        let now_ns = self.clock.wall_ns();
        let mut index = self.lock();
        index.table.touch(key, now_ns).is_some() || index.staged.contains_key(key)
    }

    /// Index a block that lies in the folder now.
    pub(super) fn wrote(&self, key: BlockKey) {
        let now_ns = self.clock.wall_ns();
        let mut index = self.lock();
        let scan = index.scan;
        index.table.insert(key, scan, charge(key), now_ns);
    }

    /// Let one block go from the index to make room.
    pub(super) fn evict(&self) -> Option<BlockKey> {
        self.oldest(|table| table.evict())
    }

    /// Let one block go from the index that was not used since.
    pub(super) fn expired(&self, before_ns: u64) -> Option<BlockKey> {
        self.oldest(|table| table.expired(before_ns))
    }

    /// Ask for the oldest block without locking readers out while it is found.
    fn oldest(&self, ask: impl Fn(&mut Table<u32>) -> Option<(BlockKey, u32)>) -> Option<BlockKey> {
        loop {
            let mut index = self.lock();
            if index.table.freshen(LOCKED_STEPS) {
                return ask(&mut index.table).map(|(key, _)| key);
            }
        }
    }

    /// Remove a block from the index and from the disk.
    pub(super) fn remove(&self, key: BlockKey) {
        {
            let mut index = self.lock();
            index.table.remove(&key);
            index.staged.remove(&key);
        }
        if let Err(error) = self.folder.remove(key) {
            self.failed("remove a block from", &error);
        }
    }

    /// A failure of the disk; too many of them give the folder a rest.
    pub(super) fn failed(&self, what: &str, error: &std::io::Error) {
        let root = self.folder.root().display();
        warn!("cannot {what} cache folder {root}: {error}");
        if self.health.failed(self.clock.steady_ns()) {
            warn!("cache folder {root} fails too often and is not used for a minute");
        }
    }

    fn unread(&self, key: BlockKey, error: &ReadError) {
        match error {
            ReadError::Missing => drop(self.lock().table.remove(&key)),
            ReadError::Damaged(reason) => {
                let root = self.folder.root().display();
                warn!("cached block {key:?} in {root} is damaged ({reason}); removed");
                self.counters.damaged.add(1);
                self.remove(key);
            }
            ReadError::Failed(error) => self.failed("read from", error),
        }
    }

    /// Scan at once, then whenever asked.
    fn run(&self, asked: Receiver<Ask>) {
        self.scan();
        self.scanned.store(true, Ordering::Release);
        let (blocks, _) = held(&self.lock());
        info!("cache folder {} holds {blocks} blocks", self.folder.root().display());
        for ask in asked {
            match ask {
                Ask::Scan => self.scan(),
                #[cfg(test)]
                Ask::Settle(done) => done.send(()).expect("the test waits"),
            }
        }
    }

    /// Bring the index in step with the folder, while both are in use: what the walk meets comes
    /// in, and what it did not meet goes. A block that is removed between being met and coming in
    /// stays known; its first read, its eviction or the next scan ends that.
    fn scan(&self) {
        let number = {
            let mut index = self.lock();
            index.scan = index.scan.wrapping_add(1);
            index.scan
        };
        let mut visit = |found: Found| {
            self.found(found);
            !self.stopping.load(Ordering::Relaxed)
        };
        match scan(&self.folder, &mut visit) {
            Walked::All => self.sweep(number),
            Walked::Partly(error) => self.failed("scan all of", &error),
            Walked::Stopped => {}
        }
    }

    fn found(&self, found: Found) {
        let mut index = self.lock();
        let Index { table, staged, scan } = &mut *index;
        if found.staged && self.entrusted.load(Ordering::Acquire) {
            return;
        }
        if found.staged {
            table.remove(&found.key);
            staged.insert(found.key, *scan);
            return;
        }
        staged.remove(&found.key);
        match table.touch(&found.key, found.used_ns) {
            Some(seen) => *seen = *scan,
            None => drop(table.insert(found.key, *scan, charge(found.key), found.used_ns)),
        }
    }

    /// Forget what scan `number` did not meet.
    fn sweep(&self, number: u32) {
        let before = held(&self.lock()).0;
        let mut end = usize::MAX;
        while end > 0 {
            end = self.lock().table.sweep(end, LOCKED_STEPS, |seen| *seen == number);
        }
        let mut index = self.lock();
        index.staged.retain(|_, seen| *seen == number);
        let gone = before.saturating_sub(held(&index).0);
        debug!("cache folder {} lost {gone} blocks to others", self.folder.root().display());
    }
}

fn charge(key: BlockKey) -> u64 {
    u64::from(key.size) + BLOCK_OVERHEAD_BYTES
}

fn held(index: &Index) -> (u64, u64) {
    (index.table.len() as u64, index.table.charged_bytes())
}
