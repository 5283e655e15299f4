//! POSIX access control lists: a rule, its bytes as JuiceFS stores them, and how it meets the
//! permission bits.
//!
//! Owns pure functions only. Rules are stored once under an id, which never changes its meaning;
//! nodes name ids (`types::Attr`). Does not own who may set a rule (`plan::acl`) nor the form in
//! which the kernel hands it over (`vfs::acl`). Who may do what by a rule is the kernel's word, and
//! where the kernel does not ask, `vfs::internal`'s.

use super::record::RecordError;

/// What stands for permissions that a rule does not name.
pub const UNSET: u16 = 0xffff;
/// Bytes of a rule without named users and groups.
const RULE_BYTES: usize = 16;
/// Bytes of one named user or group.
const NAMED_BYTES: usize = 6;

/// Permissions of one user or group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Named {
    /// User or group id.
    pub id: u32,
    /// Three bits.
    pub perm: u16,
}

/// A list of permissions; [`UNSET`] stands for those it does not have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Of the owner.
    pub owner: u16,
    /// Of the owning group.
    pub group: u16,
    /// What named ones and the owning group have at most.
    pub mask: u16,
    /// Of everybody else.
    pub other: u16,
    /// Of users, in the order in which they were given.
    pub users: Vec<Named>,
    /// Of groups.
    pub groups: Vec<Named>,
}

/// The two lists a node may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclKind {
    /// Who may do what with the node.
    Access,
    /// What new nodes of a directory begin with.
    Default,
}

impl Rule {
    /// The rule that says nothing: setting it removes the list.
    pub const EMPTY: Self = Self {
        owner: UNSET,
        group: UNSET,
        mask: UNSET,
        other: UNSET,
        users: Vec::new(),
        groups: Vec::new(),
    };

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Whether permission bits say as much.
    pub fn is_minimal(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.mask == UNSET
    }

    /// The permission bits that stand for it: the group's are the mask.
    pub fn mode(&self) -> u16 {
        let group = if self.is_minimal() { self.group } else { self.mask };
        (self.owner & 7) << 6 | (group & 7) << 3 | self.other & 7
    }

    /// As chmod(2) to these permission bits leaves it.
    pub fn with_mode(&self, mode: u16) -> Self {
        let put = |old: u16, new: u16| old & !7 | new & 7;
        let mut rule = self.clone();
        rule.owner = put(rule.owner, mode >> 6);
        if rule.is_minimal() {
            rule.group = put(rule.group, mode >> 3);
        } else {
            rule.mask = put(rule.mask, mode >> 3);
        }
        rule.other = put(rule.other, mode);
        rule
    }

    /// With permissions it does not have taken from permission bits; named ones and the mask stay.
    pub fn completed(&self, mode: u16) -> Self {
        let or = |own: u16, bits: u16| if own == UNSET { bits & 7 } else { own };
        Self {
            owner: or(self.owner, mode >> 6),
            group: or(self.group, mode >> 3),
            other: or(self.other, mode),
            ..self.clone()
        }
    }

    /// The access list of a node that is made with these permission bits where this is the default.
    pub fn child(&self, mode: u16) -> Self {
        Self {
            owner: mode >> 6 & 7 & self.owner,
            mask: mode >> 3 & 7 & self.mask,
            other: mode & 7 & self.other,
            ..self.clone()
        }
    }
}

fn put_named(out: &mut Vec<u8>, named: &[Named]) {
    for Named { id, perm } in named {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&perm.to_be_bytes());
    }
}

/// Named users or groups without their count, as SQL engines keep them.
pub(super) fn encode_named(named: &[Named]) -> Vec<u8> {
    let mut out = Vec::with_capacity(named.len() * NAMED_BYTES);
    put_named(&mut out, named);
    out
}

/// Read named users or groups that stand back to back.
pub(super) fn decode_named(bytes: &[u8]) -> Result<Vec<Named>, RecordError> {
    let (named, rest) = bytes.as_chunks::<NAMED_BYTES>();
    if !rest.is_empty() {
        return Err(RecordError::Length(bytes.len()));
    }
    let one = |&[a, b, c, d, high, low]: &[u8; NAMED_BYTES]| Named {
        id: u32::from_be_bytes([a, b, c, d]),
        perm: u16::from_be_bytes([high, low]),
    };
    Ok(named.iter().map(one).collect())
}

/// A rule as one value.
pub(super) fn encode_rule(rule: &Rule) -> Vec<u8> {
    let named = (rule.users.len() + rule.groups.len()) * NAMED_BYTES;
    let mut out = Vec::with_capacity(RULE_BYTES + named);
    for perm in [rule.owner, rule.group, rule.mask, rule.other] {
        out.extend_from_slice(&perm.to_be_bytes());
    }
    for named in [&rule.users, &rule.groups] {
        let count = u32::try_from(named.len()).expect("the kernel takes a few hundred at most");
        out.extend_from_slice(&count.to_be_bytes());
        put_named(&mut out, named);
    }
    out
}

