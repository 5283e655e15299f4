//! The sums behind a cached block: CRC-32C, big endian, one per 32 KiB.
//!
//! Owns their bytes and which pieces a read looks at.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, Digest};

use super::config::Verify;
use crate::pages::Page;

/// Bytes under one sum; the last piece is shorter.
pub(in crate::stage) const PIECE_BYTES: usize = 32 << 10;

/// Bytes of the sums of a block.
pub(in crate::stage) fn sums_len(block_bytes: usize) -> usize {
    block_bytes.div_ceil(PIECE_BYTES) * 4
}

/// The sums of a block.
pub(in crate::stage) fn sums(block: &[u8]) -> Vec<u8> {
    block.chunks(PIECE_BYTES).flat_map(|piece| sum(piece).to_be_bytes()).collect()
}

/// The sums of a block that lies in several pages.
pub(in crate::stage) fn sums_of_pages(pages: &[Page]) -> Vec<u8> {
    let block_bytes = pages.iter().map(|page| page.len()).sum();
    let mut sums = Vec::with_capacity(sums_len(block_bytes));
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut missing = PIECE_BYTES;
    for page in pages {
        let mut rest = &page[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(missing.min(rest.len()));
            digest.update(now);
            missing -= now.len();
            if missing == 0 {
                sums.extend_from_slice(&(digest.finalize_reset() as u32).to_be_bytes());
                missing = PIECE_BYTES;
            }
            rest = later;
        }
    }
    if missing < PIECE_BYTES {
        sums.extend_from_slice(&(digest.finalize() as u32).to_be_bytes());
    }
    sums
}

fn sum(piece: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(piece)
}

/// What one read brings and looks at.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::stage) struct ReadPlan {
    /// Bytes of the block to read.
    pub(in crate::stage) bytes: Range<usize>,
    /// Pieces to look at; all of them lie inside `bytes`.
    pub(in crate::stage) pieces: Range<usize>,
}

/// How to read `wanted`, a part of a block of `block_bytes`.
pub(in crate::stage) fn plan(level: Verify, block_bytes: usize, wanted: Range<usize>) -> ReadPlan {
    assert!(wanted.start < wanted.end && wanted.end <= block_bytes, "a part of the block");
    let widened = wanted.start / PIECE_BYTES..wanted.end.div_ceil(PIECE_BYTES);
    match level {
        Verify::None => ReadPlan { bytes: wanted, pieces: 0..0 },
        Verify::Full if wanted == (0..block_bytes) => ReadPlan { bytes: wanted, pieces: widened },
        Verify::Full => ReadPlan { bytes: wanted, pieces: 0..0 },
        Verify::Shrink => {
            let first = wanted.start.div_ceil(PIECE_BYTES);
            let whole_end =
                if wanted.end == block_bytes { widened.end } else { wanted.end / PIECE_BYTES };
            ReadPlan { bytes: wanted, pieces: first..whole_end.max(first) }
        }
        Verify::Extend => {
            let bytes = widened.start * PIECE_BYTES..(widened.end * PIECE_BYTES).min(block_bytes);
            ReadPlan { bytes, pieces: widened }
        }
    }
}

/// Whether the planned pieces of `bytes` (what `plan.bytes` brought) have these sums.
pub(in crate::stage) fn matches(plan: &ReadPlan, bytes: &[u8], sums: &[u8]) -> bool {
    assert_eq!(bytes.len(), plan.bytes.len(), "what was planned was read");
    assert_eq!(sums.len(), plan.pieces.len() * 4, "a sum for each piece");
    let (sums, _) = sums.as_chunks::<4>();
    plan.pieces.clone().zip(sums).all(|(piece, wanted)| {
        let start = piece * PIECE_BYTES - plan.bytes.start;
        let end = (start + PIECE_BYTES).min(bytes.len());
        sum(&bytes[start..end]) == u32::from_be_bytes(*wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEVELS: [Verify; 4] = [Verify::None, Verify::Full, Verify::Shrink, Verify::Extend];

    #[test]
    fn sums_are_castagnoli_in_big_endian() {
        assert_eq!(sums(b"123456789"), [0xE3, 0x06, 0x92, 0x83]);
        assert_eq!(sums(&vec![0; 4 << 20]).len(), 512);
        assert_eq!((sums_len(1), sums_len(PIECE_BYTES), sums_len(PIECE_BYTES + 1)), (4, 4, 8));
    }

    #[test]
    fn levels_look_at_what_they_say() {
        let piece = PIECE_BYTES;
        let block = 3 * piece + 5;
        let shrink = plan(Verify::Shrink, block, 1..3 * piece + 1);
        assert_eq!(shrink, ReadPlan { bytes: 1..3 * piece + 1, pieces: 1..3 });
        assert_eq!(plan(Verify::Shrink, block, 5..9).pieces.len(), 0);
        assert_eq!(plan(Verify::Shrink, block, 3 * piece..block).pieces, 3..4);
        let extend = plan(Verify::Extend, block, piece + 7..piece + 9);
        assert_eq!(extend, ReadPlan { bytes: piece..2 * piece, pieces: 1..2 });
        assert_eq!(plan(Verify::Full, block, 0..block).pieces, 0..4);
        assert_eq!(plan(Verify::Full, block, 0..block - 1).pieces.len(), 0);
    }

    proptest! {
        #[test]
        fn what_was_written_matches_and_a_flip_under_a_sum_does_not(
            len in 1usize..200_000, at: prop::sample::Index, to: prop::sample::Index, flip: prop::sample::Index,
        ) {
            let block: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let all = sums(&block);
            let cut = at.index(len + 1);
            let pages = [&block[..cut], &block[cut..]].map(|part| Page::from_vec(part.to_vec()));
            prop_assert_eq!(&sums_of_pages(&pages), &all);
            prop_assert_eq!(all.len(), sums_len(len));
            let start = at.index(len);
            let wanted = start..start + 1 + to.index(len - start);
            for level in LEVELS {
                let plan = plan(level, len, wanted.clone());
                prop_assert!(plan.bytes.start <= wanted.start && wanted.end <= plan.bytes.end);
                let sums = &all[plan.pieces.start * 4..plan.pieces.end * 4];
                let mut bytes = block[plan.bytes.clone()].to_vec();
                prop_assert!(matches(&plan, &bytes, sums));
                let flip = flip.index(bytes.len());
                bytes[flip] ^= 1;
                let piece = (plan.bytes.start + flip) / PIECE_BYTES;
                prop_assert_eq!(matches(&plan, &bytes, sums), !plan.pieces.contains(&piece));
            }
        }
    }
}
