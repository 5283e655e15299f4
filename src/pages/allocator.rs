//! The allocator of the program: the system's, but for what fills huge pages.
//!
//! Fetched blocks are large, live in vectors, and are touched from end to end. Such memory comes
//! straight from the kernel, in huge pages where there are any, and goes straight back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};

use super::arena::{HUGE_BYTES, Region};

/// Huge pages for large memory, the system's allocator for all other.
pub struct Allocator;

fn is_large(layout: Layout) -> bool {
    layout.size() >= HUGE_BYTES && layout.align() <= HUGE_BYTES
}

// SAFETY: each layout is for one of two allocators, always the same one. A mapping is as large as
// asked and aligned to more than asked; it is used by nobody else until it is given back. Nothing
// below panics: what the kernel refuses is null here, and a place lost in `Region`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return Region::huge(layout.size())
                .map_or(ptr::null_mut(), |region| region.into_raw().as_ptr());
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // SAFETY: as the caller promised; memory from the kernel is zeros.
            return unsafe { self.alloc(layout) };
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let (true, Some(start)) = (is_large(layout), NonNull::new(memory)) {
            // SAFETY: `alloc` made a mapping for this layout, and the caller is done with it.
            drop(unsafe { Region::from_raw(start, layout.size()) });
            return;
        }
        // SAFETY: `alloc` asked the system's allocator for this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one of a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        if !is_large(layout) && !is_large(new) {
            // SAFETY: both layouts are for the system's allocator.
            return unsafe { System.realloc(memory, layout, new_bytes) };
        }
        // SAFETY: the new layout is valid.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both are as long as what is copied, and the new one is nobody's yet.
            unsafe { ptr::copy_nonoverlapping(memory, moved, layout.size().min(new_bytes)) };
            // SAFETY: the caller gave the old one up.
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_its_content_while_it_grows_and_shrinks() {
        let mut layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: layouts are valid, each place is written before it is read, and given back once.
        unsafe {
            let mut memory = Allocator.alloc(layout);
            memory.write_bytes(7, 1000);
            for bytes in [HUGE_BYTES - 1, HUGE_BYTES, 3 * HUGE_BYTES + 1, 2 * HUGE_BYTES, 5000] {
                memory = Allocator.realloc(memory, layout, bytes);
                layout = Layout::from_size_align(bytes, 8).unwrap();
                assert!((0..1000).all(|at| memory.add(at).read() == 7));
                memory.add(bytes - 1).write(9);
            }
            Allocator.dealloc(memory, layout);
            let layout = Layout::from_size_align(2 * HUGE_BYTES, 4096).unwrap();
            let zeros = Allocator.alloc_zeroed(layout);
            assert_eq!((zeros.addr() % HUGE_BYTES, zeros.read()), (0, 0));
            Allocator.dealloc(zeros, layout);
        }
    }
}
