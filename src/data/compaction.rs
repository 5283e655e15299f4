//! Many slices of a chunk become one: bytes that were overwritten give their objects back, and
//! reads find what they want in few places.
//!
//! Owns when that is due and how the bytes are copied: through the cache and the store, never
//! through dirty data, which stays above. What is merged is `meta`'s choice, and so is the commit:
//! it expects the list as it was read. Until then nobody sees the new slice; afterwards who has the
//! old list finds objects missing, and fetches it anew (`reader`). While slices of a chunk wait for
//! their upload, only they are merged, and the store is not asked for anything (`merge`).

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Data;
use super::error::DataError;
use super::extents::{Committed, committed_sources, is_sound};
use super::overlay::Piece;
use super::shared::{DataShared, File};
use super::slice::Source;
use super::staged::Owner;
use super::uploader::WithoutRoom;
use crate::limits::{COMPACTION_FETCHES_MAX, COMPACTIONS_MAX};
use crate::meta::Compaction;
use crate::object::{BlockKey, Layout};
use crate::pages::Page;
use crate::stdx::Gate;
use crate::types::{Ino, SliceId, SliceRecord};
use crate::uring;

/// Records or visible pieces from which on a list is worth a look when it is read.
const READ_RECORDS: usize = 5;
/// Records that this mount appended to a list since it was last looked at.
const PUSHED_RECORDS: usize = 100;
/// So many are enough, if their bytes are so many times what the chunk holds.
const HEAVY_RECORDS: usize = 5;
const HEAVY_TIMES: u64 = 2;
/// A longer list is compacted again at once.
const LONG_RECORDS: usize = 350;
/// Commits to a list of this length wait until it is shorter.
const FULL_RECORDS: usize = 2500;

/// How long a chunk's list is and what was appended to it, as far as this mount knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Records in it.
    listed: usize,
    /// End of the bytes that they show.
    end: u64,
    /// Of the records, appended by this mount since somebody looked.
    pushed: usize,
    /// Bytes of those.
    pushed_bytes: u64,
}

impl Weight {
    /// This mount appended records.
    pub fn push(&mut self, records: &[SliceRecord]) {
        self.listed += records.len();
        self.pushed += records.len();
        self.pushed_bytes += records.iter().map(|record| u64::from(record.len)).sum::<u64>();
        self.end = self.end.max(end_of(records));
    }

    /// The list was fetched.
    pub fn fetched(&mut self, records: &[SliceRecord]) {
        self.listed = records.len();
        self.end = end_of(records);
    }

    /// It was fetched by who compacts it.
    fn looked_at(&mut self, records: &[SliceRecord]) {
        *self = Self { listed: records.len(), end: end_of(records), ..Self::default() };
    }

    fn shortened(&mut self, records: usize) {
        self.listed = self.listed.saturating_sub(records);
    }

    /// Whether enough was appended to look.
    pub fn is_due(self) -> bool {
        let heavy = self.pushed_bytes >= HEAVY_TIMES * self.end;
        self.pushed >= PUSHED_RECORDS || self.pushed >= HEAVY_RECORDS && heavy
    }

    fn is_full(self) -> bool {
        self.listed >= FULL_RECORDS && self.is_due()
    }

    /// Whether it is to be remembered when nothing else of the file is.
    pub fn matters(self) -> bool {
        self.pushed > 1
    }
}

fn end_of(records: &[SliceRecord]) -> u64 {
    let ends = records.iter().map(|record| u64::from(record.pos) + u64::from(record.len));
    ends.max().unwrap_or(0)
}

/// Chunks that are being compacted.
#[derive(Default)]
pub(super) struct Compactions {
    state: Mutex<State>,
    moved: Gate,
}

#[derive(Default)]
struct State {
    running: HashSet<(Ino, u32)>,
    /// The mount ends: nothing begins, and what runs gives up.
    ending: bool,
}

/// Where what is merged is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Into the object store.
    Store,
    /// Where it waits for its upload, as what it is made of did, if it is taken there.
    Staging,
}

/// The right to compact one chunk; dropping it gives it back.
pub(super) struct Running {
    shared: Arc<DataShared>,
    place: (Ino, u32),
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.compactions.state().running.remove(&self.place);
        self.shared.compactions.moved.open();
    }
}

/// Why a chunk may not be compacted now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotNow {
    /// It is, or enough others are.
    Busy,
    /// The mount ends.
    Ending,
}

