//! Content: what is written is read, holes are zeros, close and fsync keep it.

use std::rc::Rc;
use std::time::Duration;

use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply};

use crate::world::*;

const KEEP_CACHE: u32 = 2;
const NO_FLUSH: u32 = 32;
const MIB: u64 = 1 << 20;

#[test]
fn what_is_written_is_read_before_and_after_close() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
        for (piece, at) in bytes.chunks(100_000).zip((0..).step_by(100_000)) {
            m.write(ino, handle, at, piece).await;
        }
        m.write(ino, handle, 50_000, b"over").await;
        let mut expected = bytes;
        expected[50_000..50_004].copy_from_slice(b"over");
        assert_eq!(m.read(ino, handle, 0, 400_000).await, expected);
        assert_eq!(m.attr(ino).await.length, 300_000);
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, expected);
    });
}

#[test]
fn close_makes_it_visible_to_other_clients() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, handle) = a.create(Ino::ROOT, b"f").await;
        a.write(ino, handle, 0, b"one").await;
        assert_eq!(b.attr(ino).await.length, 0, "not yet");
        a.close(ino, handle).await;
        assert_eq!(b.cat(ino).await, b"one");
        // A handle that is open keeps its view; the next open sees what changed.
        let (kept, _) = b.open(ino, RDONLY).await;
        let (handle, _) = a.open(ino, WRONLY).await;
        a.write(ino, handle, 0, b"another").await;
        a.close(ino, handle).await;
        assert_eq!(b.read(ino, kept, 0, 100).await, b"one");
        assert_eq!(b.cat(ino).await, b"another");
        assert_eq!(b.read(ino, kept, 0, 100).await, b"another");
    });
}

#[test]
fn fsync_makes_it_visible_to_other_clients() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, handle) = a.create(Ino::ROOT, b"f").await;
        a.write(ino, handle, 0, b"kept").await;
        a.ok(Op::Fsync { ino, handle, datasync: true }).await;
        assert_eq!(b.cat(ino).await, b"kept");
        a.write(ino, handle, 4, b"!").await;
        assert_eq!(a.attr(ino).await.length, 5);
        assert_eq!(b.attr(ino).await.length, 4);
    });
}

#[test]
fn two_writers_of_one_file_see_each_other() {
    with_mount(|m| async move {
        let (ino, one) = m.create(Ino::ROOT, b"f").await;
        let (two, _) = m.open(ino, RDWR).await;
        m.write(ino, one, 0, b"aaaa").await;
        m.write(ino, two, 2, b"bbbb").await;
        assert_eq!(m.read(ino, one, 0, 10).await, b"aabbbb");
        // Closing one keeps what the other wrote, too.
        m.close(ino, one).await;
        assert_eq!(m.meta.getattr(ino).await.unwrap().length, 6);
    });
}

#[test]
fn holes_are_zeros() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 200 * MIB, b"end").await;
        m.write(ino, handle, 70 * MIB, b"middle").await;
        assert_eq!(m.attr(ino).await.length, 200 * MIB + 3);
        for _ in 0..2 {
            assert_eq!(m.read(ino, handle, 0, 10).await, [0; 10]);
            assert_eq!(m.read(ino, handle, 70 * MIB - 2, 10).await, b"\0\0middle\0\0");
            assert_eq!(m.read(ino, handle, 200 * MIB - 1, 100).await, b"\0end");
            assert_eq!(m.read(ino, handle, 300 * MIB, 100).await, b"");
            m.ok(Op::Fsync { ino, handle, datasync: false }).await;
        }
    });
}

#[test]
fn truncation_cuts_and_growth_is_zeros() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, b"0123456789").await;
        assert_eq!(m.truncate(ino, 4).await.length, 4);
        assert_eq!(m.read(ino, handle, 0, 100).await, b"0123");
        assert_eq!(m.truncate(ino, 8).await.length, 8);
        assert_eq!(m.read(ino, handle, 0, 100).await, b"0123\0\0\0\0");
        m.write(ino, handle, 6, b"xyz").await;
        assert_eq!(m.read(ino, handle, 0, 100).await, b"0123\0\0xyz");
        m.truncate(ino, 0).await;
        assert_eq!(m.attr(ino).await.length, 0);
        m.write(ino, handle, 3, b"z").await;
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, b"\0\0\0z");
    });
}

#[test]
fn opening_with_truncation_starts_anew() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, b"old and dirty").await;
        let (again, _) = m.open(ino, WRONLY | libc::O_TRUNC as u32).await;
        assert_eq!(m.attr(ino).await.length, 0);
        m.write(ino, again, 0, b"new").await;
        m.close(ino, again).await;
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, b"new");
    });
}

