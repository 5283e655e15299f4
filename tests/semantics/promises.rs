//! What is safe when, and what a caller hears when something could not be kept.

use std::rc::Rc;

use jfs_uring::meta::{Commit, Holder, Mutation, Quota};
use jfs_uring::object::{Retried, StoreError};
use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply, SetAttr};

use crate::world::*;

fn away() -> StoreError {
    StoreError::Unavailable("told to fail".into())
}

#[test]
fn what_was_not_stored_is_told_to_every_handle_until_the_last_close() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let store = volume.broken_store();
        let m = volume.mount_on(VfsConfig::default(), store.clone()).await;
        let ino = m.put(Ino::ROOT, b"f", b"stored").await;
        let ((one, _), (two, _)) = (m.open(ino, RDWR).await, m.open(ino, RDWR).await);
        *store.put_error.borrow_mut() = Some(away());
        m.write(ino, one, 0, b"gone").await;
        let flush = |handle| Op::Flush { ino, handle, lock_owner: 1 };
        let fsync = |handle| Op::Fsync { ino, handle, datasync: false };
        assert_eq!(m.errno(fsync(one)).await, libc::EIO);
        *store.put_error.borrow_mut() = None;
        assert_eq!(m.errno(fsync(two)).await, libc::EIO);
        assert_eq!(m.errno(flush(one)).await, libc::EIO);
        assert_eq!(m.errno(Mount::write_op(ino, two, 0, b"more")).await, libc::EIO);
        m.release(ino, one).await;
        assert_eq!(m.errno(flush(two)).await, libc::EIO);
        m.release(ino, two).await;
        // Who opens it anew finds what was stored before, and may write.
        assert_eq!(m.cat(ino).await, b"stored");
        let (again, _) = m.open(ino, WRONLY).await;
        m.write(ino, again, 0, b"better").await;
        m.close(ino, again).await;
        assert_eq!(m.cat(ino).await, b"better");
    });
}

#[test]
fn a_store_that_is_away_for_a_moment_is_waited_for() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let store = volume.broken_store();
        let patient = Rc::new(Retried::new((*store).clone(), 10));
        let m = volume.mount_on(VfsConfig::default(), patient).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        *store.put_error.borrow_mut() = Some(away());
        m.write(ino, handle, 0, b"patience").await;
        uring::spawn(async move {
            uring::sleep(std::time::Duration::from_millis(20)).await;
            *store.put_error.borrow_mut() = None;
        });
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, b"patience");
    });
}

#[test]
fn a_full_store_is_told_as_such() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let store = volume.broken_store();
        let m = volume.mount_on(VfsConfig::default(), store.clone()).await;
        *store.put_error.borrow_mut() = Some(StoreError::Full("no room".into()));
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, b"too much").await;
        assert_eq!(m.errno(Op::Flush { ino, handle, lock_owner: 1 }).await, libc::ENOSPC);
        m.release(ino, handle).await;
        *store.put_error.borrow_mut() = None;
        assert_eq!(m.attr(ino).await.length, 0);
        m.put(Ino::ROOT, b"g", b"room again").await;
    });
}

#[test]
fn a_full_volume_takes_no_new_files_and_grows_none() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        (volume.rules.capacity, volume.rules.inode_limit) = (3 * 4096, 2);
        let m = volume.mount(VfsConfig::default()).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, &[1; 5000]).await;
        m.close(ino, handle).await;
        let grow = SetAttr { size: Some(20_000), ..SetAttr::default() };
        assert_eq!(m.errno(Op::Setattr { ino, set: grow }).await, libc::ENOSPC);
        m.mkdir(Ino::ROOT, b"d").await;
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: (*b"e").into(), mode: 0o755, umask: 0 };
        assert_eq!(m.errno(mkdir).await, libc::ENOSPC);
        m.unlink(Ino::ROOT, b"f").await;
        m.mkdir(Ino::ROOT, b"e").await;
    });
}

#[test]
fn what_is_in_a_full_volume_can_go_to_the_trash() {
    uring::block_on(async {
        let mut volume = Volume::format(1).await;
        (volume.rules.capacity, volume.rules.inode_limit) = (2 * 4096, 2);
        let m = volume.mount(VfsConfig::default()).await;
        m.put(Ino::ROOT, b"f", b"x").await;
        m.mkdir(Ino::ROOT, b"d").await;
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: (*b"e").into(), mode: 0o755, umask: 0 };
        assert_eq!(m.errno(mkdir).await, libc::ENOSPC);
        m.unlink(Ino::ROOT, b"f").await;
        assert_eq!(m.meta.list(Ino::TRASH, false).await.unwrap().len(), 1, "an hour of the trash");
    });
}

