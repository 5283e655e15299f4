//! The meaning of expectations and mutations, on the tables of a volume.
//!
//! A mutation cannot fail, so a commit whose expectations hold is applied whole.

use std::collections::BTreeMap;

use hashbrown::hash_map::Entry;

use super::volume::{Table, Volume};
use crate::meta::node;
use crate::meta::txn::{Commit, Counter, Expect, Holder, Mutation, Outcome, Patch, UNLIMITED};
use crate::types::{Ino, SliceId, SliceRecord, charged_bytes};

impl Volume {
    /// Check all expectations, then apply all mutations.
    pub(super) fn commit(&mut self, commit: Commit) -> Outcome {
        if let Some(index) = commit.expects.iter().position(|expect| !self.holds(expect)) {
            return Outcome::Conflict(index);
        }
        for mutation in commit.mutations {
            self.apply(mutation);
        }
        let nodes = commit.returns.iter().map(|ino| self.nodes.get(ino).cloned());
        Outcome::Applied(nodes.collect())
    }

    fn holds(&self, expect: &Expect) -> bool {
        match expect {
            Expect::EntryAbsent(dir, name) => self.entry(*dir, name).is_none(),
            Expect::EntryIs(dir, name, kind, ino) => self.entry(*dir, name) == Some((*kind, *ino)),
            Expect::Node(ino, kind) => self.nodes.get(ino).is_some_and(|attr| attr.kind == *kind),
            Expect::NodeFields(ino, fields) => {
                self.nodes.get(ino).is_some_and(|attr| node::fields_hold(attr, fields))
            }
            Expect::DirEmpty(dir) => self.dir_len(*dir) == 0,
            Expect::ChunkPrefix(ino, index, records) => {
                self.chunk(*ino, *index).starts_with(records)
            }
            Expect::Delayed(delayed) => self.delayed.get(&delayed.by) == Some(delayed),
            Expect::XattrIs(ino, name, value) => self.xattr(*ino, name) == value.as_deref(),
            Expect::FlocksAre(ino, locks) => self.flocks(*ino).eq(locks.iter().copied()),
            Expect::PlocksAre(ino, locks) => {
                self.plocks(*ino).eq(locks.iter().map(|lock| (lock.owner, &*lock.records)))
            }
            Expect::Room { space, inodes, capacity, inode_limit } => {
                let fits = |counter, more: i64, limit: u64| {
                    limit == 0 || more <= 0 || self.counter(counter) + more <= limit as i64
                };
                fits(Counter::UsedSpace, *space, *capacity)
                    && fits(Counter::TotalInodes, *inodes, *inode_limit)
            }
            Expect::ParentsAre(ino, parents) => {
                let held = self.parents.get(ino).into_iter().flatten();
                held.map(|(dir, links)| (*dir, *links)).eq(parents.iter().copied())
            }
            Expect::QuotaRoom(holder, space, inodes) => {
                self.quotas.get(holder).is_none_or(|quota| quota.takes(*space, *inodes))
            }
        }
    }

    fn apply(&mut self, mutation: Mutation) {
        match mutation {
            Mutation::PutNode(ino, attr) => {
                self.nodes.insert(ino, attr);
            }
            Mutation::DelNode(ino) => {
                self.nodes.remove(&ino);
            }
            Mutation::Patch(ino, change) => self.patch(ino, &change),
            Mutation::Set(ino, change) => {
                if let Some(attr) = self.nodes.get_mut(&ino) {
                    node::set(attr, &change);
                }
            }
            Mutation::PutEntry(dir, name, kind, ino) => {
                self.dirs.entry(dir).or_default().names.insert(name, (kind, ino));
            }
            Mutation::DelEntry(dir, name) => {
                let Some(found) = self.dirs.get_mut(&dir) else { return };
                found.names.remove(&name);
                if found.is_empty() {
                    self.dirs.remove(&dir);
                }
            }
            Mutation::PutSymlink(ino, target) => {
                self.symlinks.insert(ino, target);
            }
            Mutation::DelSymlink(ino) => {
                self.symlinks.remove(&ino);
            }
            Mutation::Add(counter, n) => *self.counter_mut(counter) += n,
            Mutation::PushSlices(ino, index, records)
            | Mutation::ShareSlices(ino, index, records) => {
                for record in records.iter().filter(|record| record.id > 0) {
                    self.refer(record.id, record.size, 1);
                }
                self.append(ino, index, records);
            }
            Mutation::PushHolesIfListed(ino, index, records) => {
                if !self.chunk(ino, index).is_empty() {
                    self.append(ino, index, records);
                }
            }
            Mutation::ReplacePrefix(ino, index, count, records) => {
                self.replace_prefix(ino, index, count as usize, &records);
            }
            Mutation::DelChunk(ino, index) => self.del_chunk(ino, index),
            Mutation::CountSlice(id, size) => self.refer(id, size, 1),
            Mutation::AddSliceRef(id, size, n) => self.refer(id, size, n),
            Mutation::ForgetSlice(id, _) => {
                self.slice_refs.remove(&id);
            }
            Mutation::PutDelayed(delayed) => {
                self.delayed.insert(delayed.by, delayed);
            }
            Mutation::DelDelayed(delayed) => {
                self.delayed.remove(&delayed.by);
            }
            _ => self.apply_aside(mutation),
        }
    }

