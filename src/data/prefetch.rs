//! Recognising sequential readers and deciding how far to read ahead of them.
//!
//! Owns two streams per file and their windows; plain moves. Does not fetch (`reader`).

use std::ops::Range;

/// How far a stream goes on before it is known as one.
const DENSE_BYTES_MIN: u64 = 128 * 1024;

/// One stream of reads.
#[derive(Clone, Copy, Default)]
struct Stream {
    /// Where the next read is expected.
    next: u64,
    /// Bytes read in this stream.
    total: u64,
    /// How far ahead to be.
    window: u64,
    /// All before this was asked for.
    asked: u64,
    /// What it went past lately, in bytes, and how much of that was read.
    passed: u64,
    read: u64,
    /// When it was last used, in reads of this file.
    used: u64,
}

impl Stream {
    /// Take note of a read at the stream's head, which goes on by `passed` bytes.
    fn go_on(&mut self, passed: u64, len: u64, block: u64) {
        self.passed += passed;
        self.read += len;
        if self.passed > block.max(2 * DENSE_BYTES_MIN) {
            self.passed /= 2;
            self.read /= 2;
        }
    }

    /// Whether it went on for a while and most of what it went past was read. Reads here and there in a file of a few blocks
    /// are near each other, and yet nobody wants what lies between.
    fn is_dense(&self) -> bool {
        self.passed >= DENSE_BYTES_MIN && 2 * self.read >= self.passed
    }
}

/// The streams of a file.
#[derive(Default)]
pub(super) struct Sessions {
    streams: [Stream; 2],
    reads: u64,
}

/// What a read tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// It continues a stream that leaves little out, or starts at the beginning.
    pub sequential: bool,
    /// Fetch this soon.
    pub ahead: Option<Range<u64>>,
}

impl Sessions {
    /// Take note of a read; windows start at a block and double up to `window_max`.
    pub fn observe(&mut self, offset: u64, len: u64, block: u64, window_max: u64) -> Advice {
        self.reads += 1;
        let continues = |stream: &Stream| {
            let behind = block.max(stream.window / 8);
            stream.used > 0
                && offset + behind >= stream.next
                && offset <= stream.next + stream.window + block
        };
        let found = self.streams.iter().position(continues);
        let at = found.unwrap_or_else(|| usize::from(self.streams[0].used > self.streams[1].used));
        let stream = &mut self.streams[at];
        let end = offset + len;
        if found.is_none() {
            // Who begins at the beginning most likely goes on.
            let trust = if offset == 0 { DENSE_BYTES_MIN } else { 0 };
            let (passed, read) = (trust, trust);
            *stream = Stream { asked: end, next: end, passed, read, ..Stream::default() };
        }
        stream.used = self.reads;
        stream.total += len;
        let passed = if found.is_some() { end.saturating_sub(stream.next) } else { len };
        stream.next = stream.next.max(end);
        let near = found.is_some() && offset + block / 8 >= stream.next - len;
        if near || found.is_none() {
            stream.go_on(passed, len, block);
        }
        let sequential = offset == 0 || (near && stream.is_dense());
        if sequential && stream.window == 0 {
            stream.window = block.min(window_max);
        } else if sequential && stream.total >= stream.window {
            stream.window = (stream.window * 2).min(window_max);
        }
        let (from, to) = (stream.asked.max(end), stream.next + stream.window);
        // A block's worth at a time: no task per small read.
        let due = sequential && to >= from + block.min(stream.window).max(1);
        if due {
            stream.asked = to;
        }
        Advice { sequential, ahead: due.then_some(from..to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Chance;

    const BLOCK: u64 = 4 << 20;
    const MAX: u64 = 32 << 20;

    #[test]
    fn a_sequential_reader_is_led_by_a_growing_window_without_gaps() {
        let mut sessions = Sessions::default();
        let mut asked = 0;
        for n in 0..400 {
            let (offset, len) = (n << 17, 1 << 17);
            let advice = sessions.observe(offset, len, BLOCK, MAX);
            assert!(advice.sequential);
            if let Some(ahead) = advice.ahead {
                assert!(asked == 0 || ahead.start == asked);
                asked = ahead.end;
                assert!(asked <= offset + len + MAX);
            }
        }
        assert!(asked >= (400 << 17) + MAX - BLOCK);
    }

    #[test]
    fn random_reads_lead_to_nothing() {
        let mut sessions = Sessions::default();
        for n in 1..100u64 {
            let offset = (n * 7_919 % 101) << 30;
            let advice = sessions.observe(offset + 4096, 4096, BLOCK, MAX);
            assert_eq!(advice, Advice { sequential: false, ahead: None });
        }
    }

    #[test]
    fn random_reads_in_a_file_of_few_blocks_lead_to_nothing() {
        for blocks in [1, 2, 8, 32] {
            let (mut sessions, mut chance) = (Sessions::default(), Chance::seeded(blocks));
            let places = blocks * BLOCK / 4096 - 1;
            let asked: u64 = (0..10_000)
                .filter_map(|_| {
                    let offset = 4096 * (1 + chance.below(places));
                    sessions.observe(offset, 4096, BLOCK, MAX).ahead
                })
                .map(|ahead| ahead.end.min(blocks * BLOCK).saturating_sub(ahead.start))
                .sum();
            assert!(asked <= 2 * BLOCK, "{asked} bytes of {blocks} blocks");
        }
    }

    #[test]
    fn a_sequential_reader_is_known_although_its_reads_overtake_each_other() {
        let (mut sessions, mut chance) = (Sessions::default(), Chance::seeded(7));
        let mut asked = 0;
        for turn in 0..100 {
            let mut places: Vec<u64> = (turn * 8..turn * 8 + 8).collect();
            for at in (1..8).rev() {
                places.swap(at, chance.below(at as u64 + 1) as usize);
            }
            for place in places {
                let advice = sessions.observe(place << 17, 1 << 17, BLOCK, MAX);
                asked = advice.ahead.map_or(asked, |ahead| ahead.end);
            }
        }
        assert!(asked >= (800 << 17) + MAX - BLOCK);
    }

    #[test]
    fn no_window_no_readahead() {
        let mut sessions = Sessions::default();
        for n in 0..100u64 {
            assert_eq!(sessions.observe(n << 20, 1 << 20, BLOCK, 0).ahead, None);
        }
    }
}
