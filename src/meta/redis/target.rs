//! Where a Redis is and how to enter: META-URLs that begin with `redis://`, `rediss://` and `unix://`.
//!
//! Owns the reading of the URL as JuiceFS reads it. Does not connect. A password is never shown.

use std::fmt;
use std::path::PathBuf;

use super::options::{Options, Patience};
use super::tls::Tls;
use crate::meta::engine::EngineError;

/// The port without another.
const PORT: u16 = 6379;
/// The same of a Sentinel.
const SENTINEL_PORT: u16 = 26379;

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
            Self::Tcp(host, port) => f.write_str(&shown(host, *port)),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn all_shown(at: &[HostPort]) -> String {
    at.iter().map(|(host, port)| shown(host, *port)).collect::<Vec<_>>().join(", ")
}

/// A host name or address, and a port.
pub(super) type HostPort = (String, u16);

impl From<HostPort> for RedisAddress {
    fn from((host, port): HostPort) -> Self {
        Self::Tcp(host, port)
    }
}

/// Where a volume's Redis is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// There.
    One(RedisAddress),
    /// Where Sentinels say that the master of this name is.
    Sentinels { master: String, at: Vec<HostPort> },
    /// At the node of a Redis Cluster to which one of these leads.
    Nodes(Vec<HostPort>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Sentinels { master, at } => {
                write!(f, "{master} of the Sentinels {}", all_shown(at))
            }
            Self::Nodes(at) => write!(f, "the Cluster of {}", all_shown(at)),
        }
    }
}

/// Passwords that a URL leaves out.
#[derive(Clone, Default)]
pub struct Passwords {
    /// The server's.
    pub redis: Option<String>,
    /// The Sentinels' own.
    pub sentinel: Option<String>,
}

/// What a URL tells.
pub(super) struct Target {
    pub place: Place,
    pub user: Option<String>,
    pub passwords: Passwords,
    pub db: u32,
    pub patience: Patience,
    /// None where nothing is sealed.
    pub tls: Option<Tls>,
}

fn refused(reason: &str) -> EngineError {
    EngineError::Refused(format!(
        "{reason}; write META-URL as redis[s]://[user:password@]host[:6379]/db, unix:///path?db=1, \
         redis[s]://[user:password@]node:6379,node:6379/db for a Cluster, or \
         redis[s]://[user:password@]master,sentinel:26379,sentinel/db for Sentinels"
    ))
}

/// A URL, read; nothing that it names is opened.
struct Parts {
    place: Place,
    user: Option<String>,
    password: Option<String>,
    /// Something stands before the host. A password that stood there may have been moved away.
    enters: bool,
    db: u32,
    options: Options,
    sealed: bool,
}

fn parts(url: &str) -> Result<Parts, EngineError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let options = Options::parse(query).map_err(|reason| refused(&reason))?;
    let (place, db) = match scheme {
        "redis" | "rediss" => rest.split_once('/').unwrap_or((rest, "")),
        "unix" => (rest, ""),
        _ => return Err(refused("this is no scheme of a Redis")),
    };
    let (entry, place) =
        place.rsplit_once('@').map_or((None, place), |(entry, place)| (Some(entry), place));
    let enters = entry.is_some();
    let (user, password) = entry.map_or((None, None), credentials);
    let db = options.db.as_deref().unwrap_or(db).trim_matches('/');
    let db = if db.is_empty() { Ok(0) } else { db.parse() };
    let db = db.map_err(|_| refused("the database is a number"))?;
    let place = match scheme {
        "unix" if place.is_empty() => return Err(refused("the socket's path is missing")),
        "unix" => Place::One(RedisAddress::Unix(decoded(place).into())),
        _ => placed(place)?,
    };
    Ok(Parts { place, user, password, enters, db, options, sealed: scheme == "rediss" })
}

