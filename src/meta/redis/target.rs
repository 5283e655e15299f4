//! Where a Redis is and how to enter: the part of META-URL behind `redis://` and `unix://`.
//!
//! Owns the reading of the URL as JuiceFS reads it. Does not connect. A password is never shown.

use std::fmt;
use std::path::PathBuf;

use crate::meta::engine::EngineError;

/// The port without another.
const PORT: u16 = 6379;

/// Where a Redis listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedisAddress {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a URL tells.
#[derive(PartialEq, Eq)]
pub(super) struct Target {
    pub address: RedisAddress,
    pub user: Option<String>,
    pub password: Option<String>,
    pub db: u32,
}

fn refused(reason: &str) -> EngineError {
    EngineError::Refused(format!(
        "{reason}; write META-URL as redis://[user:password@]host[:6379]/db or unix:///path?db=1"
    ))
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, EngineError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, db) = match scheme {
            "redis" => rest.split_once('/').unwrap_or((rest, "")),
            "unix" => (rest, ""),
            _ => return Err(refused("TLS and other schemes are not spoken here")),
        };
        let (entry, place) =
            place.rsplit_once('@').map_or((None, place), |(entry, place)| (Some(entry), place));
        let (user, password) = entry.map_or((None, None), credentials);
        let db = db_of(query)?.unwrap_or(db);
        let db = if db.is_empty() { Ok(0) } else { db.parse() };
        Ok(Self {
            address: if scheme == "unix" {
                RedisAddress::Unix(decoded(place).into())
            } else {
                tcp(place)?
            },
            user,
            password,
            db: db.map_err(|_| refused("the database is a number"))?,
        })
    }
}

fn credentials(entry: &str) -> (Option<String>, Option<String>) {
    let (user, password) = entry.split_once(':').unwrap_or((entry, ""));
    let given = |text: &str| (!text.is_empty()).then(|| decoded(text));
    (given(user), given(password))
}

fn tcp(place: &str) -> Result<RedisAddress, EngineError> {
    if place.contains(',') {
        return Err(refused("several hosts (Sentinel, Cluster) are not served yet"));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| refused("a bracket is not closed"))?,
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    let port = match port.strip_prefix(':').unwrap_or(port) {
        "" => PORT,
        port => port.parse().map_err(|_| refused("the port is a number below 65536"))?,
    };
    Ok(RedisAddress::Tcp(if host.is_empty() { "localhost" } else { host }.to_owned(), port))
}

/// The `db` option. Others tune the official client's driver and have no meaning here, except
/// those that change what is read or from whom.
fn db_of(query: &str) -> Result<Option<&str>, EngineError> {
    let mut db = None;
    for (name, value) in query.split('&').filter_map(|option| option.split_once('=')) {
        match name {
            "db" => db = Some(value),
            "route-read" if !value.is_empty() => {
                return Err(refused("reading from replicas (route-read) is not served"));
            }
            _ => {}
        }
    }
    Ok(db)
}

/// `%40` and the like as the bytes they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (String, Option<String>, Option<String>, u32) {
        let target = Target::parse(url).unwrap();
        (target.address.to_string(), target.user, target.password, target.db)
    }

    #[test]
    fn urls_as_the_official_client_reads_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("redis://"), ("localhost:6379".into(), None, None, 0));
        assert_eq!(parsed("localhost/1"), ("localhost:6379".into(), None, None, 1));
        assert_eq!(
            parsed("redis://me:s3cr@t@host:1/2?read-timeout=3s"),
            ("host:1".into(), some("me"), some("s3cr@t"), 2)
        );
        assert_eq!(parsed("redis://:p%40%2fw@[::1]:7"), ("[::1]:7".into(), None, some("p@/w"), 0));
        assert_eq!(
            parsed("unix://u:pw@/run/redis.sock?db=3"),
            ("/run/redis.sock".into(), some("u"), some("pw"), 3)
        );
        for wrong in
            ["redis://h/x", "redis://h:99999", "redis://a:1,b:2/1", "rediss://h", "redis://[::1"]
        {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
