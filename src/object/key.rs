//! The only maker of object names.
//!
//! Owns the two layouts and the lengths of a slice's blocks. Does not own the volume name in
//! front of a key (`prefix`). Relies on JuiceFS's rule that a name holds the raw block length.

use crate::types::{CHUNK_BYTES, SliceId};

/// Smallest block a volume may have: 64 KiB.
pub const BLOCK_BYTES_MIN: u32 = 64 << 10;
/// Largest block a volume may have: 16 MiB.
pub const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// Which block of which slice, and how long it is before compression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BlockKey {
    /// Slice id; not 0, which is a hole.
    pub id: SliceId,
    /// Block number inside the slice, from 0.
    pub index: u32,
    /// Raw length in bytes.
    pub size: u32,
}

/// How a volume cuts slices into blocks and names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    block_bytes: u32,
    hash_prefix: bool,
}

impl Layout {
    /// The layout of a volume's setting: `BlockSize` in KiB and `HashPrefix`.
    /// As JuiceFS does, the size is rounded down to a power of two and kept in 64 KiB ..= 16 MiB.
    pub fn new(block_size_kib: u32, hash_prefix: bool) -> Self {
        let bytes = block_size_kib.saturating_mul(1024).max(1);
        let block_bytes = (1 << bytes.ilog2()).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        Self { block_bytes, hash_prefix }
    }

    /// Length in bytes of all blocks of a slice but the last.
    pub fn block_bytes(self) -> u32 {
        self.block_bytes
    }

    /// Number of blocks of a slice of `slice_bytes`.
    pub fn block_count(self, slice_bytes: u32) -> u32 {
        slice_bytes.div_ceil(self.block_bytes)
    }

    /// Block `index` of slice `id`, whose whole length is `slice_bytes`.
    pub fn block(self, id: SliceId, slice_bytes: u32, index: u32) -> BlockKey {
        assert!(u64::from(slice_bytes) <= CHUNK_BYTES, "a slice lies inside its chunk");
        assert!(index < self.block_count(slice_bytes), "a block lies inside its slice");
        let start = index * self.block_bytes;
        BlockKey { id, index, size: (slice_bytes - start).min(self.block_bytes) }
    }

    /// All blocks of a slice, in order.
    pub fn blocks(self, id: SliceId, slice_bytes: u32) -> impl Iterator<Item = BlockKey> {
        (0..self.block_count(slice_bytes)).map(move |index| self.block(id, slice_bytes, index))
    }

    /// Whether a slice can have this block.
    pub fn holds(self, block: BlockKey) -> bool {
        let end = u64::from(block.index) * u64::from(self.block_bytes) + u64::from(block.size);
        (1..=self.block_bytes).contains(&block.size) && end <= CHUNK_BYTES
    }

    /// The object name of a block, without the volume name.
    pub fn name(self, block: BlockKey) -> String {
        let BlockKey { id, index, size } = block;
        assert!(id != 0, "a hole has no object");
        if self.hash_prefix {
            format!("chunks/{:02X}/{}/{id}_{index}_{size}", id % 256, id / 1_000_000)
        } else {
            format!("chunks/{}/{}/{id}_{index}_{size}", id / 1_000_000, id / 1000)
        }
    }

    /// The block a name belongs to; `None` for any name that this layout would not make.
    pub fn parse(self, name: &str) -> Option<BlockKey> {
        let mut numbers = name.rsplit('/').next()?.split('_');
        let id = numbers.next()?.parse().ok().filter(|id| *id != 0)?;
        let index = numbers.next()?.parse().ok()?;
        let size = numbers.next()?.parse().ok()?;
        let block = BlockKey { id, index, size };
        (self.name(block) == name).then_some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(layout: Layout, id: u64, bytes: u32) -> Vec<String> {
        layout.blocks(id, bytes).map(|block| layout.name(block)).collect()
    }

    #[test]
    fn plain_names_are_those_of_juicefs() {
        let layout = Layout::new(4096, false);
        let wanted = [
            "chunks/1/1234/1234567_0_4194304",
            "chunks/1/1234/1234567_1_4194304",
            "chunks/1/1234/1234567_2_1048576",
        ];
        assert_eq!(names(layout, 1_234_567, 9 << 20), wanted);
        assert_eq!(names(layout, 1, 1), ["chunks/0/0/1_0_1"]);
    }

    #[test]
    fn hashed_names_are_those_of_juicefs() {
        let layout = Layout::new(4096, true);
        assert_eq!(names(layout, 1_234_567, 4 << 20), ["chunks/87/1/1234567_0_4194304"]);
        assert_eq!(names(layout, 10, 5), ["chunks/0A/0/10_0_5"]);
    }

    #[test]
    fn no_slice_has_a_block_that_is_empty_or_ends_behind_its_chunk() {
        let layout = Layout::new(64, false);
        let holds = |index, size| layout.holds(BlockKey { id: 1, index, size });
        assert!(holds(0, 1) && holds(1023, 64 << 10));
        assert!(!holds(1024, 1) && !holds(0, 0) && !holds(0, (64 << 10) + 1));
        assert!(!holds(u32::MAX, u32::MAX));
    }

    #[test]
    fn names_of_the_fixtures_parse() {
        let block = BlockKey { id: 19, index: 3, size: 262_144 };
        assert_eq!(Layout::new(256, false).parse("chunks/0/0/19_3_262144"), Some(block));
        for wrong in ["juicefs_uuid", "chunks/0/0/19_3", "chunks/0/1/19_3_7", "chunks/0/0/0_0_1"] {
            assert_eq!(Layout::new(256, false).parse(wrong), None, "{wrong}");
        }
        assert_eq!(Layout::new(256, false).parse("chunks/0/0/+19_3_262144"), None);
    }

    #[test]
    fn block_sizes_are_rounded_and_clamped() {
        let sizes = [(0, 64), (1, 64), (100, 64), (5000, 4096), (u32::MAX, 16384)];
        for (given, kept) in sizes {
            assert_eq!(Layout::new(given, false).block_bytes(), kept * 1024, "{given}");
        }
    }

    proptest! {
        #[test]
        fn blocks_cover_the_slice_and_names_come_back(
            id in 1u64.., bytes in 1u32..=(64 << 20), kib in 64u32..=16384, hash: bool,
        ) {
            let layout = Layout::new(kib, hash);
            let blocks: Vec<_> = layout.blocks(id, bytes).collect();
            prop_assert_eq!(blocks.iter().map(|block| block.size).sum::<u32>(), bytes);
            for (at, block) in blocks.iter().enumerate() {
                prop_assert_eq!(block.index as usize, at);
                prop_assert!(block.size >= 1);
                prop_assert!(at + 1 == blocks.len() || block.size == layout.block_bytes());
                prop_assert_eq!(layout.parse(&layout.name(*block)), Some(*block));
            }
        }
    }
}
