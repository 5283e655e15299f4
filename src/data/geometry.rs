//! Arithmetic of files, chunks, slices and blocks. Pure; knows no bytes.

use crate::types::CHUNK_BYTES;

/// A range inside one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// Chunk index.
    pub chunk: u32,
    /// First byte in the chunk.
    pub pos: u32,
    /// Bytes, at least one.
    pub len: u32,
}

impl Span {
    /// First byte in the file.
    pub fn offset(self) -> u64 {
        u64::from(self.chunk) * CHUNK_BYTES + u64::from(self.pos)
    }

    /// The span without its first `cut` bytes.
    pub fn after(self, cut: u32) -> Self {
        assert!(cut <= self.len, "no more is cut than there is");
        Self { chunk: self.chunk, pos: self.pos + cut, len: self.len - cut }
    }
}

/// Cut a range of a file, which ends below `FILE_BYTES_END`, at chunk borders.
pub(super) fn spans(offset: u64, len: u64) -> impl Iterator<Item = Span> {
    let (mut at, end) = (offset, offset + len);
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let pos = at % CHUNK_BYTES;
        let len = (CHUNK_BYTES - pos).min(end - at);
        let chunk = u32::try_from(at / CHUNK_BYTES).expect("a file has fewer than 2^31 chunks");
        at += len;
        Some(Span { chunk, pos: pos as u32, len: len as u32 })
    })
}

/// A range inside one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Block index in the slice.
    pub index: u32,
    /// First byte in the block.
    pub off: u32,
    /// Bytes, at least one.
    pub len: u32,
}

/// Cut a range of a slice at the borders of pieces of `piece_bytes` (blocks, pages).
pub(super) fn parts(off: u32, len: u32, piece_bytes: u32) -> impl Iterator<Item = Part> {
    let (mut at, end) = (off, off + len);
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let off = at % piece_bytes;
        let len = (piece_bytes - off).min(end - at);
        let index = at / piece_bytes;
        at += len;
        Some(Part { index, off, len })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_cut_at_chunk_borders() {
        let cut: Vec<_> = spans(CHUNK_BYTES - 3, 5).collect();
        let first = Span { chunk: 0, pos: CHUNK_BYTES as u32 - 3, len: 3 };
        assert_eq!(cut, [first, Span { chunk: 1, pos: 0, len: 2 }]);
        assert_eq!(spans(7, 0).count(), 0);
    }

    proptest! {
        #[test]
        fn spans_cover_the_range_exactly(offset in 0u64..1 << 56, len in 0u64..1 << 30) {
            let mut at = offset;
            for span in spans(offset, len) {
                prop_assert_eq!(span.offset(), at);
                prop_assert!(span.len > 0 && u64::from(span.pos + span.len) <= CHUNK_BYTES);
                at += u64::from(span.len);
            }
            prop_assert_eq!(at, offset + len);
        }

        #[test]
        fn parts_cover_the_range_exactly(off in 0u32..1 << 26, len in 0u32..1 << 25, shift in 16u32..24) {
            let mut at = off;
            for part in parts(off, len, 1 << shift) {
                prop_assert_eq!((part.index << shift) + part.off, at);
                prop_assert!(part.len > 0 && part.off + part.len <= 1 << shift);
                at += part.len;
            }
            prop_assert_eq!(at, off + len);
        }
    }
}
