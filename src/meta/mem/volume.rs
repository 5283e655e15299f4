//! The tables of a volume in memory, and what reads them.
//!
//! Does not own the meaning of commits (`apply`). Every table holds only what there is: an entry
//! that has become empty is taken out by who emptied it.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::meta::acl::Rule;
use crate::meta::engine::{AclRules, DirEntry, Session, UnusedSlices};
use crate::meta::txn::{Counter, Delayed, Flock, Holder, Key, LockOwner, Plock, Quota, Value};
use crate::types::{Attr, FileType, Ino, Name, SliceId, SliceRecord};

pub(super) type Table<K, V> = HashMap<K, V, RandomState>;

/// A directory's names, and its statistics where it has any: data length, space, inodes.
#[derive(Default)]
pub(super) struct Dir {
    pub names: Table<Name, (FileType, Ino)>,
    pub stats: Option<[i64; 3]>,
}

impl Dir {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.stats.is_none()
    }
}

/// The chunks of a file that have a list, by ascending index; no list is empty.
pub(super) type Chunks = Vec<(u32, Vec<SliceRecord>)>;

/// All there is.
pub(super) struct Volume {
    pub setting: Option<String>,
    pub nodes: Table<Ino, Attr>,
    pub dirs: Table<Ino, Dir>,
    pub chunks: Table<Ino, Chunks>,
    /// Size of a slice, and how many list records refer to it.
    pub slice_refs: Table<SliceId, (u32, i64)>,
    /// Replaced slices that are put aside, by the slice that stands for them.
    pub delayed: BTreeMap<SliceId, Delayed>,
    pub symlinks: Table<Ino, Name>,
    pub xattrs: Table<Ino, BTreeMap<Name, Box<[u8]>>>,
    pub parents: Table<Ino, BTreeMap<Ino, i64>>,
    /// Whether the lock is exclusive, by holder.
    pub flocks: Table<Ino, BTreeMap<LockOwner, bool>>,
    pub plocks: Table<Ino, BTreeMap<LockOwner, Box<[u8]>>>,
    pub sessions: BTreeMap<u64, Session>,
    /// Unlinked inodes that a session keeps open.
    pub sustained: Table<u64, BTreeSet<Ino>>,
    /// Length and unix seconds of deleted files.
    pub queue: Table<Ino, (u64, i64)>,
    /// Rules of access control; the first has the id 1.
    pub acl_rules: Vec<Rule>,
    pub quotas: BTreeMap<Holder, Quota>,
    counters: [i64; 6],
    jobs: Table<&'static str, i64>,
}

impl Default for Volume {
    fn default() -> Self {
        let mut volume = Self {
            setting: None,
            nodes: Table::default(),
            dirs: Table::default(),
            chunks: Table::default(),
            slice_refs: Table::default(),
            delayed: BTreeMap::new(),
            symlinks: Table::default(),
            xattrs: Table::default(),
            parents: Table::default(),
            flocks: Table::default(),
            plocks: Table::default(),
            sessions: BTreeMap::new(),
            sustained: Table::default(),
            queue: Table::default(),
            acl_rules: Vec::new(),
            quotas: BTreeMap::new(),
            counters: [0; 6],
            jobs: Table::default(),
        };
        // The root has the first inode.
        *volume.counter_mut(Counter::NextInode) = 1;
        volume
    }
}

impl Volume {
    pub(super) fn counter(&self, counter: Counter) -> i64 {
        self.counters[counter as usize]
    }

    pub(super) fn counter_mut(&mut self, counter: Counter) -> &mut i64 {
        &mut self.counters[counter as usize]
    }

    pub(super) fn entry(&self, dir: Ino, name: &[u8]) -> Option<(FileType, Ino)> {
        self.dirs.get(&dir)?.names.get(name).copied()
    }

    pub(super) fn dir_len(&self, dir: Ino) -> usize {
        self.dirs.get(&dir).map_or(0, |dir| dir.names.len())
    }

    /// A chunk's list, empty where there is none.
    pub(super) fn chunk(&self, ino: Ino, index: u32) -> &[SliceRecord] {
        let found = self.chunks.get(&ino).and_then(|chunks| {
            let at = chunks.binary_search_by_key(&index, |(index, _)| *index).ok()?;
            Some(&*chunks[at].1)
        });
        found.unwrap_or_default()
    }

    pub(super) fn xattr(&self, ino: Ino, name: &[u8]) -> Option<&[u8]> {
        Some(self.xattrs.get(&ino)?.get(name)?)
    }

    pub(super) fn flocks(&self, ino: Ino) -> impl Iterator<Item = Flock> {
        let held = self.flocks.get(&ino).into_iter().flatten();
        held.map(|(owner, exclusive)| Flock { owner: *owner, exclusive: *exclusive })
    }

    pub(super) fn plocks(&self, ino: Ino) -> impl Iterator<Item = (LockOwner, &[u8])> {
        let held = self.plocks.get(&ino).into_iter().flatten();
        held.map(|(owner, records)| (*owner, &**records))
    }

