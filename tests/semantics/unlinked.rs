//! Files without a name: alive while open, gone with their data afterwards.

use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply};

use crate::world::*;

#[test]
fn an_open_file_outlives_its_name() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        let ino = m.put(Ino::ROOT, b"f", b"still here").await;
        assert_eq!(volume.objects().await, 1);
        let (handle, _) = m.open(ino, RDWR).await;
        m.unlink(Ino::ROOT, b"f").await;
        m.absent(Ino::ROOT, b"f").await;
        assert_eq!(m.attr(ino).await.nlink, 0);
        assert_eq!(m.read(ino, handle, 0, 100).await, b"still here");
        m.write(ino, handle, 10, b", and written").await;
        assert_eq!(m.read(ino, handle, 0, 100).await, b"still here, and written");
        assert_eq!(m.attr(ino).await.length, 23);
        m.close(ino, handle).await;
        eventually(|| async { volume.objects().await == 0 }).await;
        assert_eq!(m.errno(Op::Getattr { ino, handle: None }).await, libc::ESTALE);
        let usage = m.meta.usage().await.unwrap();
        assert_eq!((usage.space, usage.inodes), (0, 0));
        let queued = || async { m.meta.queued_files(i64::MAX, 10).await.expect("a queue") };
        eventually(|| async { queued().await.is_empty() }).await;
    });
}

#[test]
fn only_the_last_close_ends_it() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        let (ino, one) = m.create(Ino::ROOT, b"f").await;
        let (two, _) = m.open(ino, RDWR).await;
        m.write(ino, one, 0, b"abc").await;
        m.unlink(Ino::ROOT, b"f").await;
        m.close(ino, one).await;
        assert_eq!(m.read(ino, two, 0, 10).await, b"abc");
        m.close(ino, two).await;
        eventually(|| async { m.meta.getattr(ino).await.is_err() }).await;
        eventually(|| async { volume.objects().await == 0 }).await;
    });
}

#[test]
fn a_closed_file_goes_with_its_name() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        for name in [b"a", b"b", b"c"] {
            m.put(Ino::ROOT, name, &[7; 200_000]).await;
        }
        assert!(volume.objects().await >= 9);
        m.unlink(Ino::ROOT, b"a").await;
        m.rename(Ino::ROOT, b"b", Ino::ROOT, b"c").await;
        eventually(|| async { volume.objects().await == 4 }).await;
        m.unlink(Ino::ROOT, b"c").await;
        eventually(|| async { volume.objects().await == 0 }).await;
    });
}

#[test]
fn a_replaced_file_that_is_open_stays_readable() {
    with_mount(|m| async move {
        let old = m.put(Ino::ROOT, b"f", b"old").await;
        m.put(Ino::ROOT, b"g", b"new").await;
        let (handle, _) = m.open(old, RDONLY).await;
        m.rename(Ino::ROOT, b"g", Ino::ROOT, b"f").await;
        assert_eq!(m.read(old, handle, 0, 10).await, b"old");
        m.release(old, handle).await;
        eventually(|| async { m.meta.getattr(old).await.is_err() }).await;
    });
}

#[test]
fn with_a_trash_nothing_is_lost() {
    uring::block_on(async {
        let volume = Volume::format(1).await;
        let m = volume.mount(VfsConfig::default()).await;
        let ino = m.put(Ino::ROOT, b"f", b"kept").await;
        m.unlink(Ino::ROOT, b"f").await;
        assert_eq!(m.attr(ino).await.nlink, 1);
        let hours = m.names(Ino::TRASH).await;
        assert_eq!(hours.len(), 1);
        let hour = m.lookup(Ino::TRASH, hours[0].as_bytes()).await.ino;
        let kept = format!("1-{ino}-f");
        assert_eq!(m.names(hour).await, [kept.as_str()]);
        let take_out = Op::Unlink { dir: hour, name: kept.into_bytes().into() };
        assert!(matches!(m.ask_as(USER, take_out).await, Reply::Error(libc::EPERM)));
        assert_eq!(m.cat(ino).await, b"kept");
        let open = Op::Open { ino, flags: WRONLY, kill_priv: false };
        assert_eq!(m.errno(open).await, libc::EPERM);
    });
}

#[test]
fn a_temporary_file_has_no_name() {
    uring::block_on(async {
        let volume = Volume::format(1).await;
        let m = volume.mount(VfsConfig::default()).await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let tmpfile = Op::Tmpfile { dir, mode: 0o600, umask: 0, flags: RDWR };
        let Reply::Create { entry, handle, .. } = m.ask(tmpfile).await else { panic!("tmpfile") };
        assert_eq!((entry.attr.nlink, entry.attr.mode), (0, 0o600));
        assert!(m.names(dir).await.is_empty());
        m.write(entry.ino, handle, 0, b"scratch").await;
        assert_eq!(m.read(entry.ino, handle, 0, 10).await, b"scratch");
        m.close(entry.ino, handle).await;
        eventually(|| async { m.meta.getattr(entry.ino).await.is_err() }).await;
        eventually(|| async { volume.objects().await == 0 }).await;
        assert!(m.names(Ino::TRASH).await.is_empty(), "it was never in a directory");
    });
}

