//! All names of a directory, page by page.

use std::collections::HashMap;

use super::link::Link;
use super::words::{Asked, Words};
use super::{fetch, keys, reply};
use crate::limits::REDIS_LIST_PAGE;
use crate::meta::engine::{DirEntry, EngineError};
use crate::types::Ino;

/// Names come in pages; while the hash is rebuilt a name may come twice, the last one counts.
pub(super) async fn list(
    link: &Link,
    dir: Ino,
    with_attr: bool,
) -> Result<Vec<DirEntry>, EngineError> {
    let key = &keys::dir(dir);
    let mut found = HashMap::new();
    let mut cursor = b"0".to_vec();
    let mut run = link.run();
    loop {
        let count = REDIS_LIST_PAGE.to_string();
        let words: [&[u8]; 5] = [b"HSCAN", key.as_bytes(), &cursor, b"COUNT", count.as_bytes()];
        let (next, items) = fetch::page(key, link.call(&words).await?)?;
        if cursor != b"0" && link.run() != run {
            // A cursor of another server's scan.
            (found, cursor) = (HashMap::new(), b"0".to_vec());
            continue;
        }
        run = link.run();
        for pair in items.chunks_exact(2) {
            let (kind, ino) = fetch::entry(key, &pair[1])?;
            let name: Box<[u8]> = pair[0].as_slice().into();
            if !name.is_empty() {
                found.insert(name.clone(), DirEntry { name, kind, ino, attr: None });
            }
        }
        if next == b"0" {
            break;
        }
        cursor = next;
    }
    let mut entries: Vec<_> = found.into_values().collect();
    if with_attr {
        add_attributes(link, &mut entries).await?;
    }
    Ok(entries)
}

async fn add_attributes(link: &Link, entries: &mut [DirEntry]) -> Result<(), EngineError> {
    for some in entries.chunks_mut(REDIS_LIST_PAGE) {
        let mut words = Words::default();
        words.add("MGET");
        some.iter().for_each(|entry| {
            words.add(keys::node(entry.ino));
        });
        let mut asked = Asked::default();
        asked.command(&words);
        let reply = link.ask(&asked).await?.swap_remove(0);
        let records = reply::list("MGET", reply)?;
        for (entry, record) in some.iter_mut().zip(records) {
            let key = &keys::node(entry.ino);
            entry.attr = fetch::node(key, reply::bytes(key, record)?.as_deref())?;
        }
    }
    Ok(())
}
