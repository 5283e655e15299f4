//! An index of cached blocks with random eviction: of two drawn at random, the older goes.
//!
//! Owns the charge and the time of last use of each block. Blocks lie in a plain vector, so that a
//! random one costs no walk. Not locked; its owner does that.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::object::BlockKey;
use crate::stdx::{self, Chance};

struct Slot<V> {
    key: BlockKey,
    value: V,
    charge_bytes: u64,
    used_ns: u64,
}

/// Blocks with what the owner keeps for each.
pub(super) struct Table<V> {
    slots: Vec<Slot<V>>,
    places: HashMap<BlockKey, usize, RandomState>,
    charged_bytes: u64,
    chance: Chance,
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let now = stdx::now();
    now.sec.max(0) as u64 * 1_000_000_000 + u64::from(now.nsec)
}

impl<V> Table<V> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            places: HashMap::default(),
            charged_bytes: 0,
            chance: Chance::from_system(),
        }
    }

    /// Blocks held.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sum of all charges.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.charged_bytes
    }

    /// The value of a block, which counts as a use.
    pub(super) fn touch(&mut self, key: &BlockKey) -> Option<&V> {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.used_ns = now_ns();
        Some(&slot.value)
    }

    /// Hold a block; one of the same key is replaced and given back.
    pub(super) fn insert(
        &mut self,
        key: BlockKey,
        value: V,
        charge_bytes: u64,
        used_ns: u64,
    ) -> Option<V> {
        let replaced = self.remove(&key);
        self.places.insert(key, self.slots.len());
        self.slots.push(Slot { key, value, charge_bytes, used_ns });
        self.charged_bytes += charge_bytes;
        replaced
    }

    /// Hold a block no longer.
    pub(super) fn remove(&mut self, key: &BlockKey) -> Option<V> {
        let place = self.places.remove(key)?;
        let slot = self.slots.swap_remove(place);
        assert!(slot.key == *key, "a place leads to its block");
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key, place);
        }
        self.charged_bytes -= slot.charge_bytes;
        Some(slot.value)
    }

    /// Let one block go, and say which.
    pub(super) fn evict(&mut self) -> Option<(BlockKey, V)> {
        let end = self.slots.len() as u64;
        if end == 0 {
            return None;
        }
        let first = &self.slots[self.chance.below(end) as usize];
        let second = &self.slots[self.chance.below(end) as usize];
        let key = if first.used_ns <= second.used_ns { first.key } else { second.key };
        self.remove(&key).map(|value| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: u64) -> BlockKey {
        BlockKey { id, index: 0, size: 1 }
    }

    #[test]
    fn the_older_of_two_goes_first_as_a_rule() {
        let mut table = Table::new();
        for id in 1..=100 {
            table.insert(key(id), (), 1, id);
        }
        let gone: Vec<u64> = (0..50).map(|_| table.evict().unwrap().0.id).collect();
        let old = gone.iter().filter(|id| **id <= 50).count();
        assert!(old > 25, "{old} of 50 were from the older half");
        assert_eq!((table.len(), table.charged_bytes()), (50, 50));
    }

    proptest! {
        #[test]
        fn charges_add_up(steps in proptest::collection::vec((0u8..4, 1u64..20, 1u64..100), 0..200)) {
            let mut table = Table::new();
            let mut model = std::collections::BTreeMap::new();
            for (step, id, charge) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(
                        table.insert(key(id), charge, charge, id),
                        model.insert(id, charge)
                    ),
                    2 => prop_assert_eq!(table.remove(&key(id)), model.remove(&id)),
                    _ => {
                        let gone = table.evict();
                        prop_assert_eq!(gone.is_none(), model.is_empty());
                        if let Some((key, charge)) = gone {
                            prop_assert_eq!(model.remove(&key.id), Some(charge));
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.charged_bytes(), model.values().sum::<u64>());
                for (id, charge) in &model {
                    prop_assert_eq!(table.touch(&key(*id)), Some(charge));
                }
            }
        }
    }
}
