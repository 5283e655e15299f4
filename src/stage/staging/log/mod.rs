//! The segment log: small blocks and notes, one behind the other in files of one size.
//!
//! Owns the bytes of segments, that a record is whole or not there, and when a segment may go. Does not
//! know what is uploaded, nor what a note says. `format` has the bytes, `writer` appends, `walk` reads a
//! segment, `replay` a log, `space` counts what is needed; rounds of syncs are `sync`'s.

mod format;
mod replay;
mod space;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::smallvec;

use self::format::{HEADER_BYTES, Header, Kind};
use self::writer::{NewRecord, Writer};
use super::medium::Medium;
use super::sync::{RoundCounts, Rounds};
use crate::limits::LOG_FILES_MAX;
use crate::object::BlockKey;
use crate::pages::Page;

/// Where segments are.
const FOLDER: &str = "log";

/// The path of a segment.
fn path(number: u32) -> String {
    format!("{FOLDER}/{}", format::segment_name(number))
}

/// What is appended.
pub(super) enum Record<'a> {
    /// A small block.
    Block { key: BlockKey, tier: u8, group: u64, kept_ms: u64, pages: &'a [Page] },
    /// The block of this name is no longer needed here.
    Gone { key: BlockKey },
    /// A note; one of the same tag before it counts no more.
    Note { tag: u64, bytes: &'a [u8] },
    /// No note of this tag counts any more.
    NoteGone { tag: u64 },
}

/// Where the bytes of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// First byte in it.
    pub offset: u32,
}

/// What was found when the log was opened: blocks in the order of appending; then the notes that count,
/// in the order they were made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// See [`Record::Block`].
    Block { key: BlockKey, tier: u8, group: u64, kept_ms: u64, place: Place },
    /// See [`Record::Gone`].
    Gone { key: BlockKey },
    /// See [`Record::Note`].
    Note { tag: u64, bytes: Vec<u8> },
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Something that was on the disk is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The log of a folder.
pub(super) struct Log<M: Medium> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Medium> {
    medium: Arc<M>,
    writer: Mutex<Writer<M>>,
    /// Segments that were read from lately.
    files: Mutex<BTreeMap<u32, Arc<M::File>>>,
    rounds: Rounds,
}

