//! Sentinels: who is the master now.
//!
//! Owns the question to one of them, by a connection that ends with the answer. Whom to ask and what
//! becomes of the answer is `dial`'s.

use redis::Value;

use super::dial::{Failed, Try, ask, enter, reach};
use super::reply;
use super::target::RedisAddress;
use super::words::Asked;
use crate::meta::engine::EngineError;

/// Where the master of this name is, as `sentinel` knows it.
pub(super) async fn master(
    one: Try<'_>,
    name: &str,
    sentinel: &RedisAddress,
) -> Result<RedisAddress, Failed> {
    let wire = reach(one, sentinel).await?;
    let mut asked = Asked::default();
    enter(&mut asked, None, one.target.passwords.sentinel.as_deref());
    asked.add(&[b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()]);
    let replies = ask(one, &wire, &asked).await;
    wire.close();
    let mut replies = replies?;
    let unfit = |text| Failed::Unfit(EngineError::Refused(text));
    if let Some(error) = reply::first_error(&replies) {
        let text = error.to_string();
        return Err(unfit(match error.code() {
            "NOAUTH" | "WRONGPASS" => format!(
                "Sentinel {sentinel}: {text}; the Sentinels' own password is taken from SENTINEL_PASSWORD"
            ),
            "ERR" if text.contains("unknown command") => format!(
                "{sentinel} is no Sentinel; name Sentinels behind the master's name in META-URL"
            ),
            _ => format!("Sentinel {sentinel}: {text}"),
        }));
    }
    address(replies.pop().unwrap_or_default())?.ok_or_else(|| {
        unfit(format!(
            "Sentinel {sentinel} watches no master named {name:?}; SENTINEL MASTERS tells the names"
        ))
    })
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
