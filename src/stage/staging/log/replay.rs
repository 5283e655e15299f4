//! Opening a log: which segments are its chain, how far it goes, and what is in it.
//!
//! Owns the decision between what a loss of power took, which was promised to nobody, and damage. Each
//! record tells how far everything was on the disk when it was made: what is missing behind the last
//! such word was never promised, and the log ends before it; what is missing before it is damage, and
//! nobody goes on over that. Segments are linked: each says how the one before ended, so that records
//! behind a torn one, or segments behind a torn end, are never taken for its continuation.
//!
//! Payloads are read where a loss of power may have taken them, and of notes that count; all other
//! segments cost one read, of their index.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tracing::warn;

use super::format::{
    self, HEADER_BYTES, Header, Kind, Previous, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::space::{Note, Space};
use super::walk::{Head, Reading, Walk};
use super::writer::{self, Writer};
use super::{FOLDER, Found, LogError, Place, path};
use crate::stage::staging::medium::Medium;

/// A log that was read.
pub(super) struct Replayed<M: Medium> {
    pub(super) writer: Writer<M>,
    /// All up to this sequence is on the disk.
    pub(super) synced: u64,
}

/// A segment of the chain.
struct Link {
    header: SegmentHeader,
    /// The sum in its header.
    sum: u32,
    /// First byte behind its last record.
    end: u32,
    /// Sequence of its last record.
    last: u64,
    /// All of it was on the disk.
    synced: bool,
}

/// What is known of all segments while the chain is looked for.
struct Survey<'a, M: Medium> {
    medium: &'a M,
    heads: BTreeMap<u32, (SegmentHeader, u32)>,
    /// Records are there, but not readable.
    unreadable: BTreeMap<u32, String>,
    /// All up to this sequence was on the disk once.
    synced: u64,
    /// Segments that were left out as nothing in them was promised.
    cut: usize,
}

/// Read a log, and tell `found` what is in it.
pub(super) fn replay<M: Medium>(
    medium: &M,
    segment_bytes: u32,
    found: &mut dyn FnMut(Found),
) -> Result<Replayed<M>, LogError> {
    let names = medium.list(FOLDER)?;
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|(name, _)| format::parse_segment_name(name)).collect();
    numbers.sort_unstable();
    let mut survey = Survey::of(medium, &numbers)?;
    let chain = survey.chain()?;
    let mut telling = Telling { medium, found, space: Space::default() };
    let base = chain.first().map_or(u32::MAX, |link| link.header.number);
    // That these are needless may not be on the disk yet: they go with a round that has brought it there.
    let needless = numbers.iter().copied().filter(|number| *number < base && !chain.is_empty());
    needless.clone().for_each(|number| telling.space.begin(number));
    for link in &chain {
        telling.segment(link)?;
    }
    telling.notes()?;
    let space = telling.space;
    for number in numbers.iter().filter(|number| **number >= base || chain.is_empty()) {
        if chain.iter().all(|link| link.header.number != *number) {
            // Of no chain that was promised. It is looked at, and left out, again if it stays.
            let _ = medium.remove(&path(*number));
        }
    }
    if survey.cut > 0 {
        warn!("a loss of power took the end of a staging log: {} segments go", survey.cut);
    }
    let mut unsynced = Vec::new();
    for link in chain.iter().filter(|link| !link.synced) {
        let number = link.header.number;
        unsynced.push((number, Arc::new(Reading::open(medium, number)?.into_file())));
    }
    let tip = chain.last();
    let writer = Writer {
        segment_bytes,
        space,
        unsynced,
        unsynced_dirs: &[FOLDER, ""],
        current: None,
        previous: tip.map(|tip| Previous { number: tip.header.number, end: tip.end, sum: tip.sum }),
        next_number: numbers.last().map_or(Some(1), |last| last.checked_add(1)).ok_or_else(full)?,
        tail: tip.map_or(0, |tip| tip.last),
        base: needless.min().or(chain.first().map(|first| first.header.number)).unwrap_or(0),
    };
    // Of a last segment that may not be on the disk itself, not even what it tells of others is sure: the
    // next sync is not spared.
    let synced = match tip {
        Some(tip) if !tip.synced => survey.synced.min(tip.last.saturating_sub(1)),
        _ => survey.synced,
    };
    Ok(Replayed { writer, synced })
}

