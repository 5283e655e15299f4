//! The connection of one core to its Redis, kept up: connects when first asked, connects again
//! when it was cut, and sends again what had no answer.
//!
//! Owns the patience; how a connection comes about is `dial`'s. Everything sent through it may reach
//! Redis twice: callers send only what may.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;

use super::cluster::Seen;
use super::dial::{Failed, Met, Try, dial};
use super::options::Patience;
use super::reply::{self, Next};
use super::script::Hashes;
use super::target::Target;
use super::wire::Wire;
use super::words::Asked;
use crate::limits::REDIS_REQUESTS_MAX;
use crate::meta::engine::EngineError;
use crate::stdx::{Gate, Permits, monotonic_ns};
use crate::uring::sleep;

/// How long the very first connection is tried for.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// What all cores of a mount share about their Redis.
pub(super) struct Shared {
    pub target: Target,
    /// What connections have told of the servers.
    pub seen: Seen,
    /// A connection has stood once: from then on a missing server is waited for.
    reached: AtomicBool,
    /// The session these cores serve, 0 without one.
    pub sid: AtomicU64,
}

impl Shared {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            seen: Seen::default(),
            reached: AtomicBool::new(false),
            sid: AtomicU64::new(0),
        }
    }

    /// One try to connect, with all patience.
    pub(super) fn one_try(&self) -> Try<'_> {
        let reached = self.reached.load(Ordering::Acquire);
        let Self { target, seen, .. } = self;
        Try { target, seen, reached, patience: target.patience.connect }
    }
}

pub(super) struct Link {
    pub shared: Arc<Shared>,
    wire: RefCell<Option<Rc<Wire>>>,
    hashes: RefCell<Rc<Hashes>>,
    /// The run of the server that the last connection led to.
    run: RefCell<Rc<str>>,
    /// One at a time connects; the others wait at the gate.
    connecting: Cell<bool>,
    gate: Gate,
    /// Why there is no connection, as the log has it.
    told: RefCell<Option<String>>,
    requests: Arc<Permits>,
}

/// The turn to connect.
struct Turn<'a>(&'a Link);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.gate.open();
    }
}

/// Pauses that double.
struct Pauses {
    next: Duration,
    last: Duration,
}

impl Pauses {
    fn new(patience: &Patience) -> Self {
        Self { next: patience.pause_min, last: patience.pause_max }
    }

    fn are_long(&self) -> bool {
        self.next == self.last
    }

