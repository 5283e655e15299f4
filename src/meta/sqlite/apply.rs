//! The meaning of expectations and mutations in SQL, inside one transaction.
//!
//! Does not own the transaction (`mod`). usedSpace moves with the length where a patch grows it.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rusqlite::{Connection, Result, params};
use smallvec::SmallVec;

use super::{quota, rows};
use crate::meta::node;
use crate::meta::record::encode_delayed;
use crate::meta::txn::{Commit, Counter, Delayed, Expect, Mutation, Outcome, Patch};
use crate::types::{Attr, Ino, SliceId, charged_bytes};

/// Commits on their way into one transaction: nodes, counters and statistics that several of
/// their parts touch are read once and written once, by [`Batch::finish`].
pub(super) struct Batch<'a> {
    base: &'a Connection,
    nodes: HashMap<Ino, Held, RandomState>,
    counters: SmallVec<[(Counter, i64); 2]>,
    stats: HashMap<Ino, [i64; 3], RandomState>,
}

/// A node as it is now, and whether its row is still to be written.
struct Held {
    attr: Option<Attr>,
    dirty: bool,
}

impl<'a> Batch<'a> {
    pub fn new(base: &'a Connection) -> Self {
        let (nodes, stats) = (HashMap::default(), HashMap::default());
        Self { base, nodes, counters: SmallVec::new(), stats }
    }

    /// Check all expectations, then apply all mutations.
    pub fn commit(&mut self, commit: &Commit) -> Result<Outcome> {
        for (index, expect) in commit.expects.iter().enumerate() {
            if !self.holds(expect)? {
                return Ok(Outcome::Conflict(index));
            }
        }
        for mutation in &commit.mutations {
            self.apply(mutation)?;
        }
        let nodes = commit.returns.iter().map(|ino| self.node(*ino)).collect::<Result<_>>()?;
        Ok(Outcome::Applied(nodes))
    }

    /// Write what is held.
    pub fn finish(self) -> Result<()> {
        for (ino, held) in &self.nodes {
            if let Held { attr: Some(attr), dirty: true } = held {
                rows::put_node(self.base, *ino, attr)?;
            }
        }
        for (counter, n) in &self.counters {
            rows::add(self.base, *counter, *n)?;
        }
        for (ino, [length, space, inodes]) in &self.stats {
            run(
                self.base,
                "UPDATE jfs_dir_stats SET data_length = data_length + ?2, used_space = used_space + ?3, \
                 used_inodes = used_inodes + ?4 WHERE inode = ?1",
                params![ino.0 as i64, length, space, inodes],
            )?;
        }
        Ok(())
    }

    fn node(&mut self, ino: Ino) -> Result<Option<Attr>> {
        if let Some(held) = self.nodes.get(&ino) {
            return Ok(held.attr.clone());
        }
        let attr = rows::node(self.base, ino)?;
        self.nodes.insert(ino, Held { attr: attr.clone(), dirty: false });
        Ok(attr)
    }

    fn put_node(&mut self, ino: Ino, attr: Attr) {
        self.nodes.insert(ino, Held { attr: Some(attr), dirty: true });
    }

    fn counter(&self, counter: Counter) -> Result<i64> {
        let held = self.counters.iter().find(|(held, _)| *held == counter).map_or(0, |(_, n)| *n);
        Ok(rows::counter(self.base, counter)? + held)
    }

    fn add(&mut self, counter: Counter, n: i64) {
        match self.counters.iter_mut().find(|(held, _)| *held == counter) {
            Some((_, sum)) => *sum += n,
            None => self.counters.push((counter, n)),
        }
    }

    fn add_stats(&mut self, dir: Ino, more: [i64; 3]) {
        let sums = self.stats.entry(dir).or_default();
        sums.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
    }

