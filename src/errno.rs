//! The one place where errors become numbers for the caller.
//!
//! Owns the match. What an error of metadata or data means to the caller is decided where it
//! arrives (`vfs::error`).

use rustix::io::Errno;

/// Why a caller is told no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule of POSIX, or of JuiceFS where it has its own.
    Posix(Errno),
    /// The engine, the store or the volume has no room.
    Full,
    /// Beyond the last byte a file may have.
    TooLarge,
    /// The engine or the store is away, refuses, or holds damaged records.
    Failed,
    /// The handle's earlier writes could not be kept.
    Lost,
    /// Not done by this mount; the kernel will not ask again.
    NotDone,
}

impl Cause {
    /// The positive number for the caller.
    pub fn number(self) -> i32 {
        match self {
            Self::Posix(errno) => errno.raw_os_error(),
            Self::Full => libc::ENOSPC,
            Self::TooLarge => libc::EFBIG,
            Self::Failed => libc::EIO,
            Self::Lost => libc::EBADF,
            Self::NotDone => libc::ENOSYS,
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Posix(errno)
    }
}
