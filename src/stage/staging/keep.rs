//! Taking a block: room for it, then the log or a file.
//!
//! Owns who waits, who is refused and why, and that a file whose writer stopped waiting does not stay.
//! Small blocks cost one plain write into the log; large ones are files, written beside the core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::area::Staging;
use super::block::{NewBlock, NotKept};
use super::folder::{Fill, Folder, is_full};
use super::footer::TIER_MAX;
use super::held::{Held, Unwritten};
use super::index::{Home, Kept};
use super::log::Record;
use super::medium::Medium;
use crate::object::BlockKey;
use crate::pages::Page;
use crate::stdx::monotonic_ns;
use crate::uring;

/// How long a disk may take over one file before the block is put into the store instead: JuiceFS's
/// default of `--put-timeout`.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Files up to this are written on the core: it takes less time than to wake a thread for it.
const INLINE_BYTES_MAX: u32 = 256 << 10;

impl<M: Medium> Staging<M> {
    /// Keep a block: it survives a crash of this process when this returns. Waits while
    /// `--max-staging-size` is reached.
    ///
    /// # Errors
    /// Why it is not kept.
    pub async fn keep(&self, block: NewBlock<'_>) -> Result<(), NotKept> {
        self.wants(&block)?;
        let room = self.reserve(u64::from(block.key.size)).await?;
        self.keep_in(&block, room).await
    }

    /// The same for who may not wait for room, since room may have to wait for it.
    ///
    /// # Errors
    /// As `keep`.
    pub async fn try_keep(&self, block: NewBlock<'_>) -> Result<(), NotKept> {
        self.wants(&block)?;
        let room = self.room(u64::from(block.key.size))?.ok_or(NotKept::NoRoom)?;
        self.keep_in(&block, room).await
    }

    fn wants(&self, block: &NewBlock<'_>) -> Result<(), NotKept> {
        let threshold_bytes = self.config.threshold_bytes;
        let large = threshold_bytes > 0 && u64::from(block.key.size) >= threshold_bytes;
        if !self.config.takes || large || block.tier > TIER_MAX {
            return Err(NotKept::NotWanted);
        }
        Ok(())
    }

    async fn keep_in(&self, block: &NewBlock<'_>, room: Reserved<'_, M>) -> Result<(), NotKept> {
        let size = block.key.size;
        let _writing = self.begin()?;
        let kept = match size <= self.log_block_bytes_max {
            true => self.keep_in_log(block, room),
            false => self.keep_as_file(block, room).await,
        };
        let mut state = self.held.lock();
        match &kept {
            Ok(()) => state.counts.write_bytes += u64::from(size),
            Err(NotKept::NoRoom | NotKept::Failed(_)) => state.counts.errors += 1,
            Err(NotKept::NotWanted | NotKept::Busy) => {}
        }
        kept
    }

