//! POSIX: handles, inode table, directories, locks, attributes.
//!
//! Does not know transports or wire layouts; speaks `op` upward, plans and engines downward.

pub mod op;
