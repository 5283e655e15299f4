//! Which slices wait here for their upload, and where they belong.
//!
//! Owns the way back from an uploaded block to its file, and how many such slices a chunk has: two of
//! one chunk may become one before either is uploaded. What an earlier mount left is not here unless
//! it has a note. Does not own the blocks (`stage`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::object::BlockKey;
use crate::stdx::Gate;
use crate::types::{Ino, SliceId};

/// Where a slice belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    /// The file.
    pub ino: Ino,
    /// Chunk of the file.
    pub chunk: u32,
    /// Number of the slice while it waits to be committed, else 0.
    pub seq: u64,
}

struct Waiting {
    owner: Owner,
    blocks: u32,
}

/// What is here of a chunk.
#[derive(Default)]
struct Place {
    slices: u32,
    /// Of these, come since somebody looked whether they may become fewer.
    fresh: u32,
    /// Somebody is at it.
    merging: bool,
}

#[derive(Default)]
struct State {
    slices: HashMap<SliceId, Waiting, RandomState>,
    places: HashMap<(Ino, u32), Place, RandomState>,
    /// Blocks that a core has in hand to upload them, and whether they were removed meanwhile.
    hands: HashMap<BlockKey, bool, RandomState>,
}

/// What is to be done before one of several slices of a chunk is uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crowd {
    /// Wait for who merges them.
    Merging,
    /// Merge them.
    Due,
}

/// One per mount.
#[derive(Default)]
pub(super) struct StagedSlices {
    state: Mutex<State>,
    /// Opens when slices of some chunk were merged.
    merged: Gate,
}

impl StagedSlices {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of a slice is about to be kept.
    pub fn add(&self, id: SliceId, owner: Owner) {
        let mut state = self.state();
        if let Some(waiting) = state.slices.get_mut(&id) {
            waiting.blocks += 1;
            return;
        }
        state.slices.insert(id, Waiting { owner, blocks: 1 });
        let place = state.places.entry((owner.ino, owner.chunk)).or_default();
        place.slices += 1;
        place.fresh += 1;
    }

    /// A block of a slice is no longer here; a slice that waits to be committed is remembered all the
    /// same until it is.
    pub fn block_left(&self, id: SliceId) {
        let mut state = self.state();
        let Some(waiting) = state.slices.get_mut(&id) else { return };
        waiting.blocks = waiting.blocks.saturating_sub(1);
        if waiting.blocks == 0 && waiting.owner.seq == 0 {
            state.remove(id);
        }
    }

    /// Nobody needs to know of a slice any more.
    pub fn forget(&self, id: SliceId) {
        self.state().remove(id);
    }

    /// The same of a slice that was known to wait for its commit: one that is listed still waits for its
    /// upload.
    pub fn forget_uncommitted(&self, id: SliceId) {
        let mut state = self.state();
        if state.slices.get(&id).is_some_and(|waiting| waiting.owner.seq > 0) {
            state.remove(id);
        }
    }

    /// Where a slice belongs.
    pub fn owner(&self, id: SliceId) -> Option<Owner> {
        self.state().slices.get(&id).map(|waiting| waiting.owner)
    }

    /// Where a slice belongs, if others wait beside it and are being merged, or enough of them came since
    /// somebody asked: then the caller is to merge them, and to say when it is done.
    pub fn crowded(&self, id: SliceId) -> Option<(Owner, Crowd)> {
        let mut state = self.state();
        let owner = state.slices.get(&id)?.owner;
        let place = state.places.get_mut(&(owner.ino, owner.chunk))?;
        if place.merging {
            return Some((owner, Crowd::Merging));
        }
        // A chunk that does not get shorter is looked at ever more rarely.
        if place.slices < 2 || place.fresh == 0 || place.fresh < place.slices / 4 {
            return None;
        }
        (place.fresh, place.merging) = (0, true);
        Some((owner, Crowd::Due))
    }

    /// Slices of a chunk were merged, or are not worth it.
    pub fn merged(&self, owner: Owner) {
        if let Some(place) = self.state().places.get_mut(&(owner.ino, owner.chunk)) {
            place.merging = false;
        }
        self.merged.open();
    }

    /// Wait until nobody merges slices of a chunk.
    pub async fn until_merged(&self, owner: Owner) {
        loop {
            let ticket = self.merged.ticket();
            let merging = self
                .state()
                .places
                .get(&(owner.ino, owner.chunk))
                .is_some_and(|place| place.merging);
            if !merging {
                return;
            }
            self.merged.wait(ticket).await;
        }
    }

