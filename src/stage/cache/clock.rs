//! The cache's sense of time; tests move it.

use crate::stdx;

/// Two clocks that run together.
#[derive(Clone, Default)]
pub(super) struct Clock {
    #[cfg(test)]
    ahead_ns: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Clock {
    /// Nanoseconds since 1970, as files have them.
    pub(super) fn wall_ns(&self) -> u64 {
        let now = stdx::now();
        now.sec.max(0) as u64 * 1_000_000_000 + u64::from(now.nsec) + self.ahead_ns()
    }

    /// Nanoseconds on a clock that never steps back.
    pub(super) fn steady_ns(&self) -> u64 {
        stdx::monotonic_ns() + self.ahead_ns()
    }

    #[cfg(not(test))]
    fn ahead_ns(&self) -> u64 {
        0
    }

    #[cfg(test)]
    fn ahead_ns(&self) -> u64 {
        self.ahead_ns.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Let time pass.
    #[cfg(test)]
    pub(super) fn advance(&self, by: std::time::Duration) {
        let by_ns = u64::try_from(by.as_nanos()).expect("less than an age");
        self.ahead_ns.fetch_add(by_ns, std::sync::atomic::Ordering::SeqCst);
    }
}
