//! A line of the access log, letter by letter as the official client writes it.
//!
//! Owns the words for each operation and its outcome. Times of day are in UTC.

use std::borrow::Cow;
use std::fmt::Write;

use crate::stdx::calendar::{Utc, utc};
use crate::stdx::now;
use crate::types::{Attr, Ino, Time};
use crate::vfs::method::Method;
use crate::vfs::op::{Caller, EntryReply, LockRange, Op, Reply, Request, SetAttr, SetTime};

/// An operation that is told when it is over.
pub(in crate::vfs) struct Line {
    method: Method,
    caller: Caller,
    /// The name and the arguments.
    asked: String,
}

impl Line {
    /// Of an operation that begins.
    pub fn new(method: Method, request: &Request) -> Self {
        let mut asked = method.name().to_owned();
        asked.push(' ');
        asked.push_str(&arguments(&request.op));
        Self { method, caller: request.caller, asked }
    }

    /// The whole line of an operation that took so long, and its end.
    pub fn finish(self, reply: &Reply, took_ns: u64) -> String {
        self.finish_at(now(), reply, took_ns)
    }

    fn finish_at(self, time: Time, reply: &Reply, took_ns: u64) -> String {
        let Self { method, caller: Caller { uid, gid, pid }, asked } = self;
        let Utc { year, month, day, hour, minute, second } = utc(time.sec);
        let (outcome, micros) = (outcome(method, reply), time.nsec / 1000);
        let seconds = took_ns as f64 / 1e9;
        format!(
            "{year:04}.{month:02}.{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06} \
             [uid:{uid},gid:{gid},pid:{pid}] {asked}{outcome} - {} <{seconds:.6}>\n",
            verdict(reply)
        )
    }
}

fn arguments(op: &Op) -> String {
    match op {
        Op::Lookup { dir, name } | Op::Unlink { dir, name } | Op::Rmdir { dir, name } => {
            format!("({dir},{})", text(name))
        }
        Op::Getattr { ino, .. }
        | Op::Readlink { ino }
        | Op::Opendir { ino, .. }
        | Op::Releasedir { ino, .. }
        | Op::Statfs { ino } => format!("({ino})"),
        Op::Setattr { ino, set } => {
            let fh = set.handle.unwrap_or(0);
            format!("({ino}[{fh}],0x{:X},[{}])", set_bits(set), set_words(set))
        }
        Op::Symlink { dir, name, target } => format!("({dir},{},{})", text(name), text(target)),
        Op::Mknod { dir, name, mode, rdev, .. } => {
            let kind = mode & libc::S_IFMT;
            format!("({dir},{},{},0x{rdev:08X})", text(name), mode_words(kind, *mode & 0xFFFF))
        }
        Op::Mkdir { dir, name, mode, .. } => {
            format!("({dir},{},{})", text(name), mode_words(0, mode & 0o7777))
        }
        Op::Create { dir, name, mode, .. } => {
            format!("({dir},{},{})", text(name), mode_words(libc::S_IFREG, mode & 0xFFFF))
        }
        Op::Tmpfile { dir, mode, .. } => {
            format!("({dir},,{})", mode_words(libc::S_IFREG, mode & 0xFFFF))
        }
        Op::Rename { dir, name, new_dir, new_name, flags } => {
            format!("({dir},{},{new_dir},{},{flags})", text(name), text(new_name))
        }
        Op::Link { ino, new_dir, new_name } => format!("({ino},{new_dir},{})", text(new_name)),
        Op::Open { ino, flags, .. } => format!("({ino},{flags:#x})"),
        Op::Access { ino, mask } => format!("({ino},0x{mask:X})"),
        Op::Setxattr { ino, name, value, flags, .. } => {
            format!("({ino},{},{},{flags})", text(name), value.len())
        }
        Op::Getxattr { ino, name, len_bytes } => format!("({ino},{},{len_bytes})", text(name)),
        Op::Listxattr { ino, len_bytes } => format!("({ino},{len_bytes})"),
        Op::Removexattr { ino, name } => format!("({ino},{})", text(name)),
        other => arguments_of_handles(other),
    }
}

