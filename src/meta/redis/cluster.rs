//! A Redis Cluster: which of its nodes serves the volume, all of whose keys have one slot.
//!
//! Owns the question to a node whether it is the one, and what is learnt of the others. Who is asked in
//! which order is `dial`'s; how keys are named is `prefix`'s. A move of the slot shows as an error of
//! whatever is asked next, and leads to a new connection.

use std::sync::{Mutex, OnceLock, PoisonError};

use redis::{ServerError, Value};

use super::dial::{Failed, Try, ask};
use super::prefix::Prefix;
use super::reply;
use super::target::{HostPort, RedisAddress};
use super::wire::Wire;
use crate::limits::REDIS_NODES_MAX;
use crate::meta::engine::EngineError;

/// What all cores of a mount have seen of their Redis.
#[derive(Default)]
pub(super) struct Seen {
    /// None within for a server that is no node of a cluster.
    prefix: OnceLock<Option<Prefix>>,
    /// Where nodes were when one was last asked: any of them tells where the slot is.
    nodes: Mutex<Vec<HostPort>>,
}

impl Seen {
    /// The prefix of keys, if they have one; known from the first connection on.
    pub(super) fn prefix(&self) -> Option<&Prefix> {
        self.prefix.get()?.as_ref()
    }

    /// A server that is `prefix`'s kind; all of a volume are.
    pub(super) fn settle(&self, prefix: Option<Prefix>) -> Result<(), Failed> {
        if *self.prefix.get_or_init(|| prefix.clone()) == prefix {
            return Ok(());
        }
        let text =
            "a Redis Cluster and a single Redis stand at the same place in turn; mount again";
        Err(Failed::Unfit(EngineError::Unavailable(text.into())))
    }

    pub(super) fn nodes(&self) -> Vec<HostPort> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, nodes: Vec<HostPort>) {
        if !nodes.is_empty() {
            *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        }
    }
}

/// Whether the node at `address` serves the volume: nothing, or who it says does.
pub(super) async fn elsewhere(
    one: Try<'_>,
    wire: &Wire,
    address: &RedisAddress,
) -> Result<Option<RedisAddress>, Failed> {
    let Try { target, seen, .. } = one;
    let mut asked = Prefix::of(target.db).is_it_here();
    asked.add(&[b"CLUSTER", b"SLOTS"]);
    let mut replies = ask(one, wire, &asked).await?;
    // Some services do not tell; the nodes of META-URL have to do.
    seen.learn(nodes(replies.pop().unwrap_or_default()));
    let Some(Value::ServerError(error)) = replies.first() else { return Ok(None) };
    match error.code() {
        "MOVED" => match moved(error, address) {
            Some(next) => Ok(Some(next)),
            None => Err(Failed::Refused(reply::told("MOVED", error))),
        },
        // It still has what the slot holds, and gives it away.
        "ASK" | "TRYAGAIN" => Ok(None),
        _ if reply::next(error) == reply::Next::Tell => {
            Err(Failed::Refused(reply::told("the volume's slot", error)))
        }
        _ => Err(Failed::Passing(error.to_string())),
    }
}

/// Where `MOVED slot host:port` leads; without a host it is the one that was asked.
fn moved(error: &ServerError, asked: &RedisAddress) -> Option<RedisAddress> {
    let (_, at) = error.details()?.split_once(' ')?;
    let (host, port) = at.trim().rsplit_once(':')?;
    let host = match asked {
        RedisAddress::Tcp(same, _) if host.is_empty() || host == "?" => same,
        _ => host,
    };
    Some(RedisAddress::Tcp(host.to_owned(), port.parse().ok()?))
}

/// All nodes in an answer to CLUSTER SLOTS: ranges with first, last, and then each node as host, port
/// and more.
fn nodes(reply: Value) -> Vec<HostPort> {
    let Value::Array(ranges) = reply else { return Vec::new() };
    let mut found = Vec::new();
    for range in ranges {
        let Value::Array(parts) = range else { continue };
        for node in parts.iter().skip(2) {
            let Value::Array(node) = node else { continue };
            let [Value::BulkString(host), Value::Int(port), ..] = &node[..] else { continue };
            let (host, port) = (String::from_utf8_lossy(host), u16::try_from(*port));
            let Ok(port) = port else { continue };
            let node = (host.into_owned(), port);
            if !["", "?"].contains(&&*node.0) && !found.contains(&node) {
                found.push(node);
            }
        }
    }
    found.truncate(REDIS_NODES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use redis::Parser;

    use super::*;

    fn read(bytes: &[u8]) -> Value {
        Parser::new().parse_value(bytes).unwrap()
    }

    #[test]
    fn redirections_name_a_node_or_only_its_port() {
        let asked = RedisAddress::Tcp("a".into(), 1);
        let at = |line: &[u8]| {
            let Value::ServerError(error) = read(line) else { panic!("no error") };
            moved(&error, &asked).map(|address| address.to_string())
        };
        assert_eq!(at(b"-MOVED 9842 10.0.0.7:6380\r\n"), Some("10.0.0.7:6380".into()));
        assert_eq!(at(b"-MOVED 9842 fe80::1:6380\r\n"), Some("[fe80::1]:6380".into()));
        assert_eq!(at(b"-MOVED 9842 :6380\r\n"), Some("a:6380".into()));
        assert_eq!(at(b"-MOVED 9842\r\n"), None);
    }

    #[test]
    fn all_nodes_are_learnt_once() {
        let slots = b"*2\r\n*4\r\n:0\r\n:5\r\n*3\r\n$1\r\na\r\n:1\r\n$1\r\nx\r\n*3\r\n$1\r\nb\r\n:2\r\n$1\r\ny\r\n\
                      *4\r\n:6\r\n:9\r\n*3\r\n$1\r\na\r\n:1\r\n$1\r\nx\r\n*3\r\n$-1\r\n:2\r\n$1\r\nz\r\n";
        assert_eq!(nodes(read(slots)), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(nodes(read(b"-ERR unknown command\r\n")), []);
    }
}
