//! The language between plans and engines: what is read, what is expected, what changes.
//!
//! Owns plain data only; every engine gives it the same meaning (`meta::conformance`).
//! Does not own any rule of POSIX (`meta::plan`) nor any engine's bytes (`meta::record`).

use super::acl::Rule;
use crate::types::{Attr, FileType, Ino, Name, SliceId, SliceRecord, Time};

/// The volume-wide counters, by JuiceFS's logical name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Counter {
    /// Bytes charged, all nodes but the root.
    UsedSpace,
    /// Nodes, all but the root.
    TotalInodes,
    /// Last inode id handed out (engines translate their own convention).
    NextInode,
    /// Last slice id handed out.
    NextChunk,
    /// Last session id handed out.
    NextSession,
    /// Last number of an hourly trash folder.
    NextTrash,
}

/// One thing a plan wants to know.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// The attributes of an inode.
    Node(Ino),
    /// What a name in a directory stands for.
    Entry(Ino, Name),
    /// What a name stands for, with the attributes of the child: one round trip.
    EntryNode(Ino, Name),
    /// Number of names in a directory.
    DirLen(Ino),
    /// The slice records of a chunk, oldest first.
    Chunk(Ino, u32),
    /// Indexes of the chunks that have a list, ascending: all those from the first number on that
    /// are below the second. Engines that tell them without a search add those outside (all but
    /// Redis).
    Chunks(Ino, u32, u32),
    /// How many list records refer to a slice of this id and size.
    SliceRef(SliceId, u32),
    /// Target of a symlink.
    Symlink(Ino),
    /// Value of one extended attribute.
    Xattr(Ino, Name),
    /// Names of all extended attributes.
    XattrNames(Ino),
    /// Parents of a hard-linked inode with the number of links in each.
    Parents(Ino),
    /// A counter.
    Counter(Counter),
    /// All holders of BSD locks of an inode.
    Flocks(Ino),
    /// All holders of POSIX locks of an inode.
    Plocks(Ino),
    /// The rule of access control that has this id.
    Acl(u32),
    /// A quota.
    Quota(Holder),
}

/// The answer to a [`Key`], of the same name. Absent things are `None`, empty or zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// For `Node`.
    Node(Option<Attr>),
    /// For `Entry`.
    Entry(Option<(FileType, Ino)>),
    /// For `EntryNode`; the attributes may be missing in a damaged volume.
    EntryNode(Option<(FileType, Ino, Option<Attr>)>),
    /// For `DirLen`.
    DirLen(u64),
    /// For `Chunk`.
    Chunk(Vec<SliceRecord>),
    /// For `Chunks`.
    Chunks(Vec<u32>),
    /// For `SliceRef`; meaningful while the slice has a count: after a record was pushed or dropped.
    SliceRef(i64),
    /// For `Symlink`.
    Symlink(Option<Name>),
    /// For `Xattr`.
    Xattr(Option<Box<[u8]>>),
    /// For `XattrNames`.
    XattrNames(Vec<Name>),
    /// For `Parents`.
    Parents(Vec<(Ino, i64)>),
    /// For `Counter`.
    Counter(i64),
    /// For `Flocks`.
    Flocks(Vec<Flock>),
    /// For `Plocks`.
    Plocks(Vec<Plock>),
    /// For `Acl`.
    Acl(Option<Rule>),
    /// For `Quota`.
    Quota(Option<Quota>),
}

/// Who holds a lock: a session and the kernel's owner number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct LockOwner {
    /// Session id of the client.
    pub sid: u64,
    /// Owner as the kernel names it.
    pub owner: u64,
}

/// One holder of a BSD lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flock {
    /// Holder.
    pub owner: LockOwner,
    /// Exclusive (`W`) rather than shared (`R`).
    pub exclusive: bool,
}

/// One holder of POSIX locks: its packed 24-byte records, see `meta::record`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plock {
    /// Holder.
    pub owner: LockOwner,
    /// Packed records, sorted by start, as JuiceFS stores them.
    pub records: Box<[u8]>,
}

/// What a quota holds for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Holder {
    /// All names below a directory, without itself; of a file with several names each.
    Dir(Ino),
    /// Files and directories that a user owns, one with several names once.
    User(u32),
    /// Files and directories of a group, likewise.
    Group(u32),
}

/// The limits of a quota, and what it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Limit in bytes; none where it is not above zero.
    pub max_space: i64,
    /// Limit in inodes; none where it is not above zero.
    pub max_inodes: i64,
    /// Bytes charged.
    pub used_space: i64,
    /// Names, or nodes.
    pub used_inodes: i64,
}

