//! What of the log is still needed: bytes for each segment, and where notes are.
//!
//! Owns the count that says which segments may go. They go oldest first: what kills a block stands
//! behind it, and must not be gone before it. Pure; does not know files.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Place;
use crate::limits::LOG_NOTES_MAX;

/// A log of which less than this part is needed is worth copying: what is copied is little.
const NEEDED_PART: u64 = 4;
/// Segments that are not worth it.
const SEGMENTS_FEW: usize = 4;

/// All segments, oldest first.
#[derive(Default)]
pub(super) struct Space {
    segments: VecDeque<Segment>,
    notes: HashMap<u64, Note, RandomState>,
}

struct Segment {
    number: u32,
    used_bytes: u64,
    needed_bytes: u64,
}

/// A note that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// Its record.
    pub(super) place: Place,
    /// Bytes of that record.
    pub(super) record_bytes: u64,
    /// Sequence of the record that it was first in.
    pub(super) made: u64,
}

impl Space {
    /// A segment is there, newer than all others.
    pub(super) fn begin(&mut self, number: u32) {
        assert!(self.newest().is_none_or(|newest| newest < number), "segments come in order");
        self.segments.push_back(Segment { number, used_bytes: 0, needed_bytes: 0 });
    }

    /// The segment that is written to, or was last.
    pub(super) fn newest(&self) -> Option<u32> {
        self.segments.back().map(|segment| segment.number)
    }

    /// A record came into a segment.
    pub(super) fn used(&mut self, number: u32, record_bytes: u64) {
        self.segment(number).expect("records go into segments that are there").used_bytes +=
            record_bytes;
    }

    /// A record of a segment is needed until it is released.
    pub(super) fn need(&mut self, number: u32, record_bytes: u64) {
        self.segment(number).expect("needed records lie in segments").needed_bytes += record_bytes;
    }

    /// A record is no longer needed.
    pub(super) fn release(&mut self, number: u32, record_bytes: u64) {
        let segment =
            self.segment(number).expect("a segment stays while something in it is needed");
        assert!(segment.needed_bytes >= record_bytes, "each place is released once");
        segment.needed_bytes -= record_bytes;
    }

    /// Whether one more note of this tag may come.
    pub(super) fn takes_note(&self, tag: u64) -> bool {
        self.notes.len() < LOG_NOTES_MAX || self.notes.contains_key(&tag)
    }

    /// A note came; one of the same tag is needed no more.
    pub(super) fn note(&mut self, tag: u64, note: Note) {
        self.need(note.place.segment, note.record_bytes);
        if let Some(before) = self.notes.insert(tag, note) {
            self.release(before.place.segment, before.record_bytes);
        }
    }

    /// A note went.
    pub(super) fn note_gone(&mut self, tag: u64) {
        if let Some(note) = self.notes.remove(&tag) {
            self.release(note.place.segment, note.record_bytes);
        }
    }

    /// The note of a tag.
    pub(super) fn find_note(&self, tag: u64) -> Option<Note> {
        self.notes.get(&tag).copied()
    }

    /// Notes that count, in the order they were made.
    pub(super) fn notes(&self) -> Vec<(u64, Note)> {
        let mut notes: Vec<_> = self.notes.iter().map(|(tag, note)| (*tag, *note)).collect();
        notes.sort_unstable_by_key(|(_, note)| note.made);
        notes
    }

    /// The oldest segment of which something is needed; `None` if nothing is of any.
    pub(super) fn oldest_needed(&self) -> Option<u32> {
        self.segments.iter().find(|segment| segment.needed_bytes > 0).map(|segment| segment.number)
    }

    /// Nothing is needed any more.
    pub(super) fn release_all(&mut self) {
        self.notes.clear();
        self.segments.iter_mut().for_each(|segment| segment.needed_bytes = 0);
    }

    /// Segments before this one, which go.
    pub(super) fn drop_before(&mut self, base: u32) -> Vec<u32> {
        let count = self.segments.partition_point(|segment| segment.number < base);
        let gone = self.segments.drain(..count);
        gone.inspect(|segment| assert_eq!(segment.needed_bytes, 0, "what is needed stays"))
            .map(|segment| segment.number)
            .collect()
    }

    /// The oldest segment of which something is needed, if little is needed of all that lies there.
    pub(super) fn holding_up(&self) -> Option<u32> {
        if self.segments.len() < SEGMENTS_FEW {
            return None;
        }
        let used: u64 = self.segments.iter().map(|segment| segment.used_bytes).sum();
        let needed: u64 = self.segments.iter().map(|segment| segment.needed_bytes).sum();
        // The newest one is not waited for: copies would go into itself.
        let oldest = self.oldest_needed().filter(|oldest| Some(*oldest) != self.newest());
        oldest.filter(|_| needed.saturating_mul(NEEDED_PART) < used)
    }

    /// Whether something else than notes is needed of a segment.
    pub(super) fn needs_blocks(&self, number: u32) -> bool {
        let here = self.notes.values().filter(|note| note.place.segment == number);
        let notes_bytes: u64 = here.map(|note| note.record_bytes).sum();
        let segment = self.segments.iter().find(|segment| segment.number == number);
        segment.is_some_and(|segment| segment.needed_bytes > notes_bytes)
    }

    fn segment(&mut self, number: u32) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        self.segments.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(segment: u32, made: u64) -> Note {
        Note { place: Place { segment, offset: 64 }, record_bytes: 70, made }
    }

    #[test]
    fn segments_go_when_nothing_before_is_needed() {
        let mut space = Space::default();
        [1, 2, 5].into_iter().for_each(|number| space.begin(number));
        space.need(1, 100);
        space.need(2, 50);
        space.release(2, 50);
        assert_eq!((space.oldest_needed(), space.newest()), (Some(1), Some(5)));
        space.release(1, 100);
        assert_eq!(space.oldest_needed(), None);
        assert_eq!(space.drop_before(5), [1, 2]);
        assert!(space.drop_before(5).is_empty());
    }

    #[test]
    fn a_note_is_needed_until_it_goes_or_is_replaced() {
        let mut space = Space::default();
        space.begin(1);
        space.begin(2);
        space.note(7, note(1, 1));
        space.note(8, note(1, 2));
        assert!(!space.needs_blocks(1));
        space.need(1, 1);
        assert!(space.needs_blocks(1));
        space.release(1, 1);
        space.note(7, note(2, 3));
        assert_eq!(space.notes(), [(8, note(1, 2)), (7, note(2, 3))]);
        space.note_gone(8);
        space.note_gone(8);
        assert_eq!(space.oldest_needed(), Some(2));
        space.release_all();
        assert_eq!((space.oldest_needed(), space.notes()), (None, Vec::new()));
    }

    #[test]
    fn what_holds_up_much_is_told() {
        let mut space = Space::default();
        for number in 1..=4 {
            space.begin(number);
            space.used(number, 1000);
            space.need(number, 300);
        }
        assert_eq!(space.holding_up(), None, "much of it is needed");
        (1..=3).for_each(|number| space.release(number, 200));
        space.release(4, 300);
        assert_eq!(space.holding_up(), Some(1));
        (1..=3).for_each(|number| space.release(number, 100));
        space.need(4, 10);
        assert_eq!(space.holding_up(), None, "the newest holds up nothing");
    }

    #[test]
    #[should_panic(expected = "once")]
    fn a_place_released_twice_is_a_bug() {
        let mut space = Space::default();
        space.begin(1);
        space.need(1, 5);
        space.release(1, 5);
        space.release(1, 5);
    }
}
