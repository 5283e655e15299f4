//! The bytes of the log: the header of a segment, records, and the index of a segment that is full.
//!
//! Owns every byte that the log writes, and tells what is whole from what is not
//! (`docs/formats/log.md`). Pure: reads and writes no files, and does not decide what a torn record
//! means, which `replay` does. Numbers are little endian; sums are CRC-32C.

use std::ops::Range;

use crate::object::BlockKey;

/// Bytes before the first record of a segment.
pub(super) const SEGMENT_HEADER_BYTES: u32 = 64;
/// Bytes of a record before its payload; an index holds them once more.
pub(super) const HEADER_BYTES: u32 = 64;
/// Of this form, which a later one must not be taken for.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"jfs-log\n";

/// One header, of a segment or of a record.
pub(super) type Header = [u8; 64];

const _: () = assert!(SEGMENT_HEADER_BYTES as usize == size_of::<Header>());
const _: () = assert!(HEADER_BYTES as usize == size_of::<Header>());

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The payload is this block.
    Block { key: BlockKey, tier: u8, group: u64, kept_ms: u64 },
    /// The block counts no more.
    Gone { key: BlockKey },
    /// The payload is a note, made by the record of this sequence and maybe copied since.
    Note { tag: u64, made: u64 },
    /// The note counts no more.
    NoteGone { tag: u64 },
    /// Of segments before this one nothing is needed.
    Base { segment: u32 },
    /// The payload is the headers of all records before, and no more records follow in this segment.
    Index { records: u32 },
}

/// A record without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    /// Bytes of the payload.
    pub(super) len_bytes: u32,
    /// Of the payload.
    pub(super) sum: u32,
    /// Counts records of the log from 1 on, without a gap; of an index that of the last record.
    pub(super) sequence: u64,
    /// All up to this sequence was on the disk when the record was made.
    pub(super) synced: u64,
}

impl RecordHeader {
    /// Bytes of the record with its payload.
    pub(super) fn record_bytes(&self) -> u64 {
        u64::from(HEADER_BYTES) + u64::from(self.len_bytes)
    }
}

/// The start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Its number, as in its name; from 1 on.
    pub(super) number: u32,
    /// Of segments before this one nothing is needed.
    pub(super) base: u32,
    /// Sequence of its first record.
    pub(super) first_sequence: u64,
    /// See [`RecordHeader::synced`].
    pub(super) synced: u64,
    /// The segment that was written to before.
    pub(super) previous: Option<Previous>,
}

/// How the segment before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Previous {
    pub(super) number: u32,
    /// First byte behind its last record; an index may begin there.
    pub(super) end: u32,
    /// The sum in its header.
    pub(super) sum: u32,
}

/// What stands where the header of a segment belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A header, and the sum in it.
    Whole(SegmentHeader, u32),
    /// A header of a version that is not known here.
    Version(u32),
    /// No header.
    Torn,
}

