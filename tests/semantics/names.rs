//! Names: made once, moved, removed, linked.

use jfs_uring::types::{FileType, Ino};
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply};

use crate::world::*;

const NO_REPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

#[test]
fn a_name_is_made_once() {
    with_mount(|m| async move {
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.close(ino, handle).await;
        let flags = RDWR | libc::O_EXCL as u32;
        let again = |flags| Op::Create {
            dir: Ino::ROOT,
            name: (*b"f").into(),
            mode: 0o600,
            umask: 0,
            flags,
        };
        assert_eq!(m.errno(again(flags)).await, libc::EEXIST);
        // Without O_EXCL another client may have been faster: then it is opened.
        let Reply::Create { entry, handle, .. } = m.ask(again(RDWR)).await else {
            panic!("create")
        };
        assert_eq!((entry.ino, entry.attr.mode), (ino, 0o644));
        m.close(ino, handle).await;
        m.mkdir(Ino::ROOT, b"d").await;
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: (*b"d").into(), mode: 0o700, umask: 0 };
        assert_eq!(m.errno(mkdir).await, libc::EEXIST);
    });
}

#[test]
fn nodes_of_all_kinds() {
    with_mount(|m| async move {
        let mknod = |name: &[u8], mode, rdev| Op::Mknod {
            dir: Ino::ROOT,
            name: name.into(),
            mode,
            rdev,
            umask: 0o022,
        };
        let fifo = m.entry(mknod(b"p", libc::S_IFIFO | 0o666, 0)).await;
        assert_eq!((fifo.attr.kind, fifo.attr.mode), (FileType::Fifo, 0o644));
        let device = m.entry(mknod(b"c", libc::S_IFCHR | 0o600, 0x0105)).await;
        assert_eq!((device.attr.kind, device.attr.rdev), (FileType::Char, 0x0105));
        assert_eq!(m.errno(mknod(b"x", libc::S_IFDIR | 0o755, 0)).await, libc::EPERM);
        let symlink = |target: &[u8]| Op::Symlink {
            dir: Ino::ROOT,
            name: (*b"s").into(),
            target: target.into(),
        };
        assert_eq!(m.errno(symlink(&[b'x'; 4096])).await, libc::ENAMETOOLONG);
        let link = m.entry(symlink(b"to/there")).await;
        assert_eq!((link.attr.kind, link.attr.length), (FileType::Symlink, 8));
        let Reply::Bytes(target) = m.ask(Op::Readlink { ino: link.ino }).await else {
            panic!("readlink")
        };
        assert_eq!(&*target, b"to/there");
    });
}

#[test]
fn long_names_are_refused() {
    with_mount(|m| async move {
        let name = vec![b'n'; 256];
        let lookup = Op::Lookup { dir: Ino::ROOT, name: name.clone().into() };
        assert_eq!(m.errno(lookup).await, libc::ENAMETOOLONG);
        let mkdir = Op::Mkdir { dir: Ino::ROOT, name: name.into(), mode: 0o700, umask: 0 };
        assert_eq!(m.errno(mkdir).await, libc::ENAMETOOLONG);
        m.mkdir(Ino::ROOT, &[b'n'; 255]).await;
    });
}

#[test]
fn rename_replaces_at_once_and_completely() {
    with_mount(|m| async move {
        let old = m.put(Ino::ROOT, b"old", b"the old content").await;
        let new = m.put(Ino::ROOT, b"new", b"new").await;
        m.rename(Ino::ROOT, b"new", Ino::ROOT, b"old").await;
        assert_eq!(m.lookup(Ino::ROOT, b"old").await.ino, new);
        m.absent(Ino::ROOT, b"new").await;
        assert_eq!(m.cat(new).await, b"new");
        assert_eq!(m.errno(Op::Getattr { ino: old, handle: None }).await, libc::ESTALE);
    });
}

