//! The inode flags of chattr(1) and lsattr(1).
//!
//! Owns the translation between the kernel's bits and JuiceFS's.

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::op::{Caller, Reply};
use crate::errno::Cause;
use crate::meta::Wanted;
use crate::types::{FLAG_APPEND, FLAG_IMMUTABLE, FLAG_SKIP_TRASH, Ino};

/// Numbers of the commands without the bits that tell the size of their argument.
const SIZE_BITS: u32 = 0x3FFF << 16;
const GETFLAGS: u32 = 0x8000_6601;
const SETFLAGS: u32 = 0x4000_6602;
const FSGETXATTR: u32 = 0x8000_581F;
/// Bytes of `struct fsxattr`; its flags come first.
const FSXATTR_BYTES: usize = 28;

/// JuiceFS's flag, the kernel's, and the one in `struct fsxattr`.
const FLAGS: [(u8, u32, u32); 3] =
    [(FLAG_SKIP_TRASH, 0x1, 0), (FLAG_IMMUTABLE, 0x10, 0x8), (FLAG_APPEND, 0x20, 0x10)];

impl Vfs {
    pub(super) async fn ioctl(
        &self,
        ino: Ino,
        command: u32,
        data: &[u8],
        out_bytes: u32,
        caller: Caller,
    ) -> Done {
        if !self.config.ioctl {
            return Err(Cause::NotDone);
        }
        match command & !SIZE_BITS {
            GETFLAGS => {
                let flags = self.meta.getattr(ino).await?.flags;
                let word = FLAGS.iter().filter(|(own, ..)| flags & own != 0).map(|each| each.1);
                Ok(reply(word.sum(), (out_bytes as usize).clamp(4, 8)))
            }
            FSGETXATTR => {
                let flags = self.meta.getattr(ino).await?.flags;
                let word = FLAGS.iter().filter(|(own, ..)| flags & own != 0).map(|each| each.2);
                Ok(reply(word.sum(), FSXATTR_BYTES))
            }
            SETFLAGS => self.set_flags(ino, data, caller).await,
            _ => Err(Errno::NOTTY.into()),
        }
    }

    async fn set_flags(&self, ino: Ino, data: &[u8], caller: Caller) -> Done {
        let word = data.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::INVAL)?;
        let word = u32::from_ne_bytes(word);
        let mut flags = 0;
        let mut known = 0;
        for (own, kernels, _) in FLAGS {
            known |= kernels;
            flags |= if word & kernels != 0 { own } else { 0 };
        }
        if word & !known != 0 {
            return Err(Errno::OPNOTSUPP.into());
        }
        if caller.uid != 0 {
            return Err(Errno::PERM.into());
        }
        // Flags that chattr(1) has no word for stay.
        let nameable = FLAGS.iter().fold(0, |all, (own, ..)| all | own);
        flags |= self.meta.getattr(ino).await?.flags & !nameable;
        let wanted = Wanted { flags: Some(flags), ..Wanted::default() };
        self.meta.setattr(ino, &wanted).await?;
        self.changed(ino);
        Ok(Reply::Ioctl { result: 0, data: Box::default() })
    }
}

fn reply(word: u32, len: usize) -> Reply {
    let mut data = vec![0; len];
    data[..4].copy_from_slice(&word.to_ne_bytes());
    Reply::Ioctl { result: 0, data: data.into() }
}
