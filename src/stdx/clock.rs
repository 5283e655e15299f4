//! The one door through which time comes in.

use rustix::time::{ClockId, clock_gettime};

use crate::types::Time;

/// Wall clock.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Realtime);
    Time { sec: time.tv_sec, nsec: time.tv_nsec as u32 }
}

/// Nanoseconds that all threads of this process spent on CPUs.
pub fn process_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds on a clock that never steps back.
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
