//! The yardstick: the same empty file system behind the `fuse3` crate.
//!
//! Owns the translation between the crate's calls and ours. The tree behind them is that of the
//! other systems (`NullFs`), so that only the way of the requests differs. Listings are left out:
//! no case here lists.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use fuse3::raw::prelude::{
    FileAttr, Filesystem, ReplyAttr, ReplyCreated, ReplyData, ReplyEntry, ReplyInit, ReplyOpen,
    ReplyWrite, Request, Session,
};
use fuse3::{Errno, Inode, MountOptions, Result, SetAttr, Timestamp};
use jfs_uring::fuse::unmount;
use jfs_uring::pages::Page;
use jfs_uring::types::{Attr, FileType, Ino, Name, Time};
use jfs_uring::vfs::op::{self, EntryReply, Op, Payload, Reply};

use crate::common::null_fs::NullFs;

/// Largest write, as on our transports.
const WRITE_BYTES_MAX: NonZeroU32 = NonZeroU32::new(1 << 20).expect("not zero");
/// What our transports grant the kernel, instead of the crate's 12 and 9.
const BACKGROUND_MAX: u16 = 128;
const CONGESTED_AT: u16 = 96;

/// What every read finds, and what stands for written bytes, which the tree drops unseen.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; WRITE_BYTES_MAX.get() as usize]);
static ZERO_PAGE: LazyLock<Page> = LazyLock::new(|| Page::from_vec(ZEROS.clone()));

/// Serve `point` from a thread; the result ends that.
pub fn serve(point: &Path) -> Box<dyn FnOnce()> {
    let (tell, told) = sync_channel(1);
    let path = point.to_owned();
    let serve = move || {
        // One thread: with more of them, requests wander and take longer.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let mut options = MountOptions::default();
            options.fs_name("bench").allow_other(true).default_permissions(true);
            let files = Fuse3Fs(NullFs::new(false));
            // Although this is root: the crate's privileged mount hands every read to a pool of
            // blocking threads and is several times slower.
            let session = Session::new(options).mount_with_unprivileged(files, &path);
            let session = session.await.expect("fusermount3 (package fuse3) mounts");
            tell.send(()).expect("somebody waits");
            session.await.expect("served");
        });
    };
    let server = std::thread::spawn(serve);
    told.recv().expect("it is mounted");
    let point = point.to_owned();
    Box::new(move || {
        unmount(&point, true).expect("mounted");
        server.join().expect("no panic");
    })
}

struct Fuse3Fs(NullFs);

fn name(text: &OsStr) -> Name {
    text.as_bytes().into()
}

/// The only answer but the expected one is an error.
fn errno(reply: &Reply) -> Errno {
    let Reply::Error(number) = reply else { panic!("{reply:?} answers another request") };
    (*number).into()
}

fn done(reply: &Reply) -> Result<()> {
    if matches!(reply, Reply::Ok) { Ok(()) } else { Err(errno(reply)) }
}

fn time(time: Time) -> Timestamp {
    Timestamp::new(time.sec, time.nsec)
}

fn attr(ino: Ino, attr: &Attr) -> FileAttr {
    let is_dir = attr.kind == FileType::Dir;
    FileAttr {
        ino: ino.0,
        size: attr.length,
        blocks: attr.length.div_ceil(512),
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        kind: if is_dir { fuse3::FileType::Directory } else { fuse3::FileType::RegularFile },
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
    }
}

/// The crate has one life for both; here they are equal.
fn entry(entry: &EntryReply) -> ReplyEntry {
    let ttl = Duration::from_nanos(entry.attr_ttl_ns);
    ReplyEntry { ttl, attr: attr(entry.ino, &entry.attr), generation: 0 }
}

impl Fuse3Fs {
    fn entry(&self, op: Op) -> Result<ReplyEntry> {
        match self.0.answer(op) {
            Reply::Entry(found) => Ok(entry(&found)),
            other => Err(errno(&other)),
        }
    }

    fn attr(&self, op: Op) -> Result<ReplyAttr> {
        match self.0.answer(op) {
            Reply::Attr { ino, attr: found, attr_ttl_ns } => {
                let ttl = Duration::from_nanos(attr_ttl_ns);
                Ok(ReplyAttr { ttl, attr: attr(ino, &found) })
            }
            other => Err(errno(&other)),
        }
    }
}

impl Filesystem for Fuse3Fs {
    async fn init(&self, _: Request) -> Result<ReplyInit> {
        let mut reply = ReplyInit::new(WRITE_BYTES_MAX);
        reply.max_background = Some(BACKGROUND_MAX);
        reply.congestion_threshold = Some(CONGESTED_AT);
        Ok(reply)
    }

