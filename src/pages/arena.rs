//! Anonymous memory straight from the kernel: page aligned, zeroed, backed only where touched.
//!
//! Owns mappings, the wish for huge pages, and the cutting of a mapping into parts with an owner each.
//! Whoever touches fresh memory waits for the kernel to clear it: 4 MiB take it 1.5 ms in small pages
//! and 0.4 ms in huge ones.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Bytes in a huge page, of x86-64 and of arm64 with small pages of 4 KiB.
pub const HUGE_BYTES: usize = 2 * 1024 * 1024;
/// What lengths of mappings are rounded to: no machine has larger small pages.
const SMALL_BYTES: usize = 64 * 1024;

/// One mapping; it goes back to the kernel when dropped.
pub struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is plain memory with one owner, like a `Box<[u8]>`.
unsafe impl Send for Region {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Region {}

impl Region {
    /// `len` zero bytes that take no memory until they are touched.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn map(len: usize) -> io::Result<Self> {
        assert!(len > 0, "a region has at least one byte");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a free place, so no memory in use is mapped over.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags)? };
        let start = NonNull::new(start.cast()).expect("mmap never answers null");
        Ok(Self { start, len })
    }

    /// As [`Region::map`], from the border of a huge page on, and in huge pages where the machine
    /// has them to spare and `len` fills them.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn huge(len: usize) -> io::Result<Self> {
        let len = mapped_bytes(len);
        let mut wide = Self::map(len + HUGE_BYTES)?;
        let before = wide.start.align_offset(HUGE_BYTES);
        let mut region = wide.split_off(before);
        drop(region.split_off(len));
        // SAFETY: it changes how the mapping is backed, not what it holds.
        let advised = unsafe { madvise(region.start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        // A kernel without huge pages is as good, and slower.
        let _ = advised;
        Ok(region)
    }

    /// Keep the first `at` bytes, which may be none, and hand out the others.
    fn split_off(&mut self, at: usize) -> Self {
        assert!(at < self.len, "something is handed out");
        // SAFETY: `at` lies inside the mapping.
        let start = unsafe { self.start.add(at) };
        let rest = Self { start, len: self.len - at };
        self.len = at;
        rest
    }

    /// Parts of `part_bytes` each, from the start on; the mapping goes with the last of them.
    pub fn cut(self, part_bytes: usize) -> impl Iterator<Item = Part> {
        let region = Arc::new(self);
        let count = region.len / part_bytes;
        (0..count).map(move |index| Part {
            region: Arc::clone(&region),
            at: index * part_bytes,
            len: part_bytes,
        })
    }

    /// The start of the mapping, which is the caller's now.
    pub fn into_raw(self) -> NonNull<u8> {
        let start = self.start;
        std::mem::forget(self);
        start
    }

    /// The mapping again.
    ///
    /// # Safety
    /// `start` is what [`Region::into_raw`] answered for a mapping of `len` bytes from
    /// [`Region::huge`], and nothing uses that memory any more.
    pub unsafe fn from_raw(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len: mapped_bytes(len) }
    }
}

/// What a mapping of `len` bytes takes.
fn mapped_bytes(len: usize) -> usize {
    len.next_multiple_of(SMALL_BYTES)
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable, initialised bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // It was handed out whole.
        if self.len == 0 {
            return;
        }
        let start = self.start.as_ptr().cast();
        // SAFETY: the mapping is ours and nothing borrows from it any more.
        if unsafe { munmap(start, self.len) }.is_err() {
            // It would leave a hole, and the process has as many mappings as it may (`max_map_count`).
            // The place is lost then, not the memory; nothing may panic below an allocator.
            // SAFETY: as above.
            let _ = unsafe { madvise(start, self.len, Advice::LinuxDontNeed) };
        }
    }
}

/// A part of a region, with an owner of its own. What it is backed by goes back to the kernel when it
/// is dropped, the place with its last neighbour.
pub struct Part {
    region: Arc<Region>,
    at: usize,
    len: usize,
}

impl Part {
    fn start(&self) -> *mut u8 {
        // SAFETY: `cut` made the part inside its region.
        unsafe { self.region.start.add(self.at).as_ptr() }
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the region outlives the part and is initialised. Only this part reaches these
        // bytes: `cut` gives each of them once, and nobody else has the region.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if Arc::strong_count(&self.region) == 1 {
            return;
        }
        // SAFETY: the bytes read as zeros from now on, and nobody reads them.
        let freed = unsafe { madvise(self.start().cast(), self.len, Advice::LinuxDontNeed) };
        // The kernel refuses this for locked memory, which then stays until the region goes.
        let _ = freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_writable() {
        let mut region = Region::map(1 << 20).unwrap();
        assert_eq!(region.as_ptr().addr() % 4096, 0);
        assert_eq!((region.len(), region[0], region[(1 << 20) - 1]), (1 << 20, 0, 0));
        region[77] = 7;
        assert_eq!(region[77], 7);
    }

    #[test]
    fn vast_regions_cost_nothing_untouched() {
        let mut region = Region::map(1 << 36).unwrap();
        region[(1 << 36) - 1] = 1;
        assert_eq!(region[1 << 35], 0);
    }

    #[test]
    fn huge_regions_start_at_a_border_and_go_whole() {
        for len in [1, 64 * 1024, HUGE_BYTES, 2 * HUGE_BYTES + 5] {
            let mut region = Region::huge(len).unwrap();
            assert_eq!(region.as_ptr().addr() % HUGE_BYTES, 0);
            assert!(region.len() >= len && region[len - 1] == 0);
            region[len - 1] = 3;
            let start = region.into_raw();
            // SAFETY: it was answered a line above for the same length.
            let region = unsafe { Region::from_raw(start, len) };
            assert_eq!(region[len - 1], 3);
        }
    }

    #[test]
    fn parts_do_not_share_bytes_and_outlive_each_other() {
        let mut parts: Vec<_> = Region::huge(HUGE_BYTES).unwrap().cut(64 * 1024).collect();
        assert_eq!(parts.len(), 32);
        for (number, part) in (0..).zip(&mut parts) {
            part.fill(number);
        }
        let last = parts.pop().unwrap();
        assert!(
            parts.iter().zip(0..).all(|(part, number)| part.iter().all(|&byte| byte == number))
        );
        drop(parts);
        assert!(last.len() == 64 * 1024 && last.iter().all(|&byte| byte == 31));
    }

    #[test]
    fn parts_travel_between_threads() {
        fn sends<T: Send + Sync>() {}
        sends::<Part>();
    }
}
