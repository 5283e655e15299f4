//! POSIX: handles, inode table, directories, locks, attributes.
//!
//! Does not know transports or wire layouts; speaks `op` upward, plans and engines downward.

mod acl;
mod atime;
mod attr;
mod changes;
mod config;
mod content;
mod dir;
mod dispatch;
mod doomed;
mod error;
mod expiry;
mod file;
mod handle;
mod inode;
mod internal;
mod interrupt;
mod ioctl;
mod lock;
mod method;
mod names;
mod notices;
pub mod op;
mod ranges;
mod removal;
mod shared;
mod span;
mod state;
mod statfs;
mod told;
mod turns;
mod unpublished;
mod watch;
mod watched;
mod xattr;

pub use config::VfsConfig;
pub use dispatch::Vfs;
pub use internal::{Inquiry, Question, info_of};
pub use notices::{Notice, Notices};
pub use shared::VfsShared;
