//! What is kept: a slot for each block, found by its name.
//!
//! Owns where a block's bytes are and how far it has come, in 48 bytes and a number in a table.
//! Does not own the order of uploads (`queue`), which links slots to lists, nor any bytes. Not locked.

use hashbrown::HashTable;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::log::Place;
use crate::object::BlockKey;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// Lists that groups are spread over.
pub(super) const LANES: usize = 256;
/// Cache folders that hold staged blocks.
pub(super) const FOLDERS_MAX: usize = 64;

const INDEX_BITS: u32 = 10;
const TIER_BITS: u8 = 0b11;
const STAND_SHIFT: u8 = 2;
const FILE: u8 = 1 << 4;
const HURRIED: u8 = 1 << 5;
const REMOVED: u8 = 1 << 6;
const TWIN: u8 = 1 << 7;

/// Where the bytes of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// In the log of this folder.
    Log(usize, Place),
    /// In a file of this folder.
    File(usize),
}

impl Home {
    /// The number of the folder.
    pub(super) fn folder(self) -> usize {
        match self {
            Self::Log(folder, _) | Self::File(folder) => folder,
        }
    }
}

/// Where a block stands on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// In the list of its lane.
    Waiting,
    /// In the list of those that somebody waits for.
    Urgent,
    /// Its upload failed, and it waits to be tried again.
    Failed,
    /// In somebody's hands.
    Flying,
}

/// A block that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) key: BlockKey,
    pub(super) tier: u8,
    pub(super) group: u64,
    pub(super) kept_ms: u64,
    pub(super) home: Home,
    /// Number of the log's record or of the folder's round that brings it to the disk.
    pub(super) mark: u64,
}

/// A block that is kept.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    id: u64,
    pub(super) kept_ms: u64,
    pub(super) mark: u64,
    place: Place,
    /// Neighbours in the list it is in.
    pub(super) before: u32,
    pub(super) next: u32,
    size: u32,
    /// Number of the block in its slice, and above that of the folder.
    index_folder: u16,
    lane: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Slot>() == 48);
// The smallest blocks make the most of a slice; a folder's number fits above theirs.
const _: () = assert!(
    crate::types::CHUNK_BYTES / crate::object::BLOCK_BYTES_MIN as u64 <= 1 << INDEX_BITS
        && FOLDERS_MAX << INDEX_BITS <= 1 << 16
);

impl Slot {
    fn new(kept: &Kept) -> Self {
        let BlockKey { id, index, size } = kept.key;
        assert!(id != 0 && index < 1 << INDEX_BITS && kept.home.folder() < FOLDERS_MAX, "in range");
        let mut slot = Self {
            id,
            kept_ms: kept.kept_ms,
            mark: kept.mark,
            place: Place { segment: 0, offset: 0 },
            before: NONE,
            next: NONE,
            size,
            index_folder: index as u16,
            lane: (kept.group % LANES as u64) as u8,
            flags: kept.tier & TIER_BITS,
        };
        slot.move_to(kept.home);
        slot
    }

    pub(super) fn key(&self) -> BlockKey {
        let index = u32::from(self.index_folder) & ((1 << INDEX_BITS) - 1);
        BlockKey { id: self.id, index, size: self.size }
    }

    pub(super) fn tier(&self) -> u8 {
        self.flags & TIER_BITS
    }

    pub(super) fn lane(&self) -> usize {
        usize::from(self.lane)
    }

    pub(super) fn home(&self) -> Home {
        let folder = usize::from(self.index_folder >> INDEX_BITS);
        if self.is(FILE) { Home::File(folder) } else { Home::Log(folder, self.place) }
    }

    /// The bytes are there now.
    pub(super) fn move_to(&mut self, home: Home) {
        let index = self.index_folder & ((1 << INDEX_BITS) - 1);
        self.index_folder = (home.folder() as u16) << INDEX_BITS | index;
        if let Home::Log(_, place) = home {
            self.place = place;
        }
        self.set(FILE, matches!(home, Home::File(_)));
    }

    pub(super) fn stand(&self) -> Stand {
        match self.flags >> STAND_SHIFT & 0b11 {
            0 => Stand::Waiting,
            1 => Stand::Urgent,
            2 => Stand::Failed,
            _ => Stand::Flying,
        }
    }

    pub(super) fn set_stand(&mut self, stand: Stand) {
        self.flags = self.flags & !(0b11 << STAND_SHIFT) | (stand as u8) << STAND_SHIFT;
    }

    /// Somebody waits for it.
    pub(super) fn is_hurried(&self) -> bool {
        self.is(HURRIED)
    }

    pub(super) fn set_hurried(&mut self) {
        self.set(HURRIED, true);
    }

    /// Nobody refers to it any more; it is here until its upload ends.
    pub(super) fn is_removed(&self) -> bool {
        self.is(REMOVED)
    }