impl<M: Medium> Log<M> {
    /// The log in `log/` of the folder; `found` is told what is in it. It is made, and new records go
    /// into a new segment, with the first of them. Of blocks that were found and count no more, as they
    /// are gone or were appended anew, the owner releases the places.
    pub(super) fn open(
        medium: Arc<M>,
        segment_bytes: u32,
        found: &mut dyn FnMut(Found),
    ) -> Result<Self, LogError> {
        let replayed = replay::replay(&*medium, segment_bytes, found)?;
        let shared = Shared {
            medium,
            writer: Mutex::new(replayed.writer),
            files: Mutex::default(),
            rounds: Rounds::new(replayed.synced),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Append a record; the kernel has it when this returns. The segment of a block is needed until
    /// the block is released. One that was answered with an error may be found after a crash.
    pub(super) fn append(&self, record: &Record<'_>) -> io::Result<Place> {
        let new = match *record {
            Record::Block { key, tier, group, kept_ms, pages } => {
                let kind = Kind::Block { key, tier, group, kept_ms };
                let new = NewRecord::new(kind, pages.iter().map(|page| &**page).collect())?;
                assert_eq!(new.len_bytes, key.size, "all bytes of the block");
                new
            }
            Record::Gone { key } => NewRecord::new(Kind::Gone { key }, smallvec![])?,
            Record::Note { tag, bytes } => {
                NewRecord::new(Kind::Note { tag, made: 0 }, smallvec![bytes])?
            }
            Record::NoteGone { tag } => NewRecord::new(Kind::NoteGone { tag }, smallvec![])?,
        };
        self.append_new(&new)
    }

    fn append_new(&self, new: &NewRecord<'_>) -> io::Result<Place> {
        let mut writer = self.shared.writer();
        if let Kind::Note { tag, .. } = new.kind
            && !writer.space.takes_note(tag)
        {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        writer.append(&self.shared.medium, new, self.shared.rounds.reached())
    }

    /// Number of the last record appended; `sync` of it brings all up to it to the disk.
    pub(super) fn tail(&self) -> u64 {
        self.shared.writer().tail
    }

    /// All records up to this number are on the disk.
    pub(super) fn synced(&self) -> u64 {
        self.shared.rounds.reached()
    }

    /// Rounds of syncs since the log was opened.
    pub(super) fn counts(&self) -> RoundCounts {
        self.shared.rounds.counts()
    }

    /// Bring all records up to this number to the disk. An error stays: no later call for a record that
    /// was not synced before it succeeds. Segments of which nothing is needed any more go then.
    pub(super) async fn sync(&self, upto: u64) -> io::Result<()> {
        let told = {
            let mut writer = self.shared.writer();
            let before = writer.tail;
            writer.give_up_needless(&self.shared.medium, self.shared.rounds.reached());
            if writer.tail > before { writer.tail } else { upto }
        };
        let round = || {
            let shared = Arc::clone(&self.shared);
            async move { shared.round().await }
        };
        self.shared.rounds.reach(upto.max(told), round).await
    }

    /// Bytes of a block, from `offset` of it on; all of them are checked if all are read.
    pub(super) fn read(
        &self,
        place: Place,
        key: BlockKey,
        offset: u32,
        into: &mut [u8],
    ) -> io::Result<()> {
        let medium = &self.shared.medium;
        let file = self.shared.file(place.segment)?;
        let wrong = |what: &str| {
            let name = path(place.segment);
            let words = format!("{name} {what} at byte {}", place.offset);
            io::Error::new(io::ErrorKind::InvalidData, words)
        };
        let mut header: Header = [0; 64];
        let at = u64::from(place.offset);
        let count = medium.read_at(&file, at, &mut header)?;
        let record = format::decode(&header).filter(|_| count == header.len());
        let record = record
            .filter(|record| matches!(record.kind, Kind::Block { key: own, .. } if own == key))
            .ok_or_else(|| wrong("has not the block that was kept"))?;
        let end = offset as usize + into.len();
        assert!(end <= record.len_bytes as usize, "a part of the block");
        let count =
            medium.read_at(&file, at + u64::from(HEADER_BYTES) + u64::from(offset), into)?;
        if count < into.len() {
            return Err(wrong("ends inside the block"));
        }
        let whole = into.len() == record.len_bytes as usize;
        match whole && format::sum(&[into]) != record.sum {
            true => Err(wrong("has damaged bytes in the block")),
            false => Ok(()),
        }
    }

    /// The bytes of a block are no longer needed: its `Gone` is appended, or it was moved. Once for each
    /// place. Segments of which nothing is needed any more go with the next sync, oldest first.
    pub(super) fn release(&self, place: Place, size: u32) {
        let record_bytes = u64::from(HEADER_BYTES) + u64::from(size);
        self.shared.writer().space.release(place.segment, record_bytes);
    }

    /// The segment whose blocks hold up all older ones though little of the log is needed any more:
    /// their owner appends them anew and releases the old places. Notes in it were appended anew here.
    pub(super) fn holding_up(&self) -> Option<u32> {
        let (segment, notes) = {
            let writer = self.shared.writer();
            let segment = writer.space.holding_up()?;
            let notes = writer.space.notes();
            (segment, notes.into_iter().filter(move |(_, note)| note.place.segment == segment))
        };
        for (tag, note) in notes {
            // A note that cannot be moved stays, and so does its segment.
            let Ok(bytes) = replay::read_note(&*self.shared.medium, &note) else { return None };
            let mut writer = self.shared.writer();
            let current = writer.space.find_note(tag);
            if current == Some(note) {
                let kind = Kind::Note { tag, made: note.made };
                let new = NewRecord::new(kind, smallvec![&bytes[..]]).ok()?;
                writer.append(&self.shared.medium, &new, self.shared.rounds.reached()).ok()?;
            }
        }
        self.shared.writer().space.needs_blocks(segment).then_some(segment)
    }

    /// Remove all segments: nothing in them is needed any more, whoever loses power meanwhile.
    pub(super) async fn destroy(&self) -> io::Result<()> {
        let medium = &self.shared.medium;
        let last = {
            let mut writer = self.shared.writer();
            if writer.space.newest().is_none() {
                return Ok(());
            }
            writer.space.release_all();
            // The last one says that all before it are needless; only then do they go, and then it goes.
            let normal_bytes = std::mem::replace(&mut writer.segment_bytes, 0);
            let begun = writer.begin_segment(medium, 0, self.shared.rounds.reached());
            writer.segment_bytes = normal_bytes;
            begun?;
            let base = NewRecord::new(Kind::Base { segment: writer.base }, smallvec![])?;
            writer.append(medium, &base, self.shared.rounds.reached())?;
            writer.tail
        };
        self.sync(last).await?;
        let newest = self.shared.writer().give_up_all();
        let names = medium.list(FOLDER)?;
        let numbers = names.iter().filter_map(|(name, _)| format::parse_segment_name(name));
        let older: Vec<u32> = numbers.filter(|number| Some(*number) != newest).collect();
        self.shared.remove(&older)?;
        medium.sync_dir(FOLDER).await?;
        self.shared.remove(newest.as_slice())?;
        medium.sync_dir(FOLDER).await
    }
}

impl<M: Medium> Shared<M> {
    fn writer(&self) -> MutexGuard<'_, Writer<M>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bring all that was appended to the disk; then needless segments go.
    async fn round(&self) -> io::Result<u64> {
        let unsynced = self.writer().take_unsynced();
        for (_, file) in &unsynced.files {
            self.medium.sync_file(file).await?;
        }
        for dir in unsynced.dirs {
            self.medium.sync_dir(dir).await?;
        }
        let needless = self.writer().space.drop_before(unsynced.base);
        // What stays is removed when the log is opened.
        let _ = self.remove(&needless);
        Ok(unsynced.upto)
    }

    fn remove(&self, numbers: &[u32]) -> io::Result<()> {
        for number in numbers {
            self.lock_files().remove(number);
            self.medium.remove(&path(*number))?;
        }
        Ok(())
    }

    fn lock_files(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<M::File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a segment, open.
    fn file(&self, number: u32) -> io::Result<Arc<M::File>> {
        if let Some(file) = self.writer().current_file(number) {
            return Ok(file);
        }
        if let Some(file) = self.lock_files().get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.medium.open(&path(number))?);
        let mut files = self.lock_files();
        if files.len() >= LOG_FILES_MAX {
            files.pop_first();
        }
        files.insert(number, Arc::clone(&file));
        Ok(file)
    }
}
