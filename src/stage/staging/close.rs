//! The end of a mount: small blocks become files that the official client can upload, too.
//!
//! Owns the order that a crash on the way does no harm: files, their sync, and only then the log lets
//! go. Until then a block is in both, and the next mount takes it once.

use std::io;

use super::area::Staging;
use super::durable::{bring_files, bring_log};
use super::folder::is_full;
use super::held::Held;
use super::index::{Home, Slot};
use super::medium::Medium;
use super::status::StagingStatus;
use crate::pages::{self, Page};

impl<M: Medium> Staging<M> {
    /// The end of the mount: nothing is taken any more, and what is left becomes files that the official
    /// client can upload, too.
    pub async fn close(&self) -> StagingStatus {
        self.held.lock().closed = true;
        self.held.room.open();
        for number in 0..self.held.folders.len() {
            if self.held.folders[number].lost().is_none() {
                self.write_out(number).await;
            }
        }
        self.status()
    }

    /// Make files of a folder's log, and remove it if nothing else is in it.
    async fn write_out(&self, number: usize) {
        let folder = &self.held.folders[number];
        if folder.log().is_none() {
            return;
        }
        let in_log = |slot: &Slot| matches!(slot.home(), Home::Log(own, _) if own == number);
        let slots: Vec<Slot> = {
            let state = self.held.lock();
            state
                .index
                .iter()
                .map(|(_, slot)| *slot)
                .filter(|slot| in_log(slot) && !slot.is_removed())
                .collect()
        };
        for slot in &slots {
            if let Err(error) = self.held.make_file(number, slot) {
                tracing::warn!("a block of the log in {} stays there: {error}", folder.name);
                if is_full(&error) {
                    break;
                }
            }
        }
        bring_files(&self.held, number).await;
        if folder.lost().is_some() {
            return;
        }
        for slot in &slots {
            self.held.leave_log(number, slot);
        }
        bring_log(&self.held, number).await;
        self.held.destroy_log(number).await;
    }
}

impl<M: Medium> Held<M> {
    /// Write a block of the log as a file, too.
    fn make_file(&self, number: usize, slot: &Slot) -> io::Result<()> {
        let (folder, key) = (&self.folders[number], slot.key());
        let (Some(log), Home::Log(_, place)) = (folder.log(), slot.home()) else { return Ok(()) };
        let mut bytes = pages::buffer(key.size as usize);
        log.read(place, key, 0, &mut bytes)?;
        folder.files.write(key, slot.tier(), &[Page::from_vec(bytes)])?;
        if let Err(error) = folder.files.date(key, slot.kept_ms) {
            tracing::debug!("staged block {key:?} looks younger than it is: {error}");
        }
        let mut state = self.lock();
        let at = state.index.find(&key).filter(|at| state.index.get(*at).home() == slot.home());
        match at {
            Some(at) => {
                state.index.get_mut(at).set_twin(true);
                let pending = &mut state.pending[number];
                pending.blocks.push(at);
                pending.changed(folder.files.dir(key));
                Ok(())
            }
            None => {
                drop(state);
                folder.files.remove(key)
            }
        }
    }

    /// The file is on the disk: the log is not needed for it.
    fn leave_log(&self, number: usize, slot: &Slot) {
        let key = slot.key();
        {
            let mut state = self.lock();
            let at = state.index.find(&key).filter(|at| state.index.get(*at).home() == slot.home());
            let Some(at) = at.filter(|at| state.index.get(*at).has_twin()) else { return };
            let slot = state.index.get_mut(at);
            slot.move_to(Home::File(number));
            slot.set_twin(false);
            slot.mark = 0;
        }
        self.retire(number, key);
        if let (Some(log), Home::Log(_, place)) = (self.folders[number].log(), slot.home()) {
            log.release(place, key.size);
        }
    }

    /// Remove a log that holds nothing any more.
    async fn destroy_log(&self, number: usize) {
        let folder = &self.folders[number];
        let needed = {
            let mut state = self.lock();
            let block = |slot: &Slot| matches!(slot.home(), Home::Log(own, _) if own == number);
            let blocks = state.index.iter().any(|(_, slot)| block(slot));
            let notes = state.notes.values().any(|(own, _)| *own == number);
            if !blocks && !notes {
                state.moved.retain(|moved| moved.folder != number);
            }
            blocks || notes
        };
        if let Some(log) = folder.log().filter(|_| !needed && folder.lost().is_none())
            && let Err(error) = log.destroy().await
        {
            tracing::warn!("the empty log in {} stays: {error}", folder.name);
        }
    }
}
