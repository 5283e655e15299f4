//! A folder whose disk fails is left alone for a while.
//!
//! Owns the rule: three failures within a minute, then a minute of rest in which nothing is asked
//! of it. A cache that is not there costs a fetch; one that hangs costs the mount.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const FAILURES_MAX: u32 = 3;
const WINDOW_NS: u64 = 60_000_000_000;
const REST_NS: u64 = 60_000_000_000;

#[derive(Default)]
pub(super) struct Health {
    window: Mutex<Window>,
    rests_until_ns: AtomicU64,
}

#[derive(Default)]
struct Window {
    start_ns: u64,
    failures: u32,
}

impl Health {
    /// Whether the folder may be asked at `now_ns` of the steady clock.
    pub(super) fn usable(&self, now_ns: u64) -> bool {
        now_ns >= self.rests_until_ns.load(Ordering::Relaxed)
    }

    /// Count a failure; whether the rest begins with it.
    pub(super) fn failed(&self, now_ns: u64) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.failures == 0 || now_ns.saturating_sub(window.start_ns) > WINDOW_NS {
            *window = Window { start_ns: now_ns, failures: 0 };
        }
        window.failures += 1;
        if window.failures < FAILURES_MAX {
            return false;
        }
        window.failures = 0;
        self.rests_until_ns.store(now_ns + REST_NS, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_minute_earn_a_rest() {
        let health = Health::default();
        assert!(!health.failed(10) && !health.failed(20));
        assert!(!health.failed(20 + WINDOW_NS), "the first two are forgotten");
        assert!(!health.failed(21 + WINDOW_NS) && health.usable(22 + WINDOW_NS));
        let third = 23 + WINDOW_NS;
        assert!(health.failed(third));
        assert!(!health.usable(third) && !health.usable(third + REST_NS - 1));
        assert!(health.usable(third + REST_NS));
    }
}
