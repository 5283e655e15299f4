//! The bytes of metadata records, as JuiceFS writes them (docs/formats/juicefs.md).
//!
//! Owns encoding and decoding of nodes, entries, slice records, slices that are put aside, and
//! POSIX locks. Every number is big-endian. Does not own key names (`key`) nor what records mean together.

use crate::types::{Attr, FileType, Ino, SliceId, SliceRecord, Time};

/// Bytes of a slice record.
pub const SLICE_BYTES: usize = 24;
/// Bytes of a slice that was replaced and put aside.
pub const DELAYED_BYTES: usize = 12;
/// Bytes of a directory entry's value.
pub const ENTRY_BYTES: usize = 9;
/// Bytes of one POSIX lock.
pub const PLOCK_BYTES: usize = 24;
/// Bytes of a node without ACL and tier; the last one is always zero.
pub const NODE_BYTES: usize = 72;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The length fits no form of the record.
    #[error("{0} bytes is no length of this record")]
    Length(usize),
    /// The type number is unknown.
    #[error("unknown file type {0}")]
    Kind(u8),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn time_at(bytes: &[u8], at: usize) -> Time {
    Time { sec: u64_at(bytes, at) as i64, nsec: u32_at(bytes, at + 8) }
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.sec.to_be_bytes());
    out.extend_from_slice(&time.nsec.to_be_bytes());
}

/// The record of a node: 72 bytes, 8 more with ACLs, 1 more with a tier.
pub fn encode_node(attr: &Attr) -> Vec<u8> {
    let mut out = Vec::with_capacity(NODE_BYTES + 9);
    out.push(attr.flags);
    out.extend_from_slice(&((attr.kind as u16) << 12 | attr.mode & 0xfff).to_be_bytes());
    out.extend_from_slice(&attr.uid.to_be_bytes());
    out.extend_from_slice(&attr.gid.to_be_bytes());
    put_time(&mut out, attr.atime);
    put_time(&mut out, attr.mtime);
    put_time(&mut out, attr.ctime);
    out.extend_from_slice(&attr.nlink.to_be_bytes());
    out.extend_from_slice(&attr.length.to_be_bytes());
    out.extend_from_slice(&attr.rdev.to_be_bytes());
    out.extend_from_slice(&attr.parent.0.to_be_bytes());
    if attr.access_acl != 0 || attr.default_acl != 0 {
        out.extend_from_slice(&attr.access_acl.to_be_bytes());
        out.extend_from_slice(&attr.default_acl.to_be_bytes());
    }
    if attr.tier != 0 {
        out.push(attr.tier);
    }
    out.push(0);
    out
}

/// Read a node's record; very old ones end before the parent or without the spare byte.
pub fn decode_node(bytes: &[u8]) -> Result<Attr, RecordError> {
    if bytes.len() < 63 || bytes.len() > 81 {
        return Err(RecordError::Length(bytes.len()));
    }
    let word = u16::from_be_bytes([bytes[1], bytes[2]]);
    let kind = (word >> 12) as u8;
    let mut at = 63;
    let mut more = |want: usize| {
        let there = bytes.len() - at >= want;
        at += if there { want } else { 0 };
        there.then_some(at - want * usize::from(there))
    };
    let parent = more(8).map_or(0, |at| u64_at(bytes, at));
    let acl = more(8).map_or((0, 0), |at| (u32_at(bytes, at), u32_at(bytes, at + 4)));
    let tier = more(1).map_or(0, |at| bytes[at]);
    Ok(Attr {
        flags: bytes[0],
        kind: FileType::from_number(kind).ok_or(RecordError::Kind(kind))?,
        mode: word & 0xfff,
        uid: u32_at(bytes, 3),
        gid: u32_at(bytes, 7),
        atime: time_at(bytes, 11),
        mtime: time_at(bytes, 23),
        ctime: time_at(bytes, 35),
        nlink: u32_at(bytes, 47),
        length: u64_at(bytes, 51),
        rdev: u32_at(bytes, 59),
        parent: Ino(parent),
        access_acl: acl.0,
        default_acl: acl.1,
        tier,
    })
}