impl Target {
    /// From a URL; what it leaves out is in `passwords`.
    ///
    /// # Errors
    /// A URL that cannot be read, with the form it should have; a file of certificates that cannot.
    pub(super) fn parse(url: &str, passwords: Passwords) -> Result<Self, EngineError> {
        let Parts { place, user, password, db, options, sealed, .. } = parts(url)?;
        Ok(Self {
            place,
            user,
            passwords: Passwords { redis: password.or(passwords.redis), ..passwords },
            db,
            patience: options.patience,
            tls: sealed.then(|| Tls::new(&options.tls)).transpose()?,
        })
    }
}

/// The command by which a person asks the Redis of a URL, or its first Sentinel, whether it answers;
/// none for a URL that cannot be read. A password is asked for, not shown.
pub fn command_to_ask(url: &str) -> Option<String> {
    let Parts { place, user, options, sealed, enters, .. } = parts(url).ok()?;
    let given = |flag: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!(" {flag} {value}"))
    };
    let at = |(host, port): &HostPort| format!(" -h {host} -p {port}");
    let mut words = "redis-cli".to_owned();
    words += &match &place {
        Place::One(RedisAddress::Unix(path)) => format!(" -s {}", path.display()),
        Place::One(RedisAddress::Tcp(host, port)) => at(&(host.clone(), *port)),
        Place::Sentinels { at: all, .. } | Place::Nodes(all) => {
            all.first().map(at).unwrap_or_default()
        }
    };
    if sealed {
        let tls = &options.tls;
        words += if tls.unverified { " --tls --insecure" } else { " --tls" };
        words += &given("--cacert", tls.authorities.as_deref());
        words += &given("--cert", tls.certificate.as_deref());
        words += &given("--key", tls.key.as_deref());
        words += &given("--sni", tls.server_name.as_deref());
    }
    if let Place::Sentinels { master, .. } = &place {
        words += &given("SENTINEL get-master-addr-by-name", Some(master));
        return Some(words);
    }
    words += &given("--user", user.as_deref());
    words += if enters { " --askpass PING" } else { " PING" };
    Some(words)
}

fn credentials(entry: &str) -> (Option<String>, Option<String>) {
    let (user, password) = entry.split_once(':').unwrap_or((entry, ""));
    let given = |text: &str| (!text.is_empty()).then(|| decoded(text));
    (given(user), given(password))
}

/// One host; or, as JuiceFS tells them apart, a master's name and its Sentinels, if there is a comma
/// before the first colon; or else nodes of a Cluster.
fn placed(place: &str) -> Result<Place, EngineError> {
    match (place.find(','), place.find(':')) {
        (None, _) => {
            let (host, port) = host_port(place)?;
            Ok(Place::One(RedisAddress::Tcp(host, port.unwrap_or(PORT))))
        }
        (Some(comma), Some(colon)) if comma < colon => sentinels(place),
        _ => {
            let nodes = place.split(',').map(host_port).collect::<Result<Vec<_>, _>>()?;
            let port = |(host, port): (String, Option<u16>)| (host, port.unwrap_or(PORT));
            Ok(Place::Nodes(nodes.into_iter().map(port).collect()))
        }
    }
}

/// Sentinels without a port have that of the last one.
fn sentinels(place: &str) -> Result<Place, EngineError> {
    let mut names = place.split(',');
    let master = decoded(names.next().unwrap_or_default());
    let found = names.map(host_port).collect::<Result<Vec<_>, _>>()?;
    let last = found.last().and_then(|(_, port)| *port).unwrap_or(SENTINEL_PORT);
    let at = found.into_iter().map(|(host, port)| (host, port.unwrap_or(last))).collect();
    Ok(Place::Sentinels { master, at })
}

fn host_port(place: &str) -> Result<(String, Option<u16>), EngineError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| refused("a bracket is not closed"))?,
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    let port = match port.strip_prefix(':').unwrap_or(port) {
        "" => None,
        port => Some(port.parse().map_err(|_| refused("the port is a number below 65536"))?),
    };
    Ok((if host.is_empty() { "localhost" } else { host }.to_owned(), port))
}

