//! How far written data has come, and waiting until it has come so far.
//!
//! Owns the levels of a file: what is dirty, kept here, in the store, committed. Does not own the
//! files and the log that keep it (`stage`), nor who waits for which level (`vfs`).

use std::rc::Rc;

use super::Data;
use super::error::DataError;
use crate::stage::StagingStatus;
use crate::types::{Ino, Level};

/// How far the data of a file has come.
#[derive(Debug, Clone, PartialEq)]
pub struct FileState {
    /// The level that all of it has reached.
    pub level: Level,
    /// Bytes that are not in the object store yet.
    pub bytes_left: u64,
    /// Blocks that are not in the object store yet.
    pub blocks_left: u64,
    /// Age of the oldest of them, ms; 0 if there is none.
    pub oldest_age_ms: u64,
    /// Why the last upload of one of them failed.
    pub last_error: Option<String>,
}

impl Data {
    /// What close waits for: everything written to the file is stored and committed, or, with
    /// `--writeback`, survives a crash of this process.
    ///
    /// # Errors
    /// The first error of any write since the file was last forgotten.
    pub async fn keep(self: &Rc<Self>, _ino: Ino) -> Result<(), DataError> {
        unimplemented!()
    }

    /// What fsync waits for: as `keep`, and a loss of power does not reach it.
    ///
    /// # Errors
    /// As `keep`, and of the disk.
    pub async fn sync(self: &Rc<Self>, _ino: Ino) -> Result<(), DataError> {
        unimplemented!()
    }

    /// Wait until all that was written to a file has come so far; uploads of it go first.
    ///
    /// # Errors
    /// The first error of a write. Uploads that fail are tried again: see `state_of`.
    pub async fn reach(self: &Rc<Self>, _ino: Ino, _level: Level) -> Result<(), DataError> {
        unimplemented!()
    }

    /// The same for all that was written to the mount.
    ///
    /// # Errors
    /// As `reach`.
    pub async fn reach_all(self: &Rc<Self>, _level: Level) -> Result<(), DataError> {
        unimplemented!()
    }

    /// How far the data of a file of this length has come.
    ///
    /// # Errors
    /// When its lists cannot be fetched.
    pub async fn state_of(
        self: &Rc<Self>,
        _ino: Ino,
        _length: u64,
    ) -> Result<FileState, DataError> {
        unimplemented!()
    }

    /// What is kept on this machine, with what is dirty in memory: bytes of it.
    pub fn staging(&self) -> Option<(StagingStatus, u64)> {
        unimplemented!()
    }

    /// Try failed uploads again now; how many.
    pub fn retry_uploads(&self) -> usize {
        unimplemented!()
    }

    /// Upload what is kept, forever; each core runs this.
    pub async fn drain(self: Rc<Self>) {
        unimplemented!()
    }
}