#[test]
fn appending_goes_where_the_kernel_says() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"log", b"one\n").await;
        let (handle, _) = m.open(ino, WRONLY | libc::O_APPEND as u32).await;
        let end = m.attr(ino).await.length;
        m.write(ino, handle, end, b"two\n").await;
        m.close(ino, handle).await;
        assert_eq!(m.cat(ino).await, b"one\ntwo\n");
    });
}

#[test]
fn handles_do_what_they_were_opened_for() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"x").await;
        let (handle, flags) = m.open(ino, RDONLY).await;
        assert_eq!(flags & NO_FLUSH, NO_FLUSH);
        assert_eq!(handle % 2, 1);
        assert_eq!(m.errno(Mount::write_op(ino, handle, 0, b"y")).await, libc::EBADF);
        m.release(ino, handle).await;
        let read = Op::Read { ino, handle, offset: 0, len_bytes: 1, flags: 0 };
        assert_eq!(m.errno(read).await, libc::EBADF);
    });
}

#[test]
fn the_largest_file() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let end = 1 << 57;
        assert_eq!(m.errno(Mount::write_op(ino, handle, end - 1, b"y")).await, libc::EFBIG);
        let set = jfs_uring::vfs::op::SetAttr { size: Some(end), ..Default::default() };
        assert_eq!(m.errno(Op::Setattr { ino, set }).await, libc::EFBIG);
        let op = Op::Fallocate { ino, handle, offset: 1, len_bytes: u64::MAX, mode: 0 };
        assert_eq!(m.errno(op).await, libc::EFBIG);
    });
}

#[test]
fn ranges_are_allocated_punched_and_zeroed() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, b"0123456789").await;
        let allocate =
            |offset, len_bytes, mode| Op::Fallocate { ino, handle, offset, len_bytes, mode };
        m.ok(allocate(2, 3, 3)).await;
        assert_eq!(m.read(ino, handle, 0, 20).await, b"01\0\0\x0056789");
        m.ok(allocate(8, 4, 16)).await;
        assert_eq!(m.read(ino, handle, 0, 20).await, b"01\0\0\x00567\0\0\0\0");
        m.ok(allocate(0, 20, 0)).await;
        assert_eq!(m.attr(ino).await.length, 20);
        m.ok(allocate(0, 30, 1)).await;
        assert_eq!(m.attr(ino).await.length, 20);
        assert_eq!(m.errno(allocate(0, 1, 8)).await, libc::EOPNOTSUPP);
        assert_eq!(m.errno(allocate(0, 1, 2)).await, libc::EINVAL);
    });
}

#[test]
fn data_is_one_extent() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 10, b"x").await;
        let seek = |offset, whence| Op::Lseek { ino, handle, offset, whence };
        let data = m.ask(seek(3, libc::SEEK_DATA as u32)).await;
        assert!(matches!(data, Reply::Offset(3)));
        let hole = m.ask(seek(3, libc::SEEK_HOLE as u32)).await;
        assert!(matches!(hole, Reply::Offset(11)));
        assert_eq!(m.errno(seek(11, libc::SEEK_DATA as u32)).await, libc::ENXIO);
    });
}

#[test]
fn ranges_are_copied_without_moving_data() {
    with_mount(|m| async move {
        let (from, handle) = m.create(Ino::ROOT, b"from").await;
        let (to, to_handle) = m.create(Ino::ROOT, b"to").await;
        m.write(from, handle, 0, b"0123456789").await;
        m.write(to, to_handle, 0, b"abcdef").await;
        let copy = |offset, to_offset, len_bytes| Op::CopyFileRange {
            ino: from,
            handle,
            offset,
            to,
            to_handle,
            to_offset,
            len_bytes,
            flags: 0,
        };
        assert!(matches!(m.ask(copy(2, 4, 100)).await, Reply::Copied(8)));
        assert_eq!(m.read(to, to_handle, 0, 100).await, b"abcd23456789");
        assert!(matches!(m.ask(copy(10, 0, 5)).await, Reply::Copied(0)));
        let onto = Op::CopyFileRange {
            ino: from,
            handle,
            offset: 0,
            to: from,
            to_handle: handle,
            to_offset: 5,
            len_bytes: 6,
            flags: 0,
        };
        assert_eq!(m.errno(onto).await, libc::EINVAL);
        // The source goes, the copy stays.
        m.close(from, handle).await;
        m.unlink(Ino::ROOT, b"from").await;
        uring::sleep(std::time::Duration::from_millis(20)).await;
        m.close(to, to_handle).await;
        assert_eq!(m.cat(to).await, b"abcd23456789");
    });
}

