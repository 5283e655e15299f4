//! How a connection comes about: where the server is, the socket, TLS, who enters, what must be true
//! of the server, and the scripts.
//!
//! One try; patience is `link`'s. At every try Sentinels are asked anew where the master is.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use redis::Value;

use super::reply::{self, Next};
use super::script::Hashes;
use super::sentinel;
use super::target::{Place, RedisAddress, Target};
use super::wire::Wire;
use super::words::Asked;
use crate::meta::engine::EngineError;
use crate::net::side;
use crate::uring::net::{connect_tcp, connect_unix};
use crate::uring::timeout;

/// The oldest Redis that is served.
const VERSION_MIN: (u32, u32) = (6, 2);

/// A connection to the server of a volume, and the names of the scripts it has loaded.
pub(super) async fn dial(target: &Target) -> Result<(Rc<Wire>, Hashes), Failed> {
    let address = match &target.place {
        Place::One(address) => address.clone(),
        Place::Sentinels { master, at } => sentinel::master(target, master, at).await?,
    };
    let wire = reach(target, &address).await?;
    match greet(target, &wire).await {
        Ok(hashes) => Ok((wire, hashes)),
        Err(failed) => {
            wire.close();
            Err(failed)
        }
    }
}

/// A connection over which nothing is said yet.
pub(super) async fn reach(target: &Target, address: &RedisAddress) -> Result<Rc<Wire>, Failed> {
    let tls = match (&target.tls, address) {
        (Some(tls), RedisAddress::Tcp(host, _)) => Some(tls.session(host).map_err(Failed::Unfit)?),
        _ => None,
    };
    let fd = match timeout(target.patience.connect, connected(address)).await {
        Ok(Ok(fd)) => fd,
        Ok(Err(error)) => return Err(Failed::from_io(&error)),
        Err(_) => return Err(Failed::Passing("no answer".into())),
    };
    Ok(Wire::new(fd, tls, target.patience.silence))
}

/// The first words: who enters.
pub(super) fn enter(asked: &mut Asked, user: Option<&str>, password: Option<&str>) {
    match (user, password) {
        (Some(user), Some(password)) => {
            asked.add(&[b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        (None, Some(password)) => asked.add(&[b"AUTH", password.as_bytes()]),
        (_, None) => {}
    }
}

/// Replies to the first words.
pub(super) async fn ask(target: &Target, wire: &Wire, asked: &Asked) -> Result<Vec<Value>, Failed> {
    let hint = if target.tls.is_some() {
        "does it speak TLS on this port?"
    } else {
        "where it wants TLS, META-URL begins with rediss://"
    };
    let replies = match timeout(target.patience.connect, wire.ask(asked)).await {
        Ok(Ok(replies)) => replies,
        Ok(Err(_)) => {
            return Err(match wire.trouble() {
                Some(trouble) => Failed::Unfit(EngineError::Unavailable(format!(
                    "no Redis at {}: {trouble}",
                    target.place
                ))),
                None => Failed::Passing(format!("it closes the connection; {hint}")),
            });
        }
        Err(_) => {
            return Err(Failed::Passing(format!(
                "it accepts connections and does not answer; {hint}"
            )));
        }
    };
    match reply::first_error(&replies) {
        None => Ok(replies),
        Some(error) => Err(match reply::next(error) {
            Next::Tell => Failed::Refused(reply::told("handshake", error)),
            _ => Failed::Passing(error.to_string()),
        }),
    }
}

async fn greet(target: &Target, wire: &Wire) -> Result<Hashes, Failed> {
    let mut asked = Asked::default();
    enter(&mut asked, target.user.as_deref(), target.passwords.redis.as_deref());
    asked.add(&[b"SELECT", target.db.to_string().as_bytes()]);
    asked.add(&[b"INFO"]);
    Hashes::load(&mut asked);
    let replies = ask(target, wire, &asked).await?;
    let (before, loads) = replies.split_at(replies.len() - Hashes::COUNT);
    let server = told_by(before.last().expect("INFO has a reply")).map_err(Failed::Refused)?;
    check_server(&server).map_err(Failed::Refused)?;
    if matches!(target.place, Place::Sentinels { .. }) && info(&server, "role") != Some("master") {
        // In the middle of a fail-over the Sentinels may still name the old one.
        return Err(Failed::Passing("the server that the Sentinels name is no master".into()));
    }
    Hashes::loaded(loads).map_err(|reply| Failed::Refused(reply::strange("SCRIPT LOAD", reply)))
}

/// Why there is no connection.
pub(super) enum Failed {
    /// Nobody listens there.
    Absent(String),
    /// It may do a moment later.
    Passing(String),
    /// It does not do as it is; one that did before may be in the middle of a change.
    Unfit(EngineError),
    /// It will not do.
    Refused(EngineError),
}

impl Failed {
    pub(super) fn from_io(error: &io::Error) -> Self {
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
async fn connected(address: &RedisAddress) -> io::Result<OwnedFd> {
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

/// The text of INFO.
fn told_by(reply: &Value) -> Result<String, EngineError> {
    match reply {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        other => Err(reply::strange("INFO", other)),
    }
}

fn check_server(text: &str) -> Result<(), EngineError> {
    let version = info(text, "redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        return Err(EngineError::Refused(format!(
            "Redis {version} is too old; {major}.{minor} or later is needed"
        )));
    }
    if info(text, "redis_mode") == Some("cluster") {
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
        check_server(text)
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
