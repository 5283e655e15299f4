//! Sessions of clients that are gone: their locks, and the files they kept open.
//!
//! Owns which sessions count as dead and how many are ended in a turn: overdue by this client's
//! clock, which may be wrong, and silent for a heartbeat; never its own. Relies on `meta` for an end
//! that can be repeated.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::{Floors, Turn, due_s};
use crate::data::Data;
use crate::meta::{Meta, MetaError, Session};
use crate::stdx::now;
use crate::types::Ino;
use crate::uring;

/// Dead sessions that are ended in a turn, as with the real client.
const SESSIONS_MAX: usize = 1000;

/// Sessions that look dead, each with its expiry in unix seconds.
pub(super) type Overdue = HashMap<u64, i64>;

/// Look for dead sessions with each heartbeat, forever.
pub(super) async fn watch(floors: Floors, heartbeat: Duration) {
    loop {
        uring::sleep(heartbeat).await;
        if floors.meta.is_held() {
            continue;
        }
        let won = floors.meta.win_job("lastCleanupSessions", due_s(heartbeat)).await;
        let ended = match won {
            Ok(true) => turn(&floors, heartbeat).await,
            Ok(false) => Ok(0),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "sessions of dead clients stay for now");
        }
    }
}

/// Two looks, a heartbeat apart.
async fn turn(floors: &Floors, heartbeat: Duration) -> Result<usize, MetaError> {
    let suspects = overdue(&floors.meta).await?;
    if suspects.is_empty() {
        return Ok(0);
    }
    uring::sleep(heartbeat).await;
    end_dead(&floors.meta, &floors.data, Turn::lasting(heartbeat), &suspects).await
}

/// Sessions of others whose heartbeat is overdue.
pub(super) async fn overdue(meta: &Meta) -> Result<Overdue, MetaError> {
    let own = meta.lock_owner(0).sid;
    let late = |session: &Session| session.expire < now().sec && session.sid != own;
    let found = meta.sessions().await?.into_iter().filter(late).take(SESSIONS_MAX);
    Ok(found.map(|session| (session.sid, session.expire)).collect())
}

/// End sessions that have said nothing since they were suspected, until the turn is over or no changes are to
/// be made any more; how many came to their end.
pub(super) async fn end_dead(
    meta: &Meta,
    data: &Rc<Data>,
    turn: Turn,
    suspects: &Overdue,
) -> Result<usize, MetaError> {
    let silent = |session: &Session| suspects.get(&session.sid) == Some(&session.expire);
    let dead = meta.sessions().await?.into_iter().filter(silent);
    let mut ended = 0;
    for session in dead {
        if meta.is_held() {
            break;
        }
        tracing::info!(sid = session.sid, "ending the session of a client that is gone");
        match meta.close_session(session.sid).await {
            Ok(gone) => {
                remove_data(data, gone).await;
                ended += 1;
            }
            // One that cannot be ended must not keep the others.
            Err(error) => tracing::warn!(sid = session.sid, %error, "this session stays"),
        }
        if turn.is_over() {
            break;
        }
    }
    Ok(ended)
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