#[test]
fn rename_of_and_over_directories() {
    with_mount(|m| async move {
        let a = m.mkdir(Ino::ROOT, b"a").await;
        let b = m.mkdir(Ino::ROOT, b"b").await;
        m.put(Ino::ROOT, b"f", b"").await;
        m.put(b, b"inside", b"").await;
        let errno = |from: &'static [u8], to: &'static [u8]| {
            m.errno(Mount::rename_op(Ino::ROOT, from, Ino::ROOT, to, 0))
        };
        assert_eq!(errno(b"a", b"b").await, libc::ENOTEMPTY);
        assert_eq!(errno(b"a", b"f").await, libc::ENOTDIR);
        assert_eq!(errno(b"f", b"a").await, libc::EISDIR);
        let below = Mount::rename_op(Ino::ROOT, b"a", a, b"itself", 0);
        assert_eq!(m.errno(below).await, libc::EINVAL);
        m.rename(b, b"inside", a, b"moved").await;
        m.rename(Ino::ROOT, b"a", Ino::ROOT, b"b").await;
        assert_eq!(m.names(Ino::ROOT).await, ["b", "f"]);
        assert_eq!(m.names(a).await, ["moved"]);
    });
}

#[test]
fn rename_that_keeps_or_swaps() {
    with_mount(|m| async move {
        let one = m.put(Ino::ROOT, b"one", b"1").await;
        let two = m.put(Ino::ROOT, b"two", b"2").await;
        let op = |flags| Mount::rename_op(Ino::ROOT, b"one", Ino::ROOT, b"two", flags);
        assert_eq!(m.errno(op(NO_REPLACE)).await, libc::EEXIST);
        m.ok(op(EXCHANGE)).await;
        assert_eq!(m.lookup(Ino::ROOT, b"one").await.ino, two);
        assert_eq!(m.lookup(Ino::ROOT, b"two").await.ino, one);
        assert_eq!(m.errno(op(4)).await, libc::EINVAL);
    });
}

#[test]
fn links_count_and_share() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"shared").await;
        let link = Op::Link { ino, new_dir: Ino::ROOT, new_name: (*b"g").into() };
        assert_eq!(m.entry(link).await.attr.nlink, 2);
        m.unlink(Ino::ROOT, b"f").await;
        assert_eq!(m.attr(ino).await.nlink, 1);
        assert_eq!(m.cat(ino).await, b"shared");
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let link = Op::Link { ino: dir, new_dir: Ino::ROOT, new_name: (*b"e").into() };
        assert_eq!(m.errno(link).await, libc::EPERM);
    });
}

#[test]
fn absent_names_are_remembered_when_asked_to() {
    let config = VfsConfig { negative_ttl_ns: 5, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let entry = m.lookup(Ino::ROOT, b"nothing").await;
        assert_eq!((entry.ino, entry.entry_ttl_ns), (Ino(0), 5));
    });
}

#[test]
fn the_trash_is_a_name_of_the_root() {
    with_mount(|m| async move {
        assert_eq!(m.lookup(Ino::ROOT, b".trash").await.ino, Ino::TRASH);
        let unlink = Op::Rmdir { dir: Ino::ROOT, name: (*b".trash").into() };
        assert_eq!(m.errno(unlink).await, libc::EPERM);
        let listing = m.opendir(Ino::ROOT).await;
        let entries = m.readdir(Ino::ROOT, listing, 0, 4096, false).await;
        assert!(entries.iter().any(|entry| &*entry.name == b".trash"));
        let set = jfs_uring::vfs::op::SetAttr { mode: Some(0o777), ..Default::default() };
        assert_eq!(m.setattr(Ino::TRASH, set).await.mode, 0o555);
    });
}

#[test]
fn names_are_seen_by_other_clients_at_once() {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let (a, b) =
            (volume.mount(VfsConfig::default()).await, volume.mount(VfsConfig::default()).await);
        let (ino, _) = a.create(Ino::ROOT, b"f").await;
        assert_eq!(b.lookup(Ino::ROOT, b"f").await.ino, ino);
        b.rename(Ino::ROOT, b"f", Ino::ROOT, b"g").await;
        a.absent(Ino::ROOT, b"f").await;
        // What a mount remembers is only a guess: the commit finds the name taken.
        let taken = Op::Mkdir { dir: Ino::ROOT, name: (*b"g").into(), mode: 0o755, umask: 0 };
        assert_eq!(a.errno(taken).await, libc::EEXIST);
        a.unlink(Ino::ROOT, b"g").await;
        b.absent(Ino::ROOT, b"g").await;
    });
}

#[test]
fn a_moved_directory_is_seen_as_changed_at_once() {
    with_mount(|m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let before = m.attr(dir).await.ctime;
        m.rename(Ino::ROOT, b"d", Ino::ROOT, b"e").await;
        assert!(m.attr(dir).await.ctime > before);
    });
}
