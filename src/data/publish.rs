//! `--publish uploaded`: slices that are kept on this machine and not named by metadata yet.
//!
//! Owns their notes: made when all of a slice is safe, which is what a close waits for, let go after
//! its commit, and brought back into their files by the next mount. A slice with a note is never given
//! up for an error that may pass. Does not own the order of commits (`extents`, `tracker`).

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::Data;
use super::error::DataError;
use super::notes::{Note, without_replaced};
use super::shared::File;
use super::slice::Block;
use super::staged::Owner;
use crate::limits::RECOVERIES_MAX;
use crate::object::{BlockKey, StoreError};
use crate::stage::Staging;
use crate::stdx::{Permits, monotonic_ns, oneshot};
use crate::types::{Ino, Publish, SliceRecord};
use crate::uring;

/// How long a commit that was refused waits before it is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Data {
    fn publishes_late(&self) -> Option<&Arc<Staging>> {
        let config = &self.shared.config;
        config.staging.as_ref().filter(|_| config.publish == Publish::Uploaded)
    }

    /// Go on with a file after something of it is safe: what may be committed is, on the caller's future
    /// unless commits come long after what the caller waits for.
    pub(super) async fn advance(self: &Rc<Self>, file: &Arc<File>) {
        if self.publishes_late().is_none() {
            return self.commit_ready(file).await;
        }
        self.note_safe(file);
        let (data, file) = (Rc::clone(self), Arc::clone(file));
        uring::spawn(async move { data.commit_ready(&file).await });
    }

    /// Note slices all of which is safe; who closes the file waits for that.
    fn note_safe(self: &Rc<Self>, file: &Arc<File>) {
        let Some(staging) = self.publishes_late() else { return };
        let notes = file.with(|extents| extents.take_unnoted(file.ino));
        for note in &notes {
            let made = staging.note(note.record.id, &note.encode());
            if let Err(error) = &made {
                tracing::warn!(ino = file.ino.0, %error, "not noted; its close waits for the upload");
            }
            file.with(|extents| extents.note_made(note, made.is_ok()));
        }
        if !notes.is_empty() {
            file.moved.open();
            self.merge_if_many(file, &notes);
        }
    }

    /// Whether slices that are not committed for this error are kept, and committed later.
    pub(super) async fn waits_for_better(
        &self,
        file: &File,
        chunk: u32,
        error: &DataError,
    ) -> bool {
        let gone = matches!(error, DataError::Posix(Errno::NOENT));
        if gone || !file.with(|extents| extents.commits_noted(chunk)) {
            return false;
        }
        tracing::warn!(ino = file.ino.0, chunk, %error, "not committed yet; it is tried again");
        file.with(|extents| extents.refused = Some(error.clone()));
        file.moved.open();
        uring::sleep(REFUSED_PAUSE).await;
        true
    }

    /// What was kept of slices besides their blocks is needed no more. A mount that publishes at once may
    /// have notes, too: an earlier one left them.
    pub(super) fn let_notes_go(&self, slices: impl IntoIterator<Item = u64>) {
        let Some(staging) = &self.shared.config.staging else { return };
        for id in slices {
            staging.forget_note(id);
            self.shared.staged.forget_uncommitted(id);
        }
    }

    /// A block that was kept is in the store: its slice may be committed now.
    pub(super) async fn published(self: &Rc<Self>, owner: Owner, key: BlockKey) {
        let Some(file) = self.shared.known(owner.ino) else { return };
        file.with(|extents| extents.block_uploaded(owner.chunk, owner.seq, key));
        self.commit_ready(&file).await;
        file.moved.open();
    }

    /// Bring back what an earlier mount kept and did not commit; whether there is any. Nothing is served
    /// before this is over: lengths and bytes of files depend on it.
    ///
    /// # Errors
    /// When a list cannot be fetched.
    pub async fn recover(self: &Rc<Self>) -> Result<bool, DataError> {
        let Some(staging) = &self.shared.config.staging else { return Ok(false) };
        let mut places: BTreeMap<(Ino, u32), Vec<Note>> = BTreeMap::new();
        let mut last = 0;
        for (tag, bytes) in staging.take_notes() {
            let Some(note) = Note::decode(&bytes).filter(|note| note.record.id == tag) else {
                tracing::error!(
                    slice = tag,
                    "a note that this program did not write is left alone"
                );
                continue;
            };
            last = last.max(note.seq);
            places.entry((note.ino, note.chunk)).or_default().push(note);
        }
        self.shared.next_seq.fetch_max(last + 1, Ordering::Relaxed);
        let any = !places.is_empty();
        let (permits, mut recoveries) = (Permits::new(RECOVERIES_MAX), Vec::new());
        for ((ino, chunk), notes) in places {
            let (permit, (sender, receiver)) = (permits.take().await, oneshot());
            let data = Rc::clone(self);
            uring::spawn(async move {
                sender.send(data.recover_chunk(ino, chunk, notes).await);
                drop(permit);
            });
            recoveries.push(receiver);
        }
        for recovery in recoveries {
            recovery.await.expect("a recovery runs to its end")?;
        }
        Ok(any)
    }

    /// Slices of a chunk that are listed already were committed just before the end of that mount.
    async fn recover_chunk(
        self: &Rc<Self>,
        ino: Ino,
        chunk: u32,
        notes: Vec<Note>,
    ) -> Result<(), DataError> {
        let listed: HashSet<u64> = match self.chunk(ino, chunk).await {
            Ok(records) => records.iter().map(|record| record.id).collect(),
            Err(DataError::Posix(Errno::NOENT)) => {
                self.forget_lost(&notes);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (notes, mut replaced) = without_replaced(notes);
        // A merge did not come to its end.
        self.drop_notes(&replaced);
        replaced.retain(|note| !listed.contains(&note.record.id));
        self.remove_later(self.keys_of(&replaced));
        let (done, waiting): (Vec<_>, Vec<_>) =
            notes.into_iter().partition(|note| listed.contains(&note.record.id));
        self.drop_notes(&done);
        let file = self.shared.file(ino);
        for note in &waiting {
            let blocks = self.blocks_of_note(note);
            file.with(|extents| extents.restore(note, blocks, monotonic_ns()));
        }
        let (data, file) = (Rc::clone(self), Arc::clone(&file));
        uring::spawn(async move {
            data.seek(&file, chunk).await;
            data.commit_ready(&file).await;
            file.moved.open();
        });
        Ok(())
    }

    /// Ask the store for blocks of a chunk that were kept and are not here: a slice is committed only if
    /// all of it is there. The store may be away, and nobody waits for the answer.
    async fn seek(self: &Rc<Self>, file: &Arc<File>, chunk: u32) {
        for (seq, key) in file.with(|extents| extents.sought(chunk)) {
            let found = loop {
                match self.get(key, 0, 1).await {
                    Err(StoreError::Missing(_)) => break false,
                    Err(error) => {
                        tracing::debug!(?key, %error, "not known yet whether it is stored")
                    }
                    Ok(_) => break true,
                }
                uring::sleep(REFUSED_PAUSE).await;
            };
            if found {
                file.with(|extents| extents.block_uploaded(chunk, seq, key));
                continue;
            }
            let name = self.shared.config.layout.name(key);
            let told =
                format!("{name} is neither staged nor stored; restore it, or remove the file");
            let error = DataError::Io(told);
            if file.with(|extents| extents.block_missing(chunk, key, error.clone())) {
                tracing::error!(ino = file.ino.0, chunk, %error, "a slice that was kept is not committed");
                file.moved.open();
            }
        }
    }

    /// The file is gone, and so is what was kept of it.
    fn forget_lost(self: &Rc<Self>, notes: &[Note]) {
        self.drop_notes(notes);
        self.remove_later(self.keys_of(notes));
    }

    fn keys_of(&self, notes: &[Note]) -> Vec<BlockKey> {
        let layout = self.shared.config.layout;
        let records = notes.iter().map(|note| note.record);
        records.flat_map(|record| layout.blocks(record.id, record.size)).collect()
    }

    fn drop_notes(&self, notes: &[Note]) {
        let Some(staging) = &self.shared.config.staging else { return };
        notes.iter().for_each(|note| staging.forget_note(note.record.id));
    }

    /// Blocks of a slice that was kept: those that are not here any more should be in the store.
    fn blocks_of_note(&self, note: &Note) -> Vec<Block> {
        let SliceRecord { id, size, .. } = note.record;
        let owner = Owner { ino: note.ino, chunk: note.chunk, seq: note.seq };
        let staging = self.shared.config.staging.as_ref();
        let blocks = self.shared.config.layout.blocks(id, size).map(|key| {
            let here = staging.is_some_and(|staging| staging.standing(&key).is_some());
            if here {
                self.shared.staged.add(id, owner);
                return Block::Staged(key);
            }
            Block::Sought(key)
        });
        blocks.collect()
    }
}
