//! A commit as words for the commit script, which tells their meaning (`commit.lua`).
//!
//! Changes that are one command of Redis go as that command; what needs a look at a record goes
//! as a word of the script.

use super::keys;
use super::words::Words;
use crate::meta::record::{encode_delayed, encode_entry, encode_limits, encode_node, encode_slice};
use crate::meta::txn::{
    Commit, Counter, Expect, Flock, LockOwner, Mutation, NodeField, Patch, Plock, SetNode,
};
use crate::types::{FileType, Ino, SliceRecord, Time};

/// Records in one command: its words must fit on the script's stack.
const RECORDS_MAX: usize = 2000;

/// Offsets of fields in a node's record.
mod at {
    pub const FLAGS: u8 = 0;
    pub const MODE: u8 = 1;
    pub const UID: u8 = 3;
    pub const GID: u8 = 7;
    pub const ATIME: u8 = 11;
    pub const MTIME: u8 = 23;
    pub const CTIME: u8 = 35;
    pub const NLINK: u8 = 47;
    pub const LENGTH: u8 = 51;
    pub const PARENT: u8 = 63;
    pub const ACL: u8 = 71;
    /// Stands for the tier, whose place depends on others.
    pub const TIER: u8 = 254;
    /// Stands for the type alone.
    pub const KIND: u8 = 255;
}

pub(super) fn pack(commit: &Commit) -> Words {
    let mut words = Words::default();
    commit.returns.iter().for_each(|ino| {
        words.add(keys::node(*ino));
    });
    words.add("?");
    let entered = entered(commit);
    for (index, expectation) in commit.expects.iter().enumerate() {
        match entered.filter(|(absent, _)| *absent == index) {
            Some((_, made)) => enter(&mut words, index, &commit.mutations[made]),
            None => expect(&mut words, index, expectation),
        }
    }
    words.add("!");
    for (index, mutation) in commit.mutations.iter().enumerate() {
        if entered.is_none_or(|(_, made)| made != index) {
            change(&mut words, mutation);
        }
    }
    words
}

/// An entry whose absence is the last thing expected and that is then made, by its places among the
/// expectations and the mutations: one call of Redis does both.
fn entered(commit: &Commit) -> Option<(usize, usize)> {
    let no_limit = |expectation: &Expect| {
        matches!(expectation, Expect::Room { capacity: 0, inode_limit: 0, .. })
    };
    let last = commit.expects.iter().rposition(|expectation| !no_limit(expectation))?;
    let Expect::EntryAbsent(dir, name) = &commit.expects[last] else { return None };
    let makes = |mutation: &Mutation| matches!(mutation, Mutation::PutEntry(at, named, ..) if at == dir && named == name);
    Some((last, commit.mutations.iter().position(makes)?))
}

fn enter(words: &mut Words, index: usize, made: &Mutation) {
    let Mutation::PutEntry(dir, name, kind, ino) = made else {
        unreachable!("`entered` found an entry that is made");
    };
    words.add("enter").number(index).add(keys::dir(*dir));
    words.add(name).add(encode_entry(*kind, *ino));
}

fn time(time: Time) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&time.sec.to_be_bytes());
    bytes[8..].copy_from_slice(&time.nsec.to_be_bytes());
    bytes
}

fn acl((access, default): (u32, u32)) -> [u8; 8] {
    (u64::from(access) << 32 | u64::from(default)).to_be_bytes()
}

/// A range of a record, as the script reads it.
fn range(ranges: &mut Vec<u8>, offset: u8, bytes: &[u8]) {
    ranges.push(offset);
    ranges.push(u8::try_from(bytes.len()).expect("fields are short"));
    ranges.extend_from_slice(bytes);
}

