//! What follows the data of a file in `rawstaging/`: checksums, then a footer that names the tier.
//!
//! Owns these bytes, which are JuiceFS's. Files of tier 0 have no footer, and files written with
//! `--verify-cache-checksum none` no checksums; the length of the file tells which of them are there.

use crate::stage::cache::checksum;

/// Bytes of the longest footer.
pub(super) const FOOTER_BYTES_MAX: usize = 20;
/// Tiers of JuiceFS; another one in a footer counts as tier 0.
pub(super) const TIER_MAX: u8 = 3;

const MAGIC: [u8; 2] = *b"FS";
/// A map of two: "tier", an 8 bit number.
const MAP: [u8; 7] = *b"\x82\xA4tier\xCC";
/// "pad", bytes of a length of 8 bits.
const PAD: [u8; 5] = *b"\xA3pad\xC4";

/// What a file of a length holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Less than the block.
    Short,
    /// The block and what follows it.
    Whole {
        /// Checksums follow the data.
        sums: bool,
        /// Bytes of the footer, 0 without one.
        footer_bytes: usize,
    },
}

/// What a file of `file_bytes` holds that should have a block of `block_bytes`.
pub(super) fn shape(file_bytes: u64, block_bytes: u32) -> Shape {
    let Some(extra) = file_bytes.checked_sub(u64::from(block_bytes)) else { return Shape::Short };
    let sums_bytes = checksum::sums_len(block_bytes as usize) as u64;
    let sums = extra > 0 && extra.is_multiple_of(4);
    match extra.checked_sub(if sums { sums_bytes } else { 0 }) {
        Some(rest) => Shape::Whole { sums, footer_bytes: rest.min(1 << 16) as usize },
        None => Shape::Short,
    }
}

/// The footer of a tier. Its length modulo 4 tells whether checksums are before it.
pub(super) fn footer(tier: u8, sums: bool) -> Vec<u8> {
    if tier == 0 {
        return Vec::new();
    }
    let pad: &[u8] = if sums { &[0, 0] } else { &[] };
    let mut map = MAP.to_vec();
    map.push(tier);
    map.extend_from_slice(&PAD);
    map.push(pad.len() as u8);
    map.extend_from_slice(pad);
    let mut footer = MAGIC.to_vec();
    footer.extend_from_slice(&(map.len() as u16).to_be_bytes());
    footer.extend_from_slice(&map);
    assert!(
        footer.len() <= FOOTER_BYTES_MAX && footer.len().is_multiple_of(4) == sums,
        "JuiceFS's rule"
    );
    footer
}

/// The tier that a footer names.
pub(super) fn tier(footer: &[u8]) -> u8 {
    let map = footer.strip_prefix(&MAGIC).and_then(|rest| rest.get(2..));
    let after = map.and_then(|map| map.strip_prefix(&MAP));
    after.and_then(|rest| rest.first().copied()).filter(|tier| *tier <= TIER_MAX).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn footers_are_those_of_the_official_client() {
        let golden = b"FS\x00\x10\x82\xA4tier\xCC\x01\xA3pad\xC4\x02\x00\x00";
        assert_eq!(footer(1, true), golden);
        assert_eq!(tier(golden), 1);
        assert_eq!(footer(3, false), b"FS\x00\x0E\x82\xA4tier\xCC\x03\xA3pad\xC4\x00");
        assert!(footer(0, true).is_empty());
        assert_eq!((tier(b""), tier(b"FS\x00\x01\x80"), tier(&footer(9, true))), (0, 0, 0));
    }

    #[test]
    fn lengths_tell_what_a_file_holds() {
        let whole = |sums, footer_bytes| Shape::Whole { sums, footer_bytes };
        assert_eq!(shape(3, 3), whole(false, 0));
        assert_eq!(shape(7, 3), whole(true, 0));
        assert_eq!(shape(27, 3), whole(true, 20));
        assert_eq!(shape(21, 3), whole(false, 18));
        assert_eq!(shape(2, 3), Shape::Short);
        assert_eq!(shape(65_537 + 4, 65_537), Shape::Short, "two of three sums are missing");
    }

    proptest! {
        #[test]
        fn what_is_written_is_understood(block in 1u32..1 << 24, sums: bool, of in 0u8..=TIER_MAX) {
            let footer = footer(of, sums);
            let sums_bytes = if sums { checksum::sums_len(block as usize) } else { 0 };
            let file_bytes = u64::from(block) + (sums_bytes + footer.len()) as u64;
            prop_assert_eq!(shape(file_bytes, block), Shape::Whole { sums, footer_bytes: footer.len() });
            prop_assert_eq!(tier(&footer), of);
        }
    }
}