    fn holds(&mut self, expect: &Expect) -> Result<bool> {
        let base = self.base;
        Ok(match expect {
            Expect::EntryAbsent(dir, name) => rows::entry(base, *dir, name)?.is_none(),
            Expect::EntryIs(dir, name, kind, ino) => {
                rows::entry(base, *dir, name)? == Some((*kind, *ino))
            }
            Expect::Node(ino, kind) => self.node(*ino)?.is_some_and(|attr| attr.kind == *kind),
            Expect::NodeFields(ino, fields) => {
                self.node(*ino)?.is_some_and(|attr| node::fields_hold(&attr, fields))
            }
            Expect::DirEmpty(dir) => rows::dir_len(base, *dir)? == 0,
            Expect::ChunkPrefix(ino, index, records) => {
                rows::chunk(base, *ino, *index)?.starts_with(records)
            }
            Expect::Delayed(delayed) => rows::delayed(base, delayed.by)?.as_ref() == Some(delayed),
            Expect::XattrIs(ino, name, value) => rows::xattr(base, *ino, name)? == *value,
            Expect::FlocksAre(ino, locks) => rows::flocks(base, *ino)? == *locks,
            Expect::PlocksAre(ino, locks) => rows::plocks(base, *ino)? == *locks,
            Expect::Room { space, inodes, capacity, inode_limit } => {
                let fits = |counter, more: i64, limit: u64| -> Result<bool> {
                    Ok(limit == 0 || more <= 0 || self.counter(counter)? + more <= limit as i64)
                };
                fits(Counter::UsedSpace, *space, *capacity)?
                    && fits(Counter::TotalInodes, *inodes, *inode_limit)?
            }
            Expect::ParentsAre(ino, parents) => rows::parents(base, *ino)? == *parents,
            Expect::QuotaRoom(holder, space, inodes) => {
                quota::of(base, *holder)?.is_none_or(|quota| quota.takes(*space, *inodes))
            }
        })
    }

    fn apply(&mut self, mutation: &Mutation) -> Result<()> {
        match mutation {
            Mutation::PutNode(ino, attr) => self.put_node(*ino, attr.clone()),
            Mutation::DelNode(ino) => {
                self.nodes.insert(*ino, Held { attr: None, dirty: false });
                let sql = "DELETE FROM jfs_node WHERE inode = ?";
                return run(self.base, sql, params![ino.0 as i64]);
            }
            Mutation::Patch(ino, change) => return self.patch(*ino, change),
            Mutation::Set(ino, change) => {
                if let Some(mut attr) = self.node(*ino)? {
                    node::set(&mut attr, change);
                    self.put_node(*ino, attr);
                }
            }
            Mutation::Add(counter, n) => self.add(*counter, *n),
            Mutation::AddDirStats(dir, length, space, inodes) => {
                self.add_stats(*dir, [*length, *space, *inodes]);
            }
            Mutation::CountGrowth(ino, length, space) => {
                if let Some(attr) = self.node(*ino)? {
                    self.count_growth(*ino, &attr, *length, *space)?;
                }
            }
            Mutation::InitDirStats(dir) | Mutation::DelDirStats(dir) => {
                self.stats.remove(dir);
                return aside(self.base, mutation);
            }
            _ => return names(self.base, mutation),
        }
        Ok(())
    }

    fn patch(&mut self, ino: Ino, change: &Patch) -> Result<()> {
        let Some(mut attr) = self.node(ino)? else { return Ok(()) };
        let (before, length_before) = (charged_bytes(attr.kind, attr.length), attr.length);
        let changed = node::patch(&mut attr, change);
        let grown = charged_bytes(attr.kind, attr.length) - before;
        if grown != 0 {
            self.add(Counter::UsedSpace, grown);
        }
        let longer = attr.length as i64 - length_before as i64;
        if longer != 0 {
            self.count_growth(ino, &attr, longer, grown)?;
        }
        if changed {
            self.put_node(ino, attr);
        }
        Ok(())
    }

    fn count_growth(&mut self, ino: Ino, attr: &Attr, length: i64, space: i64) -> Result<()> {
        let dirs = match attr {
            Attr { nlink: 0, .. } => vec![],
            Attr { parent: Ino(0), .. } => rows::parents(self.base, ino)?,
            _ => vec![(attr.parent, 1)],
        };
        for (dir, links) in dirs {
            self.add_stats(dir, [length * links, space * links, 0]);
        }
        Ok(())
    }
}

