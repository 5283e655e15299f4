//! The dirty state of one file: its slices per chunk, in order of creation, and its lists.
//!
//! Owns which slice takes a write, when a slice seals, which may be committed next, and the
//! committed lists as far as they are known. Plain moves; `shared` puts them behind a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::compaction::Weight;
use super::error::DataError;
use super::geometry::{Span, parts};
use super::levels::Uncommitted;
use super::notes::Note;
use super::overlay::{Overlay, Piece};
use super::prefetch::Sessions;
use super::slice::{Block, Noted, SealedBlock, Slice, Source};
use crate::meta::NewSlices;
use crate::object::{BlockKey, Layout};
use crate::pages::Pool;
use crate::types::{Attr, CHUNK_BYTES, Ino, SliceId, SliceRecord, Time};

/// Newest slices of a chunk that stay open though writes go elsewhere.
const OPEN_NEWEST: usize = 4;
/// Uncommitted slices a file may have; more writes wait.
pub(super) const SLICES_MAX: usize = 1000;

/// Slices that wait for their upload and are merged at a time: fewer than a compaction looks at.
const RUN_MAX: usize = SLICES_MAX / 2;

/// Slices of a chunk committed at once.
const COMMIT_SLICES: usize = 100;

/// A committed slice as a layer; id 0 is a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Committed {
    pub id: SliceId,
    pub size: u32,
}

/// What is visible of a chunk by its committed list.
pub(super) type List = Overlay<Committed>;

#[derive(Clone, Copy)]
enum Layer {
    Committed(Committed),
    Dirty(usize),
}

#[derive(Default)]
struct Chunk {
    /// Oldest first.
    slices: Vec<Slice>,
    /// So many of the oldest are being committed.
    committing: usize,
}

/// What a write or a seal asks the caller to do.
#[derive(Default)]
pub(super) struct Step {
    /// Bytes taken.
    pub taken: u32,
    /// Blocks to be stored.
    pub blocks: Vec<SealedBlock>,
    /// The slice that was opened.
    pub opened: Option<u64>,
    /// Slices that were sealed; they may be ready without any block to store.
    pub sealed: Vec<u64>,
}

/// One write, with what is needed to take it.
pub(super) struct Incoming<'a> {
    pub span: Span,
    pub bytes: &'a [u8],
    /// Length of the file before the write.
    pub file_length: u64,
    pub now: Time,
    pub now_ns: u64,
    /// Numbers of slices. Taken under the file's lock: their order is the order of creation.
    pub next_seq: &'a AtomicU64,
    pub pool: &'a Arc<Pool>,
    pub block_bytes: u32,
}

/// What is dirty of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// First byte after all dirty data.
    pub length_end: u64,
    /// Time of the last write, or as set since.
    pub mtime: Time,
}

/// See the header.
#[derive(Default)]
pub(super) struct Extents {
    chunks: BTreeMap<u32, Chunk>,
    lists: HashMap<u32, List>,
    weights: HashMap<u32, Weight>,
    /// Moves whenever a list fetched before may be wrong.
    generation: u64,
    error: Option<DataError>,
    /// Blocks whose upload was given up: chunk, number of the slice, index.
    left: Vec<(u32, u64, u32)>,
    /// Why what is kept here is not committed yet, if it was tried.
    pub refused: Option<DataError>,
    /// Why some of what an earlier mount kept cannot be.
    missing: Option<DataError>,
    /// As the last commit left them, until somebody takes them.
    pub committed_attr: Option<Attr>,
    pub sessions: Sessions,
}

impl Extents {
    /// The error of earlier background work, told until the file is forgotten.
    pub fn sticky(&self) -> Result<(), DataError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// From now on this is told, unless another error was before it.
    pub fn fail(&mut self, error: DataError) {
        self.error.get_or_insert(error);
    }

    pub fn clear_error(&mut self) {
        self.error = None;
    }

    /// Whether nothing would be lost by forgetting this.
    pub fn is_idle(&self) -> bool {
        self.chunks.is_empty() && self.error.is_none()
    }

