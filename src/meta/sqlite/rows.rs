//! Rows to values and back: one SQL statement per thing, each prepared once.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};

use crate::meta::record::{decode_delayed, decode_slices, encode_slice};
use crate::meta::txn::{Counter, Delayed, Flock, LockOwner, Plock};
use crate::types::{Attr, FileType, Ino, Name, SliceId, SliceRecord, Time};

macro_rules! node_columns {
    () => {
        "n.type, n.flags, n.mode, n.uid, n.gid, n.atime, n.atimensec, n.mtime, n.mtimensec, \
         n.ctime, n.ctimensec, n.nlink, n.length, n.rdev, n.parent, n.access_acl_id, n.default_acl_id, n.tier_id"
    };
}

pub(super) const NODE_COLUMNS: &str = node_columns!();

/// A row that cannot be read: which one, and why.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Damage {
    /// Table and key, as `jfs_node inode=1`.
    pub row: String,
    reason: String,
}

fn conversion(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}

/// A damaged row, as an error of the column; whoever knows the row names it by [`at`].
pub(super) fn damaged(column: usize, reason: String) -> Error {
    conversion(column, Damage { row: String::new(), reason })
}

/// Name the row that a value was read from, where it is the value that is wrong.
pub(super) fn at<T>(row: impl FnOnce() -> String, found: Result<T>) -> Result<T> {
    found.map_err(|error| {
        let (column, reason) = match &error {
            Error::FromSqlConversionFailure(column, _, inner) => {
                match inner.downcast_ref::<Damage>() {
                    Some(known) if !known.row.is_empty() => return error,
                    _ => (*column, inner.to_string()),
                }
            }
            Error::InvalidColumnType(column, ..) | Error::IntegralValueOutOfRange(column, _) => {
                (*column, error.to_string())
            }
            _ => return error,
        };
        conversion(column, Damage { row: row(), reason })
    })
}

/// Bytes of a column whatever storage class an appended blob has taken.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> Result<Box<[u8]>> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(bytes.into()),
        ValueRef::Null => Ok(Box::default()),
        _ => Err(damaged(column, "neither blob nor text".into())),
    }
}

fn kind_at(row: &Row<'_>, column: usize) -> Result<FileType> {
    let number: u8 = row.get(column)?;
    FileType::from_number(number)
        .ok_or_else(|| damaged(column, format!("unknown file type {number}")))
}

fn time_at(row: &Row<'_>, column: usize) -> Result<Time> {
    let micros: i64 = row.get(column)?;
    let rest: Option<i64> = row.get(column + 1)?;
    let nsec = micros.rem_euclid(1_000_000) * 1000 + rest.unwrap_or(0);
    Ok(Time { sec: micros.div_euclid(1_000_000), nsec: nsec as u32 })
}

/// Microseconds and the remaining nanoseconds, as the two columns hold them.
pub(super) fn time_columns(time: Time) -> (i64, i64) {
    (time.sec * 1_000_000 + i64::from(time.nsec / 1000), i64::from(time.nsec % 1000))
}

/// A node from `NODE_COLUMNS` beginning at `first`; `None` where an outer join found none.
pub(super) fn node_at(row: &Row<'_>, first: usize) -> Result<Option<Attr>> {
    if row.get_ref(first)? == ValueRef::Null {
        return Ok(None);
    }
    let number =
        |column: usize| row.get::<_, Option<i64>>(first + column).map(|value| value.unwrap_or(0));
    Ok(Some(Attr {
        kind: kind_at(row, first)?,
        flags: number(1)? as u8,
        mode: number(2)? as u16 & 0xfff,
        uid: number(3)? as u32,
        gid: number(4)? as u32,
        atime: time_at(row, first + 5)?,
        mtime: time_at(row, first + 7)?,
        ctime: time_at(row, first + 9)?,
        nlink: number(11)? as u32,
        length: number(12)? as u64,
        rdev: number(13)? as u32,
        parent: Ino(number(14)? as u64),
        access_acl: number(15)? as u32,
        default_acl: number(16)? as u32,
        tier: number(17)? as u8,
    }))
}

/// What a node's row is called.
pub(super) fn node_row(ino: Ino) -> String {
    format!("jfs_node inode={ino}")
}

