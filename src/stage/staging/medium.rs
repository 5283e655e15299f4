//! What the staging area asks of a disk, so that a test can lose its power at any point.
//!
//! Owns the list of things that are asked; `os` is how the operating system does them. All paths are
//! relative to the folder of the volume. Writes are in the kernel when they return and on the disk
//! after a sync: of a file for its bytes and length, of a directory for its names.

mod os;

use std::future::Future;
use std::io;

pub(super) use os::Os;

/// A folder on a disk.
pub trait Medium: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync + 'static;

    /// Names in a directory, and whether each is a directory; empty if it is not there.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, bool)>>;
    /// Make a directory with those above it.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// A new file for reading and writing; an error if the name is taken.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// An old file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Length in bytes and time of last change, ms since 1970.
    fn stat(&self, path: &str) -> io::Result<(u64, u64)>;
    /// Set the time of last change, ms since 1970. Only ages are taken from it: it needs no sync.
    fn date(&self, file: &Self::File, changed_ms: u64) -> io::Result<()>;
    /// Have room for so many bytes, which read as zeros.
    fn allocate(&self, file: &Self::File, len_bytes: u64) -> io::Result<()>;
    /// Write all parts one after the other from `offset` on.
    fn write_at(&self, file: &Self::File, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// Read until `into` is full or the file ends; how many bytes.
    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// A second name for a file; no error if it has it already.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Another name for a file, over what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// A name goes; no error if it is not there.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Bring the bytes of a file to the disk (fdatasync).
    fn sync_file(&self, file: &Self::File) -> impl Future<Output = io::Result<()>>;
    /// Bring the names of a directory to the disk.
    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>>;
}
