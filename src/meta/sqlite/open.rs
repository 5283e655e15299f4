//! Opening the file: to write, or only to read where nothing can be written.
//!
//! Owns what a connection is told at its start. SQLite's log needs two files beside the database;
//! on a file system that nobody can write to, a database without a log is read without them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::sorted;
use crate::meta::engine::EngineError;

/// File systems of one machine: when such a one is read-only, nobody else writes to it either.
const LOCAL: &[&str] =
    &["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs", "iso9660", "tmpfs"];

/// Open the file at `path`; `create` makes it if it is not there. Where it can only be read, it is
/// opened for that, and writing is refused later.
pub(super) fn connect(path: &Path, create: bool) -> Result<Connection, EngineError> {
    if !create && !path.exists() {
        let advice =
            format!("{} does not exist; make a volume with `jfs-uring format`", path.display());
        return Err(EngineError::Refused(advice));
    }
    match to_write(path) {
        Ok(base) if !base.is_readonly(MAIN_DB).map_err(sorted)? => Ok(base),
        Err(error) if !needs_to_write(&error) => Err(sorted(error)),
        _ => to_read(path),
    }
}

fn to_write(path: &Path) -> rusqlite::Result<Connection> {
    let base = told(Connection::open(path)?)?;
    if !base.is_readonly(MAIN_DB)? {
        base.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10; \
             PRAGMA wal_autocheckpoint = 8192;",
        )?;
    }
    Ok(base)
}

fn told(base: Connection) -> rusqlite::Result<Connection> {
    base.set_prepared_statement_cache_capacity(128);
    // Without it a statement is compiled again whenever a bound value might ask for another plan.
    base.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(base)
}

fn needs_to_write(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

fn to_read(path: &Path) -> Result<Connection, EngineError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = if is_at_rest(path) {
        let uri = format!("file:{}?immutable=1", escaped(path));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
    } else {
        Connection::open_with_flags(path, flags)
    };
    let probed = opened.and_then(told).and_then(|base| {
        base.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        base.execute_batch("PRAGMA busy_timeout = 10;")?;
        Ok(base)
    });
    probed.map_err(|error| {
        if !needs_to_write(&error) {
            return sorted(error);
        }
        let shown = path.display();
        EngineError::Refused(format!(
            "SQLite must write beside {shown} even to read it, and cannot: {error}; make its folder \
             writable, or copy it, with {shown}-wal if there is one, to where it is"
        ))
    })
}

/// Whether nothing can change the file, and nothing of it is elsewhere: its file system is
/// read-only as a whole, and it has no log that was not merged.
fn is_at_rest(path: &Path) -> bool {
    let log = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    let Ok(file) = fs::metadata(path) else { return false };
    let device = (libc::major(file.dev()), libc::minor(file.dev()));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    log == 0 && is_read_only(&table, device)
}

/// The path with `end` behind its last letter, as SQLite names the files beside a database.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Whether the file system on `device` is one of this machine and read-only itself, not only where
/// it is seen: a second mount of it may be writable.
fn is_read_only(table: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    table.lines().filter(|line| line.split(' ').nth(2) == Some(&device)).any(|line| {
        let mut right = line.split_once(" - ").map_or("", |(_, right)| right).split(' ');
        let kind = right.next().unwrap_or_default();
        let is_ro = right.next_back().is_some_and(|options| options.split(',').any(|o| o == "ro"));
        LOCAL.contains(&kind) && is_ro
    })
}

/// A path as it stands in a URI.
fn escaped(path: &Path) -> String {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                char::from(*byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_system_itself_counts() {
        let table = "40 22 8:1 / /a ro,relatime shared:1 - ext4 /dev/a ro\n\
            41 22 8:2 / /b ro - ext4 /dev/b rw\n42 22 0:50 / /c ro - nfs4 host:/x ro,vers=4\n\
            43 22 8:3 / /d ro - xfs /dev/c rw,errors=ro-never\n";
        assert!(is_read_only(table, (8, 1)));
        assert!(!is_read_only(table, (8, 2)), "a view of what others may write");
        assert!(!is_read_only(table, (0, 50)), "its server may write");
        assert!(!is_read_only(table, (8, 3)));
        assert!(!is_read_only(table, (9, 9)));
    }

    #[test]
    fn odd_names_are_escaped_in_a_uri() {
        assert_eq!(escaped(Path::new("/a b/c?d%.db")), "/a%20b/c%3Fd%25.db");
        assert_eq!(beside(Path::new("/a.db"), "-wal"), Path::new("/a.db-wal"));
    }
}
