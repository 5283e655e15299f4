//! Extended attributes and their limits.

use jfs_uring::types::Ino;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply};

use crate::world::*;

const CREATE: u32 = 1;
const REPLACE: u32 = 2;

fn set(ino: Ino, name: &[u8], value: &[u8], flags: u32) -> Op {
    Op::Setxattr { ino, name: name.into(), value: value.into(), flags, drops_group_id: false }
}

fn get(ino: Ino, name: &[u8], len_bytes: u32) -> Op {
    Op::Getxattr { ino, name: name.into(), len_bytes }
}

#[test]
fn values_are_set_read_listed_and_removed() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        assert_eq!(m.errno(set(ino, b"user.a", b"1", REPLACE)).await, libc::ENODATA);
        m.ok(set(ino, b"user.a", b"first", CREATE)).await;
        assert_eq!(m.errno(set(ino, b"user.a", b"1", CREATE)).await, libc::EEXIST);
        m.ok(set(ino, b"user.b", b"", 0)).await;
        assert!(matches!(m.ask(get(ino, b"user.a", 0)).await, Reply::XattrSize(5)));
        assert_eq!(m.errno(get(ino, b"user.a", 4)).await, libc::ERANGE);
        let Reply::Bytes(value) = m.ask(get(ino, b"user.a", 5)).await else { panic!("getxattr") };
        assert_eq!(&*value, b"first");
        let list = |len_bytes| Op::Listxattr { ino, len_bytes };
        assert!(matches!(m.ask(list(0)).await, Reply::XattrSize(14)));
        assert_eq!(m.errno(list(13)).await, libc::ERANGE);
        let Reply::Bytes(names) = m.ask(list(14)).await else { panic!("listxattr") };
        assert!(names.starts_with(b"user.") && names.ends_with(b"\0"));
        m.ok(Op::Removexattr { ino, name: (*b"user.a").into() }).await;
        assert_eq!(m.errno(get(ino, b"user.a", 0)).await, libc::ENODATA);
    });
}

#[test]
fn limits() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let name = [b'n'; 256];
        assert_eq!(m.errno(set(ino, &name, b"", 0)).await, libc::ERANGE);
        m.ok(set(ino, &name[..255], b"", 0)).await;
        let value = vec![1; 65_537];
        assert_eq!(m.errno(set(ino, b"user.big", &value, 0)).await, libc::ERANGE);
        m.ok(set(ino, b"user.big", &value[..65_536], 0)).await;
        assert_eq!(m.errno(set(ino, b"", b"", 0)).await, libc::EINVAL);
        assert_eq!(m.errno(set(ino, b"user.x", b"", 3)).await, libc::EINVAL);
    });
}

#[test]
fn names_of_the_system_are_not_pretended() {
    with_mount(|m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        for name in [&b"security.capability"[..], b"system.posix_acl_access"] {
            assert_eq!(m.errno(get(ino, name, 0)).await, libc::ENODATA);
            assert_eq!(m.errno(set(ino, name, b"x", 0)).await, libc::EOPNOTSUPP);
        }
        assert_eq!(m.errno(set(Ino::TRASH, b"user.x", b"", 0)).await, libc::EPERM);
        assert_eq!(m.errno(Op::Listxattr { ino: Ino::TRASH, len_bytes: 0 }).await, libc::ENODATA);
    });
}

#[test]
fn without_them_the_kernel_stops_asking() {
    with_config(VfsConfig::default(), |m| async move {
        assert_eq!(m.errno(get(Ino::ROOT, b"user.x", 0)).await, libc::ENOSYS);
        assert_eq!(m.errno(set(Ino::ROOT, b"user.x", b"", 0)).await, libc::ENOSYS);
    });
}
