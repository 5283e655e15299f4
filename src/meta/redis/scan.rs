//! Tables as pages of rows, for who checks a whole volume: by SCAN over keys, HSCAN over hashes.
//!
//! A page is one step of the scan, which Redis makes about as long as asked for. It may tell a row
//! twice while it rebuilds its tables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use redis::Value;

use super::link::Link;
use super::words::{Asked, Words};
use super::{fetch, keys, reply};
use crate::meta::engine::EngineError;
use crate::meta::record::{decode_delayed, decode_slice};
use crate::meta::scan::{Page, Row, Table};
use crate::meta::txn::Delayed;
use crate::types::Ino;

/// The runs of servers in which scans of tables began.
#[derive(Default)]
pub(super) struct Scans(RefCell<HashMap<Table, Rc<str>>>);

pub(super) async fn page(
    link: &Link,
    scans: &Scans,
    table: Table,
    from: u64,
    limit: usize,
) -> Result<Page, EngineError> {
    // Before the first connection there is no run.
    link.scripts().await?;
    if from == 0 {
        scans.0.borrow_mut().insert(table, link.run());
    }
    let page = step(link, table, from, limit).await?;
    if scans.0.borrow().get(&table).is_some_and(|run| **run != *link.run()) {
        let text = "another Redis server took over in the middle of a scan, which may have missed \
                    something; begin again";
        return Err(EngineError::Unavailable(text.into()));
    }
    Ok(page)
}

async fn step(link: &Link, table: Table, from: u64, limit: usize) -> Result<Page, EngineError> {
    let (next, rows) = match table {
        Table::Nodes => {
            let (next, found) = named(link, "i", from, limit).await?;
            (next, nodes(link, found).await?)
        }
        Table::Dirs => {
            let (next, found) = named(link, "d", from, limit).await?;
            (next, found.iter().filter_map(|key| number(key, "d")).map(Row::Dir).collect())
        }
        Table::Chunks => {
            let (next, found) = named(link, "c", from, limit).await?;
            (next, chunks(link, found).await?)
        }
        Table::Parents => {
            let (next, found) = named(link, "p", from, limit).await?;
            (next, members(link, "p", "HGETALL", found).await?)
        }
        Table::Sustained => {
            let (next, found) = named(link, "session", from, limit).await?;
            (next, members(link, "session", "SMEMBERS", found).await?)
        }
        Table::SliceRefs => fields(link, "HSCAN", keys::SLICE_REFS, from, limit, slice_ref).await?,
        Table::Delayed => fields(link, "HSCAN", keys::DELAYED_SLICES, from, limit, delayed).await?,
        Table::Queued => fields(link, "ZSCAN", keys::DELETED_FILES, from, limit, queued).await?,
        Table::DirStats => {
            // Inodes are the statistic that both old and new clients keep for each directory.
            let [.., inodes] = keys::DIR_STATS;
            let (next, rows) = fields(link, "HSCAN", inodes, from, limit, dir_stats).await?;
            (next, with_bytes(link, rows).await?)
        }
        Table::DirQuotas | Table::UserQuotas | Table::GroupQuotas => {
            quotas(link, table, from, limit).await?
        }
    };
    Ok(Page { rows, next: (next != 0).then_some(next) })
}

/// One step over the keys of a letter or word that a number follows.
async fn named(
    link: &Link,
    word: &str,
    from: u64,
    limit: usize,
) -> Result<(u64, Vec<String>), EngineError> {
    let (from, limit, pattern) = (from.to_string(), limit.to_string(), format!("{word}[0-9]*"));
    let words = [&b"SCAN"[..], from.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT"];
    let words: Vec<_> = words.into_iter().chain([limit.as_bytes()]).collect();
    let (next, found) = fetch::page(word, link.call(&words).await?)?;
    let plain = found.iter().map(|key| link.plain(key).to_vec());
    let found = plain.filter_map(|key| String::from_utf8(key).ok());
    Ok((reply::parsed(word, &next)?, found.collect()))
}

fn number(key: &str, word: &str) -> Option<Ino> {
    key.strip_prefix(word)?.parse().ok().map(Ino)
}

/// A row, or what is wrong with it where that is the record's fault.
fn row(found: Result<Row, EngineError>) -> Result<Row, EngineError> {
    match found {
        Err(EngineError::Corrupt { key, reason }) => Ok(Row::Damaged { key, reason }),
        other => other,
    }
}

async fn nodes(link: &Link, names: Vec<String>) -> Result<Vec<Row>, EngineError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = Words::default();
    words.add("MGET");
    names.iter().for_each(|name| {
        words.add(name);
    });
    let mut asked = Asked::default();
    asked.command(&words);
    let records = reply::list("MGET", link.ask(&asked).await?.swap_remove(0))?;
    let mut rows = Vec::with_capacity(names.len());
    for (name, record) in names.iter().zip(records) {
        let Some(ino) = number(name, "i") else { continue };
        let record = reply::bytes(name, record)?;
        match fetch::node(name, record.as_deref()) {
            // Gone since its name was told.
            Ok(None) => {}
            Ok(Some(attr)) => rows.push(Row::Node(ino, attr)),
            Err(error) => rows.push(row(Err(error))?),
        }
    }
    Ok(rows)
}

