//! What one client does each hour for all: data of deleted files, unused slices, the trash.
//!
//! Owns the stamps of these jobs, which official clients honour too, and the batches they are done
//! in. Relies on the floors below for work that may be given up anywhere and done again.

use std::rc::Rc;
use std::time::Duration;

use super::sessions::remove_data;
use super::{Floors, Turn, about, due_s, setting};
use crate::data::{Data, DataError};
use crate::meta::{Local, Meta, MetaError};
use crate::stdx::{Chance, monotonic_ns, now};
use crate::uring;

/// How often each job is done.
const PERIOD: Duration = Duration::from_secs(3600);
/// The end of a turn: another client may win the next one.
const TURN: Duration = Duration::from_secs(50 * 60);
/// Files are left to the client that deleted them for so long.
const QUEUE_AGE_S: i64 = 3600;
/// Deleted files, slices or compactions that are worked off together.
const BATCH: usize = 128;
/// Hours beyond its days for which the trash keeps things: the one they came in counts in full.
const TRASH_GRACE_S: i64 = 2 * 3600;
const DAY_S: i64 = 86_400;
/// What a clock may be put right by within an hour.
const JUMP_S: i64 = 300;

/// What stands in the way of a job.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// Metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Objects or metadata failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The trash could not be looked through.
    #[error("the trash cannot be listed")]
    Trash,
    /// The volume's setting cannot be read.
    #[error("the volume's setting cannot be read: {0}")]
    Setting(String),
    /// What is mounted is not there any more.
    #[error("{0}")]
    Gone(String),
}

/// Whether the wall clock went as time did. What is due by a clock that has jumped ahead goes for good:
/// there is an hour to put it right.
pub(super) struct Steady {
    ahead_s: i64,
}

impl Steady {
    /// The wall clock and the running one as they are.
    pub fn seen(wall_s: i64, running_ns: u64) -> Self {
        Self { ahead_s: wall_s - (running_ns / 1_000_000_000) as i64 }
    }

    /// Whether the wall clock has not jumped ahead since it was looked at last.
    pub fn is_steady(&mut self, wall_s: i64, running_ns: u64) -> bool {
        let before = std::mem::replace(self, Self::seen(wall_s, running_ns));
        self.ahead_s - before.ahead_s <= JUMP_S
    }
}

/// A job: the stamp that says who did it last, and what is done.
pub(super) struct Job {
    stamp: &'static str,
    work: for<'a> fn(&'a Floors, Turn) -> Local<'a, Result<(), Obstacle>>,
}

/// All of them, each on its own task: a long one keeps no other waiting.
pub(super) const JOBS: [Job; 3] = [
    Job {
        stamp: "lastCleanupFiles",
        work: |floors, turn| Box::pin(queued_files(&floors.meta, &floors.data, turn)),
    },
    Job {
        stamp: "nextCleanupSlices",
        work: |floors, turn| Box::pin(unused_slices(&floors.meta, &floors.data, turn)),
    },
    Job { stamp: "lastCleanupTrash", work: |floors, turn| Box::pin(trash(floors, turn)) },
];

/// Do a job whenever it is due and this client wins it, forever.
pub(super) async fn repeat(floors: Floors, job: Job) {
    let mut chance = Chance::from_system();
    let mut clock = Steady::seen(now().sec, monotonic_ns());
    loop {
        uring::sleep(about(PERIOD, &mut chance)).await;
        if !clock.is_steady(now().sec, monotonic_ns()) {
            tracing::warn!(
                job = job.stamp,
                "the clock has jumped ahead; nothing goes by it for an hour"
            );
            continue;
        }
        if floors.meta.is_held() {
            continue;
        }
        let done = match floors.meta.win_job(job.stamp, due_s(PERIOD)).await {
            Ok(true) => (job.work)(&floors, Turn::lasting(TURN)).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            tracing::warn!(job = job.stamp, %error, "not done to its end; in an hour again");
        }
    }
}

/// Whether a turn is over, or no changes are to be made any more.
fn is_over(turn: Turn, meta: &Meta) -> bool {
    turn.is_over() || meta.is_held()
}

/// Remove data of files that were deleted an hour ago and whose client did not come to it.
pub(super) async fn queued_files(meta: &Meta, data: &Rc<Data>, turn: Turn) -> Result<(), Obstacle> {
    while !is_over(turn, meta) {
        let queued = meta.queued_files(now().sec - QUEUE_AGE_S, BATCH).await?;
        let count = queued.len();
        if !remove_data(data, queued).await || count < BATCH {
            break;
        }
    }
    Ok(())
}

/// Remove slices that lost their last reference and stayed.
pub(super) async fn unused_slices(
    meta: &Meta,
    data: &Rc<Data>,
    turn: Turn,
) -> Result<(), Obstacle> {
    let (mut from, mut count) = (Some(0), 0);
    while let Some(at) = from.filter(|_| !is_over(turn, meta)) {
        let page = meta.unused_slices(at, BATCH).await?;
        count += data.delete_slices(page.slices).await?;
        from = page.next;
    }
    if count > 0 {
        tracing::info!(count, "removed unused slices");
    }
    Ok(())
}

/// Let go of what the trash kept long enough: names, and slices that compactions replaced. For how
/// long is asked of the volume each time: it may have been changed since the mount.
async fn trash(floors: &Floors, turn: Turn) -> Result<(), Obstacle> {
    let days = setting::obey(&floors.meta).await?.trash_days();
    let kept_s = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_S);
    let names = expired_names(floors, kept_s, turn).await;
    replaced_slices(&floors.meta, &floors.data, kept_s, turn).await?;
    names
}

/// Remove what has been in the trash for longer than `kept_s` seconds.
pub(super) async fn expired_names(
    floors: &Floors,
    kept_s: i64,
    turn: Turn,
) -> Result<(), Obstacle> {
    let edge_s = now().sec.saturating_sub(kept_s).saturating_sub(TRASH_GRACE_S);
    let count = floors.vfs.expire_trash(edge_s, &|| is_over(turn, &floors.meta)).await;
    let count = count.map_err(|_| Obstacle::Trash)?;
    if count > 0 {
        tracing::info!(count, "removed from the trash for good");
    }
    Ok(())
}

/// Let go of slices that a compaction replaced longer than `kept_s` seconds ago.
pub(super) async fn replaced_slices(
    meta: &Meta,
    data: &Rc<Data>,
    kept_s: i64,
    turn: Turn,
) -> Result<(), Obstacle> {
    while !is_over(turn, meta) {
        let before_s = now().sec.saturating_sub(kept_s);
        let released = meta.release_delayed(before_s, BATCH).await?;
        data.delete_slices(released.unused).await?;
        if released.entries == 0 {
            break;
        }
    }
    Ok(())
}
