//! Attributes: what setattr sets, what writes change, what privileges survive.

use jfs_uring::meta::Atime;
use jfs_uring::types::{FLAG_APPEND, FLAG_IMMUTABLE, Ino, Time};
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Payload, Reply, SetAttr, SetTime};

use crate::world::*;

fn at(sec: i64) -> Time {
    Time { sec, nsec: 5 }
}

#[test]
fn modes_owners_and_times_are_set() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let before = m.attr(ino).await;
        let set = SetAttr {
            mode: Some(0o4711),
            atime: Some(SetTime::At(at(1))),
            mtime: Some(SetTime::At(at(2))),
            ..SetAttr::default()
        };
        let attr = m.setattr(ino, set).await;
        assert_eq!((attr.mode, attr.atime, attr.mtime), (0o4711, at(1), at(2)));
        assert!(attr.ctime > before.ctime);
        let chown = SetAttr { uid: Some(5), gid: Some(6), ..SetAttr::default() };
        let attr = m.setattr(ino, chown).await;
        assert_eq!((attr.uid, attr.gid, attr.mode), (5, 6, 0o711));
        let touch = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        assert!(m.setattr(ino, touch).await.mtime.sec > 1_700_000_000);
    });
}

#[test]
fn a_time_that_was_set_outlives_earlier_writes() {
    with_mount(|m| async move {
        for (name, time) in [(b"past", at(2)), (b"then", at(1 << 33))] {
            let (ino, handle) = m.create(Ino::ROOT, name).await;
            m.write(ino, handle, 0, b"dirty").await;
            let set = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
            assert_eq!(m.setattr(ino, set).await.mtime, time);
            assert_eq!(m.attr(ino).await.mtime, time);
            m.close(ino, handle).await;
            let attr = m.attr(ino).await;
            assert_eq!((attr.mtime, attr.length), (time, 5));
        }
    });
}

/// As by a client whose clock is behind: the content changed, and mtime says so.
#[test]
fn a_write_before_the_time_of_the_file_moves_it_a_little() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let set = SetAttr { mtime: Some(SetTime::At(at(1 << 33))), ..SetAttr::default() };
        m.setattr(ino, set).await;
        m.write(ino, handle, 0, b"later").await;
        m.close(ino, handle).await;
        assert_eq!(m.attr(ino).await.mtime, Time { nsec: 6, ..at(1 << 33) });
    });
}

#[test]
fn writing_moves_the_times_and_closing_does_not() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let made = m.attr(ino).await;
        m.write(ino, handle, 0, b"x").await;
        let dirty = m.attr(ino).await;
        assert!(dirty.mtime > made.mtime);
        m.close(ino, handle).await;
        assert_eq!(m.attr(ino).await.mtime, dirty.mtime);
    });
}

#[test]
fn a_write_by_another_user_clears_set_user_id() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.setattr(ino, SetAttr { mode: Some(0o6775), ..SetAttr::default() }).await;
        let write = |kill_priv| Op::Write {
            ino,
            handle,
            offset: 0,
            data: Payload(Box::new(b"x".to_vec())),
            flags: 0,
            kill_priv,
            cached: false,
        };
        m.ask(write(false)).await;
        assert_eq!(m.attr(ino).await.mode, 0o6775);
        m.ask_as(USER, write(true)).await;
        assert_eq!(m.attr(ino).await.mode, 0o775);
        m.setattr(ino, SetAttr { mode: Some(0o4755), ..SetAttr::default() }).await;
        let cut = SetAttr { size: Some(0), kill_priv: true, ..SetAttr::default() };
        let attr = m.setattr(ino, cut).await;
        assert_eq!((attr.mode, attr.length), (0o755, 0));
    });
}

#[test]
fn frozen_and_growing_files() {
    let config = VfsConfig { ioctl: true, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"x").await;
        let (handle, _) = m.open(ino, RDONLY).await;
        let set = |bits: u32| Op::Ioctl {
            ino,
            handle,
            command: 0x4008_6602,
            data: bits.to_ne_bytes().into(),
            out_bytes: 0,
        };
        assert!(matches!(m.ask_as(USER, set(0x10)).await, Reply::Error(libc::EPERM)));
        assert_eq!(m.errno(set(0x4)).await, libc::EOPNOTSUPP);
        assert!(matches!(m.ask(set(0x10)).await, Reply::Ioctl { result: 0, .. }));
        assert_eq!(m.attr(ino).await.flags, FLAG_IMMUTABLE);
        let open = |flags| Op::Open { ino, flags, kill_priv: false };
        assert_eq!(m.errno(open(WRONLY)).await, libc::EPERM);
        assert_eq!(m.errno(Op::Unlink { dir: Ino::ROOT, name: (*b"f").into() }).await, libc::EPERM);
        m.ask(set(0x20)).await;
        assert_eq!(m.attr(ino).await.flags, FLAG_APPEND);
        assert_eq!(m.errno(open(WRONLY)).await, libc::EPERM);
        let append = WRONLY | libc::O_APPEND as u32;
        assert_eq!(m.errno(open(append | libc::O_TRUNC as u32)).await, libc::EPERM);
        let (appending, _) = m.open(ino, append).await;
        m.write(ino, appending, 1, b"y").await;
        m.close(ino, appending).await;
        let get = |command, out_bytes| Op::Ioctl {
            ino,
            handle,
            command,
            data: Box::default(),
            out_bytes,
        };
        let Reply::Ioctl { data, .. } = m.ask(get(0x8008_6601, 8)).await else { panic!("ioctl") };
        assert_eq!(&*data, [0x20, 0, 0, 0, 0, 0, 0, 0]);
        let Reply::Ioctl { data, .. } = m.ask(get(0x801C_581F, 28)).await else { panic!("ioctl") };
        assert_eq!((data[0], data.len()), (0x10, 28));
        assert_eq!(m.errno(get(1, 0)).await, libc::ENOTTY);
    });
}

