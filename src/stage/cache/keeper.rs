//! What comes due in a cache with time: blocks expire, folders are scanned again.
//!
//! Owns the paces, on a thread that sleeps in between. The work in a folder is done by that
//! folder's own threads, so that one slow disk holds up nobody else.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::clock::Clock;
use super::config::{CacheConfig, CacheError};
use super::memory::Memory;
use super::scan::Ask;
use super::writer::Job;

/// Longest pace of looking for expired blocks.
const EXPIRE_PACE_MAX: Duration = Duration::from_secs(60);

/// How a folder's threads are called.
pub(super) struct Bell {
    pub(super) jobs: Sender<Job>,
    pub(super) scans: Sender<Ask>,
}

/// Something that is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    pace_ns: u64,
    next_ns: u64,
}

impl Round {
    /// `None` when it is never due.
    fn new(pace: Duration, now_ns: u64) -> Option<Self> {
        let pace_ns = u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX);
        (pace_ns > 0).then_some(Self { pace_ns, next_ns: now_ns.saturating_add(pace_ns) })
    }

    /// Whether it is time; then the next time is a pace from now.
    fn is_due(&mut self, now_ns: u64) -> bool {
        let due = now_ns >= self.next_ns;
        if due {
            self.next_ns = now_ns.saturating_add(self.pace_ns);
        }
        due
    }
}

/// The thread; dropping it ends it.
pub(super) struct Keeper {
    asks: Option<Sender<Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// A keeper of these; without a thread when nothing ever comes due.
    pub(super) fn start(
        config: &CacheConfig,
        clock: Clock,
        memory: Arc<Memory>,
        bells: Vec<Bell>,
    ) -> Result<Self, CacheError> {
        let now_ns = clock.steady_ns();
        let expire = Duration::from_nanos(config.expire_ns()).min(EXPIRE_PACE_MAX);
        let expire = Round::new(expire, now_ns);
        let scan = Round::new(config.scan_interval, now_ns).filter(|_| !bells.is_empty());
        if expire.is_none() && scan.is_none() {
            return Ok(Self { asks: None, thread: None });
        }
        let duties = Duties { expire, scan, clock, memory, bells };
        let (asks, asked) = bounded(1);
        let thread = thread::Builder::new().name("cache-keep".to_owned());
        let thread = thread.spawn(move || duties.run(&asked));
        let folder = || "in memory".to_owned();
        let thread = thread.map_err(|reason| CacheError::Thread { folder: folder(), reason })?;
        Ok(Self { asks: Some(asks), thread: Some(thread) })
    }

    /// Wait until what is due has been asked for.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let Some(asks) = &self.asks else { return };
        let (done, wait) = bounded(1);
        asks.send(done).expect("the keeper listens");
        wait.recv().expect("the keeper answers");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

struct Duties {
    expire: Option<Round>,
    scan: Option<Round>,
    clock: Clock,
    memory: Arc<Memory>,
    bells: Vec<Bell>,
}

impl Duties {
    /// Until nobody can ask any more; who asks is answered when all that was due is done.
    fn run(mut self, asked: &Receiver<Sender<()>>) {
        loop {
            let answer = match asked.recv_timeout(self.pause()) {
                Ok(answer) => Some(answer),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.go_round();
            // Who does not wait any more needs no answer.
            answer.map(|answer| answer.send(()).ok());
        }
    }

    fn pause(&self) -> Duration {
        let now_ns = self.clock.steady_ns();
        let next = [self.expire, self.scan].into_iter().flatten().map(|round| round.next_ns).min();
        Duration::from_nanos(next.unwrap_or(u64::MAX).saturating_sub(now_ns))
    }

    fn go_round(&mut self) {
        let now_ns = self.clock.steady_ns();
        if self.expire.as_mut().is_some_and(|round| round.is_due(now_ns)) {
            self.memory.expire();
            self.bells.iter().for_each(|bell| ring(bell.jobs.try_send(Job::Expire)));
        }
        if self.scan.as_mut().is_some_and(|round| round.is_due(now_ns)) {
            self.bells.iter().for_each(|bell| ring(bell.scans.try_send(Ask::Scan)));
        }
    }
}

/// A folder that has much to do is asked again in the next round.
fn ring<T>(result: Result<(), TrySendError<T>>) {
    if result.is_err() {
        tracing::debug!("a cache folder is busy; its round is left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_comes_at_its_pace_and_is_not_made_up_for() {
        let mut round = Round::new(Duration::from_nanos(10), 100).unwrap();
        assert!(!round.is_due(109) && round.is_due(110) && !round.is_due(119));
        assert!(round.is_due(500) && !round.is_due(509) && round.is_due(510));
        assert_eq!(Round::new(Duration::ZERO, 100), None);
    }
}
