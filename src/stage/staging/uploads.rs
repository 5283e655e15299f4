//! Handing blocks out for their upload, and reading what is kept.
//!
//! Owns the steps of a block that is in the store: its file becomes cache without a copy, its record in
//! the log counts no more. Blocks that hold up the oldest segment of a log are appended anew.

use std::io;
use std::ops::Range;

use super::area::Staging;
use super::block::Upload;
use super::held::{Held, Moved, State};
use super::index::{Home, Slot};
use super::log::Record;
use super::medium::Medium;
use crate::object::BlockKey;
use crate::pages::{self, Page};
use crate::stage::cache::folder::ReadError;

/// How often a read looks where the block is now.
const LOOKS_MAX: usize = 3;

impl<M: Medium> Staging<M> {
    /// The block whose turn it is, if any may be uploaded now; it is in the caller's hands then.
    pub fn next_upload(&self) -> Option<Upload> {
        let now = self.held.now();
        let mut state = self.held.lock();
        let State { index, queue, counts, .. } = &mut *state;
        let at = queue.take(index, &now)?;
        let slot = index.get(at);
        let failures = queue.failures(at);
        if failures == 0 {
            counts.delay_ms += now.wall_ms.saturating_sub(slot.kept_ms);
        }
        Some(Upload { key: slot.key(), tier: slot.tier(), kept_ms: slot.kept_ms, failures })
    }

    /// `len` bytes from `offset` of a block that is kept; `None` if it is not here or not readable.
    pub async fn read(&self, key: &BlockKey, offset: u32, len: u32) -> Option<Page> {
        assert!(len > 0 && u64::from(offset) + u64::from(len) <= u64::from(key.size), "a part");
        let wanted = offset as usize..offset as usize + len as usize;
        let mut slot = self.slot(key).filter(|slot| !slot.is_removed())?;
        for _ in 0..LOOKS_MAX {
            match self.fetch(&slot, wanted.clone()).await {
                Ok(page) => return Some(page),
                Err(error) => match self.slot(key)? {
                    moved if moved.home() != slot.home() => slot = moved,
                    _ => {
                        self.unread(&slot, error);
                        return None;
                    }
                },
            }
        }
        None
    }

    /// All bytes of a block in hand, checked.
    ///
    /// # Errors
    /// Words for people, when they are not what was kept.
    pub async fn load(&self, upload: &Upload) -> Result<Page, String> {
        let all = 0..upload.key.size as usize;
        for _ in 0..LOOKS_MAX {
            let Some(slot) = self.slot(&upload.key) else { break };
            match self.fetch(&slot, all.clone()).await {
                Ok(page) => return Ok(page),
                Err(_) if self.slot(&upload.key).is_some_and(|now| now.home() != slot.home()) => {}
                Err(_) if self.slot(&upload.key).is_none_or(|now| now.is_removed()) => break,
                Err(error) => return Err(self.unread(&slot, error)),
            }
        }
        Err("the block is not kept any more".to_owned())
    }

    /// A block in hand is in the object store; from now on it is only cached. False if it was removed
    /// meanwhile: the object is nobody's.
    pub fn uploaded(&self, upload: &Upload) -> bool {
        self.share_with_cache(&upload.key);
        let now = self.held.now();
        let slot = {
            let mut state = self.held.lock();
            let Some(at) = state.in_hand(&upload.key) else { return false };
            state.queue.stored();
            let late = state.queue.is_late(upload.kept_ms, &now);
            let slot = state.depart(at);
            if !slot.is_removed() {
                state.counts.uploaded += 1;
                state.counts.deadline_misses += u64::from(late);
                state.rate.add(now.steady_ms, u64::from(upload.key.size));
            }
            slot
        };
        if slot.is_removed() {
            self.held.erase(&slot);
        } else {
            self.held.hand_over(&slot);
        }
        self.held.tidy();
        self.left();
        !slot.is_removed()
    }

    /// A block in hand could not be stored; it will be tried again after a while.
    pub fn upload_failed(&self, upload: &Upload, reason: &str) {
        let now = self.held.now();
        let gone = {
            let mut state = self.held.lock();
            let Some(at) = state.in_hand(&upload.key) else { return };
            if state.index.get(at).is_removed() {
                Some(state.depart(at))
            } else {
                state.last_error = Some((reason.to_owned(), now.wall_ms));
                let State { index, queue, .. } = &mut *state;
                queue.failed(index, at, reason, &now);
                None
            }
        };
        if let Some(slot) = gone {
            self.held.erase(&slot);
        }
        self.left();
    }

    pub(super) fn slot(&self, key: &BlockKey) -> Option<Slot> {
        let mut state = self.held.lock();
        let at = self.held.find(&mut state, key)?;
        Some(*state.index.get(at))
    }