impl Compactions {
    /// The right to compact a chunk, as soon as nobody else is at it; `None` when the mount ends.
    pub(super) async fn in_turn(shared: &Arc<DataShared>, ino: Ino, chunk: u32) -> Option<Running> {
        loop {
            let ticket = shared.compactions.moved.ticket();
            match begin(shared, ino, chunk) {
                Ok(running) => return Some(running),
                Err(NotNow::Ending) => return None,
                Err(NotNow::Busy) => shared.compactions.moved.wait(ticket).await,
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.state().ending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(shared: &Arc<DataShared>, ino: Ino, chunk: u32) -> Result<Running, NotNow> {
    let (place, mut state) = ((ino, chunk), shared.compactions.state());
    if state.ending {
        return Err(NotNow::Ending);
    }
    if state.running.len() >= COMPACTIONS_MAX || !state.running.insert(place) {
        return Err(NotNow::Busy);
    }
    Ok(Running { shared: Arc::clone(shared), place })
}

/// What came of looking at a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Its list is as short as it gets.
    Short,
    /// It was made shorter, and is still long.
    StillLong,
    /// It moved meanwhile, or could not be read.
    InVain,
}

impl Data {
    /// A list of so many records and visible pieces was fetched to read from it.
    pub(super) fn compact_if_scattered(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
        (records, pieces): (usize, usize),
    ) {
        if records.max(pieces) >= READ_RECORDS && records > 1 {
            self.compact_soon(file, chunk);
        }
    }

    fn may_compact(&self) -> bool {
        self.shared.config.compacts && self.slices.takes_changes()
    }

    /// Compact a chunk in the background, unless that is going on or enough is.
    pub(super) fn compact_soon(self: &Rc<Self>, file: &Arc<File>, chunk: u32) {
        if !self.may_compact() {
            return;
        }
        let Ok(running) = begin(&self.shared, file.ino, chunk) else { return };
        let (data, file) = (Rc::clone(self), Arc::clone(file));
        uring::spawn(async move {
            while data.compact(&file, chunk).await == Looked::StillLong {}
            drop(running);
        });
    }

    /// Before more is appended: a list that has got too long is made shorter first.
    pub(super) async fn compact_if_full(self: &Rc<Self>, file: &Arc<File>, chunk: u32) {
        if !self.may_compact() {
            return;
        }
        while file.with(|extents| extents.weight(chunk).is_full()) {
            let ticket = self.shared.compactions.moved.ticket();
            match begin(&self.shared, file.ino, chunk) {
                Ok(_running) => {
                    if self.compact(file, chunk).await != Looked::StillLong {
                        return;
                    }
                }
                Err(NotNow::Busy) => self.shared.compactions.moved.wait(ticket).await,
                Err(NotNow::Ending) => return,
            }
        }
    }

    /// Begin no more compactions, and wait until those that run have given up or are through.
    pub async fn end_compactions(&self) {
        let compactions = &self.shared.compactions;
        loop {
            let ticket = compactions.moved.ticket();
            {
                let mut state = compactions.state();
                state.ending = true;
                if state.running.is_empty() {
                    return;
                }
            }
            compactions.moved.wait(ticket).await;
        }
    }

    async fn compact(self: &Rc<Self>, file: &Arc<File>, chunk: u32) -> Looked {
        match self.try_compact(file, chunk).await {
            Ok(looked) => looked,
            // A file that is gone, as often as not.
            Err(DataError::Posix(errno)) => {
                tracing::debug!(ino = file.ino.0, chunk, %errno, "not compacted");
                Looked::InVain
            }
            Err(error) => {
                tracing::warn!(ino = file.ino.0, chunk, %error, "not compacted");
                Looked::InVain
            }
        }
    }

    async fn try_compact(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
    ) -> Result<Looked, DataError> {
        let records = self.chunk(file.ino, chunk).await?;
        file.with(|extents| extents.weight_mut(chunk).looked_at(&records));
        if !records.iter().all(is_sound) {
            // Who reads it is told.
            return Ok(Looked::Short);
        }
        if self.waits_in_list(file.ino, chunk) {
            return self.merge_listed(file, chunk, &records, Target::Staging).await;
        }
        match Compaction::of(&records) {
            Some(compaction) => {
                self.carry_out(file, chunk, compaction, (records.len(), Target::Store)).await
            }
            None => Ok(Looked::Short),
        }
    }

    /// Copy what a compaction of a list of so many records wants copied, and commit it.
    pub(super) async fn carry_out(
        self: &Rc<Self>,
        file: &Arc<File>,
        chunk: u32,
        compaction: Compaction,
        (records, target): (usize, Target),
    ) -> Result<Looked, DataError> {
        // As long as all of it is here: what is merged is as old, though some may be uploaded meanwhile.
        let kept_ms = self.oldest_ms(compaction.pieces());
        let id = self.slices.next_slice_id().await?;
        let (owner, at) = (Owner { ino: file.ino, chunk, seq: 0 }, (target, kept_ms));
        let Some(stored) = self.store_merged((owner, id), compaction.pieces(), at).await? else {
            return Ok(Looked::InVain);
        };
        if !self.slices.takes_changes() {
            self.remove_later(stored);
            return Ok(Looked::InVain);
        }
        let (seen, gain) = (compaction.seen_count(), compaction.gain());
        // After an unclear error the new slice may be listed: its objects stay.
        let Some(unused) = self.slices.compact(file.ino, chunk, compaction, id).await? else {
            self.remove_later(stored);
            return Ok(Looked::InVain);
        };
        file.with(|extents| {
            extents.weight_mut(chunk).shortened(gain);
            extents.drop_lists(Some(chunk));
        });
        self.delete_slices(unused).await?;
        let left = records - gain;
        let more = left > LONG_RECORDS || records > seen;
        Ok(if more { Looked::StillLong } else { Looked::Short })
    }

    /// Store these pieces as one slice; its blocks, or `None` if the mount ends. Before it returns, what
    /// stays on this machine is as safe as what it takes the place of.
    pub(super) async fn store_merged(
        self: &Rc<Self>,
        (owner, id): (Owner, SliceId),
        pieces: &[SliceRecord],
        (target, kept_ms): (Target, Option<u64>),
    ) -> Result<Option<Vec<BlockKey>>, DataError> {
        let layout = self.shared.config.layout;
        let size = pieces.iter().map(|piece| piece.len).sum();
        let mut stored = Vec::new();
        let mut rest = pieces.to_vec();
        rest.reverse();
        for key in layout.blocks(id, size) {
            let sources = take_sources(&mut rest, key.size, layout);
            let done = match self.merged(sources, key.size).await {
                Ok(page) => self.put_merged((owner, kept_ms), key, page, target).await,
                Err(error) => Err(error),
            };
            // Whether or not it is there: a put that failed may have left something.
            stored.push(key);
            if done.is_err() || self.shared.compactions.is_ending() {
                self.remove_later(stored);
                return done.map(|()| None);
            }
        }
        if let (Target::Staging, Some(staging)) = (target, &self.shared.config.staging)
            && !stored.is_empty()
            && let Err(error) = staging.sync().await
        {
            self.remove_later(stored);
            return Err(error.into());
        }
        Ok(Some(stored))
    }

    async fn put_merged(
        &self,
        (owner, kept_ms): (Owner, Option<u64>),
        key: BlockKey,
        page: Page,
        target: Target,
    ) -> Result<(), DataError> {
        let (pages, how) = (vec![page], (kept_ms, WithoutRoom::Goes));
        if target == Target::Staging && self.keep_block(owner, key, &pages, how).await? {
            return Ok(());
        }
        let _permit = self.shared.uploads.take().await;
        self.put_block(owner.ino, key, pages).await
    }

    /// The bytes of a block, gathered from a few sources at a time: each may hold a whole block.
    async fn merged(self: &Rc<Self>, sources: Vec<Source>, size: u32) -> Result<Page, DataError> {
        let mut bytes = Vec::with_capacity(size as usize);
        let mut sources = sources.into_iter().peekable();
        while sources.peek().is_some() {
            let some = sources.by_ref().take(COMPACTION_FETCHES_MAX).collect();
            let mut pages = Vec::new();
            self.gather(some, true, &mut pages).await?;
            pages.iter().for_each(|page| bytes.extend_from_slice(page));
        }
        assert_eq!(bytes.len(), size as usize, "sources cover their block exactly");
        Ok(Page::from_vec(bytes))
    }
}

/// Where the next `len` bytes are, of pieces whose first is the last in `rest`.
fn take_sources(rest: &mut Vec<SliceRecord>, mut len: u32, layout: Layout) -> Vec<Source> {
    let mut sources = Vec::new();
    while len > 0 {
        let piece = rest.pop().expect("pieces fill their slice exactly");
        let taken = piece.len.min(len);
        if taken < piece.len {
            let off = if piece.id == 0 { 0 } else { piece.off + taken };
            rest.push(SliceRecord { pos: piece.pos + taken, off, len: piece.len - taken, ..piece });
        }
        let layer = Committed { id: piece.id, size: piece.size };
        let whole = Piece { pos: piece.pos, len: taken, off: piece.off, layer };
        committed_sources(Some(whole), taken, layout, &mut sources);
        len -= taken;
    }
    sources
}

#[cfg(test)]
mod tests;
