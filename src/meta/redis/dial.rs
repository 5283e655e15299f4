//! How a connection comes about: where the server is, the socket, TLS, who enters, what must be true
//! of the server, and the scripts.
//!
//! One try; patience is `link`'s. At every try Sentinels are asked anew where the master is. Of several
//! nodes that may lead there, none keeps the others waiting for long.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use redis::Value;

use super::cluster::{self, Seen};
use super::prefix::Prefix;
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
/// How often one node of a cluster may send on to another one.
const HOPS_MAX: usize = 5;

/// How long one node of several is waited for while others are left. A link over which nobody answers in
/// this time is tried again with all patience.
const PATIENCE_OF_SEVERAL: Duration = Duration::from_secs(1);

/// One try to connect.
#[derive(Clone, Copy)]
pub(super) struct Try<'a> {
    pub target: &'a Target,
    pub seen: &'a Seen,
    /// There was a connection before: what stands in the way of all servers but one passes.
    pub reached: bool,
    /// A connection, and its first words, take no longer than this.
    pub patience: Duration,
}

/// A connection to the server of a volume.
pub(super) struct Met {
    pub wire: Rc<Wire>,
    /// The names of the scripts that it has loaded.
    pub hashes: Rc<Hashes>,
    /// What tells one run of one server from all others.
    pub run: Rc<str>,
}

/// A connection, or where else the volume is.
enum Found {
    Here(Met),
    There(RedisAddress),
}

/// A connection to the server of a volume.
pub(super) async fn dial(one: Try<'_>) -> Result<Met, Failed> {
    let tried = &mut Vec::new();
    match &one.target.place {
        Place::Sentinels { master, at } => {
            let mut reasons = Reasons::default();
            // One that was cut off from the others may name a master that was.
            for host in at {
                let sentinel = RedisAddress::from(host.clone());
                let failed = match sentinel::master(one, master, &sentinel).await {
                    Ok(address) if tried.contains(&address) => continue,
                    Ok(address) => match follow(one, address.clone(), tried).await {
                        Ok(met) => return Ok(met),
                        Err(failed) => failed.by(&format!("the master {address}")),
                    },
                    Err(failed) => failed.by(&format!("Sentinel {sentinel}")),
                };
                reasons.add(failed);
            }
            Err(reasons.told(one.reached, "META-URL names no Sentinel"))
        }
        Place::One(address) => among(one, vec![address.clone()], tried).await,
        Place::Nodes(at) => {
            let at = at.iter().cloned().map(RedisAddress::from).collect();
            among(one, at, tried).await
        }
    }
}

/// A connection by way of the first of these, or of the nodes that were seen, that leads to one.
async fn among(
    one: Try<'_>,
    mut at: Vec<RedisAddress>,
    tried: &mut Vec<RedisAddress>,
) -> Result<Met, Failed> {
    at.extend(one.seen.nodes().into_iter().map(RedisAddress::from));
    if let [only] = &at[..] {
        return follow(one, only.clone(), tried).await;
    }
    let mut quick = Try { patience: one.patience.min(PATIENCE_OF_SEVERAL), ..one };
    loop {
        let (mut reasons, mut answered) = (Reasons::default(), false);
        for address in &at {
            if !tried.contains(address) {
                match follow(quick, address.clone(), tried).await {
                    Ok(met) => return Ok(met),
                    Err(failed) => {
                        answered |= failed.is_an_answer();
                        reasons.add(failed.by(&format!("node {address}")));
                    }
                }
            }
        }
        if answered || quick.patience == one.patience {
            return Err(reasons.told(one.reached, "META-URL names no node"));
        }
        quick = one;
        tried.clear();
    }
}

/// A connection to whom a server sends, and that one in turn.
async fn follow(
    one: Try<'_>,
    first: RedisAddress,
    tried: &mut Vec<RedisAddress>,
) -> Result<Met, Failed> {
    let mut address = first;
    for hop in 0..HOPS_MAX {
        tried.push(address.clone());
        let named = |failed: Failed| match hop {
            0 => failed,
            _ => failed.by(&format!("it sends to {address}, and that one")),
        };
        match meet(one, &address).await.map_err(named)? {
            Found::Here(met) => return Ok(met),
            Found::There(next) if tried.contains(&next) => {
                return Err(Failed::Passing(format!("{address} sends back to {next}")));
            }
            Found::There(next) => address = next,
        }
    }
    Err(Failed::Passing("each node sends to another one".into()))
}

