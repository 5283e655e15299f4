//! Slices, truncation, holes and shared ranges: what is in a file, without its bytes.

use rustix::io::Errno;

use super::Rules;
use crate::meta::slices::NewSlices;
use crate::meta::txn::{Commit, Counter, Expect, Mutation, NodeField, Patch, SetNode};
use crate::types::{
    Attr, CHUNK_BYTES, FLAG_APPEND, FLAG_IMMUTABLE, FileType, Ino, SliceRecord, Time, charged_bytes,
};

/// fallocate: do not change the length.
pub const KEEP_SIZE: u32 = 1;
/// fallocate: make a hole.
pub const PUNCH_HOLE: u32 = 2;
/// fallocate: make zeros.
pub const ZERO_RANGE: u32 = 16;

fn hole(pos: u64, len: u64) -> SliceRecord {
    SliceRecord { pos: pos as u32, id: 0, size: 0, off: 0, len: len as u32 }
}

/// Pieces of `start .. end` by chunk: index, offset in the chunk, bytes.
pub(in crate::meta) fn by_chunk(start: u64, end: u64) -> impl Iterator<Item = (u32, u64, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (index, pos) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let len = (CHUNK_BYTES - pos).min(end - at);
            at += len;
            (index as u32, pos, len)
        })
    })
}

/// Chunks of a range that are all given their hole, listed or not, without asking which are.
const UNLISTED_MAX: u64 = 64;

/// The chunks of a range, `start .. end`, if they are so many that a plan wants to know which have
/// a list ([`crate::meta::txn::Key::Chunks`]): holes elsewhere would be work without an effect.
fn too_many(start: u64, end: u64) -> Option<(u32, u32)> {
    let (first, last) = (start / CHUNK_BYTES, end.div_ceil(CHUNK_BYTES));
    (last > first + UNLISTED_MAX).then_some((first as u32, last as u32))
}

/// What [`truncate`] must know as `listed`, if anything.
pub(in crate::meta) fn truncate_asks(node: &Attr, length: u64) -> Option<(u32, u32)> {
    too_many(node.length.min(length), node.length.max(length))
}

/// What [`fallocate`] must know as `listed`, if anything.
pub(in crate::meta) fn fallocate_asks(
    node: &Attr,
    (offset, len): (u64, u64),
    mode: u32,
) -> Option<(u32, u32)> {
    let holes = mode & (PUNCH_HOLE | ZERO_RANGE) != 0;
    too_many(offset, (offset + len).min(node.length)).filter(|_| holes)
}

/// Pieces of `start .. end` that need a hole: all, or with `listed` the first, the last and those of
/// chunks with a list. A list that somebody begins after they were asked for gets no hole: what is
/// written there counts as written after the holes were made.
fn pieces(
    start: u64,
    end: u64,
    listed: Option<&[u32]>,
) -> Box<dyn Iterator<Item = (u32, u64, u64)> + '_> {
    let Some(listed) = listed.filter(|_| start < end) else {
        return Box::new(by_chunk(start, end));
    };
    let (first, last) = (start / CHUNK_BYTES, (end - 1) / CHUNK_BYTES);
    let between = listed.iter().map(|index| u64::from(*index));
    let between = between.filter(move |index| (first + 1..last).contains(index));
    let indexes = std::iter::once(first).chain(between).chain((first < last).then_some(last));
    Box::new(indexes.map(move |index| {
        let chunk = index * CHUNK_BYTES;
        let (left, right) = (start.max(chunk), end.min(chunk + CHUNK_BYTES));
        (index as u32, left - chunk, right - left)
    }))
}

/// Append slices to a chunk.
pub(in crate::meta) fn push(slices: NewSlices, now: Time) -> Commit {
    let NewSlices { ino, chunk, records, mtime } = slices;
    let ends = records.iter().map(|record| u64::from(record.pos) + u64::from(record.len));
    let end = ends.max().map(|end| u64::from(chunk) * CHUNK_BYTES + end);
    let patch =
        Patch { mtime: Some(mtime), ctime: Some(now), length_at_least: end, ..Patch::default() };
    Commit {
        expects: vec![Expect::Node(ino, FileType::File)],
        mutations: vec![Mutation::PushSlices(ino, chunk, records), Mutation::Patch(ino, patch)],
        returns: vec![ino],
    }
}

/// As [`push`], on a volume with limits: what the file grows by must fit.
pub(in crate::meta) fn push_inside(
    slices: NewSlices,
    node: &Attr,
    rules: &Rules,
    now: Time,
) -> Result<Commit, Errno> {
    if node.kind != FileType::File {
        return Err(Errno::NOENT);
    }
    let mut commit = push(slices, now);
    let end = commit.mutations.iter().find_map(|mutation| match mutation {
        Mutation::Patch(_, patch) => patch.length_at_least,
        _ => None,
    });
    let end = end.unwrap_or(0).max(node.length);
    let space = charged_bytes(node.kind, end) - charged_bytes(node.kind, node.length);
    if space > 0 {
        let Rules { capacity, inode_limit, .. } = *rules;
        commit
            .expects
            .push(Expect::NodeFields(commit.returns[0], vec![NodeField::Length(node.length)]));
        commit.expects.push(Expect::Room { space, inodes: 0, capacity, inode_limit });
    }
    Ok(commit)
}

