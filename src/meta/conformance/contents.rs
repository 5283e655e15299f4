//! Lists of slices, their counts of references, and deleted files that wait.

use super::{change, fails, get, holds};
use crate::meta::engine::Engine;
use crate::meta::txn::{Delayed, Expect, Key, Mutation, Value};
use crate::types::{Ino, SliceId, SliceRecord};

const FILE: Ino = Ino(300);

fn record(id: SliceId) -> SliceRecord {
    SliceRecord { pos: id as u32, id, size: 50, off: 3, len: 40 }
}

fn hole(pos: u32) -> SliceRecord {
    SliceRecord { pos, id: 0, size: 0, off: 0, len: 9 }
}

async fn list(engine: &dyn Engine, ino: Ino, index: u32) -> Vec<SliceRecord> {
    match get(engine, Key::Chunk(ino, index)).await {
        Value::Chunk(records) => records,
        other => panic!("a chunk was asked for, not {other:?}"),
    }
}

async fn refs(engine: &dyn Engine, ids: &[SliceId]) -> Vec<i64> {
    let keys: Vec<_> = ids.iter().map(|id| Key::SliceRef(*id, 50)).collect();
    let count = |value| match value {
        Value::SliceRef(count) => count,
        other => panic!("a count was asked for, not {other:?}"),
    };
    engine.fetch(&keys).await.unwrap().into_iter().map(count).collect()
}

pub(super) async fn check(engine: &dyn Engine) {
    lists(engine).await;
    references(engine).await;
    compaction(engine).await;
    unused(engine).await;
    delayed(engine).await;
    queue(engine).await;
}

async fn lists(engine: &dyn Engine) {
    assert_eq!(list(engine, FILE, 0).await, []);
    assert_eq!(get(engine, Key::Chunks(FILE, 0, u32::MAX)).await, Value::Chunks(vec![]));
    let extreme = SliceRecord {
        pos: (64 << 20) - 1,
        id: u64::from(u32::MAX) << 20,
        size: 64 << 20,
        off: (64 << 20) - 1,
        len: 1,
    };
    change(engine, vec![Mutation::PushSlices(FILE, 7, vec![record(2001), extreme])]).await;
    change(engine, vec![Mutation::PushSlices(FILE, 7, vec![record(2002)])]).await;
    change(engine, vec![Mutation::PushSlices(FILE, 0, vec![hole(1)])]).await;
    change(engine, vec![Mutation::PushSlices(FILE, u32::MAX >> 1, vec![hole(2)])]).await;
    assert_eq!(list(engine, FILE, 7).await, [record(2001), extreme, record(2002)]);
    let holes = vec![
        Mutation::PushHolesIfListed(FILE, 7, vec![hole(3)]),
        Mutation::PushHolesIfListed(FILE, 1, vec![hole(4)]),
    ];
    change(engine, holes).await;
    assert_eq!(list(engine, FILE, 7).await, [record(2001), extreme, record(2002), hole(3)]);
    assert_eq!(list(engine, FILE, 1).await, []);
    let chunks = get(engine, Key::Chunks(FILE, 0, u32::MAX)).await;
    assert_eq!(chunks, Value::Chunks(vec![0, 7, u32::MAX >> 1]));
    assert_eq!(get(engine, Key::Chunks(Ino(30), 0, 9)).await, Value::Chunks(vec![]));
    change(engine, vec![Mutation::DelChunk(FILE, 7), Mutation::DelChunk(FILE, 8)]).await;
    assert_eq!(list(engine, FILE, 7).await, []);
    assert_eq!(refs(engine, &[2001, 2002]).await, [1, 1], "counts are moved by the plan");
    change(engine, vec![Mutation::DelChunk(FILE, 0), Mutation::DelChunk(FILE, u32::MAX >> 1)])
        .await;
    assert_eq!(get(engine, Key::Chunks(FILE, 0, u32::MAX)).await, Value::Chunks(vec![]));
    change(engine, vec![Mutation::PushHolesIfListed(FILE, 7, vec![hole(3)])]).await;
    assert_eq!(list(engine, FILE, 7).await, [], "a list that is gone takes no holes");
}

