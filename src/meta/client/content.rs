//! What a file is made of: slices, length, holes, shared ranges, and their end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::{Meta, SLICE_BATCH, TRIES, node_in, now};
use crate::limits::FORGOTTEN_TOGETHER_MAX;
use crate::meta::engine::Local;
use crate::meta::overlay::overlay;
use crate::meta::plan::compact::{Compaction, replace};
use crate::meta::plan::content::{
    by_chunk, fallocate, fallocate_asks, push, push_inside, share, truncate, truncate_asks,
};
use crate::meta::slices::{MetaError, NewSlices, SizedSlice, Slices};
use crate::meta::txn::{Commit, Counter, Expect, Key, Mutation, Outcome, Value};
use crate::types::{Attr, CHUNK_BYTES, Ino, SliceId, SliceRecord};
use crate::uring;

/// Chunk lists, and reference counts, asked for in one fetch.
const CHUNKS_AT_A_TIME: usize = 256;

impl Meta {
    /// Change the length; the attributes afterwards.
    pub async fn truncate(&self, ino: Ino, length: u64) -> Result<Attr, MetaError> {
        let rules = self.shared.rules();
        let (before, nodes) = self
            .decide_asking(
                &[Key::Node(ino)],
                |found| listed_key(ino, found, |node| truncate_asks(node, length)),
                |found| {
                    let node = node_in(&found[0])?;
                    let done = truncate((ino, node), length, listed_in(found), &rules, now())?;
                    Ok((done, node.clone()))
                },
            )
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
        let (rules, range) = (self.shared.rules(), (offset, len));
        let (before, nodes) = self
            .decide_asking(
                &[Key::Node(ino)],
                |found| listed_key(ino, found, |node| fallocate_asks(node, range, mode)),
                |found| {
                    let node = node_in(&found[0])?;
                    let listed = listed_in(found);
                    let done = fallocate((ino, node), range, mode, listed, &rules, now())?;
                    Ok((Some(done), node.clone()))
                },
            )
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
                // Of the same file too: a compaction would let go of what is shared here.
                expects.push(Expect::ChunkPrefix(from, *index, records.clone()));
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

/// The question which chunks have a list, where a plan for this node asks it and has no answer yet.
fn listed_key(
    ino: Ino,
    found: &[Value],
    asks: impl Fn(&Attr) -> Option<(u32, u32)>,
) -> Option<Key> {
    let [Value::Node(Some(node))] = found else { return None };
    asks(node).map(|(start, end)| Key::Chunks(ino, start, end))
}

/// The answer to it.
fn listed_in(found: &[Value]) -> Option<&[u32]> {
    match found.get(1) {
        Some(Value::Chunks(indexes)) => Some(indexes),
        _ => None,
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
    fn takes_changes(&self) -> bool {
        !self.is_held()
    }

    fn next_slice_id(&self) -> Local<'_, Result<SliceId, MetaError>> {
        Box::pin(self.next_id(&self.shared.slices, Counter::NextChunk, SLICE_BATCH))
    }

    fn tier(&self, ino: Ino) -> Local<'_, Result<u8, MetaError>> {
        Box::pin(async move { Ok(self.node(ino).await?.tier) })
    }

    fn length(&self, ino: Ino) -> Local<'_, Result<u64, MetaError>> {
        Box::pin(async move { Ok(self.node(ino).await?.length) })
    }

