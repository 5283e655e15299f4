//! One thing that is wrong, in words for people, and how grave it is.

use std::fmt;

use crate::meta::{Counter, Holder};
use crate::types::{FileType, Ino, Name, SliceId};

/// Findings that are told one by one; beyond, they are counted.
pub const FINDINGS_MAX: usize = 100_000;

/// What a finding means for who uses the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Something that nobody can reach takes space; nothing is at risk.
    Leftover,
    /// Derived data says what is not so; it can be made again from the rest.
    Derived,
    /// Names, attributes or bytes are lost or contradict one another.
    Damage,
}

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A record cannot be read.
    Unreadable {
        /// The engine's name of it.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name stands for an inode that is not there.
    Dangling {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: Name,
        /// The inode.
        ino: Ino,
    },
    /// A name says another type than the inode has.
    WrongKind {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: Name,
        /// The inode.
        ino: Ino,
        /// What the name says, and what the inode is.
        kinds: (FileType, FileType),
    },
    /// Names stand below an inode that is missing or no directory.
    NamesOfNoDir {
        /// The inode.
        dir: Ino,
        /// How many names.
        names: usize,
    },
    /// No name leads to an inode, and no session keeps it open.
    Orphan {
        /// The inode.
        ino: Ino,
        /// Its type.
        kind: FileType,
    },
    /// An inode counts other links than there are.
    Links {
        /// The inode.
        ino: Ino,
        /// Its type.
        kind: FileType,
        /// What it says.
        kept: u32,
        /// What there is.
        counted: u32,
    },
    /// An inode has no name in the directory that it calls its parent.
    Parent {
        /// The inode.
        ino: Ino,
        /// Its parent.
        parent: Ino,
    },
    /// A directory has more than one name.
    DirNames {
        /// The inode.
        ino: Ino,
        /// How many.
        names: u32,
    },
    /// Directories have their names in one another, and no path leads to them.
    Loop {
        /// The one of the least number.
        ino: Ino,
        /// How many they are.
        dirs: usize,
    },
    /// A rule of access control that inodes name is not there.
    MissingRule {
        /// The rule's id.
        id: u32,
        /// The first inode.
        ino: Ino,
        /// How often it is named.
        users: usize,
    },
    /// The table of parents counts other links of an inode in a directory than there are.
    ParentLinks {
        /// The inode.
        ino: Ino,
        /// The directory.
        dir: Ino,
        /// What the table says.
        kept: i64,
        /// How many names there are.
        counted: u32,
    },
    /// Statistics of a directory are not the sum of what is in it.
    DirStats {
        /// The directory.
        dir: Ino,
        /// Data length, space, inodes as they are kept, if they are.
        kept: Option<[i64; 3]>,
        /// As counted.
        counted: [i64; 3],
    },
    /// A quota counts other than what there is.
    QuotaUsage {
        /// Whose it is.
        holder: Holder,
        /// Space and inodes as they are kept.
        kept: [i64; 2],
        /// As counted.
        counted: [i64; 2],
    },
    /// A list of slices of an inode that is neither there nor being deleted.
    StrayChunk {
        /// The inode.
        ino: Ino,
        /// The chunk's index.
        index: u32,
    },
    /// A slice record that cannot be: beyond its chunk, beyond its slice, or at odds with another
    /// record about the slice's size.
    BadRecord {
        /// The inode; 0 for slices put aside.
        ino: Ino,
        /// The chunk's index.
        index: u32,
        /// The slice.
        id: SliceId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A slice is referred to more or less often than is kept.
    SliceRefs {
        /// The slice.
        id: SliceId,
        /// Its length in bytes.
        size: u32,
        /// What is kept.
        kept: i64,
        /// How many records there are, more than none.
        counted: u32,
    },
    /// A slice that no record refers to is kept as used.
    StraySlice {
        /// The slice.
        id: SliceId,
        /// What is kept.
        kept: i64,
    },
    /// A counter of the volume is wrong.
    Counter {
        /// Which.
        counter: Counter,
        /// What it says.
        kept: i64,
        /// What it should say, at least where it hands out ids.
        counted: i64,
    },
    /// An object that a file needs is not there.
    MissingObject {
        /// Its name.
        name: String,
        /// Files that need it.
        users: Vec<Ino>,
    },
    /// An object is shorter or longer than it was stored.
    ObjectLength {
        /// Its name.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// What it should be.
        wanted: u64,
        /// Files that need it.
        users: Vec<Ino>,
    },
    /// An object cannot be read or decoded.
    BadObject {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
        /// Files that need it.
        users: Vec<Ino>,
    },
}

impl Finding {
    /// What it is called, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable-record",
            Self::Dangling { .. } => "dangling-entry",
            Self::WrongKind { .. } => "wrong-type",
            Self::NamesOfNoDir { .. } => "names-of-no-directory",
            Self::Orphan { .. } => "orphan-node",
            Self::Links { .. } => "link-count",
            Self::Parent { .. } => "parent",
            Self::DirNames { .. } => "directory-names",
            Self::Loop { .. } => "directory-loop",
            Self::MissingRule { .. } => "missing-rule",
            Self::ParentLinks { .. } => "parent-links",
            Self::DirStats { .. } => "directory-statistics",
            Self::QuotaUsage { .. } => "quota-usage",
            Self::StrayChunk { .. } => "stray-chunk",
            Self::BadRecord { .. } => "slice-record",
            Self::SliceRefs { .. } => "slice-references",
            Self::StraySlice { .. } => "stray-slice",
            Self::Counter { .. } => "counter",
            Self::MissingObject { .. } => "missing-object",
            Self::ObjectLength { .. } => "object-length",
            Self::BadObject { .. } => "bad-object",
        }
    }

    /// How grave it is.
    pub fn weight(&self) -> Weight {
        match self {
            Self::StrayChunk { .. } | Self::StraySlice { .. } => Weight::Leftover,
            // Its objects are kept too long; with too low a count they would go too early.
            Self::SliceRefs { kept, counted, .. } if *kept > i64::from(*counted) => {
                Weight::Leftover
            }
            Self::Links { kind: FileType::Dir, .. }
            | Self::ParentLinks { .. }
            | Self::DirStats { .. }
            | Self::QuotaUsage { .. }
            | Self::SliceRefs { .. }
            | Self::Counter { .. } => Weight::Derived,
            _ => Weight::Damage,
        }
    }

    /// The object it is about, and who needs that.
    pub(super) fn users_mut(&mut self) -> Option<(&str, &mut Vec<Ino>)> {
        match self {
            Self::MissingObject { name, users }
            | Self::ObjectLength { name, users, .. }
            | Self::BadObject { name, users, .. } => Some((name, users)),
            _ => None,
        }
    }
}