    /// Bytes for a block, once there is room.
    async fn reserve(&self, bytes: u64) -> Result<Reserved<'_, M>, NotKept> {
        let mut waiting: Option<Starved<'_, M>> = None;
        loop {
            let ticket = self.held.room.ticket();
            if let Some(room) = self.room(bytes)? {
                return Ok(room);
            }
            if waiting.is_none() {
                waiting = Some(Starved::new(&self.held));
            }
            self.held.room.wait(ticket).await;
        }
    }

    /// Bytes for a block, if there is room now.
    fn room(&self, bytes: u64) -> Result<Option<Reserved<'_, M>>, NotKept> {
        let mut state = self.held.lock();
        if state.closed {
            return Err(NotKept::NotWanted);
        }
        let fits = self.config.max_bytes == 0 || state.bytes + bytes <= self.config.max_bytes;
        // A block larger than the limit goes alone.
        if !fits && state.bytes > 0 {
            return Ok(None);
        }
        state.bytes += bytes;
        Ok(Some(Reserved { held: &self.held, bytes }))
    }

    /// One more is being written.
    fn begin(&self) -> Result<Writing<'_, M>, NotKept> {
        let mut state = self.held.lock();
        if self.config.max_writes > 0 && state.counts.writing >= self.config.max_writes as u64 {
            return Err(NotKept::Busy);
        }
        state.counts.writing += 1;
        Ok(Writing(&self.held))
    }

    fn keep_in_log(&self, block: &NewBlock<'_>, room: Reserved<'_, M>) -> Result<(), NotKept> {
        let (number, _) = self.held.log().map_err(NotKept::Failed)?;
        if self.held.folders[number].fill() == Fill::Full {
            return Err(NotKept::NoRoom);
        }
        let now = self.held.now();
        let NewBlock { key, tier, group, pages, kept_ms } = *block;
        let kept_ms = kept_ms.unwrap_or(now.wall_ms);
        let record = Record::Block { key, tier, group, kept_ms, pages };
        let (folder, place, mark) = self.held.append(&record)?;
        let home = Home::Log(folder, place);
        drop(room);
        self.held.arrive(&Kept { key, tier, group, kept_ms, home, mark }, &now);
        Ok(())
    }

    async fn keep_as_file(
        &self,
        block: &NewBlock<'_>,
        room: Reserved<'_, M>,
    ) -> Result<(), NotKept> {
        loop {
            let number = self.home_of(block.key)?;
            let folder = &self.held.folders[number];
            if folder.fill() == Fill::Full {
                return Err(NotKept::NoRoom);
            }
            match self.write(folder, block).await? {
                Ok(()) => {
                    let now = self.held.now();
                    let &NewBlock { key, tier, group, kept_ms, .. } = block;
                    let home = Home::File(number);
                    let kept_ms = kept_ms.unwrap_or(now.wall_ms);
                    drop(room);
                    let kept = Kept { key, tier, group, kept_ms, home, mark: 0 };
                    self.held.arrive_in_round(kept, &now);
                    return Ok(());
                }
                Err(error) => {
                    self.held.heard(number, &error);
                    if is_full(&error) {
                        return Err(NotKept::NoRoom);
                    }
                    if folder.lost().is_none() {
                        return Err(NotKept::Failed(error.to_string()));
                    }
                }
            }
        }
    }

    /// The folder of a new file: JuiceFS's choice, or the next one that works.
    fn home_of(&self, key: BlockKey) -> Result<usize, NotKept> {
        let folders = &self.held.folders;
        let first = match folders.len() {
            0 => return Err(NotKept::Failed("no cache folder is usable".to_owned())),
            1 => 0,
            _ => self.ring.folder(&self.layout.name(key)).unwrap_or(0),
        };
        let all = (0..folders.len()).map(|step| (first + step) % folders.len());
        let mut working = all.filter(|number| folders[*number].lost().is_none());
        working.next().ok_or_else(|| {
            NotKept::Failed(folders[first].lost().unwrap_or("no cache folder is usable").to_owned())
        })
    }

    /// Write a file, beside the core if it is large.
    async fn write(
        &self,
        folder: &Arc<Folder<M>>,
        block: &NewBlock<'_>,
    ) -> Result<std::io::Result<()>, NotKept> {
        let (key, tier) = (block.key, block.tier);
        let Some(aside) = self.aside.as_ref().filter(|_| key.size > INLINE_BYTES_MAX) else {
            return Ok(folder.files.write(key, tier, block.pages));
        };
        let pages: Vec<Page> = block.pages.to_vec();
        let left = Left { folder: Arc::clone(folder), key, one: Arc::default(), over: false };
        let (target, one) = (Arc::clone(folder), Arc::clone(&left.one));
        let job = move || {
            let written = target.files.write(key, tier, &pages);
            if one.swap(true, Ordering::AcqRel) && written.is_ok() {
                discard(&target, key);
            }
            written
        };
        let written = aside.run(job).ok_or(NotKept::Busy)?;
        let mut left = left;
        match uring::timeout(self.patience, written).await {
            Ok(written) => {
                left.over = true;
                Ok(written)
            }
            Err(uring::Elapsed) => Err(NotKept::Failed("the disk is too slow".to_owned())),
        }
    }
}

impl From<Unwritten> for NotKept {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::Full => Self::NoRoom,
            Unwritten::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// A file that nobody waits for goes: of writer and waiter, the one that is through last sees to it.
struct Left<M: Medium> {
    folder: Arc<Folder<M>>,
    key: BlockKey,
    /// One of the two is through.
    one: Arc<AtomicBool>,
    /// The waiter has its answer.
    over: bool,
}

impl<M: Medium> Drop for Left<M> {
    fn drop(&mut self) {
        if !self.over && self.one.swap(true, Ordering::AcqRel) {
            discard(&self.folder, self.key);
        }
    }
}

fn discard<M: Medium>(folder: &Folder<M>, key: BlockKey) {
    if let Err(error) = folder.files.remove(key) {
        tracing::warn!("a block that was written too late stays in {}: {error}", folder.name);
    }
}

/// Bytes that are coming; dropped when they count by themselves, or do not come.
struct Reserved<'a, M: Medium> {
    held: &'a Held<M>,
    bytes: u64,
}

impl<M: Medium> Drop for Reserved<'_, M> {
    fn drop(&mut self) {
        self.held.lock().bytes -= self.bytes;
        self.held.room.open();
    }
}

/// A block that is being written.
struct Writing<'a, M: Medium>(&'a Held<M>);

impl<M: Medium> Drop for Writing<'_, M> {
    fn drop(&mut self) {
        self.0.lock().counts.writing -= 1;
    }
}

/// A writer that waits for room, and for how long.
struct Starved<'a, M: Medium> {
    held: &'a Held<M>,
    since_ns: u64,
}

impl<'a, M: Medium> Starved<'a, M> {
    fn new(held: &'a Held<M>) -> Self {
        held.starved.fetch_add(1, Ordering::Relaxed);
        // What is delayed must go now.
        held.gate.open();
        Self { held, since_ns: monotonic_ns() }
    }
}

impl<M: Medium> Drop for Starved<'_, M> {
    fn drop(&mut self) {
        self.held.starved.fetch_sub(1, Ordering::Relaxed);
        self.held.lock().counts.waited_ms += (monotonic_ns() - self.since_ns) / 1_000_000;
    }
}
