//! Bytes from the kernel to a `vfs::op::Request`.
//!
//! A message is a header, a fixed argument per opcode, and the rest: names, values, data. The two
//! transports deliver the three parts differently; here they are apart. Names are copied out of the
//! rest, written data is not: it stays where it arrived, and travels in the request.

use super::abi::{SETXATTR_ACL_KILL_SGID, opcode};
use crate::types::{Ino, Name, Time};
use crate::vfs::op::{Caller, LockRange, Op, Payload, Request, SetAttr, SetTime};

/// Bytes of a request's header.
pub const IN_HEADER_BYTES: usize = 40;

/// Bytes of the fixed argument that follows the header in `/dev/fuse`.
pub fn fixed_bytes(code: u32) -> usize {
    match code {
        opcode::SETATTR => 88,
        opcode::COPY_FILE_RANGE => 56,
        opcode::GETLK | opcode::SETLK | opcode::SETLKW => 48,
        opcode::READ | opcode::WRITE | opcode::READDIR | opcode::READDIRPLUS => 40,
        opcode::IOCTL | opcode::FALLOCATE => 32,
        opcode::RELEASE | opcode::RELEASEDIR | opcode::FLUSH | opcode::LSEEK => 24,
        opcode::GETATTR
        | opcode::MKNOD
        | opcode::RENAME2
        | opcode::CREATE
        | opcode::TMPFILE
        | opcode::SETXATTR
        | opcode::FSYNC
        | opcode::FSYNCDIR => 16,
        opcode::FORGET
        | opcode::BATCH_FORGET
        | opcode::MKDIR
        | opcode::RENAME
        | opcode::LINK
        | opcode::OPEN
        | opcode::OPENDIR
        | opcode::GETXATTR
        | opcode::LISTXATTR
        | opcode::ACCESS
        | opcode::INTERRUPT => 8,
        _ => 0,
    }
}

/// What a setattr sets when the kernel flushes the times of what it had collected: mtime and ctime; it may
/// name a handle.
const TIMES_OF_WRITES: u32 = 1 << 5 | 1 << 10;
const HANDLE: u32 = 1 << 6;

/// A request from its three parts; `fixed` may be longer than the opcode needs. `keep` makes of
/// `rest` what a request may take along; only written data is.
///
/// # Errors
/// The errno to answer with: ENOSYS for what this client does not do, EINVAL for a message that
/// makes no sense.
pub fn decode(
    header: &[u8],
    fixed: &[u8],
    rest: &[u8],
    keep: impl FnOnce() -> Payload,
) -> Result<Request, i32> {
    let mut head = Fields(header);
    let (_len, code, unique) = (head.u32()?, head.u32()?, head.u64()?);
    let node = Ino(head.u64()?);
    let caller = Caller { uid: head.u32()?, gid: head.u32()?, pid: head.u32()? };
    let fixed = Fields(fixed);
    let op = match code {
        opcode::WRITE => write(node, fixed, rest, keep)?,
        opcode::READ
        | opcode::FLUSH
        | opcode::RELEASE
        | opcode::FSYNC
        | opcode::OPEN
        | opcode::FALLOCATE
        | opcode::LSEEK
        | opcode::COPY_FILE_RANGE => file(code, node, fixed)?,
        opcode::OPENDIR
        | opcode::READDIR
        | opcode::READDIRPLUS
        | opcode::RELEASEDIR
        | opcode::FSYNCDIR => directory(code, node, fixed)?,
        opcode::GETLK | opcode::SETLK | opcode::SETLKW => lock(code, node, fixed)?,
        opcode::GETATTR | opcode::SETATTR | opcode::STATFS | opcode::ACCESS => {
            attributes(code, node, fixed)?
        }
        opcode::SETXATTR
        | opcode::GETXATTR
        | opcode::LISTXATTR
        | opcode::REMOVEXATTR
        | opcode::IOCTL => extended(code, node, fixed, rest)?,
        opcode::FORGET | opcode::BATCH_FORGET => forget(code, node, fixed, rest)?,
        opcode::DESTROY => Op::Destroy,
        _ => names(code, node, fixed, rest)?,
    };
    Ok(Request { unique, caller, op })
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> Result<u32, i32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(libc::EINVAL)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, i32> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(libc::EINVAL)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*bytes))
    }
}

/// Splits a NUL-terminated name off.
fn name(rest: &mut &[u8]) -> Result<Name, i32> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(libc::EINVAL)?;
    let name = rest[..end].into();
    *rest = &rest[end + 1..];
    Ok(name)
}

