//! Typed keys as one pipeline of reads, and its replies as values.

use redis::Value as Reply;

use super::acl;
use super::keys;
use super::link::Link;
use super::reply::{self, damaged, strange};
use super::script::{Hashes, Script};
use super::words::Asked;
use crate::limits::REDIS_CHUNKS_TRIED_MAX;
use crate::meta::engine::EngineError;
use crate::meta::record::{PLOCK_BYTES, decode_entry, decode_limits, decode_node, decode_slice};
use crate::meta::txn::{Flock, Key, Plock, Quota, Value};
use crate::types::{Attr, FileType, Ino};

/// Names looked at by one step of a scan over all keys.
const SCAN_COUNT: &[u8] = b"10000";

/// All keys in one round trip.
pub(super) async fn fetch(link: &Link, wanted: &[Key]) -> Result<Vec<Value>, EngineError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let scripts = link.scripts().await?;
    let mut asked = Asked::default();
    let together = ask_together(&mut asked, wanted, &scripts);
    if !together {
        wanted.iter().for_each(|key| ask(&mut asked, key, &scripts));
    }
    let mut replies = link.ask(&asked).await?;
    if together {
        replies = reply::list("keys of one kind", replies.swap_remove(0))?;
    }
    assert_eq!(replies.len(), wanted.len(), "each key has its reply");
    let mut values = Vec::with_capacity(wanted.len());
    for (key, reply) in wanted.iter().zip(replies) {
        values.push(match key {
            Key::Chunks(ino, start, end) => {
                let mut reply = reply;
                if !together {
                    reply = reply::list("chunks of one file", reply)?.swap_remove(0);
                }
                // Rare and large: in a box it does not make every fetch large.
                let found = Box::pin(chunk_indexes(link, (*ino, *start, *end), reply));
                Value::Chunks(found.await?)
            }
            _ => value(key, reply)?,
        });
    }
    Ok(values)
}

/// Many chunks, or many reference counts, are one call: calls cost Redis more than what they carry.
fn ask_together(asked: &mut Asked, wanted: &[Key], scripts: &Hashes) -> bool {
    if let Some(tries) = few_tries(wanted) {
        ask_tries(asked, &tries, scripts);
        return true;
    }
    let all = |is: fn(&Key) -> bool| wanted.len() > 1 && wanted.iter().all(is);
    let count = wanted.len().to_string();
    let (head, names): (Vec<&[u8]>, Vec<String>) = if all(|key| matches!(key, Key::Chunk(..))) {
        let head = vec![&b"EVALSHA"[..], scripts.of(Script::Lists), count.as_bytes()];
        (head, wanted.iter().map(name_of).collect())
    } else if all(|key| matches!(key, Key::SliceRef(..))) {
        let field = |key: &Key| match key {
            Key::SliceRef(id, size) => keys::slice(*id, *size),
            _ => unreachable!("all are reference counts"),
        };
        (vec![b"HMGET", keys::SLICE_REFS.as_bytes()], wanted.iter().map(field).collect())
    } else {
        return false;
    };
    let words: Vec<&[u8]> = head.into_iter().chain(names.iter().map(String::as_bytes)).collect();
    asked.add(&words);
    true
}

/// Chunks of a file to try for a list: from one on, below another.
type Tries = (Ino, u32, u32);

/// All that is asked, if it is for chunks with a list and few enough are to be tried in one call.
fn few_tries(wanted: &[Key]) -> Option<Vec<Tries>> {
    let tries = wanted.iter().map(|key| match key {
        Key::Chunks(ino, start, end) => Some((*ino, *start, *end)),
        _ => None,
    });
    let tries = tries.collect::<Option<Vec<_>>>()?;
    let all: usize = tries.iter().map(|(_, start, end)| end.saturating_sub(*start) as usize).sum();
    (all <= REDIS_CHUNKS_TRIED_MAX).then_some(tries)
}

/// The end of what one call tries of `start .. end`.
fn page_end(start: u32, end: u32) -> u32 {
    end.min(start.saturating_add(REDIS_CHUNKS_TRIED_MAX as u32))
}

