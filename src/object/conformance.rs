//! The suite that every store and every decorator passes.
//!
//! Owns what a store promises, as assertions. A new store calls [`check`] from its tests.

use std::sync::Arc;

use super::{Store, StoreError};
use crate::pages::{PAGE_BYTES, Page, Pool};
use crate::uring::block_on;

/// `bytes` as sealed pages.
pub(crate) fn body(pool: &Arc<Pool>, bytes: &[u8]) -> Vec<Page> {
    let seal = |piece: &[u8]| {
        let mut page = pool.take().expect("the test's pool is large enough");
        page.bytes_mut()[..piece.len()].copy_from_slice(piece);
        page.seal(0, piece.len())
    };
    bytes.chunks(PAGE_BYTES).map(seal).collect()
}

/// Bytes that repeat nowhere near a page border.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
}

fn get(store: &dyn Store, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
    let (mut bytes, count) = block_on(store.get(key.to_owned(), offset, vec![0xEE; len]))?;
    assert_eq!(bytes.len(), len, "the buffer comes back whole");
    bytes.truncate(count);
    Ok(bytes)
}

fn put(store: &dyn Store, pool: &Arc<Pool>, key: &str, bytes: &[u8]) {
    block_on(store.put(key.to_owned(), body(pool, bytes))).expect("a put");
}

fn keys(store: &dyn Store, prefix: &str, after: &str, limit: usize) -> Vec<String> {
    let listing = block_on(store.list(prefix.into(), after.into(), limit)).expect("a listing");
    listing.into_iter().map(|info| info.key).collect()
}

/// All promises, on an empty store; leaves it empty.
pub(crate) fn check(store: &dyn Store) {
    let pool = Pool::new(80 * PAGE_BYTES);
    bytes_come_back(store, &pool);
    ranges(store, &pool);
    missing(store);
    replaced(store, &pool);
    listing(store, &pool);
    assert_eq!(pool.used_pages(), 0, "a store holds no page when it is done");
    assert!(!store.describe().is_empty());
}

fn bytes_come_back(store: &dyn Store, pool: &Arc<Pool>) {
    for len in [0, 1, 4095, 4096, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 4 << 20] {
        let bytes = pattern(len);
        put(store, pool, "chunks/0/0/1_0_1", &bytes);
        assert!(get(store, "chunks/0/0/1_0_1", 0, len + 10).expect("a get") == bytes, "{len}");
    }
    let pieces: Vec<_> = body(pool, b"abcdef")
        .iter()
        .flat_map(|page| [page.piece(0, 2), page.piece(2, 0), page.piece(2, 4)])
        .collect();
    block_on(store.put("chunks/0/0/1_0_1".into(), pieces)).expect("a put of pieces");
    assert_eq!(get(store, "chunks/0/0/1_0_1", 0, 9).expect("a get"), b"abcdef");
    block_on(store.delete("chunks/0/0/1_0_1".into())).expect("a delete");
}

fn ranges(store: &dyn Store, pool: &Arc<Pool>) {
    let bytes = pattern(2 * PAGE_BYTES + 100);
    put(store, pool, "range", &bytes);
    let cases =
        [(0, 1), (1, 0), (PAGE_BYTES - 1, 2), (PAGE_BYTES, PAGE_BYTES), (100, PAGE_BYTES * 2)];
    for (offset, len) in cases {
        let got = get(store, "range", offset as u64, len).expect("a range");
        assert!(got == bytes[offset..offset + len], "{offset} {len}");
    }
    assert_eq!(get(store, "range", bytes.len() as u64 - 1, 10).expect("a short range").len(), 1);
    assert_eq!(get(store, "range", bytes.len() as u64, 10).expect("the end").len(), 0);
    assert_eq!(get(store, "range", 1 << 40, 10).expect("far behind the end").len(), 0);
    block_on(store.delete("range".into())).expect("a delete");
}

fn missing(store: &dyn Store) {
    assert!(matches!(get(store, "no", 0, 1), Err(StoreError::Missing(_))));
    assert!(matches!(get(store, "no/such/path", 0, 1), Err(StoreError::Missing(_))));
    block_on(store.delete("no".into())).expect("a delete of nothing");
    block_on(store.delete("no/such/path".into())).expect("a delete of nothing");
}

fn replaced(store: &dyn Store, pool: &Arc<Pool>) {
    put(store, pool, "dir/same", &pattern(100_000));
    put(store, pool, "dir/same", b"short");
    assert_eq!(get(store, "dir/same", 0, 100_000).expect("a get"), b"short");
    block_on(store.delete("dir/same".into())).expect("a delete");
    assert!(matches!(get(store, "dir/same", 0, 1), Err(StoreError::Missing(_))));
}

fn listing(store: &dyn Store, pool: &Arc<Pool>) {
    // '-' sorts before '/', which sorts before '0': the order is by bytes, not by folder.
    let names = ["a", "b-c", "b/1", "b/2/x", "b/2/y", "b/20", "b0", "c"];
    for name in names.iter().rev() {
        put(store, pool, name, name.as_bytes());
    }
    assert_eq!(keys(store, "", "", 100), names);
    assert_eq!(keys(store, "b/", "", 100), names[2..6]);
    assert_eq!(keys(store, "b/2", "", 100), names[3..6]);
    assert_eq!(keys(store, "b", "b/2/x", 100), names[4..7]);
    assert_eq!(keys(store, "", "b/2/", 2), names[3..5]);
    assert_eq!(keys(store, "", "b/3", 1), names[6..7]);
    assert_eq!(keys(store, "b/", "a", 1), names[2..3]);
    assert_eq!(keys(store, "b/", "c", 1).len(), 0);
    assert_eq!(keys(store, "", "", 0).len(), 0);
    let all = block_on(store.list(String::new(), String::new(), 100)).expect("a listing");
    assert!(all.iter().all(|info| info.len_bytes == info.key.len() as u64 && info.mtime > 0));
    for name in names {
        block_on(store.delete(name.to_owned())).expect("a delete");
    }
    assert_eq!(keys(store, "", "", 100).len(), 0);
}