fn names(code: u32, dir: Ino, mut fixed: Fields<'_>, mut rest: &[u8]) -> Result<Op, i32> {
    let rest = &mut rest;
    Ok(match code {
        opcode::LOOKUP => Op::Lookup { dir, name: name(rest)? },
        opcode::READLINK => Op::Readlink { ino: dir },
        opcode::SYMLINK => Op::Symlink { dir, name: name(rest)?, target: name(rest)? },
        opcode::MKNOD => {
            let (mode, rdev, umask) = (fixed.u32()?, fixed.u32()?, fixed.u32()?);
            Op::Mknod { dir, name: name(rest)?, mode, rdev, umask }
        }
        opcode::MKDIR => {
            Op::Mkdir { dir, mode: fixed.u32()?, umask: fixed.u32()?, name: name(rest)? }
        }
        opcode::UNLINK => Op::Unlink { dir, name: name(rest)? },
        opcode::RMDIR => Op::Rmdir { dir, name: name(rest)? },
        opcode::RENAME | opcode::RENAME2 => {
            let new_dir = Ino(fixed.u64()?);
            let flags = if code == opcode::RENAME2 { fixed.u32()? } else { 0 };
            Op::Rename { dir, new_dir, flags, name: name(rest)?, new_name: name(rest)? }
        }
        opcode::LINK => Op::Link { ino: Ino(fixed.u64()?), new_dir: dir, new_name: name(rest)? },
        opcode::CREATE => {
            let (flags, mode, umask) = (fixed.u32()?, fixed.u32()?, fixed.u32()?);
            Op::Create { dir, name: name(rest)?, mode, umask, flags }
        }
        opcode::TMPFILE => {
            let (flags, mode, umask) = (fixed.u32()?, fixed.u32()?, fixed.u32()?);
            Op::Tmpfile { dir, mode, umask, flags }
        }
        _ => return Err(libc::ENOSYS),
    })
}

fn forget(code: u32, node: Ino, mut fixed: Fields<'_>, rest: &[u8]) -> Result<Op, i32> {
    if code == opcode::FORGET {
        return Ok(Op::Forget { items: vec![(node, fixed.u64()?)] });
    }
    let count = fixed.u32()? as usize;
    let mut each = Fields(rest);
    if rest.len() / 16 < count {
        return Err(libc::EINVAL);
    }
    let items: Result<_, i32> = (0..count).map(|_| Ok((Ino(each.u64()?), each.u64()?))).collect();
    Ok(Op::Forget { items: items? })
}

fn attributes(code: u32, ino: Ino, mut fixed: Fields<'_>) -> Result<Op, i32> {
    Ok(match code {
        opcode::GETATTR => {
            let (flags, _, handle) = (fixed.u32()?, fixed.u32()?, fixed.u64()?);
            Op::Getattr { ino, handle: (flags & 1 != 0).then_some(handle) }
        }
        opcode::SETATTR => Op::Setattr { ino, set: set_attr(fixed)? },
        opcode::STATFS => Op::Statfs { ino },
        _ => Op::Access { ino, mask: fixed.u32()? },
    })
}

fn set_attr(mut fixed: Fields<'_>) -> Result<SetAttr, i32> {
    let (valid, _) = (fixed.u32()?, fixed.u32()?);
    let has = |bit: u32| valid & (1 << bit) != 0;
    let (handle, size, _lock_owner) = (fixed.u64()?, fixed.u64()?, fixed.u64()?);
    let (atime, mtime, _ctime) = (fixed.u64()? as i64, fixed.u64()? as i64, fixed.u64()?);
    let (atime_nsec, mtime_nsec, _ctime_nsec) = (fixed.u32()?, fixed.u32()?, fixed.u32()?);
    let (mode, _, uid, gid) = (fixed.u32()?, fixed.u32()?, fixed.u32()?, fixed.u32()?);
    let time = |set: u32, now: u32, sec: i64, nsec: u32| match (has(set), has(now)) {
        (false, _) => None,
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(Time { sec, nsec })),
    };
    Ok(SetAttr {
        mode: has(0).then_some((mode & 0o7777) as u16),
        uid: has(1).then_some(uid),
        gid: has(2).then_some(gid),
        size: has(3).then_some(size),
        atime: time(4, 7, atime, atime_nsec),
        mtime: time(5, 8, mtime, mtime_nsec),
        handle: has(6).then_some(handle),
        kill_priv: has(11),
        cached: valid & !HANDLE == TIMES_OF_WRITES,
    })
}

fn write(
    ino: Ino,
    mut fixed: Fields<'_>,
    rest: &[u8],
    keep: impl FnOnce() -> Payload,
) -> Result<Op, i32> {
    let (handle, offset, len_bytes) = (fixed.u64()?, fixed.u64()?, fixed.u32()?);
    let (write_flags, _lock_owner, flags) = (fixed.u32()?, fixed.u64()?, fixed.u32()?);
    if rest.len() != len_bytes as usize {
        return Err(libc::EINVAL);
    }
    let (cached, kill_priv) = (write_flags & 1 != 0, write_flags & 4 != 0);
    Ok(Op::Write { ino, handle, offset, data: keep(), flags, kill_priv, cached })
}