async fn meet(one: Try<'_>, address: &RedisAddress) -> Result<Found, Failed> {
    let wire = reach(one, address).await?;
    let found = greet(one, &wire, address).await;
    if !matches!(found, Ok(Found::Here(_))) {
        wire.close();
    }
    found
}

/// A connection over which nothing is said yet.
pub(super) async fn reach(one: Try<'_>, address: &RedisAddress) -> Result<Rc<Wire>, Failed> {
    let target = one.target;
    let tls = match (&target.tls, address) {
        (Some(tls), RedisAddress::Tcp(host, _)) => Some(tls.session(host).map_err(Failed::Unfit)?),
        _ => None,
    };
    let fd = match timeout(one.patience, connected(address)).await {
        Ok(Ok(fd)) => fd,
        Ok(Err(error)) => return Err(Failed::from_io(&error)),
        Err(_) => return Err(Failed::Silent("no answer".into())),
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
pub(super) async fn ask(one: Try<'_>, wire: &Wire, asked: &Asked) -> Result<Vec<Value>, Failed> {
    let target = one.target;
    let hint = if target.tls.is_some() {
        "does it speak TLS on this port?"
    } else {
        "where it wants TLS, META-URL begins with rediss://"
    };
    match timeout(one.patience, wire.ask(asked)).await {
        Ok(Ok(replies)) => Ok(replies),
        Ok(Err(_)) => Err(match wire.trouble() {
            Some(trouble) => Failed::Unfit(EngineError::Unavailable(format!(
                "no Redis at {}: {trouble}",
                target.place
            ))),
            None => Failed::Passing(format!("it closes the connection; {hint}")),
        }),
        Err(_) => {
            Err(Failed::Silent(format!("it accepts connections and does not answer; {hint}")))
        }
    }
}

async fn greet(one: Try<'_>, wire: &Rc<Wire>, address: &RedisAddress) -> Result<Found, Failed> {
    let Try { target, seen, .. } = one;
    let mut asked = Asked::default();
    enter(&mut asked, target.user.as_deref(), target.passwords.redis.as_deref());
    // In a Cluster the number is in the names of keys, all of which are in database 0.
    if !matches!(target.place, Place::Nodes(_)) {
        asked.add(&[b"SELECT", target.db.to_string().as_bytes()]);
    }
    asked.add(&[b"INFO", b"server"]);
    let watched = matches!(target.place, Place::Sentinels { .. });
    if watched {
        asked.add(&[b"INFO", b"replication"]);
    }
    Hashes::load(&mut asked);
    let replies = ask(one, wire, &asked).await?;
    check_errors(&replies)?;
    let (before, loads) = replies.split_at(replies.len() - Hashes::COUNT);
    let infos = &before[before.len() - 1 - usize::from(watched)..];
    let text = told_by(&infos[0]).map_err(Failed::Refused)?;
    check_version(&text).map_err(Failed::Refused)?;
    let clustered = info(&text, "redis_mode") == Some("cluster");
    check_mode(&target.place, clustered).map_err(Failed::Refused)?;
    seen.settle(clustered.then(|| Prefix::of(target.db)))?;
    if watched && info(&told_by(&infos[1]).map_err(Failed::Refused)?, "role") != Some("master") {
        // In the middle of a fail-over the Sentinels may still name the old one.
        return Err(Failed::Passing("it is a replica".into()));
    }
    let hashes = Hashes::loaded(loads)
        .map_err(|reply| Failed::Refused(reply::strange("SCRIPT LOAD", reply)))?;
    let hashes = Rc::new(hashes);
    if clustered {
        if matches!(target.place, Place::One(_)) {
            // Some have numbered databases in a Cluster, too.
            check_errors(&ask(one, wire, &Asked::one(&[b"SELECT", b"0"])).await?)?;
        }
        if let Some(next) = cluster::elsewhere(one, wire, address).await? {
            return Ok(Found::There(next));
        }
    }
    let run = info(&text, "run_id").unwrap_or_default().into();
    Ok(Found::Here(Met { wire: Rc::clone(wire), hashes, run }))
}

/// Whether the first words were taken.
fn check_errors(replies: &[Value]) -> Result<(), Failed> {
    let other = |reply: &Value| match reply {
        // It has no database but 0.
        Value::ServerError(error) if error.to_string().contains("cluster mode") => None,
        Value::ServerError(error) => Some(error.clone()),
        _ => None,
    };
    match &replies.iter().find_map(other) {
        None => Ok(()),
        Some(error) if reply::next(error) == Next::Tell => {
            Err(Failed::Refused(reply::told("handshake", error)))
        }
        Some(error) => Err(Failed::Passing(error.to_string())),
    }
}

/// Why none of several servers will do: the heaviest reason of each kind.
#[derive(Default)]
struct Reasons {
    refused: Option<Failed>,
    passing: Option<Failed>,
}

impl Reasons {
    fn add(&mut self, failed: Failed) {
        let heaviest = match failed {
            Failed::Refused(_) => &mut self.refused,
            _ => &mut self.passing,
        };
        if heaviest.as_ref().is_none_or(|known| failed.weight() > known.weight()) {
            *heaviest = Some(failed);
        }
    }

    /// What is told; `none` where there was no server to ask. A stray server refuses for good: where there was
    /// a connection before, it does not speak for the others.
    fn told(self, reached: bool, none: &str) -> Failed {
        let (first, second) =
            if reached { (self.passing, self.refused) } else { (self.refused, self.passing) };
        first.or(second).unwrap_or_else(|| Failed::Absent(none.into()))
    }
}

/// Why there is no connection.
pub(super) enum Failed {
    /// Nobody listens there.
    Absent(String),
    /// No word came in time.
    Silent(String),
    /// It may do a moment later.
    Passing(String),
    /// It does not do as it is; one that did before may be in the middle of a change.
    Unfit(EngineError),
    /// It will not do.
    Refused(EngineError),
}

impl Failed {
    /// Of several of a kind the heaviest is told.
    fn weight(&self) -> u8 {
        match self {
            Self::Absent(_) => 0,
            Self::Silent(_) | Self::Passing(_) => 1,
            Self::Unfit(_) | Self::Refused(_) => 2,
        }
    }

    /// Whether a server was there and said something.
    fn is_an_answer(&self) -> bool {
        !matches!(self, Self::Absent(_) | Self::Silent(_))
    }

    /// With the name of one of several servers. That one is not there counts as passing: others watch
    /// over it.
    fn by(self, who: &str) -> Self {
        match self {
            Self::Absent(reason) | Self::Silent(reason) | Self::Passing(reason) => {
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

/// Whether what stands there is what META-URL takes it for.
fn check_mode(place: &Place, clustered: bool) -> Result<(), EngineError> {
    let text = match place {
        Place::Nodes(_) if !clustered => {
            "META-URL names several hosts, which are nodes of a Redis Cluster, and this is none; \
             name one host (Sentinels stand behind the name of their master)"
        }
        Place::Sentinels { .. } if clustered => {
            "this is a node of a Redis Cluster, which has no Sentinels; name its nodes in META-URL"
        }
        _ => return Ok(()),
    };
    Err(EngineError::Refused(text.into()))
}

fn check_version(text: &str) -> Result<(), EngineError> {
    let version = info(text, "redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        return Err(EngineError::Refused(format!(
            "Redis {version} is too old; {major}.{minor} or later is needed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_name() {
        assert!(
            check_version("# Server\r\nredis_version:6.2.0\r\nredis_mode:standalone\r\n").is_ok()
        );
        assert!(check_version("redis_version:255.255.255\r\n").is_ok());
        let old = check_version("redis_version:6.0.16\r\n").unwrap_err().to_string();
        assert!(old.contains("6.0.16") && old.contains("6.2"), "{old}");
    }

    #[test]
    fn one_stray_server_does_not_speak_for_the_others() {
        let refused = || Failed::Refused(EngineError::Refused("no Cluster".into()));
        let passing = |who: &str| Failed::Passing(who.into());
        let unfit = || Failed::Unfit(EngineError::Unavailable("another kind".into()));
        let told = |all: Vec<Failed>, reached| {
            let mut reasons = Reasons::default();
            all.into_iter().for_each(|failed| reasons.add(failed));
            match reasons.told(reached, "nobody") {
                Failed::Absent(reason) | Failed::Silent(reason) => reason,
                Failed::Passing(reason) => format!("passing: {reason}"),
                Failed::Unfit(error) => format!("unfit: {error}"),
                Failed::Refused(error) => format!("refused: {error}"),
            }
        };
        let mixed = || vec![passing("one"), refused(), passing("two")];
        assert_eq!(told(mixed(), true), "passing: one");
        assert!(told(mixed(), false).starts_with("refused"), "at first it is a mistake");
        assert!(told(vec![refused(), refused()], true).starts_with("refused"));
        assert!(told(vec![passing("one"), unfit()], true).starts_with("unfit"));
        assert_eq!(told(vec![], true), "nobody");
    }
}
