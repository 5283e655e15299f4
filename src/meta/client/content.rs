//! What a file is made of: slices, length, holes, shared ranges, and their end.

use rustix::io::Errno;

use super::{Meta, SLICE_BATCH, node_in, now};
use crate::meta::engine::Local;
use crate::meta::overlay::overlay;
use crate::meta::plan::content::{by_chunk, fallocate, push, push_inside, share, truncate};
use crate::meta::slices::{MetaError, NewSlices, Slices};
use crate::meta::txn::{Commit, Counter, Expect, Key, Mutation, Outcome, Value};
use crate::types::{Attr, CHUNK_BYTES, Ino, SliceId, SliceRecord};

/// Chunk lists, and reference counts, asked for in one fetch.
const CHUNKS_AT_A_TIME: usize = 256;

impl Meta {
    /// Change the length; the attributes afterwards.
    pub async fn truncate(&self, ino: Ino, length: u64) -> Result<Attr, MetaError> {
        let rules = self.shared.rules();
        let (before, nodes) = self
            .decide_warm(&[Key::Node(ino)], |found| {
                let node = node_in(&found[0])?;
                Ok((truncate(ino, node, length, &rules, now())?, node.clone()))
            })
            .await?;
        Ok(self.afterwards(ino, nodes, before))
    }

    /// Extend, punch or zero a range; the attributes afterwards.
    pub async fn fallocate(
        &self,
        ino: Ino,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> Result<Attr, MetaError> {
        let rules = self.shared.rules();
        let (before, nodes) = self
            .decide_warm(&[Key::Node(ino)], |found| {
                let node = node_in(&found[0])?;
                Ok((Some(fallocate(ino, node, (offset, len), mode, &rules, now())?), node.clone()))
            })
            .await?;
        Ok(self.afterwards(ino, nodes, before))
    }

    /// Share a range of one file with another; no data moves. Bytes copied.
    pub async fn copy_range(
        &self,
        (from, offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        len: u64,
    ) -> Result<u64, MetaError> {
        let source = self.node(from).await?;
        let end = source.length.min(offset.saturating_add(len));
        if offset >= end {
            return Ok(0);
        }
        let mut keys = vec![Key::Node(to)];
        let chunks: Vec<_> = by_chunk(offset, end).collect();
        keys.extend(chunks.iter().map(|(index, _, _)| Key::Chunk(from, *index)));
        let rules = self.shared.rules();
        let done = self.decide(&keys, |found| {
            let mut pieces = Vec::new();
            let mut expects = Vec::new();
            for ((index, pos, len), value) in chunks.iter().zip(&found[1..]) {
                let Value::Chunk(records) = value else { unreachable!("a chunk was asked for") };
                if from != to {
                    expects.push(Expect::ChunkPrefix(from, *index, records.clone()));
                }
                let start = u64::from(*index) * CHUNK_BYTES + pos;
                let at = to_offset + (start - offset);
                pieces.extend(
                    clipped(records, *pos, *len)
                        .into_iter()
                        .map(|(skip, piece)| (at + skip, piece)),
                );
            }
            let range = (to_offset, end - offset);
            Ok((
                Some(share((to, node_in(&found[0])?), range, &pieces, expects, &rules, now())?),
                (),
            ))
        });
        done.await?;
        self.shared.seen.forget_node(to);
        Ok(end - offset)
    }

    /// Deleted files whose data waits since before `before`.
    pub async fn queued_files(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<(Ino, u64)>, MetaError> {
        Ok(self.engine.queued_files(before, limit).await?)
    }
}

/// Visible pieces of `pos .. pos + len`, holes included: distance from `pos`, record.
fn clipped(records: &[SliceRecord], pos: u64, len: u64) -> Vec<(u64, SliceRecord)> {
    let mut under = vec![SliceRecord { pos: 0, id: 0, size: 0, off: 0, len: CHUNK_BYTES as u32 }];
    under.extend_from_slice(records);
    overlay(&under)
        .into_iter()
        .filter_map(|piece| {
            let start = u64::from(piece.pos).max(pos);
            let end = (u64::from(piece.pos) + u64::from(piece.len)).min(pos + len);
            let cut = (start - u64::from(piece.pos)) as u32;
            let off = if piece.id == 0 { 0 } else { piece.off + cut };
            (start < end)
                .then(|| (start - pos, SliceRecord { off, len: (end - start) as u32, ..piece }))
        })
        .collect()
}

impl Slices for Meta {
    fn next_slice_id(&self) -> Local<'_, Result<SliceId, MetaError>> {
        Box::pin(self.next_id(&self.shared.slices, Counter::NextChunk, SLICE_BATCH))
    }

    fn chunk(&self, ino: Ino, chunk: u32) -> Local<'_, Result<Vec<SliceRecord>, MetaError>> {
        Box::pin(async move {
            match self.engine.fetch(&[Key::Chunk(ino, chunk)]).await?.into_iter().next() {
                Some(Value::Chunk(records)) => {
                    if records.is_empty() {
                        // A hole, or a file that another client deleted.
                        self.node(ino).await?;
                    }
                    Ok(records)
                }
                other => unreachable!("a chunk was asked for, not {other:?}"),
            }
        })
    }

    fn push(&self, slices: NewSlices) -> Local<'_, Result<Attr, MetaError>> {
        Box::pin(async move {
            self.writable()?;
            let (ino, rules) = (slices.ino, self.shared.rules());
            if rules.capacity > 0 {
                let plan = |found: &[Value]| {
                    let commit = push_inside(slices.clone(), node_in(&found[0])?, &rules, now());
                    Ok((Some(commit), ()))
                };
                let (_, nodes) = self.decide_warm([Key::Node(ino)], plan).await?;
                return self.pushed(ino, nodes);
            }
            match self.engine.commit(push(slices, now())).await? {
                Outcome::Applied(nodes) => self.pushed(ino, nodes),
                Outcome::Conflict(_) => Err(Errno::NOENT.into()),
            }
        })
    }