/// The replies to one command for each key.
async fn each(link: &Link, command: &[&str], names: &[String]) -> Result<Vec<Value>, EngineError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = Asked::default();
    for name in names {
        let [verb, rest @ ..] = command else { unreachable!("a command has a verb") };
        let mut words = vec![verb.as_bytes(), name.as_bytes()];
        words.extend(rest.iter().map(|word| word.as_bytes()));
        asked.add(&words);
    }
    link.ask(&asked).await
}

async fn chunks(link: &Link, names: Vec<String>) -> Result<Vec<Row>, EngineError> {
    let replies = each(link, &["LRANGE", "0", "-1"], &names).await?;
    let mut rows = Vec::with_capacity(names.len());
    for (name, reply) in names.iter().zip(replies) {
        let parts = name.strip_prefix('c').and_then(|rest| rest.split_once('_'));
        let parsed = parts.and_then(|(ino, index)| Some((ino.parse().ok()?, index.parse().ok()?)));
        let Some((ino, index)) = parsed else { continue };
        let records = reply::byte_list(name, reply).and_then(|list| {
            let each = list.iter().map(|bytes| decode_slice(bytes));
            each.collect::<Result<Vec<_>, _>>().map_err(|error| reply::damaged(name, error))
        });
        match records {
            Ok(records) if records.is_empty() => {}
            records => rows.push(row(records.map(|list| Row::Chunk(Ino(ino), index, list)))?),
        }
    }
    Ok(rows)
}

/// What is in small hashes and sets that are read whole.
async fn members(
    link: &Link,
    word: &str,
    command: &str,
    names: Vec<String>,
) -> Result<Vec<Row>, EngineError> {
    let replies = each(link, &[command], &names).await?;
    let mut rows = Vec::new();
    for (name, reply) in names.iter().zip(replies) {
        let Some(of) = number(name, word) else { continue };
        let found: Result<Vec<Row>, EngineError> = if command == "HGETALL" {
            let parents = reply::pairs(name, reply);
            parents.and_then(|all| all.iter().map(|pair| parent(name, of, pair)).collect())
        } else {
            let kept = reply::byte_list(name, reply);
            kept.and_then(|all| {
                let each = all.iter().map(|ino| reply::parsed(name, ino).map(Ino));
                each.map(|ino| ino.map(|ino| Row::Sustained(of.0, ino))).collect()
            })
        };
        match found {
            Ok(found) => rows.extend(found),
            Err(error) => rows.push(row(Err(error))?),
        }
    }
    Ok(rows)
}

fn parent(name: &str, ino: Ino, pair: &(Vec<u8>, Vec<u8>)) -> Result<Row, EngineError> {
    let dir = reply::parsed(name, &pair.0).map(Ino)?;
    Ok(Row::Parent(ino, dir, reply::parsed(name, &pair.1)?))
}

/// The row of a field and its value in a key, if it is one.
type Typed = fn(&str, &[u8], &[u8]) -> Result<Option<Row>, EngineError>;

/// One step over a hash or a sorted set.
async fn fields(
    link: &Link,
    command: &str,
    key: &str,
    from: u64,
    limit: usize,
    typed: Typed,
) -> Result<(u64, Vec<Row>), EngineError> {
    let (next, items) =
        fetch::scanned(link, command, key, from.to_string().as_bytes(), limit).await?;
    let mut rows = Vec::with_capacity(items.len() / 2);
    for pair in items.chunks_exact(2) {
        if let Some(found) = typed(key, &pair[0], &pair[1]).transpose() {
            rows.push(row(found)?);
        }
    }
    Ok((reply::parsed(key, &next)?, rows))
}

/// A field that is not of the form it has to have.
fn odd(key: &str, field: &[u8]) -> EngineError {
    reply::damaged(key, format!("odd field {:?}", field.escape_ascii().to_string()))
}

