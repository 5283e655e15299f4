//! What a mount decides about the file system's behaviour, with JuiceFS's defaults.

use std::sync::Arc;

use crate::meta::Atime;
use crate::types::{Ino, Publish};

const SECOND_NS: u64 = 1_000_000_000;

/// Settings of one mount; times in nanoseconds.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// How long the kernel keeps attributes (`--attr-cache`).
    pub attr_ttl_ns: u64,
    /// How long it keeps names of non-directories (`--entry-cache`).
    pub entry_ttl_ns: u64,
    /// How long it keeps names of directories (`--dir-entry-cache`).
    pub dir_entry_ttl_ns: u64,
    /// How long it keeps that a name is absent (`--negative-entry-cache`); 0 does not.
    pub negative_ttl_ns: u64,
    /// How long attributes of an inode that was opened are believed without asking
    /// (`--open-cache`); 0 always asks.
    pub open_cache_ns: u64,
    /// The kernel may keep listings (`--readdir-cache`).
    pub readdir_cache: bool,
    /// Changes of other clients are listened to, and what they changed is not kept (`--watch`).
    pub watch: bool,
    /// When reading moves access times (`--atime-mode`); `None` never.
    pub atime: Option<Atime>,
    /// Extended attributes (`--enable-xattr`).
    pub xattr: bool,
    /// `security.capability` among them (`--enable-cap`).
    pub capability: bool,
    /// `security.selinux` among them (`--enable-selinux`).
    pub selinux: bool,
    /// Access control lists, a setting of the volume; they want `xattr`.
    pub acl: bool,
    /// The inode flags of chattr(1) (`--enable-ioctl`).
    pub ioctl: bool,
    /// What is written is kept on this machine first (`--writeback`).
    pub writeback: bool,
    /// When others may see what is written so (`--publish`).
    pub publish: Publish,
    /// Nothing may be changed.
    pub read_only: bool,
    /// `.trash` stands in the listing of the root.
    pub list_trash: bool,
    /// So do `.accesslog`, `.stats` and `.config` (not with `--hide-internal`).
    pub list_internal: bool,
    /// The inode shown as 1 (`--subdir`).
    pub root: Ino,
    /// Name of the volume.
    pub volume: Arc<str>,
    /// The text of `.config`.
    pub shown: Arc<str>,
}

impl Default for VfsConfig {
    fn default() -> Self {
        Self {
            attr_ttl_ns: SECOND_NS,
            entry_ttl_ns: SECOND_NS,
            dir_entry_ttl_ns: SECOND_NS,
            negative_ttl_ns: 0,
            open_cache_ns: 0,
            readdir_cache: false,
            watch: false,
            atime: None,
            xattr: false,
            capability: false,
            selinux: false,
            acl: false,
            ioctl: false,
            writeback: false,
            publish: Publish::Local,
            read_only: false,
            list_trash: true,
            list_internal: true,
            root: Ino::ROOT,
            volume: Arc::default(),
            shown: Arc::default(),
        }
    }
}