    /// Parents, attributes, queues, statistics and locks: what hangs beside a node.
    fn apply_aside(&mut self, mutation: Mutation) {
        match mutation {
            Mutation::AddParent(ino, dir, n) => edit(&mut self.parents, ino, |parents| {
                let links = parents.entry(dir).or_default();
                *links += n;
                if *links <= 0 {
                    parents.remove(&dir);
                }
            }),
            Mutation::DelParents(ino) => {
                self.parents.remove(&ino);
            }
            Mutation::PutXattr(ino, name, value) => {
                self.xattrs.entry(ino).or_default().insert(name, value);
            }
            Mutation::DelXattr(ino, name) => edit(&mut self.xattrs, ino, |xattrs| {
                xattrs.remove(&name);
            }),
            Mutation::DelXattrs(ino) => {
                self.xattrs.remove(&ino);
            }
            Mutation::QueueFile(ino, length, at) => {
                self.queue.insert(ino, (length, at));
            }
            Mutation::UnqueueFile(ino, _) => {
                self.queue.remove(&ino);
            }
            Mutation::PutSustained(sid, ino) => {
                self.sustained.entry(sid).or_default().insert(ino);
            }
            Mutation::DelSustained(sid, ino) => {
                if let Some(kept) = self.sustained.get_mut(&sid) {
                    kept.remove(&ino);
                    if kept.is_empty() {
                        self.sustained.remove(&sid);
                    }
                }
            }
            Mutation::InitDirStats(dir) => {
                self.dirs.entry(dir).or_default().stats = Some([0; 3]);
            }
            Mutation::AddDirStats(dir, length, space, inodes) => {
                self.add_dir_stats(dir, [length, space, inodes]);
            }
            Mutation::CountGrowth(ino, length, space) => self.count_growth(ino, length, space),
            Mutation::AddQuota(holder, space, inodes) => self.add_quota(holder, space, inodes),
            Mutation::PutQuota(holder, quota) => {
                self.quotas.insert(holder, quota);
            }
            Mutation::DelDirStats(dir) => {
                self.quotas.remove(&Holder::Dir(dir));
                let Some(found) = self.dirs.get_mut(&dir) else { return };
                found.stats = None;
                if found.is_empty() {
                    self.dirs.remove(&dir);
                }
            }
            Mutation::SetFlock(ino, owner, exclusive) => edit(&mut self.flocks, ino, |held| {
                put_or_drop(held, owner, exclusive);
            }),
            Mutation::SetPlock(ino, owner, records) => edit(&mut self.plocks, ino, |held| {
                put_or_drop(held, owner, records);
            }),
            _ => unreachable!("every mutation has its place"),
        }
    }

    fn patch(&mut self, ino: Ino, change: &Patch) {
        let Some(attr) = self.nodes.get_mut(&ino) else { return };
        let length_before = attr.length;
        node::patch(attr, change);
        if attr.length == length_before {
            return;
        }
        let longer = attr.length as i64 - length_before as i64;
        let grown = charged_bytes(attr.kind, attr.length) - charged_bytes(attr.kind, length_before);
        *self.counter_mut(Counter::UsedSpace) += grown;
        self.count_growth(ino, longer, grown);
    }

    fn count_growth(&mut self, ino: Ino, length: i64, space: i64) {
        let Some(attr) = self.nodes.get(&ino).filter(|attr| attr.nlink > 0) else { return };
        if attr.parent != Ino(0) {
            return self.add_dir_stats(attr.parent, [length, space, 0]);
        }
        for (dir, links) in self.parents.get(&ino).cloned().unwrap_or_default() {
            self.add_dir_stats(dir, [length * links, space * links, 0]);
        }
    }

    fn add_dir_stats(&mut self, dir: Ino, more: [i64; 3]) {
        if let Some(stats) = self.dirs.get_mut(&dir).and_then(|dir| dir.stats.as_mut()) {
            stats.iter_mut().zip(more).for_each(|(stat, more)| *stat += more);
        }
    }

    fn add_quota(&mut self, holder: Holder, space: i64, inodes: i64) {
        if !matches!(holder, Holder::Dir(_)) {
            self.quotas.entry(holder).or_insert(UNLIMITED);
        }
        if let Some(quota) = self.quotas.get_mut(&holder) {
            quota.used_space += space;
            quota.used_inodes += inodes;
        }
    }

    /// Move a slice's count of references.
    fn refer(&mut self, id: SliceId, size: u32, n: i64) {
        self.slice_refs.entry(id).or_insert((size, 0)).1 += n;
    }

    fn append(&mut self, ino: Ino, index: u32, mut records: Vec<SliceRecord>) {
        if records.is_empty() {
            return;
        }
        let chunks = self.chunks.entry(ino).or_default();
        match chunks.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => chunks[at].1.append(&mut records),
            Err(at) => {
                // Most files have one chunk.
                if chunks.is_empty() {
                    chunks.reserve_exact(1);
                }
                chunks.insert(at, (index, records));
            }
        }
    }

    fn replace_prefix(&mut self, ino: Ino, index: u32, count: usize, records: &[SliceRecord]) {
        let rest = self.chunk(ino, index);
        let list = [records, &rest[count.min(rest.len())..]].concat();
        self.del_chunk(ino, index);
        self.append(ino, index, list);
    }

    fn del_chunk(&mut self, ino: Ino, index: u32) {
        let Entry::Occupied(mut chunks) = self.chunks.entry(ino) else { return };
        if let Ok(at) = chunks.get().binary_search_by_key(&index, |(index, _)| *index) {
            chunks.get_mut().remove(at);
        }
        if chunks.get().is_empty() {
            chunks.remove();
        }
    }
}

/// Change what an inode has in a table; nothing empty stays there.
fn edit<K, V>(
    table: &mut Table<Ino, BTreeMap<K, V>>,
    ino: Ino,
    change: impl FnOnce(&mut BTreeMap<K, V>),
) {
    let found = table.entry(ino).or_default();
    change(found);
    if found.is_empty() {
        table.remove(&ino);
    }
}

fn put_or_drop<K: Ord, V>(held: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            held.insert(key, value);
        }
        None => {
            held.remove(&key);
        }
    }
}