    /// Uncommitted slices.
    pub fn slice_count(&self) -> usize {
        self.chunks.values().map(|chunk| chunk.slices.len()).sum()
    }

    /// Take bytes of a write that lies in one chunk.
    pub fn accept(&mut self, write: &Incoming<'_>) -> Step {
        let mut step = Step::default();
        let (pos, block_bytes) = (write.span.pos, write.block_bytes);
        if write.file_length <= write.span.offset() - u64::from(pos) {
            // Whatever its list says, a chunk behind the end of the file reads as zeros.
            self.lists.entry(write.span.chunk).or_default();
        }
        let at = match self.writable(write.span, block_bytes, &mut step) {
            Some(at) => at,
            None => {
                let seq = write.next_seq.fetch_add(1, Ordering::Relaxed);
                let slices = &mut self.chunks.entry(write.span.chunk).or_default().slices;
                slices.push(Slice::new(seq, pos, write.now_ns));
                step.opened = Some(seq);
                slices.len() - 1
            }
        };
        let chunk = self.chunks.get_mut(&write.span.chunk).expect("the chunk of the slice");
        let slice = &mut chunk.slices[at];
        step.taken = slice.fill(pos, write.bytes, write.pool, block_bytes);
        slice.touched_ns = write.now_ns;
        slice.mtime = write.now;
        slice.grows |= write.span.offset() + u64::from(step.taken) > write.file_length;
        let finish = u64::from(slice.end()) == CHUNK_BYTES;
        slice.seal(write.span.chunk, block_bytes, finish, &mut step.blocks);
        if finish {
            step.sealed.push(slice.seq);
        }
        if slice.len == 0 {
            chunk.slices.remove(at);
            step.opened = None;
            self.drop_empty(write.span.chunk);
        }
        step
    }

    /// The newest slice that may take the write, unless a newer one lies over the range; older
    /// slices beyond the few newest are sealed on the way.
    fn writable(&mut self, span: Span, block_bytes: u32, step: &mut Step) -> Option<usize> {
        let chunk = self.chunks.get_mut(&span.chunk)?;
        for (age, at) in (0..chunk.slices.len()).rev().enumerate() {
            let slice = &mut chunk.slices[at];
            if slice.accepts(span.pos, block_bytes) {
                return Some(at);
            }
            if !slice.sealed && age >= OPEN_NEWEST {
                slice.seal(span.chunk, block_bytes, true, &mut step.blocks);
                step.sealed.push(slice.seq);
            }
            if slice.overlaps(span.pos, span.len) {
                return None;
            }
        }
        None
    }

    /// Seal every open slice that `which` names by its seq.
    pub fn seal(&mut self, block_bytes: u32, which: impl Fn(&Slice) -> bool) -> Step {
        let mut step = Step::default();
        for (index, chunk) in &mut self.chunks {
            for slice in chunk.slices.iter_mut().filter(|slice| !slice.sealed && which(slice)) {
                slice.seal(*index, block_bytes, true, &mut step.blocks);
                step.sealed.push(slice.seq);
            }
        }
        step
    }

    /// Whether a slice of this number is there and takes bytes.
    pub fn is_open(&self, seq: u64) -> bool {
        let mut slices = self.chunks.values().flat_map(|chunk| &chunk.slices);
        slices.any(|slice| slice.seq == seq && !slice.sealed)
    }

    /// Number of the newest slice, 0 if nothing is dirty.
    pub fn newest(&self) -> u64 {
        let newest = self.chunks.values().filter_map(|chunk| chunk.slices.last());
        newest.map(|slice| slice.seq).max().unwrap_or(0)
    }

    /// Whether every slice up to this number is committed or lost, or kept with a note.
    pub fn is_kept(&self, seq: u64) -> bool {
        let mut slices = self.chunks.values().flat_map(|chunk| &chunk.slices);
        !slices.any(|slice| slice.seq <= seq && slice.noted != Noted::Kept)
    }