    async fn destroy(&self, _: Request) {}

    async fn lookup(&self, _: Request, dir: Inode, text: &OsStr) -> Result<ReplyEntry> {
        self.entry(Op::Lookup { dir: Ino(dir), name: name(text) })
    }

    async fn getattr(
        &self,
        _: Request,
        ino: Inode,
        handle: Option<u64>,
        _flags: u32,
    ) -> Result<ReplyAttr> {
        self.attr(Op::Getattr { ino: Ino(ino), handle })
    }

    async fn setattr(
        &self,
        _: Request,
        ino: Inode,
        handle: Option<u64>,
        set: SetAttr,
    ) -> Result<ReplyAttr> {
        let mode = set.mode.map(|mode| (mode & 0o7777) as u16);
        let set = op::SetAttr { mode, size: set.size, handle, ..op::SetAttr::default() };
        self.attr(Op::Setattr { ino: Ino(ino), set })
    }

    async fn mkdir(
        &self,
        _: Request,
        dir: Inode,
        text: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<ReplyEntry> {
        self.entry(Op::Mkdir { dir: Ino(dir), name: name(text), mode, umask })
    }

    async fn create(
        &self,
        _: Request,
        dir: Inode,
        text: &OsStr,
        mode: u32,
        flags: u32,
    ) -> Result<ReplyCreated> {
        let op = Op::Create { dir: Ino(dir), name: name(text), mode, umask: 0, flags };
        match self.0.answer(op) {
            Reply::Create { entry: made, handle: fh, open_flags: flags } => {
                let ReplyEntry { ttl, attr, generation } = entry(&made);
                Ok(ReplyCreated { ttl, attr, generation, fh, flags })
            }
            other => Err(errno(&other)),
        }
    }

    async fn unlink(&self, _: Request, dir: Inode, text: &OsStr) -> Result<()> {
        done(&self.0.answer(Op::Unlink { dir: Ino(dir), name: name(text) }))
    }

    async fn rmdir(&self, _: Request, dir: Inode, text: &OsStr) -> Result<()> {
        done(&self.0.answer(Op::Rmdir { dir: Ino(dir), name: name(text) }))
    }

    async fn open(&self, _: Request, ino: Inode, flags: u32) -> Result<ReplyOpen> {
        match self.0.answer(Op::Open { ino: Ino(ino), flags, kill_priv: false }) {
            Reply::Open { handle: fh, open_flags: flags } => Ok(ReplyOpen { fh, flags }),
            other => Err(errno(&other)),
        }
    }

    async fn read(
        &self,
        _: Request,
        ino: Inode,
        handle: u64,
        offset: u64,
        len_bytes: u32,
    ) -> Result<ReplyData> {
        match self.0.answer(Op::Read { ino: Ino(ino), handle, offset, len_bytes, flags: 0 }) {
            Reply::Data(pieces) => {
                let zeros: &'static [u8] = &ZEROS;
                let len_bytes = pieces.iter().map(|piece| piece.len()).sum();
                Ok(ReplyData { data: zeros[..len_bytes].into() })
            }
            other => Err(errno(&other)),
        }
    }

    async fn write(
        &self,
        _: Request,
        ino: Inode,
        handle: u64,
        offset: u64,
        data: &[u8],
        _write_flags: u32,
        flags: u32,
    ) -> Result<ReplyWrite> {
        // A payload of ours outlives this call; copying one megabyte for that would be unfair.
        let data = Payload(Box::new(ZERO_PAGE.piece(0, data.len())));
        let (ino, kill_priv, cached) = (Ino(ino), false, false);
        let op = Op::Write { ino, handle, offset, data, flags, kill_priv, cached };
        match self.0.answer(op) {
            Reply::Written(written) => Ok(ReplyWrite { written }),
            other => Err(errno(&other)),
        }
    }

    async fn flush(&self, _: Request, ino: Inode, handle: u64, lock_owner: u64) -> Result<()> {
        done(&self.0.answer(Op::Flush { ino: Ino(ino), handle, lock_owner }))
    }

    async fn fsync(&self, _: Request, ino: Inode, handle: u64, datasync: bool) -> Result<()> {
        done(&self.0.answer(Op::Fsync { ino: Ino(ino), handle, datasync }))
    }

    async fn release(
        &self,
        _: Request,
        ino: Inode,
        handle: u64,
        flags: u32,
        lock_owner: u64,
        _flush: bool,
    ) -> Result<()> {
        let ino = Ino(ino);
        done(&self.0.answer(Op::Release { ino, handle, flags, flock_owner: None, lock_owner }))
    }
}