/// Change the length; `None` when it is that already. `listed`: see [`truncate_asks`].
pub(in crate::meta) fn truncate(
    (ino, node): (Ino, &Attr),
    length: u64,
    listed: Option<&[u32]>,
    rules: &Rules,
    now: Time,
) -> Result<Option<Commit>, Errno> {
    if node.kind == FileType::Dir {
        return Err(Errno::ISDIR);
    }
    if node.kind != FileType::File || node.flags & (FLAG_IMMUTABLE | FLAG_APPEND) != 0 {
        return Err(Errno::PERM);
    }
    if length == node.length {
        return Ok(None);
    }
    let mut commit = resize(ino, node, length, rules, now);
    let (left, right) = (node.length.min(length), node.length.max(length));
    for (number, (index, pos, len)) in pieces(left, right, listed).enumerate() {
        let whole = number > 0 && len == CHUNK_BYTES;
        let records = vec![hole(pos, len)];
        commit.mutations.push(if whole {
            Mutation::PushHolesIfListed(ino, index, records)
        } else {
            Mutation::PushSlices(ino, index, records)
        });
    }
    Ok(Some(commit))
}

/// A guarded change of length with times, space and statistics.
fn resize(ino: Ino, node: &Attr, length: u64, rules: &Rules, now: Time) -> Commit {
    let space = charged_bytes(node.kind, length) - charged_bytes(node.kind, node.length);
    let set =
        SetNode { length: Some(length), mtime: Some(now), ctime: Some(now), ..SetNode::default() };
    let mut mutations = vec![Mutation::Set(ino, set)];
    if space != 0 {
        mutations.push(Mutation::Add(Counter::UsedSpace, space));
    }
    if length != node.length {
        let longer = length as i64 - node.length as i64;
        mutations.push(Mutation::CountGrowth(ino, longer, space));
    }
    Commit {
        expects: vec![
            Expect::NodeFields(
                ino,
                vec![NodeField::Length(node.length), NodeField::Flags(node.flags)],
            ),
            Expect::Room {
                space,
                inodes: 0,
                capacity: rules.capacity,
                inode_limit: rules.inode_limit,
            },
        ],
        mutations,
        returns: vec![ino],
    }
}

/// Extend, punch or zero a range. `listed`: see [`fallocate_asks`].
pub(in crate::meta) fn fallocate(
    (ino, node): (Ino, &Attr),
    (offset, len): (u64, u64),
    mode: u32,
    listed: Option<&[u32]>,
    rules: &Rules,
    now: Time,
) -> Result<Commit, Errno> {
    let known = mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) == 0;
    if !known || mode & PUNCH_HOLE != 0 && mode & ZERO_RANGE != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    if len == 0 || mode & PUNCH_HOLE != 0 && mode & KEEP_SIZE == 0 {
        return Err(Errno::INVAL);
    }
    if node.kind != FileType::File || node.flags & FLAG_IMMUTABLE != 0 {
        return Err(Errno::PERM);
    }
    if node.flags & FLAG_APPEND != 0 && mode & !KEEP_SIZE != 0 {
        return Err(Errno::PERM);
    }
    let end = offset + len;
    let length = if mode & KEEP_SIZE == 0 { node.length.max(end) } else { node.length };
    let mut commit = resize(ino, node, length, rules, now);
    if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
        let holes = pieces(offset, end.min(node.length), listed)
            .map(|(index, pos, len)| Mutation::PushSlices(ino, index, vec![hole(pos, len)]));
        commit.mutations.extend(holes);
    }
    Ok(commit)
}

/// Append shared pieces to the target of a copy: absolute offsets of the file, slices of the source.
pub(in crate::meta) fn share(
    (ino, node): (Ino, &Attr),
    (offset, len): (u64, u64),
    pieces: &[(u64, SliceRecord)],
    source: Vec<Expect>,
    rules: &Rules,
    now: Time,
) -> Result<Commit, Errno> {
    if node.kind != FileType::File {
        return Err(Errno::INVAL);
    }
    if node.flags & (FLAG_IMMUTABLE | FLAG_APPEND) != 0 {
        return Err(Errno::PERM);
    }
    let mut commit = resize(ino, node, node.length.max(offset + len), rules, now);
    commit.expects.extend(source);
    for (start, record) in pieces {
        for (index, pos, len) in by_chunk(*start, start + u64::from(record.len)) {
            let skipped = (u64::from(index) * CHUNK_BYTES + pos - start) as u32;
            let piece = SliceRecord {
                pos: pos as u32,
                off: record.off + skipped,
                len: len as u32,
                ..*record
            };
            commit.mutations.push(Mutation::ShareSlices(ino, index, vec![piece]));
        }
    }
    Ok(commit)
}