    fn listed_chunks(&self, ino: Ino, length: u64) -> Local<'_, Result<Vec<u32>, MetaError>> {
        Box::pin(async move {
            let listed = self.listed(&[(ino, length)]).await?;
            let inside = |index: &u32| u64::from(*index) * CHUNK_BYTES < length;
            Ok(listed.into_iter().map(|(_, index)| index).filter(inside).collect())
        })
    }

    fn chunk(&self, ino: Ino, chunk: u32) -> Local<'_, Result<Vec<SliceRecord>, MetaError>> {
        Box::pin(async move {
            match self
                .asking(self.engine.fetch(&[Key::Chunk(ino, chunk)]))
                .await?
                .into_iter()
                .next()
            {
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
            if rules.capacity > 0 || self.shared.quotas.any() {
                let plan = |found: &[Value]| {
                    let commit = push_inside(slices.clone(), node_in(&found[0])?, &rules, now())?;
                    Ok((Some(commit), ()))
                };
                let (_, nodes) = self.decide_warm([Key::Node(ino)], plan).await?;
                return self.pushed(ino, nodes);
            }
            match self.committing(self.engine.commit(push(slices, now()))).await? {
                Outcome::Applied(nodes) => self.pushed(ino, nodes),
                Outcome::Conflict(_) => Err(Errno::NOENT.into()),
            }
        })
    }

    fn compact(
        &self,
        ino: Ino,
        chunk: u32,
        compaction: Compaction,
        id: SliceId,
    ) -> Local<'_, Result<Option<Vec<SizedSlice>>, MetaError>> {
        Box::pin(async move {
            self.writable()?;
            let keeps =
                !compaction.is_unsent() && self.shared.trash_days.load(Ordering::Acquire) > 0;
            let commit = replace((ino, chunk), &compaction, id, keeps.then(|| now().sec));
            let less = commit.mutations.iter().filter_map(|mutation| match mutation {
                Mutation::AddSliceRef(id, size, n) if *n < 0 => Some((*id, *size)),
                _ => None,
            });
            let less: Vec<_> = less.collect();
            match self.committing(self.engine.commit(commit)).await? {
                Outcome::Applied(_) => Ok(Some(self.unreferenced(less).await?)),
                Outcome::Conflict(_) => Ok(None),
            }
        })
    }

    fn drop_chunks(
        &self,
        files: Vec<(Ino, u64)>,
    ) -> Local<'_, Result<Vec<(SliceId, u32)>, MetaError>> {
        Box::pin(async move {
            let mut freed = Vec::new();
            for some in files.chunks(CHUNKS_AT_A_TIME) {
                for places in self.listed(some).await?.chunks(CHUNKS_AT_A_TIME) {
                    self.drop_lists(places, &mut freed).await?;
                    // SQLite answers at once: nobody else on this core would get a turn.
                    uring::sleep(Duration::ZERO).await;
                }
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
            // Last of all: until then whoever takes up the queue does it again.
            let unqueue = files.into_iter().map(|(ino, length)| Mutation::UnqueueFile(ino, length));
            let all: Vec<_> = forget.chain(unqueue).collect();
            for some in all.chunks(FORGOTTEN_TOGETHER_MAX) {
                let commit = Commit { mutations: some.to_vec(), ..Commit::default() };
                self.committing(self.engine.commit(commit)).await?;
                // As above: others get a turn.
                uring::sleep(Duration::ZERO).await;
            }
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

    /// The chunks of these deleted files (inode, length) that have a list. Truncations leave lists
    /// behind the end; on Redis those stay for garbage collection, as with the official client:
    /// to find them, all keys would have to be searched for every file.
    pub(super) async fn listed(&self, files: &[(Ino, u64)]) -> Result<Vec<(Ino, u32)>, MetaError> {
        let chunks = |length: u64| length.div_ceil(CHUNK_BYTES).try_into().unwrap_or(u32::MAX);
        let keys: Vec<_> =
            files.iter().map(|(ino, length)| Key::Chunks(*ino, 0, chunks(*length))).collect();
        let mut places = Vec::new();
        for ((ino, _), value) in files.iter().zip(self.asking(self.engine.fetch(&keys)).await?) {
            let Value::Chunks(indexes) = value else { unreachable!("chunks were asked for") };
            places.extend(indexes.into_iter().map(|index| (*ino, index)));
        }
        Ok(places)
    }

    /// Drop these chunk lists together, or one by one if somebody still changes one of them.
    async fn drop_lists(
        &self,
        places: &[(Ino, u32)],
        freed: &mut Vec<(SliceId, u32)>,
    ) -> Result<(), MetaError> {
        if self.try_drop(places, freed).await? {
            return Ok(());
        }
        for place in places {
            let mut tries = 0..TRIES;
            while !self.try_drop(std::slice::from_ref(place), freed).await? {
                // The file stays queued, and is tried again later.
                tries.next().ok_or(Errno::AGAIN)?;
            }
        }
        Ok(())
    }

    /// Drop these chunk lists; false when one changed since it was fetched, then none is dropped.
    async fn try_drop(
        &self,
        places: &[(Ino, u32)],
        freed: &mut Vec<(SliceId, u32)>,
    ) -> Result<bool, MetaError> {
        let keys: Vec<_> = places.iter().map(|(ino, index)| Key::Chunk(*ino, *index)).collect();
        let (mut drops, mut slices) = (Commit::default(), Vec::new());
        for ((ino, index), list) in places.iter().zip(self.asking(self.engine.fetch(&keys)).await?)
        {
            let Value::Chunk(records) = list else { unreachable!("a chunk was asked for") };
            if records.is_empty() {
                continue;
            }
            drops.mutations.push(Mutation::DelChunk(*ino, *index));
            for SliceRecord { id, size, .. } in records.iter().filter(|record| record.id > 0) {
                drops.mutations.push(Mutation::AddSliceRef(*id, *size, -1));
                slices.push((*id, *size));
            }
            drops.expects.push(Expect::ChunkPrefix(*ino, *index, records));
        }
        if let Outcome::Conflict(_) = self.committing(self.engine.commit(drops)).await? {
            return Ok(false);
        }
        freed.append(&mut slices);
        Ok(true)
    }

    /// Those of the slices that no record refers to.
    pub(super) async fn unreferenced(
        &self,
        slices: Vec<(SliceId, u32)>,
    ) -> Result<Vec<(SliceId, u32)>, MetaError> {
        let mut gone = Vec::with_capacity(slices.len());
        for some in slices.chunks(CHUNKS_AT_A_TIME) {
            let keys: Vec<_> = some.iter().map(|(id, size)| Key::SliceRef(*id, *size)).collect();
            let counts = self.asking(self.engine.fetch(&keys)).await?;
            let unused = |value: &Value| matches!(value, Value::SliceRef(count) if *count <= 0);
            let found = some.iter().zip(&counts).filter(|(_, count)| unused(count));
            gone.extend(found.map(|(slice, _)| *slice));
            uring::sleep(Duration::ZERO).await;
        }
        Ok(gone)
    }
}
