//! The segment log: small blocks and notes, one behind the other in files of one size.
//!
//! Owns the bytes of segments, that a record is whole or not there, and when a segment may go. Does not
//! know what is uploaded, nor what a note says.

use std::io;

use super::medium::Medium;
use crate::object::BlockKey;
use crate::pages::Page;

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

/// What was found of a record when the log was opened, in the order of appending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// See [`Record::Block`].
    Block { key: BlockKey, tier: u8, group: u64, kept_ms: u64, place: Place },
    /// See [`Record::Gone`].
    Gone { key: BlockKey },
    /// See [`Record::Note`].
    Note { tag: u64, bytes: Vec<u8> },
    /// See [`Record::NoteGone`].
    NoteGone { tag: u64 },
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// A segment other than the last is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The log of a folder.
pub(super) struct Log<M: Medium> {
    medium: std::sync::Arc<M>,
}

impl<M: Medium> Log<M> {
    /// The log in `log/` of the folder, made if it is not there; `found` is told what is in it. New
    /// records go into a new segment.
    pub(super) fn open(
        _medium: std::sync::Arc<M>,
        _segment_bytes: u32,
        _found: &mut dyn FnMut(Found),
    ) -> Result<Self, LogError> {
        unimplemented!()
    }

    /// Append a record; the kernel has it when this returns. The segment of a block is needed until
    /// the block is released.
    pub(super) fn append(&self, _record: &Record<'_>) -> io::Result<Place> {
        unimplemented!()
    }

    /// Number of the last record appended; `sync` of it brings all up to it to the disk.
    pub(super) fn tail(&self) -> u64 {
        unimplemented!()
    }

    /// Bring all records up to this number to the disk. An error stays: no later call for a record that
    /// was not synced before it succeeds.
    pub(super) async fn sync(&self, _upto: u64) -> io::Result<()> {
        unimplemented!()
    }

    /// Bytes of a block of `size` bytes, from `offset` of it on; `whole` reads are checked.
    pub(super) fn read(
        &self,
        _place: Place,
        _key: BlockKey,
        _offset: u32,
        _into: &mut [u8],
    ) -> io::Result<()> {
        unimplemented!()
    }

    /// The bytes of a block are no longer needed (its `Gone` is appended, or it was moved). Segments of
    /// which nothing is needed any more go, oldest first.
    pub(super) fn release(&self, _place: Place, _size: u32) {
        unimplemented!()
    }

    /// Blocks that hold up the oldest segment though little of the log is needed any more: their owner
    /// appends them anew and releases the old places.
    pub(super) fn holding_up(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Remove all segments: nothing in them is needed any more.
    pub(super) fn destroy(&self) -> io::Result<()> {
        unimplemented!()
    }
}
