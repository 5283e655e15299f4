//! The words every floor shares: inode, slice, name, attribute, file type.
//!
//! Owns the in-memory shapes and JuiceFS's numbers for them. Does not own their
//! bytes in an engine (`meta::record`) nor on the FUSE wire (`fuse::abi`).

use std::fmt;

/// Bytes in a chunk, the unit under which slices are listed: 64 MiB.
pub const CHUNK_BYTES: u64 = 1 << 26;
/// First file offset that no file may reach (JuiceFS answers EFBIG): 2^57 bytes.
pub const FILE_BYTES_END: u64 = CHUNK_BYTES << 31;
/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// An inode number as JuiceFS counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the volume.
    pub const ROOT: Self = Self(1);
    /// The root of the trash; every number from here on is in the trash.
    pub const TRASH: Self = Self(0x7FFF_FFFF_1000_0000);
    /// The first number kept for files that exist only in a mount (`.stats` ...).
    pub const VIRTUAL: Self = Self(0x7FFF_FFFF_0000_0000);

    /// Whether this is the trash root or one of its hourly folders.
    pub fn is_trash(self) -> bool {
        self >= Self::TRASH
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far written bytes have come; each level holds what those below it hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Level {
    /// In the memory of the mount.
    Accepted,
    /// With the kernel: they survive a crash of the mount.
    Logged,
    /// On this machine's disk: they survive a loss of power.
    Local,
    /// In the object store.
    Uploaded,
    /// In the object store, and named by metadata.
    Committed,
}

impl Level {
    /// All, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::Logged, Self::Local, Self::Uploaded, Self::Committed];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Logged => "logged",
            Self::Local => "local",
            Self::Uploaded => "uploaded",
            Self::Committed => "committed",
        }
    }
}

/// When other clients may see what was written with `--writeback`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Publish {
    /// As soon as it is kept on this machine, as JuiceFS does; they cannot read it before its upload.
    #[default]
    Local,
    /// When it is in the object store.
    Uploaded,
}

/// The id of a slice; 0 is a hole.
pub type SliceId = u64;

/// A file name, symlink target or attribute name: bytes, not text.
pub type Name = Box<[u8]>;

/// The seven file types with JuiceFS's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    File = 1,
    /// A directory.
    Dir = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A block device.
    Block = 5,
    /// A character device.
    Char = 6,
    /// A socket.
    Socket = 7,
}

impl FileType {
    /// The type for JuiceFS's number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::File,
            2 => Self::Dir,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::Block,
            6 => Self::Char,
            7 => Self::Socket,
            _ => return None,
        })
    }

    /// The `S_IFMT` bits of `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Dir => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Block => libc::S_IFBLK,
            Self::Char => libc::S_IFCHR,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// The type named by the `S_IFMT` bits of a mode; no bits means a regular file.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            0 | libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Dir,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFBLK => Self::Block,
            libc::S_IFCHR => Self::Char,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time as JuiceFS stores it: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Time {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds, below 10^9.
    pub nsec: u32,
}

/// Inode flags (`chattr`): the file cannot change.
pub const FLAG_IMMUTABLE: u8 = 1;
/// Inode flags: the file can only grow at its end.
pub const FLAG_APPEND: u8 = 2;
/// Inode flags: a deletion does not go to the trash.
pub const FLAG_SKIP_TRASH: u8 = 32;

/// The attributes of one inode, all that its record holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// JuiceFS inode flags, see `FLAG_*`.
    pub flags: u8,
    /// File type.
    pub kind: FileType,
    /// Permission bits, 07777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of attributes.
    pub ctime: Time,
    /// Hard links; directories start at 2.
    pub nlink: u32,
    /// Length in bytes; 4096 for directories, target length for symlinks.
    pub length: u64,
    /// Device number.
    pub rdev: u32,
    /// Parent inode; 0 means hard-linked, see the parents table.
    pub parent: Ino,
    /// Id of the access ACL, 0 for none.
    pub access_acl: u32,
    /// Id of the default ACL, 0 for none.
    pub default_acl: u32,
    /// Storage tier.
    pub tier: u8,
}

impl Attr {
    /// A node below the root as it is when nothing has happened to it: owned by root, one link,
    /// no bytes; two links and 4096 bytes for a directory.
    pub fn new(kind: FileType, mode: u16, time: Time) -> Self {
        let (nlink, length) = if kind == FileType::Dir { (2, 4096) } else { (1, 0) };
        Self {
            flags: 0,
            kind,
            mode,
            uid: 0,
            gid: 0,
            atime: time,
            mtime: time,
            ctime: time,
            nlink,
            length,
            rdev: 0,
            parent: Ino::ROOT,
            access_acl: 0,
            default_acl: 0,
            tier: 0,
        }
    }
}

/// One record of a chunk's list: a visible piece of a slice at a place in the chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SliceRecord {
    /// Byte offset in the chunk.
    pub pos: u32,
    /// Slice id, 0 for a hole.
    pub id: SliceId,
    /// Length in bytes of the whole slice, which decides object names.
    pub size: u32,
    /// First visible byte of the slice.
    pub off: u32,
    /// Visible bytes.
    pub len: u32,
}

/// What the statistics of a directory count for one child: data length, space, inodes.
pub fn child_stats(kind: FileType, length: u64) -> [i64; 3] {
    let data = if kind == FileType::File { length as i64 } else { 0 };
    [data, charged_bytes(kind, length), 1]
}

/// Space a file of `length` bytes is charged for: whole 4 KiB, at least one.
pub fn charged_bytes(kind: FileType, length: u64) -> i64 {
    let length = if kind == FileType::File { length } else { 0 };
    length.max(1).next_multiple_of(4096) as i64
}
