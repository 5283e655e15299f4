//! What the kernel is told: how long to keep what it heard, and which pages it may use.

use std::time::Duration;

use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply};

use crate::world::*;

const DIRECT_IO: u32 = 1;

#[test]
fn lifetimes_are_those_of_the_mount() {
    let config = VfsConfig {
        attr_ttl_ns: 1 << 40,
        entry_ttl_ns: 1 << 41,
        dir_entry_ttl_ns: 1 << 42,
        ..VfsConfig::default()
    };
    with_config(config, |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"x").await;
        m.mkdir(Ino::ROOT, b"d").await;
        let file = m.lookup(Ino::ROOT, b"f").await;
        assert_eq!((file.entry_ttl_ns, file.attr_ttl_ns), (1 << 41, 1 << 40));
        assert_eq!(m.lookup(Ino::ROOT, b"d").await.entry_ttl_ns, 1 << 42);
        let Reply::Attr { attr_ttl_ns, .. } = m.ask(Op::Getattr { ino, handle: None }).await else {
            panic!("getattr")
        };
        assert_eq!(attr_ttl_ns, 1 << 40);
        m.absent(Ino::ROOT, b"nothing").await;
    });
}

#[test]
fn what_a_mount_changed_itself_it_sees_at_once() {
    let config = VfsConfig { attr_ttl_ns: 1 << 40, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        assert_eq!(m.attr(dir).await.nlink, 2);
        m.mkdir(dir, b"inside").await;
        assert_eq!(m.attr(dir).await.nlink, 3);
        let (ino, handle) = m.create(dir, b"f").await;
        m.write(ino, handle, 0, b"123").await;
        assert_eq!(m.lookup(dir, b"f").await.attr.length, 3);
        m.close(ino, handle).await;
    });
}

#[test]
fn a_directory_may_be_believed_for_as_long_as_the_kernel_may() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let config = VfsConfig { attr_ttl_ns: 20_000_000, ..VfsConfig::default() };
        let (a, b) = (volume.mount(config).await, volume.mount(VfsConfig::default()).await);
        let dir = a.mkdir(Ino::ROOT, b"d").await;
        assert_eq!(a.attr(dir).await.nlink, 2);
        b.mkdir(dir, b"of another client").await;
        uring::sleep(Duration::from_millis(25)).await;
        assert_eq!(a.attr(dir).await.nlink, 3);
    });
}

#[test]
fn direct_handles_go_past_the_kernels_pages() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"0123456789").await;
        let (handle, flags) = m.open(ino, RDWR | libc::O_DIRECT as u32).await;
        assert_eq!(flags & DIRECT_IO, DIRECT_IO);
        // Neither offsets nor lengths need to be aligned.
        m.write(ino, handle, 3, b"abc").await;
        assert_eq!(m.read(ino, handle, 1, 4).await, b"12ab");
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, b"012abc6789");
        let (_, flags) = m.open(ino, RDWR).await;
        assert_eq!(flags & DIRECT_IO, 0);
    });
}

#[test]
fn a_direct_write_is_safe_after_fsync_or_at_once_with_o_sync() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let direct = (libc::O_DIRECT | libc::O_SYNC) as u32;
        let (handle, _) = m.open(ino, RDWR | direct).await;
        m.write(ino, handle, 0, b"abc").await;
        // The kernel sends no fsync of its own for such a handle.
        assert_eq!(m.meta.getattr(ino).await.unwrap().length, 3);
        m.close(ino, handle).await;
        let (handle, _) = m.open(ino, RDWR | libc::O_DIRECT as u32).await;
        m.write(ino, handle, 3, b"def").await;
        assert_eq!(m.meta.getattr(ino).await.unwrap().length, 3);
        m.ok(Op::Fsync { ino, handle, datasync: true }).await;
        assert_eq!(m.meta.getattr(ino).await.unwrap().length, 6);
        m.close(ino, handle).await;
    });
}