/// The value of a directory entry: type and inode.
pub fn encode_entry(kind: FileType, ino: Ino) -> [u8; ENTRY_BYTES] {
    let mut out = [kind as u8; ENTRY_BYTES];
    out[1..].copy_from_slice(&ino.0.to_be_bytes());
    out
}

/// Read the value of a directory entry.
pub fn decode_entry(bytes: &[u8]) -> Result<(FileType, Ino), RecordError> {
    if bytes.len() != ENTRY_BYTES {
        return Err(RecordError::Length(bytes.len()));
    }
    let kind = FileType::from_number(bytes[0]).ok_or(RecordError::Kind(bytes[0]))?;
    Ok((kind, Ino(u64_at(bytes, 1))))
}

/// One slice record.
pub fn encode_slice(record: &SliceRecord) -> [u8; SLICE_BYTES] {
    let mut out = [0; SLICE_BYTES];
    out[..4].copy_from_slice(&record.pos.to_be_bytes());
    out[4..12].copy_from_slice(&record.id.to_be_bytes());
    out[12..16].copy_from_slice(&record.size.to_be_bytes());
    out[16..20].copy_from_slice(&record.off.to_be_bytes());
    out[20..].copy_from_slice(&record.len.to_be_bytes());
    out
}

/// Read one slice record.
pub fn decode_slice(bytes: &[u8]) -> Result<SliceRecord, RecordError> {
    if bytes.len() != SLICE_BYTES {
        return Err(RecordError::Length(bytes.len()));
    }
    Ok(SliceRecord {
        pos: u32_at(bytes, 0),
        id: u64_at(bytes, 4),
        size: u32_at(bytes, 12),
        off: u32_at(bytes, 16),
        len: u32_at(bytes, 20),
    })
}

/// Read slice records that stand back to back, as SQL engines keep them.
pub fn decode_slices(bytes: &[u8]) -> Result<Vec<SliceRecord>, RecordError> {
    if !bytes.len().is_multiple_of(SLICE_BYTES) {
        return Err(RecordError::Length(bytes.len()));
    }
    bytes.chunks_exact(SLICE_BYTES).map(decode_slice).collect()
}

/// Replaced slices back to back: id and size of each.
pub fn encode_delayed(slices: &[(SliceId, u32)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(slices.len() * DELAYED_BYTES);
    for (id, size) in slices {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&size.to_be_bytes());
    }
    out
}

/// Read replaced slices.
pub fn decode_delayed(bytes: &[u8]) -> Result<Vec<(SliceId, u32)>, RecordError> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(DELAYED_BYTES) {
        return Err(RecordError::Length(bytes.len()));
    }
    Ok(bytes.chunks_exact(DELAYED_BYTES).map(|one| (u64_at(one, 0), u32_at(one, 8))).collect())
}

/// Bytes of a quota's limits.
const LIMITS_BYTES: usize = 16;

/// The limits of a quota: bytes, inodes.
pub fn encode_limits([space, inodes]: [i64; 2]) -> [u8; LIMITS_BYTES] {
    let mut out = [0; LIMITS_BYTES];
    out[..8].copy_from_slice(&space.to_be_bytes());
    out[8..].copy_from_slice(&inodes.to_be_bytes());
    out
}