    /// Whether every slice up to this number is committed or lost.
    pub fn is_settled(&self, seq: u64) -> bool {
        !self.chunks.values().any(|chunk| chunk.slices.iter().any(|slice| slice.seq <= seq))
    }

    fn find(&mut self, chunk: u32, seq: u64) -> Option<&mut Slice> {
        self.chunks.get_mut(&chunk)?.slices.iter_mut().find(|slice| slice.seq == seq)
    }

    /// The id of a slice: `fresh` unless it has one; `None` when the slice is gone.
    pub fn slice_id(&mut self, chunk: u32, seq: u64, fresh: Option<SliceId>) -> Option<SliceId> {
        let slice = self.find(chunk, seq)?;
        slice.id = slice.id.or(fresh);
        slice.id
    }

    /// A block is in the store. False if its slice is gone: the object is nobody's.
    pub fn block_stored(&mut self, chunk: u32, seq: u64, key: BlockKey) -> bool {
        let Some(slice) = self.find(chunk, seq) else { return false };
        assert_eq!(slice.id, Some(key.id), "all blocks of a slice carry its id");
        slice.stored(key);
        true
    }

    /// A block is kept on this machine; its slice is committed once it is in the store. False if its
    /// slice is gone: the block is nobody's.
    pub fn block_staged(&mut self, chunk: u32, seq: u64, key: BlockKey) -> bool {
        let Some(slice) = self.find(chunk, seq) else { return false };
        assert_eq!(slice.id, Some(key.id), "all blocks of a slice carry its id");
        slice.staged(key);
        true
    }

    /// A block that was kept is in the store.
    pub fn block_uploaded(&mut self, chunk: u32, seq: u64, key: BlockKey) {
        // A slice of that number may be another one by now: what was given up is written anew.
        if let Some(slice) = self.find(chunk, seq).filter(|slice| slice.id == Some(key.id)) {
            slice.stored(key);
        }
    }

    /// Blocks of a chunk that are asked for in the store, with the numbers of their slices.
    pub fn sought(&self, chunk: u32) -> Vec<(u64, BlockKey)> {
        let slices = self.chunks.get(&chunk).into_iter().flat_map(|chunk| &chunk.slices);
        slices.flat_map(|slice| slice.sought_blocks().map(|key| (slice.seq, key))).collect()
    }

    /// A block is neither here nor in the store: its slice is never committed. False if nobody wants it.
    pub fn block_missing(&mut self, chunk: u32, key: BlockKey, error: DataError) -> bool {
        let wanted = self.sought(chunk).iter().any(|(_, sought)| *sought == key);
        if wanted {
            self.missing.get_or_insert(error);
        }
        wanted
    }

    /// Why slices that wait are not committed, if waiting alone does not help.
    pub fn refusal(&self) -> Option<DataError> {
        self.refused.clone().or(self.missing.clone())
    }

    /// Why slices are never committed.
    pub fn missing(&self) -> Result<(), DataError> {
        self.missing.clone().map_or(Ok(()), Err)
    }

    /// Notes of slices of which all is safe and that wait for their upload; who takes them makes them.
    pub fn take_unnoted(&mut self, ino: Ino) -> Vec<Note> {
        let mut notes = Vec::new();
        for (index, chunk) in &mut self.chunks {
            for slice in &mut chunk.slices {
                if slice.noted == Noted::Not && slice.is_safe() && !slice.is_ready() {
                    slice.noted = Noted::Begun;
                    notes.push(slice.note(ino, *index));
                }
            }
        }
        notes
    }

    /// What became of a note.
    pub fn note_made(&mut self, note: &Note, kept: bool) {
        let id = Some(note.record.id);
        if let Some(slice) = self.find(note.chunk, note.seq).filter(|slice| slice.id == id) {
            slice.noted = if kept { Noted::Kept } else { Noted::Failed };
        }
    }

