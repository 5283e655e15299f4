//! The closed list of what the cores of a mount share of its file system.
//!
//! Owns nothing but the list. Every lock behind it is short: nothing waits while holding one.

use std::sync::Arc;

use super::changes::Changes;
use super::dir::Listings;
use super::doomed::Doomed;
use super::handle::Handles;
use super::inode::Inodes;
use super::internal::AccessLog;
use super::interrupt::Interrupts;
use super::notices::Notices;
use super::span::Counts;
use super::told::Told;
use super::unpublished::Unpublished;
use super::watched::Watched;
use crate::limits::BACKGROUND_FILLS_MAX;
use crate::metrics::{LastDone, Sheets};
use crate::stdx::{Permits, monotonic_ns, now};
use crate::types::Time;

/// One per mount.
pub struct VfsShared {
    pub(super) handles: Handles,
    pub(super) inodes: Inodes,
    pub(super) changes: Changes,
    pub(super) told: Told,
    pub(super) watched: Watched,
    pub(super) listings: Listings,
    pub(super) interrupts: Interrupts,
    pub(super) doomed: Doomed,
    pub(super) unpublished: Unpublished,
    pub(super) access_log: AccessLog,
    /// What the kernel must forget; told by a thread of the transport.
    pub notices: Notices,
    /// Warm-ups that nobody waits for.
    pub(super) background_fills: Arc<Permits>,
    pub(super) counts: Sheets<Counts>,
    /// Of metadata, by this mount.
    pub last_backup: Arc<LastDone>,
    /// When the mount began.
    pub(super) began: Time,
    /// The same on the monotonic clock.
    pub(super) began_ns: u64,
}

impl VfsShared {
    /// For one mount.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            handles: Handles::default(),
            inodes: Inodes::default(),
            changes: Changes::default(),
            told: Told::default(),
            watched: Watched::default(),
            listings: Listings::default(),
            interrupts: Interrupts::default(),
            doomed: Doomed::default(),
            unpublished: Unpublished::default(),
            access_log: AccessLog::default(),
            notices: Notices::default(),
            background_fills: Permits::new(BACKGROUND_FILLS_MAX),
            counts: Sheets::default(),
            last_backup: Arc::default(),
            began: now(),
            began_ns: monotonic_ns(),
        })
    }
}
