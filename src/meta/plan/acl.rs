//! Access control lists: setting one, and what a new node takes from its directory.
//!
//! Who may set one the kernel decides, which holds owners and capabilities. Rules are stored before
//! a commit names them: a plan is told the id of a rule, never makes one.

use rustix::io::Errno;

use super::create::NewNode;
use super::set_node;
use crate::meta::acl::{AclKind, Rule};
use crate::meta::txn::{Commit, NodeField, SetNode};
use crate::types::{Attr, FLAG_IMMUTABLE, FileType, Ino, Time};

/// Permission bits and lists of a new node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Permissions {
    /// Permission bits, the umask taken away.
    pub mode: u16,
    /// Id of its access list, 0 for none.
    pub access_acl: u32,
    /// Id of its default list, 0 for none.
    pub default_acl: u32,
}

/// The directory's default list that a new node begins with, if any.
pub(in crate::meta) fn default_for(new: &NewNode, parent: &Attr) -> Option<u32> {
    (parent.default_acl != 0 && new.kind != FileType::Symlink).then_some(parent.default_acl)
}

/// What a new node takes from the default list of its directory, which stands for the umask;
/// `Err` is a rule that `id_of` does not know yet.
pub(in crate::meta) fn permissions(
    new: &NewNode,
    parent: &Attr,
    default: Option<&Rule>,
    id_of: impl FnOnce(&Rule) -> Option<u32>,
) -> Result<Permissions, Rule> {
    let mode = new.mode & 0o7777;
    let Some(rule) = default else {
        let mode = if new.kind == FileType::Symlink { 0o777 } else { mode & !new.umask };
        return Ok(Permissions { mode, access_acl: 0, default_acl: 0 });
    };
    let default_acl = if new.kind == FileType::Dir { parent.default_acl } else { 0 };
    if rule.is_minimal() {
        let mode = mode & (0o7000 | rule.mode());
        return Ok(Permissions { mode, access_acl: 0, default_acl });
    }
    let child = rule.child(mode);
    let access_acl = id_of(&child).ok_or_else(|| child.clone())?;
    Ok(Permissions { mode: mode & 0o7000 | child.mode(), access_acl, default_acl })
}

/// A list to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAcl {
    /// Which of the two.
    pub kind: AclKind,
    /// What it says; the empty rule removes it.
    pub rule: Rule,
    /// The caller may not keep set-group-id on this node.
    pub drops_group_id: bool,
}

/// What setting a list asks of the node: the rule to be named, if any, and the permission bits.
fn outcome(node: &Attr, wanted: &WantedAcl) -> (Option<Rule>, u16) {
    let mode = if wanted.drops_group_id { node.mode & !0o2000 } else { node.mode };
    let rule = &wanted.rule;
    match wanted.kind {
        _ if rule.is_empty() => (None, mode),
        AclKind::Default => (Some(rule.completed(mode)), mode),
        // Permission bits say as much.
        AclKind::Access if rule.is_minimal() => (None, mode & 0o7000 | rule.completed(mode).mode()),
        AclKind::Access => {
            let rule = rule.completed(mode);
            let mode = mode & 0o7000 | rule.mode();
            (Some(rule), mode)
        }
    }
}

/// A plan that needs the id of a rule, which is the error where it has none yet.
pub(in crate::meta) type OrRule<T> = Result<T, Rule>;

