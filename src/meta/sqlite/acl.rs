//! Rules of access control: a table by id.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::rows;
use crate::limits::ACL_RULES_PAGE;
use crate::meta::acl::{Named, Rule, UNSET, decode_named, encode_named};
use crate::meta::engine::AclRules;

fn row_name(id: u32) -> String {
    format!("jfs_acl id={id}")
}

/// A rule from six columns beginning at `first`.
fn rule_at(row: &Row<'_>, first: usize) -> Result<Rule> {
    let perm = |column: usize| match row.get_ref(first + column)? {
        ValueRef::Null => Ok(UNSET),
        _ => row.get(first + column),
    };
    let named = |column: usize| -> Result<Vec<Named>> {
        let bytes = rows::bytes(row, first + column)?;
        decode_named(&bytes).map_err(|reason| rows::damaged(first + column, reason.to_string()))
    };
    Ok(Rule {
        owner: perm(0)?,
        group: perm(1)?,
        mask: perm(2)?,
        other: perm(3)?,
        users: named(4)?,
        groups: named(5)?,
    })
}

pub(super) fn rule(base: &Connection, id: u32) -> Result<Option<Rule>> {
    let found = base
        .prepare_cached(
            "SELECT owner, \"group\", mask, other, named_users, named_groups FROM jfs_acl WHERE id = ?",
        )?
        .query_row([id], |row| rule_at(row, 0))
        .optional();
    rows::at(|| row_name(id), found)
}

/// Rules with an id above `after`, one page.
pub(super) fn rules(base: &Connection, after: u32) -> Result<AclRules> {
    let found = base
        .prepare_cached(
            "SELECT id, owner, \"group\", mask, other, named_users, named_groups FROM jfs_acl \
             WHERE id > ? ORDER BY id LIMIT ?",
        )?
        .query_map([after, ACL_RULES_PAGE], |row| {
            let id = row.get(0)?;
            Ok((id, rows::at(|| row_name(id), rule_at(row, 1))?))
        })?
        .collect::<Result<Vec<_>>>()?;
    let told_to = found.last().map_or(after, |(id, _)| *id);
    let more = found.len() == ACL_RULES_PAGE as usize;
    Ok(AclRules { rules: found, told_to, more })
}

/// Store a rule under a new id.
pub(super) fn add(base: &Connection, rule: &Rule) -> Result<u32> {
    base.prepare_cached(
        "INSERT INTO jfs_acl (owner, \"group\", mask, other, named_users, named_groups) \
         VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
    )?
    .query_row(
        params![
            rule.owner,
            rule.group,
            rule.mask,
            rule.other,
            encode_named(&rule.users),
            encode_named(&rule.groups)
        ],
        |row| row.get(0),
    )
}
