//! The duties of a client beside its mount: its heartbeat, and cleaning up after all clients.
//!
//! Owns their pace: each duty is a task of the first core, so that none keeps the heartbeat
//! waiting; of many clients one wins a turn of it, and a turn has an end. What is done in a turn is
//! `sessions`' and `hourly`'s; backups of metadata are `backup`'s.

mod backup;
mod hourly;
mod rotation;
mod sessions;
mod setting;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use crate::data::Data;
use crate::meta::Meta;
use crate::stdx::{Chance, monotonic_ns};
use crate::uring;
use crate::vfs::Vfs;

pub use backup::{BackupPlan, begin as back_up};
pub use sessions::remove_data;
pub use setting::{Mounted, follow};

/// Part of a period after which a job is due again, as with the real client.
const DUE: f64 = 0.9;
/// Heartbeats that may be missed.
const HEARTBEATS: u32 = 5;
/// Lifetime of a session without a heartbeat, in seconds: a year.
const NO_HEARTBEAT_S: i64 = 365 * 86_400;
/// Each turn of an hourly job begins so much earlier or later, in hundredths.
const JITTER_PERCENT: u64 = 5;

/// What a session does.
#[derive(Clone, Debug)]
pub struct Duties {
    /// Pace of the heartbeat; zero for none.
    pub heartbeat: Duration,
    /// Clean up after others (`--no-bgjob` does not).
    pub clean_up: bool,
}

impl Duties {
    /// Seconds until a session without news is dead.
    pub fn lifetime_s(&self) -> i64 {
        if self.heartbeat.is_zero() {
            NO_HEARTBEAT_S
        } else {
            (self.heartbeat * HEARTBEATS).as_secs().max(5) as i64
        }
    }
}

/// The floors that duties are done on.
#[derive(Clone)]
pub struct Floors {
    /// Names, and what the mount knows of them.
    pub vfs: Rc<Vfs>,
    /// Metadata.
    pub meta: Rc<Meta>,
    /// File bytes.
    pub data: Rc<Data>,
}

/// A turn of a job: it leaves what is left to the next one, whoever wins that.
#[derive(Clone, Copy)]
struct Turn {
    until_ns: u64,
}

impl Turn {
    fn lasting(time: Duration) -> Self {
        Self { until_ns: monotonic_ns().saturating_add(time.as_nanos() as u64) }
    }

    fn is_over(self) -> bool {
        monotonic_ns() >= self.until_ns
    }
}

/// Seconds after which a job with this period may be done again by anybody.
fn due_s(period: Duration) -> i64 {
    (period.as_secs_f64() * DUE) as i64
}

/// Begin all of them; `info` is the text of the session. They end with the core.
pub fn begin(floors: &Floors, duties: &Duties, info: String) {
    if duties.heartbeat.is_zero() {
        return;
    }
    uring::spawn(beat(Rc::clone(&floors.meta), duties.clone(), info));
    if duties.clean_up {
        uring::spawn(sessions::watch(floors.clone(), duties.heartbeat));
        for job in hourly::JOBS {
            uring::spawn(hourly::repeat(floors.clone(), job));
        }
    }
}

/// Say forever that this client lives.
async fn beat(meta: Rc<Meta>, duties: Duties, info: String) {
    loop {
        uring::sleep(duties.heartbeat).await;
        beat_once(&meta, &duties, &info).await;
    }
}

async fn beat_once(meta: &Meta, duties: &Duties, info: &str) {
    if let Err(error) = meta.heartbeat(info.to_owned(), duties.lifetime_s()).await {
        tracing::warn!(%error, "no heartbeat this time");
    }
}

/// `period`, give or take some.
fn about(period: Duration, chance: &mut Chance) -> Duration {
    period * (100 - JITTER_PERCENT + chance.below(2 * JITTER_PERCENT + 1)) as u32 / 100
}