async fn references(engine: &dyn Engine) {
    let push = Mutation::PushSlices(FILE, 0, vec![record(2011), hole(1), record(2012)]);
    change(engine, vec![push]).await;
    assert_eq!(refs(engine, &[2011, 2012]).await, [1, 1]);
    let piece = SliceRecord { off: 4, len: 1, ..record(2011) };
    let shared = vec![record(2012), piece, hole(0)];
    change(engine, vec![Mutation::ShareSlices(FILE, 1, shared.clone())]).await;
    assert_eq!(list(engine, FILE, 1).await, shared);
    change(engine, vec![Mutation::ShareSlices(FILE, 1, vec![piece])]).await;
    assert_eq!(list(engine, FILE, 1).await.len(), 4);
    assert_eq!(refs(engine, &[2012, 2011]).await, [2, 3]);
    let less = |id, n| Mutation::AddSliceRef(id, 50, n);
    change(engine, vec![less(2011, -1), less(2012, -1), less(2011, -1)]).await;
    assert_eq!(refs(engine, &[2011, 2012]).await, [1, 1]);
    change(engine, vec![less(2011, -1), less(2012, 4)]).await;
    assert!(refs(engine, &[2011]).await[0] <= 0, "nobody refers to the slice");
    assert_eq!(refs(engine, &[2012]).await, [5]);
    change(engine, vec![Mutation::ForgetSlice(2011, 50), Mutation::ForgetSlice(2012, 50)]).await;
    change(engine, vec![Mutation::PushSlices(FILE, 2, vec![record(2011), record(2012)])]).await;
    assert_eq!(refs(engine, &[2011, 2012]).await, [1, 1], "what was forgotten is new");
}

async fn compaction(engine: &dyn Engine) {
    let ids = |ids: &[SliceId]| ids.iter().map(|id| record(*id)).collect::<Vec<_>>();
    let replace = |count, new: &[SliceId]| Mutation::ReplacePrefix(FILE, 5, count, ids(new));
    change(engine, vec![Mutation::PushSlices(FILE, 5, ids(&[2021, 2022, 2023]))]).await;
    for (count, new, wanted) in [
        (2, &[2024][..], &[2024, 2023][..]),
        (0, &[2025], &[2025, 2024, 2023]),
        (1, &[], &[2024, 2023]),
        (1, &[2026, 2027, 2028], &[2026, 2027, 2028, 2023]),
        (4, &[2029], &[2029]),
    ] {
        change(engine, vec![replace(count, new)]).await;
        assert_eq!(list(engine, FILE, 5).await, ids(wanted));
    }
    assert_eq!(refs(engine, &[2021, 2022]).await, [1, 1], "counts are moved by the plan");
    let together = vec![
        Mutation::PushSlices(FILE, 5, ids(&[2030])),
        replace(1, &[2031]),
        Mutation::PushSlices(FILE, 5, ids(&[2032])),
    ];
    change(engine, together).await;
    assert_eq!(list(engine, FILE, 5).await, ids(&[2031, 2030, 2032]));
}

/// Every slice that `unused_slices` tells, in pages of about `limit`, each once.
async fn all_unused(engine: &dyn Engine, limit: usize) -> Vec<(SliceId, u32)> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let page = engine.unused_slices(at, limit).await.unwrap();
        found.extend(page.slices);
        from = page.next;
    }
    found.sort_unstable();
    found.dedup();
    found
}

async fn unused(engine: &dyn Engine) {
    // What earlier parts of the suite left.
    for (id, size) in all_unused(engine, 100).await {
        change(engine, vec![Mutation::ForgetSlice(id, size)]).await;
    }
    assert_eq!(all_unused(engine, 10).await, []);
    let ids: Vec<SliceId> = (2101..=2140).collect();
    change(engine, vec![Mutation::PushSlices(FILE, 8, ids.iter().map(|id| record(*id)).collect())])
        .await;
    // One that a compaction made has one reference, as one that was written.
    let made = Mutation::ReplacePrefix(FILE, 8, 40, vec![record(2141)]);
    change(engine, vec![made, Mutation::CountSlice(2141, 50)]).await;
    assert_eq!(refs(engine, &[2141]).await, [1]);
    change(engine, vec![Mutation::ShareSlices(FILE, 9, vec![record(2141), record(2101)])]).await;
    assert_eq!(refs(engine, &[2141, 2101]).await, [2, 2]);
    let less = |id: &SliceId| Mutation::AddSliceRef(*id, 50, -1);
    change(engine, ids.iter().map(less).collect()).await;
    let wanted: Vec<_> = ids[1..].iter().map(|id| (*id, 50)).collect();
    for limit in [1, 7, 1000] {
        assert_eq!(all_unused(engine, limit).await, wanted, "one shared is in use");
    }
    assert_eq!(refs(engine, &[2101, 2141]).await, [1, 2], "looking changes no count");
    change(engine, vec![less(&2141), less(&2141), less(&2101)]).await;
    assert_eq!(all_unused(engine, 100).await.len(), 41);
    for (id, size) in all_unused(engine, 100).await {
        change(engine, vec![Mutation::ForgetSlice(id, size)]).await;
    }
    assert_eq!(all_unused(engine, 10).await, []);
}