fn fields(seen: &[NodeField]) -> Vec<u8> {
    let mut ranges = Vec::new();
    for field in seen {
        match *field {
            NodeField::Flags(flags) => range(&mut ranges, at::FLAGS, &[flags]),
            NodeField::Mode(kind, mode) => {
                range(&mut ranges, at::MODE, &((kind as u16) << 12 | mode).to_be_bytes());
            }
            NodeField::Uid(uid) => range(&mut ranges, at::UID, &uid.to_be_bytes()),
            NodeField::Gid(gid) => range(&mut ranges, at::GID, &gid.to_be_bytes()),
            NodeField::Nlink(nlink) => range(&mut ranges, at::NLINK, &nlink.to_be_bytes()),
            NodeField::Length(length) => range(&mut ranges, at::LENGTH, &length.to_be_bytes()),
            NodeField::Parent(parent) => range(&mut ranges, at::PARENT, &parent.0.to_be_bytes()),
            NodeField::Tier(tier) => range(&mut ranges, at::TIER, &[tier]),
            NodeField::Acl(access, default) => range(&mut ranges, at::ACL, &acl((access, default))),
        }
    }
    ranges
}

fn expect(words: &mut Words, index: usize, expectation: &Expect) {
    let mut begin = |kind: &str, key: String| {
        words.add(kind).number(index).add(key);
    };
    match expectation {
        Expect::EntryAbsent(dir, name) => {
            begin("absent", keys::dir(*dir));
            words.add(name);
        }
        Expect::EntryIs(dir, name, kind, ino) => {
            begin("field", keys::dir(*dir));
            words.add(name).add(encode_entry(*kind, *ino));
        }
        Expect::Node(ino, kind) => {
            begin("node", keys::node(*ino));
            words.add([at::KIND, 1, *kind as u8]);
        }
        Expect::NodeFields(ino, seen) => {
            begin("node", keys::node(*ino));
            words.add(fields(seen));
        }
        Expect::DirEmpty(dir) => begin("empty", keys::dir(*dir)),
        Expect::ChunkPrefix(ino, chunk, records) => {
            begin("list", keys::chunk(*ino, *chunk));
            words.number(records.len());
            records.iter().for_each(|record| {
                words.add(encode_slice(record));
            });
        }
        Expect::Delayed(delayed) => {
            begin("field", keys::DELAYED_SLICES.to_owned());
            words.add(keys::delayed(delayed.by, delayed.at)).add(encode_delayed(&delayed.slices));
        }
        Expect::XattrIs(ino, name, value) => {
            begin(if value.is_some() { "field" } else { "absent" }, keys::xattrs(*ino));
            words.add(name);
            value.iter().for_each(|value| {
                words.add(value);
            });
        }
        Expect::FlocksAre(ino, locks) => {
            begin("hash", keys::flocks(*ino));
            words.number(locks.len());
            locks.iter().for_each(|Flock { owner, exclusive }| {
                words.add(keys::owner(*owner)).add(lock_word(*exclusive));
            });
        }
        Expect::PlocksAre(ino, locks) => {
            begin("hash", keys::plocks(*ino));
            words.number(locks.len());
            locks.iter().for_each(|Plock { owner, records }| {
                words.add(keys::owner(*owner)).add(records);
            });
        }
        Expect::ParentsAre(ino, parents) => {
            begin("parents", keys::parents(*ino));
            words.number(parents.len());
            parents.iter().for_each(|(dir, links)| {
                words.number(dir).number(links);
            });
        }
        Expect::QuotaRoom(..) | Expect::Room { .. } => room(words, index, expectation),
    }
}

/// Limits of the volume, or of a quota.
fn room(words: &mut Words, index: usize, expectation: &Expect) {
    match expectation {
        Expect::QuotaRoom(holder, space, inodes) => {
            let ([limits, ..], field) = keys::quota(*holder);
            words.add("quota").number(index).add(limits).number(field);
            words.number(space).number(inodes);
        }
        Expect::Room { space, inodes, capacity, inode_limit } => {
            let limits = [
                (Counter::UsedSpace, *space, *capacity),
                (Counter::TotalInodes, *inodes, *inode_limit),
            ];
            for (counter, more, limit) in limits {
                if limit != 0 && more > 0 {
                    words.add("room").number(index).add(keys::counter(counter));
                    words.number(more).number(limit);
                }
            }
        }
        _ => unreachable!("only limits come here"),
    }
}

