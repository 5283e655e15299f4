//! Which records of a chunk's list become one slice, and the commit that puts it in their place.
//!
//! Owns the choice. Which records are left alone is JuiceFS's rule. Beyond it: where little of a list
//! is visible, what is visible is listed alone and nothing is copied; and a copy must be worth its
//! bytes. What was not sent to the object store yet is merged by a rule of its own. What is chosen
//! shows the same bytes as before. Does not copy bytes.

use std::collections::BTreeMap;

use crate::meta::overlay::overlay;
use crate::meta::txn::{Commit, Delayed, Expect, Mutation};
use crate::types::{Ino, SliceId, SliceRecord};

/// Records that one compaction looks at.
const RECORDS_MAX: usize = 1000;
/// A leading record from this length on may stay as it is ...
const LARGE_BYTES: u32 = 1 << 20;
/// ... if it is at least one in so many parts of what it would be merged into.
const LARGE_SHARE: u64 = 5;
/// Bytes that are copied to be rid of one record.
const RECORD_WORTH_BYTES: u64 = 96 << 10;
/// One record may stay for so many that are replaced, if nothing is copied.
const SHOWN_SHARE: usize = 4;
/// Zeros that are written between data whatever there is of it.
const ZEROS_FREE_BYTES: u64 = 1 << 20;
/// From so many records on even mostly empty ranges are worth their zeros.
const MANY_RECORDS: usize = 350;

/// Few records in place of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    seen: Vec<SliceRecord>,
    kept: usize,
    /// What is visible of those after the kept ones, without holes at its ends.
    pieces: Vec<SliceRecord>,
    /// One new slice takes their place; else they are listed as they are, without any hole.
    copies: bool,
    /// What is replaced is only on this machine: nobody else can miss it.
    unsent: bool,
}

impl Compaction {
    /// What to do with a list, if that is worth it.
    pub fn of(list: &[SliceRecord]) -> Option<Self> {
        let seen = &list[..list.len().min(RECORDS_MAX)];
        let kept = kept_in_front(seen);
        let replaced = &seen[kept..];
        if replaced.len() < 2 {
            return None;
        }
        let pieces = data_of(replaced);
        let (pos, end) = extent(&pieces);
        let overlaps = |record: &SliceRecord| record.pos < end && pos < record.pos + record.len;
        if seen[..kept].iter().any(overlaps) {
            return None;
        }
        let copies = !speaks_for_itself(&pieces, replaced.len());
        let worth = !copies || is_worth_its_bytes(&pieces, replaced);
        worth.then(|| Self { seen: seen.to_vec(), kept, pieces, copies, unsent: false })
    }

    /// As [`Compaction::of`], of the records at the end of a list whose slices `unsent` says are only on
    /// this machine: few objects are better than many, and what is hidden need not be sent at all.
    pub fn of_unsent(list: &[SliceRecord], unsent: impl Fn(&SliceRecord) -> bool) -> Option<Self> {
        let sent = list.iter().rposition(|record| record.id > 0 && !unsent(record));
        let (kept, tail) = list.split_at(sent.map_or(0, |last| last + 1));
        let holes = tail.iter().any(|record| record.id == 0);
        if list.len() > RECORDS_MAX || tail.len() < 2 || holes && !kept.is_empty() {
            return None;
        }
        let pieces = data_of(tail);
        let (pos, end) = extent(&pieces);
        let over = kept.iter().any(|record| record.pos < end && pos < record.pos + record.len);
        let gaps = pieces.iter().any(|piece| piece.id == 0);
        let copies = copies_unsent(&pieces, tail, !(over && gaps))?;
        Some(Self { seen: list.to_vec(), kept: kept.len(), pieces, copies, unsent: true })
    }

    /// Whether nobody but this mount can have read what is replaced.
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// The bytes of the new slice, in order; id 0 stands for zeros. Nothing if none is needed.
    pub fn pieces(&self) -> &[SliceRecord] {
        if self.copies { &self.pieces } else { &[] }
    }

    /// Slices of which something is visible after the records that are kept.
    pub fn shown(&self) -> Vec<SliceId> {
        self.pieces.iter().filter(|piece| piece.id > 0).map(|piece| piece.id).collect()
    }

