//! Replies as values, and errors sorted by what the caller does next.

use redis::{ServerError, Value};

use crate::meta::engine::EngineError;

/// What an error of the server asks for.
#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub(super) enum Next {
    /// Load the scripts and send again.
    Load,
    /// Wait and send again.
    Again,
    /// Wait and send again, on a new connection: another server may stand there by then.
    Wait,
    /// Tell the caller.
    Tell,
}

/// Words by which Redis says "not now". They come first, or inside what an older server says
/// about a script.
const NOT_NOW: [&str; 7] =
    ["LOADING", "READONLY", "CLUSTERDOWN", "MOVED", "MASTERDOWN", "NOREPLICAS", "BUSY"];
/// By these a node of a cluster says that the slot is on its way to another one. Who would follow a
/// part of its keys there might take the rest for absent: all is asked again when all has moved.
const MOVING: [&str; 2] = ["ASK", "TRYAGAIN"];

fn text(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

pub(super) fn next(error: &ServerError) -> Next {
    let text = text(error);
    let not_now = |word: &&str| text.starts_with(word) || text.contains(&format!("-{word} "));
    if error.code() == "NOSCRIPT" {
        Next::Load
    } else if MOVING.contains(&error.code()) {
        Next::Again
    } else if NOT_NOW.iter().any(not_now) || text.contains("max number of clients reached") {
        Next::Wait
    } else {
        Next::Tell
    }
}

/// An error of the server about `key`, as the engine's error.
pub(super) fn told(key: &str, error: &ServerError) -> EngineError {
    told_text(key, text(error))
}

pub(super) fn told_text(key: &str, text: String) -> EngineError {
    let key = key.to_owned();
    if text.contains("OOM command not allowed") {
        return EngineError::Full(format!("{text} (raise maxmemory of Redis or delete files)"));
    }
    if text.contains("MISCONF") {
        return EngineError::Unavailable(text);
    }
    match text.split(' ').next().unwrap_or_default() {
        "WRONGTYPE" | "DAMAGED" => EngineError::Corrupt { key, reason: text },
        "WRONGPASS" | "NOAUTH" => EngineError::Refused(format!(
            "{text} (give user and password in META-URL, or the password in META_PASSWORD)"
        )),
        "NOPERM" => EngineError::Refused(format!(
            "{text} (the user needs all keys and the commands @read @write @scripting @connection \
             @transaction and INFO)"
        )),
        _ => EngineError::Refused(text),
    }
}

/// A reply of a form that this key never has.
pub(super) fn strange(key: &str, value: &Value) -> EngineError {
    match value {
        Value::ServerError(error) => told(key, error),
        other => {
            let mut reason = format!("Redis answers {other:?}");
            reason.truncate(reason.floor_char_boundary(200));
            EngineError::Corrupt { key: key.to_owned(), reason }
        }
    }
}

pub(super) fn damaged(key: &str, reason: impl ToString) -> EngineError {
    EngineError::Corrupt { key: key.to_owned(), reason: reason.to_string() }
}

pub(super) fn bytes(key: &str, value: Value) -> Result<Option<Vec<u8>>, EngineError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        other => Err(strange(key, &other)),
    }
}

pub(super) fn integer(key: &str, value: Value) -> Result<i64, EngineError> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(strange(key, &other)),
    }
}

/// A decimal number kept as text.
pub(super) fn number(key: &str, value: Value) -> Result<Option<i64>, EngineError> {
    bytes(key, value)?.map(|bytes| parsed(key, &bytes)).transpose()
}

pub(super) fn parsed<T: std::str::FromStr>(key: &str, bytes: &[u8]) -> Result<T, EngineError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged(key, "not a decimal number"))
}

pub(super) fn list(key: &str, value: Value) -> Result<Vec<Value>, EngineError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(strange(key, &other)),
    }
}

/// A list in which nothing is absent.
pub(super) fn byte_list(key: &str, value: Value) -> Result<Vec<Vec<u8>>, EngineError> {
    list(key, value)?
        .into_iter()
        .map(|item| bytes(key, item)?.ok_or_else(|| damaged(key, "an absent item")))
        .collect()
}

/// A field of a hash and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// A hash, as fields and values.
pub(super) fn pairs(key: &str, value: Value) -> Result<Vec<Pair>, EngineError> {
    let mut items = byte_list(key, value)?.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        pairs.push((field, value));
    }
    Ok(pairs)
}

/// The first server error among replies.
pub(super) fn first_error(replies: &[Value]) -> Option<&ServerError> {
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(error),
        _ => None,
    })
}