    /// A slice that an earlier mount kept comes back, in its place among the others.
    pub fn restore(&mut self, note: &Note, blocks: Vec<Block>, now_ns: u64) {
        let slices = &mut self.chunks.entry(note.chunk).or_default().slices;
        let at = slices.partition_point(|slice| slice.seq < note.seq);
        slices.insert(at, Slice::kept(note, blocks, now_ns));
    }

    /// The oldest slices of a chunk in a row that are kept with notes and of which nothing is in the
    /// store.
    pub fn waiting_run(&self, ino: Ino, chunk: u32) -> Vec<Note> {
        let Some(slices) = self.chunks.get(&chunk) else { return Vec::new() };
        let waits = |slice: &&Slice| slice.noted == Noted::Kept && slice.is_all_staged();
        let run = slices.slices[slices.committing..].iter().skip_while(|slice| !waits(slice));
        run.take_while(waits).take(RUN_MAX).map(|slice| slice.note(ino, chunk)).collect()
    }

    /// Where a run is, if it is still as it was and none of it is being committed.
    fn find_run(&self, run: &[Note]) -> Option<(u32, std::ops::Range<usize>)> {
        let first = run.first()?;
        let chunk = self.chunks.get(&first.chunk)?;
        let start = chunk.slices.iter().position(|slice| slice.seq == first.seq)?;
        let there = chunk.slices.get(start..start + run.len())?;
        let same = |(slice, note): (&Slice, &Note)| {
            slice.seq == note.seq && slice.id == Some(note.record.id)
        };
        let whole = start >= chunk.committing && there.iter().zip(run).all(same);
        whole.then_some((first.chunk, start..start + run.len()))
    }

    /// One slice takes the place of a run. Ids of the old slices, and their blocks; `None` if the run
    /// is not there as it was.
    pub fn replace_run(
        &mut self,
        run: &[Note],
        (note, blocks): (&Note, Vec<Block>),
        now_ns: u64,
    ) -> Option<(Vec<SliceId>, Vec<BlockKey>)> {
        let (chunk, range) = self.find_run(run)?;
        let chunk = self.chunks.get_mut(&chunk).expect("it was found");
        let new = Slice::kept(note, blocks, now_ns);
        let old: Vec<Slice> = chunk.slices.splice(range, [new]).collect();
        Some((ids_of(&old), old.iter().flat_map(Slice::stored_blocks).collect()))
    }

    /// Slices of a run that others of it hide go, as `replace_run`.
    pub fn drop_hidden(
        &mut self,
        run: &[Note],
        hidden: &[SliceId],
    ) -> Option<(Vec<SliceId>, Vec<BlockKey>)> {
        let (chunk, range) = self.find_run(run)?;
        let chunk = self.chunks.get_mut(&chunk).expect("it was found");
        let gone = |slice: &Slice| slice.id.is_some_and(|id| hidden.contains(&id));
        let grows = chunk.slices[range.clone()].iter().any(|slice| gone(slice) && slice.grows);
        let after = chunk.slices.split_off(range.end);
        let in_run = chunk.slices.split_off(range.start);
        let (old, mut stay): (Vec<_>, Vec<_>) = in_run.into_iter().partition(gone);
        // What a hidden one grew, those over it grow now.
        stay.iter_mut().for_each(|slice| slice.grows |= grows);
        chunk.slices.extend(stay.into_iter().chain(after));
        Some((ids_of(&old), old.iter().flat_map(Slice::stored_blocks).collect()))
    }

    /// Blocks that must be uploaded before all slices up to this number are committed; with `unnoted`
    /// only those of slices that could not be noted.
    pub fn staged_blocks(&self, seq: u64, unnoted: bool) -> Vec<BlockKey> {
        let slices = self.chunks.values().flat_map(|chunk| &chunk.slices);
        let wanted = slices.filter(|s| s.seq <= seq && (!unnoted || s.noted == Noted::Failed));
        wanted.flat_map(Slice::staged_blocks).collect()
    }

