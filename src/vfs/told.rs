//! Attributes of directories as metadata told them last, for as long as the kernel may believe
//! them anyway.
//!
//! The kernel drops what it keeps of a directory with every name that is made or taken away in
//! it, and asks again before the next one. The commit has brought the answer already. Owns the
//! table; whether an entry still counts is decided by `changes`: it holds until this mount changes
//! the directory again, and never longer than `--attr-cache`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::changes::Changes;
use crate::limits::TOLD_MAX;
use crate::stdx::monotonic_ns;
use crate::types::{Attr, Ino};

const SHARDS: usize = 16;
const PER_SHARD: usize = TOLD_MAX / SHARDS;

struct Entry {
    when_ns: u64,
    /// The change that these attributes are as of.
    as_of: u64,
    attr: Attr,
}

/// One per mount.
#[derive(Default)]
pub(super) struct Told {
    shards: [Mutex<HashMap<Ino, Entry, RandomState>>; SHARDS],
}

impl Told {
    /// Metadata told `attr` as of change `as_of`.
    pub fn keep(&self, ino: Ino, attr: &Attr, as_of: u64) {
        let mut shard = self.shard(ino);
        if shard.len() >= PER_SHARD {
            shard.clear();
        }
        shard.insert(ino, Entry { when_ns: monotonic_ns(), as_of, attr: attr.clone() });
    }

    /// What was told less than `ttl_ns` ago and was not changed by this mount since, with how
    /// long it may still be believed.
    pub fn recall(&self, ino: Ino, ttl_ns: u64, changes: &Changes) -> Option<(Attr, u64)> {
        let shard = self.shard(ino);
        let entry = shard.get(&ino)?;
        let left_ns =
            ttl_ns.checked_sub(monotonic_ns() - entry.when_ns).filter(|left| *left > 0)?;
        (!changes.since(ino, entry.as_of)).then(|| (entry.attr.clone(), left_ns))
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, HashMap<Ino, Entry, RandomState>> {
        self.shards[ino.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FileType, Time};

    fn attr(nlink: u32) -> Attr {
        let time = Time { sec: 1, nsec: 0 };
        Attr { nlink, ..Attr::new(FileType::Dir, 0o755, time) }
    }

    #[test]
    fn a_change_or_time_ends_it() {
        let (told, changes) = (Told::default(), Changes::default());
        let (number, alone) = changes.note_since(Ino(7), changes.now());
        assert!(alone);
        told.keep(Ino(7), &attr(2), number);
        let (known, left_ns) = told.recall(Ino(7), 1 << 40, &changes).unwrap();
        assert_eq!(known.nlink, 2);
        assert!(left_ns <= 1 << 40);
        assert!(told.recall(Ino(7), 0, &changes).is_none());
        assert!(told.recall(Ino(8), 1 << 40, &changes).is_none());
        changes.note(Ino(7));
        assert!(told.recall(Ino(7), 1 << 40, &changes).is_none());
    }

    #[test]
    fn of_two_changes_at_once_only_the_one_that_is_surely_last_counts() {
        let changes = Changes::default();
        let began = changes.now();
        let (_, first_alone) = changes.note_since(Ino(7), began);
        let (_, second_alone) = changes.note_since(Ino(7), began);
        assert!(first_alone && !second_alone);
    }
}