fn names(base: &Connection, mutation: &Mutation) -> Result<()> {
    match mutation {
        Mutation::PutEntry(dir, name, kind, ino) => run(
            base,
            "INSERT INTO jfs_edge (parent, name, inode, type) VALUES (?, ?, ?, ?) \
             ON CONFLICT (parent, name) DO UPDATE SET inode = excluded.inode, type = excluded.type",
            params![dir.0 as i64, name, ino.0 as i64, *kind as u8],
        ),
        Mutation::DelEntry(dir, name) => run(
            base,
            "DELETE FROM jfs_edge WHERE parent = ? AND name = ?",
            params![dir.0 as i64, name],
        ),
        Mutation::PutSymlink(ino, target) => run(
            base,
            "INSERT OR REPLACE INTO jfs_symlink VALUES (?, ?)",
            params![ino.0 as i64, target],
        ),
        Mutation::DelSymlink(ino) => {
            run(base, "DELETE FROM jfs_symlink WHERE inode = ?", params![ino.0 as i64])
        }
        // Entries tell the parents in SQL.
        Mutation::AddParent(..) | Mutation::DelParents(_) => Ok(()),
        Mutation::PushSlices(..)
        | Mutation::PushHolesIfListed(..)
        | Mutation::ShareSlices(..)
        | Mutation::ReplacePrefix(..)
        | Mutation::DelChunk(..)
        | Mutation::CountSlice(..)
        | Mutation::AddSliceRef(..)
        | Mutation::ForgetSlice(..)
        | Mutation::PutDelayed(_)
        | Mutation::DelDelayed(_) => slices(base, mutation),
        _ => aside(base, mutation),
    }
}

fn slices(base: &Connection, mutation: &Mutation) -> Result<()> {
    match mutation {
        Mutation::PushSlices(ino, index, records) => {
            rows::append(base, *ino, *index, records, true)?;
            records
                .iter()
                .filter(|record| record.id > 0)
                .try_for_each(|record| refer(base, record.id, record.size, 1))
        }
        Mutation::ShareSlices(ino, index, records) => {
            rows::append(base, *ino, *index, records, true)?;
            records
                .iter()
                .filter(|record| record.id > 0)
                .try_for_each(|record| refer(base, record.id, record.size, 1))
        }
        Mutation::PushHolesIfListed(ino, index, records) => {
            rows::append(base, *ino, *index, records, false)
        }
        Mutation::ReplacePrefix(ino, index, count, records) => {
            let mut list = rows::chunk(base, *ino, *index)?;
            list.splice(..(*count as usize).min(list.len()), records.iter().copied());
            run(
                base,
                "DELETE FROM jfs_chunk WHERE inode = ? AND indx = ?",
                params![ino.0 as i64, index],
            )?;
            rows::append(base, *ino, *index, &list, true)
        }
        Mutation::DelChunk(ino, index) => run(
            base,
            "DELETE FROM jfs_chunk WHERE inode = ? AND indx = ?",
            params![ino.0 as i64, index],
        ),
        Mutation::ForgetSlice(id, _) => {
            run(base, "DELETE FROM jfs_chunk_ref WHERE chunkid = ?", params![*id as i64])
        }
        Mutation::CountSlice(id, size) => refer(base, *id, *size, 1),
        Mutation::AddSliceRef(id, size, n) => refer(base, *id, *size, *n),
        Mutation::PutDelayed(Delayed { by, at, slices }) => run(
            base,
            "INSERT OR REPLACE INTO jfs_delslices VALUES (?, ?, ?)",
            params![*by as i64, at, encode_delayed(slices)],
        ),
        Mutation::DelDelayed(delayed) => {
            run(base, "DELETE FROM jfs_delslices WHERE chunkid = ?", params![delayed.by as i64])
        }
        _ => unreachable!("only slice mutations come here"),
    }
}

/// Move a slice's true count of references.
fn refer(base: &Connection, id: SliceId, size: u32, n: i64) -> Result<()> {
    run(
        base,
        "INSERT INTO jfs_chunk_ref VALUES (?1, ?2, ?3) ON CONFLICT (chunkid) DO UPDATE SET refs = refs + ?3",
        params![id as i64, size, n],
    )
}