fn full() -> LogError {
    LogError::Failed(io::ErrorKind::FileTooLarge.into())
}

/// Words for people: what is wrong, and what they can do.
fn damaged(number: u32, what: &str) -> LogError {
    let name = path(number);
    LogError::Damaged(format!(
        "{name} {what}, so that blocks which were promised to be safe are missing; mend the disk, or move \
         the folder {FOLDER} aside and mount again without them"
    ))
}

impl<'a, M: Medium> Survey<'a, M> {
    fn of(medium: &'a M, numbers: &[u32]) -> Result<Self, LogError> {
        let (mut heads, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for number in numbers {
            match Reading::open(medium, *number)?.head(*number)? {
                Head::Whole(header, sum) => {
                    heads.insert(*number, (header, sum));
                }
                Head::Unreadable(why) => {
                    unreadable.insert(*number, why);
                }
                Head::Blank => {}
            }
        }
        Ok(Self { medium, heads, unreadable, synced: 0, cut: 0 })
    }

    /// The segments that make the log, oldest first.
    fn chain(&mut self) -> Result<Vec<Link>, LogError> {
        let chain = loop {
            let Some((_, (header, sum))) = self.heads.last_key_value() else { break Vec::new() };
            let (header, sum) = (*header, *sum);
            let walk = self.walk(header.number, header.first_sequence)?;
            self.synced = self.synced.max(header.synced).max(walk.synced);
            let base = header.base.max(walk.base);
            let last = header.first_sequence - 1 + walk.records();
            if last < self.synced {
                return Err(damaged(header.number, &format!("is damaged at byte {}", walk.end)));
            }
            // Of a segment without records nothing says that its header is on the disk.
            let synced = last == self.synced && walk.records() > 0;
            let tip = Link { header, sum, end: walk.end, last, synced };
            match self.before(&tip, base)? {
                Some(mut chain) => {
                    self.index_tip(&tip, &walk);
                    chain.reverse();
                    chain.push(tip);
                    break chain;
                }
                None => self.cut += 1,
            }
        };
        let oldest = chain.first().map_or(0, |link| link.header.number);
        match self.unreadable.iter().find(|(number, _)| **number >= oldest) {
            Some((number, why)) => Err(damaged(*number, why)),
            None if chain.is_empty() && self.synced > 0 => Err(damaged(1, "is missing")),
            None => Ok(chain),
        }
    }

    /// The segments before `tip` from `base` on, newest first. `None` if what it continues is not all
    /// there, and was never promised: then it goes itself.
    fn before(&mut self, tip: &Link, base: u32) -> Result<Option<Vec<Link>>, LogError> {
        let mut chain = Vec::new();
        let mut next = tip.header;
        while next.number > base {
            let previous = next.previous.filter(|previous| previous.number >= base);
            let Some(previous) = previous else { return Err(damaged(base, "is missing")) };
            let last = next.first_sequence - 1;
            let empty = previous.end == SEGMENT_HEADER_BYTES;
            let synced = if empty { last < self.synced } else { last <= self.synced };
            let known = self.heads.get(&previous.number);
            let Some((header, sum)) = known.filter(|(_, sum)| *sum == previous.sum).copied() else {
                let why = self.unreadable.get(&previous.number);
                if synced || why.is_some() {
                    let why = why.map_or("is missing or damaged", String::as_str);
                    return Err(damaged(previous.number, why));
                }
                self.cut_behind(previous.number);
                return Ok(None);
            };
            if !synced {
                let walk = self.walk(previous.number, header.first_sequence)?;
                if header.first_sequence - 1 + walk.records() < last || walk.end < previous.end {
                    self.cut_behind(previous.number);
                    return Ok(None);
                }
            }
            chain.push(Link { header, sum, end: previous.end, last, synced });
            next = header;
        }
        Ok(Some(chain))
    }

    fn cut_behind(&mut self, number: u32) {
        self.heads.retain(|known, _| *known <= number);
    }

    fn walk(&self, number: u32, first: u64) -> io::Result<Walk> {
        Reading::open(self.medium, number)?.walk(first)
    }

    /// Spare later mounts the walk. If the disk takes no index, they walk.
    fn index_tip(&self, tip: &Link, walk: &Walk) {
        if walk.indexed || walk.headers.is_empty() {
            return;
        }
        if let Ok(reading) = Reading::open(self.medium, tip.header.number) {
            let file = reading.into_file();
            let _ = writer::write_index(self.medium, &file, tip.end, &walk.headers, tip.last);
        }
    }
}

/// What is in the log goes to its owner, and is counted.
struct Telling<'a, 'f, M: Medium> {
    medium: &'a M,
    found: &'f mut dyn FnMut(Found),
    space: Space,
}

impl<M: Medium> Telling<'_, '_, M> {
    fn segment(&mut self, link: &Link) -> Result<(), LogError> {
        let number = link.header.number;
        self.space.begin(number);
        let records = link.last + 1 - link.header.first_sequence;
        let mut reading = Reading::open(self.medium, number)?;
        let headers = match reading.index(link.end, records)? {
            Some(headers) => headers,
            None => {
                let walk = reading.walk(link.header.first_sequence)?;
                if walk.records() < records || walk.end < link.end {
                    let what = format!("is damaged at byte {}", walk.end);
                    return Err(damaged(number, &what));
                }
                walk.headers
            }
        };
        // A record behind the end is one whose write was answered with an error.
        self.records(link, &headers[..records as usize * HEADER_BYTES as usize])
    }

