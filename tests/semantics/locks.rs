//! Locks: seen by every client, given back at close, waits that end.

use std::rc::Rc;
use std::time::Duration;

use jfs_uring::stdx::oneshot;
use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{LockRange, Op, Reply};

use crate::world::*;

const READ: u32 = 0;
const WRITE: u32 = 1;
const NONE: u32 = 2;

fn waiting(op: Op) -> Op {
    match op {
        Op::Setlk { ino, handle, owner, range, flock, .. } => {
            Op::Setlk { ino, handle, owner, range, wait: true, flock }
        }
        other => panic!("{other:?} is no lock"),
    }
}

fn flock(ino: Ino, handle: u64, owner: u64, kind: u32) -> Op {
    let range = LockRange { start: 0, end: u64::MAX >> 1, kind, pid: 1 };
    Op::Setlk { ino, handle, owner, range, wait: false, flock: true }
}

#[test]
fn ranges_exclude_each_other() {
    with_mount(|m| async move {
        let (ino, h) = m.create(Ino::ROOT, b"f").await;
        m.ok(lock(ino, h, 1, (0, 99, WRITE))).await;
        m.ok(lock(ino, h, 2, (100, 199, READ))).await;
        m.ok(lock(ino, h, 3, (150, 199, READ))).await;
        assert_eq!(m.errno(lock(ino, h, 2, (99, 120, READ))).await, libc::EAGAIN);
        assert_eq!(m.errno(lock(ino, h, 3, (120, 120, WRITE))).await, libc::EAGAIN);
        let range = LockRange { start: 50, end: 60, kind: READ, pid: 9 };
        let get = |owner| Op::Getlk { ino, handle: h, owner, range };
        let Reply::Lock(held) = m.ask(get(2)).await else { panic!("getlk") };
        assert_eq!(held, LockRange { start: 0, end: 99, kind: WRITE, pid: 1 });
        let Reply::Lock(free) = m.ask(get(1)).await else { panic!("getlk") };
        assert_eq!(free.kind, NONE);
        m.ok(lock(ino, h, 1, (50, 60, NONE))).await;
        m.ok(lock(ino, h, 2, (50, 60, WRITE))).await;
        assert_eq!(m.errno(lock(ino, h, 2, (49, 60, WRITE))).await, libc::EAGAIN);
    });
}

#[test]
fn other_clients_see_locks() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, one) = a.create(Ino::ROOT, b"f").await;
        let (two, _) = b.open(ino, RDWR).await;
        a.ok(lock(ino, one, 1, (0, 9, WRITE))).await;
        assert_eq!(b.errno(lock(ino, two, 1, (5, 5, READ))).await, libc::EAGAIN);
        let range = LockRange { start: 5, end: 5, kind: READ, pid: 9 };
        let get = Op::Getlk { ino, handle: two, owner: 1, range };
        let Reply::Lock(held) = b.ask(get).await else { panic!("getlk") };
        assert_eq!((held.kind, held.pid), (WRITE, 0));
        a.close(ino, one).await;
        b.ok(lock(ino, two, 1, (5, 5, READ))).await;
    });
}

#[test]
fn closing_any_descriptor_gives_the_owners_locks_back() {
    with_mount(|m| async move {
        let (ino, one) = m.create(Ino::ROOT, b"f").await;
        let (two, _) = m.open(ino, RDWR).await;
        m.ok(lock(ino, one, 7, (0, 9, WRITE))).await;
        m.ok(Op::Flush { ino, handle: two, lock_owner: 8 }).await;
        assert_eq!(m.errno(lock(ino, two, 8, (0, 0, WRITE))).await, libc::EAGAIN);
        m.ok(Op::Flush { ino, handle: two, lock_owner: 7 }).await;
        m.ok(lock(ino, two, 8, (0, 0, WRITE))).await;
    });
}

#[test]
fn a_reader_that_closes_without_a_flush_gives_its_lock_back() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let (reader, _) = m.open(ino, RDONLY).await;
        let (writer, _) = m.open(ino, RDWR).await;
        m.ok(lock(ino, reader, 7, (0, 9, READ))).await;
        assert_eq!(m.errno(lock(ino, writer, 8, (0, 0, WRITE))).await, libc::EAGAIN);
        m.release(ino, reader).await;
        m.ok(waiting(lock(ino, writer, 8, (0, 0, WRITE)))).await;
    });
}