/// What a counter is called where it is kept, and what the counted number is to it.
fn counter_words(counter: Counter) -> (&'static str, &'static str) {
    let least = matches!(counter, Counter::NextInode | Counter::NextChunk | Counter::NextTrash);
    let name = match counter {
        Counter::UsedSpace => "usedSpace",
        Counter::TotalInodes => "totalInodes",
        Counter::NextInode => "nextInode",
        Counter::NextChunk => "nextChunk",
        Counter::NextSession => "nextSession",
        Counter::NextTrash => "nextTrash",
    };
    (name, if least { "should be at least" } else { "counted" })
}

fn holder_words(holder: Holder) -> String {
    match holder {
        Holder::Dir(dir) => format!("directory {dir}"),
        Holder::User(uid) => format!("user {uid}"),
        Holder::Group(gid) => format!("group {gid}"),
    }
}

fn kind_word(kind: FileType) -> &'static str {
    match kind {
        FileType::File => "file",
        FileType::Dir => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "pipe",
        FileType::Block | FileType::Char => "device",
        FileType::Socket => "socket",
    }
}

/// Who needs an object, in parentheses.
fn used(users: &[Ino]) -> String {
    match users {
        [] => String::new(),
        [only] => format!(" (inode {only})"),
        [first, rest @ ..] => format!(" (inode {first} and {} more)", rest.len()),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { key, reason } => write!(f, "record {key} cannot be read: {reason}"),
            Self::DirStats { dir, kept: Some(kept), counted } => write!(
                f,
                "directory {dir}: statistics (length, space, inodes) are {kept:?}, counted {counted:?}"
            ),
            Self::DirStats { dir, kept: None, counted } => {
                write!(f, "directory {dir}: has no statistics, counted {counted:?}")
            }
            Self::QuotaUsage { holder, kept, counted } => {
                let holder = holder_words(*holder);
                write!(f, "the quota of {holder} says {kept:?} (space, inodes), not {counted:?}")
            }
            Self::StrayChunk { ino, index } => {
                write!(f, "chunk {index} of inode {ino} is left, the inode is gone")
            }
            Self::BadRecord { ino, index, id, reason } => {
                write!(f, "chunk {index} of inode {ino}: record of slice {id} {reason}")
            }
            Self::SliceRefs { id, kept, counted, .. } => {
                write!(f, "slice {id} counts {kept} references, there are {counted}")
            }
            Self::StraySlice { id, kept } => {
                write!(f, "slice {id} counts {kept} references, there are none")
            }
            Self::Counter { counter, kept, counted } => {
                let (name, word) = counter_words(*counter);
                write!(f, "counter {name} is {kept}, {word} {counted}")
            }
            Self::MissingObject { name, users } => {
                write!(f, "object {name} is missing{}", used(users))
            }
            Self::ObjectLength { name, found, wanted, users } => {
                write!(f, "object {name} has {found} bytes, not {wanted}{}", used(users))
            }
            Self::BadObject { name, reason, users } => {
                write!(f, "object {name} is damaged: {reason}{}", used(users))
            }
            _ => self.tell_of_names(f),
        }
    }
}

