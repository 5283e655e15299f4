//! The writer of a cache folder: makes room, writes, removes.
//!
//! Owns the order of its jobs and its view of the folder: whether it is there, and the disk's free
//! space, refreshed each second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tracing::{info, warn};

use super::config::CacheConfig;
use super::disk::Shared;
use super::folder::Presence;
use super::scan::Ask;
use super::space::{Disk, Limits, to_free};
use crate::object::BlockKey;
use crate::pages::Page;

/// How long the view of the free space is good for.
const VIEW_NS: u64 = 1_000_000_000;

/// What the writer is asked for.
pub(super) enum Job {
    /// Write a block.
    Write(BlockKey, Page),
    /// Forget a block.
    Remove(BlockKey),
    /// Let go of blocks that were not used for too long.
    Expire,
    /// Answer when all before is done.
    #[cfg(test)]
    Settle(crossbeam_channel::Sender<()>),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    limits: Limits,
    expire_ns: u64,
    view: Option<(u64, Disk)>,
    /// Whether the folder is away with its disk.
    away: bool,
    scans: Sender<Ask>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, config: &CacheConfig, scans: Sender<Ask>) -> Self {
        let folders = config.folders.len().max(1) as u64;
        let limits = Limits {
            bytes: config.disk_bytes / folders,
            blocks: config.disk_blocks.div_ceil(folders),
            free_ratio: config.free_space_ratio,
        };
        Self { shared, limits, expire_ns: config.expire_ns(), view: None, away: false, scans }
    }

    /// Work until the queue is closed; then what still waits is dropped.
    pub(super) fn run(mut self, queue: Receiver<Job>) {
        loop {
            match queue.recv_timeout(Duration::from_nanos(VIEW_NS)) {
                Ok(job) => self.work(job),
                // Others fill the disk too.
                Err(RecvTimeoutError::Timeout) if self.may_work() => drop(self.make_room(0)),
                Err(RecvTimeoutError::Timeout) => {}
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
            Job::Expire => self.expire(),
            #[cfg(test)]
            Job::Settle(done) => done.send(()).expect("the test waits"),
        }
    }

    /// Whether the folder may be asked, and somebody still wants that.
    fn may_work(&self) -> bool {
        let usable = self.shared.health.usable(self.shared.clock.steady_ns());
        usable && !self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Whether the block is on disk now.
    fn write(&mut self, key: BlockKey, block: &[u8]) -> bool {
        let shared = Arc::clone(&self.shared);
        if !self.may_work() {
            return false;
        }
        if shared.lock().table.touch(&key, shared.clock.wall_ns()).is_some() {
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
        self.evict(bytes, blocks)
    }

    /// Let go of at least so much; whether there was so much.
    fn evict(&mut self, bytes: u64, blocks: u64) -> bool {
        let (mut freed_bytes, mut freed_blocks) = (0, 0);
        while freed_bytes < bytes || freed_blocks < blocks {
            let Some(key) = self.shared.evict() else { return false };
            self.let_go(key);
            freed_bytes += u64::from(key.size);
            freed_blocks += 1;
        }
        true
    }

    fn expire(&mut self) {
        let before_ns = self.shared.clock.wall_ns().saturating_sub(self.expire_ns);
        while self.may_work()
            && let Some(key) = self.shared.expired(before_ns)
        {
            self.let_go(key);
        }
    }

    /// Remove the file of a block that has left the index.
    fn let_go(&mut self, key: BlockKey) {
        self.shared.counters.evicts.add(1);
        match self.shared.folder.remove(key) {
            Ok(true) => self.moved(i64::from(key.size), 1),
            Ok(false) => {}
            Err(error) => self.shared.failed("remove a block from", &error),
        }
    }

    /// The disk's supply, at most a second old but for what this writer did since; `None` when
    /// there is nothing to write to.
    fn view(&mut self) -> Option<Disk> {
        let now_ns = self.shared.clock.steady_ns();
        if let Some((seen_ns, disk)) = self.view
            && now_ns - seen_ns < VIEW_NS
        {
            return Some(disk);
        }
        self.view = None;
        if !self.is_there() {
            return None;
        }
        match Disk::of(self.shared.folder.root()) {
            Ok(disk) => self.view = Some((now_ns, disk)),
            Err(errno) => self.shared.failed("look at the free space of", &errno.into()),
        }
        self.view.map(|(_, disk)| disk)
    }

    /// Whether the folder is there; one that was removed is made again. One that went away with its
    /// disk is not, because that would fill the disk below.
    fn is_there(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let root = shared.folder.root().display();
        let presence = match shared.folder.presence() {
            Ok(Presence::Removed) => shared.folder.restore().map(|()| Presence::Removed),
            presence => presence,
        };
        let away = match presence {
            Ok(presence) => {
                if presence == Presence::Removed {
                    warn!("cache folder {root} was removed and is made again");
                    self.rescan();
                }
                presence == Presence::Away
            }
            Err(error) => {
                shared.failed("find", &error);
                return false;
            }
        };
        if away != self.away {
            self.away = away;
            self.rescan();
            match away {
                true => warn!("the disk of cache folder {root} is gone; nothing is written there"),
                false => info!("the disk of cache folder {root} is back"),
            }
        }
        !away
    }

    /// Have the index brought in step with the folder.
    fn rescan(&self) {
        // A scan that waits already will do.
        let _ = self.scans.try_send(Ask::Scan);
    }

    /// Correct the view by what was freed (or used, when negative).
    fn moved(&mut self, bytes: i64, inodes: i64) {
        if let Some((_, disk)) = &mut self.view {
            disk.bytes.free = disk.bytes.free.saturating_add_signed(bytes);
            disk.inodes.free = disk.inodes.free.saturating_add_signed(inodes);
        }
    }
}
