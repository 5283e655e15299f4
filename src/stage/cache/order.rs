//! Which block was unused for longest, without work at each use.
//!
//! Owns a heap of blocks by a time at which each was used; its table knows later uses. Whoever asks
//! for the oldest brings these up to date, as far as they stand in the way. Blocks that are gone
//! may still be here; they are passed over, and swept out before they outnumber the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::object::BlockKey;

/// Entries that may be stale before anybody counts.
const SLACK: usize = 64;

/// Blocks by last use.
#[derive(Default)]
pub(super) struct Order(BinaryHeap<Reverse<(u64, BlockKey)>>);

impl Order {
    /// A block came in, last used then.
    pub(super) fn push(&mut self, used_ns: u64, key: BlockKey) {
        self.0.push(Reverse((used_ns, key)));
    }

    /// Bring the block unused for longest to the top, in at most `steps`; whether it is there.
    /// `used` tells the last use of a block that is still held.
    pub(super) fn freshen(
        &mut self,
        steps: usize,
        used: impl Fn(&BlockKey) -> Option<u64>,
    ) -> bool {
        for _ in 0..steps {
            let Some(mut top) = self.0.peek_mut() else { return true };
            let Reverse((believed_ns, key)) = *top;
            match used(&key) {
                Some(used_ns) if used_ns <= believed_ns => return true,
                // It sinks to its place as `top` goes.
                Some(used_ns) => *top = Reverse((used_ns, key)),
                None => drop(PeekMut::pop(top)),
            }
        }
        false
    }

    /// The block at the top.
    pub(super) fn top(&self) -> Option<BlockKey> {
        self.0.peek().map(|Reverse((_, key))| *key)
    }

    /// Whether more than `held` blocks make it worth to begin anew.
    pub(super) fn is_stale(&self, held: usize) -> bool {
        self.0.len() > 2 * held + SLACK
    }

    /// Begin anew with these.
    pub(super) fn rebuild(&mut self, blocks: impl Iterator<Item = (u64, BlockKey)>) {
        self.0 = blocks.map(Reverse).collect();
    }
}