#[test]
fn flock_is_shared_or_exclusive() {
    with_mount(|m| async move {
        let (ino, one) = m.create(Ino::ROOT, b"f").await;
        let (two, _) = m.open(ino, RDWR).await;
        m.ok(flock(ino, one, 1, READ)).await;
        m.ok(flock(ino, two, 2, READ)).await;
        assert_eq!(m.errno(flock(ino, one, 1, WRITE)).await, libc::EAGAIN);
        let release =
            Op::Release { ino, handle: two, flags: 0, flock_owner: Some(2), lock_owner: 2 };
        m.ok(release).await;
        m.ok(waiting(flock(ino, one, 1, WRITE))).await;
        m.ok(flock(ino, one, 1, NONE)).await;
    });
}

/// The reply of a request that is on its way.
fn begin(m: &Rc<Mount>, op: Op) -> jfs_uring::stdx::Receiver<Reply> {
    let (sender, receiver) = oneshot();
    let m = Rc::clone(m);
    uring::spawn(async move { sender.send(m.ask(op).await) });
    receiver
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free() {
    with_mount(|m| async move {
        let (ino, h) = m.create(Ino::ROOT, b"f").await;
        m.ok(lock(ino, h, 1, (0, 9, WRITE))).await;
        let waits = begin(&m, waiting(lock(ino, h, 2, (0, 9, WRITE))));
        uring::sleep(Duration::from_millis(20)).await;
        assert_eq!(m.errno(lock(ino, h, 2, (0, 9, WRITE))).await, libc::EAGAIN);
        m.ok(lock(ino, h, 1, (0, 9, NONE))).await;
        assert!(matches!(waits.await, Ok(Reply::Ok)));
        assert_eq!(m.errno(lock(ino, h, 1, (0, 9, READ))).await, libc::EAGAIN);
    });
}

#[test]
fn a_signal_ends_the_wait() {
    with_mount(|m| async move {
        let (ino, h) = m.create(Ino::ROOT, b"f").await;
        m.ok(flock(ino, h, 1, WRITE)).await;
        let unique = m.next_unique();
        let waits = begin(&m, waiting(flock(ino, h, 2, WRITE)));
        uring::sleep(Duration::from_millis(5)).await;
        m.vfs.interrupt(unique);
        assert!(matches!(waits.await, Ok(Reply::Error(libc::EINTR))));
    });
}

#[test]
fn locks_need_a_file() {
    with_mount(|m| async move {
        let (ino, h) = m.create(Ino::ROOT, b"f").await;
        assert_eq!(m.errno(lock(ino, h + 100, 1, (0, 1, READ))).await, libc::EBADF);
        assert_eq!(m.errno(lock(ino, h, 1, (5, 1, READ))).await, libc::EINVAL);
        assert_eq!(m.errno(lock(ino, h, 1, (0, 1, 3))).await, libc::EINVAL);
    });
}

#[test]
fn flock_is_seen_by_other_clients() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, one) = a.create(Ino::ROOT, b"f").await;
        let (two, _) = b.open(ino, RDWR).await;
        a.ok(flock(ino, one, 1, WRITE)).await;
        assert_eq!(b.errno(flock(ino, two, 1, READ)).await, libc::EAGAIN);
        let waits = begin(&b, waiting(flock(ino, two, 1, READ)));
        uring::sleep(Duration::from_millis(5)).await;
        a.ok(flock(ino, one, 1, NONE)).await;
        assert!(matches!(waits.await, Ok(Reply::Ok)));
    });
}

#[test]
fn locks_of_a_dead_client_go_with_its_session() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, one) = a.create(Ino::ROOT, b"f").await;
        let (two, _) = b.open(ino, RDWR).await;
        a.ok(flock(ino, one, 1, WRITE)).await;
        a.ok(lock(ino, one, 1, (0, 9, WRITE))).await;
        assert_eq!(b.errno(flock(ino, two, 1, WRITE)).await, libc::EAGAIN);
        // As the first heartbeat of another client does when the session has expired.
        let sid = a.meta.lock_owner(0).sid;
        b.meta.close_session(sid).await.unwrap();
        b.ok(flock(ino, two, 1, WRITE)).await;
        b.ok(lock(ino, two, 1, (0, 9, WRITE))).await;
    });
}

#[test]
fn who_waits_for_each_other_waits_until_a_signal() {
    with_mount(|m| async move {
        let (ino, h) = m.create(Ino::ROOT, b"f").await;
        m.ok(lock(ino, h, 1, (0, 0, WRITE))).await;
        m.ok(lock(ino, h, 2, (1, 1, WRITE))).await;
        let mut waits = Vec::new();
        for (owner, place) in [(1, 1), (2, 0)] {
            let unique = m.next_unique();
            waits.push((unique, begin(&m, waiting(lock(ino, h, owner, (place, place, WRITE))))));
            uring::sleep(Duration::from_millis(50)).await;
        }
        for (unique, reply) in waits {
            m.vfs.interrupt(unique);
            assert!(matches!(reply.await, Ok(Reply::Error(libc::EINTR))));
        }
    });
}
