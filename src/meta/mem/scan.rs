//! Tables as pages of rows, for who checks a whole volume.
//!
//! Rows come by ascending inode or id, and a page goes on after the last one.

use super::volume::Volume;
use crate::meta::scan::{Page, Row, Table};
use crate::meta::txn::Holder;
use crate::types::Ino;

/// The first `limit` ids after `from`.
fn after(ids: impl Iterator<Item = u64>, from: u64, limit: usize) -> Vec<u64> {
    let mut ids: Vec<_> = ids.filter(|id| *id > from).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(limit);
    ids
}

impl Volume {
    pub(super) fn scan(&self, table: Table, from: u64, limit: usize) -> Page {
        let ids = after(self.ids(table), from, limit);
        let next = ids.last().copied().filter(|_| ids.len() == limit);
        let rows = ids.into_iter().flat_map(|id| self.rows(table, id)).collect();
        Page { rows, next }
    }

    fn ids(&self, table: Table) -> Box<dyn Iterator<Item = u64> + '_> {
        match table {
            Table::Nodes => Box::new(self.nodes.keys().map(|ino| ino.0)),
            Table::Dirs => {
                let named = self.dirs.iter().filter(|(_, dir)| !dir.names.is_empty());
                Box::new(named.map(|(ino, _)| ino.0))
            }
            Table::DirStats => {
                let counted = self.dirs.iter().filter(|(_, dir)| dir.stats.is_some());
                Box::new(counted.map(|(ino, _)| ino.0))
            }
            Table::DirQuotas => Box::new(self.quotas.keys().filter_map(|holder| match holder {
                Holder::Dir(ino) => Some(ino.0),
                _ => None,
            })),
            // One more than who it is: 0 is where a scan begins.
            Table::UserQuotas => Box::new(self.quotas.keys().filter_map(|holder| match holder {
                Holder::User(uid) => Some(u64::from(*uid) + 1),
                _ => None,
            })),
            Table::GroupQuotas => Box::new(self.quotas.keys().filter_map(|holder| match holder {
                Holder::Group(gid) => Some(u64::from(*gid) + 1),
                _ => None,
            })),
            Table::Chunks => Box::new(self.chunks.keys().map(|ino| ino.0)),
            Table::SliceRefs => Box::new(self.slice_refs.keys().copied()),
            Table::Parents => Box::new(self.parents.keys().map(|ino| ino.0)),
            Table::Sustained => Box::new(self.sustained.keys().copied()),
            Table::Queued => Box::new(self.queue.keys().map(|ino| ino.0)),
            Table::Delayed => Box::new(self.delayed.keys().copied()),
        }
    }

    fn quota(&self, holder: Holder) -> Row {
        Row::Quota(holder, self.quotas[&holder])
    }

    /// The rows of one id, which is there.
    fn rows(&self, table: Table, id: u64) -> Vec<Row> {
        let ino = Ino(id);
        match table {
            Table::Nodes => vec![Row::Node(ino, self.nodes[&ino].clone())],
            Table::Dirs => vec![Row::Dir(ino)],
            Table::DirStats => {
                self.dirs[&ino].stats.into_iter().map(|stats| Row::DirStats(ino, stats)).collect()
            }
            Table::DirQuotas => vec![self.quota(Holder::Dir(ino))],
            Table::UserQuotas => vec![self.quota(Holder::User((id - 1) as u32))],
            Table::GroupQuotas => vec![self.quota(Holder::Group((id - 1) as u32))],
            Table::Chunks => {
                let lists = self.chunks[&ino].iter();
                lists.map(|(index, records)| Row::Chunk(ino, *index, records.clone())).collect()
            }
            Table::SliceRefs => {
                let (size, count) = self.slice_refs[&id];
                vec![Row::SliceRef(id, size, count)]
            }
            Table::Parents => {
                let parents = self.parents[&ino].iter();
                parents.map(|(dir, links)| Row::Parent(ino, *dir, *links)).collect()
            }
            Table::Sustained => {
                self.sustained[&id].iter().map(|ino| Row::Sustained(id, *ino)).collect()
            }
            Table::Queued => {
                let (length, at) = self.queue[&ino];
                vec![Row::Queued(ino, length, at)]
            }
            Table::Delayed => vec![Row::Delayed(self.delayed[&id].clone())],
        }
    }
}