fn slice_ref(key: &str, field: &[u8], value: &[u8]) -> Result<Option<Row>, EngineError> {
    let (id, size) = keys::parse_slice(field).ok_or_else(|| odd(key, field))?;
    let beyond: i64 = reply::parsed(key, value)?;
    // Copies of holes leave such fields; they count nothing.
    Ok((id != 0).then_some(Row::SliceRef(id, size, beyond + 1)))
}

fn delayed(key: &str, field: &[u8], value: &[u8]) -> Result<Option<Row>, EngineError> {
    let (by, at) = keys::parse_delayed(field).ok_or_else(|| odd(key, field))?;
    let slices = decode_delayed(value).map_err(|error| reply::damaged(key, error))?;
    Ok(Some(Row::Delayed(Delayed { by, at, slices })))
}

fn queued(key: &str, member: &[u8], at: &[u8]) -> Result<Option<Row>, EngineError> {
    let Some((ino, length)) = keys::parse_queued(member) else { return Ok(None) };
    // A score is a floating point number to Redis.
    let at: f64 = reply::parsed(key, at)?;
    Ok(Some(Row::Queued(ino, length, at as i64)))
}

fn dir_stats(key: &str, field: &[u8], value: &[u8]) -> Result<Option<Row>, EngineError> {
    let dir = reply::parsed(key, field).map(Ino)?;
    Ok(Some(Row::DirStats(dir, [0, 0, reply::parsed(key, value)?])))
}

/// Quotas: those for which inodes are counted, other clients see no other ones.
async fn quotas(
    link: &Link,
    table: Table,
    from: u64,
    limit: usize,
) -> Result<(u64, Vec<Row>), EngineError> {
    let ([limits, space, inodes], of) = keys::quotas(table).expect("a table of quotas");
    let from = from.to_string();
    let (next, items) = fetch::scanned(link, "HSCAN", inodes, from.as_bytes(), limit).await?;
    let next = reply::parsed(inodes, &next)?;
    if items.is_empty() {
        return Ok((next, Vec::new()));
    }
    let whose = || items.chunks_exact(2).map(|pair| &pair[0][..]);
    let mut asked = Asked::default();
    for hash in [limits, space] {
        asked.add(&[b"HMGET", hash.as_bytes()].into_iter().chain(whose()).collect::<Vec<_>>());
    }
    let mut replies = link.ask(&asked).await?;
    let space = reply::list(space, replies.swap_remove(1))?;
    let limits = reply::list(limits, replies.swap_remove(0))?;
    let mut rows = Vec::with_capacity(limits.len());
    for ((pair, space), limits) in items.chunks_exact(2).zip(space).zip(limits) {
        rows.push(row(quota((inodes, of), pair, space, limits))?);
    }
    Ok((next, rows))
}

fn quota(
    (key, of): (&str, keys::HolderOf),
    pair: &[Vec<u8>],
    space: Value,
    limits: Value,
) -> Result<Row, EngineError> {
    let (space, limits) = (reply::bytes(key, space)?, reply::bytes(key, limits)?);
    let holder = of(reply::parsed(key, &pair[0])?).ok_or_else(|| odd(key, &pair[0]))?;
    let found = fetch::quota(key, space.as_deref(), &pair[1], limits.as_deref())?;
    Ok(Row::Quota(holder, found))
}

/// Length and space of directories of which the inodes are known.
async fn with_bytes(link: &Link, mut rows: Vec<Row>) -> Result<Vec<Row>, EngineError> {
    let [length, space, _] = keys::DIR_STATS;
    for (at, key) in [length, space].into_iter().enumerate() {
        let known = |row: &Row| match row {
            Row::DirStats(dir, _) => Some(dir.to_string()),
            _ => None,
        };
        let dirs: Vec<_> = rows.iter().filter_map(known).collect();
        if dirs.is_empty() {
            break;
        }
        let mut words = vec![&b"HMGET"[..], key.as_bytes()];
        words.extend(dirs.iter().map(String::as_bytes));
        let mut values = reply::list(key, link.call(&words).await?)?.into_iter();
        for found in &mut rows {
            if let Row::DirStats(_, stats) = found {
                let value = reply::number(key, values.next().unwrap_or_default());
                match value {
                    Ok(value) => stats[at] = value.unwrap_or(0),
                    Err(error) => *found = row(Err(error))?,
                }
            }
        }
    }
    Ok(rows)
}