/// What a name's row is called.
pub(super) fn entry_row(dir: Ino, name: &[u8]) -> String {
    format!("jfs_edge parent={dir} name={:?}", name.escape_ascii().to_string())
}

pub(super) fn node(base: &Connection, ino: Ino) -> Result<Option<Attr>> {
    let sql = concat!("SELECT ", node_columns!(), " FROM jfs_node n WHERE inode = ?");
    let mut found = base.prepare_cached(sql)?;
    let found = found.query_row([ino.0 as i64], |row| node_at(row, 0)).optional();
    Ok(at(|| node_row(ino), found)?.flatten())
}

pub(super) fn put_node(base: &Connection, ino: Ino, attr: &Attr) -> Result<()> {
    let [(atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns)] =
        [attr.atime, attr.mtime, attr.ctime].map(time_columns);
    base.prepare_cached(
        "INSERT INTO jfs_node (inode, type, flags, mode, uid, gid, atime, mtime, ctime, atimensec, mtimensec, ctimensec, \
         nlink, length, rdev, parent, access_acl_id, default_acl_id, tier_id) \
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (inode) DO UPDATE SET type=excluded.type, \
         flags=excluded.flags, mode=excluded.mode, uid=excluded.uid, gid=excluded.gid, atime=excluded.atime, \
         mtime=excluded.mtime, ctime=excluded.ctime, atimensec=excluded.atimensec, mtimensec=excluded.mtimensec, \
         ctimensec=excluded.ctimensec, nlink=excluded.nlink, length=excluded.length, rdev=excluded.rdev, \
         parent=excluded.parent, access_acl_id=excluded.access_acl_id, default_acl_id=excluded.default_acl_id, \
         tier_id=excluded.tier_id",
    )?
    .execute(params![
        ino.0 as i64,
        attr.kind as u8,
        attr.flags,
        attr.mode,
        attr.uid,
        attr.gid,
        atime,
        mtime,
        ctime,
        atime_ns,
        mtime_ns,
        ctime_ns,
        attr.nlink,
        attr.length as i64,
        attr.rdev,
        attr.parent.0 as i64,
        attr.access_acl,
        attr.default_acl,
        attr.tier
    ])?;
    Ok(())
}

pub(super) fn entry(base: &Connection, dir: Ino, name: &[u8]) -> Result<Option<(FileType, Ino)>> {
    let found = base
        .prepare_cached("SELECT type, inode FROM jfs_edge WHERE parent = ? AND name = ?")?
        .query_row(params![dir.0 as i64, name], |row| {
            Ok((kind_at(row, 0)?, Ino(row.get::<_, i64>(1)? as u64)))
        })
        .optional();
    at(|| entry_row(dir, name), found)
}

pub(super) fn entry_node(
    base: &Connection,
    dir: Ino,
    name: &[u8],
) -> Result<Option<(FileType, Ino, Option<Attr>)>> {
    let sql = concat!(
        "SELECT e.type, e.inode, ",
        node_columns!(),
        " FROM jfs_edge e LEFT JOIN jfs_node n ON n.inode = e.inode WHERE e.parent = ? AND e.name = ?"
    );
    let found = base
        .prepare_cached(sql)?
        .query_row(params![dir.0 as i64, name], |row| {
            let ino = Ino(row.get::<_, i64>(1)? as u64);
            Ok((kind_at(row, 0)?, ino, at(|| node_row(ino), node_at(row, 2))?))
        })
        .optional();
    at(|| entry_row(dir, name), found)
}

pub(super) fn chunk(base: &Connection, ino: Ino, index: u32) -> Result<Vec<SliceRecord>> {
    let found = base
        .prepare_cached("SELECT slices FROM jfs_chunk WHERE inode = ? AND indx = ?")?
        .query_row(params![ino.0 as i64, index], |row| {
            decode_slices(&bytes(row, 0)?).map_err(|reason| damaged(0, reason.to_string()))
        })
        .optional();
    let found = at(|| format!("jfs_chunk inode={ino} indx={index}"), found)?;
    Ok(found.unwrap_or_default())
}

