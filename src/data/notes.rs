//! Notes of slices that wait for their upload before they are committed (`--publish uploaded`).
//!
//! Owns the bytes of a note. Where notes lie and how safe they are is `stage`'s.

use crate::types::{CHUNK_BYTES, Ino, SliceRecord, Time};

/// The first byte of each note: the form that follows.
const FORM: u8 = 1;
/// Bytes of a note.
const NOTE_BYTES: usize = 57;

/// All that is needed to commit a slice whose blocks are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Note {
    /// File.
    pub ino: Ino,
    /// Chunk of the file.
    pub chunk: u32,
    /// Number in order of creation.
    pub seq: u64,
    /// The record to append; it shows the whole slice.
    pub record: SliceRecord,
    /// Time of the last write into it.
    pub mtime: Time,
    /// Some write into it went beyond the length of the file.
    pub grows: bool,
}

impl Note {
    /// As it is kept: numbers in big-endian order.
    ///
    /// ```text
    /// 0 form, 1 inode, 9 chunk, 13 number, 21 slice, 29 offset in the chunk, 33 bytes,
    /// 37 mtime (s), 45 mtime (ns), 49 grows, 50 zeros
    /// ```
    pub fn encode(&self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        bytes[0] = FORM;
        bytes[1..9].copy_from_slice(&self.ino.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.chunk.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.seq.to_be_bytes());
        bytes[21..29].copy_from_slice(&self.record.id.to_be_bytes());
        bytes[29..33].copy_from_slice(&self.record.pos.to_be_bytes());
        bytes[33..37].copy_from_slice(&self.record.len.to_be_bytes());
        bytes[37..45].copy_from_slice(&self.mtime.sec.to_be_bytes());
        bytes[45..49].copy_from_slice(&self.mtime.nsec.to_be_bytes());
        bytes[49] = u8::from(self.grows);
        bytes
    }

    /// The note of these bytes; `None` if they are none that this program writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; NOTE_BYTES] = bytes.try_into().ok()?;
        let short = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| bytes[at + n]));
        let long = |at: usize| u64::from(short(at)) << 32 | u64::from(short(at + 4));
        let (id, pos, len) = (long(21), short(29), short(33));
        let record = SliceRecord { pos, id, size: len, off: 0, len };
        let note = Self {
            ino: Ino(long(1)),
            chunk: short(9),
            seq: long(13),
            record,
            mtime: Time { sec: long(37) as i64, nsec: short(45) },
            grows: bytes[49] == 1,
        };
        let inside = u64::from(pos) + u64::from(len) <= CHUNK_BYTES;
        let sound = id > 0 && len > 0 && inside && note.mtime.nsec < 1_000_000_000;
        (sound && note.encode() == *bytes).then_some(note)
    }
}

/// Of notes of one chunk those that stand, and those that a later one took the place of: what slices are
/// merged into has the number of the first of them, and ids are given in order.
pub(super) fn without_replaced(mut notes: Vec<Note>) -> (Vec<Note>, Vec<Note>) {
    notes.sort_unstable_by_key(|note| (note.seq, note.record.id));
    let numbers: Vec<u64> = notes.iter().map(|note| note.seq).collect();
    let next = |at: usize| numbers.get(at + 1);
    let (last, replaced): (Vec<_>, Vec<_>) =
        notes.into_iter().enumerate().partition(|(at, note)| next(*at) != Some(&note.seq));
    let plain = |notes: Vec<(usize, Note)>| notes.into_iter().map(|(_, note)| note).collect();
    (plain(last), plain(replaced))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let record = SliceRecord { pos: 0x0102_0304, id: 7, size: 9, off: 0, len: 9 };
        let mtime = Time { sec: 0x6000_0000, nsec: 5 };
        let note = Note { ino: Ino(0x1122), chunk: 3, seq: 4, record, mtime, grows: true };
        let mut golden = vec![1, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 0, 0, 0, 3];
        golden.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7]);
        golden.extend([1, 2, 3, 4, 0, 0, 0, 9]);
        golden.extend([0, 0, 0, 0, 0x60, 0, 0, 0, 0, 0, 0, 5, 1]);
        golden.resize(NOTE_BYTES, 0);
        assert_eq!(note.encode().to_vec(), golden);
        assert_eq!(Note::decode(&golden), Some(note));
    }

    #[test]
    fn of_one_number_the_latest_stands() {
        let note = |seq, id| {
            let record = SliceRecord { pos: 0, id, size: 9, off: 0, len: 9 };
            Note { ino: Ino(1), chunk: 0, seq, record, mtime: Time::default(), grows: false }
        };
        let notes = vec![note(3, 12), note(1, 20), note(2, 11), note(1, 10), note(1, 15)];
        let (stand, replaced) = without_replaced(notes);
        assert_eq!(stand, [note(1, 20), note(2, 11), note(3, 12)]);
        assert_eq!(replaced, [note(1, 10), note(1, 15)]);
        assert_eq!(without_replaced(Vec::new()), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn a_note_comes_back_and_no_other_bytes_pass(
            ino in any::<u64>(), chunk in any::<u32>(), seq in any::<u64>(), id in 1u64..,
            pos in 0u32..1 << 25, len in 1u32..1 << 25, sec in any::<i64>(),
            nsec in 0u32..1_000_000_000, grows in any::<bool>(), cut in 0usize..NOTE_BYTES,
        ) {
            let record = SliceRecord { pos, id, size: len, off: 0, len };
            let note = Note { ino: Ino(ino), chunk, seq, record, mtime: Time { sec, nsec }, grows };
            let bytes = note.encode();
            prop_assert_eq!(Note::decode(&bytes), Some(note));
            prop_assert_eq!(Note::decode(&bytes[..cut]), None);
            let mut other = bytes;
            other[0] += 1;
            prop_assert_eq!(Note::decode(&other), None);
        }
    }
}
