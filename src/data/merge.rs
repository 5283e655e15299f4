//! Slices that wait for their upload become few: one object instead of many, and nothing is sent that
//! newer slices hide.
//!
//! Owns the merge of what metadata lists already (`--publish local`; the commit is a compaction's) and
//! of what it does not list yet (`--publish uploaded`; the file's own state is changed). Only bytes
//! that are on this machine are read. Which slices are merged is `meta`'s choice.

use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use super::Data;
use super::compaction::{Compactions, Looked, Target};
use super::error::DataError;
use super::notes::Note;
use super::shared::File;
use super::slice::Block;
use super::staged::Owner;
use crate::meta::Compaction;
use crate::object::BlockKey;
use crate::stdx::monotonic_ns;
use crate::types::{CHUNK_BYTES, Ino, Publish, SliceId, SliceRecord};
use crate::uring;

/// Slices of a chunk that wait, kept with notes, from which on they are merged whether or not their
/// upload is near: a file may have no more than some.
const WAITING_MANY: u32 = 100;

impl Data {
    /// Whether listed slices of a chunk wait for their upload.
    pub(super) fn waits_in_list(&self, ino: Ino, chunk: u32) -> bool {
        let config = &self.shared.config;
        config.publish == Publish::Local && self.shared.staged.count(ino, chunk) > 0
    }

    /// Merge slices of the chunk that `owner` is in, if that is worth it.
    pub(super) async fn merge_waiting(self: &Rc<Self>, owner: Owner, target: Target) {
        let Owner { ino, chunk, seq } = owner;
        let Some(_running) = Compactions::in_turn(&self.shared, ino, chunk).await else { return };
        let file = self.shared.file(ino);
        let merged = match seq {
            0 => self.merge_in_list(&file, chunk, target).await,
            _ => self.merge_noted(&file, chunk, target).await,
        };
        if let Err(error) = merged {
            tracing::debug!(ino = ino.0, chunk, %error, "not merged");
        }
    }

    /// Merge slices that wait to be committed, once they are many.
    pub(super) fn merge_if_many(self: &Rc<Self>, file: &Arc<File>, notes: &[Note]) {
        let Some(note) = notes.last() else { return };
        let (ino, chunk, seq) = (note.ino, note.chunk, note.seq);
        let count = self.shared.staged.count(ino, chunk);
        if count < WAITING_MANY || count % WAITING_MANY >= notes.len() as u32 {
            return;
        }
        let (data, file) = (Rc::clone(self), Arc::clone(file));
        uring::spawn(async move {
            data.merge_waiting(Owner { ino, chunk, seq }, Target::Staging).await;
            file.moved.open();
        });
    }

    async fn merge_in_list(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
        target: Target,
    ) -> Result<(), DataError> {
        let records = self.chunk(file.ino, chunk).await?;
        self.merge_listed(file, chunk, &records, target).await.map(drop)
    }

    /// Merge what waits of a chunk that lists these records.
    pub(super) async fn merge_listed(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
        records: &[SliceRecord],
        target: Target,
    ) -> Result<Looked, DataError> {
        let here = |record: &SliceRecord| self.is_here(record);
        let Some(compaction) = Compaction::of_unsent(records, here) else {
            return Ok(Looked::Short);
        };
        self.carry_out(file, chunk, compaction, (records.len(), target)).await
    }

    /// Whether all of a slice waits for its upload.
    fn is_here(&self, record: &SliceRecord) -> bool {
        let config = &self.shared.config;
        let Some(staging) = &config.staging else { return false };
        let mut blocks = config.layout.blocks(record.id, record.size);
        blocks.all(|key| staging.standing(&key).is_some())
    }

    /// When the oldest block of these pieces was kept, if any is.
    pub(super) fn oldest_ms(&self, pieces: &[SliceRecord]) -> Option<u64> {
        let config = &self.shared.config;
        let staging = config.staging.as_ref()?;
        let slices = pieces.iter().filter(|piece| piece.id > 0);
        let blocks = slices.flat_map(|piece| config.layout.blocks(piece.id, piece.size));
        blocks.filter_map(|key| staging.kept_ms(&key)).min()
    }

    /// Merge what metadata does not list yet. The notes of old slices go after that of the new one is
    /// kept, so that a crash at any point finds either.
    async fn merge_noted(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
        target: Target,
    ) -> Result<(), DataError> {
        let Some(staging) = self.shared.config.staging.clone() else { return Ok(()) };
        let run = file.with(|extents| extents.waiting_run(file.ino, chunk));
        let Some(compaction) = compaction_of(&run) else { return Ok(()) };
        let mut made = None;
        if let [first, ..] = compaction.pieces() {
            let kept_ms = self.oldest_ms(compaction.pieces());
            let id = self.slices.next_slice_id().await?;
            let (pos, len) = (first.pos, compaction.size());
            let record = SliceRecord { pos, id, size: len, off: 0, len };
            let note = merged_note(&run, record);
            let owner = Owner { ino: file.ino, chunk, seq: note.seq };
            let at = (target, kept_ms);
            let stored = self.store_merged((owner, id), compaction.pieces(), at).await?;
            let Some(stored) = stored else { return Ok(()) };
            if let Err(error) = staging.note(id, &note.encode()) {
                self.shared.staged.forget(id);
                self.remove_later(stored);
                return Err(error.into());
            }
            made = Some((note, stored));
        }
        let hidden = hidden_of(&run, &compaction);
        self.replace_waiting(file, (&run, &hidden), made);
        Ok(())
    }