pub(super) fn chunks(base: &Connection, ino: Ino) -> Result<Vec<u32>> {
    let found = base
        .prepare_cached("SELECT indx FROM jfs_chunk WHERE inode = ? ORDER BY indx")?
        .query_map([ino.0 as i64], |row| row.get(0))?
        .collect();
    at(|| format!("jfs_chunk inode={ino}"), found)
}

pub(super) fn slice_ref(base: &Connection, id: SliceId) -> Result<i64> {
    let found = base
        .prepare_cached("SELECT refs FROM jfs_chunk_ref WHERE chunkid = ?")?
        .query_row([id as i64], |row| row.get(0))
        .optional();
    at(|| format!("jfs_chunk_ref chunkid={id}"), found).map(Option::unwrap_or_default)
}

fn delayed_at(row: &Row<'_>) -> Result<Delayed> {
    let slices =
        decode_delayed(&bytes(row, 2)?).map_err(|reason| damaged(2, reason.to_string()))?;
    Ok(Delayed { by: row.get::<_, i64>(0)? as u64, at: row.get(1)?, slices })
}

/// Replaced slices that are put aside in favour of `by`.
pub(super) fn delayed(base: &Connection, by: SliceId) -> Result<Option<Delayed>> {
    let found = base
        .prepare_cached("SELECT chunkid, deleted, slices FROM jfs_delslices WHERE chunkid = ?")?
        .query_row([by as i64], delayed_at)
        .optional();
    at(|| format!("jfs_delslices chunkid={by}"), found)
}

/// Those put aside before `before`, oldest slices first.
pub(super) fn delayed_before(base: &Connection, before: i64, limit: usize) -> Result<Vec<Delayed>> {
    let found = base
        .prepare_cached(
            "SELECT chunkid, deleted, slices FROM jfs_delslices WHERE deleted < ? ORDER BY chunkid LIMIT ?",
        )?
        .query_map(params![before, limit as i64], delayed_at)?
        .collect();
    at(|| "jfs_delslices".to_owned(), found)
}

/// Slices without a reference that come after slice `from`.
pub(super) fn unused_slices(
    base: &Connection,
    from: u64,
    limit: usize,
) -> Result<Vec<(SliceId, u32)>> {
    let found = base
        .prepare_cached(
            "SELECT chunkid, size FROM jfs_chunk_ref WHERE refs <= 0 AND chunkid > ? ORDER BY chunkid LIMIT ?",
        )?
        .query_map(params![from as i64, limit as i64], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
        })?
        .collect();
    at(|| "jfs_chunk_ref".to_owned(), found)
}

/// Append records to a chunk's list; without `make` only where there is a list.
pub(super) fn append(
    base: &Connection,
    ino: Ino,
    index: u32,
    records: &[SliceRecord],
    make: bool,
) -> Result<()> {
    let packed: Vec<u8> = records.iter().flat_map(encode_slice).collect();
    let sql = if make {
        "INSERT INTO jfs_chunk (inode, indx, slices) VALUES (?1, ?2, ?3) \
         ON CONFLICT (inode, indx) DO UPDATE SET slices = CAST(slices || excluded.slices AS BLOB)"
    } else {
        "UPDATE jfs_chunk SET slices = CAST(slices || ?3 AS BLOB) WHERE inode = ?1 AND indx = ?2"
    };
    base.prepare_cached(sql)?.execute(params![ino.0 as i64, index, packed])?;
    Ok(())
}

/// The row's name and what JuiceFS-on-Redis's value is ahead of the stored one.
pub(super) fn counter_name(counter: Counter) -> (&'static str, i64) {
    match counter {
        Counter::UsedSpace => ("usedSpace", 0),
        Counter::TotalInodes => ("totalInodes", 0),
        Counter::NextInode => ("nextInode", -1),
        Counter::NextChunk => ("nextChunk", -1),
        Counter::NextSession => ("nextSession", 0),
        Counter::NextTrash => ("nextTrash", 0),
    }
}

pub(super) fn counter(base: &Connection, counter: Counter) -> Result<i64> {
    let (name, ahead) = counter_name(counter);
    let found = base
        .prepare_cached("SELECT value FROM jfs_counter WHERE name = ?")?
        .query_row([name], |row| row.get::<_, i64>(0))
        .optional();
    let found = at(|| format!("jfs_counter name={name}"), found)?;
    Ok(found.map_or(0, |value| value + ahead))
}

