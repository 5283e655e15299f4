//! The beginning of a dump: the setting, counters, open and deleted files, quotas.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;

use foldhash::fast::RandomState;
use serde_json::json;

use super::{DumpError, check_count, form, pause};
use crate::config::Setting;
use crate::limits::{CHECK_PAGE, DUMP_ROWS_MAX};
use crate::meta::{Counter, Engine, EngineError, Holder, Key, Quota, Row, Table, Value};
use crate::types::Ino;

/// Counters as a dump names them, and what lies between the last id and what is kept.
const COUNTERS: [(Counter, &str, i64); 6] = [
    (Counter::UsedSpace, "usedSpace", 0),
    (Counter::TotalInodes, "usedInodes", 0),
    (Counter::NextInode, "nextInodes", 1),
    (Counter::NextChunk, "nextChunk", 1),
    (Counter::NextSession, "nextSession", 0),
    (Counter::NextTrash, "nextTrash", 0),
];
const QUOTAS: [(Table, &str); 3] = [
    (Table::DirQuotas, "Quotas"),
    (Table::UserQuotas, "UserQuotas"),
    (Table::GroupQuotas, "GroupQuotas"),
];

pub(super) async fn write<W: Write>(engine: &dyn Engine, out: &mut W) -> Result<(), DumpError> {
    let text = engine.load_setting().await?.unwrap_or_default();
    let setting =
        Setting::parse(&text).map_err(|refusal| DumpError::Damaged(refusal.to_string()))?;
    write!(out, "{{\n\"Setting\": {:#}", setting.to_dump())?;
    write!(out, ",\n\"Counters\": {:#}", counters(engine).await?)?;
    sustained(engine, out).await?;
    deleted(engine, out).await?;
    for (table, title) in QUOTAS {
        let mut separator = format!(",\n\"{title}\": {{\n");
        for (id, quota) in quotas(engine, table).await? {
            write!(out, "{separator}\"{id}\": {}", form::quota(&quota))?;
            separator = ",\n".to_owned();
        }
        if separator.len() == 2 {
            out.write_all(b"\n}")?;
        }
    }
    Ok(())
}

async fn counters(engine: &dyn Engine) -> Result<serde_json::Value, DumpError> {
    let values = engine.fetch(&COUNTERS.map(|(counter, ..)| Key::Counter(counter))).await?;
    let mut counters = json!({});
    for ((_, name, beyond), value) in COUNTERS.into_iter().zip(values) {
        let Value::Counter(kept) = value else { unreachable!("a counter was asked for") };
        counters[name] = json!(kept + beyond);
    }
    Ok(counters)
}

/// All rows of a table, of which what is taken is in memory; one may come twice.
async fn each_row(
    engine: &dyn Engine,
    table: Table,
    mut take: impl FnMut(Row) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let (mut from, mut count) = (0, 0);
    loop {
        let page = engine.scan(table, from, CHECK_PAGE).await?;
        count += page.rows.len();
        check_count(count, DUMP_ROWS_MAX, || format!("rows of the table {table:?}"))?;
        for row in page.rows {
            if let Row::Damaged { key, reason } = row {
                return Err(EngineError::Corrupt { key, reason }.into());
            }
            take(row)?;
        }
        let Some(next) = page.next else { return Ok(()) };
        from = next;
        pause().await;
    }
}

async fn sustained<W: Write>(engine: &dyn Engine, out: &mut W) -> Result<(), DumpError> {
    let mut open: BTreeMap<u64, BTreeSet<Ino>> = BTreeMap::new();
    each_row(engine, Table::Sustained, |row| {
        if let Row::Sustained(sid, ino) = row {
            open.entry(sid).or_default().insert(ino);
        }
        Ok(())
    })
    .await?;
    let session = |(sid, inos): (&u64, &BTreeSet<Ino>)| json!({"sid": sid, "inodes": inos.iter().map(|ino| ino.0).collect::<Vec<_>>()});
    let sessions: Vec<_> = open.iter().map(session).collect();
    Ok(write!(out, ",\n\"Sustained\": {}", json!(sessions))?)
}

async fn deleted<W: Write>(engine: &dyn Engine, out: &mut W) -> Result<(), DumpError> {
    let mut told: HashSet<Ino, RandomState> = HashSet::default();
    write!(out, ",\n\"DelFiles\": [")?;
    each_row(engine, Table::Queued, |row| {
        let Row::Queued(ino, length, at) = row else { return Ok(()) };
        if told.insert(ino) {
            let separator = if told.len() == 1 { "" } else { ",\n" };
            write!(out, "{separator}{}", json!({"inode": ino.0, "length": length, "expire": at}))?;
        }
        Ok(())
    })
    .await?;
    Ok(write!(out, "]")?)
}

/// Quotas that limit anything; users and groups are counted without one, too.
async fn quotas(engine: &dyn Engine, table: Table) -> Result<BTreeMap<u64, Quota>, DumpError> {
    let mut found = BTreeMap::new();
    each_row(engine, table, |row| {
        let Row::Quota(holder, quota) = row else { return Ok(()) };
        let id = match holder {
            Holder::Dir(dir) => dir.0,
            Holder::User(id) | Holder::Group(id) => id.into(),
        };
        if (quota.max_space, quota.max_inodes) != (-1, -1) {
            found.insert(id, quota);
        }
        Ok(())
    })
    .await?;
    Ok(found)
}
