//! The duties of a client beside its mount: heartbeat, sessions of dead clients, deleted files.
//!
//! Owns their pace. Each runs on one core, and of many clients the one that wins does the work.

use std::rc::Rc;
use std::time::Duration;

use crate::data::Data;
use crate::meta::{Meta, MetaError};
use crate::stdx::now;
use crate::types::Ino;
use crate::uring;

/// How often deleted files are looked for whose client did not remove them.
const QUEUE_PERIOD_S: i64 = 3600;
/// Files are left to the client that deleted them for so long.
const QUEUE_AGE_S: i64 = 3600;
/// Deleted files fetched at a time.
const QUEUE_BATCH: usize = 128;
/// Part of a period after which a job is due again, as with the real client.
const DUE: f64 = 0.9;
/// Heartbeats that may be missed.
const HEARTBEATS: u32 = 5;
/// Lifetime of a session without a heartbeat, in seconds: a year.
const NO_HEARTBEAT_S: i64 = 365 * 86_400;

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

/// Do them until the core stops; `info` is the text of the session.
pub async fn run(meta: Rc<Meta>, data: Rc<Data>, duties: Duties, info: String) {
    if duties.heartbeat.is_zero() {
        return;
    }
    let mut next_queue_s = now().sec + QUEUE_PERIOD_S;
    loop {
        uring::sleep(duties.heartbeat).await;
        if let Err(error) = meta.heartbeat(info.clone(), duties.lifetime_s()).await {
            tracing::warn!(%error, "no heartbeat this time");
            continue;
        }
        if !duties.clean_up {
            continue;
        }
        if let Err(error) = end_dead_sessions(&meta, &data, duties.heartbeat).await {
            tracing::warn!(%error, "sessions of dead clients stay for now");
        }
        if now().sec >= next_queue_s {
            next_queue_s = now().sec + QUEUE_PERIOD_S;
            if let Err(error) = remove_queued(&meta, &data).await {
                tracing::warn!(%error, "deleted files stay for now");
            }
        }
    }
}

async fn end_dead_sessions(
    meta: &Meta,
    data: &Rc<Data>,
    heartbeat: Duration,
) -> Result<(), MetaError> {
    let period_s = (heartbeat.as_secs_f64() * DUE) as i64;
    if !meta.win_job("lastCleanupSessions", period_s).await? {
        return Ok(());
    }
    for session in meta.sessions().await? {
        if session.expire < now().sec {
            tracing::info!(sid = session.sid, "ending the session of a client that is gone");
            match meta.close_session(session.sid).await {
                Ok(gone) => drop(remove_data(data, gone).await),
                // One that cannot be ended must not keep the others.
                Err(error) => tracing::warn!(sid = session.sid, %error, "this session stays"),
            }
        }
    }
    Ok(())
}

async fn remove_queued(meta: &Meta, data: &Rc<Data>) -> Result<(), MetaError> {
    let period_s = (QUEUE_PERIOD_S as f64 * DUE) as i64;
    if !meta.win_job("lastCleanupFiles", period_s).await? {
        return Ok(());
    }
    loop {
        let queued = meta.queued_files(now().sec - QUEUE_AGE_S, QUEUE_BATCH).await?;
        let count = queued.len();
        if !remove_data(data, queued).await || count < QUEUE_BATCH {
            return Ok(());
        }
    }
}

/// Remove the data of deleted files; whether that worked. If not, they stay in the queue.
pub async fn remove_data(data: &Rc<Data>, files: Vec<(Ino, u64)>) -> bool {
    if files.is_empty() {
        return true;
    }
    let removed = data.delete_files(files).await;
    if let Err(error) = &removed {
        tracing::warn!(%error, "data of deleted files stays for now");
    }
    removed.is_ok()
}