/// The commit that sets a list and the node afterwards, or `None` when nothing changes.
pub(in crate::meta) fn set_acl(
    ino: Ino,
    node: &Attr,
    wanted: &WantedAcl,
    id_of: impl FnOnce(&Rule) -> Option<u32>,
    now: Time,
) -> Result<OrRule<Option<(Commit, Attr)>>, Errno> {
    if node.flags & FLAG_IMMUTABLE != 0 {
        return Err(Errno::PERM);
    }
    let (rule, mode) = outcome(node, wanted);
    let id = match rule {
        None => 0,
        Some(rule) => match id_of(&rule) {
            Some(id) => id,
            None => return Ok(Err(rule)),
        },
    };
    let mut after = node.clone();
    after.mode = mode;
    match wanted.kind {
        AclKind::Access => after.access_acl = id,
        AclKind::Default => after.default_acl = id,
    }
    if after == *node {
        return Ok(Ok(None));
    }
    after.ctime = now;
    let set = SetNode {
        mode: (mode != node.mode).then_some(mode),
        acl: Some((after.access_acl, after.default_acl)),
        ctime: Some(now),
        ..SetNode::default()
    };
    let relied = vec![
        NodeField::Mode(node.kind, node.mode),
        NodeField::Flags(node.flags),
        NodeField::Acl(node.access_acl, node.default_acl),
    ];
    Ok(Ok(Some((set_node(ino, relied, set), after))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meta::acl::tests::any_rule;
    use crate::meta::acl::{Named, UNSET};
    use crate::meta::txn::Expect;

    const NOW: Time = Time { sec: 1_700_000_000, nsec: 1 };

    fn node(kind: FileType, mode: u16) -> Attr {
        Attr { default_acl: 9, ..Attr::new(kind, mode, Time::default()) }
    }

    fn new(kind: FileType, mode: u16) -> NewNode {
        NewNode { kind, mode, umask: 0o077, rdev: 0, target: None }
    }

    fn rule() -> Rule {
        let users = vec![Named { id: 1001, perm: 7 }];
        Rule { owner: 7, group: 5, mask: 7, other: 1, users, groups: vec![] }
    }

    #[test]
    fn without_a_default_list_the_umask_counts() {
        let parent = Attr { default_acl: 0, ..node(FileType::Dir, 0o755) };
        assert_eq!(default_for(&new(FileType::File, 0o666), &parent), None);
        let made = permissions(&new(FileType::File, 0o4666), &parent, None, |_| unreachable!());
        assert_eq!(made, Ok(Permissions { mode: 0o4600, access_acl: 0, default_acl: 0 }));
        let parent = node(FileType::Dir, 0o755);
        assert_eq!(default_for(&new(FileType::Symlink, 0o777), &parent), None);
        let made = permissions(&new(FileType::Symlink, 0o600), &parent, None, |_| unreachable!());
        assert_eq!(made.unwrap().mode, 0o777);
    }

    #[test]
    fn a_default_list_stands_for_the_umask() {
        let parent = node(FileType::Dir, 0o755);
        let (file, dir) = (new(FileType::File, 0o666), new(FileType::Dir, 0o2777));
        assert_eq!(default_for(&file, &parent), Some(9));
        let child = Rule { owner: 6, mask: 6, other: 0, ..rule() };
        assert_eq!(permissions(&file, &parent, Some(&rule()), |_| None), Err(child.clone()));
        let known = |asked: &Rule| (*asked == child).then_some(4);
        let made = permissions(&file, &parent, Some(&rule()), known).unwrap();
        assert_eq!(made, Permissions { mode: 0o660, access_acl: 4, default_acl: 0 });
        let made = permissions(&dir, &parent, Some(&rule()), |_| Some(5)).unwrap();
        assert_eq!(made, Permissions { mode: 0o2771, access_acl: 5, default_acl: 9 });
        let minimal = Rule { owner: 7, group: 5, other: 0, ..Rule::EMPTY };
        let made = permissions(&file, &parent, Some(&minimal), |_| unreachable!()).unwrap();
        assert_eq!(made, Permissions { mode: 0o640, access_acl: 0, default_acl: 0 });
        let made = permissions(&dir, &parent, Some(&minimal), |_| unreachable!()).unwrap();
        assert_eq!(made, Permissions { mode: 0o2750, access_acl: 0, default_acl: 9 });
    }

    fn set(node: &Attr, kind: AclKind, rule: &Rule) -> Option<Attr> {
        let wanted = WantedAcl { kind, rule: rule.clone(), drops_group_id: false };
        let planned = set_acl(Ino(5), node, &wanted, |_| Some(3), NOW).unwrap().unwrap();
        planned.map(|(_, after)| after)
    }

    #[test]
    fn an_access_list_moves_the_permission_bits() {
        let file = Attr { default_acl: 0, ..node(FileType::File, 0o2644) };
        let after = set(&file, AclKind::Access, &rule()).unwrap();
        assert_eq!((after.mode, after.access_acl, after.ctime), (0o2771, 3, NOW));
        assert_eq!(set(&after, AclKind::Access, &rule()), None, "nothing changes");
        let minimal = Rule { owner: 6, group: 0, other: 0, ..Rule::EMPTY };
        let bare = set(&after, AclKind::Access, &minimal).unwrap();
        assert_eq!((bare.mode, bare.access_acl), (0o2600, 0));
        let removed = set(&after, AclKind::Access, &Rule::EMPTY).unwrap();
        assert_eq!((removed.mode, removed.access_acl), (0o2771, 0), "the bits stay");
        assert_eq!(set(&removed, AclKind::Access, &Rule::EMPTY), None);
        let odd = Rule { mask: 4, owner: UNSET, group: UNSET, other: UNSET, ..rule() };
        assert_eq!(
            set(&file, AclKind::Access, &odd).unwrap().mode,
            0o2644,
            "completed by the bits"
        );
    }

    #[test]
    fn a_default_list_leaves_them_alone() {
        let dir = Attr { default_acl: 0, ..node(FileType::Dir, 0o755) };
        let after = set(&dir, AclKind::Default, &rule()).unwrap();
        assert_eq!((after.mode, after.access_acl, after.default_acl), (0o755, 0, 3));
        let minimal = Rule { owner: 7, group: 5, other: 0, ..Rule::EMPTY };
        assert_eq!(set(&dir, AclKind::Default, &minimal).unwrap().default_acl, 3);
        assert_eq!(set(&after, AclKind::Default, &Rule::EMPTY).unwrap().default_acl, 0);
    }

    #[test]
    fn who_is_not_in_the_group_loses_set_group_id() {
        let file = node(FileType::File, 0o2755);
        let wanted = WantedAcl { kind: AclKind::Access, rule: rule(), drops_group_id: true };
        let (commit, after) =
            set_acl(Ino(5), &file, &wanted, |_| Some(3), NOW).unwrap().unwrap().unwrap();
        assert_eq!(after.mode, 0o771);
        let relied = vec![
            NodeField::Mode(FileType::File, 0o2755),
            NodeField::Flags(0),
            NodeField::Acl(0, 9),
        ];
        assert_eq!(commit.expects, [Expect::NodeFields(Ino(5), relied)]);
        let frozen = Attr { flags: FLAG_IMMUTABLE, ..file };
        assert_eq!(set_acl(Ino(5), &frozen, &wanted, |_| Some(3), NOW).err(), Some(Errno::PERM));
    }

    proptest! {
        #[test]
        fn bits_and_access_list_say_the_same(rule in any_rule(), mode in 0u16..0o10000) {
            let file = Attr { default_acl: 0, ..node(FileType::File, mode) };
            let wanted = WantedAcl { kind: AclKind::Access, rule: rule.clone(), drops_group_id: false };
            let mut named = None;
            let planned = set_acl(Ino(5), &file, &wanted, |rule| { named = Some(rule.clone()); Some(3) }, NOW);
            let after = planned.unwrap().unwrap().map_or(file, |(_, after)| after);
            prop_assert_eq!(after.mode & 0o777, rule.mode());
            prop_assert_eq!(after.mode & 0o7000, mode & 0o7000);
            prop_assert_eq!(named.is_some(), after.access_acl != 0);
            prop_assert_eq!(named.is_some(), !rule.is_minimal());
        }

        #[test]
        fn new_nodes_get_nothing_that_nobody_gave(rule in any_rule(), mode in 0u16..0o10000) {
            let parent = node(FileType::Dir, 0o755);
            let mut named = None;
            let id_of = |rule: &Rule| { named = Some(rule.clone()); Some(3) };
            let made = permissions(&new(FileType::File, mode), &parent, Some(&rule), id_of).unwrap();
            prop_assert_eq!(made.mode & !mode, 0, "no bit beyond those asked for");
            prop_assert_eq!(made.mode & 0o777 & !rule.mode(), 0, "nor beyond the default list");
            prop_assert_eq!(named.map(|rule| rule.mode()), (made.access_acl != 0).then_some(made.mode & 0o777));
        }
    }
}