#[test]
fn writing_beyond_the_limit_is_refused() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        volume.rules.capacity = 8192;
        let m = volume.mount(VfsConfig::default()).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, &[1; 8000]).await;
        m.ok(Op::Fsync { ino, handle, datasync: false }).await;
        m.write(ino, handle, 8000, &[1; 1000]).await;
        let flush = Op::Flush { ino, handle, lock_owner: 1 };
        assert_eq!(m.errno(flush).await, libc::ENOSPC);
        m.release(ino, handle).await;
        assert_eq!(m.meta.usage().await.unwrap().space, 8192);
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: (*b"d").into(), mode: 0o755, umask: 0 };
        assert_eq!(m.errno(mkdir).await, libc::ENOSPC);
    });
}

#[test]
fn a_quota_holds_for_all_that_is_below_its_directory() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        volume.rules.dir_quotas = true;
        let m = volume.mount(VfsConfig::default()).await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let below = m.mkdir(dir, b"below").await;
        let quota = Quota { max_space: 16384, max_inodes: 3, used_space: 4096, used_inodes: 1 };
        let set = Mutation::PutQuota(Holder::Dir(dir), quota);
        let set = Commit { mutations: vec![set], ..Commit::default() };
        m.meta.engine().commit(set).await.expect("committed");
        m.meta.load_quotas().await.expect("quotas");
        let (ino, handle) = m.create(below, b"f").await;
        m.write(ino, handle, 0, &[1; 8000]).await;
        m.ok(Op::Fsync { ino, handle, datasync: false }).await;
        m.write(ino, handle, 8000, &[1; 9000]).await;
        let flush = Op::Flush { ino, handle, lock_owner: 1 };
        assert_eq!(m.errno(flush).await, libc::EDQUOT);
        m.release(ino, handle).await;
        assert_eq!(m.attr(ino).await.length, 8000);
        let Reply::Statfs(told) = m.ask(Op::Statfs { ino: below }).await else { panic!("statfs") };
        assert_eq!((told.total_bytes, told.free_bytes), (16384, 4096));
        assert_eq!((told.inodes, told.free_inodes), (3, 1));
        m.mkdir(below, b"last").await;
        let mkdir = |dir| Op::Mkdir { dir, name: (*b"no").into(), mode: 0o755, umask: 0 };
        assert_eq!(m.errno(mkdir(dir)).await, libc::EDQUOT);
        m.mkdir(Ino::ROOT, b"beside").await;
        m.unlink(below, b"f").await;
        m.mkdir(dir, b"no").await;
    });
}

#[test]
fn what_was_neither_closed_nor_synced_dies_with_the_process() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let a = volume.mount(VfsConfig::default()).await;
        let ino = a.put(Ino::ROOT, b"f", b"closed").await;
        let (handle, _) = a.open(ino, WRONLY).await;
        a.write(ino, handle, 0, b"not closed").await;
        let (made, _) = a.create(Ino::ROOT, b"g").await;
        drop(a);
        let b = volume.mount(VfsConfig::default()).await;
        assert_eq!(b.cat(ino).await, b"closed");
        assert_eq!(b.lookup(Ino::ROOT, b"g").await.ino, made, "names are safe at once");
    });
}

#[test]
fn the_end_of_a_mount_stores_what_is_dirty() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let a = volume.mount(VfsConfig::default()).await;
        let (ino, handle) = a.create(Ino::ROOT, b"f").await;
        a.write(ino, handle, 0, b"never closed").await;
        std::rc::Rc::clone(&a.vfs).drain().await;
        let b = volume.mount(VfsConfig::default()).await;
        assert_eq!(b.cat(ino).await, b"never closed");
    });
}

#[test]
fn the_engine_tells_what_a_power_cut_may_take() {
    with_mount(|m| async move {
        let told = m.meta.engine().describe().await.unwrap();
        assert!(told.text.contains("write-ahead log, synchronous=NORMAL"), "{told:?}");
    });
}

#[test]
fn data_of_a_file_that_another_client_deleted_is_lost_and_told() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, handle) = a.create(Ino::ROOT, b"f").await;
        a.write(ino, handle, 0, b"for nobody").await;
        b.unlink(Ino::ROOT, b"f").await;
        assert_eq!(a.errno(Op::Flush { ino, handle, lock_owner: 1 }).await, libc::EBADF);
        a.release(ino, handle).await;
        eventually(|| async { volume.objects().await == 0 }).await;
    });
}

#[test]
fn another_process_that_holds_the_engines_file_is_waited_for() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        let other = rusqlite::Connection::open(volume.database()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let holder = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(150));
            other.execute_batch("COMMIT").unwrap();
        });
        m.mkdir(Ino::ROOT, b"d").await;
        assert!(holder.is_finished(), "it was not made while the file was held");
        holder.join().unwrap();
    });
}
