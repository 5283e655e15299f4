//! Appending: one record behind the other, segment after segment.
//!
//! Owns where the next record goes, and what has been written since the last sync. One appends at a
//! time (its owner holds a lock), so that no hole is in front of a record that was acknowledged. A
//! write that failed may have left anything: nothing goes behind it, the next record begins a segment.

use std::io;
use std::sync::Arc;

use smallvec::SmallVec;

use super::format::{self, HEADER_BYTES, Header, Kind, Previous, RecordHeader, SegmentHeader};
use super::space::{Note, Space};
use super::{FOLDER, Place, path};
use crate::limits::LOG_SEGMENT_RECORDS_MAX;
use crate::stage::staging::medium::Medium;

/// Where the log ends.
pub(super) struct Writer<M: Medium> {
    pub(super) segment_bytes: u32,
    pub(super) space: Space,
    /// Segments with bytes that are not on the disk.
    pub(super) unsynced: Vec<(u32, Arc<M::File>)>,
    /// Directories with names that are not on the disk.
    pub(super) unsynced_dirs: &'static [&'static str],
    /// The segment that is written to.
    pub(super) current: Option<Current<M>>,
    /// How the last segment ended, if none is written to.
    pub(super) previous: Option<Previous>,
    pub(super) next_number: u32,
    /// Sequence of the last record.
    pub(super) tail: u64,
    /// Segments before this one were told to be needless.
    pub(super) base: u32,
}

/// A segment that is written to.
pub(super) struct Current<M: Medium> {
    number: u32,
    file: Arc<M::File>,
    len_bytes: u64,
    /// First byte behind its last record.
    end: u32,
    /// The sum in its header.
    sum: u32,
    /// Headers of its records, for its index.
    headers: Vec<u8>,
}

/// A record and its payload.
pub(super) struct NewRecord<'a> {
    pub(super) kind: Kind,
    pub(super) payload: SmallVec<[&'a [u8]; 4]>,
    pub(super) len_bytes: u32,
    /// Of the payload.
    pub(super) sum: u32,
}

/// What a round brings to the disk.
pub(super) struct Unsynced<M: Medium> {
    /// Sequence up to which this is all.
    pub(super) upto: u64,
    /// Of segments before this one nothing is needed when this is on the disk.
    pub(super) base: u32,
    pub(super) files: Vec<(u32, Arc<M::File>)>,
    pub(super) dirs: &'static [&'static str],
}

impl<'a> NewRecord<'a> {
    /// A record with this payload.
    pub(super) fn new(kind: Kind, payload: SmallVec<[&'a [u8]; 4]>) -> io::Result<Self> {
        let len: usize = payload.iter().map(|part| part.len()).sum();
        // Offsets in a segment have 32 bits.
        let len_bytes = u32::try_from(len).ok().filter(|len| *len <= u32::MAX / 2);
        let len_bytes = len_bytes.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(Self { kind, sum: format::sum(&payload), payload, len_bytes })
    }
}

impl<M: Medium> Writer<M> {
    /// Append a record; all up to `synced` is on the disk.
    pub(super) fn append(
        &mut self,
        medium: &M,
        record: &NewRecord<'_>,
        synced: u64,
    ) -> io::Result<Place> {
        let mut header = RecordHeader {
            kind: record.kind,
            len_bytes: record.len_bytes,
            sum: record.sum,
            sequence: self.tail + 1,
            synced,
        };
        if let Kind::Note { made: made @ 0, .. } = &mut header.kind {
            *made = header.sequence;
        }
        if !self.current.as_ref().is_some_and(|current| current.has_room(header.record_bytes())) {
            self.begin_segment(medium, header.record_bytes(), synced)?;
        }
        let place = self.write(medium, &header, &record.payload)?;
        self.account(&header, place);
        Ok(place)
    }

    fn write(&mut self, medium: &M, header: &RecordHeader, payload: &[&[u8]]) -> io::Result<Place> {
        let current = self.current.as_mut().expect("a segment was begun");
        let encoded = format::encode(header);
        let mut parts: SmallVec<[&[u8]; 5]> = SmallVec::new();
        parts.push(&encoded);
        parts.extend_from_slice(payload);
        if let Err(error) = medium.write_at(&current.file, u64::from(current.end), &parts) {
            self.previous = Some(current.ended());
            self.current = None;
            return Err(error);
        }
        let place = Place { segment: current.number, offset: current.end };
        current.advance(&encoded, header.record_bytes());
        self.tail = header.sequence;
        self.is_unsynced();
        Ok(place)
    }

    /// The segment that is written to has bytes that are not on the disk.
    fn is_unsynced(&mut self) {
        let Some(current) = &self.current else { return };
        if self.unsynced.last().is_none_or(|(number, _)| *number != current.number) {
            self.unsynced.push((current.number, Arc::clone(&current.file)));
        }
    }

    fn account(&mut self, header: &RecordHeader, place: Place) {
        let record_bytes = header.record_bytes();
        self.space.used(place.segment, record_bytes);
        match header.kind {
            Kind::Block { .. } => self.space.need(place.segment, record_bytes),
            Kind::Note { tag, made } => self.space.note(tag, Note { place, record_bytes, made }),
            Kind::NoteGone { tag } => self.space.note_gone(tag),
            Kind::Gone { .. } | Kind::Base { .. } | Kind::Index { .. } => {}
        }
    }

