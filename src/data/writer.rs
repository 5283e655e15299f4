//! Taking bytes from callers, sealing slices, and waiting until they are committed.
//!
//! Owns admission: the hard page budget and the bound on slices. Which slice takes what is
//! `extents`', storing is `uploader`'s, order of commits `tracker`'s.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Data;
use super::error::DataError;
use super::extents::{Incoming, Pending, SLICES_MAX, Step};
use super::geometry::{Span, spans};
use super::shared::File;
use crate::stdx::{monotonic_ns, now};
use crate::types::{Attr, FILE_BYTES_END, Ino, Time};
use crate::uring;

/// While so many blocks fly, pages will come home without sealing more.
const FLYING_ENOUGH: usize = 4;
/// Open slices sealed at a time when pages run out.
const RELIEF_SLICES: usize = 16;
/// A slice nobody has written to for so long is sealed.
const IDLE_NS: u64 = 1_000_000_000;
/// A slice so old is sealed.
const AGE_NS: u64 = 5_000_000_000;
/// How often `tick` looks.
const TICK: Duration = Duration::from_millis(200);

impl Data {
    /// Take bytes; the length of the file afterwards, if it was `file_length` before. Done at the
    /// first poll while pages are free; else it waits for stored blocks to give theirs back.
    pub async fn write(
        self: &Rc<Self>,
        ino: Ino,
        offset: u64,
        bytes: &[u8],
        file_length: u64,
    ) -> Result<u64, DataError> {
        let len = bytes.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end < FILE_BYTES_END);
        let end = end.ok_or(DataError::TooLarge)?;
        if bytes.is_empty() {
            return Ok(file_length);
        }
        let file = self.shared.file(ino);
        let mut rest = bytes;
        for span in spans(offset, len) {
            let (here, after) = rest.split_at(span.len as usize);
            rest = after;
            self.write_span(&file, span, here, file_length).await?;
        }
        Ok(end.max(file_length))
    }

    async fn write_span(
        self: &Rc<Self>,
        file: &Arc<File>,
        span: Span,
        bytes: &[u8],
        file_length: u64,
    ) -> Result<(), DataError> {
        let mut done = 0;
        loop {
            let ticket = file.moved.ticket();
            let step = self.accept(file, span.after(done), &bytes[done as usize..], file_length)?;
            let Some(step) = step else {
                self.seal(file, |_| true);
                file.moved.wait(ticket).await;
                continue;
            };
            done += step.taken;
            self.shared.note(file, &step);
            self.launch(file, step);
            if done == span.len {
                return Ok(());
            }
            let pool = &self.shared.config.pool;
            let waiter = pool.waiter();
            if pool.used_pages() >= pool.limit_pages() {
                self.relieve();
                waiter.freed().await;
            }
        }
    }

    /// Hand bytes to the file's slices; `None` while it has too many.
    fn accept(
        &self,
        file: &File,
        span: Span,
        bytes: &[u8],
        file_length: u64,
    ) -> Result<Option<Step>, DataError> {
        let config = &self.shared.config;
        let incoming = Incoming {
            span,
            bytes,
            file_length,
            now: now(),
            now_ns: monotonic_ns(),
            next_seq: &self.shared.next_seq,
            pool: &config.pool,
            block_bytes: config.layout.block_bytes(),
        };
        file.with(|extents| {
            extents.sticky()?;
            let full = extents.slice_count() >= SLICES_MAX;
            Ok((!full).then(|| extents.accept(&incoming)))
        })
    }

    /// Seal the slices of a file whose number `which` accepts, and store what that completes.
    fn seal(self: &Rc<Self>, file: &Arc<File>, which: impl Fn(u64) -> bool) -> bool {
        let block_bytes = self.shared.config.layout.block_bytes();
        let step = file.with(|extents| extents.seal(block_bytes, |slice| which(slice.seq)));
        let any = !step.sealed.is_empty();
        self.shared.note(file, &step);
        self.launch(file, step);
        any
    }

    /// Pages ran out: make sure that some are on their way home.
    fn relieve(self: &Rc<Self>) {
        if self.shared.flying() >= FLYING_ENOUGH {
            return;
        }
        for (seq, file) in self.shared.oldest_open(u64::MAX, RELIEF_SLICES) {
            if !self.seal(&file, |other| other == seq) {
                self.shared.not_open(seq);
            }
        }
    }

    /// Store and commit all that is dirty of a file.
    ///
    /// # Errors
    /// The first error of any write since the file was last forgotten, or why what is kept of it
    /// cannot be committed.
    pub async fn flush(self: &Rc<Self>, ino: Ino) -> Result<(), DataError> {
        let Some(file) = self.shared.known(ino) else { return Ok(()) };
        let last = self.begin_flush(&file).await;
        loop {
            let ticket = file.moved.ticket();
            let (settled, refused, error) = file
                .with(|extents| (extents.is_settled(last), extents.refusal(), extents.sticky()));
            match refused {
                _ if settled => return error,
                Some(refused) => return error.and(Err(refused)),
                None => self.hurry_file(&file, last, false),
            }
            file.moved.wait(ticket).await;
            self.resume(&file).await;
        }
    }

    /// Seal all that is dirty of a file and see it on its way; number of its newest slice. One small
    /// slice goes all the way on the caller's future: one object, one commit, no task.
    pub(super) async fn begin_flush(self: &Rc<Self>, file: &Arc<File>) -> u64 {
        let block_bytes = self.shared.config.layout.block_bytes();
        let (mut step, last) =
            file.with(|extents| (extents.seal(block_bytes, |_| true), extents.newest()));
        if last == 0 {
            return last;
        }
        self.shared.note(file, &step);
        match step.blocks.pop() {
            Some(block) => {
                if !step.blocks.is_empty() {
                    self.launch(file, step);
                }
                self.shared.take_off(1);
                self.upload(file, block).await;
            }
            None => self.advance(file).await,
        }
        last
    }

    /// Keep all that is dirty of all files, as before an unmount; the first error.
    pub async fn flush_all(self: &Rc<Self>) -> Result<(), DataError> {
        let mut done = Ok(());
        for ino in self.shared.dirty_files() {
            done = done.and(self.keep(ino).await);
        }
        done
    }

    /// What is dirty of a file, if anything: the end of its bytes and the time of the last write.
    pub fn pending(&self, ino: Ino) -> Option<Pending> {
        self.shared.known(ino)?.with(|extents| extents.pending())
    }

    /// The attributes as the last commit of dirty data left them, once per commit.
    pub fn take_committed_attr(&self, ino: Ino) -> Option<Attr> {
        self.shared.known(ino)?.with(|extents| extents.committed_attr.take())
    }

    /// The file's times were set: dirty data commits with this mtime unless more is written.
    pub fn set_pending_mtime(&self, ino: Ino, mtime: Time) {
        if let Some(file) = self.shared.known(ino) {
            file.with(|extents| extents.set_mtime(mtime));
        }
    }

    /// What other operations or clients changed in a file must be read anew. Dirty data stays.
    pub fn invalidate(&self, ino: Ino) {
        if let Some(file) = self.shared.known(ino) {
            file.with(|extents| extents.drop_lists(None));
        }
    }

    /// The last handle of a file is closed; call it after `flush`.
    pub fn forget_file(&self, ino: Ino) {
        self.shared.forget(ino);
    }

    /// The file is deleted for good: what is dirty of it need not be stored.
    pub fn discard(self: &Rc<Self>, ino: Ino) {
        let Some(file) = self.shared.known(ino) else { return };
        let (slices, stored) = file.with(|extents| (extents.slice_ids(), extents.discard()));
        // Those that are being committed are let go by who commits them.
        let committing = file.with(|extents| extents.slice_ids());
        self.let_notes_go(slices.into_iter().filter(|id| !committing.contains(id)));
        file.moved.open();
        self.remove_later(stored);
    }

    /// Seal idle and old slices and take up what was given up, forever; one core of a mount runs this.
    pub async fn tick(self: Rc<Self>) {
        loop {
            uring::sleep(TICK).await;
            self.seal_idle(monotonic_ns());
            self.resume_all();
        }
    }

    fn seal_idle(self: &Rc<Self>, now_ns: u64) {
        let block_bytes = self.shared.config.layout.block_bytes();
        for (seq, file) in self.shared.oldest_open(now_ns.saturating_sub(IDLE_NS), usize::MAX) {
            let (step, open) = file.with(|extents| {
                let due = |slice: &super::slice::Slice| {
                    slice.seq == seq
                        && (slice.touched_ns + IDLE_NS <= now_ns
                            || slice.born_ns + AGE_NS <= now_ns)
                };
                (extents.seal(block_bytes, due), extents.is_open(seq))
            });
            self.shared.note(&file, &step);
            self.launch(&file, step);
            if !open {
                self.shared.not_open(seq);
            }
        }
    }
}
