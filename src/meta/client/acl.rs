//! Access control lists of nodes, and the rules of the volume that are known here.
//!
//! A rule keeps its id for good, so what is known of one is no guess. Identical rules share an id
//! as far as this mount knows them; two of the same are legal, as they are for JuiceFS.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustix::io::Errno;

use super::{Meta, TRIES, node_in, now};
use crate::limits::ACL_RULES_MAX;
use crate::meta::acl::Rule;
use crate::meta::plan::acl::{OrRule, WantedAcl, set_acl};
use crate::meta::slices::MetaError;
use crate::meta::txn::{Key, Value};
use crate::types::{Attr, Ino};

/// Rules known to a mount.
#[derive(Default)]
pub(super) struct Rulebook(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_id: HashMap<u32, Arc<Rule>, RandomState>,
    ids: HashMap<Arc<Rule>, u32, RandomState>,
    /// All rules up to this id were told once.
    told_to: u32,
}

impl Rulebook {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rule of an id.
    pub fn rule(&self, id: u32) -> Option<Arc<Rule>> {
        self.known().by_id.get(&id).cloned()
    }

    /// An id of a rule.
    pub fn id(&self, rule: &Rule) -> Option<u32> {
        self.known().ids.get(rule).copied()
    }

    /// The volume has this rule.
    pub fn learn(&self, id: u32, rule: Rule) {
        let mut known = self.known();
        if known.by_id.contains_key(&id) {
            return;
        }
        if known.by_id.len() >= ACL_RULES_MAX {
            known.by_id.clear();
            known.ids.clear();
        }
        let rule = Arc::new(rule);
        known.by_id.insert(id, Arc::clone(&rule));
        known.ids.entry(rule).or_insert(id);
    }
}

impl Meta {
    /// What an id of a list says; EIO where the volume has no such rule.
    pub async fn acl_rule(&self, id: u32) -> Result<Rule, MetaError> {
        let found = self.fetch(&[Key::Acl(id)]).await?;
        Ok(rule_in(&found[0])?.clone())
    }

    /// Set or remove a list; the node's attributes afterwards.
    pub async fn set_acl(&self, ino: Ino, wanted: &WantedAcl) -> Result<Attr, MetaError> {
        let ino = self.real(ino);
        let book = &self.shared.rulebook;
        self.with_rules(async || {
            let done = self.decide_warm([Key::Node(ino)], |found| {
                let node = node_in(&found[0])?;
                Ok(match set_acl(ino, node, wanted, |rule| book.id(rule), now())? {
                    Ok(Some((commit, after))) => (Some(commit), Ok(after)),
                    Ok(None) => (None, Ok(node.clone())),
                    Err(rule) => (None, Err(rule)),
                })
            });
            let (planned, nodes) = done.await?;
            Ok(planned.map(|planned| self.afterwards(ino, nodes, planned)))
        })
        .await
    }

    /// Try an operation that names a rule; where the rule has no id yet it gets one, and the
    /// operation is tried again.
    pub(super) async fn with_rules<T>(
        &self,
        attempt: impl AsyncFn() -> Result<OrRule<T>, MetaError>,
    ) -> Result<T, MetaError> {
        for _ in 0..TRIES {
            match attempt().await? {
                Ok(done) => return Ok(done),
                Err(rule) => self.store_rule(rule).await?,
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The volume has this rule afterwards: another client's, or a new one.
    async fn store_rule(&self, rule: Rule) -> Result<(), MetaError> {
        self.writable()?;
        let book = &self.shared.rulebook;
        let mut from = Some(book.known().told_to);
        while let Some(after) = from {
            let page = self.engine.acl_rules(after).await?;
            page.rules.into_iter().for_each(|(id, rule)| book.learn(id, rule));
            let mut known = book.known();
            known.told_to = known.told_to.max(page.told_to);
            from = page.more.then_some(page.told_to);
        }
        if book.id(&rule).is_none() {
            let id = self.engine.add_acl_rule(rule.clone()).await?;
            assert!(id != 0, "no rule has the id that stands for none");
            book.learn(id, rule);
        }
        Ok(())
    }
}

/// The rule in an answer; EIO if it is gone, for nodes name it.
pub(super) fn rule_in(value: &Value) -> Result<&Rule, Errno> {
    match value {
        Value::Acl(found) => found.as_ref().ok_or(Errno::IO),
        other => unreachable!("a rule was asked for, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(number: u16) -> Rule {
        Rule { owner: number & 7, mask: number >> 3, ..Rule::EMPTY }
    }

    #[test]
    fn the_first_id_of_a_rule_stays() {
        let book = Rulebook::default();
        assert_eq!((book.id(&rule(1)), book.rule(3)), (None, None));
        book.learn(3, rule(1));
        book.learn(4, rule(1));
        book.learn(3, rule(2));
        assert_eq!((book.id(&rule(1)), book.id(&rule(2))), (Some(3), None));
        assert_eq!(
            (book.rule(3).as_deref(), book.rule(4).as_deref()),
            (Some(&rule(1)), Some(&rule(1)))
        );
    }

    #[test]
    fn it_stays_inside_its_bound() {
        let book = Rulebook::default();
        for number in 0..2 * ACL_RULES_MAX as u32 + 7 {
            book.learn(
                number + 1,
                Rule { users: vec![crate::meta::acl::Named { id: number, perm: 7 }], ..rule(7) },
            );
        }
        let known = book.known();
        assert!(
            (1..=ACL_RULES_MAX).contains(&known.by_id.len())
                && known.ids.len() <= known.by_id.len()
        );
    }
}