pub(super) fn add(base: &Connection, counter: Counter, n: i64) -> Result<i64> {
    let (name, ahead) = counter_name(counter);
    let sum = base.prepare_cached(
        "INSERT INTO jfs_counter VALUES (?1, ?2 - ?3) ON CONFLICT (name) DO UPDATE SET value = value + ?2 RETURNING value",
    )?
    .query_row(params![name, n, ahead], |row| row.get::<_, i64>(0));
    Ok(at(|| format!("jfs_counter name={name}"), sum)? + ahead)
}

pub(super) fn flocks(base: &Connection, ino: Ino) -> Result<Vec<Flock>> {
    let found = base
        .prepare_cached(
            "SELECT sid, owner, ltype FROM jfs_flock WHERE inode = ? ORDER BY sid, owner",
        )?
        .query_map([ino.0 as i64], |row| {
            Ok(Flock { owner: owner_at(row)?, exclusive: row.get::<_, u8>(2)? == b'W' })
        })?
        .collect();
    at(|| format!("jfs_flock inode={ino}"), found)
}

pub(super) fn plocks(base: &Connection, ino: Ino) -> Result<Vec<Plock>> {
    let found = base
        .prepare_cached(
            "SELECT sid, owner, records FROM jfs_plock WHERE inode = ? ORDER BY sid, owner",
        )?
        .query_map([ino.0 as i64], |row| {
            Ok(Plock { owner: owner_at(row)?, records: bytes(row, 2)? })
        })?
        .collect();
    at(|| format!("jfs_plock inode={ino}"), found)
}

fn owner_at(row: &Row<'_>) -> Result<LockOwner> {
    Ok(LockOwner { sid: row.get::<_, i64>(0)? as u64, owner: row.get::<_, i64>(1)? as u64 })
}

/// Parents of an inode: SQL engines have no table of them, the entries tell.
pub(super) fn parents(base: &Connection, ino: Ino) -> Result<Vec<(Ino, i64)>> {
    let found = base
        .prepare_cached(
            "SELECT parent, count(*) FROM jfs_edge WHERE inode = ? GROUP BY parent ORDER BY parent",
        )?
        .query_map([ino.0 as i64], |row| Ok((Ino(row.get::<_, i64>(0)? as u64), row.get(1)?)))?
        .collect();
    at(|| format!("jfs_edge inode={ino}"), found)
}

pub(super) fn xattr(base: &Connection, ino: Ino, name: &[u8]) -> Result<Option<Box<[u8]>>> {
    let found = base
        .prepare_cached("SELECT value FROM jfs_xattr WHERE inode = ? AND name = ?")?
        .query_row(params![ino.0 as i64, text(name)], |row| bytes(row, 0))
        .optional();
    at(|| format!("jfs_xattr inode={ino} name={:?}", text(name)), found)
}

/// Attribute names are TEXT there; the kernel only passes names that it has checked as strings.
pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

pub(super) fn xattr_names(base: &Connection, ino: Ino) -> Result<Vec<Name>> {
    let found = base
        .prepare_cached("SELECT name FROM jfs_xattr WHERE inode = ? ORDER BY name")?
        .query_map([ino.0 as i64], |row| bytes(row, 0))?
        .collect();
    at(|| format!("jfs_xattr inode={ino}"), found)
}

pub(super) fn symlink(base: &Connection, ino: Ino) -> Result<Option<Name>> {
    let found = base
        .prepare_cached("SELECT target FROM jfs_symlink WHERE inode = ?")?
        .query_row([ino.0 as i64], |row| bytes(row, 0))
        .optional();
    at(|| format!("jfs_symlink inode={ino}"), found)
}

pub(super) fn dir_len(base: &Connection, dir: Ino) -> Result<u64> {
    base.prepare_cached("SELECT count(*) FROM jfs_edge WHERE parent = ?")?
        .query_row([dir.0 as i64], |row| row.get::<_, i64>(0))
        .map(|count| count as u64)
}
