//! One cache folder at work: its index, its writer thread, its first scan.
//!
//! Owns what is indexed and what makes room. Reads happen on the caller's core; writes and their
//! evictions on one thread per folder behind a bounded queue, which drops blocks when it is full:
//! a slow disk must not slow down the mount.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, TrySendError, bounded};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tracing::{info, warn};

use super::config::{CacheConfig, CacheError};
use super::folder::{Folder, ReadError};
use super::health::Health;
use super::scan::{Found, scan};
use super::stats::Counters;
use super::table::{Table, now_ns};
use super::writer::{Job, Writer};
use crate::object::BlockKey;
use crate::pages::Page;
use crate::stdx;

/// Jobs that may wait for the writer.
const QUEUE_JOBS_MAX: usize = 1024;
/// Bytes that may wait for the writer.
const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// What JuiceFS charges a block besides its bytes.
const BLOCK_OVERHEAD_BYTES: u64 = 4096;

/// A folder and its two threads.
pub(super) struct Disk {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the cores share.
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) health: Health,
    pub(super) counters: Arc<Counters>,
    /// Bytes waiting for the writer.
    pub(super) queued_bytes: AtomicU64,
    pub(super) stopping: AtomicBool,
    scanned: AtomicBool,
    index: Mutex<Index>,
}

/// What lies in the folder.
pub(super) struct Index {
    pub(super) table: Table<()>,
    /// Blocks that wait for their upload; they count for nothing and never make room.
    staged: HashSet<BlockKey, RandomState>,
}

impl Disk {
    pub(super) fn open(
        folder: Folder,
        config: &CacheConfig,
        counters: Arc<Counters>,
    ) -> Result<Self, CacheError> {
        let name = folder.root().display().to_string();
        let shared = Arc::new(Shared {
            folder,
            health: Health::default(),
            counters,
            queued_bytes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            scanned: AtomicBool::new(false),
            index: Mutex::new(Index { table: Table::new(), staged: HashSet::default() }),
        });
        let (jobs, queue) = bounded(QUEUE_JOBS_MAX);
        let writer = Writer::new(Arc::clone(&shared), config);
        let scanner = Arc::clone(&shared);
        let thread = |reason| CacheError::Thread { folder: name.clone(), reason };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let mut disk = Self { shared, jobs: Some(jobs), threads: Vec::new() };
        disk.threads.push(named("cache-write").spawn(|| writer.run(queue)).map_err(thread)?);
        disk.threads.push(named("cache-scan").spawn(move || scanner.scan()).map_err(thread)?);
        Ok(disk)
    }

    pub(super) fn identity(&self) -> &str {
        self.shared.folder.identity()
    }

    /// Whether the block may be here; certain once the first scan is over.
    fn may_hold(&self, key: &BlockKey) -> bool {
        self.shared.indexed(key) || !self.shared.scanned.load(Ordering::Acquire)
    }

    /// A part of a block, if it is here, readable and right.
    pub(super) async fn read(&self, key: &BlockKey, offset: usize, len: usize) -> Option<Page> {
        if !self.shared.health.usable(stdx::monotonic_ns()) {
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
        let index = self.shared.lock();
        (index.table.len() as u64, index.table.charged_bytes())
    }

    /// Wait until everything asked for before is done, and the first scan is over.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let (done, wait) = bounded(1);
        self.send(Job::Settle(done)).expect("room for a job");
        wait.recv().expect("the writer answers");
        while !self.shared.scanned.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }

    fn send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.as_ref().expect("there until dropped").try_send(job)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.jobs = None;
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
        let mut index = self.lock();
        index.table.touch(key).is_some() || index.staged.contains(key)
    }

    /// Index a block that lies in the folder now.
    pub(super) fn wrote(&self, key: BlockKey) {
        let charge = u64::from(key.size) + BLOCK_OVERHEAD_BYTES;
        self.lock().table.insert(key, (), charge, now_ns());
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
        if self.health.failed(stdx::monotonic_ns()) {
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

    fn scan(&self) {
        let mut count = 0u64;
        let mut visit = |found: Found| {
            count += 1;
            self.found(found);
            !self.stopping.load(Ordering::Relaxed)
        };
        if let Err(error) = scan(&self.folder, &mut visit) {
            self.failed("scan", &error);
        }
        self.scanned.store(true, Ordering::Release);
        info!("cache folder {} holds {count} blocks", self.folder.root().display());
    }

    fn found(&self, found: Found) {
        let mut index = self.lock();
        if found.staged {
            index.staged.insert(found.key);
        } else if index.table.touch(&found.key).is_none() {
            let charge = u64::from(found.key.size) + BLOCK_OVERHEAD_BYTES;
            index.table.insert(found.key, (), charge, found.used_ns);
        }
    }
}
