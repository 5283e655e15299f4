//! Blocks in memory, bounded in bytes.
//!
//! Owns its bound: a block evicted while a reader still holds it lives until that reader is done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clock::Clock;
use super::config::{CacheConfig, Eviction};
use super::table::Table;
use crate::object::BlockKey;
use crate::pages::Page;

/// What a block costs besides its bytes: index, slot, allocation.
const OVERHEAD_BYTES: u64 = 128;
/// Uses of a block are told to its copy on disk once in this time.
const TELL_PACE_NS: u64 = 1_000_000_000;
/// Blocks that expire under one lock.
const EXPIRE_BATCH: usize = 64;

pub(super) struct Memory {
    limit_bytes: u64,
    expire_ns: u64,
    clock: Clock,
    table: Mutex<Table<Held>>,
}

struct Held {
    block: Page,
    told_ns: u64,
}

/// A block that memory has.
pub(super) struct Hit {
    pub(super) block: Page,
    /// Its copy on disk, used as much, has not heard of it for a while.
    pub(super) tell: bool,
}

impl Memory {
    pub(super) fn new(config: &CacheConfig, clock: Clock) -> Self {
        // Before folders memory holds what is used now, whatever stays on disk. In strict order of
        // use, as what was read ahead waits here for its reader: it is younger than what that
        // reader has done with, but of two blocks drawn at random it may well be the older one.
        let eviction = match config.eviction {
            Eviction::None if config.folders.is_empty() => Eviction::None,
            Eviction::None | Eviction::Lru | Eviction::TwoRandom => Eviction::Lru,
        };
        Self {
            limit_bytes: config.memory_bytes,
            expire_ns: config.expire_ns(),
            clock,
            table: Mutex::new(Table::new(eviction, config.expire_ns() > 0)),
        }
    }

    pub(super) fn get(&self, key: &BlockKey) -> Option<Hit> {
        let now_ns = self.clock.wall_ns();
        let mut table = self.lock();
        let held = table.touch(key, now_ns)?;
        let tell = now_ns.saturating_sub(held.told_ns) >= TELL_PACE_NS;
        if tell {
            held.told_ns = now_ns;
        }
        Some(Hit { block: held.block.clone(), tell })
    }

    /// Keep a block, if it fits at all; others make room, if any may go.
    pub(super) fn insert(&self, key: BlockKey, block: Page) {
        let charge = block.len() as u64 + OVERHEAD_BYTES;
        if charge > self.limit_bytes {
            return;
        }
        let now_ns = self.clock.wall_ns();
        // What goes is freed after the lock: giving back megabytes takes its time.
        let mut gone = Vec::new();
        let mut table = self.lock();
        gone.extend(table.insert(key, Held { block, told_ns: now_ns }, charge, now_ns));
        while table.charged_bytes() > self.limit_bytes {
            match table.evict() {
                Some((_, held)) => gone.push(held),
                None => gone.extend(table.remove(&key)),
            }
        }
        drop(table);
    }

    /// Let go of what was not used for too long.
    pub(super) fn expire(&self) {
        let before_ns = self.clock.wall_ns().saturating_sub(self.expire_ns);
        loop {
            let gone: Vec<_> = {
                let mut table = self.lock();
                std::iter::from_fn(|| table.expired(before_ns)).take(EXPIRE_BATCH).collect()
            };
            if gone.is_empty() {
                return;
            }
        }
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

    fn lock(&self) -> MutexGuard<'_, Table<Held>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SPAN: Duration = Duration::from_secs(600);

    fn key(id: u64, size: u32) -> BlockKey {
        BlockKey { id, index: 0, size }
    }

    fn memory(blocks: u64, eviction: Eviction) -> (Memory, Clock) {
        let clock = Clock::default();
        let memory_bytes = blocks * (1000 + OVERHEAD_BYTES);
        let config = CacheConfig { memory_bytes, eviction, expire: SPAN, ..CacheConfig::default() };
        (Memory::new(&config, clock.clone()), clock)
    }

    fn fill(memory: &Memory, ids: std::ops::RangeInclusive<u64>) {
        ids.for_each(|id| memory.insert(key(id, 1000), Page::from_vec(vec![id as u8; 1000])));
    }

    #[test]
    fn the_bound_holds() {
        let (memory, _) = memory(10, Eviction::TwoRandom);
        for id in 1..=50 {
            fill(&memory, id..=id);
            let (blocks, bytes) = memory.held();
            assert!(blocks == id.min(10) && bytes <= memory.limit_bytes);
        }
        assert_eq!(memory.get(&key(50, 1000)).map(|hit| hit.block[999]), Some(50));
        memory.insert(key(99, 20_000), Page::from_vec(vec![0; 20_000]));
        assert!(memory.get(&key(99, 20_000)).is_none(), "larger than everything");
        assert_eq!(memory.held().0, 10);
    }

    #[test]
    fn each_policy_decides_who_goes() {
        let (lru, clock) = memory(3, Eviction::Lru);
        fill(&lru, 1..=3);
        clock.advance(Duration::from_secs(1));
        assert!(lru.get(&key(1, 1000)).is_some());
        fill(&lru, 4..=4);
        assert!(lru.get(&key(1, 1000)).is_some() && lru.get(&key(2, 1000)).is_none());
        let (none, _) = memory(3, Eviction::None);
        fill(&none, 1..=5);
        assert!((1..=3).all(|id| none.get(&key(id, 1000)).is_some()) && none.held().0 == 3);
    }

    #[test]
    fn what_is_read_ahead_stays_until_its_reader_comes() {
        const AHEAD: u64 = 10;
        let (memory, clock) = memory(25, Eviction::TwoRandom);
        fill(&memory, 1..=AHEAD);
        for id in 1..=1000 {
            for _piece in 0..4 {
                clock.advance(Duration::from_millis(1));
                assert!(memory.get(&key(id, 1000)).is_some(), "block {id}");
            }
            fill(&memory, id + AHEAD..=id + AHEAD);
        }
    }

    #[test]
    fn what_is_not_used_expires() {
        let (memory, clock) = memory(200, Eviction::None);
        fill(&memory, 1..=150);
        clock.advance(SPAN / 2);
        assert!(memory.get(&key(7, 1000)).is_some());
        memory.expire();
        assert_eq!(memory.held().0, 150);
        clock.advance(SPAN / 2 + Duration::from_secs(1));
        memory.expire();
        assert!(memory.held().0 == 1 && memory.get(&key(7, 1000)).is_some());
    }

    #[test]
    fn the_disk_hears_of_uses_now_and_then() {
        let (memory, clock) = memory(10, Eviction::TwoRandom);
        fill(&memory, 1..=1);
        let told = || memory.get(&key(1, 1000)).unwrap().tell;
        assert!(!told());
        clock.advance(Duration::from_secs(1));
        assert!(told() && !told());
    }

    #[test]
    fn a_reader_keeps_what_was_removed() {
        let (memory, _) = memory(10, Eviction::TwoRandom);
        memory.insert(key(1, 3), Page::from_vec(b"abc".to_vec()));
        let held = memory.get(&key(1, 3)).unwrap().block;
        memory.remove(&key(1, 3));
        assert!(memory.get(&key(1, 3)).is_none());
        assert_eq!((&*held, memory.held()), (&b"abc"[..], (0, 0)));
    }
}
