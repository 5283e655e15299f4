//! What happens when a future is dropped half-way (a request was given up, or panicked).
//!
//! Owns guards that hand unfinished work back to its file; `tick` and every flush take it up
//! again. Storing a block twice is harmless, and so is a record that is pushed twice: it shows
//! the same bytes.

use std::rc::Rc;
use std::sync::Arc;

use super::Data;
use super::shared::{DataShared, File};
use crate::uring;

/// Work in progress on a file; hand it back unless it is finished.
pub(super) struct InHand<'a> {
    shared: &'a DataShared,
    file: &'a Arc<File>,
    work: Option<Work>,
}

/// What would be left to do.
pub(super) enum Work {
    /// A block is to be stored: chunk, number of the slice, index.
    Block(u32, u64, u32),
    /// The oldest slices of a chunk are to be committed.
    Commit(u32),
}

impl<'a> InHand<'a> {
    /// Begin.
    pub fn new(shared: &'a DataShared, file: &'a Arc<File>, work: Work) -> Self {
        Self { shared, file, work: Some(work) }
    }

    /// Finished, well or not.
    pub fn done(mut self) {
        self.work = None;
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        match work {
            Work::Block(chunk, seq, index) => {
                self.file.with(|extents| extents.leave_block(chunk, seq, index));
                self.shared.land();
            }
            Work::Commit(chunk) => self.file.with(|extents| extents.leave_commit(chunk)),
        }
        self.shared.leave_behind(self.file);
        self.file.moved.open();
    }
}

impl Data {
    /// Take up what was left behind in a file.
    pub(super) async fn resume(self: &Rc<Self>, file: &Arc<File>) {
        let blocks = file.with(|extents| extents.take_left());
        self.shared.take_off(blocks.len());
        for block in blocks {
            let (data, file) = (Rc::clone(self), Arc::clone(file));
            uring::spawn(async move { data.upload(&file, block).await });
        }
        self.advance(file).await;
    }

    /// Take up what was left behind anywhere.
    pub(super) fn resume_all(self: &Rc<Self>) {
        for file in self.shared.take_left_behind() {
            let data = Rc::clone(self);
            uring::spawn(async move { data.resume(&file).await });
        }
    }
}
