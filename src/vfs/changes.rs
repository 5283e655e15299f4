//! Which inodes this mount changed since when.
//!
//! Owns a counter that every change moves. A request notes it as it begins; attributes fetched
//! meanwhile are told to the kernel without a lifetime if their inode was changed since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::CHANGES_MAX;
use crate::types::Ino;

const SHARDS: usize = 16;
const PER_SHARD: usize = CHANGES_MAX / SHARDS;

#[derive(Default)]
struct Shard {
    last: HashMap<Ino, u64, RandomState>,
    /// What happened up to here is not known inode by inode any more.
    forgotten: u64,
}

/// The changes of a mount, all cores together.
#[derive(Default)]
pub(super) struct Changes {
    count: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

impl Changes {
    /// The number of the last change; every later one has a greater number.
    pub fn now(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// The number of a change that is just over.
    pub fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// An inode was changed.
    pub fn note(&self, ino: Ino) {
        self.note_since(ino, u64::MAX);
    }

    /// An inode was changed by something that began at change `began`; the number of the change,
    /// and whether it was the only one meanwhile.
    pub fn note_since(&self, ino: Ino, began: u64) -> (u64, bool) {
        let mut shard = self.shard(ino);
        let alone = began >= shard.forgotten && shard.last.get(&ino).is_none_or(|n| *n <= began);
        let number = self.next();
        if shard.last.len() >= PER_SHARD {
            shard.last.clear();
            shard.forgotten = number;
        }
        shard.last.insert(ino, number);
        (number, alone)
    }

    /// Anything may have been changed.
    pub fn forget(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.last.clear();
            shard.forgotten = self.next();
        }
    }

    /// Whether an inode was changed after `began`, as far as is known.
    pub fn since(&self, ino: Ino, began: u64) -> bool {
        let shard = self.shard(ino);
        began < shard.forgotten || shard.last.get(&ino).is_some_and(|number| *number > began)
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, Shard> {
        self.shards[ino.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_changes_are_seen_and_forgotten_ones_are_assumed() {
        let changes = Changes::default();
        let began = changes.now();
        changes.note(Ino(5));
        assert!(changes.since(Ino(5), began) && !changes.since(Ino(6), began));
        assert!(!changes.since(Ino(5), changes.now()));
        for number in 0..=PER_SHARD as u64 {
            changes.note(Ino(5 + SHARDS as u64 * number));
        }
        assert!(changes.since(Ino(5 + SHARDS as u64 * 99_999), began));
        assert!(!changes.since(Ino(6), began));
    }
}