/// Attributes, queues, statistics and locks: what hangs beside a node.
fn aside(base: &Connection, mutation: &Mutation) -> Result<()> {
    match mutation {
        Mutation::PutXattr(ino, name, value) => run(
            base,
            "INSERT INTO jfs_xattr (inode, name, value) VALUES (?, ?, ?) \
             ON CONFLICT (inode, name) DO UPDATE SET value = excluded.value",
            params![ino.0 as i64, rows::text(name), value],
        ),
        Mutation::DelXattr(ino, name) => run(
            base,
            "DELETE FROM jfs_xattr WHERE inode = ? AND name = ?",
            params![ino.0 as i64, rows::text(name)],
        ),
        Mutation::DelXattrs(ino) => {
            run(base, "DELETE FROM jfs_xattr WHERE inode = ?", params![ino.0 as i64])
        }
        Mutation::QueueFile(ino, length, at) => run(
            base,
            "INSERT OR REPLACE INTO jfs_delfile VALUES (?, ?, ?)",
            params![ino.0 as i64, *length as i64, at],
        ),
        Mutation::UnqueueFile(ino, _) => {
            run(base, "DELETE FROM jfs_delfile WHERE inode = ?", params![ino.0 as i64])
        }
        Mutation::PutSustained(sid, ino) => run(
            base,
            "INSERT OR IGNORE INTO jfs_sustained (sid, inode) VALUES (?, ?)",
            params![*sid as i64, ino.0 as i64],
        ),
        Mutation::DelSustained(sid, ino) => run(
            base,
            "DELETE FROM jfs_sustained WHERE sid = ? AND inode = ?",
            params![*sid as i64, ino.0 as i64],
        ),
        Mutation::InitDirStats(ino) => run(
            base,
            "INSERT OR REPLACE INTO jfs_dir_stats VALUES (?, 0, 0, 0)",
            params![ino.0 as i64],
        ),
        Mutation::DelDirStats(ino) => {
            run(base, "DELETE FROM jfs_dir_stats WHERE inode = ?", params![ino.0 as i64])?;
            run(base, "DELETE FROM jfs_dir_quota WHERE inode = ?", params![ino.0 as i64])
        }
        Mutation::AddQuota(holder, space, inodes) => quota::add(base, *holder, *space, *inodes),
        Mutation::PutQuota(holder, limits) => quota::put(base, *holder, limits),
        _ => lock(base, mutation),
    }
}

fn lock(base: &Connection, mutation: &Mutation) -> Result<()> {
    let (table, value) = match mutation {
        Mutation::SetFlock(_, _, exclusive) => {
            let word = exclusive.map(|exclusive| if exclusive { b'W' } else { b'R' });
            ("flock", word.map(|word| rusqlite::types::Value::Integer(i64::from(word))))
        }
        Mutation::SetPlock(_, _, records) => (
            "plock",
            records.as_ref().map(|records| rusqlite::types::Value::Blob(records.to_vec())),
        ),
        _ => unreachable!("every mutation has its place"),
    };
    let (Mutation::SetFlock(ino, owner, _) | Mutation::SetPlock(ino, owner, _)) = mutation else {
        unreachable!("only locks come here")
    };
    let column = if table == "flock" { "ltype" } else { "records" };
    let (ino, sid, owner) = (ino.0 as i64, owner.sid as i64, owner.owner as i64);
    match value {
        Some(value) => run(
            base,
            &format!(
                "INSERT OR REPLACE INTO jfs_{table} (inode, sid, owner, {column}) VALUES (?, ?, ?, ?)"
            ),
            params![ino, sid, owner, value],
        ),
        None => run(
            base,
            &format!("DELETE FROM jfs_{table} WHERE inode = ? AND sid = ? AND owner = ?"),
            params![ino, sid, owner],
        ),
    }
}

pub(super) fn run(base: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
    base.prepare_cached(sql)?.execute(values).map(|_| ())
}