#[test]
fn a_temporary_file_may_be_given_a_name() {
    with_mount(|m| async move {
        let tmpfile = Op::Tmpfile { dir: Ino::ROOT, mode: 0o600, umask: 0, flags: RDWR };
        let Reply::Create { entry, handle, .. } = m.ask(tmpfile).await else { panic!("tmpfile") };
        let ino = entry.ino;
        m.write(ino, handle, 0, b"whole or not at all").await;
        let link = Op::Link { ino, new_dir: Ino::ROOT, new_name: (*b"f").into() };
        assert_eq!(m.entry(link).await.attr.nlink, 1);
        m.close(ino, handle).await;
        assert_eq!(m.lookup(Ino::ROOT, b"f").await.ino, ino);
        assert_eq!(m.cat(ino).await, b"whole or not at all");
        assert_eq!(m.meta.close_session(1).await.unwrap(), []);
        assert_eq!(m.cat(ino).await, b"whole or not at all");
    });
}

#[test]
fn files_a_dead_client_kept_open_go_with_its_session() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let ino = a.put(Ino::ROOT, b"f", b"kept open").await;
        a.open(ino, RDONLY).await;
        a.unlink(Ino::ROOT, b"f").await;
        assert_eq!(b.attr(ino).await.nlink, 0);
        // As the first heartbeat of another client does when the session has expired.
        let sid = a.meta.lock_owner(0).sid;
        assert_eq!(b.meta.close_session(sid).await.unwrap(), [(ino, 9)]);
        assert_eq!(b.errno(Op::Getattr { ino, handle: None }).await, libc::ESTALE);
        assert_eq!(b.meta.queued_files(i64::MAX, 10).await.unwrap(), [(ino, 9)]);
    });
}

#[test]
fn a_file_that_another_client_deleted_is_not_read_as_zeros() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let ino = a.put(Ino::ROOT, b"f", b"soon gone").await;
        let (handle, _) = b.open(ino, RDONLY).await;
        a.unlink(Ino::ROOT, b"f").await;
        eventually(|| async { volume.objects().await == 0 }).await;
        let read = Op::Read { ino, handle, offset: 0, len_bytes: 9, flags: 0 };
        assert_eq!(b.errno(read).await, libc::ENOENT);
    });
}

#[test]
fn what_is_open_outlives_the_trash() {
    uring::block_on(async {
        let volume = Volume::format(1).await;
        let m = volume.mount(VfsConfig::default()).await;
        let ino = m.put(Ino::ROOT, b"f", b"kept").await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        m.put(dir, b"g", b"not kept").await;
        m.unlink(Ino::ROOT, b"f").await;
        m.unlink(dir, b"g").await;
        m.ok(Op::Rmdir { dir: Ino::ROOT, name: (*b"d").into() }).await;
        let hours = m.names(Ino::TRASH).await;
        let hour = m.lookup(Ino::TRASH, hours[0].as_bytes()).await.ino;
        assert_eq!(m.names(hour).await.len(), 3);
        let (handle, _) = m.open(ino, RDONLY).await;
        let began_s = m.meta.trash_folders().await.unwrap()[0].hour_s;
        assert_eq!(m.vfs.expire_trash(began_s, &|| false).await, Ok(0), "its hour is not over");
        assert_eq!(m.vfs.expire_trash(i64::MAX, &|| true).await, Ok(0), "there is no time");
        assert_eq!(m.names(hour).await.len(), 3);
        assert_eq!(m.vfs.expire_trash(began_s + 1, &|| false).await, Ok(3));
        assert!(m.names(Ino::TRASH).await.is_empty());
        assert_eq!(m.errno(Op::Getattr { ino: hour, handle: None }).await, libc::ESTALE);
        eventually(|| async { volume.objects().await == 1 }).await;
        assert_eq!(m.read(ino, handle, 0, 10).await, b"kept");
        m.release(ino, handle).await;
        eventually(|| async { volume.objects().await == 0 }).await;
        let usage = m.meta.usage().await.unwrap();
        assert_eq!((usage.space, usage.inodes), (0, 0));
        // What is removed in the hour that was emptied finds a folder again.
        m.put(Ino::ROOT, b"f", b"again").await;
        m.unlink(Ino::ROOT, b"f").await;
        assert_eq!(m.names(Ino::TRASH).await.len(), 1);
    });
}