fn ask_tries(asked: &mut Asked, tries: &[Tries], scripts: &Hashes) {
    let numbers = tries
        .iter()
        .flat_map(|(ino, start, end)| [ino.to_string(), start.to_string(), end.to_string()]);
    let numbers: Vec<String> = numbers.collect();
    let head = [&b"EVALSHA"[..], scripts.of(Script::Chunks), b"0"];
    let words: Vec<&[u8]> = head.into_iter().chain(numbers.iter().map(String::as_bytes)).collect();
    asked.add(&words);
}

fn ask(asked: &mut Asked, key: &Key, scripts: &Hashes) {
    let mut add = |words: &[&[u8]]| asked.add(words);
    let name = name_of(key);
    let name = name.as_bytes();
    match key {
        Key::Node(_) | Key::Symlink(_) | Key::Counter(_) => add(&[b"GET", name]),
        Key::Entry(_, field) | Key::Xattr(_, field) => add(&[b"HGET", name, field]),
        Key::EntryNode(_, field) => {
            add(&[b"EVALSHA", scripts.of(Script::Lookup), b"1", name, field])
        }
        Key::DirLen(_) => add(&[b"HLEN", name]),
        Key::Chunk(..) => add(&[b"LRANGE", name, b"0", b"-1"]),
        Key::Chunks(ino, start, end) => {
            ask_tries(asked, &[(*ino, *start, page_end(*start, *end))], scripts);
        }
        Key::SliceRef(id, size) => add(&[b"HGET", name, keys::slice(*id, *size).as_bytes()]),
        Key::Acl(id) => add(&[b"HGET", name, id.to_string().as_bytes()]),
        Key::Quota(holder) => {
            let field = keys::quota(*holder).1.to_string();
            add(&[b"EVALSHA", scripts.of(Script::Quota), b"0", name, field.as_bytes()]);
        }
        Key::XattrNames(_) => add(&[b"HKEYS", name]),
        Key::Parents(_) | Key::Flocks(_) | Key::Plocks(_) => add(&[b"HGETALL", name]),
    }
}

/// The key in Redis that is asked.
fn name_of(key: &Key) -> String {
    match key {
        Key::Node(ino) | Key::Chunks(ino, ..) => keys::node(*ino),
        Key::Entry(ino, _) | Key::EntryNode(ino, _) | Key::DirLen(ino) => keys::dir(*ino),
        Key::Chunk(ino, index) => keys::chunk(*ino, *index),
        Key::SliceRef(..) => keys::SLICE_REFS.to_owned(),
        Key::Symlink(ino) => keys::symlink(*ino),
        Key::Xattr(ino, _) | Key::XattrNames(ino) => keys::xattrs(*ino),
        Key::Parents(ino) => keys::parents(*ino),
        Key::Counter(counter) => keys::counter(*counter).to_owned(),
        Key::Flocks(ino) => keys::flocks(*ino),
        Key::Plocks(ino) => keys::plocks(*ino),
        Key::Acl(_) => keys::ACL.to_owned(),
        Key::Quota(holder) => keys::quota(*holder).0[0].to_owned(),
    }
}

