//! unlink and rmdir, and what becomes of a node that loses a name.

use rustix::io::Errno;

use super::{
    Rules, Who, count_child, owners, relied_on, removable_from, sticky, touch_dir, trash_name,
    unchangeable, uncount,
};
use crate::meta::txn::{Commit, Expect, Key, Mutation, NodeField, SetNode};
use crate::types::{Attr, FLAG_SKIP_TRASH, FileType, Ino, Time};

/// What is left of a node after one of its names went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The node.
    pub ino: Ino,
    /// Its attributes afterwards.
    pub attr: Attr,
    /// Its data is to be deleted now.
    pub delete_data: bool,
}

/// What stands under a name: type, inode, attributes.
pub(in crate::meta) type Found<'a> = (FileType, Ino, &'a Attr);

/// What else decides on a non-directory that loses a name.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::meta) struct Fate {
    /// This mount has it open.
    pub is_open: bool,
    /// What the name it would get in the trash stands for already, see [`trash_key`].
    pub in_trash: Option<(FileType, Ino)>,
}

/// The trash that keeps a node that is removed from `dir`, where one does.
fn trash_for(dir: Ino, node: &Attr, rules: &Rules) -> Option<Ino> {
    rules.trash.filter(|_| node.flags & FLAG_SKIP_TRASH == 0 && !dir.is_trash())
}

/// The name in the trash that must be known before a file with more than one link loses one: taken
/// away there, linked again and taken away once more within the hour, it finds its own name.
pub(in crate::meta) fn trash_key(
    (dir, name): (Ino, &[u8]),
    (kind, ino, node): Found<'_>,
    rules: &Rules,
) -> Option<Key> {
    let trash = trash_for(dir, node, rules)?;
    let matters = kind != FileType::Dir && node.nlink > 1;
    matters.then(|| Key::Entry(trash, trash_name(dir, ino, name)))
}

/// Take `name`, which stands for a non-directory, out of `dir`.
pub(in crate::meta) fn unlink(
    (dir, parent): (Ino, &Attr),
    name: &[u8],
    (kind, ino, node): Found<'_>,
    fate: Fate,
    who: Who,
    rules: &Rules,
    now: Time,
) -> Result<(Commit, Removed), Errno> {
    if kind == FileType::Dir {
        return Err(Errno::ISDIR);
    }
    removable_from(parent)?;
    sticky(parent, node, who)?;
    unchangeable(node)?;
    let mut commit = Commit {
        expects: vec![
            Expect::NodeFields(dir, relied_on(parent)),
            Expect::EntryIs(dir, name.into(), kind, ino),
        ],
        mutations: vec![Mutation::DelEntry(dir, name.into()), count_child(dir, node, -1)],
        returns: vec![dir],
    };
    commit.expects.extend(owners((dir, parent), (ino, node), who));
    commit.mutations.extend(touch_dir(dir, 0, rules, now));
    let removed = lose_name(&mut commit, (dir, name), (ino, node), fate, rules, now);
    Ok((commit, removed))
}

/// A non-directory has lost its name in `dir`: it stays linked, goes to the trash, stays while it
/// is open, or is gone.
pub(super) fn lose_name(
    commit: &mut Commit,
    (dir, name): (Ino, &[u8]),
    (ino, node): (Ino, &Attr),
    fate: Fate,
    rules: &Rules,
    now: Time,
) -> Removed {
    commit.expects.push(Expect::NodeFields(
        ino,
        vec![
            NodeField::Nlink(node.nlink),
            NodeField::Parent(node.parent),
            NodeField::Flags(node.flags),
            NodeField::Length(node.length),
        ],
    ));
    let linked_twice = node.parent == Ino(0);
    let mut after = Attr { ctime: now, ..node.clone() };
    let trash = trash_for(dir, node, rules).map(|trash| (trash, trash_name(dir, ino, name)));
    if let Some((trash, kept)) = trash.clone().filter(|_| node.nlink > 1) {
        commit.expects.push(match fate.in_trash {
            None => Expect::EntryAbsent(trash, kept),
            Some((kind, there)) => Expect::EntryIs(trash, kept, kind, there),
        });
    }
    if let Some((trash, kept)) = trash.filter(|_| fate.in_trash.is_none()) {
        if linked_twice {
            commit.mutations.push(Mutation::AddParent(ino, trash, 1));
        } else {
            after.parent = trash;
        }
        commit.mutations.push(Mutation::PutEntry(trash, kept, node.kind, ino));
        commit.mutations.push(count_child(trash, node, 1));
    } else {
        after.nlink = node.nlink.saturating_sub(1);
    }
    if after.nlink > 0 {
        if linked_twice {
            commit.mutations.push(Mutation::AddParent(ino, dir, -1));
        }
        let set = SetNode {
            nlink: Some(after.nlink),
            parent: Some(after.parent),
            ctime: Some(now),
            ..SetNode::default()
        };
        commit.mutations.push(Mutation::Set(ino, set));
        return Removed { ino, attr: after, delete_data: false };
    }
    let sustained = fate.is_open && rules.sid != 0;
    let delete_data = last_name(commit, (ino, node), sustained, rules, now);
    Removed { ino, attr: after, delete_data }
}

