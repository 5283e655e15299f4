//! Sessions, the volume's setting, queues and jobs: what is not asked for by every operation.

use std::sync::atomic::Ordering;

use redis::Value;

use super::dial::info;
use super::link::Link;
use super::script::Script;
use super::words::Asked;
use super::{keys, reply};
use crate::meta::engine::{Description, EngineError, Session};
use crate::meta::record::encode_node;
use crate::stdx::now;
use crate::types::{Attr, Ino};

/// What a session without information tells.
const NO_INFO: &[u8] = b"{}";

/// Commands between MULTI and EXEC; the error of any of them.
async fn together(link: &Link, key: &str, commands: &[Vec<Vec<u8>>]) -> Result<(), EngineError> {
    let mut asked = Asked::one(&[b"MULTI"]);
    for command in commands {
        let words: Vec<_> = command.iter().map(Vec::as_slice).collect();
        asked.add(&words);
    }
    asked.add(&[b"EXEC"]);
    let mut replies = link.ask(&asked).await?;
    if let Some(error) = reply::first_error(&replies) {
        return Err(reply::told(key, error));
    }
    let done = reply::list(key, replies.pop().unwrap_or_default())?;
    reply::first_error(&done).map_or(Ok(()), |error| Err(reply::told(key, error)))
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

pub(super) async fn load_setting(link: &Link) -> Result<Option<String>, EngineError> {
    let key = keys::SETTING;
    let found = reply::bytes(key, link.call(&[b"GET", key.as_bytes()]).await?)?;
    found
        .map(|bytes| String::from_utf8(bytes).map_err(|_| reply::damaged(key, "not UTF-8")))
        .transpose()
}

pub(super) async fn store_setting(
    link: &Link,
    json: &str,
    init: &[(Ino, Attr)],
) -> Result<(), EngineError> {
    let mut commands = Vec::new();
    for (ino, attr) in init {
        commands.push(words(&[b"SETNX", keys::node(*ino).as_bytes(), &encode_node(attr)]));
        if *ino == Ino::ROOT {
            let root = ino.to_string();
            commands.extend(
                keys::DIR_STATS
                    .map(|hash| words(&[b"HSETNX", hash.as_bytes(), root.as_bytes(), b"0"])),
            );
        }
    }
    let set: &[u8] = if init.is_empty() { b"SET" } else { b"SETNX" };
    commands.push(words(&[set, keys::SETTING.as_bytes(), json.as_bytes()]));
    together(link, keys::SETTING, &commands).await
}

pub(super) async fn put(link: &Link, session: &Session) -> Result<(), EngineError> {
    let (sid, expire) = (session.sid.to_string(), session.expire.to_string());
    let commands = [
        words(&[b"HSET", keys::SESSION_INFOS.as_bytes(), sid.as_bytes(), session.info.as_bytes()]),
        words(&[b"ZADD", keys::SESSIONS.as_bytes(), expire.as_bytes(), sid.as_bytes()]),
    ];
    together(link, keys::SESSIONS, &commands).await?;
    link.shared.sid.store(session.sid, Ordering::Release);
    Ok(())
}

pub(super) async fn end(link: &Link, sid: u64) -> Result<Vec<Ino>, EngineError> {
    let scripts = link.scripts().await?;
    let own = link.shared.sid.load(Ordering::Acquire) == sid;
    let words: [&[u8]; 10] = [
        b"EVALSHA",
        scripts.of(Script::EndSession),
        b"4",
        keys::SESSIONS.as_bytes(),
        keys::SESSION_INFOS.as_bytes(),
        keys::OLD_SESSIONS.as_bytes(),
        keys::SEQUENCES.as_bytes(),
        &sid.to_string().into_bytes(),
        &now().sec.to_string().into_bytes(),
        if own { b"1" } else { b"0" },
    ];
    let reply = link.call(&words).await?;
    let key = &keys::sustained(sid);
    let kept = reply::byte_list(key, reply)?;
    if own && kept.is_empty() {
        // What this mount still commits is no session's.
        let _ = link.shared.sid.compare_exchange(sid, 0, Ordering::AcqRel, Ordering::Acquire);
    }
    kept.iter().map(|ino| reply::parsed(key, ino).map(Ino)).collect()
}

pub(super) async fn all(link: &Link) -> Result<Vec<Session>, EngineError> {
    let mut asked = Asked::one(&[b"ZRANGE", keys::SESSIONS.as_bytes(), b"0", b"-1", b"WITHSCORES"]);
    asked.add(&[b"HGETALL", keys::SESSION_INFOS.as_bytes()]);
    let mut replies = link.ask(&asked).await?.into_iter();
    let mut next = || replies.next().unwrap_or_default();
    let known = reply::pairs(keys::SESSIONS, next())?;
    let infos: std::collections::HashMap<_, _> =
        reply::pairs(keys::SESSION_INFOS, next())?.into_iter().collect();
    let mut found = Vec::with_capacity(known.len());
    for (sid, expire) in known {
        let info = infos.get(&sid).map_or(NO_INFO, Vec::as_slice);
        found.push(Session {
            sid: reply::parsed(keys::SESSIONS, &sid)?,
            // Scores are floating point; those of old clients may have a fraction.
            expire: reply::parsed::<f64>(keys::SESSIONS, &expire)? as i64,
            info: String::from_utf8_lossy(info).into_owned(),
        });
    }
    found.sort_unstable_by_key(|session| session.sid);
    Ok(found)
}

/// Deleted files queued before `before`, oldest first.
pub(super) async fn queued_files(
    link: &Link,
    before: i64,
    limit: usize,
) -> Result<Vec<(Ino, u64)>, EngineError> {
    let key = keys::DELETED_FILES;
    let (before, limit) = (format!("({before}"), limit.to_string());
    let words: [&[u8]; 7] = [
        b"ZRANGEBYSCORE",
        key.as_bytes(),
        b"-inf",
        before.as_bytes(),
        b"LIMIT",
        b"0",
        limit.as_bytes(),
    ];
    let members = reply::byte_list(key, link.call(&words).await?)?;
    Ok(members.iter().filter_map(|member| keys::parse_queued(member)).collect())
}

pub(super) async fn win_job(
    link: &Link,
    name: &str,
    now: i64,
    period: i64,
) -> Result<bool, EngineError> {
    let scripts = link.scripts().await?;
    let (now, period) = (now.to_string(), period.to_string());
    let words: [&[u8]; 6] = [
        b"EVALSHA",
        scripts.of(Script::WinJob),
        b"1",
        name.as_bytes(),
        now.as_bytes(),
        period.as_bytes(),
    ];
    Ok(reply::integer(name, link.call(&words).await?)? == 1)
}

pub(super) async fn describe(link: &Link) -> Result<Description, EngineError> {
    let reply = link.call(&[b"INFO"]).await?;
    let Value::BulkString(bytes) = reply else { return Err(reply::strange("INFO", &reply)) };
    let text = String::from_utf8_lossy(&bytes);
    let told = |name: &str| info(&text, name).unwrap_or("unknown").to_owned();
    let target = &link.shared.target;
    let appends = told("aof_enabled") == "1";
    // Some services do not let CONFIG be asked; that is no failure.
    let sync = match link.call(&[b"CONFIG", b"GET", b"appendfsync"]).await {
        Ok(value) => reply::byte_list("CONFIG", value).ok().and_then(|mut words| words.pop()),
        Err(_) => None,
    };
    let sync = sync.map_or("unknown".to_owned(), |word| String::from_utf8_lossy(&word).into());
    let policy = told("maxmemory_policy");
    let mut warnings = Vec::new();
    let mut warn = |seen: String, cure: &str| warnings.push((seen, cure.to_owned()));
    if !appends {
        let seen = "no append-only file: what was acknowledged since the last snapshot is lost with the server";
        warn(seen.to_owned(), "redis-cli CONFIG SET appendonly yes");
    }
    if policy != "noeviction" {
        let seen = format!("maxmemory-policy {policy}: a full server throws metadata away");
        warn(seen, "redis-cli CONFIG SET maxmemory-policy noeviction");
    }
    let text = format!(
        "Redis {} at {}{}, database {}, appendonly {}, appendfsync {sync}, maxmemory-policy {policy}",
        told("redis_version"),
        target.place,
        if target.tls.is_some() { " by TLS" } else { "" },
        target.db,
        if appends { "yes" } else { "no" },
    );
    Ok(Description { text, warnings })
}
