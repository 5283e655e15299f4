//! POSIX lock ranges of one owner, and what conflicts with them: pure.
//!
//! Owns JuiceFS's packed form: 24 bytes each, big-endian, sorted by start, never overlapping, the
//! end inclusive; neighbours of one kind and process that touch are one.

use super::op::LockRange;
use crate::meta::record::PLOCK_BYTES;

/// Kinds of locks, as the kernel numbers them.
pub(super) const READ: u32 = 0;
pub(super) const WRITE: u32 = 1;
pub(super) const NONE: u32 = 2;

/// Ranges from packed records; damaged tails are left out.
pub(super) fn unpack(records: &[u8]) -> Vec<LockRange> {
    let long = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    records
        .chunks_exact(PLOCK_BYTES)
        .map(|one| LockRange {
            kind: word(&one[..4]),
            pid: word(&one[4..8]),
            start: long(&one[8..16]),
            end: long(&one[16..]),
        })
        .collect()
}

/// Packed records; `None` when there are none.
pub(super) fn pack(ranges: &[LockRange]) -> Option<Box<[u8]>> {
    let mut out = Vec::with_capacity(ranges.len() * PLOCK_BYTES);
    for range in ranges {
        out.extend_from_slice(&range.kind.to_be_bytes());
        out.extend_from_slice(&range.pid.to_be_bytes());
        out.extend_from_slice(&range.start.to_be_bytes());
        out.extend_from_slice(&range.end.to_be_bytes());
    }
    (!out.is_empty()).then(|| out.into())
}

/// An owner's ranges after one of them was locked or unlocked.
pub(super) fn place(held: &[LockRange], new: LockRange) -> Vec<LockRange> {
    let mut ranges = Vec::with_capacity(held.len() + 2);
    for old in held {
        if old.end < new.start || old.start > new.end {
            ranges.push(*old);
            continue;
        }
        if old.start < new.start {
            ranges.push(LockRange { end: new.start - 1, ..*old });
        }
        if old.end > new.end {
            ranges.push(LockRange { start: new.end + 1, ..*old });
        }
    }
    if new.kind != NONE {
        ranges.push(new);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let joins = before.kind == next.kind
            && before.pid == next.pid
            && before.end.checked_add(1) == Some(next.start);
        if joins {
            before.end = next.end;
        }
        joins
    });
    ranges
}

/// The first of another owner's ranges that a new one would clash with.
pub(super) fn conflict(held: &[LockRange], new: LockRange) -> Option<LockRange> {
    let clashes = |old: &&LockRange| {
        old.start <= new.end && new.start <= old.end && (old.kind == WRITE || new.kind == WRITE)
    };
    held.iter().find(clashes).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64, kind: u32, pid: u32) -> LockRange {
        LockRange { start, end, kind, pid }
    }

    #[test]
    fn records_have_the_real_clients_bytes() {
        let one = range(0, 99, WRITE, 4242);
        let packed = pack(&[one]).unwrap();
        let hex: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "000000010000109200000000000000000000000000000063");
        assert_eq!(unpack(&packed), [one]);
        assert_eq!(pack(&[]), None);
    }

    #[test]
    fn whole_files_and_the_last_byte() {
        let all = range(0, u64::MAX, WRITE, 1);
        assert_eq!(place(&[all], range(0, u64::MAX, NONE, 1)), []);
        let middle = place(&[all], range(10, 19, NONE, 1));
        assert_eq!(middle, [range(0, 9, WRITE, 1), range(20, u64::MAX, WRITE, 1)]);
    }

    #[test]
    fn readers_share() {
        let held = [range(0, 9, READ, 1), range(20, 29, WRITE, 1)];
        assert_eq!(conflict(&held, range(0, 19, READ, 2)), None);
        assert_eq!(conflict(&held, range(5, 5, WRITE, 2)), Some(held[0]));
        assert_eq!(conflict(&held, range(29, 40, READ, 2)), Some(held[1]));
    }

    proptest! {
        #[test]
        fn equals_a_painter_of_bytes(steps in proptest::collection::vec((0u64..40, 0u64..12, 0u32..3, 1u32..3), 1..30)) {
            let mut held = Vec::new();
            let mut bytes = [None; 64];
            for (start, len, kind, pid) in steps {
                let new = range(start, start + len, kind, pid);
                held = place(&held, new);
                let painted = (kind != NONE).then_some((kind, pid));
                bytes[start as usize..=(start + len) as usize].fill(painted);
                let mut seen = [None; 64];
                for (at, one) in held.iter().enumerate() {
                    prop_assert!(at == 0 || held[at - 1].end < one.start);
                    seen[one.start as usize..=one.end as usize].fill(Some((one.kind, one.pid)));
                }
                prop_assert_eq!(seen, bytes);
                prop_assert_eq!(unpack(&pack(&held).unwrap_or_default()), held.clone());
                let joined = held.windows(2).all(|pair| {
                    pair[0].end + 1 < pair[1].start || (pair[0].kind, pair[0].pid) != (pair[1].kind, pair[1].pid)
                });
                prop_assert!(joined, "neighbours that touch are one");
            }
        }
    }
}