    async fn pause(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.last);
    }
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            wire: RefCell::default(),
            hashes: RefCell::default(),
            run: RefCell::new("".into()),
            connecting: Cell::new(false),
            gate: Gate::default(),
            told: RefCell::default(),
            requests: Permits::new(REDIS_REQUESTS_MAX),
        }
    }

    /// The names of the scripts, which a connection has loaded by then.
    pub(super) async fn scripts(&self) -> Result<Rc<Hashes>, EngineError> {
        self.wire().await?;
        Ok(Rc::clone(&self.hashes.borrow()))
    }

    /// Ask, and ask again until there are replies. Errors other than those that pass by
    /// themselves are among the replies.
    pub(super) async fn ask(&self, asked: &Asked) -> Result<Vec<Value>, EngineError> {
        let _permit = self.requests.take().await;
        let mut pauses = Pauses::new(&self.shared.target.patience);
        let mut named = None;
        loop {
            let wire = self.wire().await?;
            let sent = match self.shared.seen.prefix() {
                Some(prefix) => named.get_or_insert_with(|| prefix.applied(asked)),
                None => asked,
            };
            let Ok(mut replies) = wire.ask(sent).await else {
                pauses.pause().await;
                continue;
            };
            let next = reply::first_error(&replies).map_or(Next::Tell, reply::next);
            match next {
                Next::Tell => {
                    replies.truncate(asked.replies);
                    return Ok(replies);
                }
                Next::Again => {
                    if pauses.are_long() {
                        self.tell_of_waiting("the Cluster moves the volume to another node");
                    }
                    pauses.pause().await;
                }
                Next::Load => self.load_scripts(&wire).await?,
                Next::Wait => {
                    wire.close();
                    pauses.pause().await;
                }
            }
        }
    }

    /// The plain name of a key that Redis tells.
    pub(super) fn plain<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        self.shared.seen.prefix().map_or(name, |prefix| prefix.plain(name))
    }

    /// The run of the server that was asked last: a cursor of a scan means something in it alone.
    pub(super) fn run(&self) -> Rc<str> {
        Rc::clone(&self.run.borrow())
    }

    /// As [`Link::ask`], one command.
    pub(super) async fn call(&self, words: &[&[u8]]) -> Result<Value, EngineError> {
        let mut replies = self.ask(&Asked::one(words)).await?;
        Ok(replies.swap_remove(0))
    }

    async fn load_scripts(&self, wire: &Rc<Wire>) -> Result<(), EngineError> {
        let mut asked = Asked::default();
        Hashes::load(&mut asked);
        // A cut connection shows at the next question.
        let Ok(replies) = wire.ask(&asked).await else { return Ok(()) };
        let hashes = Hashes::loaded(&replies);
        let hashes = hashes.map_err(|reply| reply::strange("SCRIPT LOAD", reply))?;
        *self.hashes.borrow_mut() = Rc::new(hashes);
        Ok(())
    }

    fn standing(&self) -> Option<Rc<Wire>> {
        self.wire.borrow().as_ref().filter(|wire| !wire.is_cut()).cloned()
    }

    /// The connection, made if there is none.
    async fn wire(&self) -> Result<Rc<Wire>, EngineError> {
        let began_ns = monotonic_ns();
        let mut pauses = Pauses::new(&self.shared.target.patience);
        loop {
            if let Some(wire) = self.standing() {
                return Ok(wire);
            }
            let ticket = self.gate.ticket();
            if self.connecting.replace(true) {
                self.gate.wait(ticket).await;
                continue;
            }
            let _turn = Turn(self);
            // Rare and large: in a box it does not make every question large.
            match Box::pin(dial(self.shared.one_try())).await {
                Ok(Met { wire, hashes, run }) => {
                    *self.hashes.borrow_mut() = hashes;
                    *self.run.borrow_mut() = run;
                    self.shared.reached.store(true, Ordering::Release);
                    *self.wire.borrow_mut() = Some(Rc::clone(&wire));
                    if self.told.take().is_some() {
                        tracing::info!("there is a connection to Redis again");
                    }
                    return Ok(wire);
                }
                Err(failed) => self.wait_out(failed, began_ns)?,
            }
            pauses.pause().await;
        }
    }

    /// Why there was no connection is told, or else it is tried again and the log tells: everything
    /// waits, and somebody may look there for a reason.
    fn wait_out(&self, failed: Failed, began_ns: u64) -> Result<(), EngineError> {
        let is_first = !self.shared.reached.load(Ordering::Acquire);
        let late = u128::from(monotonic_ns() - began_ns) > FIRST_PATIENCE.as_nanos();
        let reason = match failed {
            Failed::Refused(error) => return Err(error),
            Failed::Unfit(error) if is_first => return Err(error),
            Failed::Absent(reason) if is_first => return Err(self.unreachable(&reason)),
            Failed::Silent(reason) | Failed::Passing(reason) if is_first && late => {
                return Err(self.unreachable(&reason));
            }
            Failed::Unfit(error) => error.to_string(),
            Failed::Absent(reason) | Failed::Silent(reason) | Failed::Passing(reason) => reason,
        };
        if !is_first {
            self.tell_of_waiting(&reason);
        }
        Ok(())
    }

    /// The log tells of each reason once, until there is a new connection.
    fn tell_of_waiting(&self, reason: &str) {
        if self.told.borrow().as_deref() != Some(reason) {
            let place = &self.shared.target.place;
            tracing::warn!(reason, "Redis at {place} does not serve now: what needs it waits");
            self.told.replace(Some(reason.to_owned()));
        }
    }

    fn unreachable(&self, reason: &str) -> EngineError {
        EngineError::Unavailable(format!(
            "no Redis at {}: {reason} (is it running there? `redis-cli ping` tells)",
            self.shared.target.place
        ))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.borrow_mut().take() {
            wire.close();
        }
    }
}
