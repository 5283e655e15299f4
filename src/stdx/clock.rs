//! The one door through which time comes in.

use rustix::time::{ClockId, clock_gettime};

use crate::types::Time;

/// Wall clock. It may step, to and fro.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Realtime);
    #[cfg(test)]
    let time = step::stepped(time);
    Time { sec: time.tv_sec, nsec: time.tv_nsec as u32 }
}

/// Hour of the local day, 0 to 23, at so many seconds after 1970.
pub fn local_hour(sec: i64) -> u32 {
    let time = jiff::Timestamp::from_second(sec).unwrap_or_default();
    let hour = jiff::tz::TimeZone::system().to_datetime(time).hour();
    u32::try_from(hour).expect("an hour is not negative")
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

/// Wall clocks of tests, one for each thread.
#[cfg(test)]
pub mod step {
    use std::cell::Cell;

    thread_local! {
        static AHEAD_S: Cell<i64> = const { Cell::new(0) };
    }

    /// This thread's clock is ahead of the machine's by so many seconds from now on.
    pub fn set_ahead_s(ahead_s: i64) {
        AHEAD_S.set(ahead_s);
    }

    pub(super) fn stepped(mut time: rustix::time::Timespec) -> rustix::time::Timespec {
        time.tv_sec += AHEAD_S.get();
        time
    }
}
