//! The files that exist only in a mount: `.accesslog`, `.control`, `.stats` and `.config`.
//!
//! Owns their names, numbers, attributes, and what the kernel may do with them: all as the official
//! client has them, for its tools. `log` and `line` are the log; `control` takes messages and
//! answers them, `message` is their form (`question` that of this client's own), `job` one in work, `rmr`, `info`,
//! `fill` and `levels` what is done.

mod control;
mod fill;
mod info;
mod job;
mod levels;
mod line;
mod log;
mod message;
mod question;
mod rmr;
mod stats;

use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::handle::writes;
use super::op::{EntryReply, Op, Reply, Request};
use crate::types::{Attr, FileType, Ino, Time};

pub use info::{Inquiry, info_of};
pub(super) use line::Line;
pub(super) use log::AccessLog;
pub use question::Question;

use control::Control;
use log::Reader;

/// The kernel passes each read and write on.
const DIRECT_IO: u32 = 1;

const LOG: Ino = Ino(Ino::VIRTUAL.0 + 1);
const CONTROL: Ino = Ino(Ino::VIRTUAL.0 + 2);
const STATS: Ino = Ino(Ino::VIRTUAL.0 + 3);
const CONFIG: Ino = Ino(Ino::VIRTUAL.0 + 4);

/// Name, number and permission bits of each.
const NODES: [(&[u8], Ino, u16); 4] = [
    (b".control", CONTROL, 0o666),
    (b".accesslog", LOG, 0o400),
    (b".stats", STATS, 0o444),
    (b".config", CONFIG, 0o400),
];

/// One of them, open.
pub(super) enum OpenNode {
    /// Its bytes as they were when it was opened.
    Text(Box<[u8]>),
    Log(Arc<Reader>),
    Control(Arc<Control>),
}

/// Names that stand in the listing of the root.
pub(super) fn listed() -> impl Iterator<Item = (&'static [u8], Ino)> {
    let names = NODES.iter().map(|(name, ino, _)| (*name, *ino));
    names.filter(|(_, ino)| *ino != CONTROL)
}

/// Whether this is the number of one of them.
#[inline]
fn is_node(ino: Ino) -> bool {
    ino > Ino::VIRTUAL && ino < Ino::TRASH
}

/// What a name stands for: all of them in the root, `.control` everywhere.
fn named(dir: Ino, name: &[u8]) -> Option<Ino> {
    if name.first() != Some(&b'.') {
        return None;
    }
    let found = NODES.iter().find(|(known, ..)| *known == name);
    found.map(|(_, ino, _)| *ino).filter(|ino| dir == Ino::ROOT || *ino == CONTROL)
}

/// Whether a name in the root is taken.
fn is_taken(dir: Ino, name: &[u8]) -> bool {
    dir == Ino::ROOT && named(dir, name).is_some()
}

/// Whether an operation is for one of them, or for a name that is theirs.
pub(super) fn concerns(op: &Op) -> bool {
    match op {
        Op::Lookup { dir, name } => named(*dir, name).is_some() || is_node(*dir),
        Op::Getattr { ino, .. }
        | Op::Setattr { ino, .. }
        | Op::Open { ino, .. }
        | Op::Read { ino, .. }
        | Op::Write { ino, .. }
        | Op::Flush { ino, .. }
        | Op::Release { ino, .. }
        | Op::Fsync { ino, .. }
        | Op::Getlk { ino, .. }
        | Op::Setlk { ino, .. }
        | Op::Fallocate { ino, .. }
        | Op::Lseek { ino, .. }
        | Op::Ioctl { ino, .. } => is_node(*ino),
        Op::CopyFileRange { ino, to, .. } => is_node(*ino) || is_node(*to),
        Op::Mknod { dir, name, .. }
        | Op::Mkdir { dir, name, .. }
        | Op::Symlink { dir, name, .. }
        | Op::Create { dir, name, .. }
        | Op::Unlink { dir, name }
        | Op::Rmdir { dir, name } => is_taken(*dir, name),
        Op::Rename { dir, name, new_dir, new_name, .. } => {
            is_taken(*dir, name) || is_taken(*new_dir, new_name)
        }
        Op::Link { ino, new_dir, new_name } => is_node(*ino) || is_taken(*new_dir, new_name),
        _ => false,
    }
}