    /// Bytes of the new slice.
    pub fn size(&self) -> u32 {
        self.pieces().iter().map(|piece| piece.len).sum()
    }

    /// Records of the list that it saw.
    pub fn seen_count(&self) -> usize {
        self.seen.len()
    }

    /// By how many records the list gets shorter.
    pub fn gain(&self) -> usize {
        self.seen.len() - self.list_after(0).len()
    }

    /// The list's first records afterwards, with `id` for the new slice.
    fn list_after(&self, id: SliceId) -> Vec<SliceRecord> {
        let mut after = self.seen[..self.kept].to_vec();
        if self.copies {
            let (start, end) = extent(&self.pieces);
            let size = end - start;
            after.push(SliceRecord { pos: start, id, size, off: 0, len: size });
        } else {
            after.extend(self.listed());
        }
        after
    }

    /// Records that are listed in place of others of the same slices.
    fn listed(&self) -> impl Iterator<Item = SliceRecord> {
        let pieces = self.pieces.iter().filter(|piece| !self.copies && piece.id > 0);
        pieces.copied()
    }

    /// Slices that lose a reference, one for each record.
    fn replaced(&self) -> Vec<(SliceId, u32)> {
        let records = self.seen[self.kept..].iter().filter(|record| record.id > 0);
        records.map(|record| (record.id, record.size)).collect()
    }
}

/// Whether so little of so many records is visible that it may be listed as it is: few pieces, and
/// most of what their slices hold.
fn speaks_for_itself(pieces: &[SliceRecord], records: usize) -> bool {
    let shown: Vec<_> = pieces.iter().filter(|piece| piece.id > 0).copied().collect();
    let bytes: u64 = shown.iter().map(|piece| u64::from(piece.len)).sum();
    shown.len() * SHOWN_SHARE <= records && !is_much_garbage(held_by(&shown), bytes)
}

/// Whether what is visible of `tail` is copied into one slice, as far as it `may` be, or listed as it
/// is; `None` if neither is worth it.
fn copies_unsent(pieces: &[SliceRecord], tail: &[SliceRecord], may: bool) -> Option<bool> {
    let shown: Vec<_> = pieces.iter().filter(|piece| piece.id > 0).copied().collect();
    let bytes: u64 = shown.iter().map(|piece| u64::from(piece.len)).sum();
    let large = bytes >= shown.len() as u64 * RECORD_WORTH_BYTES;
    let alone = shown.len() < tail.len() && !is_much_garbage(held_by(&shown), bytes);
    if alone && (large || !may) {
        return Some(false);
    }
    (may && is_worth_its_bytes(pieces, tail)).then_some(true).or(alone.then_some(false))
}

/// Bytes of the slices that these pieces are of.
fn held_by(shown: &[SliceRecord]) -> u64 {
    let mut slices: Vec<_> = shown.iter().map(|piece| (piece.id, piece.size)).collect();
    slices.sort_unstable();
    slices.dedup();
    slices.iter().map(|(_, size)| u64::from(*size)).sum()
}

/// Whether more than a fifth of the bytes that are held is not needed.
fn is_much_garbage(held: u64, needed: u64) -> bool {
    held > needed + needed / 4
}

/// Whether copying is worth it: for the garbage that goes, or for the records that go.
fn is_worth_its_bytes(pieces: &[SliceRecord], replaced: &[SliceRecord]) -> bool {
    let bytes = |zeros: bool, records: &[SliceRecord]| -> u64 {
        let some = records.iter().filter(|record| (record.id == 0) == zeros);
        some.map(|record| u64::from(record.len)).sum()
    };
    let (data, zeros, records) = (bytes(false, pieces), bytes(true, pieces), replaced.len());
    if zeros > data.max(ZEROS_FREE_BYTES) && records < MANY_RECORDS {
        return false;
    }
    let for_records = records as u64 * RECORD_WORTH_BYTES >= data + zeros;
    for_records || is_much_garbage(bytes(false, replaced), data)
}

