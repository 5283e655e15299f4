//! What is visible of a chunk: records painted in list order, later ones over earlier ones.

use crate::types::SliceRecord;

/// The visible pieces from offset 0 to the end of the last painted byte, in order and without a
/// gap; unpainted gaps are holes (id 0).
pub fn overlay(records: &[SliceRecord]) -> Vec<SliceRecord> {
    let mut seen: Vec<SliceRecord> = Vec::with_capacity(records.len());
    for record in records.iter().filter(|record| record.len > 0) {
        paint(&mut seen, record);
    }
    let mut whole = Vec::with_capacity(seen.len());
    let mut at = 0;
    for piece in seen {
        if piece.pos > at {
            whole.push(SliceRecord {
                pos: at,
                id: 0,
                size: piece.pos - at,
                off: 0,
                len: piece.pos - at,
            });
        }
        at = piece.pos + piece.len;
        whole.push(piece);
    }
    whole
}

/// Put one record over pieces that are sorted and do not overlap.
fn paint(seen: &mut Vec<SliceRecord>, record: &SliceRecord) {
    let (start, end) = (record.pos, record.pos + record.len);
    let first = seen.partition_point(|piece| piece.pos + piece.len <= start);
    let last = seen.partition_point(|piece| piece.pos < end);
    let mut replacement = Vec::with_capacity(3);
    if let Some(piece) = seen[first..last].first()
        && piece.pos < start
    {
        replacement.push(SliceRecord { len: start - piece.pos, ..*piece });
    }
    replacement.push(*record);
    if let Some(piece) = seen[first..last].last()
        && piece.pos + piece.len > end
    {
        let cut = end - piece.pos;
        replacement.push(SliceRecord {
            pos: end,
            off: piece.off + cut,
            len: piece.len - cut,
            ..*piece
        });
    }
    seen.splice(first..last, replacement);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record((pos, id, size, off, len): (u32, u64, u32, u32, u32)) -> SliceRecord {
        SliceRecord { pos, id, size, off, len }
    }

    #[test]
    fn examples_of_the_format() {
        let cases: [(&[_], &[_]); 4] = [
            (&[(50, 1, 100, 0, 100)], &[(0, 0, 50, 0, 50), (50, 1, 100, 0, 100)]),
            (
                &[(0, 1, 100, 0, 100), (40, 2, 20, 0, 20)],
                &[(0, 1, 100, 0, 40), (40, 2, 20, 0, 20), (60, 1, 100, 60, 40)],
            ),
            (&[(0, 1, 100, 0, 100), (90, 2, 50, 0, 50)], &[(0, 1, 100, 0, 90), (90, 2, 50, 0, 50)]),
            (
                &[(0, 1, 100, 0, 100), (40, 0, 0, 0, 20)],
                &[(0, 1, 100, 0, 40), (40, 0, 0, 0, 20), (60, 1, 100, 60, 40)],
            ),
        ];
        for (input, output) in cases {
            let input: Vec<_> = input.iter().copied().map(record).collect();
            let output: Vec<_> = output.iter().copied().map(record).collect();
            assert_eq!(overlay(&input), output);
        }
    }

    proptest! {
        #[test]
        fn equals_a_painter_of_bytes(input in proptest::collection::vec((0u32..200, 0u64..5, 0u32..60), 0..30)) {
            let records: Vec<_> = input.iter().enumerate()
                .map(|(n, &(pos, id, len))| record((pos, if id == 0 { 0 } else { n as u64 + 1 }, 500, n as u32, len)))
                .collect();
            let end = records.iter().filter(|r| r.len > 0).map(|r| r.pos + r.len).max().unwrap_or(0);
            let mut bytes = vec![(0u64, 0u32); end as usize];
            for r in &records {
                for at in 0..r.len {
                    bytes[(r.pos + at) as usize] = if r.id == 0 { (0, 0) } else { (r.id, r.off + at) };
                }
            }
            let whole = overlay(&records);
            let mut next = 0;
            for piece in whole {
                prop_assert_eq!(piece.pos, next);
                for at in 0..piece.len {
                    let want = if piece.id == 0 { (0, 0) } else { (piece.id, piece.off + at) };
                    prop_assert_eq!(bytes[(piece.pos + at) as usize], want);
                }
                next += piece.len;
            }
            prop_assert_eq!(next, end);
        }
    }
}