impl Finding {
    /// Those about nodes and their names.
    fn tell_of_names(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dangling { dir, name, ino } => {
                write!(
                    f,
                    "directory {dir}: {:?} stands for inode {ino}, which is missing",
                    shown(name)
                )
            }
            Self::WrongKind { dir, name, ino, kinds: (told, is) } => {
                let (told, is) = (kind_word(*told), kind_word(*is));
                write!(
                    f,
                    "directory {dir}: {:?} is called a {told}, inode {ino} is a {is}",
                    shown(name)
                )
            }
            Self::NamesOfNoDir { dir, names } => {
                write!(f, "{names} names stand below inode {dir}, which is no directory")
            }
            Self::Orphan { ino, kind } => write!(f, "{} {ino} has no name", kind_word(*kind)),
            Self::Links { ino, kind, kept, counted } => {
                write!(f, "{} {ino} counts {kept} links, there are {counted}", kind_word(*kind))
            }
            Self::Parent { ino, parent } => {
                write!(f, "inode {ino} has no name in its parent {parent}")
            }
            Self::DirNames { ino, names } => {
                write!(f, "directory {ino} has {names} names, and may have one")
            }
            Self::Loop { ino, dirs: 1 } => {
                write!(f, "directory {ino} is below itself, and no path leads to it")
            }
            Self::Loop { ino, dirs } => write!(
                f,
                "directory {ino} and {} more are below one another, and no path leads to them",
                dirs - 1
            ),
            Self::MissingRule { id, ino, users: 1 } => {
                write!(f, "inode {ino} names access control rule {id}, which is missing")
            }
            Self::MissingRule { id, ino, users } => write!(
                f,
                "inode {ino} and others, {users} times, name access control rule {id}, which is missing"
            ),
            Self::ParentLinks { ino, dir, kept, counted } => write!(
                f,
                "inode {ino}: the table of parents counts {kept} links in directory {dir}, there are {counted}"
            ),
            other => unreachable!("{} is told with the data", other.word()),
        }
    }
}

fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// Findings, as many as are told one by one, and how many more there are.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Those told.
    pub told: Vec<Finding>,
    /// How many are counted only.
    pub more: usize,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        if self.told.len() < FINDINGS_MAX {
            self.told.push(finding);
        } else {
            self.more += 1;
        }
    }
}
