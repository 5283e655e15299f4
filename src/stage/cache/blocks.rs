//! The block cache of a volume on this machine, shared by all cores.
//!
//! Owns the order of the levels: memory answers at once, disk is one read away. What it hands out
//! are raw blocks as they were stored; a block that fails its check is a miss.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::clock::Clock;
use super::config::{CacheConfig, CacheError};
use super::disk::Disk;
use super::folder::{Folder, ReadError};
use super::keeper::Keeper;
use super::memory::Memory;
use super::ring::Ring;
use super::stats::{CacheStats, Counters};
use crate::object::{BlockKey, Layout};
use crate::pages::Page;

/// Blocks in memory and on disk.
pub struct BlockCache {
    /// Ends first: it holds on to the threads of the disks.
    _keeper: Keeper,
    memory: Arc<Memory>,
    disks: Vec<Disk>,
    ring: Ring,
    layout: Layout,
    partial_only: bool,
    counters: Arc<Counters>,
}

impl BlockCache {
    /// The cache of volume `uuid`. Folders are made and proven writable; what lies in them is
    /// found by a scan in the background, until then each lookup asks the disk.
    ///
    /// # Errors
    /// When a folder is not usable.
    pub fn open(config: &CacheConfig, uuid: &str, layout: Layout) -> Result<Arc<Self>, CacheError> {
        Self::open_with(config, uuid, layout, Clock::default())
    }

    /// As [`BlockCache::open`], with time from this clock.
    pub(super) fn open_with(
        config: &CacheConfig,
        uuid: &str,
        layout: Layout,
        clock: Clock,
    ) -> Result<Arc<Self>, CacheError> {
        let counters = Arc::new(Counters::default());
        let mut disks = Vec::new();
        for dir in &config.folders {
            let folder = Folder::open(dir, uuid, config, layout)?;
            disks.push(Disk::open(folder, config, Arc::clone(&counters), clock.clone())?);
        }
        let ring = Ring::new(disks.iter().map(Disk::identity));
        let memory = Arc::new(Memory::new(config, clock.clone()));
        let bells = disks.iter().map(Disk::bell).collect();
        let keeper = Keeper::start(config, clock, Arc::clone(&memory), bells)?;
        let partial_only = config.partial_only;
        Ok(Arc::new(Self { _keeper: keeper, memory, disks, ring, layout, partial_only, counters }))
    }

    /// The whole block, if memory has it; cut it with [`Page::piece`].
    pub fn get(&self, key: &BlockKey) -> Option<Page> {
        let hit = self.memory.get(key)?;
        if hit.tell {
            // What is used here is not old there.
            let _ = self.by_likelihood(key).any(|disk| disk.touch(key));
        }
        self.counters.memory_hits.add(1);
        self.counters.hit_bytes.add(hit.block.len() as u64);
        Some(hit.block)
    }

    /// `len` bytes from `offset` of a block, if a disk has it; does not look into memory.
    pub async fn read(&self, key: &BlockKey, offset: u32, len: u32) -> Option<Page> {
        assert!(len > 0 && u64::from(offset) + u64::from(len) <= u64::from(key.size), "a part");
        for disk in self.by_likelihood(key) {
            if let Some(page) = disk.read(key, offset as usize, len as usize).await {
                self.counters.disk_hits.add(1);
                self.counters.hit_bytes.add(u64::from(len));
                return Some(page);
            }
        }
        self.counters.misses.add(1);
        None
    }

    /// The number of the folder at this path.
    pub(in crate::stage) fn folder(&self, root: &Path) -> Option<usize> {
        self.disks.iter().position(|disk| disk.is_at(root))
    }

    /// Blocks that wait for their upload in these folders are known to the staging area: they are not
    /// indexed here until they [came](Self::came).
    pub(in crate::stage) fn entrust_staged(&self, folders: impl Iterator<Item = usize>) {
        folders.for_each(|folder| self.disks[folder].entrust_staged());
    }

    /// A part of a block that waits for its upload in a folder.
    pub(in crate::stage) async fn read_staged(
        &self,
        folder: usize,
        key: BlockKey,
        wanted: Range<usize>,
    ) -> Result<Page, ReadError> {
        let page = self.disks[folder].read_staged(key, wanted).await?;
        self.counters.disk_hits.add(1);
        self.counters.hit_bytes.add(page.len() as u64);
        Ok(page)
    }

    /// A block that waited for its upload in a folder is ordinary cache from now on.
    pub(in crate::stage) fn came(&self, folder: usize, key: BlockKey) {
        self.disks[folder].came(key);
    }

    /// Where a block is kept: in memory, or in which folder. Counts as a use.
    pub fn place(&self, key: &BlockKey) -> Option<String> {
        let disk = self.by_likelihood(key).find(|disk| disk.touch(key));
        match disk {
            Some(disk) => Some(disk.root()),
            None => self.memory.get(key).map(|_| "memory".to_owned()),
        }
    }

    /// Keep a whole raw block in memory and on disk, as far as there is room. The cache holds on
    /// to the page: give memory outside the pool ([`Page::from_vec`]), or use
    /// [`BlockCache::insert_copy`].
    pub fn insert(&self, key: BlockKey, block: Page) {
        self.insert_in_memory(key, block.clone());
        if let Some(folder) = self.home(&key) {
            self.disks[folder].insert(key, block);
        }
    }

    /// As [`BlockCache::insert`], a block that is read from end to end. With `--cache-partial-only`
    /// a full one only passes through memory.
    pub fn insert_streamed(&self, key: BlockKey, block: Page) {
        match self.partial_only && key.size == self.layout.block_bytes() {
            true => self.insert_in_memory(key, block),
            false => self.insert(key, block),
        }
    }

    /// As [`BlockCache::insert`], but on no disk.
    pub fn insert_in_memory(&self, key: BlockKey, block: Page) {
        assert_eq!(block.len(), key.size as usize, "a whole block");
        self.memory.insert(key, block);
    }

    /// As [`BlockCache::insert`], with a copy of these pages.
    pub fn insert_copy(&self, key: BlockKey, pages: &[Page]) {
        let mut bytes = Vec::with_capacity(key.size as usize);
        pages.iter().for_each(|page| bytes.extend_from_slice(page));
        self.insert(key, Page::from_vec(bytes));
    }

    /// Forget a block everywhere.
    pub fn remove(&self, key: &BlockKey) {
        self.memory.remove(key);
        self.disks.iter().for_each(|disk| disk.remove(key));
    }

    /// Counters, and what is held now.
    pub fn stats(&self) -> CacheStats {
        let (memory_blocks, memory_bytes) = self.memory.held();
        let held = self.disks.iter().map(Disk::held);
        let (disk_blocks, disk_bytes) =
            held.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1));
        let counted = self.counters.snapshot();
        CacheStats { memory_blocks, memory_bytes, disk_blocks, disk_bytes, ..counted }
    }

    /// Wait for all writers and scans.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self._keeper.settle();
        self.disks.iter().for_each(Disk::settle);
    }

    fn home(&self, key: &BlockKey) -> Option<usize> {
        match self.disks.len() {
            0 => None,
            1 => Some(0),
            _ => self.ring.folder(&self.layout.name(*key)),
        }
    }

    /// All disks, the block's home first.
    fn by_likelihood(&self, key: &BlockKey) -> impl Iterator<Item = &Disk> {
        let home = self.home(key).unwrap_or(0).min(self.disks.len());
        let (before, rest) = self.disks.split_at(home);
        rest.iter().chain(before)
    }
}
