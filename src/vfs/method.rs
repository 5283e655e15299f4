//! Operations under the names that the official client counts and logs them by.

use super::op::Op;

/// An operation that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Method {
    Access,
    CopyFileRange,
    Create,
    Fallocate,
    Flock,
    Flush,
    Fsync,
    Getattr,
    Getlk,
    Getxattr,
    Ioctl,
    Link,
    Listxattr,
    Lookup,
    Lseek,
    Mkdir,
    Mknod,
    Open,
    Opendir,
    Read,
    Readdir,
    Readlink,
    Release,
    Releasedir,
    Removexattr,
    Rename,
    Rmdir,
    Setattr,
    Setlk,
    Setxattr,
    Statfs,
    Symlink,
    Unlink,
    Write,
}

/// Their names, in the order above.
pub(super) const NAMES: [&str; 34] = [
    "access",
    "copy_file_range",
    "create",
    "fallocate",
    "flock",
    "flush",
    "fsync",
    "getattr",
    "getlk",
    "getxattr",
    "ioctl",
    "link",
    "listxattr",
    "lookup",
    "lseek",
    "mkdir",
    "mknod",
    "open",
    "opendir",
    "read",
    "readdir",
    "readlink",
    "release",
    "releasedir",
    "removexattr",
    "rename",
    "rmdir",
    "setattr",
    "setlk",
    "setxattr",
    "statfs",
    "symlink",
    "unlink",
    "write",
];

const _: () = assert!(Method::Write as usize == NAMES.len() - 1);

impl Method {
    /// What `op` is counted as; `None` for what the kernel asks for itself.
    pub fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::Forget { .. } | Op::Fsyncdir { .. } | Op::Destroy => return None,
            Op::Lookup { .. } => Self::Lookup,
            Op::Getattr { .. } => Self::Getattr,
            Op::Setattr { .. } => Self::Setattr,
            Op::Readlink { .. } => Self::Readlink,
            Op::Symlink { .. } => Self::Symlink,
            Op::Mknod { .. } => Self::Mknod,
            Op::Mkdir { .. } => Self::Mkdir,
            Op::Unlink { .. } => Self::Unlink,
            Op::Rmdir { .. } => Self::Rmdir,
            Op::Rename { .. } => Self::Rename,
            Op::Link { .. } => Self::Link,
            Op::Open { .. } => Self::Open,
            Op::Create { .. } | Op::Tmpfile { .. } => Self::Create,
            Op::Read { .. } => Self::Read,
            Op::Write { .. } => Self::Write,
            Op::Flush { .. } => Self::Flush,
            Op::Release { .. } => Self::Release,
            Op::Fsync { .. } => Self::Fsync,
            Op::Opendir { .. } => Self::Opendir,
            Op::Readdir { .. } => Self::Readdir,
            Op::Releasedir { .. } => Self::Releasedir,
            Op::Statfs { .. } => Self::Statfs,
            Op::Setxattr { .. } => Self::Setxattr,
            Op::Getxattr { .. } => Self::Getxattr,
            Op::Listxattr { .. } => Self::Listxattr,
            Op::Removexattr { .. } => Self::Removexattr,
            Op::Access { .. } => Self::Access,
            Op::Getlk { .. } => Self::Getlk,
            Op::Setlk { flock: true, .. } => Self::Flock,
            Op::Setlk { .. } => Self::Setlk,
            Op::Fallocate { .. } => Self::Fallocate,
            Op::Lseek { .. } => Self::Lseek,
            Op::CopyFileRange { .. } => Self::CopyFileRange,
            Op::Ioctl { .. } => Self::Ioctl,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Whether it is asked so often, and takes so little, that looking at the clock would be felt.
    pub fn is_frequent(self) -> bool {
        matches!(self, Self::Lookup | Self::Getattr)
    }
}
