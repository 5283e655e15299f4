//! Access control lists as extended attributes: the kernel's form of them, and its calls.
//!
//! Owns the form: version 2, then eight bytes for each entry, in the machine's order of bytes.
//! Does not own what a list means: the kernel evaluates it, `meta` keeps it in step with the mode.

use std::rc::Rc;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::op::Reply;
use super::xattr::fitting;
use crate::meta::{AclKind, Named, Rule, UNSET, WantedAcl};
use crate::types::{Attr, Ino};

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// The id of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// The kernel's numbers for whom an entry is.
mod tag {
    pub const OWNER: u16 = 0x01;
    pub const USER: u16 = 0x02;
    pub const GROUP: u16 = 0x04;
    pub const NAMED_GROUP: u16 = 0x08;
    pub const MASK: u16 = 0x10;
    pub const OTHER: u16 = 0x20;
}

/// The list that an attribute's name stands for.
pub(super) fn kind_of(name: &[u8]) -> Option<AclKind> {
    match name {
        ACCESS => Some(AclKind::Access),
        DEFAULT => Some(AclKind::Default),
        _ => None,
    }
}

/// Names of the lists that a node has.
pub(super) fn names(attr: &Attr) -> impl Iterator<Item = &'static [u8]> {
    let both = [(attr.access_acl, ACCESS), (attr.default_acl, DEFAULT)];
    both.into_iter().filter(|(id, _)| *id != 0).map(|(_, name)| name)
}

/// A list as the value of an attribute.
fn encode(rule: &Rule) -> Box<[u8]> {
    let mut out = VERSION.to_ne_bytes().to_vec();
    let mut put = |tag: u16, perm: u16, id: u32| {
        out.extend_from_slice(&tag.to_ne_bytes());
        out.extend_from_slice(&perm.to_ne_bytes());
        out.extend_from_slice(&id.to_ne_bytes());
    };
    put(tag::OWNER, rule.owner, NOBODY);
    rule.users.iter().for_each(|named| put(tag::USER, named.perm, named.id));
    put(tag::GROUP, rule.group, NOBODY);
    rule.groups.iter().for_each(|named| put(tag::NAMED_GROUP, named.perm, named.id));
    if rule.mask != UNSET {
        put(tag::MASK, rule.mask, NOBODY);
    }
    put(tag::OTHER, rule.other, NOBODY);
    out.into()
}

/// Read a list; EINVAL for what is none, and for names without a mask.
fn decode(value: &[u8]) -> Result<Rule, Errno> {
    let (version, entries) = value.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if u32::from_ne_bytes(*version) != VERSION || !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let mut rule = Rule::EMPTY;
    for &[t0, t1, p0, p1, a, b, c, d] in entries {
        let perm = u16::from_ne_bytes([p0, p1]);
        let named = Named { id: u32::from_ne_bytes([a, b, c, d]), perm };
        let once = match u16::from_ne_bytes([t0, t1]) {
            tag::OWNER => &mut rule.owner,
            tag::GROUP => &mut rule.group,
            tag::MASK => &mut rule.mask,
            tag::OTHER => &mut rule.other,
            tag::USER => {
                rule.users.push(named);
                continue;
            }
            tag::NAMED_GROUP => {
                rule.groups.push(named);
                continue;
            }
            _ => return Err(Errno::INVAL),
        };
        if *once != UNSET || perm > 7 {
            return Err(Errno::INVAL);
        }
        *once = perm;
    }
    let names = rule.users.iter().chain(&rule.groups);
    if names.clone().any(|named| named.perm > 7) || rule.mask == UNSET && names.count() > 0 {
        return Err(Errno::INVAL);
    }
    Ok(rule)
}

impl Vfs {
    /// A list of a node, ENODATA where it has none.
    pub(super) async fn get_acl(&self, ino: Ino, kind: AclKind, room_bytes: u32) -> Done {
        let (attr, _) = self.attr(ino).await?;
        let id = match kind {
            AclKind::Access => attr.access_acl,
            AclKind::Default => attr.default_acl,
        };
        if id == 0 {
            return Err(Errno::NODATA.into());
        }
        fitting(encode(&self.meta.acl_rule(id).await?), room_bytes)
    }

    /// Set a list; `None` removes it. `drops_group_id` as the kernel says of the caller.
    pub(super) async fn set_acl(
        self: &Rc<Self>,
        ino: Ino,
        kind: AclKind,
        value: Option<&[u8]>,
        drops_group_id: bool,
    ) -> Done {
        let rule = value.map_or(Ok(Rule::EMPTY), decode)?;
        let began = self.shared.changes.now();
        let wanted = WantedAcl { kind, rule, drops_group_id };
        let mut attr = self.meta.set_acl(ino, &wanted).await?;
        self.settle(ino, &mut attr, began);
        self.changed(ino);
        Ok(Reply::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = VERSION.to_ne_bytes().to_vec();
        for (tag, perm, id) in list {
            out.extend(tag.to_ne_bytes());
            out.extend(perm.to_ne_bytes());
            out.extend(id.to_ne_bytes());
        }
        out
    }

    #[test]
    fn lists_have_the_kernels_form() {
        let all = [
            (1, 6, NOBODY),
            (2, 7, 1001),
            (2, 0, 1002),
            (4, 4, NOBODY),
            (8, 5, 50),
            (16, 7, NOBODY),
            (32, 0, NOBODY),
        ];
        let rule = decode(&entries(&all)).unwrap();
        assert_eq!((rule.owner, rule.group, rule.mask, rule.other), (6, 4, 7, 0));
        assert_eq!(rule.users, [Named { id: 1001, perm: 7 }, Named { id: 1002, perm: 0 }]);
        assert_eq!(rule.groups, [Named { id: 50, perm: 5 }]);
        assert_eq!(*encode(&rule), *entries(&all));
        let minimal = [(1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)];
        let rule = decode(&entries(&minimal)).unwrap();
        assert!(rule.is_minimal());
        assert_eq!(*encode(&rule), *entries(&minimal));
        assert_eq!(decode(&entries(&[])), Ok(Rule::EMPTY));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let refused = |value: &[u8]| assert_eq!(decode(value), Err(Errno::INVAL), "{value:?}");
        refused(b"");
        refused(&1u32.to_ne_bytes());
        refused(&entries(&[(1, 6, NOBODY)])[..11]);
        refused(&entries(&[(1, 6, NOBODY), (1, 6, NOBODY)]));
        refused(&entries(&[(2, 7, 1001)]));
        refused(&entries(&[(2, 8, 1001), (16, 7, NOBODY)]));
        refused(&entries(&[(1, 8, NOBODY)]));
        refused(&entries(&[(64, 7, NOBODY)]));
    }
}