    /// What is known under a key.
    pub(super) fn value(&self, key: &Key) -> Value {
        match key {
            Key::Node(ino) => Value::Node(self.nodes.get(ino).cloned()),
            Key::Entry(dir, name) => Value::Entry(self.entry(*dir, name)),
            Key::EntryNode(dir, name) => {
                let with_node = |(kind, ino)| (kind, ino, self.nodes.get(&ino).cloned());
                Value::EntryNode(self.entry(*dir, name).map(with_node))
            }
            Key::DirLen(dir) => Value::DirLen(self.dir_len(*dir) as u64),
            Key::Chunk(ino, index) => Value::Chunk(self.chunk(*ino, *index).to_vec()),
            Key::Chunks(ino, ..) => {
                let chunks = self.chunks.get(ino).into_iter().flatten();
                Value::Chunks(chunks.map(|(index, _)| *index).collect())
            }
            Key::SliceRef(id, _) => {
                Value::SliceRef(self.slice_refs.get(id).map_or(0, |(_, count)| *count))
            }
            Key::Symlink(ino) => Value::Symlink(self.symlinks.get(ino).cloned()),
            Key::Xattr(ino, name) => Value::Xattr(self.xattr(*ino, name).map(Box::from)),
            Key::XattrNames(ino) => {
                let names = self.xattrs.get(ino).into_iter().flat_map(BTreeMap::keys);
                Value::XattrNames(names.cloned().collect())
            }
            Key::Parents(ino) => {
                let parents = self.parents.get(ino).into_iter().flatten();
                Value::Parents(parents.map(|(dir, links)| (*dir, *links)).collect())
            }
            Key::Counter(counter) => Value::Counter(self.counter(*counter)),
            Key::Flocks(ino) => Value::Flocks(self.flocks(*ino).collect()),
            Key::Plocks(ino) => {
                let whole = |(owner, records): (_, &[u8])| Plock { owner, records: records.into() };
                Value::Plocks(self.plocks(*ino).map(whole).collect())
            }
            Key::Acl(id) => {
                let at = (*id as usize).checked_sub(1);
                Value::Acl(at.and_then(|at| self.acl_rules.get(at)).cloned())
            }
            Key::Quota(holder) => Value::Quota(self.quotas.get(holder).copied()),
        }
    }

    pub(super) fn list(&self, dir: Ino, with_attr: bool) -> Vec<DirEntry> {
        let names = self.dirs.get(&dir).into_iter().flat_map(|dir| &dir.names);
        let entry = |(name, (kind, ino)): (&Name, &(FileType, Ino))| DirEntry {
            name: name.clone(),
            kind: *kind,
            ino: *ino,
            attr: if with_attr { self.nodes.get(ino).cloned() } else { None },
        };
        names.map(entry).collect()
    }

    pub(super) fn acl_rules(&self, after: u32) -> AclRules {
        let rules: Vec<_> =
            (1..).zip(self.acl_rules.iter().cloned()).skip(after as usize).collect();
        AclRules { told_to: after.max(self.acl_rules.len() as u32), rules, more: false }
    }

    pub(super) fn add_acl_rule(&mut self, rule: Rule) -> u32 {
        self.acl_rules.push(rule);
        self.acl_rules.len() as u32
    }

    /// A session's locks go, and itself when it keeps nothing open.
    pub(super) fn end_session(&mut self, sid: u64) -> Vec<Ino> {
        self.flocks.retain(|_, held| {
            held.retain(|owner, _| owner.sid != sid);
            !held.is_empty()
        });
        self.plocks.retain(|_, held| {
            held.retain(|owner, _| owner.sid != sid);
            !held.is_empty()
        });
        let kept: Vec<_> = self.sustained.get(&sid).into_iter().flatten().copied().collect();
        if kept.is_empty() {
            self.sessions.remove(&sid);
        }
        kept
    }

    pub(super) fn queued_files(&self, before: i64, limit: usize) -> Vec<(Ino, u64)> {
        let due = self.queue.iter().filter(|(_, (_, at))| *at < before);
        due.take(limit).map(|(ino, (length, _))| (*ino, *length)).collect()
    }

    pub(super) fn unused_slices(&self, from: SliceId, limit: usize) -> UnusedSlices {
        let unused = self.slice_refs.iter().filter(|(id, (_, count))| **id > from && *count <= 0);
        let mut slices: Vec<_> = unused.map(|(id, (size, _))| (*id, *size)).collect();
        slices.sort_unstable();
        slices.truncate(limit);
        let next = slices.last().map(|(id, _)| *id).filter(|_| slices.len() == limit);
        UnusedSlices { slices, next }
    }

    pub(super) fn delayed_slices(&self, before: i64, limit: usize) -> Vec<Delayed> {
        let due = self.delayed.values().filter(|delayed| delayed.at < before);
        due.take(limit).cloned().collect()
    }

    pub(super) fn win_job(&mut self, name: &'static str, now: i64, period: i64) -> bool {
        let wins = self.jobs.get(name).is_none_or(|stamp| (stamp - now).abs() >= period);
        if wins {
            self.jobs.insert(name, now);
        }
        wins
    }
}
