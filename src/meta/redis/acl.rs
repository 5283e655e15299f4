//! Rules of access control: a hash by id, and the counter of ids.

use super::link::Link;
use super::script::Script;
use super::{keys, reply};
use crate::limits::ACL_RULES_PAGE;
use crate::meta::acl::{Rule, decode_rule, encode_rule};
use crate::meta::engine::{AclRules, EngineError};

/// A rule in its field.
pub(super) fn rule(id: u32, bytes: &[u8]) -> Result<Rule, EngineError> {
    decode_rule(bytes).map_err(|error| reply::damaged(&format!("{} {id}", keys::ACL), error))
}

/// Rules with an id above `after`, one page.
pub(super) async fn rules(link: &Link, after: u32) -> Result<AclRules, EngineError> {
    let key = keys::ACL_MAX_ID;
    let last = reply::number(key, link.call(&[b"GET", key.as_bytes()]).await?)?.unwrap_or(0);
    let last = u32::try_from(last).map_err(|error| reply::damaged(key, error))?;
    let told_to = last.min(after.saturating_add(ACL_RULES_PAGE));
    if told_to <= after {
        return Ok(AclRules { rules: Vec::new(), told_to: after, more: false });
    }
    let ids = after + 1..=told_to;
    let fields: Vec<String> = ids.clone().map(|id| id.to_string()).collect();
    let mut words = vec![&b"HMGET"[..], keys::ACL.as_bytes()];
    words.extend(fields.iter().map(String::as_bytes));
    let mut found = Vec::new();
    for (id, value) in ids.zip(reply::list(keys::ACL, link.call(&words).await?)?) {
        if let Some(bytes) = reply::bytes(keys::ACL, value)? {
            found.push((id, rule(id, &bytes)?));
        }
    }
    Ok(AclRules { rules: found, told_to, more: told_to < last })
}

/// Store a rule under a new id.
pub(super) async fn add(link: &Link, rule: &Rule) -> Result<u32, EngineError> {
    let scripts = link.scripts().await?;
    let bytes = encode_rule(rule);
    let words: [&[u8]; 6] = [
        b"EVALSHA",
        scripts.of(Script::AddAcl),
        b"2",
        keys::ACL_MAX_ID.as_bytes(),
        keys::ACL.as_bytes(),
        &bytes,
    ];
    let id = reply::integer(keys::ACL_MAX_ID, link.call(&words).await?)?;
    u32::try_from(id).map_err(|error| reply::damaged(keys::ACL_MAX_ID, error))
}
