//! How reading and writing of file bytes fails, sorted by what the caller is told.

use rustix::io::Errno;

use crate::meta::{EngineError, MetaError};
use crate::object::StoreError;

/// Kept per file and told many times, therefore cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The object store, the engine or the volume's limit has no room: ENOSPC.
    #[error("no space left: {0}")]
    Full(String),
    /// Data cannot be stored or read back: EIO.
    #[error("{0}")]
    Io(String),
    /// Beyond the last offset a file may have: EFBIG.
    #[error("beyond the largest file")]
    TooLarge,
    /// Metadata said no: this errno.
    #[error("{0}")]
    Posix(Errno),
}

impl DataError {
    /// The number for the caller.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Full(_) => Errno::NOSPC,
            Self::Io(_) => Errno::IO,
            Self::TooLarge => Errno::FBIG,
            Self::Posix(errno) => *errno,
        }
    }
}

impl From<MetaError> for DataError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Posix(errno) => Self::Posix(errno),
            MetaError::Engine(EngineError::Full(reason)) => Self::Full(reason),
            MetaError::Engine(other) => Self::Io(other.to_string()),
        }
    }
}

impl From<StoreError> for DataError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(reason) => Self::Full(reason),
            other => Self::Io(other.to_string()),
        }
    }
}
