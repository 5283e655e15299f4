//! The language every front end speaks to the file system.
//!
//! Owns requests and replies as plain data, free of any wire layout. A request owns what it
//! names, so that it may wait; bulk payload stays in the transport's buffer (`Payload`).

use crate::pages::Page;
use crate::types::{Attr, FileType, Ino, Name, Time};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, 0 when unknown.
    pub pid: u32,
}

/// Bytes that arrived with a request and live as long as it does.
pub struct Payload(pub Box<dyn std::ops::Deref<Target = [u8]>>);

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// A time in a setattr request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// This very time.
    At(Time),
    /// The time of the change.
    Now,
}

/// What a setattr request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// New permission bits.
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length in bytes.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
    /// Open handle the request came through (ftruncate).
    pub handle: Option<u64>,
    /// Kernel asks to clear suid and sgid with this change (KILLPRIV_V2).
    pub kill_priv: bool,
    /// Only the times of what was written before, which the kernel had collected.
    pub cached: bool,
}

/// A byte range lock as fcntl(2) has it; `end` is inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive.
    pub end: u64,
    /// F_RDLCK 0, F_WRLCK 1, F_UNLCK 2.
    pub kind: u32,
    /// Holder's process id.
    pub pid: u32,
}

impl Op {
    /// Whether it changes the volume, or opens a file for that. Locks and what is already written do not.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Open { flags, .. } => {
                let mode = *flags as i32 & libc::O_ACCMODE;
                mode != libc::O_RDONLY || *flags as i32 & libc::O_TRUNC != 0
            }
            // Flags are read without.
            Self::Ioctl { data, .. } => !data.is_empty(),
            // What the kernel had collected was taken when it was written.
            Self::Write { cached, .. } => !cached,
            Self::Setattr { set, .. } => !set.cached,
            Self::Symlink { .. }
            | Self::Mknod { .. }
            | Self::Mkdir { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Create { .. }
            | Self::Tmpfile { .. }
            | Self::Setxattr { .. }
            | Self::Removexattr { .. }
            | Self::Fallocate { .. }
            | Self::CopyFileRange { .. } => true,
            _ => false,
        }
    }
}