#[test]
fn pages_are_kept_while_nothing_changed() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let ino = a.put(Ino::ROOT, b"f", b"one").await;
        let open = async || {
            let (handle, flags) = b.open(ino, RDONLY).await;
            b.release(ino, handle).await;
            flags & KEEP_CACHE != 0
        };
        assert!(!open().await, "the first time there is nothing to keep");
        assert!(open().await);
        let (handle, _) = a.open(ino, WRONLY).await;
        a.write(ino, handle, 0, b"two").await;
        a.close(ino, handle).await;
        assert!(!open().await);
        assert!(open().await);
        b.ask(Op::Forget { items: vec![(ino, 1)] }).await;
        assert!(!open().await, "the kernel forgot it, and its pages");
    });
}

#[test]
fn what_is_at_hand_needs_no_wait() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let written = m.at_once(Mount::write_op(ino, handle, 0, b"at once"));
        assert!(matches!(written, Reply::Written(7)));
        let read = Op::Read { ino, handle, offset: 0, len_bytes: 7, flags: 0 };
        let Reply::Data(pages) = m.at_once(read) else { panic!("read") };
        assert_eq!(&*pages[0], b"at once");
        m.ok(Op::Flush { ino, handle, lock_owner: 1 }).await;
        assert!(matches!(m.at_once(Op::Flush { ino, handle, lock_owner: 1 }), Reply::Ok));
        let release = Op::Release { ino, handle, flags: 0, flock_owner: None, lock_owner: 0 };
        assert!(matches!(m.at_once(release), Reply::Ok));
    });
}

#[test]
fn a_closed_file_is_clean() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, b"mapped and written late").await;
        // No close(2) comes for what a mapping wrote after it; the release keeps it all the same.
        m.release(ino, handle).await;
        let m = Rc::clone(&m);
        eventually(|| async { m.meta.getattr(ino).await.unwrap().length == 23 }).await;
    });
}

#[test]
fn two_clients_that_append_take_the_same_place() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let ino = a.put(Ino::ROOT, b"log", b"one\n").await;
        let append = WRONLY | libc::O_APPEND as u32;
        let ((here, _), (there, _)) = (a.open(ino, append).await, b.open(ino, append).await);
        let ends = (a.attr(ino).await.length, b.attr(ino).await.length);
        assert_eq!(ends, (4, 4), "each kernel writes behind the end it knows");
        a.write(ino, here, 4, b"two\n").await;
        b.write(ino, there, 4, b"six\n").await;
        a.close(ino, here).await;
        b.close(ino, there).await;
        assert_eq!(a.cat(ino).await, b"one\nsix\n", "the last to commit wins");
    });
}

#[test]
fn a_hole_gives_no_space_back() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let m = volume.mount(VfsConfig::default()).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, &[7; 200_000]).await;
        m.ok(Op::Fsync { ino, handle, datasync: false }).await;
        let (objects, usage) = (volume.objects().await, m.meta.usage().await.unwrap());
        m.ok(Op::Fallocate { ino, handle, offset: 0, len_bytes: 200_000, mode: 3 }).await;
        assert_eq!(m.read(ino, handle, 0, 10).await, [0; 10]);
        assert_eq!(volume.objects().await, objects);
        assert_eq!(m.meta.usage().await.unwrap(), usage);
        m.close(ino, handle).await;
    });
}

#[test]
fn overwritten_bytes_give_their_objects_back() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        volume.compacts = true;
        let m = volume.mount(VfsConfig::default()).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        let mut bytes = vec![0; 100_000];
        m.truncate(ino, 100_000).await;
        for number in 0..500_usize {
            let at = number * 7919 % 90_000;
            bytes[at..at + 10_000].fill(number as u8);
            m.write(ino, handle, at as u64, &[number as u8; 10_000]).await;
            m.ok(Op::Fsync { ino, handle, datasync: false }).await;
            // Nothing here waits by itself, and who compacts needs turns.
            uring::sleep(Duration::from_micros(100)).await;
        }
        let before = m.attr(ino).await;
        m.close(ino, handle).await;
        Rc::clone(&m.vfs).drain().await;
        assert!(volume.objects().await < 100, "{} objects of 500", volume.objects().await);
        let other = volume.mount(VfsConfig::default()).await;
        assert_eq!(other.attr(ino).await.mtime, before.mtime);
        assert!(other.cat(ino).await == bytes);
        Rc::clone(&other.vfs).drain().await;
    });
}
