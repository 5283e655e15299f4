//! Access control lists as extended attributes, and how they keep step with permission bits.

use jfs_uring::types::Ino;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply, SetAttr};

use crate::world::*;

pub const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

pub fn with_acl() -> VfsConfig {
    VfsConfig { xattr: true, acl: true, ..VfsConfig::default() }
}

/// Tag, permissions and id of each entry, as acl(5) has them.
fn list(entries: &[(u16, u16, u32)]) -> Box<[u8]> {
    let mut out = 2u32.to_ne_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_ne_bytes());
        out.extend(perm.to_ne_bytes());
        out.extend(id.to_ne_bytes());
    }
    out.into()
}

/// Owner, user 1001, group, mask, others.
pub fn shared(owner: u16, user: u16, group: u16, mask: u16, other: u16) -> Box<[u8]> {
    let none = u32::MAX;
    let user = (2, user, 1001);
    list(&[(1, owner, none), user, (4, group, none), (16, mask, none), (32, other, none)])
}

pub fn set(ino: Ino, name: &[u8], value: Box<[u8]>) -> Op {
    Op::Setxattr { ino, name: name.into(), value, flags: 0, drops_group_id: false }
}

async fn get(m: &Mount, ino: Ino, name: &[u8]) -> Box<[u8]> {
    match m.ask(Op::Getxattr { ino, name: name.into(), len_bytes: 4096 }).await {
        Reply::Bytes(value) => value,
        other => panic!("getxattr: {other:?}"),
    }
}

async fn mode(m: &Mount, ino: Ino) -> u16 {
    m.attr(ino).await.mode
}

#[test]
fn lists_are_set_read_listed_and_removed() {
    with_config(with_acl(), |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        m.ok(set(ino, ACCESS, shared(6, 7, 4, 5, 0))).await;
        assert_eq!(mode(&m, ino).await, 0o650, "the group's bits are the mask");
        assert_eq!(get(&m, ino, ACCESS).await, shared(6, 7, 4, 5, 0));
        let missing = Op::Getxattr { ino, name: DEFAULT.into(), len_bytes: 0 };
        assert_eq!(m.errno(missing).await, libc::ENODATA);
        let Reply::Bytes(names) = m.ask(Op::Listxattr { ino, len_bytes: 100 }).await else {
            panic!("listxattr")
        };
        assert_eq!(&*names, b"system.posix_acl_access\0");
        let chmod = SetAttr { mode: Some(0o604), ..SetAttr::default() };
        m.setattr(ino, chmod).await;
        assert_eq!(get(&m, ino, ACCESS).await, shared(6, 7, 4, 0, 4), "chmod moves the mask");
        m.ok(Op::Removexattr { ino, name: ACCESS.into() }).await;
        assert_eq!(mode(&m, ino).await, 0o604);
        m.ok(Op::Removexattr { ino, name: ACCESS.into() }).await;
        assert!(matches!(m.ask(Op::Listxattr { ino, len_bytes: 0 }).await, Reply::XattrSize(0)));
    });
}

#[test]
fn a_list_that_says_no_more_than_the_bits_becomes_them() {
    with_config(with_acl(), |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let none = u32::MAX;
        m.ok(set(ino, ACCESS, list(&[(1, 7, none), (4, 1, none), (32, 0, none)]))).await;
        assert_eq!(mode(&m, ino).await, 0o710);
        let missing = Op::Getxattr { ino, name: ACCESS.into(), len_bytes: 0 };
        assert_eq!(m.errno(missing).await, libc::ENODATA);
        assert_eq!(m.errno(set(ino, ACCESS, list(&[(2, 7, 1001)]))).await, libc::EINVAL);
        assert_eq!(m.errno(set(Ino::TRASH, ACCESS, shared(7, 7, 7, 7, 7))).await, libc::EPERM);
    });
}

#[test]
fn new_nodes_take_the_default_list_instead_of_the_umask() {
    with_config(with_acl(), |m| async move {
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        m.ok(set(dir, DEFAULT, shared(7, 6, 5, 7, 0))).await;
        assert_eq!(get(&m, dir, DEFAULT).await, shared(7, 6, 5, 7, 0));
        let make = Op::Mknod {
            dir,
            name: (*b"f").into(),
            mode: libc::S_IFREG | 0o666,
            rdev: 0,
            umask: 0o077,
        };
        let Reply::Entry(file) = m.ask(make).await else { panic!("mknod") };
        assert_eq!(file.attr.mode, 0o660);
        assert_eq!(get(&m, file.ino, ACCESS).await, shared(6, 6, 5, 6, 0));
        let make = Op::Mkdir { dir, name: (*b"e").into(), mode: 0o755, umask: 0o077 };
        let Reply::Entry(inner) = m.ask(make).await else { panic!("mkdir") };
        assert_eq!(inner.attr.mode, 0o750);
        assert_eq!(get(&m, inner.ino, DEFAULT).await, shared(7, 6, 5, 7, 0));
        assert_eq!(get(&m, inner.ino, ACCESS).await, shared(7, 6, 5, 5, 0));
    });
}

#[test]
fn set_group_id_goes_when_the_kernel_says_so() {
    with_config(with_acl(), |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let chmod = SetAttr { mode: Some(0o2755), ..SetAttr::default() };
        m.setattr(ino, chmod).await;
        m.ok(set(ino, ACCESS, shared(7, 7, 5, 5, 5))).await;
        assert_eq!(mode(&m, ino).await, 0o2755);
        let name = ACCESS.into();
        let value = shared(7, 7, 5, 7, 5);
        m.ok(Op::Setxattr { ino, name, value, flags: 0, drops_group_id: true }).await;
        assert_eq!(mode(&m, ino).await, 0o775);
    });
}