    /// What is not committed, block by block.
    pub fn uncommitted(&self, block_bytes: u32) -> Uncommitted {
        let mut all = Uncommitted { newest: self.newest(), ..Uncommitted::default() };
        let slices = || self.chunks.values().flat_map(|chunk| &chunk.slices);
        let loose = |slice: &&Slice| slice.loose_blocks(block_bytes).next().is_some();
        all.born_ns = slices().filter(loose).map(|slice| slice.born_ns).min().unwrap_or(0);
        for slice in slices() {
            all.loose.extend(slice.loose_blocks(block_bytes));
            all.staged.extend(slice.staged_blocks());
        }
        all
    }

    /// Ids of slices that are not committed.
    pub fn slice_ids(&self) -> Vec<SliceId> {
        let slices = self.chunks.values().flat_map(|chunk| &chunk.slices);
        slices.filter_map(|slice| slice.id).collect()
    }

    /// A block could not be stored: its slice is lost. Blocks of it that are in the store.
    pub fn block_failed(&mut self, chunk: u32, seq: u64, error: DataError) -> Vec<BlockKey> {
        self.error.get_or_insert(error);
        let Some(slices) = self.chunks.get_mut(&chunk).map(|chunk| &mut chunk.slices) else {
            return Vec::new();
        };
        let Some(at) = slices.iter().position(|slice| slice.seq == seq) else { return Vec::new() };
        let stored = slices.remove(at).stored_blocks().collect();
        self.drop_empty(chunk);
        stored
    }

    /// Forget all that is dirty (the file is deleted). Blocks in the store that are nobody's now.
    pub fn discard(&mut self) -> Vec<BlockKey> {
        let mut stored = Vec::new();
        for chunk in self.chunks.values_mut() {
            for slice in chunk.slices.drain(chunk.committing..) {
                stored.extend(slice.stored_blocks());
            }
        }
        self.chunks.retain(|_, chunk| !chunk.slices.is_empty());
        self.weights.clear();
        self.missing = None;
        stored
    }

    fn drop_empty(&mut self, chunk: u32) {
        if self.chunks.get(&chunk).is_some_and(|chunk| chunk.slices.is_empty()) {
            self.chunks.remove(&chunk);
        }
    }

    /// The next slices to commit, marked as being committed: the oldest of a chunk, all stored.
    /// One that grows the file waits for older ones in other chunks that do.
    pub fn next_commit(&mut self, ino: Ino) -> Option<NewSlices> {
        let growing: Vec<(u32, u64)> = self.oldest_growing().collect();
        for (index, chunk) in self.chunks.iter_mut().filter(|(_, chunk)| chunk.committing == 0) {
            let in_turn = |slice: &&Slice| {
                let others = growing.iter().filter(|(other, _)| other != index);
                let first = others.map(|(_, seq)| *seq).min().is_none_or(|seq| slice.seq < seq);
                slice.is_ready() && (first || !slice.grows)
            };
            let ready = chunk.slices.iter().take(COMMIT_SLICES).take_while(in_turn);
            let (records, mtimes): (Vec<_>, Vec<_>) =
                ready.map(|slice| (slice.record(), slice.mtime)).unzip();
            let Some(mtime) = mtimes.into_iter().max() else { continue };
            chunk.committing = records.len();
            return Some(NewSlices { ino, chunk: *index, records, mtime });
        }
        None
    }

    /// Per chunk, the number of its oldest slice that grows the file.
    fn oldest_growing(&self) -> impl Iterator<Item = (u32, u64)> {
        self.chunks.iter().filter_map(|(index, chunk)| {
            let oldest = chunk.slices.iter().find(|slice| slice.grows)?;
            Some((*index, oldest.seq))
        })
    }

    /// Whether slices that are being committed have notes: they are not given up.
    pub fn commits_noted(&self, chunk: u32) -> bool {
        let chunk = self.chunks.get(&chunk).expect("a chunk stays while it commits");
        chunk.slices[..chunk.committing].iter().any(|slice| slice.noted == Noted::Kept)
    }

