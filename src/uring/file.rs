//! Reads, writes and syncs of files through the ring.
//!
//! For direct I/O and reads that may block. Small buffered writes are cheaper as plain `pwrite`:
//! the ring gives them to a kernel worker.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use super::ops::{Operation, with_buffer};
use super::ring::Kept;

/// Most bytes that one operation moves.
pub(super) const CHUNK_MAX: usize = 1 << 30;

/// Read into `buffer` (all of its length) from `offset`; the count and the buffer come back.
pub async fn read_at(fd: impl AsFd, buffer: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
    assert!(buffer.len() <= CHUNK_MAX, "one read is at most 1 GiB");
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    with_buffer(buffer, |at, len_bytes| {
        opcode::Read::new(raw, at, len_bytes).offset(offset).build()
    })
    .await
}

/// Write all of `buffer` at `offset`; how much went, and the buffer, come back.
pub async fn write_at(fd: impl AsFd, buffer: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
    assert!(buffer.len() <= CHUNK_MAX, "one write is at most 1 GiB");
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    with_buffer(buffer, |at, len_bytes| {
        opcode::Write::new(raw, at, len_bytes).offset(offset).build()
    })
    .await
}

/// Bring a file's data, and the metadata needed to read it, to the disk.
pub async fn fdatasync(fd: impl AsFd) -> io::Result<()> {
    let raw = types::Fd(fd.as_fd().as_raw_fd());
    let entry = opcode::Fsync::new(raw).flags(types::FsyncFlags::DATASYNC).build();
    Operation::start(Kept::Nothing, |_| entry).await.0.map(|_| ())
}

/// Bring all of a file or directory to the disk: of a directory, its names.
pub async fn fsync(fd: impl AsFd) -> io::Result<()> {
    let entry = opcode::Fsync::new(types::Fd(fd.as_fd().as_raw_fd())).build();
    Operation::start(Kept::Nothing, |_| entry).await.0.map(|_| ())
}