fn value(key: &Key, reply: Reply) -> Result<Value, EngineError> {
    let name = &name_of(key);
    Ok(match key {
        Key::Node(_) => Value::Node(node(name, reply::bytes(name, reply)?.as_deref())?),
        Key::Entry(..) => {
            let bytes = reply::bytes(name, reply)?;
            Value::Entry(bytes.map(|bytes| entry(name, &bytes)).transpose()?)
        }
        Key::EntryNode(..) => Value::EntryNode(entry_node(name, reply)?),
        Key::DirLen(_) => Value::DirLen(reply::integer(name, reply)? as u64),
        Key::Chunk(..) => {
            let records = reply::byte_list(name, reply)?;
            let records = records.iter().map(|bytes| decode_slice(bytes));
            Value::Chunk(records.collect::<Result<_, _>>().map_err(|error| damaged(name, error))?)
        }
        Key::Chunks(..) => unreachable!("these are found by more than one question"),
        // A slice without a field has one reference; the field counts those beyond it.
        Key::SliceRef(..) => Value::SliceRef(reply::number(name, reply)?.unwrap_or(0) + 1),
        Key::Symlink(_) => Value::Symlink(reply::bytes(name, reply)?.map(Into::into)),
        Key::Xattr(..) => Value::Xattr(reply::bytes(name, reply)?.map(Into::into)),
        Key::XattrNames(_) => {
            let mut names = reply::byte_list(name, reply)?;
            names.sort_unstable();
            Value::XattrNames(names.into_iter().map(Into::into).collect())
        }
        Key::Parents(_) => Value::Parents(parents(name, reply)?),
        Key::Counter(_) => Value::Counter(reply::number(name, reply)?.unwrap_or(0)),
        Key::Flocks(_) => Value::Flocks(flocks(name, reply)?),
        Key::Plocks(_) => Value::Plocks(plocks(name, reply)?),
        Key::Acl(id) => {
            let bytes = reply::bytes(name, reply)?;
            Value::Acl(bytes.map(|bytes| acl::rule(*id, &bytes)).transpose()?)
        }
        Key::Quota(_) => Value::Quota(whole_quota(name, reply)?),
    })
}

/// The attributes in a node's record.
pub(super) fn node(name: &str, bytes: Option<&[u8]>) -> Result<Option<Attr>, EngineError> {
    bytes.map(decode_node).transpose().map_err(|error| damaged(name, error))
}

pub(super) fn entry(name: &str, bytes: &[u8]) -> Result<(FileType, Ino), EngineError> {
    decode_entry(bytes).map_err(|error| damaged(name, error))
}

/// A quota is there where inodes are counted for it: other clients see no other ones.
fn whole_quota(name: &str, reply: Reply) -> Result<Option<Quota>, EngineError> {
    let parts = reply::list(name, reply)?.into_iter();
    let parts = parts.map(|part| reply::bytes(name, part)).collect::<Result<Vec<_>, _>>()?;
    let [space, inodes, limits] = &parts[..] else { return Err(damaged(name, "not three parts")) };
    let Some(inodes) = inodes else { return Ok(None) };
    quota(name, space.as_deref(), inodes, limits.as_deref()).map(Some)
}

/// A quota from the three hashes that keep it; without limits where there are none.
pub(super) fn quota(
    name: &str,
    space: Option<&[u8]>,
    inodes: &[u8],
    limits: Option<&[u8]>,
) -> Result<Quota, EngineError> {
    let limits = match limits {
        None => [-1; 2],
        Some(bytes) => decode_limits(bytes).map_err(|error| damaged(name, error))?,
    };
    let used_space = space.map_or(Ok(0), |space| reply::parsed(name, space))?;
    let used_inodes = reply::parsed(name, inodes)?;
    let [max_space, max_inodes] = limits;
    Ok(Quota { max_space, max_inodes, used_space, used_inodes })
}

type EntryNode = Option<(FileType, Ino, Option<Attr>)>;

fn entry_node(name: &str, reply: Reply) -> Result<EntryNode, EngineError> {
    if reply == Reply::Nil {
        return Ok(None);
    }
    let mut parts = reply::list(name, reply)?.into_iter();
    let found = parts.next().map(|part| reply::bytes(name, part)).transpose()?.flatten();
    let (kind, ino) = entry(name, &found.unwrap_or_default())?;
    let child = &keys::node(ino);
    let record = parts.next().map(|part| reply::bytes(child, part)).transpose()?.flatten();
    Ok(Some((kind, ino, node(child, record.as_deref())?)))
}

