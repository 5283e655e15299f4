//! What the data floor needs of metadata: slice ids, slice lists, and their commits.
//!
//! Owns the error that every metadata call ends in, and the narrow door `data` goes through, so
//! that `data` can be tested against a table. Does not own how it is done (`client`).

use rustix::io::Errno;

use super::engine::{EngineError, Local};
use super::plan::compact::Compaction;
use crate::types::{Attr, Ino, SliceId, SliceRecord, Time};

/// How a metadata operation fails.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// POSIX says no; this is the answer to the caller.
    #[error("{0}")]
    Posix(#[from] Errno),
    /// The engine could not do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A slice by its id and its size in bytes.
pub type SizedSlice = (SliceId, u32);

/// Slices of one chunk whose data is safe, about to become visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSlices {
    /// File.
    pub ino: Ino,
    /// Chunk index.
    pub chunk: u32,
    /// The records to append, in this order.
    pub records: Vec<SliceRecord>,
    /// Time of the last write into them.
    pub mtime: Time,
}

/// The door.
pub trait Slices {
    /// Whether changes that nobody asked for may be made now.
    fn takes_changes(&self) -> bool;

    /// A slice id nobody else has, from a reserved range.
    fn next_slice_id(&self) -> Local<'_, Result<SliceId, MetaError>>;

    /// The storage tier of a file.
    fn tier(&self, ino: Ino) -> Local<'_, Result<u8, MetaError>>;

    /// The length of a file in bytes.
    fn length(&self, ino: Ino) -> Local<'_, Result<u64, MetaError>>;

    /// Chunks of a file, as long as this in bytes, that have a list.
    fn listed_chunks(&self, ino: Ino, length: u64) -> Local<'_, Result<Vec<u32>, MetaError>>;

    /// The records of a chunk, oldest first.
    fn chunk(&self, ino: Ino, chunk: u32) -> Local<'_, Result<Vec<SliceRecord>, MetaError>>;

    /// Append slices, grow the length to their end, move the times; the attributes afterwards.
    /// ENOENT: the file is gone, the caller removes the objects it uploaded.
    fn push(&self, slices: NewSlices) -> Local<'_, Result<Attr, MetaError>>;

    /// Put a compaction in place of what it saw of a chunk's list, with `id` for its new slice, whose
    /// bytes are stored. The slices (id, size) that nobody refers to any more; `None` if the list
    /// moved meanwhile: then nothing has changed, and the new slice is nobody's.
    fn compact(
        &self,
        ino: Ino,
        chunk: u32,
        compaction: Compaction,
        id: SliceId,
    ) -> Local<'_, Result<Option<Vec<SizedSlice>>, MetaError>>;

    /// Drop the chunk lists of deleted files (inode, length); the slices (id, size) that nobody
    /// refers to any more. Their objects may be deleted, then `forget_slices` is called.
    fn drop_chunks(
        &self,
        files: Vec<(Ino, u64)>,
    ) -> Local<'_, Result<Vec<(SliceId, u32)>, MetaError>>;

    /// The objects of these slices are gone: forget the slices, and take the files off the queue.
    fn forget_slices(
        &self,
        files: Vec<(Ino, u64)>,
        slices: Vec<(SliceId, u32)>,
    ) -> Local<'_, Result<(), MetaError>>;
}
