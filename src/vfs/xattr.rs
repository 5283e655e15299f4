//! Extended attributes: limits and which names are served; the rest is metadata's.

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::op::Reply;
use crate::errno::Cause;
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::types::Ino;

impl Vfs {
    pub(super) async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: u32) -> Done {
        self.changes_xattr(ino, name)?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Errno::RANGE.into());
        }
        self.meta.setxattr(ino, name, value, flags).await?;
        Ok(Reply::Ok)
    }

    pub(super) async fn removexattr(&self, ino: Ino, name: &[u8]) -> Done {
        self.changes_xattr(ino, name)?;
        self.meta.removexattr(ino, name).await?;
        Ok(Reply::Ok)
    }

    pub(super) async fn getxattr(&self, ino: Ino, name: &[u8], room_bytes: u32) -> Done {
        self.good_xattr(name)?;
        if ino >= Ino::VIRTUAL || !self.serves(name) {
            return Err(Errno::NODATA.into());
        }
        fitting(self.meta.getxattr(ino, name).await?, room_bytes)
    }

    pub(super) async fn listxattr(&self, ino: Ino, room_bytes: u32) -> Done {
        if !self.config.xattr {
            return Err(Cause::NotDone);
        }
        if ino >= Ino::VIRTUAL {
            return Err(Errno::NODATA.into());
        }
        let mut list = Vec::new();
        for name in self.meta.listxattr(ino).await? {
            list.extend_from_slice(&name);
            list.push(0);
        }
        fitting(list.into(), room_bytes)
    }

    fn changes_xattr(&self, ino: Ino, name: &[u8]) -> Done<()> {
        self.good_xattr(name)?;
        if ino >= Ino::VIRTUAL {
            return Err(Errno::PERM.into());
        }
        if self.serves(name) { Ok(()) } else { Err(Errno::OPNOTSUPP.into()) }
    }

    fn good_xattr(&self, name: &[u8]) -> Done<()> {
        match name.len() {
            _ if !self.config.xattr => Err(Cause::NotDone),
            0 => Err(Errno::INVAL.into()),
            len if len > XATTR_NAME_BYTES_MAX => Err(Errno::RANGE.into()),
            _ => Ok(()),
        }
    }

    /// Whether a name is served: some cost a question per write, others would only pretend.
    fn serves(&self, name: &[u8]) -> bool {
        match name {
            b"security.capability" => self.config.capability,
            b"security.selinux" => self.config.selinux,
            b"system.posix_acl_access" | b"system.posix_acl_default" => false,
            _ => true,
        }
    }
}

/// The value, its length where the caller has no room yet, ERANGE where it has too little.
fn fitting(value: Box<[u8]>, room_bytes: u32) -> Done {
    if room_bytes == 0 {
        return Ok(Reply::XattrSize(value.len() as u32));
    }
    if value.len() > room_bytes as usize {
        return Err(Errno::RANGE.into());
    }
    Ok(Reply::Bytes(value))
}