    fn records(&mut self, link: &Link, headers: &[u8]) -> Result<(), LogError> {
        let number = link.header.number;
        let mut sequence = link.header.first_sequence;
        let mut at = u64::from(SEGMENT_HEADER_BYTES);
        let (headers, _) = headers.as_chunks::<{ HEADER_BYTES as usize }>();
        for header in headers {
            let end = self.record(number, at, header, sequence);
            at = end.ok_or_else(|| damaged(number, "has an index of other records"))?;
            sequence += 1;
        }
        match at == u64::from(link.end) && sequence == link.last + 1 {
            true => Ok(()),
            false => Err(damaged(number, "has an index of other records")),
        }
    }

    /// Tell one record; where it ends.
    fn record(&mut self, number: u32, at: u64, header: &Header, sequence: u64) -> Option<u64> {
        let record = format::decode(header).filter(|record| record.sequence == sequence)?;
        let place = Place { segment: number, offset: u32::try_from(at).ok()? };
        let record_bytes = record.record_bytes();
        self.space.used(number, record_bytes);
        match record.kind {
            Kind::Block { key, tier, group, kept_ms } => {
                self.space.need(number, record_bytes);
                (self.found)(Found::Block { key, tier, group, kept_ms, place });
            }
            Kind::Gone { key } => (self.found)(Found::Gone { key }),
            Kind::Note { tag, made } => self.space.note(tag, Note { place, record_bytes, made }),
            Kind::NoteGone { tag } => self.space.note_gone(tag),
            Kind::Base { .. } => {}
            Kind::Index { .. } => return None,
        }
        Some(at + record_bytes)
    }

    /// Notes are read when it is known which count.
    fn notes(&mut self) -> Result<(), LogError> {
        for (tag, note) in self.space.notes() {
            let bytes = read_note(self.medium, &note)?;
            (self.found)(Found::Note { tag, bytes });
        }
        Ok(())
    }
}

/// The bytes of a note.
pub(super) fn read_note<M: Medium>(medium: &M, note: &Note) -> Result<Vec<u8>, LogError> {
    let number = note.place.segment;
    let at = u64::from(note.place.offset);
    let file = medium.open(&path(number))?;
    let mut bytes = vec![0; usize::try_from(note.record_bytes).expect("a record fits into memory")];
    let count = medium.read_at(&file, at, &mut bytes)?;
    let payload = bytes.split_off(HEADER_BYTES as usize);
    let record = Header::try_from(bytes).ok().and_then(|header| format::decode(&header));
    match record {
        Some(record)
            if count as u64 == note.record_bytes && format::sum(&[&payload]) == record.sum =>
        {
            Ok(payload)
        }
        _ => Err(damaged(number, &format!("has a damaged note at byte {at}"))),
    }
}
