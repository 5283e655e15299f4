//! What a check of a whole volume reads: tables as pages of typed rows.
//!
//! Owns the words only; engines fill them (`meta::engine`), and nothing of it writes. Does not own
//! what rows must say of one another (`check`). A page holds about as many rows as were asked for,
//! so that memory does not grow with the volume; a row may come twice while others write.

use super::txn::{Delayed, Holder, Quota};
use crate::types::{Attr, Ino, SliceId, SliceRecord};

/// A kind of rows. The names of one directory are [`super::Engine::list`]'s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Table {
    /// All nodes.
    Nodes,
    /// Directories that have names, whether or not there is a node of that number.
    Dirs,
    /// Lists of slices.
    Chunks,
    /// Counts of references that are kept; see [`super::Engine::unkept_slice_ref`].
    SliceRefs,
    /// Parents of hard-linked inodes, where the engine keeps them apart from names (not SQL).
    Parents,
    /// Statistics of directories.
    DirStats,
    /// Quotas of directories.
    DirQuotas,
    /// Quotas of users.
    UserQuotas,
    /// Quotas of groups.
    GroupQuotas,
    /// Unlinked inodes that sessions keep open.
    Sustained,
    /// Deleted files whose data waits.
    Queued,
    /// Replaced slices that are put aside.
    Delayed,
}

/// One row of the [`Table`] of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// A node.
    Node(Ino, Attr),
    /// A directory that has names.
    Dir(Ino),
    /// A chunk's list, oldest record first.
    Chunk(Ino, u32, Vec<SliceRecord>),
    /// Id and size of a slice, and how many list records are said to refer to it.
    SliceRef(SliceId, u32, i64),
    /// An inode, a directory and the number of links it has there.
    Parent(Ino, Ino, i64),
    /// A directory's data length, space in bytes, and inodes.
    DirStats(Ino, [i64; 3]),
    /// A quota, for any of its tables.
    Quota(Holder, Quota),
    /// A session and an inode.
    Sustained(u64, Ino),
    /// An inode, its length in bytes when it was deleted, and when that was, in unix seconds.
    Queued(Ino, u64, i64),
    /// Slices and what replaced them.
    Delayed(Delayed),
    /// A record of the table that cannot be read.
    Damaged {
        /// The engine's name of the record.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Some rows, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The rows, in no promised order.
    pub rows: Vec<Row>,
    /// What to ask on with; `None` after the last page.
    pub next: Option<u64>,
}