fn parents(name: &str, reply: Reply) -> Result<Vec<(Ino, i64)>, EngineError> {
    let mut found = Vec::new();
    for (field, count) in reply::pairs(name, reply)? {
        let count = reply::parsed(name, &count)?;
        // The last link that leaves a directory leaves a zero.
        if count > 0 {
            found.push((Ino(reply::parsed(name, &field)?), count));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn flocks(name: &str, reply: Reply) -> Result<Vec<Flock>, EngineError> {
    let mut found = Vec::new();
    for (field, word) in reply::pairs(name, reply)? {
        let owner = keys::parse_owner(&field).ok_or_else(|| damaged(name, "no holder's name"))?;
        let exclusive = match &word[..] {
            b"W" => true,
            b"R" => false,
            _ => return Err(damaged(name, "neither a shared nor an exclusive lock")),
        };
        found.push(Flock { owner, exclusive });
    }
    found.sort_unstable_by_key(|lock| lock.owner);
    Ok(found)
}

fn plocks(name: &str, reply: Reply) -> Result<Vec<Plock>, EngineError> {
    let mut found = Vec::new();
    for (field, records) in reply::pairs(name, reply)? {
        let owner = keys::parse_owner(&field).ok_or_else(|| damaged(name, "no holder's name"))?;
        if !records.len().is_multiple_of(PLOCK_BYTES) {
            return Err(damaged(name, format!("{} bytes are no locks", records.len())));
        }
        found.push(Plock { owner, records: records.into() });
    }
    found.sort_unstable_by_key(|lock| lock.owner);
    Ok(found)
}

/// Chunks with a list, of which `first` tells those among the first that were tried. Where more
/// are left than all keys there are, the lists are searched among the keys, as the official client
/// does; else the others are tried a page at a time.
async fn chunk_indexes(link: &Link, tries: Tries, first: Reply) -> Result<Vec<u32>, EngineError> {
    let (ino, start, end) = tries;
    let mut found = indexes(first)?;
    let mut tried = page_end(start, end);
    if tried >= end {
        return Ok(found);
    }
    let keys = reply::integer("DBSIZE", link.call(&[b"DBSIZE"]).await?)?;
    if keys < i64::from(end - tried) {
        return search_chunks(link, ino).await;
    }
    while tried < end {
        let (mut asked, next) = (Asked::default(), page_end(tried, end));
        ask_tries(&mut asked, &[(ino, tried, next)], &*link.scripts().await?);
        let page = link.ask(&asked).await?.swap_remove(0);
        found.extend(indexes(reply::list("chunks of one file", page)?.swap_remove(0))?);
        tried = next;
    }
    Ok(found)
}

fn indexes(reply: Reply) -> Result<Vec<u32>, EngineError> {
    let name = "chunks of one file";
    let numbers = reply::list(name, reply)?.into_iter();
    numbers.map(|number| Ok(reply::integer(name, number)? as u32)).collect()
}

async fn search_chunks(link: &Link, ino: Ino) -> Result<Vec<u32>, EngineError> {
    let (prefix, mut cursor) = (format!("c{ino}_"), b"0".to_vec());
    let pattern = format!("{prefix}*");
    let mut found = Vec::new();
    loop {
        let words: [&[u8]; 6] =
            [b"SCAN", &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_COUNT];
        let (next, names) = page("SCAN", link.call(&words).await?)?;
        let indexes = names.iter().filter_map(|name| name.strip_prefix(prefix.as_bytes()));
        found.extend(indexes.filter_map(|index| reply::parsed::<u32>(&pattern, index).ok()));
        if next == b"0" {
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
        cursor = next;
    }
}

/// One page of a hash (HSCAN) or a sorted set (ZSCAN), of about `count` pairs.
pub(super) async fn scanned(
    link: &Link,
    command: &str,
    key: &str,
    cursor: &[u8],
    count: usize,
) -> Result<(Vec<u8>, Vec<Vec<u8>>), EngineError> {
    let count = count.to_string();
    let words = [command.as_bytes(), key.as_bytes(), cursor, b"COUNT", count.as_bytes()];
    page(key, link.call(&words).await?)
}

/// A page of a scan: the cursor of the next one, and what is on it.
pub(super) fn page(name: &str, reply: Reply) -> Result<(Vec<u8>, Vec<Vec<u8>>), EngineError> {
    let mut parts = reply::list(name, reply)?.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Reply::BulkString(cursor)), Some(items)) => {
            Ok((cursor, reply::byte_list(name, items)?))
        }
        (first, _) => Err(strange(name, &first.unwrap_or_default())),
    }
}
