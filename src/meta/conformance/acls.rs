//! Rules of access control: each under its own id, told again as it was stored.

use crate::meta::acl::{Named, Rule};
use crate::meta::conformance::get;
use crate::meta::engine::Engine;
use crate::meta::txn::{Key, Value};

fn rule(number: u32) -> Rule {
    let named = |count: u32| (0..count).map(|at| Named { id: number + at, perm: 5 }).collect();
    Rule {
        owner: 7,
        group: (number % 8) as u16,
        mask: 6,
        other: 0,
        users: named(number % 3),
        groups: named(number % 2),
    }
}

/// All pages after an id.
async fn all(engine: &dyn Engine, after: u32) -> Vec<(u32, Rule)> {
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        let page = engine.acl_rules(after).await.unwrap();
        assert!(
            page.told_to >= after
                && page.rules.iter().all(|(id, _)| (after + 1..=page.told_to).contains(id))
        );
        found.extend(page.rules);
        after = page.told_to;
        if !page.more {
            return found;
        }
    }
}

pub(super) async fn check(engine: &dyn Engine) {
    assert_eq!(get(engine, Key::Acl(1)).await, Value::Acl(None));
    assert_eq!(all(engine, 0).await, []);
    let mut stored = Vec::new();
    for number in 0..4 {
        stored.push((engine.add_acl_rule(rule(number)).await.unwrap(), rule(number)));
    }
    stored.push((
        engine.add_acl_rule(Rule { owner: 6, ..Rule::EMPTY }).await.unwrap(),
        Rule { owner: 6, ..Rule::EMPTY },
    ));
    // One like it has an id of its own.
    stored.push((engine.add_acl_rule(rule(1)).await.unwrap(), rule(1)));
    let ids: Vec<u32> = stored.iter().map(|(id, _)| *id).collect();
    assert!(ids[0] > 0 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    for (id, rule) in &stored {
        assert_eq!(get(engine, Key::Acl(*id)).await, Value::Acl(Some(rule.clone())));
    }
    assert_eq!(get(engine, Key::Acl(0)).await, Value::Acl(None));
    assert_eq!(all(engine, 0).await, stored);
    assert_eq!(all(engine, ids[2]).await, stored[3..]);
    assert_eq!(all(engine, ids[5]).await, []);
    assert_eq!(all(engine, ids[5] + 7).await, []);
    for number in 0..crate::limits::ACL_RULES_PAGE + 5 {
        stored.push((engine.add_acl_rule(rule(number)).await.unwrap(), rule(number)));
    }
    assert_eq!(all(engine, 0).await, stored, "more than a page");
}
