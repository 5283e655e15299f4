//! Sentinels: who is the master now.
//!
//! Owns one round of asking. They are asked in the order of the URL, each by a connection of its own
//! that ends with the answer; the first that knows the master is believed.

use redis::Value;

use super::dial::{Failed, ask, enter, reach};
use super::reply;
use super::target::{HostPort, RedisAddress, Target};
use super::words::Asked;
use crate::meta::engine::EngineError;

/// Where the master of this name is.
pub(super) async fn master(
    target: &Target,
    name: &str,
    sentinels: &[HostPort],
) -> Result<RedisAddress, Failed> {
    let (mut unknown, mut failed) = (false, None);
    for (host, port) in sentinels {
        let sentinel = RedisAddress::Tcp(host.clone(), *port);
        match told_by(target, name, &sentinel).await {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => unknown = true,
            Err(Failed::Absent(reason) | Failed::Passing(reason)) => {
                failed = Some(Failed::Passing(format!("Sentinel {sentinel}: {reason}")));
            }
            Err(other) => failed = Some(other),
        }
    }
    if unknown {
        return Err(Failed::Unfit(EngineError::Refused(format!(
            "the Sentinels watch no master named {name:?}; `redis-cli -p 26379 SENTINEL MASTERS` lists the names"
        ))));
    }
    Err(failed.unwrap_or_else(|| Failed::Absent("META-URL names no Sentinel".into())))
}

async fn told_by(
    target: &Target,
    name: &str,
    sentinel: &RedisAddress,
) -> Result<Option<RedisAddress>, Failed> {
    let wire = reach(target, sentinel).await?;
    let mut asked = Asked::default();
    enter(&mut asked, None, target.passwords.sentinel.as_deref());
    asked.add(&[b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()]);
    let replies = ask(target, &wire, &asked).await;
    wire.close();
    let mut replies = replies.map_err(|failed| match failed {
        Failed::Refused(error) => Failed::Unfit(EngineError::Refused(format!(
            "Sentinel {sentinel}: {error}; its own password is taken from SENTINEL_PASSWORD"
        ))),
        other => other,
    })?;
    address(replies.pop().unwrap_or_default())
}

fn address(reply: Value) -> Result<Option<RedisAddress>, Failed> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let key = "the address of a master";
    let words = reply::byte_list(key, reply).map_err(Failed::Refused)?;
    let [host, port] = &words[..] else {
        return Err(Failed::Refused(reply::damaged(key, "it is a host and a port")));
    };
    let port = reply::parsed(key, port).map_err(Failed::Refused)?;
    Ok(Some(RedisAddress::Tcp(String::from_utf8_lossy(host).into_owned(), port)))
}
