//! The connection of one core to its Redis, kept up: connects when first asked, connects again
//! when it was cut, and sends again what had no answer.
//!
//! Owns the handshake and the patience. Everything sent through it may reach Redis twice: callers
//! send only what may.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;

use super::reply::{self, Next};
use super::script::Hashes;
use super::target::{RedisAddress, Target};
use super::wire::{SILENCE_MAX, Wire};
use super::words::Asked;
use crate::limits::REDIS_REQUESTS_MAX;
use crate::meta::engine::EngineError;
use crate::net::side;
use crate::stdx::{Gate, Permits, monotonic_ns};
use crate::uring::net::{connect_tcp, connect_unix};
use crate::uring::{sleep, timeout};

/// The oldest Redis that is served.
const VERSION_MIN: (u32, u32) = (6, 2);
/// A connection and its handshake take no longer than this.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long the very first connection is tried for.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Pauses between tries grow from here ...
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// ... to here.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What all cores of a mount share about their Redis.
pub(super) struct Shared {
    pub target: Target,
    /// A connection has stood once: from then on a missing server is waited for.
    reached: AtomicBool,
    /// The session these cores serve, 0 without one.
    pub sid: AtomicU64,
}

impl Shared {
    pub(super) fn new(target: Target) -> Self {
        Self { target, reached: AtomicBool::new(false), sid: AtomicU64::new(0) }
    }
}

pub(super) struct Link {
    pub shared: Arc<Shared>,
    wire: RefCell<Option<Rc<Wire>>>,
    hashes: RefCell<Rc<Hashes>>,
    /// One at a time connects; the others wait at the gate.
    connecting: Cell<bool>,
    gate: Gate,
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
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(PAUSE_MIN)
    }

    async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            wire: RefCell::default(),
            hashes: RefCell::default(),
            connecting: Cell::new(false),
            gate: Gate::default(),
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
        let mut pauses = Pauses::new();
        loop {
            let wire = self.wire().await?;
            let Ok(replies) = wire.ask(asked).await else {
                pauses.pause().await;
                continue;
            };
            let Some(error) = reply::first_error(&replies) else { return Ok(replies) };
            match reply::next(error) {
                Next::Tell => return Ok(replies),
                Next::Load => self.load_scripts(&wire).await?,
                Next::Wait => {
                    wire.close();
                    pauses.pause().await;
                }
            }
        }
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
        let mut pauses = Pauses::new();
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
            match Box::pin(self.connect()).await {
                Ok(wire) => {
                    self.shared.reached.store(true, Ordering::Release);
                    *self.wire.borrow_mut() = Some(Rc::clone(&wire));
                    return Ok(wire);
                }
                Err(Failed::Passing(reason)) => {
                    let late = u128::from(monotonic_ns() - began_ns) > FIRST_PATIENCE.as_nanos();
                    if late && !self.shared.reached.load(Ordering::Acquire) {
                        return Err(self.unreachable(&reason));
                    }
                }
                Err(Failed::Absent(reason)) => {
                    if !self.shared.reached.load(Ordering::Acquire) {
                        return Err(self.unreachable(&reason));
                    }
                }
                Err(Failed::Refused(error)) => return Err(error),
            }
            pauses.pause().await;
        }
    }

    fn unreachable(&self, reason: &str) -> EngineError {
        EngineError::Unavailable(format!(
            "no Redis at {}: {reason} (is it running there? `redis-cli ping` tells)",
            self.shared.target.address
        ))
    }

    async fn connect(&self) -> Result<Rc<Wire>, Failed> {
        let connected = timeout(CONNECT_PATIENCE, connected(&self.shared.target.address)).await;
        let fd = match connected {
            Ok(Ok(fd)) => fd,
            Ok(Err(error)) => return Err(Failed::from_io(&error)),
            Err(_) => return Err(Failed::Passing("no answer".into())),
        };
        let wire = Wire::new(fd, SILENCE_MAX);
        match timeout(CONNECT_PATIENCE, self.shake_hands(&wire)).await {
            Ok(Ok(hashes)) => {
                *self.hashes.borrow_mut() = Rc::new(hashes);
                Ok(wire)
            }
            Ok(Err(failed)) => {
                wire.close();
                Err(failed)
            }
            Err(_) => {
                wire.close();
                Err(Failed::Passing("it accepts connections and does not answer".into()))
            }
        }
    }

    async fn shake_hands(&self, wire: &Rc<Wire>) -> Result<Hashes, Failed> {
        let Target { user, password, db, .. } = &self.shared.target;
        let mut asked = Asked::default();
        match (user, password) {
            (Some(user), Some(password)) => {
                asked.add(&[b"AUTH", user.as_bytes(), password.as_bytes()]);
            }
            (None, Some(password)) => asked.add(&[b"AUTH", password.as_bytes()]),
            (_, None) => {}
        }
        asked.add(&[b"SELECT", db.to_string().as_bytes()]);
        asked.add(&[b"INFO", b"server"]);
        Hashes::load(&mut asked);
        let replies = wire
            .ask(&asked)
            .await
            .map_err(|_| Failed::Passing("it closes the connection".into()))?;
        if let Some(error) = reply::first_error(&replies) {
            return Err(match reply::next(error) {
                Next::Tell => Failed::Refused(reply::told("handshake", error)),
                _ => Failed::Passing(error.to_string()),
            });
        }
        let (before, loads) = replies.split_at(replies.len() - Hashes::COUNT);
        check_server(before.last().expect("INFO has a reply")).map_err(Failed::Refused)?;
        Hashes::loaded(loads).map_err(|reply| Failed::Refused(reply::strange("SCRIPT LOAD", reply)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.borrow_mut().take() {
            wire.close();
        }
    }
}

/// Why there is no connection.
enum Failed {
    /// Nobody listens there.
    Absent(String),
    /// It may do a moment later.
    Passing(String),
    /// It will not do.
    Refused(EngineError),
}

impl Failed {
    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput => Self::Absent(error.to_string()),
            _ => Self::Passing(error.to_string()),
        }
    }
}

