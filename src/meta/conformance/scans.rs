//! Tables read whole, page by page: each row comes, whatever the size of a page, and no other.

use super::{change, file, name};
use crate::meta::engine::Engine;
use crate::meta::scan::{Row, Table};
use crate::meta::txn::{Delayed, Holder, Mutation, Quota};
use crate::types::{Attr, FileType, Ino, SliceRecord};

const FIRST: u64 = 600;
const COUNT: u64 = 23;
const SLICE: u64 = 7000;
const SID: u64 = 61;

pub(super) async fn check(engine: &dyn Engine) {
    let before = Tables::read(engine, 1000).await;
    change(engine, made()).await;
    for limit in [1, 7, 1000] {
        let tables = Tables::read(engine, limit).await;
        for (table, rows) in &tables.0 {
            let old = before.of(*table);
            let mut new: Vec<_> = rows.iter().filter(|row| !old.contains(row)).cloned().collect();
            let mut wanted = wanted(*table, engine.unkept_slice_ref());
            if *table == Table::Parents && !engine.keeps_parents_apart() {
                wanted.clear();
            }
            new.sort_by_key(|row| format!("{row:?}"));
            wanted.sort_by_key(|row| format!("{row:?}"));
            assert_eq!(new, wanted, "{table:?} by {limit}");
            assert!(old.iter().all(|row| rows.contains(row)), "{table:?} by {limit} loses rows");
        }
    }
}

/// All rows of all tables.
struct Tables(Vec<(Table, Vec<Row>)>);

const ALL: [Table; 12] = [
    Table::Nodes,
    Table::Dirs,
    Table::Chunks,
    Table::SliceRefs,
    Table::Parents,
    Table::DirStats,
    Table::DirQuotas,
    Table::UserQuotas,
    Table::GroupQuotas,
    Table::Sustained,
    Table::Queued,
    Table::Delayed,
];

impl Tables {
    async fn read(engine: &dyn Engine, limit: usize) -> Self {
        let mut tables = Vec::new();
        for table in ALL {
            let (mut rows, mut from) = (Vec::new(), 0);
            loop {
                let page = engine.scan(table, from, limit).await.unwrap();
                // A row may come twice where the engine rebuilds its tables.
                rows.extend(
                    page.rows.into_iter().filter(|row| !rows.contains(row)).collect::<Vec<_>>(),
                );
                let Some(next) = page.next else { break };
                from = next;
            }
            tables.push((table, rows));
        }
        Self(tables)
    }

    fn of(&self, table: Table) -> &[Row] {
        let found = self.0.iter().find(|(other, _)| *other == table);
        &found.expect("all were read").1
    }
}

fn inos() -> impl Iterator<Item = Ino> {
    (FIRST..FIRST + COUNT).map(Ino)
}

fn attr(ino: Ino) -> Attr {
    Attr { length: ino.0, ..file() }
}

fn record(ino: Ino) -> SliceRecord {
    let id = SLICE + ino.0 % 5;
    SliceRecord { pos: ino.0 as u32, id, size: 50, off: 3, len: 40 }
}

/// From root's number on, and the last one there is.
fn owner(ino: Ino) -> u32 {
    if ino.0 == FIRST + 1 { u32::MAX } else { (ino.0 - FIRST) as u32 }
}

fn quota(ino: Ino) -> Quota {
    let max_space = if ino.0.is_multiple_of(2) { -1 } else { i64::MAX };
    Quota { max_space, max_inodes: 0, used_space: -4096, used_inodes: ino.0 as i64 }
}

fn delayed(ino: Ino) -> Delayed {
    Delayed { by: ino.0 + 100_000, at: 5, slices: vec![(ino.0, 9), (ino.0 + 1, 8)] }
}

fn made() -> Vec<Mutation> {
    let mut made = Vec::new();
    for ino in inos() {
        made.extend([
            Mutation::PutNode(ino, attr(ino)),
            Mutation::PutEntry(ino, name("a"), FileType::File, ino),
            Mutation::PutEntry(ino, name("b"), FileType::File, ino),
            Mutation::PushSlices(ino, 0, vec![record(ino)]),
            Mutation::PushSlices(ino, 3, vec![record(ino), record(ino)]),
            Mutation::AddParent(ino, Ino(9), 2),
            Mutation::AddParent(ino, Ino(10), 1),
            Mutation::InitDirStats(ino),
            Mutation::AddDirStats(ino, 5, 4096, 2),
            Mutation::PutQuota(Holder::Dir(ino), quota(ino)),
            Mutation::PutQuota(Holder::User(owner(ino)), quota(ino)),
            Mutation::PutQuota(Holder::Group(owner(ino)), quota(ino)),
            Mutation::PutSustained(SID + ino.0 % 2, ino),
            Mutation::QueueFile(ino, 77, 1000),
            Mutation::PutDelayed(delayed(ino)),
        ]);
    }
    // Each slice has a count wherever it is kept: what was pushed alone may have none.
    made.extend((0..5).map(|more| Mutation::AddSliceRef(SLICE + more, 50, 1)));
    made
}

fn wanted(table: Table, unkept: i64) -> Vec<Row> {
    if table == Table::SliceRefs {
        let pushed = |id: u64| inos().filter(|ino| record(*ino).id == id).count() as i64 * 3;
        // Where a slice without a count has one reference, `PushSlices` brings no more.
        let count = |id| if unkept == 0 { pushed(id) + 1 } else { unkept + 1 };
        return (SLICE..SLICE + 5).map(|id| Row::SliceRef(id, 50, count(id))).collect();
    }
    let rows = |ino: Ino| match table {
        Table::Nodes => vec![Row::Node(ino, attr(ino))],
        Table::Dirs => vec![Row::Dir(ino)],
        Table::Chunks => vec![
            Row::Chunk(ino, 0, vec![record(ino)]),
            Row::Chunk(ino, 3, vec![record(ino), record(ino)]),
        ],
        Table::Parents => vec![Row::Parent(ino, Ino(9), 2), Row::Parent(ino, Ino(10), 1)],
        Table::DirStats => vec![Row::DirStats(ino, [5, 4096, 2])],
        Table::DirQuotas => vec![Row::Quota(Holder::Dir(ino), quota(ino))],
        Table::UserQuotas => vec![Row::Quota(Holder::User(owner(ino)), quota(ino))],
        Table::GroupQuotas => vec![Row::Quota(Holder::Group(owner(ino)), quota(ino))],
        Table::Sustained => vec![Row::Sustained(SID + ino.0 % 2, ino)],
        Table::Queued => vec![Row::Queued(ino, 77, 1000)],
        Table::Delayed => vec![Row::Delayed(delayed(ino))],
        Table::SliceRefs => Vec::new(),
    };
    inos().flat_map(rows).collect()
}
