//! Buffers of the size of blocks, used again.
//!
//! A fetched block lives in one buffer, and goes with its last reader. What the allocator is given
//! back in such sizes it keeps, a different hole on each core; so a few stay here, for all cores,
//! and the rest should go back to the kernel (`daemon/process.rs` tells the allocator).

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A smaller one is the allocator's.
const LEAST_BYTES: usize = 256 * 1024;
/// Kept when nobody has them.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

static BUFFERS: Buffers = Buffers(Mutex::new(Vec::new()));

/// Buffers that wait for a use.
struct Buffers(Mutex<Vec<Vec<u8>>>);

/// A buffer of `len` bytes of any content; it may come back by [`give_back`], and does as part of
/// a page.
pub fn buffer(len: usize) -> Vec<u8> {
    BUFFERS.take(len)
}

/// Let others have a buffer.
pub fn give_back(buffer: Vec<u8>) {
    BUFFERS.give_back(buffer);
}

impl Buffers {
    fn take(&self, len: usize) -> Vec<u8> {
        let kept = if len < LEAST_BYTES { None } else { self.fitting(len) };
        match kept {
            Some(mut buffer) => {
                buffer.resize(len, 0);
                buffer
            }
            None => vec![0; len],
        }
    }

    /// One that is large enough and not wasted on this length.
    fn fitting(&self, len: usize) -> Option<Vec<u8>> {
        let mut kept = self.lock();
        let at = kept.iter().rposition(|kept| (len..=len * 2).contains(&kept.capacity()))?;
        Some(kept.swap_remove(at))
    }

    fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() < LEAST_BYTES {
            return;
        }
        let mut kept = self.lock();
        let held: usize = kept.iter().map(Vec::capacity).sum();
        if held + buffer.capacity() <= KEPT_BYTES {
            kept.push(buffer);
            return;
        }
        // Freed after the lock: unmapping takes its time.
        drop(kept);
        drop(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn held(buffers: &Buffers) -> usize {
        buffers.lock().iter().map(Vec::capacity).sum()
    }

    #[test]
    fn a_buffer_is_used_again_for_lengths_like_its_own() {
        let buffers = Buffers(Mutex::new(Vec::new()));
        let mut first = buffers.take(4 * MIB);
        first[0] = 7;
        let place = first.as_ptr();
        first.truncate(5);
        buffers.give_back(first);
        // It is too large for the one and too small for the other.
        let others = [buffers.take(MIB), buffers.take(5 * MIB)];
        assert!(others.iter().all(|other| other.as_ptr() != place));
        let again = buffers.take(3 * MIB);
        assert_eq!((again.as_ptr(), again.len(), again[0]), (place, 3 * MIB, 7));
    }

    #[test]
    fn small_ones_and_too_many_are_not_kept() {
        let buffers = Buffers(Mutex::new(Vec::new()));
        buffers.give_back(vec![0; LEAST_BYTES - 1]);
        assert_eq!(held(&buffers), 0);
        let many: Vec<_> = (0..10).map(|_| buffers.take(4 * MIB)).collect();
        many.into_iter().for_each(|buffer| buffers.give_back(buffer));
        assert_eq!(held(&buffers), KEPT_BYTES);
    }
}