fn file(code: u32, ino: Ino, mut fixed: Fields<'_>) -> Result<Op, i32> {
    if code == opcode::OPEN {
        return Ok(Op::Open { ino, flags: fixed.u32()?, kill_priv: fixed.u32()? & 1 != 0 });
    }
    let handle = fixed.u64()?;
    Ok(match code {
        opcode::READ => {
            let (offset, len_bytes, _, _) =
                (fixed.u64()?, fixed.u32()?, fixed.u32()?, fixed.u64()?);
            Op::Read { ino, handle, offset, len_bytes, flags: fixed.u32()? }
        }
        opcode::FLUSH => {
            let _ = fixed.u64()?;
            Op::Flush { ino, handle, lock_owner: fixed.u64()? }
        }
        opcode::RELEASE => {
            let (flags, release_flags, lock_owner) = (fixed.u32()?, fixed.u32()?, fixed.u64()?);
            let flock_owner = (release_flags & 2 != 0).then_some(lock_owner);
            Op::Release { ino, handle, flags, flock_owner, lock_owner }
        }
        opcode::FSYNC => Op::Fsync { ino, handle, datasync: fixed.u32()? & 1 != 0 },
        opcode::FALLOCATE => {
            let (offset, len_bytes) = (fixed.u64()?, fixed.u64()?);
            Op::Fallocate { ino, handle, offset, len_bytes, mode: fixed.u32()? }
        }
        opcode::LSEEK => Op::Lseek { ino, handle, offset: fixed.u64()?, whence: fixed.u32()? },
        _ => {
            let (offset, to) = (fixed.u64()?, Ino(fixed.u64()?));
            let (to_handle, to_offset) = (fixed.u64()?, fixed.u64()?);
            let (len_bytes, flags) = (fixed.u64()?, fixed.u64()?);
            Op::CopyFileRange { ino, handle, offset, to, to_handle, to_offset, len_bytes, flags }
        }
    })
}

fn directory(code: u32, ino: Ino, mut fixed: Fields<'_>) -> Result<Op, i32> {
    if code == opcode::OPENDIR {
        return Ok(Op::Opendir { ino, flags: fixed.u32()? });
    }
    let handle = fixed.u64()?;
    Ok(match code {
        opcode::RELEASEDIR => Op::Releasedir { ino, handle },
        opcode::FSYNCDIR => Op::Fsyncdir { ino, handle, datasync: fixed.u32()? & 1 != 0 },
        _ => {
            let (offset, len_bytes) = (fixed.u64()?, fixed.u32()?);
            Op::Readdir { ino, handle, offset, len_bytes, plus: code == opcode::READDIRPLUS }
        }
    })
}

fn lock(code: u32, ino: Ino, mut fixed: Fields<'_>) -> Result<Op, i32> {
    let (handle, owner) = (fixed.u64()?, fixed.u64()?);
    let (start, end) = (fixed.u64()?, fixed.u64()?);
    let range = LockRange { start, end, kind: fixed.u32()?, pid: fixed.u32()? };
    if code == opcode::GETLK {
        return Ok(Op::Getlk { ino, handle, owner, range });
    }
    let flock = fixed.u32()? & 1 != 0;
    Ok(Op::Setlk { ino, handle, owner, range, wait: code == opcode::SETLKW, flock })
}

fn extended(code: u32, ino: Ino, mut fixed: Fields<'_>, mut rest: &[u8]) -> Result<Op, i32> {
    let rest = &mut rest;
    Ok(match code {
        opcode::SETXATTR => {
            let (len_bytes, flags) = (fixed.u32()? as usize, fixed.u32()?);
            let drops_group_id = fixed.u32()? & SETXATTR_ACL_KILL_SGID != 0;
            let name = name(rest)?;
            let value = rest.get(..len_bytes).ok_or(libc::EINVAL)?.into();
            Op::Setxattr { ino, name, value, flags, drops_group_id }
        }
        opcode::GETXATTR => Op::Getxattr { ino, len_bytes: fixed.u32()?, name: name(rest)? },
        opcode::LISTXATTR => Op::Listxattr { ino, len_bytes: fixed.u32()? },
        opcode::REMOVEXATTR => Op::Removexattr { ino, name: name(rest)? },
        _ => {
            let (handle, _flags, command) = (fixed.u64()?, fixed.u32()?, fixed.u32()?);
            let (_arg, in_bytes, out_bytes) = (fixed.u64()?, fixed.u32()?, fixed.u32()?);
            let data = rest.get(..in_bytes as usize).ok_or(libc::EINVAL)?.into();
            Op::Ioctl { ino, handle, command, data, out_bytes }
        }
    })
}

#[cfg(test)]
mod tests;
