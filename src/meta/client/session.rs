//! The session of a mount, and the end of sessions.

use std::sync::atomic::Ordering;

use super::{Meta, MetaShared, now};
use crate::meta::engine::Session;
use crate::meta::slices::MetaError;
use crate::meta::txn::Counter;
use crate::stdx::monotonic_ns;
use crate::types::Ino;

/// How often a session that is ended is asked for what it keeps; a client that is not dead may go
/// on to keep more.
const END_ROUNDS: usize = 4;

impl MetaShared {
    /// When a session that is heard of now is dead, in unix seconds. By the latest that the wall clock
    /// has been and the time since: one that steps back makes nobody look dead to the others.
    fn expire_s(&self, lifetime_s: i64) -> i64 {
        let running_s = (monotonic_ns() / 1_000_000_000) as i64;
        let ahead_s = now().sec - running_s;
        let most_s = self.clock_ahead_s.fetch_max(ahead_s, Ordering::AcqRel).max(ahead_s);
        running_s + most_s + lifetime_s
    }
}

impl Meta {
    /// Sessions in the volume, live and dead.
    pub async fn sessions(&self) -> Result<Vec<Session>, MetaError> {
        Ok(self.engine.sessions().await?)
    }

    /// Whether this client does the periodic job called `name` this time.
    pub async fn win_job(&self, name: &'static str, period_s: i64) -> Result<bool, MetaError> {
        Ok(self.engine.win_job(name, now().sec, period_s).await?)
    }

    /// Register this mount; `info` is the JSON text that `juicefs status` shows.
    pub async fn open_session(&self, info: String, lifetime_s: i64) -> Result<u64, MetaError> {
        let sid = self.engine.reserve(Counter::NextSession, 1).await? as u64;
        self.engine
            .put_session(Session { sid, expire: self.shared.expire_s(lifetime_s), info })
            .await?;
        self.shared.sid.store(sid, Ordering::Release);
        Ok(sid)
    }

    /// Stay alive for another `lifetime_s` seconds.
    pub async fn heartbeat(&self, info: String, lifetime_s: i64) -> Result<(), MetaError> {
        let sid = self.shared.sid();
        let expire = self.shared.expire_s(lifetime_s);
        Ok(self.engine.put_session(Session { sid, expire, info }).await?)
    }

    /// End a session: locks go, inodes it kept open go; those, with their lengths. Its record goes
    /// last: if this does not come to its end, whoever finds the session dead does it again.
    pub async fn close_session(&self, sid: u64) -> Result<Vec<(Ino, u64)>, MetaError> {
        let mut gone = Vec::new();
        for _ in 0..END_ROUNDS {
            let kept = self.engine.end_session(sid).await?;
            if kept.is_empty() {
                break;
            }
            for ino in kept {
                if let Some(length) = self.drop_sustained_of(sid, ino).await? {
                    gone.push((ino, length));
                }
            }
        }
        Ok(gone)
    }
}
