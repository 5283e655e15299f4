//! `PageMut` (one writer) becomes `Page` (many readers), never the other way.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::arena::{HUGE_BYTES, Part, Region};
use super::buffers;
use crate::stdx::Gate;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 64 * 1024;

/// Free pages kept for reuse, and how many may exist. They are cut from slabs of a huge page.
pub struct Pool {
    free: Mutex<Vec<Part>>,
    used: AtomicUsize,
    limit: usize,
    waiting: AtomicUsize,
    freed: Gate,
}

/// Interest in pages that come home; taken before the pool is looked at once more.
pub struct Waiter<'a> {
    pool: &'a Pool,
    ticket: u64,
}

impl Waiter<'_> {
    /// Wait until a page came home after this interest was taken.
    pub async fn freed(&self) {
        self.pool.freed.wait(self.ticket).await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// A pool that never hands out more than `limit_bytes` at a time (whole pages).
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        let limit = limit_bytes / PAGE_BYTES;
        assert!(limit > 0, "a pool holds at least one page");
        Arc::new(Self {
            free: Mutex::new(Vec::new()),
            used: AtomicUsize::new(0),
            limit,
            waiting: AtomicUsize::new(0),
            freed: Gate::default(),
        })
    }

    /// A page with undefined content, or `None` when the budget is spent.
    pub fn take(self: &Arc<Self>) -> Option<PageMut> {
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            (used < self.limit).then_some(used + 1)
        });
        taken.ok()?;
        let memory = self.memory();
        let counted = AtomicBool::new(true);
        Some(PageMut { memory: Some(memory), pool: Arc::clone(self), counted })
    }

    /// A free page's memory, or else a new slab's first page; the others of the slab are free now.
    fn memory(&self) -> Part {
        let mut free = self.lock();
        if free.is_empty() {
            let bytes = HUGE_BYTES.min(self.limit * PAGE_BYTES);
            let slab = Region::huge(bytes).expect("the kernel has memory for a slab of pages");
            free.extend(slab.cut(PAGE_BYTES));
            // The first page of the slab goes first.
            free.reverse();
        }
        free.pop().expect("a slab has pages")
    }

    /// Announce interest in returning pages. No wake-up is lost if `take` is tried after this.
    pub fn waiter(&self) -> Waiter<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiter { pool: self, ticket: self.freed.ticket() }
    }

    /// Pages handed out now.
    pub fn used_pages(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Pages that may be out at a time.
    pub fn limit_pages(&self) -> usize {
        self.limit
    }

    /// Memory comes home; it is kept while it and what is handed out stay inside the limit.
    fn give_back(&self, memory: Part, counted: bool) {
        assert_eq!(memory.len(), PAGE_BYTES, "only whole pages come home");
        let mut free = self.lock();
        if counted || free.len() + self.used_pages() < self.limit {
            free.push(memory);
            drop(free);
        } else {
            // Given back after the lock: the kernel takes its time.
            drop(free);
            drop(memory);
        }
        if counted {
            self.uncount();
        }
    }

    fn uncount(&self) {
        let before = self.used.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a page came home twice");
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.open();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Part>> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A page with one writer.
pub struct PageMut {
    memory: Option<Part>,
    pool: Arc<Pool>,
    /// Whether it counts towards the pool's limit.
    counted: AtomicBool,
}

impl PageMut {
    /// All bytes of the page.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().expect("a page holds its memory until it goes home")
    }

    /// All bytes of the page.
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_deref().expect("a page holds its memory until it goes home")
    }

    /// Seal: the bytes `start .. start + len` never change again.
    pub fn seal(self, start: usize, len: usize) -> Page {
        assert!(start + len <= PAGE_BYTES, "a sealed piece lies inside its page");
        Page { memory: Arc::new(Memory::Pooled(self)), start, len }
    }
}

impl Drop for PageMut {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory, *self.counted.get_mut());
        }
    }
}

