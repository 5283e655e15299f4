//! Messages to `.control`, byte by byte as the official tools write them.
//!
//! Owns their form and what is assumed for what older tools leave out. Those of this client's own are
//! `question`'s.

use rustix::io::Errno;

use super::question::Question;
use crate::data::Nearness;
use crate::types::{Ino, Name};

const REMOVE: u32 = 1002;
const OLD_INFO: u32 = 1003;
const FILL: u32 = 1004;
const INFO: u32 = 1005;
const CLONE: u32 = 1006;
const SUMMARY: u32 = 1007;
const COMPACT: u32 = 1008;

/// Workers of a removal where a tool says none.
const WORKERS: u16 = 50;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A name and all below it is to be removed.
    Remove { dir: Ino, name: Name, skips_trash: bool, workers: u16 },
    /// What a node is and where.
    Info { ino: Ino, recursive: bool, raw: bool },
    /// Blocks of these paths are to be near or not.
    Fill { paths: Vec<Name>, workers: u16, background: bool, wanted: Nearness },
    /// How much is below a directory, and where.
    Summary { ino: Ino, depth: u8, top: u8 },
    /// How far data has come.
    Own(Question),
}

/// Reads a message from its start.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self, len: usize) -> Result<u64, Errno> {
        Ok(self.bytes(len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn ino(&mut self) -> Result<Ino, Errno> {
        self.number(8).map(Ino)
    }

    /// A byte that older tools leave out.
    fn later(&mut self, otherwise: u8) -> u8 {
        self.bytes(1).map_or(otherwise, |byte| byte[0])
    }
}

impl Wish {
    /// Its name, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Remove { .. } => "rmr",
            Self::Info { .. } => "info",
            Self::Fill { .. } => "warmup",
            Self::Summary { .. } => "summary",
            Self::Own(question) => question.name(),
        }
    }

    /// The wish of a message; the errno that tells the tool what is wrong with it.
    pub fn parse(command: u32, body: &[u8]) -> Result<Self, Errno> {
        if let Some(question) = Question::parse(command, body) {
            return question.map(Self::Own);
        }
        let mut fields = Fields(body);
        match command {
            REMOVE => {
                let dir = fields.ino()?;
                let len = fields.number(1)? as usize;
                let name = fields.bytes(len)?.into();
                let skips_trash = fields.later(0) & 1 != 0;
                let workers = u16::from(fields.later(WORKERS as u8)).max(1);
                Ok(Self::Remove { dir, name, skips_trash, workers })
            }
            INFO => {
                let ino = fields.ino()?;
                let (recursive, raw) = (fields.later(1) != 0, fields.later(0) != 0);
                Ok(Self::Info { ino, recursive, raw })
            }
            FILL => {
                let len = fields.number(4)? as usize;
                let paths = fields.bytes(len)?.split(|byte| *byte == b'\n').map(Name::from);
                let paths = paths.collect();
                let workers = fields.number(2)?.max(1) as u16;
                let background = fields.number(1)? != 0;
                let wanted = match fields.later(0) {
                    0 => Nearness::Fetch,
                    1 => Nearness::Drop,
                    2 => Nearness::Look,
                    _ => return Err(Errno::INVAL),
                };
                Ok(Self::Fill { paths, workers, background, wanted })
            }
            SUMMARY => {
                let (ino, depth, top) = (fields.ino()?, fields.later(3), fields.later(10));
                Ok(Self::Summary { ino, depth, top })
            }
            OLD_INFO | CLONE | COMPACT => Err(Errno::OPNOTSUPP),
            _ => Err(Errno::INVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_official_tools() {
        let remove = b"\0\0\0\0\0\0\0\x05\x04name\x01\x32";
        let whole =
            Wish::Remove { dir: Ino(5), name: (*b"name").into(), skips_trash: true, workers: 50 };
        assert_eq!(Wish::parse(1002, remove), Ok(whole));
        let old = Wish::parse(1002, &remove[..remove.len() - 2]);
        assert!(matches!(old, Ok(Wish::Remove { skips_trash: false, workers: 50, .. })));
        let info = Wish::Info { ino: Ino(1), recursive: false, raw: true };
        assert_eq!(Wish::parse(1005, b"\0\0\0\0\0\0\0\x01\0\x01\0"), Ok(info));
        let fill = Wish::Fill {
            paths: vec![(*b"/a").into(), (*b"inode:7").into()],
            workers: 50,
            background: false,
            wanted: Nearness::Look,
        };
        assert_eq!(Wish::parse(1004, b"\0\0\0\x0a/a\ninode:7\0\x32\0\x02"), Ok(fill));
        let summary = Wish::Summary { ino: Ino(258), depth: 2, top: 9 };
        assert_eq!(Wish::parse(1007, b"\0\0\0\0\0\0\x01\x02\x02\x09\0"), Ok(summary));
    }

    #[test]
    fn what_is_not_served_or_cut_short_is_told() {
        assert_eq!(Wish::parse(1006, b""), Err(Errno::OPNOTSUPP));
        assert_eq!(Wish::parse(1008, b""), Err(Errno::OPNOTSUPP));
        assert_eq!(Wish::parse(7, b""), Err(Errno::INVAL));
        assert_eq!(Wish::parse(1002, b"\0\0\0\0\0\0\0\x05\x09name"), Err(Errno::INVAL));
        assert_eq!(Wish::parse(1004, b"\xff\xff\xff\xff/a"), Err(Errno::INVAL));
        assert_eq!(Wish::parse(1004, b"\0\0\0\x02/a\0\x32\0\x09"), Err(Errno::INVAL));
    }
}
