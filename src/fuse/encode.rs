//! A `vfs::op::Reply` to bytes for the kernel.
//!
//! Small replies are laid out field by field; file data stays in its pages, for the transport to
//! copy once.

use smallvec::SmallVec;

use crate::pages::Page;
use crate::types::Attr;
use crate::vfs::op::{DirentReply, EntryReply, LockRange, Op, Reply, StatfsReply};

/// What of a request decides the form of its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Most bytes of a directory reply.
    limit_bytes: usize,
    /// Whether directory entries carry attributes.
    plus: bool,
}

impl Shape {
    /// The shape that `op` asks for.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Readdir { len_bytes, plus, .. } => {
                Self { limit_bytes: *len_bytes as usize, plus: *plus }
            }
            _ => Self::default(),
        }
    }
}

/// A reply without its header.
#[derive(Debug)]
pub struct Encoded {
    /// 0, or a negative errno.
    pub error: i32,
    bytes: SmallVec<[u8; 160]>,
    pages: Vec<Page>,
}

impl Encoded {
    /// Bytes of the body.
    pub fn len_bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// The body, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.bytes[..]).chain(self.pages.iter().map(|page| &**page))
    }
}

/// Lay a reply out.
pub fn encode(reply: Reply, shape: Shape) -> Encoded {
    let (mut error, mut pages) = (0, Vec::new());
    let mut out = Out(SmallVec::new());
    match reply {
        Reply::Ok | Reply::None => {}
        Reply::Error(errno) => {
            assert!((1..512).contains(&errno), "an errno the kernel lets through: {errno}");
            error = -errno;
        }
        Reply::Entry(entry) => out.entry(&entry),
        Reply::Attr { ino, attr, attr_ttl_ns } => {
            out.u64(attr_ttl_ns / NS);
            out.u32((attr_ttl_ns % NS) as u32);
            out.u32(0);
            out.attr(ino.0, &attr);
        }
        Reply::Open { handle, open_flags } => out.open(handle, open_flags),
        Reply::Create { entry, handle, open_flags } => {
            out.entry(&entry);
            out.open(handle, open_flags);
        }
        Reply::Data(data) => pages = data,
        Reply::Bytes(bytes) => out.0.extend_from_slice(&bytes),
        Reply::Written(count) | Reply::XattrSize(count) => out.u64(u64::from(count)),
        Reply::Dirents(entries) => out.dirents(&entries, shape),
        Reply::Statfs(figures) => out.statfs(&figures),
        Reply::Lock(range) => out.lock(&range),
        Reply::Offset(offset) => out.u64(offset),
        // The reply has 32 bits; more is copied in a further request.
        Reply::Copied(count) => out.u64(count.min(u64::from(u32::MAX))),
        Reply::Ioctl { result, data } => {
            out.u32(result as u32);
            out.words([0; 3]);
            out.0.extend_from_slice(&data);
        }
    }
    Encoded { error, bytes: out.0, pages }
}

const NS: u64 = 1_000_000_000;
/// Bytes of an entry with attributes, and of a directory entry's fixed part.
const ENTRY_BYTES: usize = 128;
const DIRENT_BYTES: usize = 24;
/// Block size told to callers: what they should read and write at a time.
const BLOCK_BYTES: u32 = 4096;

struct Out(SmallVec<[u8; 160]>);