    pub(super) fn set_removed(&mut self) {
        self.set(REMOVED, true);
    }

    /// It is in the log, and a file in the same folder holds it as well.
    pub(super) fn has_twin(&self) -> bool {
        self.is(TWIN)
    }

    pub(super) fn set_twin(&mut self, twin: bool) {
        self.set(TWIN, twin);
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    fn is_free(&self) -> bool {
        self.id == 0
    }
}

/// All blocks that are kept.
pub(super) struct Index {
    slots: Vec<Slot>,
    numbers: HashTable<u32>,
    /// First of the free slots.
    free: u32,
    hasher: RandomState,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            numbers: HashTable::new(),
            free: NONE,
            hasher: RandomState::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a block's slot.
    pub(super) fn find(&self, key: &BlockKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.numbers.find(hash, |at| self.slots[*at as usize].key() == *key).copied()
    }

    pub(super) fn get(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }

    /// The slot, if one of this number is in use.
    pub(super) fn used(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize).filter(|slot| !slot.is_free())
    }

    /// A slot for a block that has none.
    pub(super) fn insert(&mut self, kept: &Kept) -> u32 {
        assert!(self.find(&kept.key).is_none(), "a block is kept once");
        let slot = Slot::new(kept);
        let at = match self.free {
            NONE => self.grow(slot),
            at => {
                self.free = self.slots[at as usize].next;
                self.slots[at as usize] = slot;
                at
            }
        };
        let Self { slots, numbers, hasher, .. } = self;
        let hash = |at: &u32| hasher.hash_one(slots[*at as usize].key());
        numbers.insert_unique(hash(&at), at, hash);
        at
    }

    /// A block is no longer kept. It must be in no list.
    pub(super) fn remove(&mut self, at: u32) -> Slot {
        let slot = self.slots[at as usize];
        let hash = self.hasher.hash_one(slot.key());
        let entry = self.numbers.find_entry(hash, |other| *other == at);
        entry.expect("a slot in use has its number in the table").remove();
        self.slots[at as usize].id = 0;
        self.slots[at as usize].next = self.free;
        self.free = at;
        slot
    }

    /// All slots in use, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.is_free())
            .map(|(at, slot)| (at as u32, slot))
    }

    fn grow(&mut self, slot: Slot) -> u32 {
        // In smaller steps than a vector does by itself: what is not used would count, too.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 8 + 64);
        }
        let at = self.slots.len() as u32;
        assert!(at < NONE, "fewer blocks than numbers");
        self.slots.push(slot);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn kept(id: u64, home: Home) -> Kept {
        let key = BlockKey { id, index: (id % 1024) as u32, size: 1 << 24 };
        Kept { key, tier: (id % 4) as u8, group: id * 7, kept_ms: id * 3, home, mark: id }
    }

    #[test]
    fn a_block_costs_less_than_64_bytes() {
        let mut index = Index::new();
        for id in 1..=200_000 {
            index.insert(&kept(id, Home::File(63)));
        }
        let table_bytes = index.numbers.allocation_size();
        let bytes = index.slots.capacity() * size_of::<Slot>() + table_bytes;
        assert!(bytes <= 64 * 200_000, "{} bytes a block", bytes / 200_000);
    }

    #[test]
    fn a_slot_holds_what_it_was_given() {
        let home = Home::Log(63, Place { segment: u32::MAX, offset: 9 });
        let mut slot = Slot::new(&kept(1023, home));
        assert_eq!((slot.key(), slot.tier(), slot.home()), (kept(1023, home).key, 3, home));
        for stand in [Stand::Urgent, Stand::Flying, Stand::Failed, Stand::Waiting] {
            slot.set_stand(stand);
            assert_eq!((slot.stand(), slot.tier(), slot.home()), (stand, 3, home));
        }
        assert!(!slot.is_hurried() && !slot.is_removed() && !slot.has_twin());
        slot.set_twin(true);
        slot.move_to(Home::File(5));
        assert_eq!((slot.home(), slot.key().index, slot.has_twin()), (Home::File(5), 1023, true));
    }

    proptest! {
        #[test]
        fn blocks_come_and_go(steps in prop::collection::vec((any::<bool>(), 1u64..40), 0..400)) {
            let mut index = Index::new();
            let mut model = HashMap::new();
            for (comes, id) in steps {
                let block = kept(id, Home::File(0));
                match (comes, model.get(&id)) {
                    (true, None) => drop(model.insert(id, index.insert(&block))),
                    (false, Some(at)) => {
                        prop_assert_eq!(index.remove(*at).key(), block.key);
                        model.remove(&id);
                    }
                    _ => prop_assert_eq!(index.find(&block.key), model.get(&id).copied()),
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert!(index.slots.len() < 40, "slots are used again");
            }
            let all: HashMap<u64, u32> = index.iter().map(|(at, slot)| (slot.id, at)).collect();
            prop_assert_eq!(all, model);
        }
    }
}