/// `%40` and the like as the bytes they stand for.
pub(super) fn decoded(text: &str) -> String {
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
        let target = Target::parse(url, Passwords::default()).unwrap();
        (target.place.to_string(), target.user, target.passwords.redis, target.db)
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
        for wrong in [
            "redis://h/x",
            "redis://h:99999",
            "redis://a:1,b:x/1",
            "redis://[::1",
            "redis://h/1?tls-ca-cert=/x",
            "rediss://h?tls-cert-file=/c",
            "rediss://h?tls-ca-cert-file=/not/there",
            "unix://?db=1",
            "ftp://h",
        ] {
            assert!(Target::parse(wrong, Passwords::default()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tls_is_spoken_where_the_scheme_says_so() {
        let tls = |url: &str| Target::parse(url, Passwords::default()).unwrap().tls.is_some();
        assert!(tls("rediss://h/1?insecure-skip-verify=1"));
        assert!(!tls("redis://h/1?insecure-skip-verify=1"));
    }

    #[test]
    fn sentinels_stand_behind_a_comma_that_comes_before_a_colon() {
        let place = |url: &str| Target::parse(url, Passwords::default()).unwrap().place;
        let of = |master: &str, at: &[(&str, u16)]| Place::Sentinels {
            master: master.to_owned(),
            at: at.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect(),
        };
        let wanted = of("mine", &[("a", 1), ("b", 7), ("::1", 7)]);
        assert_eq!(place("redis://:pw@mine,a:1,b,[::1]:7/2"), wanted);
        assert_eq!(place("redis://mine,a:1,b/2"), of("mine", &[("a", 1), ("b", 26379)]));
    }

    #[test]
    fn hosts_of_which_the_first_has_a_port_are_nodes_of_a_cluster() {
        let place =
            Target::parse("redis://:pw@a:1,b,[::1]:7/2", Passwords::default()).unwrap().place;
        let nodes = [("a", 1), ("b", 6379), ("::1", 7)];
        assert_eq!(place, Place::Nodes(nodes.map(|(host, port)| (host.to_owned(), port)).into()));
        assert_eq!(place.to_string(), "the Cluster of a:1, b:6379, [::1]:7");
        let place = Target::parse("redis://a,b/1", Passwords::default()).unwrap().place;
        assert_eq!(place.to_string(), "the Cluster of a:6379, b:6379", "nor has any of them");
    }

    #[test]
    fn a_person_asks_with_one_command() {
        let asks = |url: &str| command_to_ask(url).unwrap();
        assert_eq!(asks("redis://h/1"), "redis-cli -h h -p 6379 PING");
        assert_eq!(asks("redis://@h/1"), "redis-cli -h h -p 6379 --askpass PING");
        let socket = asks("unix://:hush@/run/redis.sock?db=3");
        assert_eq!(socket, "redis-cli -s /run/redis.sock --askpass PING");
        assert_eq!(
            asks("rediss://me@h:1?tls-ca-cert-file=/ca&tls-cert-file=/c&tls-key-file=/k"),
            "redis-cli -h h -p 1 --tls --cacert /ca --cert /c --key /k --user me --askpass PING"
        );
        assert_eq!(
            asks("rediss://:hush@mine,a:1,b/2?insecure-skip-verify=1"),
            "redis-cli -h a -p 1 --tls --insecure SENTINEL get-master-addr-by-name mine"
        );
        assert_eq!(command_to_ask("redis://h/x"), None);
    }

    #[test]
    fn a_password_in_the_url_comes_first() {
        let password = |url: &str| {
            let passwords = Passwords { redis: Some("other".into()), sentinel: None };
            Target::parse(url, passwords).unwrap().passwords.redis
        };
        assert_eq!(password("redis://:own@h"), Some("own".into()));
        assert_eq!(password("redis://me@h"), Some("other".into()));
    }
}