impl Out {
    fn u32(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_ne_bytes());
    }

    fn u64(&mut self, long: u64) {
        self.0.extend_from_slice(&long.to_ne_bytes());
    }

    /// Many at a time, with one look at the room.
    fn words<const N: usize>(&mut self, words: [u32; N]) {
        self.0.extend_from_slice(words.map(u32::to_ne_bytes).as_flattened());
    }

    fn longs<const N: usize>(&mut self, longs: [u64; N]) {
        self.0.extend_from_slice(longs.map(u64::to_ne_bytes).as_flattened());
    }

    fn entry(&mut self, entry: &EntryReply) {
        let (entry_ttl_ns, attr_ttl_ns) = (entry.entry_ttl_ns, entry.attr_ttl_ns);
        self.longs([entry.ino.0, 0, entry_ttl_ns / NS, attr_ttl_ns / NS]);
        self.words([(entry_ttl_ns % NS) as u32, (attr_ttl_ns % NS) as u32]);
        self.attr(entry.ino.0, &entry.attr);
    }

    fn attr(&mut self, ino: u64, attr: &Attr) {
        let times = [attr.atime, attr.mtime, attr.ctime];
        let [atime, mtime, ctime] = times.map(|time| time.sec as u64);
        self.longs([ino, attr.length, attr.length.div_ceil(512), atime, mtime, ctime]);
        let [atime, mtime, ctime] = times.map(|time| time.nsec);
        let mode = attr.kind.mode_bits() | u32::from(attr.mode);
        self.words([atime, mtime, ctime, mode, attr.nlink, attr.uid, attr.gid, attr.rdev]);
        self.words([BLOCK_BYTES, 0]);
    }

    fn open(&mut self, handle: u64, open_flags: u32) {
        self.u64(handle);
        self.u32(open_flags);
        self.u32(0);
    }

    fn statfs(&mut self, figures: &StatfsReply) {
        let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
        let free = blocks(figures.free_bytes);
        self.longs([blocks(figures.total_bytes), free, free, figures.inodes, figures.free_inodes]);
        self.words([BLOCK_BYTES, 255, BLOCK_BYTES, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn lock(&mut self, range: &LockRange) {
        self.u64(range.start);
        self.u64(range.end);
        self.u32(range.kind);
        self.u32(range.pid);
    }

    /// As many entries as fit.
    fn dirents(&mut self, entries: &[DirentReply], shape: Shape) {
        for entry in entries {
            let plain_bytes = (DIRENT_BYTES + entry.name.len()).next_multiple_of(8);
            let entry_bytes = plain_bytes + if shape.plus { ENTRY_BYTES } else { 0 };
            if self.0.len() + entry_bytes > shape.limit_bytes {
                return;
            }
            let end = self.0.len() + entry_bytes;
            match (&entry.plus, shape.plus) {
                (Some(plus), true) => self.entry(plus),
                // No inode here means: nothing to make known.
                (None, true) => self.0.extend_from_slice(&[0; ENTRY_BYTES]),
                (_, false) => {}
            }
            self.u64(entry.ino.0);
            self.u64(entry.next_offset);
            self.u32(u32::try_from(entry.name.len()).expect("names are short"));
            self.u32(entry.kind.mode_bits() >> 12);
            self.0.extend_from_slice(&entry.name);
            self.0.resize(end, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FileType, Ino, Time};

    fn attr() -> Attr {
        let time = |sec| Time { sec, nsec: 7 };
        Attr {
            flags: 0,
            kind: FileType::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            atime: time(1),
            mtime: time(2),
            ctime: time(3),
            nlink: 1,
            length: 1000,
            rdev: 0,
            parent: Ino::ROOT,
            access_acl: 0,
            default_acl: 0,
            tier: 0,
        }
    }

    fn entry() -> EntryReply {
        EntryReply { ino: Ino(9), attr: attr(), entry_ttl_ns: NS + 5, attr_ttl_ns: 0 }
    }

    fn body(reply: Reply, shape: Shape) -> Vec<u8> {
        encode(reply, shape).pieces().collect::<Vec<_>>().concat()
    }

    #[test]
    fn replies_have_the_kernels_sizes() {
        let create = Reply::Create { entry: entry(), handle: 4, open_flags: 0 };
        let attr = Reply::Attr { ino: Ino(9), attr: attr(), attr_ttl_ns: 3 };
        let lock = LockRange { start: 0, end: 1, kind: 2, pid: 3 };
        for (reply, len) in [
            (Reply::Ok, 0),
            (Reply::Entry(entry()), 128),
            (attr, 104),
            (create, 144),
            (Reply::Written(7), 8),
            (Reply::Statfs(StatfsReply::default()), 80),
            (Reply::Lock(lock), 24),
            (Reply::Offset(1), 8),
            (Reply::Ioctl { result: 0, data: (*b"abc").into() }, 19),
        ] {
            let told = format!("{reply:?}");
            assert_eq!(body(reply, Shape::default()).len(), len, "{told}");
        }
    }

    #[test]
    fn errors_are_negative() {
        assert_eq!(encode(Reply::Error(libc::ENOENT), Shape::default()).error, -2);
    }

    #[test]
    fn a_directory_reply_never_exceeds_its_limit() {
        let dirent = |plus| DirentReply {
            name: (*b"seven77").into(),
            ino: Ino(9),
            kind: FileType::Dir,
            next_offset: 1,
            plus,
        };
        let entries = || Reply::Dirents(vec![dirent(Some(entry())), dirent(None)]);
        let plain = body(entries(), Shape { limit_bytes: 70, plus: false });
        assert_eq!(plain.len(), 64);
        assert_eq!(&plain[16..31], b"\x07\0\0\0\x04\0\0\0seven77");
        assert_eq!(body(entries(), Shape { limit_bytes: 320, plus: true }).len(), 320);
        assert_eq!(body(entries(), Shape { limit_bytes: 319, plus: true }).len(), 160);
    }

    #[test]
    fn data_stays_in_its_pages() {
        let pages = vec![Page::from_vec(vec![1; 10]), Page::from_vec(vec![2; 5])];
        let encoded = encode(Reply::Data(pages), Shape::default());
        assert_eq!((encoded.len_bytes(), encoded.pieces().count()), (15, 3));
    }
}
