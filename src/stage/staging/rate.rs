//! Bytes a second, over the last ten.

const SECONDS: usize = 10;

/// What went in each of the last seconds.
#[derive(Default)]
pub(super) struct Rate {
    bytes: [u64; SECONDS],
    /// The second of the newest entry.
    newest: u64,
}

impl Rate {
    /// So much went.
    pub(super) fn add(&mut self, now_ms: u64, bytes: u64) {
        self.turn_to(now_ms / 1000);
        self.bytes[(self.newest % SECONDS as u64) as usize] += bytes;
    }

    /// Bytes a second of late.
    pub(super) fn per_second(&mut self, now_ms: u64) -> u64 {
        self.turn_to(now_ms / 1000);
        self.bytes.iter().sum::<u64>() / SECONDS as u64
    }

    fn turn_to(&mut self, second: u64) {
        let passed = second.saturating_sub(self.newest).min(SECONDS as u64);
        for step in 1..=passed {
            self.bytes[((second - passed + step) % SECONDS as u64) as usize] = 0;
        }
        self.newest = self.newest.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_went_in_ten_seconds() {
        let mut rate = Rate::default();
        rate.add(100_000, 500);
        rate.add(104_999, 1500);
        assert_eq!(rate.per_second(105_000), 200);
        assert_eq!(rate.per_second(110_000), 150);
        assert_eq!(rate.per_second(200_000), 0);
        rate.add(200_000, 10);
        assert_eq!(rate.per_second(150_000), 1, "a step back changes nothing");
    }
}
