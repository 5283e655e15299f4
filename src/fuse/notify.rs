//! Messages to the kernel that it has not asked for: what it must forget.
//!
//! Owns their layout, and the thread that writes them to `/dev/fuse`, whatever way requests come.
//! To forget a name the kernel locks its directory, which its own lookups, creates and removals hold
//! until they are answered, and to forget pages it waits for reads of them: such a write may wait for any
//! core. So it is done by a thread that answers nothing, through a descriptor of its own. Of files only
//! attributes are dropped, which takes no lock; when they have changed, the kernel drops pages by itself
//! (AUTO_INVAL_DATA).
//! While a write waits it cannot be killed: if the process is, its callers in that directory wait until
//! one of them is killed or the mount is ended by `umount -f`.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::types::Ino;
use crate::vfs::{Notice, Notices};

/// `FUSE_NOTIFY_INVAL_INODE`.
const INODE: i32 = 2;
/// `FUSE_NOTIFY_INVAL_ENTRY`.
const ENTRY: i32 = 3;
const HEADER_BYTES: usize = 16;
/// Where pages to be dropped begin; a negative place is in no file.
const NO_PAGES: i64 = -1;
const ALL_PAGES: i64 = 0;

/// Tell the kernel behind `device` what `notices` bring, until they end or it has let go of the
/// mount. Blocks: for a thread of its own.
pub fn serve(device: &OwnedFd, notices: &Notices) {
    while let Some(notice) = notices.next() {
        let told = tell(device, &notice);
        notices.heard();
        match told {
            Ok(()) => {}
            Err(Errno::NODEV | Errno::NOTCONN | Errno::CONNABORTED) => break,
            Err(error) => tracing::warn!(%error, ?notice, "the kernel keeps what it should forget"),
        }
    }
    notices.end();
}

fn tell(device: &OwnedFd, notice: &Notice) -> Result<(), Errno> {
    match notice {
        Notice::Removed { dir, name, ino } => {
            let knew = send(device, &entry(*dir, name))?;
            send(device, &attributes(*ino))?;
            if !knew {
                // With the name go the attributes of its directory, but only if it was known.
                send(device, &attributes(*dir))?;
            }
            Ok(())
        }
        Notice::Name { dir, name } => send(device, &entry(*dir, name)).map(drop),
        Notice::Attributes(ino) => send(device, &attributes(*ino)).map(drop),
        Notice::Content(ino) => send(device, &inode(*ino, ALL_PAGES)).map(drop),
    }
}

/// Whether the kernel knew of it.
fn send(device: &OwnedFd, message: &[u8]) -> Result<bool, Errno> {
    match rustix::io::retry_on_intr(|| rustix::io::write(device, message)) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

fn message(code: i32, parts: &[&[u8]]) -> Vec<u8> {
    let len_bytes = HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(len_bytes);
    out.extend((len_bytes as u32).to_ne_bytes());
    out.extend(code.to_ne_bytes());
    // The number of a request that there is not.
    out.extend(0u64.to_ne_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// `fuse_notify_inval_entry_out`: directory, bytes of the name, flags; then the name and a zero.
fn entry(dir: Ino, name: &[u8]) -> Vec<u8> {
    let len_bytes = u32::try_from(name.len()).expect("a name is short");
    let flags = 0u32;
    message(
        ENTRY,
        &[&dir.0.to_ne_bytes(), &len_bytes.to_ne_bytes(), &flags.to_ne_bytes(), name, &[0]],
    )
}

fn attributes(ino: Ino) -> Vec<u8> {
    inode(ino, NO_PAGES)
}

/// `fuse_notify_inval_inode_out`: number, place, bytes; 0 for all behind it.
fn inode(ino: Ino, pages_from: i64) -> Vec<u8> {
    message(INODE, &[&ino.0.to_ne_bytes(), &pages_from.to_ne_bytes(), &0i64.to_ne_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let told = entry(Ino(7), b"ab");
        assert_eq!(told.len(), 35);
        assert_eq!((&told[..4], &told[4..8]), (&35u32.to_ne_bytes()[..], &3u32.to_ne_bytes()[..]));
        assert_eq!((&told[8..16], &told[16..24]), (&[0; 8][..], &7u64.to_ne_bytes()[..]));
        assert_eq!((&told[24..28], &told[28..]), (&2u32.to_ne_bytes()[..], &b"\0\0\0\0ab\0"[..]));
        let told = attributes(Ino(9));
        assert_eq!((told.len(), &told[4..8]), (40, &2u32.to_ne_bytes()[..]));
        assert_eq!((&told[16..24], &told[24..32]), (&9u64.to_ne_bytes()[..], &[0xff; 8][..]));
    }
}