/// The pieces that are visible, from the first to the last that is no hole.
fn data_of(records: &[SliceRecord]) -> Vec<SliceRecord> {
    let mut pieces = overlay(records);
    let end = pieces.iter().rposition(|piece| piece.id > 0).map_or(0, |last| last + 1);
    pieces.truncate(end);
    let start = pieces.iter().position(|piece| piece.id > 0).unwrap_or(0);
    pieces.drain(..start);
    pieces
}

fn extent(pieces: &[SliceRecord]) -> (u32, u32) {
    match pieces {
        [] => (0, 0),
        [first, ..] => {
            let last = pieces.last().expect("there is a first one");
            (first.pos, last.pos + last.len)
        }
    }
}

/// How many of the oldest records stay as they are: large ones, before all that follow, of which
/// nothing is hidden.
fn kept_in_front(seen: &[SliceRecord]) -> usize {
    let mut kept = 0;
    while let [first, rest @ ..] = &seen[kept..] {
        if first.id == 0 || first.len < LARGE_BYTES || rest.contains(first) {
            break;
        }
        let pieces = data_of(&seen[kept..]);
        let (start, end) = extent(&pieces);
        let is_large = u64::from(first.len) * LARGE_SHARE >= u64::from(end - start);
        if !is_large || pieces.first() != Some(first) {
            break;
        }
        kept += 1;
    }
    kept
}