/// The last name is gone; whether the data goes too, now.
fn last_name(
    commit: &mut Commit,
    (ino, node): (Ino, &Attr),
    sustained: bool,
    rules: &Rules,
    now: Time,
) -> bool {
    commit.mutations.push(Mutation::DelXattrs(ino));
    if node.parent == Ino(0) {
        commit.mutations.push(Mutation::DelParents(ino));
    }
    if node.kind == FileType::File && sustained {
        let set = SetNode { nlink: Some(0), ctime: Some(now), ..SetNode::default() };
        commit.mutations.push(Mutation::Set(ino, set));
        commit.mutations.push(Mutation::PutSustained(rules.sid, ino));
        return false;
    }
    if node.kind == FileType::Symlink {
        commit.mutations.push(Mutation::DelSymlink(ino));
    }
    commit.mutations.push(Mutation::DelNode(ino));
    uncount(commit, node);
    if node.kind == FileType::File {
        commit.mutations.push(Mutation::QueueFile(ino, node.length, now.sec));
    }
    node.kind == FileType::File
}

/// The last handle of an unlinked file is closed.
pub(in crate::meta) fn drop_sustained(ino: Ino, node: &Attr, sid: u64, now: Time) -> Commit {
    let mut commit = Commit {
        expects: vec![Expect::NodeFields(
            ino,
            vec![NodeField::Nlink(0), NodeField::Length(node.length)],
        )],
        mutations: vec![
            Mutation::QueueFile(ino, node.length, now.sec),
            Mutation::DelNode(ino),
            Mutation::DelSustained(sid, ino),
        ],
        returns: vec![],
    };
    uncount(&mut commit, node);
    commit
}

/// A session need not keep a file: it is gone, or has a name again.
pub(in crate::meta) fn forget_sustained(ino: Ino, node: Option<&Attr>, sid: u64) -> Commit {
    let named = |node: &Attr| Expect::NodeFields(ino, vec![NodeField::Nlink(node.nlink)]);
    Commit {
        expects: node.map(named).into_iter().collect(),
        mutations: vec![Mutation::DelSustained(sid, ino)],
        returns: vec![],
    }
}

/// Take `name`, which stands for an empty directory, out of `dir`.
pub(in crate::meta) fn rmdir(
    (dir, parent): (Ino, &Attr),
    name: &[u8],
    (kind, ino, node): Found<'_>,
    who: Who,
    rules: &Rules,
    now: Time,
) -> Result<Commit, Errno> {
    if kind != FileType::Dir {
        return Err(Errno::NOTDIR);
    }
    removable_from(parent)?;
    sticky(parent, node, who)?;
    let mut commit = Commit {
        expects: vec![
            Expect::NodeFields(dir, relied_on(parent)),
            Expect::EntryIs(dir, name.into(), kind, ino),
            Expect::DirEmpty(ino),
        ],
        mutations: vec![Mutation::DelEntry(dir, name.into()), count_child(dir, node, -1)],
        returns: vec![dir],
    };
    commit.expects.extend(owners((dir, parent), (ino, node), who));
    commit.mutations.extend(touch_dir(dir, -1, rules, now));
    lose_dir(&mut commit, (dir, name), (ino, node), rules, now);
    Ok(commit)
}

/// An empty directory has lost its name: to the trash, or gone.
pub(super) fn lose_dir(
    commit: &mut Commit,
    (dir, name): (Ino, &[u8]),
    (ino, node): (Ino, &Attr),
    rules: &Rules,
    now: Time,
) {
    commit.expects.push(Expect::NodeFields(ino, vec![NodeField::Flags(node.flags)]));
    commit.mutations.push(Mutation::DelDirStats(ino));
    match trash_for(dir, node, rules) {
        Some(trash) => {
            let set = SetNode { parent: Some(trash), ctime: Some(now), ..SetNode::default() };
            commit.mutations.push(Mutation::Set(ino, set));
            commit.mutations.push(Mutation::PutEntry(
                trash,
                trash_name(dir, ino, name),
                FileType::Dir,
                ino,
            ));
            commit.mutations.push(count_child(trash, node, 1));
        }
        None => {
            commit.mutations.push(Mutation::DelNode(ino));
            commit.mutations.push(Mutation::DelXattrs(ino));
            uncount(commit, node);
        }
    }
}