/// Of operations on what is open.
fn arguments_of_handles(op: &Op) -> String {
    match op {
        Op::Read { ino, handle, offset, len_bytes, .. } => {
            format!("({ino},{len_bytes},{offset},{handle})")
        }
        Op::Write { ino, handle, offset, data, .. } => {
            format!("({ino},{},{offset},{handle})", data.0.len())
        }
        Op::Flush { ino, handle, lock_owner } => format!("({ino},{handle},{lock_owner:016X})"),
        Op::Release { ino, handle, .. } => format!("({ino},{handle})"),
        Op::Fsync { ino, datasync, .. } => format!("({ino},{})", u8::from(*datasync)),
        Op::Readdir { ino, offset, len_bytes, plus, .. } => {
            format!("({ino},{len_bytes},{offset},{plus})")
        }
        Op::Getlk { ino, handle, owner, .. } => format!("({ino},{handle},{owner:016X})"),
        Op::Setlk { ino, handle, owner, range, wait, flock: false } => {
            let LockRange { start, end, kind, pid } = range;
            let kind = lock_letter(*kind);
            format!("({ino},{handle},{owner:016X},{start},{end},{kind},{wait},{pid})")
        }
        Op::Setlk { ino, handle, owner, range, wait, .. } => {
            let name = match lock_letter(range.kind) {
                'R' => "LOCKSH",
                'W' => "LOCKEX",
                _ => "UNLOCK",
            };
            format!("({ino},{handle},{owner:016X},{name},{wait})")
        }
        Op::Fallocate { ino, offset, len_bytes, mode, .. } => {
            format!("({ino},{mode},{offset},{len_bytes})")
        }
        Op::Lseek { ino, handle, offset, whence } => {
            format!("({ino},{handle},{offset},{whence})")
        }
        Op::CopyFileRange { ino, offset, to, to_offset, len_bytes, flags, .. } => {
            format!("({ino},{offset},{to},{to_offset},{len_bytes},{flags})")
        }
        Op::Ioctl { ino, command, data, out_bytes, .. } => {
            format!("({ino},0x{command:X},0x0,{},{out_bytes})", data.len())
        }
        _ => "()".to_owned(),
    }
}

/// What stands between the arguments and the verdict.
fn outcome(method: Method, reply: &Reply) -> String {
    match (method, reply) {
        (Method::Create, Reply::Create { entry, handle, .. }) => {
            format!(":{} [fh:{handle}]", entry_words(entry))
        }
        (Method::Create, _) => ": [fh:0]".to_owned(),
        (Method::Open | Method::Opendir, Reply::Open { handle, .. }) => format!(" [fh:{handle}]"),
        (Method::Opendir, _) => " [fh:0]".to_owned(),
        (Method::Open, Reply::Create { handle, .. }) => format!(" [fh:{handle}]"),
        (_, Reply::Entry(entry)) => format!(":{}", entry_words(entry)),
        (_, Reply::Attr { ino, attr, .. }) => format!(":{}", attr_words(*ino, attr)),
        (
            Method::Lookup
            | Method::Getattr
            | Method::Setattr
            | Method::Mknod
            | Method::Mkdir
            | Method::Symlink
            | Method::Link,
            _,
        ) => ":".to_owned(),
        (Method::Readlink, Reply::Bytes(target)) => format!(": ({})", text(target)),
        (Method::Readlink, _) => ": ()".to_owned(),
        (Method::Read, Reply::Data(pages)) => {
            format!(": ({})", pages.iter().map(|page| page.len()).sum::<usize>())
        }
        (Method::Readdir, Reply::Dirents(entries)) => format!(": ({})", entries.len()),
        (Method::Getxattr | Method::Listxattr, Reply::Bytes(value)) => {
            format!(": ({})", value.len())
        }
        (Method::Getxattr | Method::Listxattr, Reply::XattrSize(len)) => format!(": ({len})"),
        (Method::Read | Method::Readdir | Method::Getxattr | Method::Listxattr, _) => {
            ": (0)".to_owned()
        }
        (Method::Statfs, Reply::Statfs(told)) => {
            let (used, used_inodes) =
                (told.total_bytes - told.free_bytes, told.inodes - told.free_inodes);
            format!(": ({used},{},{used_inodes},{})", told.free_bytes, told.free_inodes)
        }
        (Method::Getlk, Reply::Lock(LockRange { start, end, kind, pid })) => {
            let len = end.saturating_sub(*start).saturating_add(1);
            format!(": ({start},{len},{},{pid})", lock_letter(*kind))
        }
        _ => String::new(),
    }
}

fn verdict(reply: &Reply) -> String {
    match reply {
        Reply::Error(errno) => error_words(*errno),
        // A name that is absent, told so that the kernel keeps that.
        Reply::Entry(entry) if entry.ino.0 == 0 => error_words(libc::ENOENT),
        _ => "OK".to_owned(),
    }
}