    /// What became of a commit; on failure the blocks of its slices.
    pub fn committed(
        &mut self,
        chunk_index: u32,
        records: &[SliceRecord],
        result: Result<(), DataError>,
    ) -> Vec<BlockKey> {
        let chunk = self.chunks.get_mut(&chunk_index).expect("a chunk stays while it commits");
        assert_eq!(std::mem::take(&mut chunk.committing), records.len(), "a commit ends once");
        let done: Vec<Slice> = chunk.slices.drain(..records.len()).collect();
        let in_order = done.iter().zip(records).all(|(slice, record)| slice.record() == *record);
        assert!(in_order, "slices of a chunk commit in order of creation");
        self.drop_empty(chunk_index);
        self.generation += 1;
        match result {
            Ok(()) => {
                self.weight_mut(chunk_index).push(records);
                if let Some(list) = self.lists.get_mut(&chunk_index) {
                    records.iter().for_each(|record| list.paint(piece_of(record)));
                }
                Vec::new()
            }
            Err(error) => {
                self.error.get_or_insert(error);
                done.iter().flat_map(Slice::stored_blocks).collect()
            }
        }
    }

    /// The upload of a block was given up.
    pub fn leave_block(&mut self, chunk: u32, seq: u64, index: u32) {
        self.left.push((chunk, seq, index));
    }

    /// A commit was given up; whether it went through is not known.
    pub fn leave_commit(&mut self, chunk: u32) {
        let chunk = self.chunks.get_mut(&chunk).expect("a chunk stays while it commits");
        chunk.committing = 0;
    }

    /// Blocks to be stored again after their uploads were given up.
    pub fn take_left(&mut self) -> Vec<SealedBlock> {
        let left = std::mem::take(&mut self.left);
        let blocks = left.into_iter().filter_map(|(chunk, seq, index)| {
            let pages = self.find(chunk, seq)?.sealed_pages(index)?;
            Some(SealedBlock { chunk, seq, index, pages })
        });
        blocks.collect()
    }

    /// What is dirty, if anything.
    pub fn pending(&self) -> Option<Pending> {
        let mut pending: Option<Pending> = None;
        for (index, chunk) in &self.chunks {
            for slice in &chunk.slices {
                let end = u64::from(*index) * CHUNK_BYTES + u64::from(slice.end());
                let so_far = pending.get_or_insert(Pending { length_end: end, mtime: slice.mtime });
                so_far.length_end = so_far.length_end.max(end);
                so_far.mtime = so_far.mtime.max(slice.mtime);
            }
        }
        pending
    }

    /// Later commits carry this time unless more is written.
    pub fn set_mtime(&mut self, mtime: Time) {
        for slice in self.chunks.values_mut().flat_map(|chunk| &mut chunk.slices) {
            slice.mtime = mtime;
            // What is kept says another time: it is noted anew.
            slice.noted = Noted::Not;
        }
    }

    /// Forget committed lists: of one chunk, or all.
    pub fn drop_lists(&mut self, chunk: Option<u32>) {
        self.generation += 1;
        match chunk {
            Some(chunk) => drop(self.lists.remove(&chunk)),
            None => self.lists.clear(),
        }
    }

    /// Take this before a list is fetched.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is known of the length of a chunk's list.
    pub fn weight(&self, chunk: u32) -> Weight {
        self.weights.get(&chunk).copied().unwrap_or_default()
    }

    pub fn weight_mut(&mut self, chunk: u32) -> &mut Weight {
        self.weights.entry(chunk).or_default()
    }

    /// Whether what was appended to lists is to be remembered.
    pub fn has_weight(&self) -> bool {
        self.weights.values().any(|weight| weight.matters())
    }

