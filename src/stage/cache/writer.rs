//! The writer of a cache folder: makes room, writes, removes.
//!
//! Owns the order of its jobs and its view of the disk's free space, refreshed each second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::config::{CacheConfig, Eviction};
use super::disk::Shared;
use super::space::{Disk, Limits, to_free};
use crate::object::BlockKey;
use crate::pages::Page;
use crate::stdx;

/// How long the view of the free space is good for.
const VIEW_NS: u64 = 1_000_000_000;

/// What the writer is asked for.
pub(super) enum Job {
    /// Write a block.
    Write(BlockKey, Page),
    /// Forget a block.
    Remove(BlockKey),
    /// Answer when all before is done.
    #[cfg(test)]
    Settle(crossbeam_channel::Sender<()>),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    limits: Limits,
    eviction: Eviction,
    view: Option<(u64, Disk)>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, config: &CacheConfig) -> Self {
        let folders = config.folders.len().max(1) as u64;
        let limits = Limits {
            bytes: config.disk_bytes / folders,
            blocks: config.disk_blocks.div_ceil(folders),
            free_ratio: config.free_space_ratio,
        };
        Self { shared, limits, eviction: config.eviction, view: None }
    }

    /// Work until the queue is closed; then what still waits is dropped.
    pub(super) fn run(mut self, queue: Receiver<Job>) {
        loop {
            match queue.recv_timeout(Duration::from_nanos(VIEW_NS)) {
                Ok(job) => self.work(job),
                // Others fill the disk too.
                Err(RecvTimeoutError::Timeout) => drop(self.make_room(0)),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Write(key, block) => {
                if !self.write(key, &block) {
                    self.shared.counters.drops.add(1);
                }
                self.shared.queued_bytes.fetch_sub(block.len() as u64, Ordering::Relaxed);
            }
            Job::Remove(key) => self.shared.remove(key),
            #[cfg(test)]
            Job::Settle(done) => done.send(()).expect("the test waits"),
        }
    }

    /// Whether the block is on disk now.
    fn write(&mut self, key: BlockKey, block: &[u8]) -> bool {
        let shared = Arc::clone(&self.shared);
        let usable = shared.health.usable(stdx::monotonic_ns());
        if !usable || shared.stopping.load(Ordering::Relaxed) {
            return false;
        }
        if shared.lock().table.touch(&key).is_some() {
            return true;
        }
        if !self.make_room(block.len() as u64) {
            return false;
        }
        match shared.folder.write(key, block) {
            Ok(()) => {
                shared.wrote(key);
                shared.counters.writes.add(1);
                shared.counters.write_bytes.add(block.len() as u64);
                self.moved(-(block.len() as i64), -1);
                true
            }
            Err(error) => {
                // A full disk is not a broken one: look again before the next block.
                self.view = None;
                if error.kind() != io::ErrorKind::StorageFull {
                    shared.failed("write to", &error);
                }
                false
            }
        }
    }

    /// Let blocks go until `coming_bytes` fit; whether they do.
    fn make_room(&mut self, coming_bytes: u64) -> bool {
        let Some(disk) = self.view() else { return false };
        let (used_blocks, used_bytes) = {
            let table = &self.shared.lock().table;
            (table.len() as u64, table.charged_bytes())
        };
        let (bytes, blocks) = to_free(self.limits, disk, used_bytes, used_blocks, coming_bytes);
        if (bytes, blocks) == (0, 0) {
            return true;
        }
        self.eviction == Eviction::TwoRandom && self.evict(bytes, blocks)
    }

    /// Let go of at least so much; whether there was so much.
    fn evict(&mut self, bytes: u64, blocks: u64) -> bool {
        let (mut freed_bytes, mut freed_blocks) = (0, 0);
        while freed_bytes < bytes || freed_blocks < blocks {
            let Some((key, ())) = self.shared.lock().table.evict() else { return false };
            match self.shared.folder.remove(key) {
                Ok(_) => self.moved(i64::from(key.size), 1),
                Err(error) => self.shared.failed("remove a block from", &error),
            }
            freed_bytes += u64::from(key.size);
            freed_blocks += 1;
            self.shared.counters.evicts.add(1);
        }
        true
    }

    /// The disk's supply, at most a second old but for what this writer did since.
    fn view(&mut self) -> Option<Disk> {
        let now_ns = stdx::monotonic_ns();
        if let Some((seen_ns, disk)) = self.view
            && now_ns - seen_ns < VIEW_NS
        {
            return Some(disk);
        }
        match Disk::of(self.shared.folder.root()) {
            Ok(disk) => self.view = Some((now_ns, disk)),
            Err(errno) => {
                self.shared.failed("look at the free space of", &errno.into());
                self.view = None;
            }
        }
        self.view.map(|(_, disk)| disk)
    }

    /// Correct the view by what was freed (or used, when negative).
    fn moved(&mut self, bytes: i64, inodes: i64) {
        if let Some((_, disk)) = &mut self.view {
            disk.bytes.free = disk.bytes.free.saturating_add_signed(bytes);
            disk.inodes.free = disk.inodes.free.saturating_add_signed(inodes);
        }
    }
}