fn lock_word(exclusive: bool) -> &'static str {
    if exclusive { "W" } else { "R" }
}

fn call(words: &mut Words, command: &[&[u8]]) {
    words.add("call").number(command.len());
    command.iter().for_each(|word| {
        words.add(word);
    });
}

/// A command with a key and text behind it.
fn text(words: &mut Words, command: &str, key: &str, rest: &[&str]) {
    words.add("call").number(2 + rest.len()).add(command).add(key);
    rest.iter().for_each(|word| {
        words.add(word);
    });
}

fn change(words: &mut Words, mutation: &Mutation) {
    match mutation {
        Mutation::PutNode(ino, attr) => {
            words.add("put").add(keys::node(*ino)).add(encode_node(attr));
        }
        Mutation::DelNode(ino) => {
            words.add("del").add(keys::node(*ino));
        }
        Mutation::Patch(ino, change) => patch(words, *ino, change),
        Mutation::Set(ino, change) => set(words, *ino, change),
        Mutation::PutEntry(dir, name, kind, ino) => put_entry(words, *dir, name, (*kind, *ino)),
        Mutation::DelEntry(dir, name) => call(words, &[b"HDEL", keys::dir(*dir).as_bytes(), name]),
        Mutation::PutSymlink(ino, target) => {
            call(words, &[b"SET", keys::symlink(*ino).as_bytes(), target]);
        }
        Mutation::DelSymlink(ino) => text(words, "DEL", &keys::symlink(*ino), &[]),
        Mutation::Add(counter, n) => {
            words.add("add").add(keys::counter(*counter)).number(n);
        }
        Mutation::AddParent(ino, parent, n) => {
            text(words, "HINCRBY", &keys::parents(*ino), &[&parent.to_string(), &n.to_string()]);
        }
        Mutation::DelParents(ino) => text(words, "DEL", &keys::parents(*ino), &[]),
        Mutation::PushSlices(..)
        | Mutation::PushHolesIfListed(..)
        | Mutation::ShareSlices(..)
        | Mutation::ReplacePrefix(..)
        | Mutation::DelChunk(..)
        | Mutation::CountSlice(..)
        | Mutation::AddSliceRef(..)
        | Mutation::ForgetSlice(..)
        | Mutation::PutDelayed(_)
        | Mutation::DelDelayed(_) => slices(words, mutation),
        _ => aside(words, mutation),
    }
}

fn put_entry(words: &mut Words, dir: Ino, name: &[u8], (kind, ino): (FileType, Ino)) {
    call(words, &[b"HSET", keys::dir(dir).as_bytes(), name, &encode_entry(kind, ino)]);
}

fn patch(words: &mut Words, ino: Ino, change: &Patch) {
    /// Earlier than any time: the stored one stays.
    const NEVER: Time = Time { sec: i64::MIN, nsec: 0 };
    words.add("patch").add(keys::node(ino)).number(change.nlink);
    let mut times = [0; 24];
    times[..12].copy_from_slice(&time(change.mtime.unwrap_or(NEVER)));
    times[12..].copy_from_slice(&time(change.ctime.unwrap_or(NEVER)));
    words.add(times);
    words.add(change.atime.map(time).as_ref().map_or(&[][..], |bytes| &bytes[..]));
    let length = change.length_at_least.map(u64::to_be_bytes);
    words.add(length.as_ref().map_or(&[][..], |bytes| &bytes[..]));
    if change.mtime.is_some() && change.nlink == 0 && change.skip_if_younger_ns != 0 {
        words.number(change.skip_if_younger_ns / 1_000_000_000);
        words.number(change.skip_if_younger_ns % 1_000_000_000);
    } else {
        words.add("").add("");
    }
}

