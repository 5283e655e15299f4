//! The meaning of expectations and mutations in SQL, inside one transaction.
//!
//! Does not own the transaction (`mod`). usedSpace moves with the length where a patch grows it.

use rusqlite::{Connection, Result, params};

use super::rows;
use crate::meta::node;
use crate::meta::txn::{Commit, Counter, Expect, Mutation, Outcome};
use crate::types::{Ino, SliceId, charged_bytes};

/// Check all expectations, then apply all mutations.
pub(super) fn commit(base: &Connection, commit: &Commit) -> Result<Outcome> {
    for (index, expect) in commit.expects.iter().enumerate() {
        if !holds(base, expect)? {
            return Ok(Outcome::Conflict(index));
        }
    }
    for mutation in &commit.mutations {
        apply(base, mutation)?;
    }
    let nodes = commit.returns.iter().map(|ino| rows::node(base, *ino)).collect::<Result<_>>()?;
    Ok(Outcome::Applied(nodes))
}

fn holds(base: &Connection, expect: &Expect) -> Result<bool> {
    Ok(match expect {
        Expect::EntryAbsent(dir, name) => rows::entry(base, *dir, name)?.is_none(),
        Expect::EntryIs(dir, name, kind, ino) => {
            rows::entry(base, *dir, name)? == Some((*kind, *ino))
        }
        Expect::Node(ino, kind) => rows::node(base, *ino)?.is_some_and(|attr| attr.kind == *kind),
        Expect::NodeFields(ino, fields) => {
            rows::node(base, *ino)?.is_some_and(|attr| node::fields_hold(&attr, fields))
        }
        Expect::DirEmpty(dir) => rows::dir_len(base, *dir)? == 0,
        Expect::ChunkPrefix(ino, index, records) => {
            rows::chunk(base, *ino, *index)?.starts_with(records)
        }
        Expect::XattrIs(ino, name, value) => rows::xattr(base, *ino, name)? == *value,
        Expect::FlocksAre(ino, locks) => rows::flocks(base, *ino)? == *locks,
        Expect::PlocksAre(ino, locks) => rows::plocks(base, *ino)? == *locks,
        Expect::Room { space, inodes, capacity, inode_limit } => {
            let fits = |counter, more: i64, limit: u64| -> Result<bool> {
                Ok(limit == 0 || more <= 0 || rows::counter(base, counter)? + more <= limit as i64)
            };
            fits(Counter::UsedSpace, *space, *capacity)?
                && fits(Counter::TotalInodes, *inodes, *inode_limit)?
        }
    })
}

fn apply(base: &Connection, mutation: &Mutation) -> Result<()> {
    match mutation {
        Mutation::PutNode(ino, attr) => rows::put_node(base, *ino, attr),
        Mutation::DelNode(ino) => {
            run(base, "DELETE FROM jfs_node WHERE inode = ?", params![ino.0 as i64])
        }
        Mutation::Patch(ino, change) => patch(base, *ino, change),
        Mutation::Set(ino, change) => {
            let Some(mut attr) = rows::node(base, *ino)? else { return Ok(()) };
            node::set(&mut attr, change);
            rows::put_node(base, *ino, &attr)
        }
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
        Mutation::Add(counter, n) => rows::add(base, *counter, *n).map(|_| ()),
        // Entries tell the parents in SQL.
        Mutation::AddParent(..) | Mutation::DelParents(_) => Ok(()),
        Mutation::PushSlices(..)
        | Mutation::PushHolesIfListed(..)
        | Mutation::ShareSlices(..)
        | Mutation::ReplacePrefix(..)
        | Mutation::DelChunk(..)
        | Mutation::AddSliceRef(..)
        | Mutation::ForgetSlice(..) => slices(base, mutation),
        _ => aside(base, mutation),
    }
}

fn patch(base: &Connection, ino: Ino, change: &crate::meta::txn::Patch) -> Result<()> {
    let Some(mut attr) = rows::node(base, ino)? else { return Ok(()) };
    let (before, length_before) = (charged_bytes(attr.kind, attr.length), attr.length);
    if node::patch(&mut attr, change) {
        rows::put_node(base, ino, &attr)?;
    }
    let grown = charged_bytes(attr.kind, attr.length) - before;
    if grown != 0 {
        rows::add(base, Counter::UsedSpace, grown)?;
    }
    let longer = attr.length as i64 - length_before as i64;
    if longer == 0 || attr.parent == Ino(0) {
        return Ok(());
    }
    aside(base, &Mutation::AddDirStats(attr.parent, longer, grown, 0))
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
        Mutation::AddSliceRef(id, size, n) => refer(base, *id, *size, *n),
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
        Mutation::AddDirStats(ino, length, space, inodes) => run(
            base,
            "UPDATE jfs_dir_stats SET data_length = data_length + ?2, used_space = used_space + ?3, \
             used_inodes = used_inodes + ?4 WHERE inode = ?1",
            params![ino.0 as i64, length, space, inodes],
        ),
        Mutation::DelDirStats(ino) => {
            run(base, "DELETE FROM jfs_dir_stats WHERE inode = ?", params![ino.0 as i64])?;
            run(base, "DELETE FROM jfs_dir_quota WHERE inode = ?", params![ino.0 as i64])
        }
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
