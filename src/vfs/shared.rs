//! The closed list of what the cores of a mount share of its file system.
//!
//! Owns nothing but the list. Every lock behind it is short: nothing waits while holding one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::changes::Changes;
use super::dir::Listings;
use super::handle::Handles;
use super::inode::Inodes;
use super::interrupt::Interrupts;
use super::told::Told;
use crate::limits::DELETIONS_MAX;
use crate::stdx::Permits;

/// One per mount.
pub struct VfsShared {
    pub(super) handles: Handles,
    pub(super) inodes: Inodes,
    pub(super) changes: Changes,
    pub(super) told: Told,
    pub(super) listings: Listings,
    pub(super) interrupts: Interrupts,
    /// Deleted files whose data is removed at a time.
    pub(super) deletions: Arc<Permits>,
    /// Deleted files that wait for that, or are at it.
    pub(super) deletions_begun: AtomicUsize,
    /// The mount ends: what waits stays in the volume's queue.
    pub(super) ending: AtomicBool,
}

impl VfsShared {
    /// For one mount.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            handles: Handles::default(),
            inodes: Inodes::default(),
            changes: Changes::default(),
            told: Told::default(),
            listings: Listings::default(),
            interrupts: Interrupts::default(),
            deletions: Permits::new(DELETIONS_MAX),
            deletions_begun: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        })
    }
}
