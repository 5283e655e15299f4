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

/// A connection, and the names of the scripts that its server has loaded.
pub(super) type Met = (Rc<Wire>, Hashes);

/// A connection to the server of a volume.
pub(super) async fn dial(target: &Target) -> Result<Met, Failed> {
    match &target.place {
        Place::One(address) => meet(target, address).await,
        Place::Sentinels { master, at } => {
            let mut told = Failed::Absent("META-URL names no Sentinel".into());
            let mut tried = Vec::new();
            // One that was cut off from the others may name a master that was.
            for (host, port) in at {
                let sentinel = RedisAddress::Tcp(host.clone(), *port);
                let failed = match sentinel::master(target, master, &sentinel).await {
                    Ok(address) if tried.contains(&address) => continue,
                    Ok(address) => match meet(target, &address).await {
                        Ok(met) => return Ok(met),
                        Err(failed) => {
                            let failed = failed.by(&format!("the master {address}"));
                            tried.push(address);
                            failed
                        }
                    },
                    Err(failed) => failed.by(&format!("Sentinel {sentinel}")),
                };
                if failed.weight() > told.weight() {
                    told = failed;
                }
            }
            Err(told)
        }
    }
}

async fn meet(target: &Target, address: &RedisAddress) -> Result<Met, Failed> {
    let wire = reach(target, address).await?;
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

/// Replies to the first words, errors of the server among them.
pub(super) async fn ask(target: &Target, wire: &Wire, asked: &Asked) -> Result<Vec<Value>, Failed> {
    let hint = if target.tls.is_some() {
        "does it speak TLS on this port?"
    } else {
        "where it wants TLS, META-URL begins with rediss://"
    };
    match timeout(target.patience.connect, wire.ask(asked)).await {
        Ok(Ok(replies)) => Ok(replies),
        Ok(Err(_)) => Err(match wire.trouble() {
            Some(trouble) => Failed::Unfit(EngineError::Unavailable(format!(
                "no Redis at {}: {trouble}",
                target.place
            ))),
            None => Failed::Passing(format!("it closes the connection; {hint}")),
        }),
        Err(_) => {
            Err(Failed::Passing(format!("it accepts connections and does not answer; {hint}")))
        }
    }
}

async fn greet(target: &Target, wire: &Wire) -> Result<Hashes, Failed> {
    let mut asked = Asked::default();
    enter(&mut asked, target.user.as_deref(), target.passwords.redis.as_deref());
    asked.add(&[b"SELECT", target.db.to_string().as_bytes()]);
    asked.add(&[b"INFO", b"server"]);
    let watched = matches!(target.place, Place::Sentinels { .. });
    if watched {
        asked.add(&[b"INFO", b"replication"]);
    }
    Hashes::load(&mut asked);
    let replies = ask(target, wire, &asked).await?;
    if let Some(error) = reply::first_error(&replies) {
        return Err(match reply::next(error) {
            // It has no database but 0.
            Next::Tell if error.to_string().contains("cluster mode") => {
                Failed::Refused(is_cluster())
            }
            Next::Tell => Failed::Refused(reply::told("handshake", error)),
            _ => Failed::Passing(error.to_string()),
        });
    }
    let (before, loads) = replies.split_at(replies.len() - Hashes::COUNT);
    let infos = &before[before.len() - 1 - usize::from(watched)..];
    check_server(&told_by(&infos[0]).map_err(Failed::Refused)?).map_err(Failed::Refused)?;
    if watched && info(&told_by(&infos[1]).map_err(Failed::Refused)?, "role") != Some("master") {
        // In the middle of a fail-over the Sentinels may still name the old one.
        return Err(Failed::Passing("it is a replica".into()));
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
    /// The heaviest of several is told.
    fn weight(&self) -> u8 {
        match self {
            Self::Absent(_) => 0,
            Self::Passing(_) => 1,
            Self::Unfit(_) => 2,
            Self::Refused(_) => 3,
        }
    }

    /// With the name of one of several servers. That one is not there counts as passing: others watch
    /// over it.
    fn by(self, who: &str) -> Self {
        match self {
            Self::Absent(reason) | Self::Passing(reason) => {
                Self::Passing(format!("{who}: {reason}"))
            }
            other => other,
        }
    }

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

fn is_cluster() -> EngineError {
    EngineError::Refused(
        "this is a node of a Redis Cluster, which is not served; use a single Redis, or Sentinels"
            .into(),
    )
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
        return Err(is_cluster());
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