/// The sum of bytes in pieces.
pub(super) fn sum(parts: &[&[u8]]) -> u32 {
    if let [part] = parts {
        return crc_fast::crc32_iscsi(part);
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits")
}

/// The sum that a header begins with.
pub(super) fn sum_of(header: &Header) -> u32 {
    Fields { bytes: *header }.u32(0)
}

const BLOCK: u8 = 1;
const GONE: u8 = 2;
const NOTE: u8 = 3;
const NOTE_GONE: u8 = 4;
const BASE: u8 = 5;
const INDEX: u8 = 6;

/// The bytes of a record's header.
pub(super) fn encode(record: &RecordHeader) -> Header {
    let mut fields = Fields::default();
    let number = match record.kind {
        Kind::Block { key, tier, group, kept_ms } => {
            fields.bytes[5] = tier;
            fields.put_key(key);
            fields.put_u64(48, group);
            fields.put_u64(56, kept_ms);
            BLOCK
        }
        Kind::Gone { key } => {
            fields.put_key(key);
            GONE
        }
        Kind::Note { tag, made } => {
            fields.put_u64(32, tag);
            fields.put_u64(48, made);
            NOTE
        }
        Kind::NoteGone { tag } => {
            fields.put_u64(32, tag);
            NOTE_GONE
        }
        Kind::Base { segment } => {
            fields.put_u64(32, u64::from(segment));
            BASE
        }
        Kind::Index { records } => {
            fields.put_u64(32, u64::from(records));
            INDEX
        }
    };
    fields.bytes[4] = number;
    fields.put_u32(8, record.len_bytes);
    fields.put_u32(12, record.sum);
    fields.put_u64(16, record.sequence);
    fields.put_u64(24, record.synced);
    fields.sealed()
}

/// The record of these bytes, if they are a whole header.
pub(super) fn decode(bytes: &Header) -> Option<RecordHeader> {
    let fields = Fields::opened(bytes)?;
    let number = |at| u32::try_from(fields.u64(at)).ok();
    let kind = match bytes[4] {
        BLOCK => Kind::Block {
            key: fields.key(),
            tier: bytes[5],
            group: fields.u64(48),
            kept_ms: fields.u64(56),
        },
        GONE => Kind::Gone { key: fields.key() },
        NOTE => Kind::Note { tag: fields.u64(32), made: fields.u64(48) },
        NOTE_GONE => Kind::NoteGone { tag: fields.u64(32) },
        BASE => Kind::Base { segment: number(32)? },
        INDEX => Kind::Index { records: number(32)? },
        _ => return None,
    };
    let record = RecordHeader {
        kind,
        len_bytes: fields.u32(8),
        sum: fields.u32(12),
        sequence: fields.u64(16),
        synced: fields.u64(24),
    };
    let fits = match kind {
        Kind::Block { key, .. } => key.size == record.len_bytes,
        Kind::Note { .. } => true,
        Kind::Index { records } => {
            u64::from(records) * u64::from(HEADER_BYTES) == u64::from(record.len_bytes)
        }
        Kind::Gone { .. } | Kind::NoteGone { .. } | Kind::Base { .. } => record.len_bytes == 0,
    };
    // What this client would not have written is not its record, whatever the sum says.
    (fits && encode(&record) == *bytes).then_some(record)
}

/// The bytes of a segment's header.
pub(super) fn encode_segment(header: &SegmentHeader) -> Header {
    assert!(header.number > 0 && header.base <= header.number, "a segment needs itself");
    let mut fields = Fields::default();
    fields.bytes[4..12].copy_from_slice(MAGIC);
    fields.put_u32(12, VERSION);
    fields.put_u32(16, header.number);
    fields.put_u32(20, header.base);
    fields.put_u64(24, header.first_sequence);
    fields.put_u64(32, header.synced);
    if let Some(previous) = header.previous {
        fields.put_u32(40, previous.number);
        fields.put_u32(44, previous.end);
        fields.put_u32(48, previous.sum);
    }
    fields.sealed()
}

/// What the first bytes of a segment are.
pub(super) fn decode_segment(bytes: &Header) -> Start {
    let Some(fields) = Fields::opened(bytes).filter(|_| bytes[4..12] == *MAGIC) else {
        return Start::Torn;
    };
    if fields.u32(12) != VERSION {
        return Start::Version(fields.u32(12));
    }
    let previous = Previous { number: fields.u32(40), end: fields.u32(44), sum: fields.u32(48) };
    let header = SegmentHeader {
        number: fields.u32(16),
        base: fields.u32(20),
        first_sequence: fields.u64(24),
        synced: fields.u64(32),
        previous: (previous.number != 0).then_some(previous),
    };
    let sound = header.number > 0 && header.base <= header.number;
    match sound && encode_segment(&header) == *bytes {
        true => Start::Whole(header, fields.u32(0)),
        false => Start::Torn,
    }
}

/// The name of a segment below the folder of the log.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:010}")
}

/// The number of a segment's name.
pub(super) fn parse_segment_name(name: &str) -> Option<u32> {
    let number = name.parse().ok().filter(|number| *number > 0)?;
    (segment_name(number) == name).then_some(number)
}

/// Fields of a header; the first four bytes are the sum of the others.
struct Fields {
    bytes: Header,
}

impl Default for Fields {
    fn default() -> Self {
        Self { bytes: [0; 64] }
    }
}

impl Fields {
    fn opened(bytes: &Header) -> Option<Self> {
        let fields = Self { bytes: *bytes };
        (fields.u32(0) == sum(&[&bytes[4..]])).then_some(fields)
    }

    fn sealed(mut self) -> Header {
        let sum = sum(&[&self.bytes[4..]]);
        self.put_u32(0, sum);
        self.bytes
    }

    fn put_key(&mut self, key: BlockKey) {
        self.put_u64(32, key.id);
        self.put_u32(40, key.index);
        self.put_u32(44, key.size);
    }

    fn key(&self) -> BlockKey {
        BlockKey { id: self.u64(32), index: self.u32(40), size: self.u32(44) }
    }