/// Put slice `id`, whose bytes are stored, in place of what `compaction` saw. The replaced slices
/// are put aside where the trash keeps things, from `aside_at` (unix s) on, else they lose their
/// references now.
pub(in crate::meta) fn replace(
    (ino, chunk): (Ino, u32),
    compaction: &Compaction,
    id: SliceId,
    aside_at: Option<i64>,
) -> Commit {
    let seen = compaction.seen.clone();
    let count = u32::try_from(seen.len()).expect("a compaction sees few records");
    let after = compaction.list_after(id);
    let mut mutations = vec![Mutation::ReplacePrefix(ino, chunk, count, after)];
    if compaction.size() > 0 {
        mutations.push(Mutation::CountSlice(id, compaction.size()));
    }
    let mut moves = BTreeMap::<_, i64>::new();
    for record in compaction.listed() {
        *moves.entry((record.id, record.size)).or_default() += 1;
    }
    let replaced = compaction.replaced();
    match aside_at {
        Some(_) if replaced.is_empty() => {}
        Some(at) => mutations.push(Mutation::PutDelayed(Delayed { by: id, at, slices: replaced })),
        None => replaced.into_iter().for_each(|slice| *moves.entry(slice).or_default() -= 1),
    }
    let moves = moves.into_iter().filter(|(_, n)| *n != 0);
    mutations.extend(moves.map(|((id, size), n)| Mutation::AddSliceRef(id, size, n)));
    Commit { expects: vec![Expect::ChunkPrefix(ino, chunk, seen)], mutations, returns: vec![] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u32 = 1 << 20;

    fn record(pos: u32, id: u64, len: u32) -> SliceRecord {
        SliceRecord { pos, id, size: len, off: 0, len }
    }

    /// Pieces in shown order, those of the new slice told as what it is made of.
    fn shown(list: &[SliceRecord], new: Option<&Compaction>) -> Vec<(u32, u64, u32)> {
        let mut bytes = Vec::new();
        for piece in overlay(list) {
            let made = new.filter(|_| piece.id == u64::MAX);
            let Some(made) = made else {
                bytes.push((piece.pos, piece.id, piece.off, piece.len));
                continue;
            };
            let mut at = 0;
            for part in made.pieces() {
                let (from, to) = (at.max(piece.off), (at + part.len).min(piece.off + piece.len));
                if from < to {
                    let pos = piece.pos + (from - piece.off);
                    bytes.push((pos, part.id, part.off + (from - at), to - from));
                }
                at += part.len;
            }
        }
        // Holes, and what lies behind everything, are the same zeros; neighbours are one.
        let mut merged: Vec<(u32, u64, u32, u32)> = Vec::new();
        for (pos, id, off, len) in bytes.into_iter().filter(|piece| piece.1 != 0) {
            match merged.last_mut() {
                Some(last) if last.1 == id && last.0 + last.3 == pos && last.2 + last.3 == off => {
                    last.3 += len;
                }
                _ => merged.push((pos, id, off, len)),
            }
        }
        merged
            .into_iter()
            .map(|(pos, id, off, len)| (pos, id << 32 | u64::from(off), len))
            .collect()
    }

    fn list_after(list: &[SliceRecord], compaction: &Compaction) -> Vec<SliceRecord> {
        let rest = &list[compaction.seen_count()..];
        [&compaction.list_after(u64::MAX)[..], rest].concat()
    }

    #[test]
    fn small_records_become_one() {
        let list = [record(10, 1, 100), record(50, 2, 10), record(200, 3, 50)];
        let done = Compaction::of(&list).unwrap();
        let new = SliceRecord { pos: 10, id: 9, size: 240, off: 0, len: 240 };
        assert_eq!(done.list_after(9), [new]);
        let lens: Vec<_> = done.pieces().iter().map(|piece| (piece.id, piece.len)).collect();
        assert_eq!(lens, [(1, 40), (2, 10), (1, 50), (0, 90), (3, 50)]);
        assert_eq!((done.gain(), done.replaced()), (2, vec![(1, 100), (2, 10), (3, 50)]));
        for few in [&list[..0], &list[..1]] {
            assert_eq!(Compaction::of(few), None);
        }
    }

    #[test]
    fn large_records_in_front_stay() {
        let small: Vec<_> =
            (0..10).map(|n| record(8 * MIB + n * 100, 10 + u64::from(n), 100)).collect();
        let list = [&[record(0, 1, 4 * MIB), record(4 * MIB, 2, 4 * MIB)], &small[..]].concat();
        let done = Compaction::of(&list).unwrap();
        assert_eq!((done.kept, done.size(), done.gain()), (2, 1000, 9));
        // Not if anything of them is hidden, nor if they are a small part.
        let over = [&list[..], &[record(MIB, 99, 1)]].concat();
        assert_eq!(kept_in_front(&over), 0);
        let tail: Vec<_> = (0..8).map(|n| record((1 + n) * MIB, 2 + u64::from(n), MIB)).collect();
        let many = [&[record(0, 1, MIB)], &tail[..]].concat();
        assert_eq!(kept_in_front(&many), 0, "a ninth of all is small");
        let appended: Vec<_> =
            (0..5).map(|n| record(n * 4 * MIB, 1 + u64::from(n), 4 * MIB)).collect();
        assert_eq!(Compaction::of(&appended), None, "what is large enough is left alone");
        let again = [&list[..], &[record(0, 1, 4 * MIB)]].concat();
        assert_eq!(kept_in_front(&again), 0, "one that comes again is no first one");
    }

    #[test]
    fn holes_cost_nothing() {
        let gone = [record(0, 1, 100), record(0, 0, 200)];
        let done = Compaction::of(&gone).unwrap();
        assert_eq!((done.list_after(9), done.size(), done.gain()), (vec![], 0, 2));
        assert_eq!(done.replaced(), [(1, 100)]);
        let commit = replace((Ino(5), 0), &done, 9, None);
        let wanted =
            [Mutation::ReplacePrefix(Ino(5), 0, 2, vec![]), Mutation::AddSliceRef(1, 100, -1)];
        assert_eq!(commit.mutations, wanted);
        let sparse: Vec<_> = (0..60).map(|n| record(n * MIB, 1 + u64::from(n), 10)).collect();
        assert_eq!(Compaction::of(&sparse), None, "59 MiB of zeros are no gain");
        let dense: Vec<_> = (0..600).map(|n| record(n * MIB / 16, 1 + u64::from(n), 10)).collect();
        assert!(Compaction::of(&dense).is_some(), "so many records are");
    }

    #[test]
    fn replaced_slices_are_put_aside_or_let_go() {
        let list = [record(0, 1, 10), record(5, 0, 1), record(5, 1, 10), record(7, 2, 1)];
        let done = Compaction::of(&list).unwrap();
        let aside = replace((Ino(5), 3), &done, 9, Some(77));
        assert_eq!(aside.expects, [Expect::ChunkPrefix(Ino(5), 3, list.to_vec())]);
        let slices = vec![(1, 10), (1, 10), (2, 1)];
        let wanted = [
            Mutation::ReplacePrefix(Ino(5), 3, 4, vec![record(0, 9, 15)]),
            Mutation::CountSlice(9, 15),
            Mutation::PutDelayed(Delayed { by: 9, at: 77, slices }),
        ];
        assert_eq!(aside.mutations, wanted);
        let now = replace((Ino(5), 3), &done, 9, None);
        assert_eq!(now.mutations[..2], wanted[..2]);
        let less = [Mutation::AddSliceRef(1, 10, -2), Mutation::AddSliceRef(2, 1, -1)];
        assert_eq!(now.mutations[2..], less);
        let holes = [record(0, 0, 10), record(5, 0, 10)];
        let nothing = replace((Ino(5), 3), &Compaction::of(&holes).unwrap(), 9, Some(77));
        assert_eq!(nothing.mutations, [Mutation::ReplacePrefix(Ino(5), 3, 2, vec![])]);
    }

    #[test]
    fn what_is_hidden_goes_without_a_copy() {
        let mut list: Vec<_> = (1..=12).map(|n| record(0, n, 64 * MIB)).collect();
        list.push(record(MIB, 13, MIB));
        let done = Compaction::of(&list).unwrap();
        assert_eq!((done.pieces(), done.size(), done.gain()), (&[][..], 0, 10));
        let piece =
            |pos, len| SliceRecord { off: pos, ..SliceRecord { len, ..record(pos, 12, 0) } };
        let whole = |piece: SliceRecord| SliceRecord { size: 64 * MIB, ..piece };
        let after = [whole(piece(0, MIB)), record(MIB, 13, MIB), whole(piece(2 * MIB, 62 * MIB))];
        assert_eq!(done.list_after(9), after);
        let now = replace((Ino(5), 0), &done, 9, None);
        let less = (1..=11).map(|n| Mutation::AddSliceRef(n, 64 * MIB, -1));
        let more = [Mutation::AddSliceRef(12, 64 * MIB, 1)];
        let wanted: Vec<_> = less.chain(more.clone()).collect();
        assert_eq!(now.mutations[1..], wanted, "that of slice 13 stays as it is");
        // Put aside, each record keeps its reference beside those that are listed anew.
        let aside = replace((Ino(5), 0), &done, 9, Some(77)).mutations;
        let Mutation::PutDelayed(delayed) = &aside[1] else { panic!("{aside:?}") };
        assert_eq!((delayed.by, delayed.slices.len()), (9, 13));
        let more = [Mutation::AddSliceRef(12, 64 * MIB, 2), Mutation::AddSliceRef(13, MIB, 1)];
        assert_eq!(aside[2..], more);
    }

    #[test]
    fn a_copy_must_be_worth_its_bytes() {
        let base = [record(0, 1, 64 * MIB)];
        let over = |count: u32| {
            let small = (0..count).map(|n| record(n * 40_000, 2 + u64::from(n), 4096));
            [&base[..], &small.collect::<Vec<_>>()].concat()
        };
        assert_eq!(Compaction::of(&over(100)), None, "64 MiB for 100 records and 400 KiB");
        let done = Compaction::of(&over(1500)).unwrap();
        assert_eq!((done.gain(), done.size()), (999, 64 * MIB));
        let again: Vec<_> = (0..5).map(|n| record(n * MIB, 2 + u64::from(n), 32 * MIB)).collect();
        let garbage = [&base[..], &again[..]].concat();
        assert_eq!(Compaction::of(&garbage).unwrap().gain(), 5, "five slices that are half hidden");
    }

    #[test]
    fn a_long_list_is_looked_at_in_parts() {
        let list: Vec<_> = (0..2500).map(|n| record(n % 50, 1 + u64::from(n), 60)).collect();
        let done = Compaction::of(&list).unwrap();
        assert_eq!((done.seen_count(), done.gain()), (1000, 999));
        let after = list_after(&list, &done);
        assert_eq!(after.len(), 1501);
        assert_eq!(shown(&after, Some(&done)), shown(&list, None));
    }

    #[test]
    fn what_is_not_sent_yet_becomes_few() {
        let appends: Vec<_> =
            (0..50).map(|n| record(MIB + n * 200, 10 + u64::from(n), 200)).collect();
        let list = [&[record(0, 1, MIB)], &appends[..]].concat();
        let done = Compaction::of_unsent(&list, |record| record.id >= 10).unwrap();
        assert_eq!((done.kept, done.size(), done.gain()), (1, 10_000, 49));
        assert!(done.is_unsent() && !Compaction::of(&list).unwrap().is_unsent());
        let half = Compaction::of_unsent(&list, |record| record.id >= 40).unwrap();
        assert_eq!((half.kept, half.gain()), (31, 19), "only the end of the list");
        assert_eq!(Compaction::of_unsent(&list, |record| record.id < 59), None);
        // A whole block over another: the one that is hidden goes without a copy of the other.
        let over = [record(0, 1, 4 * MIB), record(0, 2, 4 * MIB)];
        let done = Compaction::of_unsent(&over, |_| true).unwrap();
        assert_eq!((done.size(), done.list_after(9)), (0, vec![record(0, 2, 4 * MIB)]));
        assert_eq!(done.replaced(), [(1, 4 * MIB), (2, 4 * MIB)]);
        assert_eq!(Compaction::of_unsent(&over[1..], |_| true), None);
        let apart = [record(0, 1, 4 * MIB), record(4 * MIB, 2, 4 * MIB)];
        assert_eq!(Compaction::of_unsent(&apart, |_| true), None, "nothing to gain");
    }

    #[test]
    fn what_is_not_sent_yet_hides_no_more_than_before() {
        let base = record(0, 1, MIB);
        // Between the pieces the base shows: no slice may lie over it.
        let apart = [base, record(100, 10, 50), record(500, 11, 50)];
        assert_eq!(Compaction::of_unsent(&apart, |record| record.id >= 10), None);
        let again = [&apart[..], &[record(100, 12, 50)]].concat();
        let done = Compaction::of_unsent(&again, |record| record.id >= 10).unwrap();
        assert_eq!(done.list_after(9), [base, record(100, 12, 50), record(500, 11, 50)]);
        let hole = [base, record(100, 10, 50), record(100, 0, 50)];
        assert_eq!(Compaction::of_unsent(&hole, |record| record.id >= 10), None);
    }

    fn any_record() -> impl Strategy<Value = (u32, u64, u32, u32)> {
        let len = prop_oneof![1u32..3000, MIB - 2..2 * MIB, Just(0)];
        (0u32..6 * MIB, 0u64..4, 0u32..5000, len)
    }

    proptest! {
        #[test]
        fn shows_the_same_bytes(
            input in proptest::collection::vec(any_record(), 0..30),
            // Whole megabytes in a row are what large records in front are made of.
            front in proptest::collection::vec(1u32..3, 0..6),
            unsent_from in prop_oneof![Just(0), Just(1000u64), 1000u64..1030],
        ) {
            let mut list = Vec::new();
            let mut at = 0;
            for mib in front {
                list.push(record(at * MIB, 100 + u64::from(at), mib * MIB));
                at += mib;
            }
            for (n, (pos, id, off, len)) in input.into_iter().enumerate() {
                let id = if id == 0 { 0 } else { 1000 + n as u64 };
                list.push(SliceRecord { pos: at * MIB + pos, id, size: off + len, off, len });
            }
            let unsent = Compaction::of_unsent(&list, |record| record.id >= unsent_from);
            for done in Compaction::of(&list).into_iter().chain(unsent) {
                let after = list_after(&list, &done);
                prop_assert_eq!(after.len() + done.gain(), list.len());
                prop_assert!(done.gain() > 0);
                prop_assert_eq!(shown(&after, Some(&done)), shown(&list, None));
                prop_assert_eq!(done.pieces().first().is_none_or(|piece| piece.id > 0), true);
                prop_assert_eq!(done.pieces().last().is_none_or(|piece| piece.id > 0), true);
            }
        }
    }
}