/// A connected socket; of several addresses of a host the first that answers.
pub(super) async fn connected(address: &RedisAddress) -> io::Result<OwnedFd> {
    let (host, port) = match address {
        RedisAddress::Unix(path) => return connect_unix(path).await,
        RedisAddress::Tcp(host, port) => (host.clone(), *port),
    };
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            // Resolving a name blocks.
            side::run(move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)).await?
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        match connect_tcp(address).await {
            Ok(fd) => {
                // A dead route shows although nobody asks anything.
                rustix::net::sockopt::set_socket_keepalive(&fd, true)?;
                return Ok(fd);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The value of a line `name:value` of INFO.
pub(super) fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn check_server(reply: &Value) -> Result<(), EngineError> {
    let Value::BulkString(bytes) = reply else { return Err(reply::strange("INFO", reply)) };
    let text = String::from_utf8_lossy(bytes);
    let version = info(&text, "redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        return Err(EngineError::Refused(format!(
            "Redis {version} is too old; {major}.{minor} or later is needed"
        )));
    }
    if info(&text, "redis_mode") == Some("cluster") {
        return Err(EngineError::Refused(
            "this is a node of a Redis Cluster, which is not served yet; use a single Redis".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<(), EngineError> {
        check_server(&Value::BulkString(text.into()))
    }

    #[test]
    fn old_servers_and_clusters_are_refused_by_name() {
        assert!(server("# Server\r\nredis_version:6.2.0\r\nredis_mode:standalone\r\n").is_ok());
        assert!(server("redis_version:255.255.255\r\n").is_ok());
        let old = server("redis_version:6.0.16\r\n").unwrap_err().to_string();
        assert!(old.contains("6.0.16") && old.contains("6.2"), "{old}");
        assert!(server("redis_version:7.0.0\r\nredis_mode:cluster\r\n").is_err());
    }
}