    fn put(&mut self, range: Range<usize>, bytes: &[u8]) {
        self.bytes[range].copy_from_slice(bytes);
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at..at + 4, &value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at..at + 8, &value.to_le_bytes());
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        let key = || {
            (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(id, index, size)| BlockKey {
                id,
                index,
                size,
            })
        };
        prop_oneof![
            (key(), any::<u8>(), any::<u64>(), any::<u64>())
                .prop_map(|(key, tier, group, kept_ms)| Kind::Block { key, tier, group, kept_ms }),
            key().prop_map(|key| Kind::Gone { key }),
            (any::<u64>(), any::<u64>()).prop_map(|(tag, made)| Kind::Note { tag, made }),
            any::<u64>().prop_map(|tag| Kind::NoteGone { tag }),
            any::<u32>().prop_map(|segment| Kind::Base { segment }),
            (0u32..1 << 20).prop_map(|records| Kind::Index { records }),
        ]
    }

    fn records() -> impl Strategy<Value = RecordHeader> {
        (kinds(), any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
            |(kind, len, sum, sequence, synced)| {
                let len_bytes = match kind {
                    Kind::Block { key, .. } => key.size,
                    Kind::Note { .. } => len,
                    Kind::Index { records } => records * HEADER_BYTES,
                    _ => 0,
                };
                RecordHeader { kind, len_bytes, sum, sequence, synced }
            },
        )
    }

    fn segments() -> impl Strategy<Value = SegmentHeader> {
        let previous = (1u32.., any::<u32>(), any::<u32>())
            .prop_map(|(number, end, sum)| Previous { number, end, sum });
        (1u32.., any::<u32>(), any::<u64>(), any::<u64>(), prop::option::of(previous)).prop_map(
            |(number, base, first_sequence, synced, previous)| {
                let base = base.min(number);
                SegmentHeader { number, base, first_sequence, synced, previous }
            },
        )
    }

    #[test]
    fn bytes_are_those_of_the_page_of_formats() {
        let key = BlockKey { id: 0x1122_3344_5566, index: 3, size: 9 };
        let block = RecordHeader {
            kind: Kind::Block { key, tier: 2, group: 77, kept_ms: 1_700_000_000_123 },
            len_bytes: 9,
            sum: sum(&[b"123456789"]),
            sequence: 5,
            synced: 4,
        };
        assert_eq!(
            hex(&encode(&block)),
            "712edd4a0102000009000000839206e305000000000000000400000000000000665544332211000003000000090000004d000000000000007b68e5cf8b010000"
        );
        let header = SegmentHeader {
            number: 7,
            base: 5,
            first_sequence: 1000,
            synced: 990,
            previous: Some(Previous { number: 6, end: 4096, sum: 0x0102_0304 }),
        };
        assert_eq!(
            hex(&encode_segment(&header)),
            "3f603e1f6a66732d6c6f670a010000000700000005000000e803000000000000de03000000000000060000000010000004030201000000000000000000000000"
        );
    }

    #[test]
    fn sums_are_castagnoli_whole_or_in_pieces() {
        assert_eq!(sum(&[b"123456789"]), 0xE306_9283);
        assert_eq!(sum(&[b"1234", b"", b"56789"]), 0xE306_9283);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn names_of_segments_come_back_and_others_are_none() {
        assert_eq!(segment_name(7), "0000000007");
        assert_eq!(parse_segment_name("4294967295"), Some(u32::MAX));
        for wrong in ["0000000000", "7", "+000000007", "4294967296", "00000000007", "x", ""] {
            assert_eq!(parse_segment_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn zeros_are_no_record_and_no_segment() {
        assert_eq!(decode(&[0; 64]), None);
        assert_eq!(decode_segment(&[0; 64]), Start::Torn);
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut fields = Fields::default();
        fields.bytes[4..12].copy_from_slice(MAGIC);
        fields.put_u32(12, VERSION + 1);
        assert_eq!(decode_segment(&fields.sealed()), Start::Version(VERSION + 1));
    }

    proptest! {
        #[test]
        fn records_come_back(record in records()) {
            prop_assert_eq!(decode(&encode(&record)), Some(record));
        }

        #[test]
        fn segments_come_back(header in segments()) {
            let bytes = encode_segment(&header);
            let sum = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            prop_assert_eq!(decode_segment(&bytes), Start::Whole(header, sum));
        }

        #[test]
        fn one_is_not_taken_for_the_other(record in records(), header in segments()) {
            prop_assert_eq!(decode_segment(&encode(&record)), Start::Torn);
            prop_assert_eq!(decode(&encode_segment(&header)), None);
        }

        #[test]
        fn no_flipped_bits_and_no_torn_end_are_taken(
            record in records(), header in segments(), at in 0usize..64, flip in 1u8.., end in 1usize..64,
        ) {
            let (whole, whole_segment) = (encode(&record), encode_segment(&header));
            let (mut bytes, mut segment) = (whole, whole_segment);
            bytes[at] ^= flip;
            segment[at] ^= flip;
            prop_assert_eq!(decode(&bytes), None);
            prop_assert_eq!(decode_segment(&segment), Start::Torn);
            // What was not written yet reads as zeros.
            let (mut bytes, mut segment) = (whole, whole_segment);
            bytes[end..].fill(0);
            segment[end..].fill(0);
            prop_assert!(bytes == whole || decode(&bytes).is_none());
            prop_assert!(segment == whole_segment || decode_segment(&segment) == Start::Torn);
        }

        #[test]
        fn any_bytes_are_decoded_without_a_crash(bytes: [u8; 32], more: [u8; 32]) {
            let mut header = [0; 64];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&more);
            prop_assert_eq!(decode(&header), None);
            let mut fields = Fields { bytes: header };
            fields.bytes[4] %= 8;
            let sealed = fields.sealed();
            prop_assert!(decode(&sealed).is_none_or(|record| encode(&record) == sealed));
        }
    }
}
