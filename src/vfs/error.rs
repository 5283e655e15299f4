//! What errors of the floors below mean to the caller, and a line in the log where the caller
//! hears less than is known.

use rustix::io::Errno;

use super::op::Reply;
use crate::data::DataError;
use crate::errno::Cause;
use crate::meta::{EngineError, MetaError};

/// The answer, or why there is none.
pub(super) type Done<T = Reply> = Result<T, Cause>;

impl From<MetaError> for Cause {
    fn from(error: MetaError) -> Self {
        let engine = match error {
            MetaError::Posix(errno) => return Self::Posix(errno),
            MetaError::Engine(engine) => engine,
        };
        tracing::warn!(error = %engine, "metadata operation failed");
        match engine {
            EngineError::Full(_) => Self::Full,
            EngineError::Unavailable(_) | EngineError::Corrupt { .. } | EngineError::Refused(_) => {
                Self::Failed
            }
        }
    }
}

impl From<DataError> for Cause {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Posix(errno) => Self::Posix(errno),
            DataError::Full(_) => Self::Full,
            DataError::TooLarge => Self::TooLarge,
            DataError::Io(_) => Self::Failed,
        }
    }
}

/// The kernel asked by a number for an inode that is gone. ESTALE makes it look the name up once
/// more, for the name may stand for another inode by now: a name that is replaced is never missing.
pub(super) fn stale(cause: Cause) -> Cause {
    match cause {
        Cause::Posix(Errno::NOENT) => Cause::Posix(Errno::STALE),
        other => other,
    }
}

/// As JuiceFS tells of background work that failed: the file is not there any more to this handle.
pub(super) fn of_background(error: DataError) -> Cause {
    match error {
        DataError::Posix(Errno::NOENT | Errno::PERM | Errno::INVAL) => Cause::Lost,
        other => other.into(),
    }
}
