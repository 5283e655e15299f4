//! What is visible of a chunk when layers are painted over each other: later wins.
//!
//! Owns the painting, for committed slices and for dirty data above them. Does not know where a
//! layer's bytes are.

/// A visible piece of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece<T> {
    /// First byte in the chunk.
    pub pos: u32,
    /// Bytes, at least one.
    pub len: u32,
    /// First byte in the layer.
    pub off: u32,
    /// The layer.
    pub layer: T,
}

impl<T> Piece<T> {
    fn end(&self) -> u32 {
        self.pos + self.len
    }
}

impl<T: Copy> Piece<T> {
    /// The part of this piece in `start .. end`, which must touch it.
    fn clip(&self, start: u32, end: u32) -> Self {
        let (from, to) = (self.pos.max(start), self.end().min(end));
        assert!(from < to, "a clipped piece keeps a byte");
        Self { pos: from, len: to - from, off: self.off + (from - self.pos), layer: self.layer }
    }
}

/// Pieces in order, none over another.
#[derive(Clone, Debug)]
pub(super) struct Overlay<T> {
    pieces: Vec<Piece<T>>,
}

impl<T> Default for Overlay<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Copy> Overlay<T> {
    /// Put a piece over all that is there.
    pub fn paint(&mut self, piece: Piece<T>) {
        if piece.len == 0 {
            return;
        }
        let (start, end) = (piece.pos, piece.end());
        let first = self.pieces.partition_point(|old| old.end() <= start);
        let last = self.pieces.partition_point(|old| old.pos < end);
        let covered = &self.pieces[first..last];
        let before = covered.first().filter(|old| old.pos < start).map(|old| old.clip(0, start));
        let after = covered.last().filter(|old| old.end() > end).map(|old| old.clip(end, u32::MAX));
        let painted = before.into_iter().chain([piece]).chain(after);
        self.pieces.splice(first..last, painted);
    }

    /// Pieces that are visible.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Pieces visible in `start .. end`, clipped to it; what they leave out was never painted.
    pub fn visible(&self, start: u32, end: u32) -> impl Iterator<Item = Piece<T>> {
        let first = self.pieces.partition_point(|piece| piece.end() <= start);
        let touching = self.pieces[first..].iter().take_while(move |piece| piece.pos < end);
        touching.map(move |piece| piece.clip(start, end))
    }

    /// Cover `start .. end` exactly: visible pieces, and `None` with a length for each gap.
    pub fn cover(&self, start: u32, end: u32) -> Vec<(Option<Piece<T>>, u32)> {
        let mut whole = Vec::new();
        let mut at = start;
        for piece in self.visible(start, end) {
            if piece.pos > at {
                whole.push((None, piece.pos - at));
            }
            at = piece.end();
            whole.push((Some(piece), piece.len));
        }
        if at < end {
            whole.push((None, end - at));
        }
        assert_eq!(whole.iter().map(|part| part.1).sum::<u32>(), end - start, "an exact cover");
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (pos, layer, off, len)
    type Short = (u32, u64, u32, u32);

    fn painted(input: &[Short]) -> Overlay<u64> {
        let mut overlay = Overlay::default();
        for &(pos, layer, off, len) in input {
            overlay.paint(Piece { pos, len, off, layer });
        }
        overlay
    }

    fn shown(input: &[Short], end: u32) -> Vec<(u64, u32, u32)> {
        let cover = painted(input).cover(0, end);
        cover
            .iter()
            .map(|(piece, len)| piece.map_or((0, 0, *len), |p| (p.layer, p.off, *len)))
            .collect()
    }

    #[test]
    fn the_examples_of_the_format() {
        assert_eq!(shown(&[(50, 1, 0, 100)], 150), [(0, 0, 50), (1, 0, 100)]);
        let middle = [(0, 1, 0, 100), (40, 2, 0, 20)];
        assert_eq!(shown(&middle, 100), [(1, 0, 40), (2, 0, 20), (1, 60, 40)]);
        assert_eq!(shown(&[(0, 1, 0, 100), (90, 2, 0, 50)], 140), [(1, 0, 90), (2, 0, 50)]);
        let hole = [(0, 1, 0, 100), (40, 0, 0, 20)];
        assert_eq!(shown(&hole, 100), [(1, 0, 40), (0, 0, 20), (1, 60, 40)]);
    }

    proptest! {
        #[test]
        fn equals_a_painter_of_bytes(
            input in proptest::collection::vec((0u32..200, 1u64..9, 0u32..50, 0u32..60), 0..30),
            start in 0u32..100, len in 1u32..200,
        ) {
            let mut bytes = vec![None; 400];
            for &(pos, layer, off, len) in &input {
                for at in 0..len {
                    bytes[(pos + at) as usize] = Some((layer, off + at));
                }
            }
            let mut at = start;
            for (piece, len) in painted(&input).cover(start, start + len) {
                for n in 0..len {
                    let byte = piece.map(|piece| (piece.layer, piece.off + n));
                    prop_assert_eq!(byte, bytes[(at + n) as usize]);
                }
                at += len;
            }
            prop_assert_eq!(at, start + len);
        }
    }
}