    fn drop_chunks(
        &self,
        files: Vec<(Ino, u64)>,
    ) -> Local<'_, Result<Vec<(SliceId, u32)>, MetaError>> {
        Box::pin(async move {
            let mut freed = Vec::new();
            let mut places = files.iter().flat_map(|(ino, length)| {
                (0..length.div_ceil(CHUNK_BYTES) as u32).map(|index| (*ino, index))
            });
            loop {
                let some: Vec<_> = places.by_ref().take(CHUNKS_AT_A_TIME).collect();
                if some.is_empty() {
                    break;
                }
                self.drop_lists(&some, &mut freed).await?;
            }
            freed.sort_unstable();
            freed.dedup();
            self.unreferenced(freed).await
        })
    }

    fn forget_slices(
        &self,
        files: Vec<(Ino, u64)>,
        slices: Vec<(SliceId, u32)>,
    ) -> Local<'_, Result<(), MetaError>> {
        Box::pin(async move {
            let forget = slices.into_iter().map(|(id, size)| Mutation::ForgetSlice(id, size));
            let unqueue = files.into_iter().map(|(ino, length)| Mutation::UnqueueFile(ino, length));
            let mutations = forget.chain(unqueue).collect();
            self.engine.commit(Commit { mutations, ..Commit::default() }).await?;
            Ok(())
        })
    }
}

impl Meta {
    /// The attributes after slices were appended.
    fn pushed(&self, ino: Ino, nodes: Vec<Option<Attr>>) -> Result<Attr, MetaError> {
        let attr = nodes.into_iter().next().flatten().ok_or(Errno::NOENT)?;
        self.shared.seen.node(ino, &attr);
        Ok(attr)
    }

    /// Drop these chunk lists together, or one by one if somebody still appends to one of them.
    async fn drop_lists(
        &self,
        places: &[(Ino, u32)],
        freed: &mut Vec<(SliceId, u32)>,
    ) -> Result<(), MetaError> {
        let keys: Vec<_> = places.iter().map(|(ino, index)| Key::Chunk(*ino, *index)).collect();
        let lists = self.engine.fetch(&keys).await?;
        let mut drops = Vec::new();
        for ((ino, index), list) in places.iter().zip(lists) {
            let Value::Chunk(records) = list else { unreachable!("a chunk was asked for") };
            let slices = records.iter().filter(|record| record.id > 0);
            freed.extend(slices.map(|record| (record.id, record.size)));
            if !records.is_empty() {
                drops.push(drop_list(*ino, *index, records));
            }
        }
        let mut together = Commit::default();
        for commit in &drops {
            together.expects.extend_from_slice(&commit.expects);
            together.mutations.extend_from_slice(&commit.mutations);
        }
        if let Outcome::Conflict(_) = self.engine.commit(together).await? {
            for commit in drops {
                self.engine.commit(commit).await?;
            }
        }
        Ok(())
    }

    /// Those of the slices that no record refers to.
    async fn unreferenced(
        &self,
        slices: Vec<(SliceId, u32)>,
    ) -> Result<Vec<(SliceId, u32)>, MetaError> {
        let mut gone = Vec::with_capacity(slices.len());
        for some in slices.chunks(CHUNKS_AT_A_TIME) {
            let keys: Vec<_> = some.iter().map(|(id, size)| Key::SliceRef(*id, *size)).collect();
            let counts = self.engine.fetch(&keys).await?;
            let unused = |value: &Value| matches!(value, Value::SliceRef(count) if *count <= 0);
            let found = some.iter().zip(&counts).filter(|(_, count)| unused(count));
            gone.extend(found.map(|(slice, _)| *slice));
        }
        Ok(gone)
    }
}

/// Drop a chunk's list if it is still this one; its slices lose a reference each.
fn drop_list(ino: Ino, index: u32, records: Vec<SliceRecord>) -> Commit {
    let mut mutations = vec![Mutation::DelChunk(ino, index)];
    let slices = records.iter().filter(|record| record.id > 0);
    mutations.extend(slices.map(|record| Mutation::AddSliceRef(record.id, record.size, -1)));
    Commit { expects: vec![Expect::ChunkPrefix(ino, index, records)], mutations, returns: vec![] }
}
