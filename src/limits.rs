//! Every bound of the file system floor in one place, with the relations between them held at
//! compile time.
//!
//! Owns the numbers. What happens at a bound is told where it is met.

use crate::types::{CHUNK_BYTES, NAME_BYTES_MAX};

/// Open files and directories of a mount; one more is ENFILE.
pub const HANDLES_MAX: usize = 1 << 20;
/// Inodes of which something is remembered; those not open make room.
pub const INODES_MAX: usize = 1 << 21;
/// Inodes whose last change by this mount is remembered; beyond, all count as just changed.
pub const CHANGES_MAX: usize = 1 << 17;
/// Directories whose attributes are kept while the kernel may believe them.
pub const TOLD_MAX: usize = 1 << 14;
/// Nodes, and names, that plans may begin from without asking.
pub const SEEN_MAX: usize = 1 << 16;
/// Directories with a quota in a volume that is mounted for writing; one more and it is not.
pub const QUOTAS_MAX: usize = 1 << 20;
/// Quotas asked of an engine at a time.
pub const QUOTAS_PAGE: usize = 1000;
/// Rules of access control that are remembered; beyond, all are forgotten and asked for again.
pub const ACL_RULES_MAX: usize = 1 << 14;
/// Rules of access control asked of an engine at a time.
pub const ACL_RULES_PAGE: u32 = 1000;
/// Names held for directories being listed, all together; one more is ENOMEM.
pub const LISTED_NAMES_MAX: usize = 1 << 25;
/// Changes noted for a listing while it is being fetched; with more it is fetched again.
pub const LISTING_CHANGES_MAX: usize = 1 << 12;
/// Owners of POSIX locks of one inode in this mount; one more is ENOLCK.
pub const LOCK_OWNERS_MAX: usize = 1 << 16;
/// Interrupts remembered for requests that have not begun to wait.
pub const EARLY_INTERRUPTS_MAX: usize = 64;
/// Deleted files whose data is removed together.
pub const DELETIONS_MAX: usize = 128;
/// Deleted files that wait for that; more stay in the volume's queue.
pub const DELETIONS_WAITING_MAX: usize = 1 << 14;
/// Slices whose objects are gone, and deleted files, forgotten in one commit.
pub const FORGOTTEN_TOGETHER_MAX: usize = 512;
/// Chunks that a mount compacts at a time.
pub const COMPACTIONS_MAX: usize = 4;
/// Blocks about to be uploaded that wait until their chunk is made shorter.
pub const MERGES_MAX: usize = 2 * COMPACTIONS_MAX;
/// Pieces of blocks that a compaction holds at a time; each may keep a whole block in memory.
pub const COMPACTION_FETCHES_MAX: usize = 8;
/// Chunks whose slices, kept by an earlier mount, are brought back at a time.
pub const RECOVERIES_MAX: usize = 64;
/// Bytes of the access log that wait for one reader; further lines are left out.
pub const LOG_BYTES_MAX: usize = 2 << 20;
/// Bytes of a message to `.control`; EFBIG for a longer one.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of answers that wait for a reader of `.control`; of progress no more is told then.
pub const CONTROL_ANSWERS_BYTES_MAX: usize = 1 << 20;
/// Names, and nodes, that the kernel may keep for long because their changes are heard of; others are
/// kept for a second.
pub const WATCHED_MAX: usize = 1 << 17;
/// Directories whose listing the kernel may keep because its changes are heard of; of others it keeps none.
pub const WATCHED_LISTINGS_MAX: usize = 1 << 14;
/// Of the names, those of one directory.
pub const WATCHED_NAMES_OF_DIR_MAX: usize = 1 << 12;
/// Of the names, those that an engine is asked about at a time.
pub const WATCHED_NAMES_TOGETHER: usize = 1 << 9;
/// What the kernel must forget and has not heard yet; who has more to tell waits.
pub const NOTICES_MAX: usize = 1 << 12;
/// Warm-ups that go on without anybody waiting; one more keeps its caller waiting.
pub const BACKGROUND_FILLS_MAX: usize = 4;
/// Rows of metadata, and names of objects, that a check of a volume asks for at a time.
pub const CHECK_PAGE: usize = 4096;
/// Objects that a check of a volume reads at a time, each whole.
pub const CHECK_READS_MAX: usize = 16;
/// Files below a folder whose data is looked at, or waited for, at a time.
pub const LEVEL_FILES_MAX: usize = 64;
/// Files that wait to be published and are looked at at a time.
pub const UNPUBLISHED_LOOKS_MAX: usize = 1 << 12;
/// Names of a directory that a dump asks for at a time, with all that belongs to them.
pub const DUMP_BATCH: usize = 64;
/// Names that a dump has in memory: those of all directories on one path. With more there is none.
pub const DUMP_NAMES_MAX: usize = 1 << 22;
/// Rows of one table that a dump has in memory, such as files that are open or deleted. With more there is none.
pub const DUMP_ROWS_MAX: usize = 1 << 22;
/// Chunks of a file of which a dump asks for the lists at a time.
pub const DUMP_CHUNKS: usize = 1 << 12;
/// Bytes of a backup of metadata, compressed: it is in memory whole until it is stored. A small file
/// takes 12 to 100 of them, so that five million fit; a longer one is not made, and the log says so.
pub const BACKUP_BYTES_MAX: usize = 512 << 20;
/// Longest name of an extended attribute in bytes.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Largest value of an extended attribute in bytes.
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;
/// A symlink's target is shorter than this, in bytes.
pub const SYMLINK_BYTES_END: usize = 4096;
/// Bytes copied by one copy_file_range; the caller goes on from there.
pub const COPY_BYTES_MAX: u64 = (1 << 32) - CHUNK_BYTES;
/// Directories that are climbed before a directory moves to another one; ELOOP for one that lies
/// deeper.
pub const ANCESTORS_MAX: usize = 1 << 12;
/// Commits in one call of Redis's commit script: longer scripts keep others waiting.
pub const REDIS_BATCH_COMMITS_MAX: usize = 512;
/// Bytes of commits in one such call, unless a single commit has more.
pub const REDIS_BATCH_BYTES_MAX: usize = 256 << 10;
/// Commits of a core that wait for Redis; one more waits for a place.
pub const REDIS_COMMITS_WAITING_MAX: usize = 1 << 12;
/// Questions of a core that wait for Redis; one more waits for a place.
pub const REDIS_REQUESTS_MAX: usize = 1 << 12;
/// Names of a directory, and attributes, asked of Redis at a time.
pub const REDIS_LIST_PAGE: usize = 4096;
/// Chunks that one call tries one by one for a list.
pub const REDIS_CHUNKS_TRIED_MAX: usize = 1 << 14;
/// Nodes of a Redis Cluster that are remembered, to be asked when the one in use is gone.
pub const REDIS_NODES_MAX: usize = 64;
/// Requests over HTTP in work, all cores together; one more waits for its turn.
pub const NET_REQUESTS_MAX: usize = 1 << 10;
/// Names of one folder of an object store that a listing holds, where the store lists in no order.
#[cfg(feature = "object-extra")]
pub const FOLDER_NAMES_MAX: usize = 1 << 14;
/// Connections to one bucket that are kept open without use.
pub const STORE_CONNECTIONS_IDLE_MAX: usize = 64;
/// Bytes of an encrypted object; a longer one is no block.
pub const SEALED_BYTES_MAX: usize = 18 << 20;
/// Requests to one bucket at a time; the bucket's own words make it fewer.
pub const BUCKET_REQUESTS_MAX: usize = 256;
/// Longest block that goes into the log of the staging area; longer ones are files.
pub const STAGING_LOG_BLOCK_BYTES_MAX: u32 = 128 << 10;
/// Records of a segment of the staging log; one more begins the next. Their headers are in memory until
/// the segment is full: 64 bytes each.
pub const LOG_SEGMENT_RECORDS_MAX: usize = 1 << 16;
/// Segments of the log that are kept open for reading; others are opened for each read.
pub const LOG_FILES_MAX: usize = 64;
/// Notes that the log keeps; one more is an error.
pub const LOG_NOTES_MAX: usize = 1 << 20;
/// Bytes of a segment of that log.
pub const STAGING_SEGMENT_BYTES: u32 = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// Files that wait for a thread to write them; one more goes to the store directly.
pub const STAGING_WRITES_MAX: usize = 1 << 10;
/// Staged files brought to the disk at a time.
pub const STAGING_SYNCS_MAX: usize = 16;
/// Failed uploads that are told one by one; more are counted.
pub const STAGING_FAILURES_TOLD: usize = 100;