/// Read a rule from one value.
pub(super) fn decode_rule(bytes: &[u8]) -> Result<Rule, RecordError> {
    let wrong = RecordError::Length(bytes.len());
    let (perms, mut rest) = bytes.split_at_checked(8).ok_or(wrong)?;
    let mut named = || {
        let (count, behind) = rest.split_first_chunk::<4>().ok_or(wrong)?;
        let length = (u32::from_be_bytes(*count) as usize).checked_mul(NAMED_BYTES).ok_or(wrong)?;
        let (entries, behind) = behind.split_at_checked(length).ok_or(wrong)?;
        rest = behind;
        decode_named(entries)
    };
    let (users, groups) = (named()?, named()?);
    if !rest.is_empty() {
        return Err(wrong);
    }
    let perm = |at: usize| u16::from_be_bytes([perms[at], perms[at + 1]]);
    Ok(Rule { owner: perm(0), group: perm(2), mask: perm(4), other: perm(6), users, groups })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meta::record::tests::unhex;

    fn named(list: &[(u32, u16)]) -> Vec<Named> {
        list.iter().map(|(id, perm)| Named { id: *id, perm: *perm }).collect()
    }

    /// Any rule with a mask, or without names and mask.
    pub(in crate::meta) fn any_rule() -> impl Strategy<Value = Rule> {
        let names = || proptest::collection::vec((any::<u32>(), 0u16..8), 0..4);
        (0u16..8, 0u16..8, proptest::option::of(0u16..8), 0u16..8, names(), names()).prop_map(
            |(owner, group, mask, other, users, groups)| Rule {
                owner,
                group,
                mask: mask.unwrap_or(UNSET),
                other,
                users: named(if mask.is_some() { &users } else { &[] }),
                groups: named(if mask.is_some() { &groups } else { &[] }),
            },
        )
    }

    #[test]
    fn rules_have_the_real_clients_bytes() {
        // Hash `acl` of the fixture quota-acl, fields 2 and 8; user 1001:6 and group 50:5 of the format page.
        let many = Rule {
            owner: 6,
            group: 4,
            mask: 5,
            other: 0,
            users: named(&[(1001, 6), (1002, 4)]),
            groups: named(&[(2001, 7), (2002, 0)]),
        };
        let bytes = "0006000400050000 00000002 000003e90006 000003ea0004 00000002 000007d10007 000007d20000";
        assert_eq!(encode_rule(&many), unhex(bytes));
        assert_eq!(decode_rule(&unhex(bytes)), Ok(many));
        let minimal = Rule { owner: 7, group: 5, other: 0, ..Rule::EMPTY };
        let bytes = unhex("00070005ffff0000 00000000 00000000");
        assert_eq!(encode_rule(&minimal), bytes);
        assert_eq!(decode_rule(&bytes), Ok(minimal));
        let page = Rule {
            owner: 6,
            group: 4,
            mask: 6,
            other: 0,
            users: named(&[(1001, 6)]),
            groups: named(&[(50, 5)]),
        };
        let bytes = "0006 0004 0006 0000 00000001 000003e9 0006 00000001 00000032 0005";
        assert_eq!(encode_rule(&page), unhex(bytes));
        assert_eq!(encode_named(&page.users), unhex("000003e90006"));
    }

    #[test]
    fn damaged_rules_are_told() {
        let bytes = encode_rule(&Rule { users: named(&[(1, 7)]), ..Rule::EMPTY });
        for length in 0..bytes.len() {
            assert_eq!(decode_rule(&bytes[..length]), Err(RecordError::Length(length)));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode_rule(&longer), Err(RecordError::Length(longer.len())));
        let endless = unhex("0006000400050000 ffffffff");
        assert_eq!(decode_rule(&endless), Err(RecordError::Length(12)));
    }

    #[test]
    fn a_rule_that_says_nothing_is_empty_and_one_without_names_and_mask_is_minimal() {
        assert!(Rule::EMPTY.is_empty() && Rule::EMPTY.is_minimal());
        let minimal = Rule { owner: 6, group: 4, other: 4, ..Rule::EMPTY };
        assert!(!minimal.is_empty() && minimal.is_minimal());
        assert_eq!(minimal.mode(), 0o644);
        let masked = Rule { mask: 7, ..minimal };
        assert!(!masked.is_minimal());
        assert_eq!(masked.mode(), 0o674, "the group's bits are the mask");
    }

    proptest! {
        #[test]
        fn rules_survive(rule in any_rule()) {
            prop_assert_eq!(decode_rule(&encode_rule(&rule)), Ok(rule.clone()));
            prop_assert_eq!(decode_named(&encode_named(&rule.users)), Ok(rule.users));
        }

        #[test]
        fn any_bytes_are_a_rule_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(rule) = decode_rule(&bytes) {
                prop_assert_eq!(encode_rule(&rule), bytes);
            }
        }

        #[test]
        fn chmod_is_what_the_rule_then_tells(rule in any_rule(), mode in 0u16..0o1000) {
            let after = rule.with_mode(mode);
            prop_assert_eq!(after.mode(), mode);
            prop_assert_eq!((&after.users, &after.groups), (&rule.users, &rule.groups));
            prop_assert!(rule.is_minimal() || after.group == rule.group, "only the mask moves");
            prop_assert_eq!(after.with_mode(rule.mode()), rule);
        }

        #[test]
        fn children_have_no_more_than_asked_and_given(rule in any_rule(), mode in 0u16..0o1000) {
            let child = rule.child(mode);
            prop_assert_eq!(child.owner & !7, 0);
            if !rule.is_minimal() {
                prop_assert_eq!(child.mode() & !(mode & rule.mode()), 0);
                prop_assert_eq!(child.child(mode), child.clone());
            }
            prop_assert_eq!((&child.users, &child.groups, child.group), (&rule.users, &rule.groups, rule.group));
        }

        #[test]
        fn what_is_missing_comes_from_the_mode(rule in any_rule(), mode in 0u16..0o1000) {
            prop_assert_eq!(rule.completed(mode), rule.clone());
            let bare = Rule { owner: UNSET, group: UNSET, other: UNSET, ..rule.clone() };
            let full = bare.completed(mode);
            prop_assert_eq!((full.owner, full.group, full.other), (mode >> 6, mode >> 3 & 7, mode & 7));
            prop_assert_eq!((full.mask, &full.users), (rule.mask, &rule.users));
        }
    }
}
