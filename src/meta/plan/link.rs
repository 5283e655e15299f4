//! link: one more name for a node.

use rustix::io::Errno;

use super::{Rules, accepts_names, count_child, relied_on, touch_dir, unchangeable};
use crate::meta::txn::{Commit, Expect, Mutation, NodeField, SetNode};
use crate::types::{Attr, FileType, Ino, Time};

/// Name `ino` also `name` in `dir`.
pub(in crate::meta) fn link(
    (ino, node): (Ino, &Attr),
    (dir, parent): (Ino, &Attr),
    name: &[u8],
    rules: &Rules,
    now: Time,
) -> Result<Commit, Errno> {
    if node.kind == FileType::Dir {
        return Err(Errno::PERM);
    }
    accepts_names(parent)?;
    unchangeable(node)?;
    if node.nlink == 0 && rules.sid == 0 {
        return Err(Errno::NOENT);
    }
    let relied = vec![
        NodeField::Nlink(node.nlink),
        NodeField::Parent(node.parent),
        NodeField::Flags(node.flags),
        // Statistics of the directory move by it.
        NodeField::Length(node.length),
    ];
    let mut commit = Commit {
        expects: vec![
            Expect::NodeFields(dir, relied_on(parent)),
            Expect::NodeFields(ino, relied),
            Expect::EntryAbsent(dir, name.into()),
        ],
        mutations: vec![
            Mutation::PutEntry(dir, name.into(), node.kind, ino),
            count_child(dir, node, 1),
        ],
        returns: vec![ino],
    };
    if node.nlink == 0 {
        give_name(&mut commit, (ino, dir), rules, now);
        return Ok(commit);
    }
    if node.parent != Ino(0) {
        commit.mutations.push(Mutation::AddParent(ino, node.parent, 1));
    }
    commit.mutations.push(Mutation::AddParent(ino, dir, 1));
    let set = SetNode {
        nlink: Some(node.nlink + 1),
        parent: Some(Ino(0)),
        ctime: Some(now),
        ..SetNode::default()
    };
    commit.mutations.push(Mutation::Set(ino, set));
    commit.mutations.extend(touch_dir(dir, 0, rules, now));
    Ok(commit)
}

/// The first name of a file that was made without one.
fn give_name(commit: &mut Commit, (ino, dir): (Ino, Ino), rules: &Rules, now: Time) {
    let set = SetNode { nlink: Some(1), parent: Some(dir), ctime: Some(now), ..SetNode::default() };
    commit.mutations.push(Mutation::Set(ino, set));
    commit.mutations.push(Mutation::DelSustained(rules.sid, ino));
    commit.mutations.extend(touch_dir(dir, 0, rules, now));
}