fn set(words: &mut Words, ino: Ino, change: &SetNode) {
    let mut ranges = Vec::new();
    let mut put = |offset: u8, bytes: Option<&[u8]>| {
        bytes.iter().for_each(|bytes| range(&mut ranges, offset, bytes));
    };
    put(at::FLAGS, change.flags.map(u8::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    let mode = change.mode.map(|mode| (mode & 0xfff).to_be_bytes());
    put(at::MODE, mode.as_ref().map(|bytes| &bytes[..]));
    put(at::UID, change.uid.map(u32::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    put(at::GID, change.gid.map(u32::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    put(at::ATIME, change.atime.map(time).as_ref().map(|bytes| &bytes[..]));
    put(at::MTIME, change.mtime.map(time).as_ref().map(|bytes| &bytes[..]));
    put(at::CTIME, change.ctime.map(time).as_ref().map(|bytes| &bytes[..]));
    put(at::NLINK, change.nlink.map(u32::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    put(at::LENGTH, change.length.map(u64::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    let parent = change.parent.map(|parent| parent.0.to_be_bytes());
    put(at::PARENT, parent.as_ref().map(|bytes| &bytes[..]));
    words.add("set").add(keys::node(ino)).add(ranges);
    words.add(change.acl.map(acl).as_ref().map_or(&[][..], |bytes| &bytes[..]));
}

fn push(words: &mut Words, command: &str, key: &str, records: impl Iterator<Item = SliceRecord>) {
    let records: Vec<_> = records.collect();
    for some in records.chunks(RECORDS_MAX) {
        words.add("call").number(2 + some.len()).add(command).add(key);
        some.iter().for_each(|record| {
            words.add(encode_slice(record));
        });
    }
}

fn slices(words: &mut Words, mutation: &Mutation) {
    let mut refer = Vec::new();
    match mutation {
        // The first reference of a slice is not counted.
        Mutation::PushSlices(ino, index, records) => {
            push(words, "RPUSH", &keys::chunk(*ino, *index), records.iter().copied());
        }
        Mutation::PushHolesIfListed(ino, index, records) => {
            push(words, "RPUSHX", &keys::chunk(*ino, *index), records.iter().copied());
        }
        Mutation::ShareSlices(ino, index, records) => {
            push(words, "RPUSH", &keys::chunk(*ino, *index), records.iter().copied());
            refer.extend(records.iter().map(|record| (record.id, record.size, 1)));
        }
        // Other clients may append meanwhile: the rest of the list is not touched.
        Mutation::ReplacePrefix(ino, index, count, records) => {
            let key = keys::chunk(*ino, *index);
            text(words, "LTRIM", &key, &[&count.to_string(), "-1"]);
            push(words, "LPUSH", &key, records.iter().rev().copied());
        }
        Mutation::DelChunk(ino, index) => text(words, "DEL", &keys::chunk(*ino, *index), &[]),
        // Nor that of one that a compaction made.
        Mutation::CountSlice(..) => {}
        Mutation::AddSliceRef(id, size, n) => refer.push((*id, *size, *n)),
        Mutation::PutDelayed(delayed) => {
            let field = keys::delayed(delayed.by, delayed.at);
            let value = encode_delayed(&delayed.slices);
            call(words, &[b"HSET", keys::DELAYED_SLICES.as_bytes(), field.as_bytes(), &value]);
        }
        Mutation::DelDelayed(delayed) => {
            text(words, "HDEL", keys::DELAYED_SLICES, &[&keys::delayed(delayed.by, delayed.at)]);
        }
        Mutation::ForgetSlice(id, size) => {
            text(words, "HDEL", keys::SLICE_REFS, &[&keys::slice(*id, *size)]);
        }
        _ => unreachable!("only slice mutations come here"),
    }
    for (id, size, n) in refer {
        if id > 0 {
            let field = keys::slice(id, size);
            text(words, "HINCRBY", keys::SLICE_REFS, &[&field, &n.to_string()]);
        }
    }
}

/// Attributes, queues and statistics: what hangs beside a node.
fn aside(words: &mut Words, mutation: &Mutation) {
    match mutation {
        Mutation::PutXattr(ino, name, value) => {
            call(words, &[b"HSET", keys::xattrs(*ino).as_bytes(), name, value]);
        }
        Mutation::DelXattr(ino, name) => {
            call(words, &[b"HDEL", keys::xattrs(*ino).as_bytes(), name]);
        }
        Mutation::DelXattrs(ino) => text(words, "DEL", &keys::xattrs(*ino), &[]),
        Mutation::QueueFile(ino, length, at) => {
            let member = format!("{ino}:{length}");
            text(words, "ZADD", keys::DELETED_FILES, &[&at.to_string(), &member]);
        }
        Mutation::UnqueueFile(ino, length) => {
            text(words, "ZREM", keys::DELETED_FILES, &[&format!("{ino}:{length}")]);
        }
        Mutation::PutSustained(sid, ino) => {
            text(words, "SADD", &keys::sustained(*sid), &[&ino.to_string()]);
        }
        Mutation::DelSustained(sid, ino) => {
            text(words, "SREM", &keys::sustained(*sid), &[&ino.to_string()]);
        }
        Mutation::InitDirStats(ino) => {
            words.add("recount").number(ino);
            for hash in keys::DIR_STATS {
                text(words, "HSET", hash, &[&ino.to_string(), "0"]);
            }
        }
        Mutation::AddDirStats(ino, length, space, inodes) => {
            words.add("count").number(ino).number(length).number(space).number(inodes);
        }
        Mutation::CountGrowth(ino, length, space) => {
            words.add("grow").add(keys::node(*ino));
            words.number(length >> 32).number(length & 0xffff_ffff).number(space);
        }
        Mutation::AddQuota(holder, space, inodes) => {
            let ([limits, ..], field) = keys::quota(*holder);
            words.add("quota").add(limits).number(field).number(space).number(inodes);
        }
        Mutation::PutQuota(holder, quota) => {
            let ([name, space, inodes], field) = keys::quota(*holder);
            let field = field.to_string();
            let limits = encode_limits([quota.max_space, quota.max_inodes]);
            call(words, &[b"HSET", name.as_bytes(), field.as_bytes(), &limits]);
            text(words, "HSET", space, &[&field, &quota.used_space.to_string()]);
            text(words, "HSET", inodes, &[&field, &quota.used_inodes.to_string()]);
        }
        Mutation::DelDirStats(ino) => {
            words.add("recount").number(ino);
            for hash in keys::DIR_STATS.iter().chain(&keys::DIR_QUOTAS) {
                text(words, "HDEL", hash, &[&ino.to_string()]);
            }
        }
        Mutation::SetFlock(ino, owner, exclusive) => {
            lock(words, &keys::flocks(*ino), *owner, exclusive.map(lock_word).map(str::as_bytes));
        }
        Mutation::SetPlock(ino, owner, records) => {
            lock(words, &keys::plocks(*ino), *owner, records.as_deref());
        }
        _ => unreachable!("every mutation has its place"),
    }
}

/// A holder's lock; the session's set tells where it holds any.
fn lock(words: &mut Words, key: &str, owner: LockOwner, value: Option<&[u8]>) {
    let (field, locked) = (keys::owner(owner), keys::locked(owner.sid));
    if let Some(value) = value {
        call(words, &[b"HSET", key.as_bytes(), field.as_bytes(), value]);
        text(words, "SADD", &locked, &[key]);
    } else {
        words.add("unlock").add(key).add(field).add(format!("{}_", owner.sid)).add(locked);
    }
}