    /// A part of a block, from where its slot says it is.
    async fn fetch(&self, slot: &Slot, wanted: Range<usize>) -> Result<Page, ReadError> {
        let key = slot.key();
        let folder = &self.held.folders[slot.home().folder()];
        let Home::Log(_, place) = slot.home() else {
            if let Some((cache, number)) = &folder.cache
                && let Ok(page) = cache.read_staged(*number, key, wanted.clone()).await
            {
                return Ok(page);
            }
            return folder.files.read(key, wanted);
        };
        let read = || -> io::Result<Page> {
            let log = folder.log().ok_or(io::ErrorKind::NotFound)?;
            // Whole, so that it is checked; blocks of the log are small.
            let mut bytes = pages::buffer(key.size as usize);
            log.read(place, key, 0, &mut bytes)?;
            Ok(Page::from_vec(bytes).piece(wanted.start, wanted.len()))
        };
        match read() {
            Ok(page) => Ok(page),
            Err(_) if slot.has_twin() => folder.files.read(key, wanted),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ReadError::Damaged("the checksum is wrong"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A block cannot be read; in words.
    fn unread(&self, slot: &Slot, error: ReadError) -> String {
        let (key, number) = (slot.key(), slot.home().folder());
        let words = match error {
            ReadError::Missing => "it is gone".to_owned(),
            ReadError::Damaged(reason) => reason.to_owned(),
            ReadError::Failed(error) => {
                self.held.heard(number, &error);
                error.to_string()
            }
        };
        let name = self.layout.name(key);
        let folder = &self.held.folders[number].name;
        tracing::warn!("staged block {name} in {folder} cannot be read: {words}");
        format!("staged block {name} cannot be read: {words}")
    }

    /// The cache knows a file from before its staged name goes, so that no read misses it.
    fn share_with_cache(&self, key: &BlockKey) {
        let number = {
            let state = self.held.lock();
            let slot = state.in_hand(key).map(|at| *state.index.get(at));
            slot.filter(|slot| !slot.is_removed()).map(|slot| slot.home())
        };
        if let Some(Home::File(number)) = number
            && let Some((cache, folder)) = &self.held.folders[number].cache
        {
            cache.came(*folder, *key);
        }
    }
}

impl<M: Medium> Held<M> {
    /// A block whose slot has gone is in the store: its file is cache from now on.
    fn hand_over(&self, slot: &Slot) {
        let (key, number) = (slot.key(), slot.home().folder());
        if let Home::Log(..) = slot.home() {
            self.erase(slot);
        } else if let Err(error) = self.folders[number].files.uploaded(key) {
            // It is found by the next mount and uploaded once more.
            self.heard(number, &error);
        }
    }

    /// Append blocks anew that hold up the oldest segment of a log. One core does it at a time.
    fn tidy(&self) {
        let Ok(_one) = self.tidying.try_lock() else { return };
        for (number, folder) in self.folders.iter().enumerate() {
            let Some(log) = folder.log().filter(|_| folder.lost().is_none()) else { continue };
            let Some(segment) = log.holding_up() else { continue };
            let there = |home| matches!(home, Home::Log(own, place) if own == number && place.segment == segment);
            let slots: Vec<Slot> = {
                let state = self.lock();
                state
                    .index
                    .iter()
                    .map(|(_, slot)| *slot)
                    .filter(|slot| there(slot.home()))
                    .collect()
            };
            if slots.iter().any(|slot| self.renew(number, slot).is_err()) {
                return;
            }
        }
    }

    /// Append a block anew. Its old place stays until the new one is on the disk. Of a block that went,
    /// was removed or moved since its slot was copied, nothing is appended: it would come back after a
    /// crash. The lock is held over that look and the write, so that a `Gone` stands behind what it kills.
    pub(super) fn renew(&self, number: usize, slot: &Slot) -> io::Result<()> {
        let (Some(log), Home::Log(_, place)) = (self.folders[number].log(), slot.home()) else {
            return Ok(());
        };
        let key = slot.key();
        let mut bytes = pages::buffer(key.size as usize);
        log.read(place, key, 0, &mut bytes)?;
        let (tier, group, kept_ms) = (slot.tier(), slot.lane() as u64, slot.kept_ms);
        let pages = [Page::from_vec(bytes)];
        let mut state = self.lock();
        let same = |now: &Slot| now.home() == slot.home() && !now.is_removed();
        let Some(at) = state.index.find(&key).filter(|at| same(state.index.get(*at))) else {
            return Ok(());
        };
        let new = log.append(&Record::Block { key, tier, group, kept_ms, pages: &pages })?;
        state.index.get_mut(at).move_to(Home::Log(number, new));
        state.moved.push(Moved { folder: number, place, size: key.size, mark: log.tail() });
        Ok(())
    }

    /// Old places of blocks whose new ones are on the disk.
    pub(super) fn release_moved(&self, number: usize) {
        let folder = &self.folders[number];
        let over = {
            let mut state = self.lock();
            let over = |moved: &mut Moved| moved.folder == number && folder.has_record(moved.mark);
            state.moved.extract_if(.., over).collect::<Vec<_>>()
        };
        if let Some(log) = folder.log() {
            over.iter().for_each(|moved| log.release(moved.place, moved.size));
        }
    }
}