/// As Go words an errno: without capitals.
pub(super) fn error_words(errno: i32) -> String {
    let words = std::io::Error::from_raw_os_error(errno).to_string();
    let words = words.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}

fn entry_words(entry: &EntryReply) -> String {
    if entry.ino.0 == 0 { String::new() } else { attr_words(entry.ino, &entry.attr) }
}

fn attr_words(ino: Ino, attr: &Attr) -> String {
    let mode = attr.kind.mode_bits() | u32::from(attr.mode);
    let (mode, Attr { nlink, uid, gid, length, .. }) =
        (format!("{}:0{mode:06o}", letters(mode)), attr);
    let (atime, mtime, ctime) = (attr.atime.sec, attr.mtime.sec, attr.ctime.sec);
    format!(" ({ino},[{mode},{nlink},{uid},{gid},{atime},{mtime},{ctime},{length}])")
}

fn mode_words(kind: u32, mode: u32) -> String {
    format!("{}:0{mode:04o}", letters(kind | mode))
}

/// `-rw-r--r--`.
fn letters(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFSOCK => 's',
        libc::S_IFLNK => 'l',
        libc::S_IFREG => '-',
        libc::S_IFBLK => 'b',
        libc::S_IFDIR => 'd',
        libc::S_IFCHR => 'c',
        libc::S_IFIFO => 'f',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        let set = mode & (0o400 >> at) != 0;
        let special = match at {
            2 if mode & libc::S_ISUID != 0 => Some('s'),
            5 if mode & libc::S_ISGID != 0 => Some('s'),
            8 if mode & libc::S_ISVTX != 0 => Some('t'),
            _ => None,
        };
        text.push(match (special, set) {
            (Some(special), true) => special,
            (Some(special), false) => special.to_ascii_uppercase(),
            (None, true) => letter,
            (None, false) => '-',
        });
    }
    text
}

fn lock_letter(kind: u32) -> char {
    match kind as i32 {
        libc::F_RDLCK => 'R',
        libc::F_WRLCK => 'W',
        libc::F_UNLCK => 'U',
        _ => 'X',
    }
}

/// The kernel's bits for what is set.
fn set_bits(set: &SetAttr) -> u32 {
    let now = |time: Option<SetTime>| time == Some(SetTime::Now);
    let bits = [
        (set.mode.is_some(), 1),
        (set.uid.is_some(), 2),
        (set.gid.is_some(), 4),
        (set.size.is_some(), 8),
        (set.atime.is_some(), 16),
        (set.mtime.is_some(), 32),
        (set.handle.is_some(), 64),
        (now(set.atime), 128),
        (now(set.mtime), 256),
        (set.kill_priv, 2048),
    ];
    bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
}

fn set_words(set: &SetAttr) -> String {
    let mut words = Vec::new();
    let time = |time: SetTime| match time {
        SetTime::At(time) if time.sec >= 0 => time.sec.to_string(),
        SetTime::At(_) | SetTime::Now => "NOW".to_owned(),
    };
    if let Some(mode) = set.mode {
        words.push(format!("mode={}", mode_words(0, u32::from(mode) & 0o7777)));
    }
    words.extend(set.uid.map(|uid| format!("uid={uid}")));
    words.extend(set.gid.map(|gid| format!("gid={gid}")));
    words.extend(set.atime.map(|atime| format!("atime={}", time(atime))));
    words.extend(set.mtime.map(|mtime| format!("mtime={}", time(mtime))));
    words.extend(set.size.map(|size| format!("size={size}")));
    words.join(",")
}

/// A name: as it is, or as Go quotes it where it would break the line.
fn text(name: &[u8]) -> Cow<'_, str> {
    let plain = |c: char| (!c.is_control() || c == '\t') && c != '`' && c != '\u{FEFF}';
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().all(plain) => Cow::Borrowed(text),
        _ => Cow::Owned(quoted(name)),
    }
}

fn quoted(name: &[u8]) -> String {
    let mut out = String::new();
    for piece in name.utf8_chunks() {
        for letter in piece.valid().chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                _ if letter.is_ascii_control() => escape(&mut out, "x", 2, letter as u32),
                _ if letter.is_control() || letter == '\u{FEFF}' => {
                    escape(&mut out, "u", 4, letter as u32);
                }
                _ => out.push(letter),
            }
        }
        piece.invalid().iter().for_each(|byte| escape(&mut out, "x", 2, u32::from(*byte)));
    }
    out
}

