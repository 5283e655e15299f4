//! `.accesslog`: a line for each operation, for those who read it.
//!
//! Owns the buffers, one for each open reader. Nobody waits for a reader: what does not fit into
//! its buffer is left out, and the reader is told how much. While nobody reads, a request looks at
//! one flag.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::LOG_BYTES_MAX;
use crate::stdx::Gate;
use crate::uring;

/// How long a read gathers lines that do not fill it, as with the official client.
const GATHER: Duration = Duration::from_secs(1);
/// What a reader is told when there was nothing.
const NOTHING: &[u8] = b"#\n";

/// All readers of a mount's log.
#[derive(Default)]
pub(in crate::vfs) struct AccessLog {
    readers: Mutex<Vec<Arc<Reader>>>,
    followed: AtomicBool,
}

/// One open reader.
#[derive(Default)]
pub(in crate::vfs) struct Reader {
    state: Mutex<State>,
    enough: Gate,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Lines that found no room since the last read.
    dropped: u64,
    /// Bytes that a read waits for.
    wanted: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AccessLog {
    /// Whether anybody reads.
    #[inline]
    pub fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// One more reader, of what happens from now on.
    pub fn open(&self) -> Arc<Reader> {
        let reader = Arc::new(Reader::default());
        let mut readers = locked(&self.readers);
        readers.push(Arc::clone(&reader));
        self.followed.store(true, Ordering::Relaxed);
        reader
    }

    /// One reader less.
    pub fn close(&self, reader: &Arc<Reader>) {
        let mut readers = locked(&self.readers);
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        self.followed.store(!readers.is_empty(), Ordering::Relaxed);
    }

    /// A line for everybody who reads.
    pub fn tell(&self, line: &str) {
        for reader in locked(&self.readers).iter() {
            reader.push(line.as_bytes());
        }
    }
}

impl Reader {
    fn push(&self, line: &[u8]) {
        let mut state = locked(&self.state);
        if state.bytes.len() + line.len() > LOG_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes.extend(line);
        if state.wanted > 0 && state.bytes.len() >= state.wanted {
            state.wanted = 0;
            drop(state);
            self.enough.open();
        }
    }

    /// What there is when a read of `len` bytes is full, or after a second.
    pub async fn read(&self, len: usize) -> Vec<u8> {
        let ticket = self.enough.ticket();
        let waits = {
            let mut state = locked(&self.state);
            state.wanted = len;
            state.bytes.len() < len
        };
        if waits {
            // Whichever comes first.
            let _ = uring::timeout(GATHER, self.enough.wait(ticket)).await;
        }
        self.take(len)
    }

    fn take(&self, len: usize) -> Vec<u8> {
        let mut state = locked(&self.state);
        state.wanted = 0;
        let count = len.min(state.bytes.len());
        let mut taken: Vec<u8> = state.bytes.drain(..count).collect();
        // Told where the gap is: behind the last line before it.
        if state.dropped > 0 && state.bytes.is_empty() {
            let note = format!("# {} lines left out: the reader was too slow\n", state.dropped);
            state.bytes.extend(note.as_bytes());
            state.dropped = 0;
        }
        if taken.is_empty() {
            taken.extend(&NOTHING[..len.min(NOTHING.len())]);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;

    #[test]
    fn lines_go_to_those_who_read() {
        let log = AccessLog::default();
        assert!(!log.is_followed());
        let (first, second) = (log.open(), log.open());
        log.tell("a\n");
        log.close(&second);
        log.tell("bc\n");
        assert!(log.is_followed());
        assert_eq!(block_on(first.read(3)), b"a\nb");
        assert_eq!(block_on(first.read(2)), b"c\n");
        assert_eq!(second.take(10), b"a\n");
        assert_eq!(second.take(10), NOTHING);
        log.close(&first);
        assert!(!log.is_followed());
    }

    #[test]
    fn a_reader_waits_a_second_for_what_does_not_fill_its_read() {
        let log = AccessLog::default();
        let reader = log.open();
        let began = crate::stdx::monotonic_ns();
        log.tell("line\n");
        assert_eq!(block_on(reader.read(100)), b"line\n");
        assert!(crate::stdx::monotonic_ns() - began >= 1_000_000_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                log.tell("other\n");
            });
            let began = crate::stdx::monotonic_ns();
            assert_eq!(block_on(reader.read(6)), b"other\n");
            assert!(crate::stdx::monotonic_ns() - began < 900_000_000, "a full read goes on");
        });
    }

    #[test]
    fn a_slow_reader_loses_lines_and_hears_of_it() {
        let log = AccessLog::default();
        let reader = log.open();
        let line = format!("{}\n", "x".repeat(1023));
        let room = LOG_BYTES_MAX / line.len();
        (0..room + 7).for_each(|_| log.tell(&line));
        assert_eq!(reader.take(LOG_BYTES_MAX).len(), room * line.len());
        log.tell("after\n");
        let told = reader.take(1000);
        assert_eq!(told, b"# 7 lines left out: the reader was too slow\nafter\n");
    }
}