impl Vfs {
    /// An operation that [`concerns`] them.
    pub(super) async fn internal(self: Rc<Self>, request: Request) -> Done {
        let Request { caller, op, .. } = request;
        match op {
            Op::Lookup { dir, name } => self.internal_lookup(dir, &name),
            // Whatever is asked to be changed: it seems to work, as with the official client.
            Op::Getattr { ino, .. } | Op::Setattr { ino, .. } => {
                let attr = self.internal_attr(ino).ok_or(Errno::NOENT)?;
                Ok(Reply::Attr { ino, attr, attr_ttl_ns: self.config.attr_ttl_ns })
            }
            Op::Open { ino, flags, .. } => self.internal_open(ino, flags).await,
            Op::Read { handle, offset, len_bytes, .. } => {
                let node = self.shared.handles.internal(handle)?;
                Ok(Reply::Bytes(node.read(offset, len_bytes as usize).await?.into()))
            }
            Op::Write { handle, data, .. } => {
                let node = self.shared.handles.internal(handle)?;
                let OpenNode::Control(control) = &*node else { return Err(Errno::BADF.into()) };
                let taken = u32::try_from(data.0.len()).expect("a request is small");
                self.told(control, &data.0, caller).await?;
                Ok(Reply::Written(taken))
            }
            Op::Flush { handle, .. } => {
                if let OpenNode::Control(control) = &*self.shared.handles.internal(handle)? {
                    control.cancel();
                }
                Ok(Reply::Ok)
            }
            Op::Release { handle, .. } => {
                if let Some(node) = self.shared.handles.remove_internal(handle)
                    && let OpenNode::Log(reader) = &*node
                {
                    self.shared.access_log.close(reader);
                }
                Ok(Reply::Ok)
            }
            Op::Fsync { .. } => Ok(Reply::Ok),
            Op::Ioctl { .. } => Err(Errno::NOTTY.into()),
            Op::Lseek { .. } => Err(Errno::INVAL.into()),
            Op::Rmdir { .. } => Err(Errno::NOTDIR.into()),
            Op::Mknod { .. } | Op::Mkdir { .. } | Op::Symlink { .. } | Op::Create { .. } => {
                Err(Errno::EXIST.into())
            }
            _ => Err(Errno::PERM.into()),
        }
    }

    fn internal_attr(&self, ino: Ino) -> Option<Attr> {
        let (.., mode) = NODES.iter().find(|(_, known, _)| *known == ino)?;
        let length = if ino == CONFIG { self.config.shown.len() as u64 } else { 0 };
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let time = Time { sec: self.shared.began.sec, nsec: 0 };
        let attr = Attr::new(FileType::File, *mode, time);
        Some(Attr { uid: uid.as_raw(), gid: gid.as_raw(), length, ..attr })
    }

    fn internal_lookup(&self, dir: Ino, name: &[u8]) -> Done {
        let ino = if name == b"." { Some(dir) } else { named(dir, name) };
        let ino = ino.ok_or(Errno::NOTDIR)?;
        let attr = self.internal_attr(ino).ok_or(Errno::NOENT)?;
        let (entry_ttl_ns, attr_ttl_ns) = (self.config.entry_ttl_ns, self.config.attr_ttl_ns);
        Ok(Reply::Entry(EntryReply { ino, attr, entry_ttl_ns, attr_ttl_ns }))
    }

    async fn internal_open(&self, ino: Ino, flags: u32) -> Done {
        if ino != CONTROL && writes(flags) {
            return Err(Errno::ACCESS.into());
        }
        let node = match ino {
            CONTROL => OpenNode::Control(Arc::default()),
            LOG => OpenNode::Log(self.shared.access_log.open()),
            STATS => OpenNode::Text(self.stats().await.into()),
            CONFIG => OpenNode::Text(self.config.shown.as_bytes().into()),
            _ => return Err(Errno::NOENT.into()),
        };
        let node = Arc::new(node);
        let added = self.shared.handles.add_internal(Arc::clone(&node));
        let handle = added.inspect_err(|_| {
            if let OpenNode::Log(reader) = &*node {
                self.shared.access_log.close(reader);
            }
        })?;
        Ok(Reply::Open { handle, open_flags: DIRECT_IO })
    }
}

impl OpenNode {
    async fn read(&self, offset: u64, len: usize) -> Done<Vec<u8>> {
        match self {
            Self::Text(text) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                Ok(text[start..text.len().min(start.saturating_add(len))].to_vec())
            }
            Self::Log(reader) => Ok(reader.read(len).await),
            Self::Control(control) => control.read(offset, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_real_client() {
        assert_eq!(named(Ino::ROOT, b".accesslog"), Some(Ino(0x7FFF_FFFF_0000_0001)));
        assert_eq!(named(Ino::ROOT, b".stats"), Some(Ino(0x7FFF_FFFF_0000_0003)));
        assert_eq!(named(Ino::ROOT, b".config"), Some(Ino(0x7FFF_FFFF_0000_0004)));
        for dir in [Ino::ROOT, Ino(2)] {
            assert_eq!(named(dir, b".control"), Some(Ino(0x7FFF_FFFF_0000_0002)));
        }
        assert_eq!((named(Ino(2), b".stats"), named(Ino::ROOT, b"stats")), (None, None));
        assert!(!is_taken(Ino(2), b".control") && is_taken(Ino::ROOT, b".control"));
        assert!(NODES.iter().all(|(_, ino, _)| is_node(*ino)) && !is_node(Ino::TRASH));
    }
}