    /// How many slices of a chunk wait.
    pub fn count(&self, ino: Ino, chunk: u32) -> u32 {
        self.state().places.get(&(ino, chunk)).map_or(0, |place| place.slices)
    }

    /// A core takes a block to upload it.
    pub fn take(&self, key: BlockKey) {
        self.state().hands.insert(key, false);
    }

    /// A block that may be in hand was removed.
    pub fn removed_in_hand(&self, key: &BlockKey) {
        if let Some(removed) = self.state().hands.get_mut(key) {
            *removed = true;
        }
    }

    /// Whether a block in hand was removed.
    pub fn is_unwanted(&self, key: &BlockKey) -> bool {
        self.state().hands.get(key).copied().unwrap_or(false)
    }

    /// A block is in hand no longer.
    pub fn give_back(&self, key: &BlockKey) {
        self.state().hands.remove(key);
    }
}

impl State {
    fn remove(&mut self, id: SliceId) {
        let Some(Waiting { owner, .. }) = self.slices.remove(&id) else { return };
        let at = (owner.ino, owner.chunk);
        let place = self.places.get_mut(&at).expect("a slice that waits is counted");
        place.slices -= 1;
        if place.slices == 0 {
            self.places.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(chunk: u32, seq: u64) -> Owner {
        Owner { ino: Ino(7), chunk, seq }
    }

    #[test]
    fn slices_are_counted_until_their_last_block_is_gone() {
        let staged = StagedSlices::default();
        for id in [1, 1, 2, 3] {
            staged.add(id, at(id as u32 / 3, 0));
        }
        assert_eq!((staged.count(Ino(7), 0), staged.count(Ino(7), 1)), (2, 1));
        staged.block_left(1);
        assert_eq!((staged.owner(1), staged.count(Ino(7), 0)), (Some(at(0, 0)), 2));
        staged.block_left(1);
        assert_eq!((staged.owner(1), staged.count(Ino(7), 0)), (None, 1));
        staged.block_left(1);
        staged.block_left(2);
        assert_eq!(staged.count(Ino(7), 0), 0);
        assert!(staged.state().places.len() == 1 && staged.state().slices.len() == 1);
    }

    #[test]
    fn one_that_waits_to_be_committed_is_remembered_until_it_is() {
        let staged = StagedSlices::default();
        staged.add(1, at(0, 9));
        staged.block_left(1);
        assert_eq!(staged.owner(1), Some(at(0, 9)));
        staged.forget(1);
        assert_eq!((staged.owner(1), staged.count(Ino(7), 0)), (None, 0));
        staged.add(2, at(0, 0));
        staged.add(3, at(0, 4));
        staged.forget_uncommitted(2);
        staged.forget_uncommitted(3);
        assert_eq!((staged.owner(2), staged.owner(3)), (Some(at(0, 0)), None));
    }

    #[test]
    fn a_crowd_is_told_again_only_after_it_grew() {
        let staged = StagedSlices::default();
        staged.add(1, at(0, 0));
        assert_eq!(staged.crowded(1), None, "alone");
        staged.add(2, at(0, 0));
        staged.add(3, at(1, 0));
        assert_eq!(staged.crowded(2), Some((at(0, 0), Crowd::Due)));
        assert_eq!(staged.crowded(1), Some((at(0, 0), Crowd::Merging)));
        staged.merged(at(0, 0));
        assert_eq!((staged.crowded(2), staged.crowded(1), staged.crowded(3)), (None, None, None));
        staged.add(4, at(0, 0));
        assert_eq!(staged.crowded(1), Some((at(0, 0), Crowd::Due)));
        staged.merged(at(0, 0));
        (5..=100).for_each(|id| staged.add(id, at(0, 0)));
        assert!(staged.crowded(1).is_some());
        staged.merged(at(0, 0));
        (101..=120).for_each(|id| staged.add(id, at(0, 0)));
        assert_eq!(staged.crowded(1), None, "a fifth more is little");
    }

    #[test]
    fn what_is_removed_while_in_hand_is_unwanted() {
        let (staged, key) = (StagedSlices::default(), BlockKey { id: 1, index: 0, size: 5 });
        staged.removed_in_hand(&key);
        staged.take(key);
        assert!(!staged.is_unwanted(&key));
        staged.removed_in_hand(&key);
        assert!(staged.is_unwanted(&key));
        staged.give_back(&key);
        assert!(!staged.is_unwanted(&key));
    }
}
