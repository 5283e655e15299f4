//! Access control lists of nodes on each engine: ids, permission bits, what children take.

use super::*;
use crate::meta::acl::{AclKind, Named, Rule, UNSET};
use crate::meta::plan::acl::WantedAcl;
use crate::meta::plan::attr::Wanted;

fn rule() -> Rule {
    let users = vec![Named { id: 1001, perm: 7 }];
    Rule { owner: 7, group: 5, mask: 7, other: 0, users, groups: vec![] }
}

async fn set(meta: &Meta, ino: Ino, kind: AclKind, rule: Rule) -> Attr {
    meta.set_acl(ino, &WantedAcl { kind, rule, drops_group_id: false }).await.unwrap()
}

async fn said(meta: &Meta, id: u32) -> Rule {
    meta.acl_rule(id).await.unwrap()
}

async fn rules(meta: &Meta) -> usize {
    meta.engine().acl_rules(0).await.unwrap().rules.len()
}

#[test]
fn rules_are_stored_once_and_follow_chmod() {
    on_each_engine(async |meta| {
        let f = meta.create(Ino::ROOT, b"f", &new(FileType::File), ROOT).await.unwrap().ino;
        let g = meta.create(Ino::ROOT, b"g", &new(FileType::File), ROOT).await.unwrap().ino;
        let attr = set(meta, f, AclKind::Access, rule()).await;
        assert_eq!((attr.mode, attr.default_acl), (0o770, 0));
        assert_eq!(said(meta, attr.access_acl).await, rule());
        assert_eq!(set(meta, g, AclKind::Access, rule()).await.access_acl, attr.access_acl);
        assert_eq!(rules(meta).await, 1, "identical rules share an id");
        let chmod = |mode| Wanted { mode: Some(mode), ..Wanted::default() };
        let after = meta.setattr(f, &chmod(0o640)).await.unwrap();
        assert_eq!(after.mode, 0o640);
        let masked = Rule { owner: 6, mask: 4, ..rule() };
        assert_eq!(said(meta, after.access_acl).await, masked);
        assert_eq!(meta.getattr(f).await.unwrap(), after);
        let back = meta.setattr(f, &chmod(0o770)).await.unwrap();
        assert_eq!((back.access_acl, rules(meta).await), (attr.access_acl, 2));
        // What is no chmod leaves it alone.
        let chown = Wanted { uid: Some(5), ..Wanted::default() };
        assert_eq!(meta.setattr(f, &chown).await.unwrap().access_acl, attr.access_acl);
        let minimal = Rule { mask: UNSET, users: vec![], ..rule() };
        let bare = set(meta, f, AclKind::Access, minimal).await;
        assert_eq!((bare.mode, bare.access_acl), (0o750, 0));
        assert_eq!(set(meta, g, AclKind::Access, Rule::EMPTY).await.access_acl, 0);
        assert_eq!(rules(meta).await, 2, "rules stay");
    });
}

#[test]
fn children_take_the_default_list() {
    on_each_engine(async |meta| {
        let d = meta.create(Ino::ROOT, b"d", &new(FileType::Dir), ROOT).await.unwrap().ino;
        let default = set(meta, d, AclKind::Default, rule()).await.default_acl;
        let masked = NewNode { mode: 0o666, umask: 0o077, ..new(FileType::File) };
        let f = meta.create(d, b"f", &masked, ROOT).await.unwrap().attr;
        assert_eq!((f.mode, f.default_acl), (0o660, 0));
        assert_eq!(said(meta, f.access_acl).await, Rule { owner: 6, mask: 6, ..rule() });
        let e = meta.create(d, b"e", &new(FileType::Dir), ROOT).await.unwrap();
        assert_eq!((e.attr.default_acl, e.attr.mode), (default, 0o750));
        let deep = meta.create(e.ino, b"f", &masked, ROOT).await.unwrap().attr;
        assert_eq!(deep.access_acl, f.access_acl, "the same rule");
        let link = NewNode { target: Some((*b"t").into()), ..new(FileType::Symlink) };
        let link = meta.create(d, b"l", &link, ROOT).await.unwrap().attr;
        assert_eq!((link.mode, link.access_acl), (0o777, 0));
        // A mount that knows nothing yet finds the rules of others.
        let other = Meta::new(
            Rc::clone(&meta.engine),
            MetaShared::new(Ino::ROOT, false, 0, Rules::default()),
        );
        let before = rules(meta).await;
        let g = other.create(d, b"g", &masked, ROOT).await.unwrap().attr;
        assert_eq!((g.access_acl, rules(meta).await), (f.access_acl, before));
        // The list is taken away behind the back of the first one.
        set(&other, d, AclKind::Default, Rule::EMPTY).await;
        let h = meta.create(d, b"h", &masked, ROOT).await;
        let plain = Rules { acl: true, ..Rules::default() };
        let knowing =
            Meta::new(Rc::clone(&meta.engine), MetaShared::new(Ino::ROOT, false, 0, plain));
        assert_eq!(
            (h.unwrap().attr.mode, knowing.getattr(d).await.unwrap().default_acl),
            (0o600, 0)
        );
        let made = knowing.create(d, b"i", &masked, ROOT).await.unwrap().attr;
        assert_eq!((made.mode, made.access_acl), (0o600, 0));
        set(meta, d, AclKind::Default, rule()).await;
        let made = knowing.create(d, b"j", &masked, ROOT).await.unwrap().attr;
        assert_eq!((made.mode, made.access_acl), (0o660, f.access_acl), "a stale guess is no harm");
    });
}

#[test]
fn a_rule_that_is_gone_is_told() {
    on_each_engine(async |meta| {
        let f = meta.create(Ino::ROOT, b"f", &new(FileType::File), ROOT).await.unwrap();
        let put = Mutation::PutNode(f.ino, Attr { access_acl: 77, ..f.attr });
        let commit = Commit { mutations: vec![put], ..Commit::default() };
        meta.engine().commit(commit).await.unwrap();
        assert_eq!(errno(meta.acl_rule(77).await), Errno::IO);
        let chmod = Wanted { mode: Some(0o600), ..Wanted::default() };
        meta.getattr(f.ino).await.unwrap();
        assert_eq!(errno(meta.setattr(f.ino, &chmod).await), Errno::IO);
    });
}