/// Read the limits of a quota.
pub fn decode_limits(bytes: &[u8]) -> Result<[i64; 2], RecordError> {
    if bytes.len() != LIMITS_BYTES {
        return Err(RecordError::Length(bytes.len()));
    }
    Ok([u64_at(bytes, 0) as i64, u64_at(bytes, 8) as i64])
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes in hex digits; white space does not count.
    pub(in crate::meta) fn unhex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn limits_of_quotas_have_the_real_clients_bytes() {
        // Hashes `dirQuota` and `userQuota` of the fixture quota-acl.
        let limited = unhex("0000000040000000 00000000000003e8");
        assert_eq!(decode_limits(&limited), Ok([1 << 30, 1000]));
        assert_eq!(encode_limits([1 << 30, 1000])[..], limited);
        let none = [0xff; 16];
        assert_eq!((decode_limits(&none), encode_limits([-1, -1])), (Ok([-1, -1]), none));
        assert_eq!(decode_limits(&none[1..]), Err(RecordError::Length(15)));
    }

    fn sample() -> Attr {
        Attr {
            uid: 1000,
            gid: 1001,
            atime: Time { sec: 1_700_000_000, nsec: 1 },
            mtime: Time { sec: 1_700_000_001, nsec: 2 },
            length: 0x12_3456_789A,
            ..Attr::new(FileType::File, 0o644, Time { sec: 1_700_000_002, nsec: 3 })
        }
    }

    const PLAIN: &str =
        "0011a4000003e8000003e9000000006553f10000000001000000006553f1010000000200000000
        6553f1020000000300000001000000123456789a000000000000000000000001";

    #[test]
    fn nodes_have_the_real_clients_bytes() {
        let forms = [
            (0, 0, "00"),
            (5, 0, "0000000500000000 00"),
            (0, 2, "02 00"),
            (5, 2, "0000000500000000 02 00"),
        ];
        for (access_acl, tier, tail) in forms {
            let attr = Attr { access_acl, tier, ..sample() };
            let bytes = unhex(&format!("{PLAIN}{tail}"));
            assert_eq!(encode_node(&attr), bytes);
            assert_eq!(decode_node(&bytes), Ok(attr));
        }
    }

    #[test]
    fn old_and_damaged_nodes() {
        let bytes = encode_node(&sample());
        assert_eq!(decode_node(&bytes[..71]), Ok(sample()));
        assert_eq!(decode_node(&bytes[..63]).unwrap().parent, Ino(0));
        assert_eq!(decode_node(&bytes[..40]), Err(RecordError::Length(40)));
        let mut wrong = bytes;
        wrong[1] = 0xf0;
        assert_eq!(decode_node(&wrong), Err(RecordError::Kind(15)));
    }

    #[test]
    fn slices_and_entries_have_the_real_clients_bytes() {
        let record = SliceRecord { pos: 100, id: 1, size: 5000, off: 0, len: 5000 };
        assert_eq!(
            encode_slice(&record).to_vec(),
            unhex("00000064 0000000000000001 00001388 00000000 00001388")
        );
        assert_eq!(
            decode_slices(&[encode_slice(&record), encode_slice(&record)].concat()),
            Ok(vec![record; 2])
        );
        assert_eq!(decode_slices(&[0; 25]), Err(RecordError::Length(25)));
        let delayed = [(7, 5000), (1 << 33, 1)];
        let bytes = unhex("0000000000000007 00001388 0000000200000000 00000001");
        assert_eq!(encode_delayed(&delayed), bytes);
        assert_eq!(decode_delayed(&bytes), Ok(delayed.to_vec()));
        assert_eq!(decode_delayed(&bytes[..23]), Err(RecordError::Length(23)));
        assert_eq!(decode_delayed(&[]), Err(RecordError::Length(0)));
        assert_eq!(encode_entry(FileType::Dir, Ino(7)).to_vec(), unhex("02 0000000000000007"));
        assert_eq!(decode_entry(&encode_entry(FileType::Dir, Ino(7))), Ok((FileType::Dir, Ino(7))));
    }

    proptest! {
        #[test]
        fn nodes_survive(mode in 0u16..0o10000, uid: u32, sec: i64, length: u64, parent: u64, acl: (u32, u32), tier: u8) {
            let attr = Attr { mode, uid, length, parent: Ino(parent), access_acl: acl.0, default_acl: acl.1, tier,
                mtime: Time { sec, nsec: 999_999_999 }, ..sample() };
            prop_assert_eq!(decode_node(&encode_node(&attr)), Ok(attr));
        }

        #[test]
        fn any_bytes_are_a_node_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_node(&bytes);
        }
    }
}
