//! Blocks in memory, bounded in bytes.
//!
//! Owns its bound: a block evicted while a reader still holds it lives until that reader is done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::table::{Table, now_ns};
use crate::object::BlockKey;
use crate::pages::Page;

/// What a block costs besides its bytes: index, slot, allocation.
const OVERHEAD_BYTES: u64 = 128;

pub(super) struct Memory {
    limit_bytes: u64,
    table: Mutex<Table<Page>>,
}

impl Memory {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, table: Mutex::new(Table::new()) }
    }

    pub(super) fn get(&self, key: &BlockKey) -> Option<Page> {
        self.lock().touch(key).cloned()
    }

    /// Keep a block, if it fits at all; others make room.
    pub(super) fn insert(&self, key: BlockKey, block: Page) {
        let charge = block.len() as u64 + OVERHEAD_BYTES;
        if charge > self.limit_bytes {
            return;
        }
        // What goes is freed after the lock: giving back megabytes takes its time.
        let mut gone = Vec::new();
        let mut table = self.lock();
        gone.extend(table.insert(key, block, charge, now_ns()));
        while table.charged_bytes() > self.limit_bytes {
            let (_, block) = table.evict().expect("what is charged can go");
            gone.push(block);
        }
        drop(table);
    }

    pub(super) fn remove(&self, key: &BlockKey) {
        let gone = self.lock().remove(key);
        drop(gone);
    }

    /// Blocks and bytes held.
    pub(super) fn held(&self) -> (u64, u64) {
        let table = self.lock();
        (table.len() as u64, table.charged_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Table<Page>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64, size: u32) -> BlockKey {
        BlockKey { id, index: 0, size }
    }

    #[test]
    fn the_bound_holds() {
        let memory = Memory::new(10 * (1000 + OVERHEAD_BYTES));
        for id in 1..=50 {
            memory.insert(key(id, 1000), Page::from_vec(vec![id as u8; 1000]));
            let (blocks, bytes) = memory.held();
            assert!(blocks == id.min(10) && bytes <= memory.limit_bytes);
        }
        assert_eq!(memory.get(&key(50, 1000)).map(|page| page[999]).unwrap_or(50), 50);
        memory.insert(key(99, 20_000), Page::from_vec(vec![0; 20_000]));
        assert!(memory.get(&key(99, 20_000)).is_none(), "larger than everything");
        assert_eq!(memory.held().0, 10);
    }

    #[test]
    fn a_reader_keeps_what_was_removed() {
        let memory = Memory::new(1 << 20);
        memory.insert(key(1, 3), Page::from_vec(b"abc".to_vec()));
        let held = memory.get(&key(1, 3)).unwrap();
        memory.remove(&key(1, 3));
        assert!(memory.get(&key(1, 3)).is_none());
        assert_eq!((&*held, memory.held()), (&b"abc"[..], (0, 0)));
    }
}