#[test]
fn a_read_only_mount_opens_nothing_for_writing() {
    let config = VfsConfig { read_only: true, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let open = Op::Open { ino: Ino(99), flags: WRONLY, kill_priv: false };
        assert_eq!(m.errno(open).await, libc::EROFS);
    });
}

#[test]
fn a_read_only_mount_changes_nothing() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let a = volume.mount(VfsConfig::default()).await;
        let ino = a.put(Ino::ROOT, b"f", b"1234").await;
        let config = VfsConfig { read_only: true, xattr: true, ..VfsConfig::default() };
        let b = volume.mount(config).await;
        assert_eq!(b.cat(ino).await, b"1234");
        let name = || (*b"f").into();
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: (*b"d").into(), mode: 0o755, umask: 0 };
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        let value = Box::from(*b"v");
        let (reader, _) = b.open(ino, RDONLY).await;
        let changes = [
            mkdir,
            Op::Unlink { dir: Ino::ROOT, name: name() },
            Op::Setattr { ino, set },
            Op::Setattr { ino, set: SetAttr { size: Some(0), ..SetAttr::default() } },
            Op::Setxattr { ino, name: (*b"user.x").into(), value, flags: 0, drops_group_id: false },
            lock(ino, reader, 1, (0, 9, 0)),
        ];
        for change in changes {
            assert_eq!(b.errno(change).await, libc::EROFS);
        }
        assert_eq!(b.meta.sessions().await.unwrap().len(), 1, "only the writer has a session");
    });
}

#[test]
fn a_directory_that_just_changed_keeps_its_times() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let made = m.attr(dir).await.mtime;
        m.put(dir, b"a", b"").await;
        let moved = m.attr(dir).await.mtime;
        assert!(moved > made);
        volume.rules.skip_dir_mtime_ns = 60_000_000_000;
        let patient = volume.mount(VfsConfig::default()).await;
        patient.put(dir, b"b", b"").await;
        assert_eq!(patient.attr(dir).await.mtime, moved);
        patient.mkdir(dir, b"c").await;
        assert!(patient.attr(dir).await.mtime > moved, "links moved, and times with them");
    });
}

#[test]
fn attributes_may_be_believed_for_a_while() {
    let config = VfsConfig { open_cache_ns: 1 << 40, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"1").await;
        m.cat(ino).await;
        assert!(matches!(m.at_once(Op::Getattr { ino, handle: None }), Reply::Attr { .. }));
        m.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }).await;
        assert_eq!(m.attr(ino).await.mode, 0o600);
        let (handle, _) = m.open(ino, WRONLY).await;
        m.write(ino, handle, 0, b"123").await;
        assert_eq!(m.attr(ino).await.length, 3);
        m.close(ino, handle).await;
        assert_eq!(m.attr(ino).await.length, 3);
    });
}

#[test]
fn with_open_cache_an_open_may_miss_what_others_wrote() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let a = volume.mount(VfsConfig::default()).await;
        let config = VfsConfig { open_cache_ns: 1 << 40, ..VfsConfig::default() };
        let b = volume.mount(config).await;
        let ino = a.put(Ino::ROOT, b"f", b"old").await;
        assert_eq!(b.cat(ino).await, b"old");
        let (handle, _) = a.open(ino, WRONLY).await;
        a.write(ino, handle, 0, b"newer").await;
        a.close(ino, handle).await;
        assert_eq!(b.cat(ino).await, b"old");
    });
}

#[test]
fn the_volume_has_figures() {
    with_mount(|m| async move {
        m.put(Ino::ROOT, b"f", &[1; 5000]).await;
        let Reply::Statfs(told) = m.ask(Op::Statfs { ino: Ino::ROOT }).await else {
            panic!("statfs")
        };
        assert_eq!(told.total_bytes - told.free_bytes, 8192);
        assert_eq!(told.inodes - told.free_inodes, 1);
        let access = Op::Access { ino: Ino::ROOT, mask: 4 };
        assert_eq!(m.errno(access).await, libc::ENOSYS);
    });
}

#[test]
fn reading_moves_access_times_only_where_the_mount_wants_it() {
    uring::block_on(async {
        for (atime, moves) in [(None, false), (Some(Atime::Relative), true)] {
            let volume = Volume::format(0).await;
            let m = volume.mount(VfsConfig { atime, ..VfsConfig::default() }).await;
            let ino = m.put(Ino::ROOT, b"f", b"read me").await;
            let old = SetTime::At(Time { sec: 1000, nsec: 0 });
            m.setattr(ino, SetAttr { atime: Some(old), ..SetAttr::default() }).await;
            m.cat(ino).await;
            assert_eq!(m.attr(ino).await.atime.sec > 1000, moves);
        }
    });
}
