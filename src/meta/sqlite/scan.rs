//! Tables as pages of rows, for who checks a whole volume: by primary key, after the last one.

use rusqlite::{Connection, Error, Result, Row as Columns, params};

use super::quota;
use super::rows::{self, Damage, NODE_COLUMNS};
use crate::meta::record::{decode_delayed, decode_slices};
use crate::meta::scan::{Page, Row, Table};
use crate::meta::txn::{Delayed, Holder};
use crate::types::Ino;

/// Columns, table and key: a page is the rows of a higher key, in its order.
fn words(table: Table) -> Option<(String, &'static str, &'static str)> {
    let plain = |columns: &str| columns.to_owned();
    Some(match table {
        Table::Nodes => (format!("inode, {NODE_COLUMNS}"), "jfs_node n", "inode"),
        Table::Dirs => (plain("DISTINCT parent"), "jfs_edge", "parent"),
        Table::Chunks => (plain("id, inode, indx, slices"), "jfs_chunk", "id"),
        Table::SliceRefs => (plain("chunkid, size, refs"), "jfs_chunk_ref", "chunkid"),
        // The entries tell, there is no table of them.
        Table::Parents => return None,
        Table::DirStats => {
            (plain("inode, data_length, used_space, used_inodes"), "jfs_dir_stats", "inode")
        }
        Table::DirQuotas => (format!("inode, {}", quota::COLUMNS), "jfs_dir_quota", "inode"),
        Table::UserQuotas => quota::owners(true),
        Table::GroupQuotas => quota::owners(false),
        Table::Sustained => (plain("id, sid, inode"), "jfs_sustained", "id"),
        Table::Queued => (plain("inode, length, expire"), "jfs_delfile", "inode"),
        Table::Delayed => (plain("chunkid, deleted, slices"), "jfs_delslices", "chunkid"),
    })
}

pub(super) fn page(base: &Connection, table: Table, from: u64, limit: usize) -> Result<Page> {
    let Some((columns, name, key)) = words(table) else { return Ok(Page::default()) };
    let sql = format!("SELECT {columns} FROM {name} WHERE {key} > ? ORDER BY {key} LIMIT ?");
    let mut last = None;
    let mut asked = base.prepare_cached(&sql)?;
    let found = asked.query_map(params![from as i64, limit as i64], |row| {
        let id = row.get::<_, i64>(0)? as u64;
        last = Some(id);
        let what = || format!("{} {key}={id}", name.trim_end_matches(" n"));
        readable(rows::at(what, typed(table, row)))
    })?;
    let rows = found.collect::<Result<Vec<_>>>()?;
    Ok(Page { next: last.filter(|_| rows.len() == limit), rows })
}

/// A value that is wrong is a row of its own; other errors are the engine's.
fn readable(found: Result<Row>) -> Result<Row> {
    let Err(Error::FromSqlConversionFailure(_, _, reason)) = &found else { return found };
    let Some(damage) = reason.downcast_ref::<Damage>() else { return found };
    Ok(Row::Damaged { key: damage.row.clone(), reason: damage.to_string() })
}

fn typed(table: Table, row: &Columns<'_>) -> Result<Row> {
    let id = |column| row.get::<_, i64>(column).map(|id| id as u64);
    Ok(match table {
        Table::Nodes => {
            let attr = rows::node_at(row, 1)?;
            Row::Node(Ino(id(0)?), attr.ok_or_else(|| rows::damaged(1, "no type".into()))?)
        }
        Table::Dirs => Row::Dir(Ino(id(0)?)),
        Table::Chunks => {
            let records = decode_slices(&rows::bytes(row, 3)?);
            let records = records.map_err(|reason| rows::damaged(3, reason.to_string()))?;
            Row::Chunk(Ino(id(1)?), row.get(2)?, records)
        }
        Table::SliceRefs => Row::SliceRef(id(0)?, row.get(1)?, row.get(2)?),
        Table::Parents => unreachable!("SQL has no table of parents"),
        Table::DirStats => Row::DirStats(Ino(id(0)?), [row.get(1)?, row.get(2)?, row.get(3)?]),
        Table::DirQuotas => quota::dir_row(row)?,
        Table::UserQuotas => quota::owner_row(row, Holder::User)?,
        Table::GroupQuotas => quota::owner_row(row, Holder::Group)?,
        Table::Sustained => Row::Sustained(id(1)?, Ino(id(2)?)),
        Table::Queued => Row::Queued(Ino(id(0)?), id(1)?, row.get(2)?),
        Table::Delayed => {
            let slices = decode_delayed(&rows::bytes(row, 2)?);
            let slices = slices.map_err(|reason| rows::damaged(2, reason.to_string()))?;
            Row::Delayed(Delayed { by: id(0)?, at: row.get(1)?, slices })
        }
    })
}