fn escape(out: &mut String, kind: &str, digits: usize, number: u32) {
    write!(out, "\\{kind}{number:0digits$x}").expect("text in memory can be written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FileType;
    use crate::vfs::op::Payload;

    fn told(op: Op, reply: &Reply) -> String {
        let caller = Caller { uid: 0, gid: 5, pid: 4403 };
        let method = Method::of(&op).unwrap();
        let line = Line::new(method, &Request { unique: 2, caller, op });
        let time = Time { sec: 1_610_699_171, nsec: 3_330_999 };
        let whole = line.finish_at(time, reply, 10_400);
        let start = "2021.01.15 08:26:11.003330 [uid:0,gid:5,pid:4403] ";
        whole.strip_prefix(start).unwrap().strip_suffix(" <0.000010>\n").unwrap().to_owned()
    }

    fn entry() -> EntryReply {
        let time = Time { sec: 1_700_000_000, nsec: 0 };
        let attr = Attr { length: 7, gid: 3, ..Attr::new(FileType::File, 0o4644, time) };
        EntryReply { ino: Ino(17), attr, entry_ttl_ns: 0, attr_ttl_ns: 0 }
    }

    #[test]
    fn lines_are_those_of_the_real_client() {
        let (ino, dir, handle) = (Ino(17), Ino(1), 6);
        let data = Payload(Box::new(vec![0_u8; 8666]));
        let (offset, flags) = (4_993_160, 0);
        let write = Op::Write { ino, handle, offset, data, flags, kill_priv: false, cached: false };
        assert_eq!(told(write, &Reply::Written(8666)), "write (17,8666,4993160,6) - OK");
        let lookup = || Op::Lookup { dir, name: (*b"a b").into() };
        let shown = "(17,[-rwSr--r--:0104644,1,0,3,1700000000,1700000000,1700000000,7])";
        let found = told(lookup(), &Reply::Entry(entry()));
        assert_eq!(found, format!("lookup (1,a b): {shown} - OK"));
        let missing = told(lookup(), &Reply::Error(libc::ENOENT));
        assert_eq!(missing, "lookup (1,a b): - no such file or directory");
        let absent = EntryReply { ino: Ino(0), ..entry() };
        assert_eq!(told(lookup(), &Reply::Entry(absent)), missing);
        let mode = 0o100_644;
        let create = Op::Create { dir, name: (*b"n").into(), mode, umask: 0, flags: 0x8241 };
        let made = Reply::Create { entry: entry(), handle, open_flags: 0 };
        let text = told(create, &made);
        assert_eq!(text, format!("create (1,n,-rw-r--r--:0100644): {shown} [fh:6] - OK"));
        let open = || Op::Open { ino, flags: 0x8002, kill_priv: false };
        let opened = told(open(), &Reply::Open { handle, open_flags: 0 });
        assert_eq!(opened, "open (17,0x8002) [fh:6] - OK");
        assert_eq!(
            told(open(), &Reply::Error(libc::EACCES)),
            "open (17,0x8002) - permission denied"
        );
        let read = Op::Read { ino, handle, offset: 0, len_bytes: 131_072, flags: 0 };
        assert_eq!(told(read, &Reply::Data(vec![])), "read (17,131072,0,6): (0) - OK");
        let set = SetAttr { mode: Some(0o755), size: Some(3), ..SetAttr::default() };
        let attr = Reply::Attr { ino, attr: entry().attr, attr_ttl_ns: 0 };
        let text = told(Op::Setattr { ino, set }, &attr);
        assert_eq!(
            text,
            format!("setattr (17[0],0x9,[mode=?rwxr-xr-x:00755,size=3]): {shown} - OK")
        );
        let flush = Op::Flush { ino, handle, lock_owner: 0xAB };
        assert_eq!(told(flush, &Reply::Ok), "flush (17,6,00000000000000AB) - OK");
    }

    #[test]
    fn names_that_would_break_the_line_are_quoted() {
        assert_eq!(text(b"plain \"name\""), "plain \"name\"");
        assert_eq!(text("ärger".as_bytes()), "ärger");
        assert_eq!(text(b"a\nb\"\\\x01\xff`"), "a\\nb\\\"\\\\\\x01\\xff`");
    }

    #[test]
    fn every_method_has_words() {
        let forget = Op::Forget { items: vec![] };
        assert_eq!(Method::of(&forget), None);
        let statfs = crate::vfs::op::StatfsReply {
            total_bytes: 10,
            free_bytes: 4,
            inodes: 9,
            free_inodes: 2,
        };
        let told = told(Op::Statfs { ino: Ino(1) }, &Reply::Statfs(statfs));
        assert_eq!(told, "statfs (1): (6,4,7,2) - OK");
    }
}