    /// Whether any committed list is known.
    pub fn has_lists(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Keep a fetched list unless something moved meanwhile; how many pieces of it are visible.
    pub fn keep_list(
        &mut self,
        chunk: u32,
        generation: u64,
        records: &[SliceRecord],
    ) -> Result<usize, DataError> {
        let list = list_of(chunk, records)?;
        let pieces = list.len();
        if self.generation == generation {
            self.weight_mut(chunk).fetched(records);
            self.lists.insert(chunk, list);
        }
        Ok(pieces)
    }

    /// Where the bytes of a span are, dirty data above committed; `None` if the list is needed
    /// and not known.
    pub fn sources(&self, span: Span, layout: Layout) -> Option<Vec<Source>> {
        let (start, end) = (span.pos, span.pos + span.len);
        let dirty = self.chunks.get(&span.chunk).map_or(&[][..], |chunk| &chunk.slices);
        let list = self.lists.get(&span.chunk);
        let mut sources = Vec::new();
        if dirty.is_empty() {
            for (piece, len) in list?.cover(start, end) {
                committed_sources(piece, len, layout, &mut sources);
            }
            return Some(sources);
        }
        let mut seen: Overlay<Layer> = Overlay::default();
        for Piece { pos, len, off, layer } in list.iter().flat_map(|list| list.visible(start, end))
        {
            seen.paint(Piece { pos, len, off, layer: Layer::Committed(layer) });
        }
        for (at, slice) in dirty.iter().enumerate().filter(|(_, s)| s.overlaps(start, span.len)) {
            seen.paint(Piece { pos: slice.pos, len: slice.len, off: 0, layer: Layer::Dirty(at) });
        }
        for (piece, len) in seen.cover(start, end) {
            match piece {
                None if list.is_none() => return None,
                Some(Piece { off, layer: Layer::Dirty(at), .. }) => {
                    dirty[at].sources(off, len, layout.block_bytes(), &mut sources);
                }
                Some(Piece { pos, len, off, layer: Layer::Committed(layer) }) => {
                    let piece = Piece { pos, len, off, layer };
                    committed_sources(Some(piece), len, layout, &mut sources);
                }
                None => sources.push(Source::Zero(len)),
            }
        }
        Some(sources)
    }
}

fn ids_of(slices: &[Slice]) -> Vec<SliceId> {
    slices.iter().filter_map(|slice| slice.id).collect()
}

/// Whether a record lies inside its chunk and its slice; other clients wrote it.
pub(super) fn is_sound(record: &SliceRecord) -> bool {
    let end = |start: u32, len: u32| u64::from(start) + u64::from(len);
    let in_slice = record.id == 0
        || (end(record.off, record.len) <= u64::from(record.size)
            && u64::from(record.size) <= CHUNK_BYTES);
    in_slice && end(record.pos, record.len) <= CHUNK_BYTES
}

/// What is visible of a chunk by these records.
fn list_of(chunk: u32, records: &[SliceRecord]) -> Result<List, DataError> {
    if let Some(wrong) = records.iter().find(|record| !is_sound(record)) {
        return Err(DataError::Io(format!("chunk {chunk} lists an impossible {wrong:?}")));
    }
    let mut list = List::default();
    records.iter().for_each(|record| list.paint(piece_of(record)));
    Ok(list)
}

/// Where the bytes of a chunk before `end` are by these records.
pub(super) fn listed_sources(
    chunk: u32,
    records: &[SliceRecord],
    end: u32,
    layout: Layout,
) -> Result<Vec<Source>, DataError> {
    let mut sources = Vec::new();
    for (piece, len) in list_of(chunk, records)?.cover(0, end) {
        committed_sources(piece, len, layout, &mut sources);
    }
    Ok(sources)
}

fn piece_of(record: &SliceRecord) -> Piece<Committed> {
    let layer = Committed { id: record.id, size: record.size };
    Piece { pos: record.pos, len: record.len, off: record.off, layer }
}

/// Where the bytes of a committed piece are; holes and gaps are zeros.
pub(super) fn committed_sources(
    piece: Option<Piece<Committed>>,
    len: u32,
    layout: Layout,
    into: &mut Vec<Source>,
) {
    let Some(piece) = piece.filter(|piece| piece.layer.id != 0) else {
        into.push(Source::Zero(len));
        return;
    };
    let Committed { id, size } = piece.layer;
    for part in parts(piece.off, len, layout.block_bytes()) {
        into.push(Source::Block(layout.block(id, size, part.index), part.off, part.len));
    }
}
