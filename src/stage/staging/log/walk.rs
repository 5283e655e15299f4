//! Reading one segment: its header, its records one by one, its index.
//!
//! Owns how far a segment is whole. Does not know other segments, nor whether what is not whole was
//! promised to anybody (`replay`). Reads ahead in large pieces: a walk costs few calls.

use std::io;

use super::format::{
    self, HEADER_BYTES, Header, Kind, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, Start,
};
use super::path;
use crate::stage::staging::medium::Medium;

/// Bytes read at a time.
const AHEAD_BYTES: usize = 256 << 10;

/// A segment that is read.
pub(super) struct Reading<'a, M: Medium> {
    medium: &'a M,
    file: M::File,
    len_bytes: u64,
    window: Vec<u8>,
    /// Place of the window in the file.
    at: u64,
}

/// What a segment begins with.
pub(super) enum Head {
    /// A header, and the sum in it.
    Whole(SegmentHeader, u32),
    /// Nothing: it was never begun, as far as the disk knows.
    Blank,
    /// Records, behind a header that is damaged or of another version; in words.
    Unreadable(String),
}

/// Records of a segment that are whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Their headers, one behind the other.
    pub(super) headers: Vec<u8>,
    /// First byte behind them.
    pub(super) end: u32,
    /// All up to this sequence was on the disk when the last of them was made.
    pub(super) synced: u64,
    /// Of segments before this one nothing is needed, as one of them says.
    pub(super) base: u32,
    /// An index follows.
    pub(super) indexed: bool,
}

impl Walk {
    /// How many records.
    pub(super) fn records(&self) -> u64 {
        (self.headers.len() / HEADER_BYTES as usize) as u64
    }
}

impl<'a, M: Medium> Reading<'a, M> {
    /// Open a segment.
    pub(super) fn open(medium: &'a M, number: u32) -> io::Result<Self> {
        let name = path(number);
        let file = medium.open(&name)?;
        let (len_bytes, _) = medium.stat(&name)?;
        Ok(Self { medium, file, len_bytes, window: Vec::new(), at: 0 })
    }

    /// Its file.
    pub(super) fn into_file(self) -> M::File {
        self.file
    }

    /// Its header. Of this one nothing but the start is read.
    pub(super) fn head(&mut self, number: u32) -> io::Result<Head> {
        let mut both = [0; (SEGMENT_HEADER_BYTES + HEADER_BYTES) as usize];
        self.medium.read_at(&self.file, 0, &mut both)?;
        let (first, second) = both.split_at(SEGMENT_HEADER_BYTES as usize);
        let first: &Header = first.try_into().expect("a header's length");
        let second: &Header = second.try_into().expect("a header's length");
        Ok(match format::decode_segment(first) {
            Start::Whole(header, sum) if header.number == number => Head::Whole(header, sum),
            Start::Whole(header, _) => {
                Head::Unreadable(format!("is a copy of segment {}", header.number))
            }
            Start::Version(version) => {
                Head::Unreadable(format!("was written by a later version (form {version})"))
            }
            // The header is written before any record is.
            Start::Torn if format::decode(second).is_some() => {
                Head::Unreadable("begins with damaged bytes".to_owned())
            }
            Start::Torn => Head::Blank,
        })
    }

    /// Walk all records whose sequences follow each other from `first` on and whose payloads are
    /// what was written.
    pub(super) fn walk(&mut self, first: u64) -> io::Result<Walk> {
        let mut walk = Walk { end: SEGMENT_HEADER_BYTES, ..Walk::default() };
        let mut sequence = first;
        loop {
            let at = u64::from(walk.end);
            let Some((header, record)) = self.header(at)? else { return Ok(walk) };
            if let Kind::Index { .. } = record.kind {
                walk.indexed = self.is_whole(at, &record)?;
                return Ok(walk);
            }
            let end = u32::try_from(at + record.record_bytes()).ok();
            let Some(end) = end.filter(|_| record.sequence == sequence) else { return Ok(walk) };
            if !self.is_whole(at, &record)? {
                return Ok(walk);
            }
            walk.headers.extend_from_slice(&header);
            walk.end = end;
            walk.synced = walk.synced.max(record.synced);
            if let Kind::Base { segment } = record.kind {
                walk.base = walk.base.max(segment);
            }
            sequence += 1;
        }
    }

    /// The headers in the index at `end`, if there is one of so many records.
    pub(super) fn index(&mut self, end: u32, records: u64) -> io::Result<Option<Vec<u8>>> {
        let at = u64::from(end);
        let Some((_, record)) = self.header(at)? else { return Ok(None) };
        match record.kind {
            Kind::Index { records: told } if u64::from(told) == records => {}
            _ => return Ok(None),
        }
        self.payload(at, &record)
    }

    /// The payload of the record at `at`, if it is what was written.
    pub(super) fn payload(
        &mut self,
        at: u64,
        record: &RecordHeader,
    ) -> io::Result<Option<Vec<u8>>> {
        if at + record.record_bytes() > self.len_bytes {
            return Ok(None);
        }
        let payload = self.bytes(at + u64::from(HEADER_BYTES), record.len_bytes as usize)?;
        Ok((format::sum(&[payload]) == record.sum).then(|| payload.to_vec()))
    }

    fn is_whole(&mut self, at: u64, record: &RecordHeader) -> io::Result<bool> {
        if at + record.record_bytes() > self.len_bytes {
            return Ok(false);
        }
        let payload = self.bytes(at + u64::from(HEADER_BYTES), record.len_bytes as usize)?;
        Ok(format::sum(&[payload]) == record.sum)
    }

    fn header(&mut self, at: u64) -> io::Result<Option<(Header, RecordHeader)>> {
        let bytes = self.bytes(at, HEADER_BYTES as usize)?;
        let Ok(header) = Header::try_from(bytes) else { return Ok(None) };
        Ok(format::decode(&header).map(|record| (header, record)))
    }

    /// Bytes of the file, fewer at its end.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.at..self.at + self.window.len() as u64;
        if at < held.start || at + len as u64 > held.end {
            let left = usize::try_from(self.len_bytes.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = len.max(AHEAD_BYTES).min(left);
            if self.window.len() != wanted {
                self.window = vec![0; wanted];
            }
            let count = self.medium.read_at(&self.file, at, &mut self.window)?;
            self.window.truncate(count);
            self.at = at;
        }
        let start = usize::try_from(at - self.at).expect("inside the window");
        let end = (start + len).min(self.window.len());
        Ok(&self.window[start..end])
    }
}