/// One request. Directory arguments are named `dir`, their entries `name`.
#[derive(Debug)]
#[allow(missing_docs)] // fields are the arguments of the system call of the same name
pub enum Op {
    Lookup {
        dir: Ino,
        name: Name,
    },
    Forget {
        items: Vec<(Ino, u64)>,
    },
    Getattr {
        ino: Ino,
        handle: Option<u64>,
    },
    Setattr {
        ino: Ino,
        set: SetAttr,
    },
    Readlink {
        ino: Ino,
    },
    Symlink {
        dir: Ino,
        name: Name,
        target: Name,
    },
    Mknod {
        dir: Ino,
        name: Name,
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    Mkdir {
        dir: Ino,
        name: Name,
        mode: u32,
        umask: u32,
    },
    Unlink {
        dir: Ino,
        name: Name,
    },
    Rmdir {
        dir: Ino,
        name: Name,
    },
    Rename {
        dir: Ino,
        name: Name,
        new_dir: Ino,
        new_name: Name,
        flags: u32,
    },
    Link {
        ino: Ino,
        new_dir: Ino,
        new_name: Name,
    },
    Open {
        ino: Ino,
        flags: u32,
        kill_priv: bool,
    },
    Create {
        dir: Ino,
        name: Name,
        mode: u32,
        umask: u32,
        flags: u32,
    },
    Tmpfile {
        dir: Ino,
        mode: u32,
        umask: u32,
        flags: u32,
    },
    Read {
        ino: Ino,
        handle: u64,
        offset: u64,
        len_bytes: u32,
        flags: u32,
    },
    Write {
        ino: Ino,
        handle: u64,
        offset: u64,
        data: Payload,
        flags: u32,
        kill_priv: bool,
        cached: bool,
    },
    Flush {
        ino: Ino,
        handle: u64,
        lock_owner: u64,
    },
    Release {
        ino: Ino,
        handle: u64,
        flags: u32,
        flock_owner: Option<u64>,
        lock_owner: u64,
    },
    Fsync {
        ino: Ino,
        handle: u64,
        datasync: bool,
    },
    Opendir {
        ino: Ino,
        flags: u32,
    },
    Readdir {
        ino: Ino,
        handle: u64,
        offset: u64,
        len_bytes: u32,
        plus: bool,
    },
    Releasedir {
        ino: Ino,
        handle: u64,
    },
    Fsyncdir {
        ino: Ino,
        handle: u64,
        datasync: bool,
    },
    Statfs {
        ino: Ino,
    },
    Setxattr {
        ino: Ino,
        name: Name,
        value: Box<[u8]>,
        flags: u32,
        drops_group_id: bool,
    },
    Getxattr {
        ino: Ino,
        name: Name,
        len_bytes: u32,
    },
    Listxattr {
        ino: Ino,
        len_bytes: u32,
    },
    Removexattr {
        ino: Ino,
        name: Name,
    },
    Access {
        ino: Ino,
        mask: u32,
    },
    Getlk {
        ino: Ino,
        handle: u64,
        owner: u64,
        range: LockRange,
    },
    Setlk {
        ino: Ino,
        handle: u64,
        owner: u64,
        range: LockRange,
        wait: bool,
        flock: bool,
    },
    Fallocate {
        ino: Ino,
        handle: u64,
        offset: u64,
        len_bytes: u64,
        mode: u32,
    },
    Lseek {
        ino: Ino,
        handle: u64,
        offset: u64,
        whence: u32,
    },
    CopyFileRange {
        ino: Ino,
        handle: u64,
        offset: u64,
        to: Ino,
        to_handle: u64,
        to_offset: u64,
        len_bytes: u64,
        flags: u64,
    },
    Ioctl {
        ino: Ino,
        handle: u64,
        command: u32,
        data: Box<[u8]>,
        out_bytes: u32,
    },
    /// Sent by the kernel when INIT was answered: the mount is up.
    Destroy,
}

/// A request with its envelope.
#[derive(Debug)]
pub struct Request {
    /// The kernel's number of the request; INTERRUPT names it.
    pub unique: u64,
    /// Who asks.
    pub caller: Caller,
    /// What is asked.
    pub op: Op,
}

/// A name made known to the kernel; lifetimes in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryReply {
    /// Inode; 0 makes a negative entry.
    pub ino: Ino,
    /// Its attributes.
    pub attr: Attr,
    /// How long the kernel may keep the name.
    pub entry_ttl_ns: u64,
    /// How long the kernel may keep the attributes.
    pub attr_ttl_ns: u64,
}

/// One entry of a directory reply; the transport packs as many as fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirentReply {
    /// Name.
    pub name: Name,
    /// Inode.
    pub ino: Ino,
    /// Type.
    pub kind: FileType,
    /// Offset that continues behind this entry.
    pub next_offset: u64,
    /// For readdirplus; `None` for `.` and `..` and damaged entries.
    pub plus: Option<EntryReply>,
}

/// File system figures for statfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StatfsReply {
    /// Total bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Inodes in use and free together.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
}

/// The answer to a request.
#[derive(Debug)]
#[allow(missing_docs)] // each variant answers the requests its name says
pub enum Reply {
    /// Done, nothing to say.
    Ok,
    /// No answer is sent (FORGET).
    None,
    /// Failed; a positive errno.
    Error(i32),
    Entry(EntryReply),
    /// `attr_ttl_ns` as in [`EntryReply`].
    Attr {
        ino: Ino,
        attr: Attr,
        attr_ttl_ns: u64,
    },
    Open {
        handle: u64,
        open_flags: u32,
    },
    Create {
        entry: EntryReply,
        handle: u64,
        open_flags: u32,
    },
    /// Bytes as pieces of pages, in order; the transport copies them once.
    Data(Vec<Page>),
    /// Small bytes: symlink targets, attribute values, ioctl results.
    Bytes(Box<[u8]>),
    Written(u32),
    /// Size of an attribute value that was only asked for its length.
    XattrSize(u32),
    Dirents(Vec<DirentReply>),
    Statfs(StatfsReply),
    Lock(LockRange),
    Offset(u64),
    /// Bytes copied by copy_file_range.
    Copied(u64),
    Ioctl {
        result: i32,
        data: Box<[u8]>,
    },
}