// Every open file needs a record of its inode, and room must be found among those not open.
const _: () = assert!(INODES_MAX >= 2 * HANDLES_MAX);
// The reply to a copy counts in 32 bits.
const _: () = assert!(COPY_BYTES_MAX <= u32::MAX as u64);
// What waits for its deletion is more than what is being deleted, or the queue would run dry.
const _: () = assert!(DELETIONS_WAITING_MAX > DELETIONS_MAX);
// A name of an attribute is a name.
const _: () = assert!(XATTR_NAME_BYTES_MAX <= NAME_BYTES_MAX);
// Names of one directory lie in one of 16 parts of the table, which holds several such directories.
const _: () = assert!(WATCHED_MAX >= 2 * 16 * WATCHED_NAMES_OF_DIR_MAX);
// Changes noted for one listing are few beside what a listing may hold.
const _: () = assert!(LISTING_CHANGES_MAX < LISTED_NAMES_MAX);
// A full batch leaves commits waiting for the next one.
const _: () = assert!(REDIS_COMMITS_WAITING_MAX >= 2 * REDIS_BATCH_COMMITS_MAX);
// One bucket does not take all places of the network.
const _: () = assert!(NET_REQUESTS_MAX >= 2 * BUCKET_REQUESTS_MAX);
// A segment of the staging area's log holds several of its longest blocks.
const _: () = assert!(STAGING_SEGMENT_BYTES >= 4 * STAGING_LOG_BLOCK_BYTES_MAX);