async fn delayed(engine: &dyn Engine) {
    let aside = |by, at, slices: &[(SliceId, u32)]| Delayed { by, at, slices: slices.to_vec() };
    let all = async |before, limit| {
        let mut found = engine.delayed_slices(before, limit).await.unwrap();
        found.sort();
        found
    };
    assert_eq!(all(i64::from(u32::MAX), 10).await, []);
    let large = aside(u64::from(u32::MAX) << 20, 1001, &[(2202, 50), (2202, 50), (1 << 40, 1)]);
    let small = aside(2201, 1000, &[(2203, 64 << 20)]);
    change(engine, vec![Mutation::PutDelayed(large.clone())]).await;
    change(engine, vec![Mutation::PutDelayed(small.clone())]).await;
    assert_eq!(all(1000, 10).await, []);
    assert_eq!(all(1001, 10).await, std::slice::from_ref(&small));
    assert_eq!(all(1002, 10).await, [small.clone(), large.clone()]);
    assert_eq!(all(1002, 1).await.len(), 1);
    holds(engine, Expect::Delayed(large.clone())).await;
    fails(engine, Expect::Delayed(aside(large.by, 1000, &large.slices))).await;
    fails(engine, Expect::Delayed(aside(large.by, 1001, &large.slices[1..]))).await;
    fails(engine, Expect::Delayed(aside(2299, 1001, &large.slices))).await;
    change(engine, vec![Mutation::DelDelayed(large.clone())]).await;
    fails(engine, Expect::Delayed(large)).await;
    assert_eq!(all(1002, 10).await, std::slice::from_ref(&small));
    let many: Vec<_> = (0..300).map(|n| aside(2300 + n, 900, &[(n, 1)])).collect();
    change(engine, many.iter().cloned().map(Mutation::PutDelayed).collect()).await;
    assert_eq!(all(901, 1000).await, many);
    assert_eq!(all(901, 40).await.len(), 40);
    let rest = many.into_iter().chain([small]).map(Mutation::DelDelayed);
    change(engine, rest.collect()).await;
    assert_eq!(all(i64::from(u32::MAX), 10).await, []);
}

async fn queue(engine: &dyn Engine) {
    let due = async |before, limit| {
        let mut files = engine.queued_files(before, limit).await.unwrap();
        files.sort_unstable();
        files
    };
    assert_eq!(due(i64::from(u32::MAX), 10).await, []);
    let long = 1 << 56;
    change(
        engine,
        vec![
            Mutation::QueueFile(Ino(301), 5, 1000),
            Mutation::QueueFile(Ino(302), 0, 1001),
            Mutation::QueueFile(Ino(303), long, 1002),
        ],
    )
    .await;
    assert_eq!(due(1000, 10).await, []);
    assert_eq!(due(1001, 10).await, [(Ino(301), 5)]);
    assert_eq!(due(2000, 10).await, [(Ino(301), 5), (Ino(302), 0), (Ino(303), long)]);
    assert_eq!(due(2000, 2).await.len(), 2);
    assert_eq!(due(2000, 0).await, []);
    change(engine, vec![Mutation::UnqueueFile(Ino(303), long)]).await;
    assert_eq!(due(2000, 10).await, [(Ino(301), 5), (Ino(302), 0)]);
    let rest = vec![Mutation::UnqueueFile(Ino(301), 5), Mutation::UnqueueFile(Ino(302), 0)];
    change(engine, rest).await;
    assert_eq!(due(2000, 10).await, []);
}
