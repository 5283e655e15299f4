//! Quotas: those of directories in a table of their own, those of users and groups in one together.

use rusqlite::{Connection, OptionalExtension, Result, Row as Columns, params};

use super::apply::run;
use super::rows;
use crate::meta::scan::Row;
use crate::meta::txn::{Holder, Quota};
use crate::types::Ino;

/// JuiceFS's numbers of users and groups in `qtype`.
const USERS: u32 = 1;
const GROUPS: u32 = 2;

/// The columns of a quota in either table.
pub(super) const COLUMNS: &str = "max_space, max_inodes, used_space, used_inodes";

/// Who it is, in the table of users and groups.
fn owner(holder: Holder) -> (u32, i64) {
    match holder {
        Holder::Dir(_) => unreachable!("directories have a table of their own"),
        Holder::User(uid) => (USERS, i64::from(uid)),
        Holder::Group(gid) => (GROUPS, i64::from(gid)),
    }
}

/// Limits and usage from column `first` on.
fn at(row: &Columns<'_>, first: usize) -> Result<Quota> {
    Ok(Quota {
        max_space: row.get(first)?,
        max_inodes: row.get(first + 1)?,
        used_space: row.get(first + 2)?,
        used_inodes: row.get(first + 3)?,
    })
}

pub(super) fn of(base: &Connection, holder: Holder) -> Result<Option<Quota>> {
    let (found, row) = match holder {
        Holder::Dir(dir) => {
            let sql = format!("SELECT {COLUMNS} FROM jfs_dir_quota WHERE inode = ?");
            let mut asked = base.prepare_cached(&sql)?;
            let found = asked.query_row([dir.0 as i64], |row| at(row, 0)).optional();
            (found, format!("jfs_dir_quota inode={dir}"))
        }
        Holder::User(_) | Holder::Group(_) => {
            let (kind, id) = owner(holder);
            let table = "jfs_user_group_quota";
            let sql = format!("SELECT {COLUMNS} FROM {table} WHERE qtype = ? AND qkey = ?");
            let mut asked = base.prepare_cached(&sql)?;
            let found = asked.query_row(params![kind, id], |row| at(row, 0)).optional();
            (found, format!("{table} qtype={kind} qkey={id}"))
        }
    };
    rows::at(|| row, found)
}

/// Move what it counts.
pub(super) fn add(base: &Connection, holder: Holder, space: i64, inodes: i64) -> Result<()> {
    const MOVED: &str = "used_space = used_space + ?2, used_inodes = used_inodes + ?3";
    match holder {
        Holder::Dir(dir) => {
            let sql = format!("UPDATE jfs_dir_quota SET {MOVED} WHERE inode = ?1");
            run(base, &sql, params![dir.0 as i64, space, inodes])
        }
        Holder::User(_) | Holder::Group(_) => {
            let (kind, id) = owner(holder);
            let sql = format!(
                "INSERT INTO jfs_user_group_quota (qkey, used_space, used_inodes, qtype, max_space, max_inodes) \
                 VALUES (?1, ?2, ?3, ?4, -1, -1) ON CONFLICT (qtype, qkey) DO UPDATE SET {MOVED}"
            );
            run(base, &sql, params![id, space, inodes, kind])
        }
    }
}

/// Set limits and usage.
pub(super) fn put(base: &Connection, holder: Holder, quota: &Quota) -> Result<()> {
    let Quota { max_space, max_inodes, used_space, used_inodes } = quota;
    match holder {
        Holder::Dir(dir) => {
            let sql = format!(
                "INSERT OR REPLACE INTO jfs_dir_quota (inode, {COLUMNS}) VALUES (?, ?, ?, ?, ?)"
            );
            run(base, &sql, params![dir.0 as i64, max_space, max_inodes, used_space, used_inodes])
        }
        Holder::User(_) | Holder::Group(_) => {
            let (kind, id) = owner(holder);
            let sql = format!(
                "INSERT OR REPLACE INTO jfs_user_group_quota (qtype, qkey, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
            );
            run(base, &sql, params![kind, id, max_space, max_inodes, used_space, used_inodes])
        }
    }
}

/// Columns, table and key for a page of quotas of users (else of groups). The key is one more than
/// who it is: 0 is where a scan begins.
pub(super) fn owners(users: bool) -> (String, &'static str, &'static str) {
    let table = if users {
        "(SELECT * FROM jfs_user_group_quota WHERE qtype = 1)"
    } else {
        "(SELECT * FROM jfs_user_group_quota WHERE qtype = 2)"
    };
    (format!("qkey + 1, {COLUMNS}"), table, "qkey + 1")
}

/// The row of a directory's quota.
pub(super) fn dir_row(row: &Columns<'_>) -> Result<Row> {
    Ok(Row::Quota(Holder::Dir(Ino(row.get::<_, i64>(0)? as u64)), at(row, 1)?))
}

/// The row of a user's or group's quota.
pub(super) fn owner_row(row: &Columns<'_>, of: fn(u32) -> Holder) -> Result<Row> {
    let id = u32::try_from(row.get::<_, i64>(0)? - 1);
    let id = id.map_err(|_| rows::damaged(0, "no number of a user or group".into()))?;
    Ok(Row::Quota(of(id), at(row, 1)?))
}
