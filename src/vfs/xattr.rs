//! Extended attributes: limits and which names are served; the rest is metadata's.

use std::rc::Rc;

use rustix::io::Errno;

use super::acl;
use super::dispatch::Vfs;
use super::error::Done;
use super::op::Reply;
use super::state;
use crate::errno::Cause;
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::types::Ino;

impl Vfs {
    pub(super) async fn setxattr(
        self: &Rc<Self>,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: u32,
        drops_group_id: bool,
    ) -> Done {
        self.changes_xattr(ino, name)?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Errno::RANGE.into());
        }
        if let Some(kind) = acl::kind_of(name) {
            return self.set_acl(ino, kind, Some(value), drops_group_id).await;
        }
        self.meta.setxattr(ino, name, value, flags).await?;
        Ok(Reply::Ok)
    }

    pub(super) async fn removexattr(self: &Rc<Self>, ino: Ino, name: &[u8]) -> Done {
        self.changes_xattr(ino, name)?;
        if let Some(kind) = acl::kind_of(name) {
            return self.set_acl(ino, kind, None, false).await;
        }
        self.meta.removexattr(ino, name).await?;
        Ok(Reply::Ok)
    }

    pub(super) async fn getxattr(self: &Rc<Self>, ino: Ino, name: &[u8], room_bytes: u32) -> Done {
        if name == state::NAME {
            return self.get_state(ino, room_bytes).await;
        }
        if self.config.writeback && !self.config.xattr {
            // Where it hears that there is no such call the kernel never asks for the state again.
            return Err(Errno::OPNOTSUPP.into());
        }
        self.good_xattr(name)?;
        if ino >= Ino::VIRTUAL || !self.serves(name) {
            return Err(Errno::NODATA.into());
        }
        if let Some(kind) = acl::kind_of(name) {
            return self.get_acl(ino, kind, room_bytes).await;
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
        if self.config.acl {
            let (attr, _) = self.attr(ino).await?;
            for name in acl::names(&attr) {
                list.extend_from_slice(name);
                list.push(0);
            }
        }
        fitting(list.into(), room_bytes)
    }

    fn changes_xattr(&self, ino: Ino, name: &[u8]) -> Done<()> {
        if name == state::NAME {
            return Err(Errno::PERM.into());
        }
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
            _ => self.config.acl || acl::kind_of(name).is_none(),
        }
    }
}

/// The value, its length where the caller has no room yet, ERANGE where it has too little.
pub(super) fn fitting(value: Box<[u8]>, room_bytes: u32) -> Done {
    if room_bytes == 0 {
        return Ok(Reply::XattrSize(value.len() as u32));
    }
    if value.len() > room_bytes as usize {
        return Err(Errno::RANGE.into());
    }
    Ok(Reply::Bytes(value))
}