/// What a user or group has that nobody limits.
pub(super) const UNLIMITED: Quota =
    Quota { max_space: -1, max_inodes: -1, used_space: 0, used_inodes: 0 };

impl Quota {
    /// Whether so many bytes and inodes more stay inside it; what does not add is always inside.
    pub fn takes(&self, space: i64, inodes: i64) -> bool {
        let fits = |used: i64, more: i64, max: i64| {
            max <= 0 || more <= 0 || used.saturating_add(more) <= max
        };
        fits(self.used_space, space, self.max_space)
            && fits(self.used_inodes, inodes, self.max_inodes)
    }
}

/// A field of a node that a plan relied on, with the value it saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeField {
    /// Inode flags.
    Flags(u8),
    /// Type and permission bits.
    Mode(FileType, u16),
    /// Owner.
    Uid(u32),
    /// Group.
    Gid(u32),
    /// Link count.
    Nlink(u32),
    /// Length in bytes.
    Length(u64),
    /// Parent inode.
    Parent(Ino),
    /// Access and default ACL ids.
    Acl(u32, u32),
    /// Storage tier.
    Tier(u8),
}

/// Slices that a compaction replaced, put aside for as long as the trash keeps things.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Delayed {
    /// The slice that stands for them.
    pub by: SliceId,
    /// When, in unix seconds.
    pub at: i64,
    /// The replaced ones with their sizes, one for each list record that named them.
    pub slices: Vec<(SliceId, u32)>,
}

/// What must still hold when a commit is applied. All are checked before any mutation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// The name is free.
    EntryAbsent(Ino, Name),
    /// The name stands for exactly this.
    EntryIs(Ino, Name, FileType, Ino),
    /// The inode exists and has this type.
    Node(Ino, FileType),
    /// The inode exists and these fields are as seen.
    NodeFields(Ino, Vec<NodeField>),
    /// The directory has no names.
    DirEmpty(Ino),
    /// The chunk's list still begins with these records (used by compaction and copies).
    ChunkPrefix(Ino, u32, Vec<SliceRecord>),
    /// These replaced slices still wait, as they were put aside.
    Delayed(Delayed),
    /// The extended attribute is absent, or has exactly this value.
    XattrIs(Ino, Name, Option<Box<[u8]>>),
    /// The holders of BSD locks are exactly these.
    FlocksAre(Ino, Vec<Flock>),
    /// The holders of POSIX locks are exactly these.
    PlocksAre(Ino, Vec<Plock>),
    /// Adding this many bytes and inodes stays inside the volume's limits (0: unlimited).
    Room {
        /// Bytes to be added.
        space: i64,
        /// Inodes to be added.
        inodes: i64,
        /// Limit of the volume in bytes, 0 for none.
        capacity: u64,
        /// Limit of the volume in inodes, 0 for none.
        inode_limit: u64,
    },
    /// The directories that name a hard-linked inode are exactly these, with the number of its
    /// names in each.
    ParentsAre(Ino, Vec<(Ino, i64)>),
    /// Adding this many bytes and inodes stays inside the quota, if there is one.
    QuotaRoom(Holder, i64, i64),
}

/// Attributes that move without a condition: sums, and the later of two times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    /// Added to the link count.
    pub nlink: i32,
    /// mtime becomes the later of stored and this; that of a file moves by 1 ns where this is earlier.
    pub mtime: Option<Time>,
    /// ctime becomes the later of stored and this.
    pub ctime: Option<Time>,
    /// atime becomes the later of stored and this.
    pub atime: Option<Time>,
    /// Length becomes the larger of stored and this; usedSpace follows the difference, and so do
    /// the statistics of directories as [`Mutation::CountGrowth`] moves them.
    pub length_at_least: Option<u64>,
    /// Times are touched only if the stored mtime is at least this much older (ns), or nlink moves;
    /// with 0 always.
    pub skip_if_younger_ns: u64,
}

