//! Anonymous memory straight from the kernel: page aligned, zeroed, backed only where touched.
//!
//! For buffers the kernel keeps an address of. File bytes live in `Page`s instead.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

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
        // SAFETY: the mapping is ours and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        assert!(unmapped.is_ok(), "a whole mapping can be unmapped");
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
}
