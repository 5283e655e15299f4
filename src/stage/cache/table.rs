//! An index of cached blocks, and which of them makes room.
//!
//! Owns the charge and the time of last use of each block. Blocks lie in a plain vector, so that a
//! random one costs no walk. Not locked, and without a clock; its owner has both.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::config::Eviction;
use super::order::Order;
use crate::object::BlockKey;
use crate::stdx::Chance;

struct Slot<V> {
    key: BlockKey,
    value: V,
    charge_bytes: u64,
    used_ns: u64,
}

/// Blocks with what the owner keeps for each. Times are nanoseconds of one clock.
pub(super) struct Table<V> {
    slots: Vec<Slot<V>>,
    places: HashMap<BlockKey, usize, RandomState>,
    charged_bytes: u64,
    eviction: Eviction,
    /// Kept for those who need it: LRU, and blocks that expire.
    order: Option<Order>,
    chance: Chance,
}

impl<V> Table<V> {
    /// An empty table; `expires` when [`Table::expired`] will be asked.
    pub(super) fn new(eviction: Eviction, expires: bool) -> Self {
        let ordered = expires || eviction == Eviction::Lru;
        Self {
            slots: Vec::new(),
            places: HashMap::default(),
            charged_bytes: 0,
            eviction,
            order: ordered.then(Order::default),
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

    /// The value of a block, which was used then.
    pub(super) fn touch(&mut self, key: &BlockKey, used_ns: u64) -> Option<&mut V> {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.used_ns = slot.used_ns.max(used_ns);
        Some(&mut slot.value)
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
        if let Some(order) = &mut self.order {
            order.push(used_ns, key);
            if order.is_stale(self.slots.len()) {
                order.rebuild(self.slots.iter().map(|slot| (slot.used_ns, slot.key)));
            }
        }
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

    /// Let one block go to make room, and say which.
    pub(super) fn evict(&mut self) -> Option<(BlockKey, V)> {
        let key = match self.eviction {
            Eviction::None => None,
            Eviction::TwoRandom => self.older_of_two(),
            Eviction::Lru => self.oldest(),
        }?;
        self.remove(&key).map(|value| (key, value))
    }

    /// Let one block go that was last used before `before_ns`, and say which.
    pub(super) fn expired(&mut self, before_ns: u64) -> Option<(BlockKey, V)> {
        let key = self.oldest()?;
        if self.slots[self.places[&key]].used_ns >= before_ns {
            return None;
        }
        self.remove(&key).map(|value| (key, value))
    }

    /// Prepare for asking for the oldest, in at most `steps`; whether that is cheap now. After many
    /// uses it takes a while, in which nobody should be locked out.
    pub(super) fn freshen(&mut self, steps: usize) -> bool {
        let Self { order, places, slots, .. } = self;
        order.as_mut().is_none_or(|order| {
            order.freshen(steps, |key| places.get(key).map(|place| slots[*place].used_ns))
        })
    }

    /// Let blocks go that `keep` does not want, looking at `count` of those before place `end`; the
    /// end for the next call. Begin with `usize::MAX`, done at 0. Whatever else happens in between,
    /// all that were there at the beginning are looked at, and newer ones maybe.
    pub(super) fn sweep(&mut self, end: usize, count: usize, keep: impl Fn(&V) -> bool) -> usize {
        let end = end.min(self.slots.len());
        let start = end.saturating_sub(count);
        for place in (start..end).rev() {
            let slot = &self.slots[place];
            if !keep(&slot.value) {
                let key = slot.key;
                self.remove(&key);
            }
        }
        start
    }

    fn older_of_two(&mut self) -> Option<BlockKey> {
        let end = self.slots.len() as u64;
        if end == 0 {
            return None;
        }
        let first = &self.slots[self.chance.below(end) as usize];
        let second = &self.slots[self.chance.below(end) as usize];
        Some(if first.used_ns <= second.used_ns { first.key } else { second.key })
    }

    fn oldest(&mut self) -> Option<BlockKey> {
        let there = self.freshen(usize::MAX);
        assert!(there, "no limit was set");
        self.order.as_ref().and_then(Order::top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICIES: [Eviction; 2] = [Eviction::TwoRandom, Eviction::Lru];

    fn key(id: u64) -> BlockKey {
        BlockKey { id, index: 0, size: 1 }
    }

    #[test]
    fn the_older_of_two_goes_first_as_a_rule() {
        let mut table = Table::new(Eviction::TwoRandom, false);
        for id in 1..=100 {
            table.insert(key(id), (), 1, id);
        }
        let gone: Vec<u64> = (0..50).map(|_| table.evict().unwrap().0.id).collect();
        let old = gone.iter().filter(|id| **id <= 50).count();
        assert!(old > 25, "{old} of 50 were from the older half");
        assert_eq!((table.len(), table.charged_bytes()), (50, 50));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut table = Table::new(Eviction::Lru, false);
        for id in 1..=6 {
            table.insert(key(id), (), 1, id);
        }
        table.touch(&key(1), 10);
        table.touch(&key(3), 9);
        table.remove(&key(2));
        let gone: Vec<u64> = std::iter::from_fn(|| table.evict()).map(|gone| gone.0.id).collect();
        assert_eq!(gone, [4, 5, 6, 3, 1]);
    }

    #[test]
    fn nothing_goes_without_eviction_but_what_expired() {
        let mut table = Table::new(Eviction::None, true);
        for id in 1..=4 {
            table.insert(key(id), (), 1, id);
        }
        table.touch(&key(1), 5);
        assert!(table.evict().is_none());
        let gone: Vec<u64> =
            std::iter::from_fn(|| table.expired(4)).map(|gone| gone.0.id).collect();
        assert_eq!((gone, table.len()), (vec![2, 3], 2));
    }

    #[test]
    fn a_block_that_comes_and_goes_leaves_no_trace() {
        let mut table = Table::new(Eviction::Lru, false);
        for at in 0..100_000 {
            table.insert(key(at % 7), (), 1, at);
        }
        assert!(!table.order.as_ref().unwrap().is_stale(table.len()));
        assert_eq!(table.evict().unwrap().0, key(99_993 % 7));
    }

    #[test]
    fn a_sweep_in_parts_looks_at_all() {
        let mut table = Table::new(Eviction::TwoRandom, false);
        for id in 1..=1000 {
            table.insert(key(id), id % 3 > 0, 1, id);
        }
        let mut end = usize::MAX;
        let mut newer = 1000;
        while end > 0 {
            end = table.sweep(end, 64, |keep| *keep);
            newer += 1;
            table.insert(key(newer), true, 1, newer);
            table.remove(&key(newer % 100));
        }
        let left = |id: u64| table.places.contains_key(&key(id));
        assert!((3..=1000).step_by(3).all(|id| !left(id)));
        assert!((100..=newer).filter(|id| id % 3 > 0 || *id > 1000).all(left));
    }

    proptest! {
        #[test]
        fn charges_add_up(
            policy in 0usize..2,
            steps in proptest::collection::vec((0u8..6, 1u64..20, 1u64..100), 0..200),
        ) {
            let mut table = Table::new(POLICIES[policy], true);
            // Charge and last use.
            let mut model = std::collections::BTreeMap::<u64, (u64, u64)>::new();
            for (at, (step, id, charge)) in steps.into_iter().enumerate() {
                let at = at as u64;
                match step {
                    0 | 1 => prop_assert_eq!(
                        table.insert(key(id), charge, charge, at),
                        model.insert(id, (charge, at)).map(|old| old.0)
                    ),
                    2 => prop_assert_eq!(
                        table.remove(&key(id)),
                        model.remove(&id).map(|old| old.0)
                    ),
                    3 => {
                        let known = table.touch(&key(id), at).map(|charge| *charge);
                        prop_assert_eq!(known, model.get(&id).map(|old| old.0));
                        model.entry(id).and_modify(|block| block.1 = at);
                    }
                    4 => {
                        let before = at.saturating_sub(charge);
                        let oldest = model.iter().map(|(id, block)| (block.1, *id)).min();
                        let wanted = oldest.filter(|oldest| oldest.0 < before).map(|block| block.1);
                        prop_assert_eq!(table.expired(before).map(|gone| gone.0.id), wanted);
                        wanted.map(|id| model.remove(&id));
                    }
                    _ => {
                        let gone = table.evict();
                        prop_assert_eq!(gone.is_none(), model.is_empty());
                        if let Some((key, charge)) = gone {
                            let oldest = model.values().map(|block| block.1).min();
                            let (was_charged, used) = model.remove(&key.id).unwrap();
                            prop_assert_eq!(was_charged, charge);
                            prop_assert!(policy == 0 || Some(used) == oldest);
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.charged_bytes(), model.values().map(|block| block.0).sum::<u64>());
            }
        }
    }
}