/// New values for attributes, guarded by an expectation of the same fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetNode {
    /// New inode flags.
    pub flags: Option<u8>,
    /// New permission bits.
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length; the plan moves usedSpace itself.
    pub length: Option<u64>,
    /// New parent.
    pub parent: Option<Ino>,
    /// New link count.
    pub nlink: Option<u32>,
    /// New access time.
    pub atime: Option<Time>,
    /// New modification time.
    pub mtime: Option<Time>,
    /// New change time.
    pub ctime: Option<Time>,
    /// New ACL ids.
    pub acl: Option<(u32, u32)>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Write a whole new node.
    PutNode(Ino, Attr),
    /// Remove a node.
    DelNode(Ino),
    /// Commutative change of a node; nothing happens if it is gone.
    Patch(Ino, Patch),
    /// Guarded change of a node.
    Set(Ino, SetNode),
    /// Write a directory entry.
    PutEntry(Ino, Name, FileType, Ino),
    /// Remove a directory entry.
    DelEntry(Ino, Name),
    /// Write a symlink's target.
    PutSymlink(Ino, Name),
    /// Remove a symlink's target.
    DelSymlink(Ino),
    /// Append records to a chunk's list; a new slice with id > 0 gains its first reference.
    PushSlices(Ino, u32, Vec<SliceRecord>),
    /// Append hole records only if the chunk has a list (JuiceFS's RPUSHX).
    PushHolesIfListed(Ino, u32, Vec<SliceRecord>),
    /// Append records that share existing slices: each id > 0 gains one reference.
    ShareSlices(Ino, u32, Vec<SliceRecord>),
    /// Replace the first records of a chunk's list by these (compaction); counts of references
    /// are the plan's.
    ReplacePrefix(Ino, u32, u32, Vec<SliceRecord>),
    /// A new slice gains its first reference, by a record that `ReplacePrefix` puts into a list.
    /// `PushSlices` brings it along for its own records.
    CountSlice(SliceId, u32),
    /// Remove a chunk's list.
    DelChunk(Ino, u32),
    /// Move a slice's reference count (count of list records) by n.
    AddSliceRef(SliceId, u32, i64),
    /// Forget a slice's reference count: its objects are gone.
    ForgetSlice(SliceId, u32),
    /// Put replaced slices aside; each keeps the references that were its own.
    PutDelayed(Delayed),
    /// They wait no longer: the plan takes their references away.
    DelDelayed(Delayed),
    /// Move a counter.
    Add(Counter, i64),
    /// Move the number of links a hard-linked inode has in a directory.
    AddParent(Ino, Ino, i64),
    /// Forget all parents of an inode.
    DelParents(Ino),
    /// Write an extended attribute.
    PutXattr(Ino, Name, Box<[u8]>),
    /// Remove an extended attribute.
    DelXattr(Ino, Name),
    /// Remove all extended attributes of an inode.
    DelXattrs(Ino),
    /// Queue a deleted file's data for removal: length in bytes, unix seconds.
    QueueFile(Ino, u64, i64),
    /// Take a deleted file off the queue.
    UnqueueFile(Ino, u64),
    /// Note that a session keeps an unlinked inode open.
    PutSustained(u64, Ino),
    /// Forget that.
    DelSustained(u64, Ino),
    /// Start a directory's statistics at zero.
    InitDirStats(Ino),
    /// Move a directory's statistics, if it has any: data length, space, inodes.
    AddDirStats(Ino, i64, i64, i64),
    /// The length and the space of a file have moved by so much: the statistics of each directory
    /// that names it follow, once for each name there. A file without a name moves none.
    CountGrowth(Ino, i64, i64),
    /// Forget a directory's statistics and quota.
    DelDirStats(Ino),
    /// Move what a quota counts: space, inodes. Of a directory that has none nothing is counted; a
    /// user or group that has none gets one without limits.
    AddQuota(Holder, i64, i64),
    /// Set a quota, as `juicefs quota set` does; nothing that a mount is asked for does.
    PutQuota(Holder, Quota),
    /// Write (`Some`) or drop (`None`) one holder of a BSD lock.
    SetFlock(Ino, LockOwner, Option<bool>),
    /// Write or drop one holder's POSIX lock records.
    SetPlock(Ino, LockOwner, Option<Box<[u8]>>),
}

/// A decided operation: conditions, then changes; all or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Commit {
    /// Checked first, in order.
    pub expects: Vec<Expect>,
    /// Applied in order when all hold.
    pub mutations: Vec<Mutation>,
    /// Nodes whose attributes, as they are after the commit, the caller wants back.
    pub returns: Vec<Ino>,
}

/// What became of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied; the attributes asked for in `returns`, in order.
    Applied(Vec<Option<Attr>>),
    /// Nothing was written: the expectation of this index does not hold.
    /// The planner fetches what it relied on again and plans anew.
    Conflict(usize),
}
