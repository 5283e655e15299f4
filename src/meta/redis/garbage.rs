//! Slices that nobody needs any more: found among the references, and among those put aside.

use super::link::Link;
use super::script::Script;
use super::{fetch, keys, reply};
use crate::meta::engine::{EngineError, UnusedSlices};
use crate::meta::record::decode_delayed;
use crate::meta::txn::Delayed;

/// Pages of a scan in one answer: others get their turn.
const PAGES: usize = 64;

/// Slices whose count is below zero; `from` is the cursor of the scan. Fields that say what their
/// absence would say are dropped on the way, as official clients do.
pub(super) async fn unused_slices(
    link: &Link,
    from: u64,
    limit: usize,
) -> Result<UnusedSlices, EngineError> {
    let key = keys::SLICE_REFS;
    let mut cursor = from.to_string().into_bytes();
    let (mut slices, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..PAGES {
        let (next, items) = fetch::scanned(link, "HSCAN", key, &cursor, limit).await?;
        for pair in items.chunks_exact(2) {
            if pair[1] == b"0" {
                idle.push(pair[0].clone());
            } else if pair[1].starts_with(b"-") {
                slices.extend(keys::parse_slice(&pair[0]).filter(|(id, _)| *id > 0));
            }
        }
        cursor = next;
        if cursor == b"0" || slices.len() >= limit {
            break;
        }
    }
    for fields in idle.chunks(1000) {
        let scripts = link.scripts().await?;
        let mut words = vec![&b"EVALSHA"[..], scripts.of(Script::TidyRefs), b"1", key.as_bytes()];
        words.extend(fields.iter().map(Vec::as_slice));
        link.call(&words).await?;
    }
    let next = if cursor == b"0" { None } else { Some(reply::parsed(key, &cursor)?) };
    Ok(UnusedSlices { slices, next })
}

/// Slices put aside before `before`. Fields that cannot be read stay: official clients name
/// them in their logs.
pub(super) async fn delayed_slices(
    link: &Link,
    before: i64,
    limit: usize,
) -> Result<Vec<Delayed>, EngineError> {
    let key = keys::DELAYED_SLICES;
    let (mut cursor, mut found) = (b"0".to_vec(), Vec::new());
    loop {
        let (next, items) = fetch::scanned(link, "HSCAN", key, &cursor, limit).await?;
        for pair in items.chunks_exact(2) {
            let due = keys::parse_delayed(&pair[0]).filter(|(_, at)| *at < before);
            let slices = decode_delayed(&pair[1]);
            if let (Some((by, at)), Ok(slices)) = (due, slices) {
                found.push(Delayed { by, at, slices });
            }
        }
        if next == b"0" || found.len() >= limit {
            // A field may come twice while the hash is rebuilt.
            found.sort_unstable();
            found.dedup();
            found.truncate(limit);
            return Ok(found);
        }
        cursor = next;
    }
}