/// Where the bytes of a sealed page live.
enum Memory {
    /// In a pool; it goes home with the last piece.
    Pooled(PageMut),
    /// Outside of every pool, such as a fetched block; its owner keeps the account.
    Owned(Owned),
}

/// Memory that may be used again when the last piece is gone.
struct Owned(Vec<u8>);

impl Drop for Owned {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.0));
    }
}

/// A piece of sealed memory; clones share it.
#[derive(Clone)]
pub struct Page {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
}

impl Page {
    /// Seal bytes that belong to no pool; of any length.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self { memory: Arc::new(Memory::Owned(Owned(bytes))), start: 0, len }
    }

    /// `len` zero bytes, at most a page; all share one memory.
    pub fn zeros(len: usize) -> Self {
        static ZEROS: OnceLock<Page> = OnceLock::new();
        ZEROS.get_or_init(|| Self::from_vec(vec![0; PAGE_BYTES])).piece(0, len)
    }

    /// The same bytes outside of every budget: a whole page leaves its pool's account as it is,
    /// anything else is copied.
    pub fn kept(&self) -> Self {
        match &*self.memory {
            Memory::Pooled(page) if self.len == PAGE_BYTES => {
                if page.counted.swap(false, Ordering::AcqRel) {
                    page.pool.uncount();
                }
                self.clone()
            }
            _ => Self::from_vec(self.to_vec()),
        }
    }

    /// A smaller piece of the same memory; offsets count inside this piece.
    pub fn piece(&self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "a piece lies inside its page");
        Self { memory: Arc::clone(&self.memory), start: self.start + start, len }
    }
}

impl Deref for Page {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = match &*self.memory {
            Memory::Pooled(page) => page.bytes(),
            Memory::Owned(owned) => &owned.0,
        };
        &bytes[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    #[test]
    fn the_budget_is_hard_and_pages_come_home() {
        let pool = Pool::new(2 * PAGE_BYTES);
        let first = pool.take().expect("a page");
        let second = pool.take().expect("a page");
        assert!(pool.take().is_none());
        drop(first);
        assert_eq!(pool.used_pages(), 1);
        let sealed = second.seal(10, 20);
        let clone = sealed.piece(5, 5);
        drop(sealed);
        assert_eq!((clone.len(), pool.used_pages()), (5, 1));
        drop(clone);
        assert_eq!(pool.used_pages(), 0);
    }

    #[test]
    fn kept_pages_leave_the_budget_and_their_memory_comes_home_all_the_same() {
        let pool = Pool::new(PAGE_BYTES);
        let mut page = pool.take().expect("a page");
        page.bytes_mut()[7] = 9;
        let page = page.seal(0, PAGE_BYTES);
        let kept = page.kept();
        assert_eq!((kept[7], pool.used_pages()), (9, 0));
        drop(page.kept());
        drop(page);
        assert_eq!(pool.used_pages(), 0, "it leaves once");
        let other = pool.take().expect("there is room again");
        drop(kept);
        assert_eq!(pool.lock().len(), 0, "more than the limit is not held");
        let piece = other.seal(3, 5);
        assert_eq!((piece.kept().len(), pool.used_pages()), (5, 1));
    }

    #[test]
    fn pages_without_a_pool() {
        let page = Page::from_vec(vec![1, 2, 3, 4]);
        assert_eq!(&*page.piece(1, 2), [2, 3]);
        assert_eq!(&*Page::zeros(3), [0, 0, 0]);
    }

    #[test]
    fn who_waits_hears_of_a_page_coming_home() {
        let pool = Pool::new(PAGE_BYTES);
        let page = pool.take().expect("a page");
        let waiter = pool.waiter();
        drop(page);
        let mut freed = std::pin::pin!(waiter.freed());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(freed.as_mut().poll(&mut context).is_ready());
        assert!(pool.take().is_some());
    }

    #[test]
    fn pages_travel_between_threads() {
        fn sends<T: Send>() {}
        sends::<PageMut>();
        sends::<Page>();
    }
}