    /// Put a merged slice in the place of a run of them; without one, take those out that are hidden.
    fn replace_waiting(
        self: &Rc<Self>,
        file: &Arc<File>,
        (run, hidden): (&[Note], &[SliceId]),
        made: Option<(Note, Vec<BlockKey>)>,
    ) {
        let new = made.map(|(note, keys)| (note, self.blocks_of_note_at(&note, &keys)));
        let fresh = new.as_ref().map(|(note, _)| *note);
        let old = file.with(|extents| match new {
            Some((note, blocks)) => extents.replace_run(run, (&note, blocks), monotonic_ns()),
            None => extents.drop_hidden(run, hidden),
        });
        let Some((ids, blocks)) = old else {
            // It moved meanwhile: the new one is nobody's.
            if let Some(note) = fresh {
                self.let_notes_go([note.record.id]);
                let layout = self.shared.config.layout;
                self.remove_later(layout.blocks(note.record.id, note.record.size).collect());
            }
            return;
        };
        self.let_notes_go(ids);
        // At once: some may be in hand, about to be sent.
        let stored = blocks.into_iter().filter(|key| !self.let_staged_go(key));
        self.remove_later(stored.collect());
        file.moved.open();
        // A commit may have to wait for the right to this chunk, which is given back first.
        let (data, file) = (Rc::clone(self), Arc::clone(file));
        uring::spawn(async move { data.commit_ready(&file).await });
    }

    /// The blocks of a new slice: here, or in the store already.
    fn blocks_of_note_at(&self, note: &Note, keys: &[BlockKey]) -> Vec<Block> {
        let here = |key: &BlockKey| {
            let staging = self.shared.config.staging.as_ref();
            staging.is_some_and(|staging| staging.standing(key).is_some())
        };
        assert!(keys.iter().all(|key| key.id == note.record.id), "blocks of one slice");
        let blocks = keys.iter();
        blocks
            .map(|key| if here(key) { Block::Staged(*key) } else { Block::Stored(*key) })
            .collect()
    }
}

/// What to do with a run. Below it lies what is listed, and older slices: it may show through anywhere.
fn compaction_of(run: &[Note]) -> Option<Compaction> {
    let whole = CHUNK_BYTES as u32;
    let below = SliceRecord { pos: 0, id: SliceId::MAX, size: whole, off: 0, len: whole };
    let records: Vec<_> = iter::once(below).chain(run.iter().map(|note| note.record)).collect();
    Compaction::of_unsent(&records, |record| record.id != below.id)
}

/// The note of the slice that a run becomes: in the place of its first, with all that others wait for.
fn merged_note(run: &[Note], record: SliceRecord) -> Note {
    let first = run.first().expect("a run that is merged has slices");
    let mtime = run.iter().map(|note| note.mtime).max().unwrap_or(first.mtime);
    Note { record, mtime, grows: run.iter().any(|note| note.grows), ..*first }
}

/// Slices of a run of which nothing is visible.
fn hidden_of(run: &[Note], compaction: &Compaction) -> Vec<SliceId> {
    let shown = compaction.shown();
    let hidden = run.iter().filter(|note| !shown.contains(&note.record.id));
    hidden.map(|note| note.record.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Time;

    fn note(seq: u64, pos: u32, len: u32) -> Note {
        let record = SliceRecord { pos, id: 100 + seq, size: len, off: 0, len };
        let mtime = Time { sec: seq as i64, nsec: 0 };
        Note { ino: Ino(7), chunk: 0, seq, record, mtime, grows: seq == 2 }
    }

    #[test]
    fn a_run_without_gaps_becomes_one_in_the_place_of_its_first() {
        let run = [note(1, 10, 50), note(2, 60, 50), note(3, 30, 40)];
        let compaction = compaction_of(&run).unwrap();
        assert_eq!((compaction.size(), compaction.pieces()[0].pos), (100, 10));
        let merged = merged_note(&run, note(9, 10, 100).record);
        assert_eq!((merged.seq, merged.record.id, merged.grows), (1, 109, true));
        assert_eq!(merged.mtime.sec, 3);
    }

    #[test]
    fn what_lies_below_shows_through_gaps_as_before() {
        assert_eq!(compaction_of(&[note(1, 10, 50), note(2, 100, 50)]), None);
        let run = [note(1, 10, 50), note(2, 100, 50), note(3, 10, 50)];
        let compaction = compaction_of(&run).unwrap();
        assert_eq!((compaction.pieces(), hidden_of(&run, &compaction)), (&[][..], vec![101]));
    }
}