    /// Begin a segment with room for one record at least.
    pub(super) fn begin_segment(
        &mut self,
        medium: &M,
        record_bytes: u64,
        synced: u64,
    ) -> io::Result<()> {
        let number = self.next_number;
        // A number whose file could not be made is not used again.
        self.next_number = number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let header = SegmentHeader {
            number,
            base: self.space.oldest_needed().unwrap_or(number),
            first_sequence: self.tail + 1,
            synced,
            previous: self.current.as_ref().map(Current::ended).or(self.previous),
        };
        let len_bytes = least_bytes(record_bytes).max(u64::from(self.segment_bytes));
        let file = new_file(medium, number, len_bytes)?;
        let encoded = format::encode_segment(&header);
        if let Err(error) = medium.write_at(&file, 0, &[&encoded[..]]) {
            // If its header is there after all, the segment before ends where it says.
            self.previous = header.previous;
            self.current = None;
            return Err(error);
        }
        let next = Current::new(number, file, len_bytes, format::sum_of(&encoded));
        if let Some(full) = self.current.replace(next) {
            // Without it this segment is walked record by record.
            let _ = write_index(medium, &full.file, full.end, &full.headers, self.tail);
        }
        self.is_unsynced();
        self.unsynced_dirs =
            if self.unsynced_dirs.is_empty() { &[FOLDER] } else { self.unsynced_dirs };
        self.space.begin(number);
        self.base = header.base;
        Ok(())
    }

    /// Tell the log that segments are needless, if that is news: they go with the next round.
    pub(super) fn give_up_needless(&mut self, medium: &M, synced: u64) {
        let Some(base) = self.space.oldest_needed().or(self.space.newest()) else { return };
        if base <= self.base {
            return;
        }
        let payload = SmallVec::new();
        let record =
            NewRecord { kind: Kind::Base { segment: base }, payload, len_bytes: 0, sum: 0 };
        // A segment that this begins may tell even more. If it fails, needless segments stay a while.
        if self.append(medium, &record, synced).is_ok() {
            self.base = self.base.max(base);
        }
    }

    /// No segment is needed any more; the newest of them. What comes after that begins anew.
    pub(super) fn give_up_all(&mut self) -> Option<u32> {
        self.current = None;
        self.previous = None;
        self.unsynced.clear();
        self.space.drop_before(u32::MAX).pop()
    }

    /// All that a round must bring to the disk; it is taken for done.
    pub(super) fn take_unsynced(&mut self) -> Unsynced<M> {
        Unsynced {
            upto: self.tail,
            base: self.base,
            files: std::mem::take(&mut self.unsynced),
            dirs: std::mem::take(&mut self.unsynced_dirs),
        }
    }

    /// The file of the segment that is written to, if it is this one.
    pub(super) fn current_file(&self, number: u32) -> Option<Arc<M::File>> {
        let current = self.current.as_ref().filter(|current| current.number == number)?;
        Some(Arc::clone(&current.file))
    }
}

impl<M: Medium> Current<M> {
    fn new(number: u32, file: M::File, len_bytes: u64, sum: u32) -> Self {
        let end = format::SEGMENT_HEADER_BYTES;
        Self { number, file: Arc::new(file), len_bytes, end, sum, headers: Vec::new() }
    }

    fn has_room(&self, record_bytes: u64) -> bool {
        let records = self.headers.len() / HEADER_BYTES as usize + 1;
        let end = u64::from(self.end) + record_bytes + index_bytes(records);
        records <= LOG_SEGMENT_RECORDS_MAX && end <= self.len_bytes
    }

    fn advance(&mut self, header: &Header, record_bytes: u64) {
        let end = u64::from(self.end) + record_bytes;
        self.end = u32::try_from(end).expect("a segment has less than 4 GiB");
        self.headers.extend_from_slice(header);
    }

    fn ended(&self) -> Previous {
        Previous { number: self.number, end: self.end, sum: self.sum }
    }
}

/// A file with room for a segment, and nothing in it.
fn new_file<M: Medium>(medium: &M, number: u32, len_bytes: u64) -> io::Result<M::File> {
    medium.make_dir(FOLDER)?;
    let name = path(number);
    let file = medium.create(&name)?;
    if let Err(error) = medium.allocate(&file, len_bytes) {
        // What stays there without a header is removed when the log is opened.
        let _ = medium.remove(&name);
        return Err(error);
    }
    Ok(file)
}

/// Bytes of a segment with one record.
fn least_bytes(record_bytes: u64) -> u64 {
    u64::from(format::SEGMENT_HEADER_BYTES) + record_bytes + index_bytes(1)
}

/// Bytes of an index of so many records.
fn index_bytes(records: usize) -> u64 {
    u64::from(HEADER_BYTES) * (1 + records as u64)
}

/// Write the index of a segment that ends here.
pub(super) fn write_index<M: Medium>(
    medium: &M,
    file: &M::File,
    end: u32,
    headers: &[u8],
    last: u64,
) -> io::Result<()> {
    let records = u32::try_from(headers.len() / HEADER_BYTES as usize).expect("few records");
    let index = RecordHeader {
        kind: Kind::Index { records },
        len_bytes: records * HEADER_BYTES,
        sum: format::sum(&[headers]),
        sequence: last,
        synced: 0,
    };
    medium.write_at(file, u64::from(end), &[&format::encode(&index)[..], headers])
}

const _: () = assert!(LOG_SEGMENT_RECORDS_MAX as u64 * (HEADER_BYTES as u64) < u32::MAX as u64);
