//! The words of a dump: JuiceFS's JSON of one node, piece by piece.
//!
//! Owns names and order of its keys, and how bytes that are no text are written. Does not own what
//! is dumped, nor in which order (`walk`).

use std::fmt::Write;

use serde_json::json;

use crate::meta::{Named, Quota, Rule};
use crate::types::{Attr, FileType, Ino, Name, SliceRecord};

/// What stands for bytes that are no text where it is read by others: it is written byte by byte.
const NO_TEXT: char = '\u{fffd}';

/// Bytes inside quotes: text as it is, all else as `%` and two hexadecimal digits.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for letter in part.valid().chars() {
            if letter <= ' ' || matches!(letter, '%' | '"' | '\\' | NO_TEXT) {
                percent(letter.encode_utf8(&mut [0; 4]).as_bytes(), &mut out);
            } else {
                out.push(letter);
            }
        }
        percent(part.invalid(), &mut out);
    }
    out
}

fn percent(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "%{byte:02X}");
    }
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::File => "regular",
        FileType::Dir => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Block => "blockdev",
        FileType::Char => "chardev",
        FileType::Socket => "socket",
    }
}

/// Attributes; of lengths only those of files, and what is mostly zero only where it is not.
pub fn attr(ino: Ino, attr: &Attr) -> String {
    let mut out = format!("{{\"inode\":{ino}");
    unless_zero(&mut out, "flags", attr.flags.into());
    let _ = write!(out, ",\"type\":\"{}\"", kind(attr.kind));
    let _ = write!(out, ",\"mode\":{},\"uid\":{},\"gid\":{}", attr.mode, attr.uid, attr.gid);
    let times = [("atime", attr.atime), ("mtime", attr.mtime), ("ctime", attr.ctime)];
    for (key, time) in times {
        let _ = write!(out, ",\"{key}\":{}", time.sec);
    }
    for (key, time) in times {
        unless_zero(&mut out, &format!("{key}nsec"), time.nsec);
    }
    let length = if attr.kind == FileType::File { attr.length } else { 0 };
    let _ = write!(out, ",\"nlink\":{},\"length\":{length}", attr.nlink);
    unless_zero(&mut out, "rdev", attr.rdev);
    unless_zero(&mut out, "tier", attr.tier.into());
    out.push('}');
    out
}

fn unless_zero(out: &mut String, key: &str, value: u32) {
    if value != 0 {
        let _ = write!(out, ",\"{key}\":{value}");
    }
}

/// Extended attributes.
pub fn xattrs(all: &[(Name, Box<[u8]>)]) -> String {
    let one = |(name, value): &(Name, Box<[u8]>)| json!({"name": String::from_utf8_lossy(name), "value": escaped(value)});
    json!(all.iter().map(one).collect::<Vec<_>>()).to_string()
}

/// A rule of access control.
pub fn rule(rule: &Rule) -> String {
    let named = |all: &[Named]| {
        let each = all.iter().map(|one| json!({"id": one.id, "perm": one.perm}));
        // An empty list is none, as the real client has it.
        if all.is_empty() { json!(null) } else { json!(each.collect::<Vec<_>>()) }
    };
    json!({
        "owner": rule.owner, "group": rule.group, "other": rule.other, "mask": rule.mask,
        "users": named(&rule.users), "groups": named(&rule.groups),
    })
    .to_string()
}

/// The slices of a chunk.
pub fn chunk(index: u32, records: &[SliceRecord]) -> String {
    let mut out = format!("{{\"index\":{index},\"slices\":[");
    for (number, SliceRecord { pos, id, size, off, len }) in records.iter().enumerate() {
        out.push_str(if number == 0 { "{" } else { ",{" });
        let _ = write!(out, "\"id\":{id}");
        if *pos != 0 {
            let _ = write!(out, ",\"pos\":{pos}");
        }
        let _ = write!(out, ",\"size\":{size}");
        if *off != 0 {
            let _ = write!(out, ",\"off\":{off}");
        }
        let _ = write!(out, ",\"len\":{len}}}");
    }
    out.push_str("]}");
    out
}

/// The limits of a quota; what it counts is counted anew by who loads it.
pub fn quota(quota: &Quota) -> String {
    format!("{{\"maxSpace\":{},\"maxInodes\":{}}}", quota.max_space, quota.max_inodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Time;

    #[test]
    fn bytes_that_are_no_text_are_written_byte_by_byte() {
        assert_eq!(escaped(b"a b%\"\\\n\x7f"), "a%20b%25%22%5C%0A\x7f");
        assert_eq!(escaped("果汁<&>".as_bytes()), "果汁<&>");
        assert_eq!(escaped(b"GBK\xb9\xfb"), "GBK%B9%FB");
        assert_eq!(escaped("x\u{fffd}y".as_bytes()), "x%EF%BF%BDy");
    }

    /// From the sample that comes with the real client.
    #[test]
    fn nodes_are_written_as_the_real_client_does() {
        let at = |sec, nsec| Time { sec, nsec };
        let node = Attr {
            flags: 128,
            uid: 501,
            gid: 20,
            atime: at(1_623_746_580, 219_686_444),
            mtime: at(1_623_746_661, 219_686_444),
            ctime: at(1_623_746_661, 0),
            length: 24,
            tier: 1,
            ..Attr::new(FileType::File, 420, Time::default())
        };
        assert_eq!(
            attr(Ino(2), &node),
            "{\"inode\":2,\"flags\":128,\"type\":\"regular\",\"mode\":420,\"uid\":501,\"gid\":20,\
             \"atime\":1623746580,\"mtime\":1623746661,\"ctime\":1623746661,\"atimensec\":219686444,\
             \"mtimensec\":219686444,\"nlink\":1,\"length\":24,\"tier\":1}"
        );
        let dir = attr(Ino(1), &Attr::new(FileType::Dir, 511, at(1, 0)));
        assert!(dir.ends_with("\"nlink\":2,\"length\":0}"), "{dir}");
        let whole = SliceRecord { pos: 0, id: 5, size: 64, off: 0, len: 64 };
        let part = SliceRecord { pos: 7, id: 0, size: 9, off: 1, len: 8 };
        assert_eq!(
            chunk(3, &[whole, part]),
            "{\"index\":3,\"slices\":[{\"id\":5,\"size\":64,\"len\":64},\
             {\"id\":0,\"pos\":7,\"size\":9,\"off\":1,\"len\":8}]}"
        );
        let list = Rule { owner: 6, group: 4, mask: 4, other: 4, users: vec![], groups: vec![] };
        let list = Rule { users: vec![Named { id: 1, perm: 6 }], ..list };
        assert_eq!(
            rule(&list),
            "{\"owner\":6,\"group\":4,\"other\":4,\"mask\":4,\"users\":[{\"id\":1,\"perm\":6}],\
             \"groups\":null}"
        );
        assert_eq!(
            xattrs(&[(b"k"[..].into(), b"v \xff"[..].into())]),
            "[{\"name\":\"k\",\"value\":\"v%20%FF\"}]"
        );
    }
}
