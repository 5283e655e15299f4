//! What a commit does to quotas: of the directories above what it changes, of owners and groups.
//!
//! A directory's quota counts what the statistics of all directories below it count together, so
//! that every plan that moves statistics moves quotas, without a word about them; that of a user or
//! group counts nodes. Owns which changes those are and what follows from them. Does not own where a
//! directory is, nor whose a node was: whoever knows says so, and it becomes a condition.

use std::collections::{BTreeMap, BTreeSet};

use crate::meta::txn::{Commit, Expect, Holder, Mutation, NodeField};
use crate::types::{Attr, FileType, Ino, charged_bytes};

/// How a file's space moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) enum Growth {
    /// By so many bytes.
    By(i64),
    /// Its length becomes this at least.
    To(u64),
}

impl Growth {
    /// By how many bytes the space of a file that is like this moves.
    pub fn space(self, node: &Attr) -> i64 {
        match self {
            Self::By(space) => space,
            Self::To(length) => {
                let charged = |length| charged_bytes(node.kind, length);
                charged(length.max(node.length)) - charged(node.length)
            }
        }
    }
}

/// A directory that gets another parent, and takes along what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Uprooted {
    pub dir: Ino,
    pub from: Ino,
    pub to: Ino,
}

/// Space and inodes that come to what is in a directory.
pub(in crate::meta) type Move = (Ino, i64, i64);

/// A node that gets another owner or group, where there is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Given {
    pub ino: Ino,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// What a commit moves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::meta) struct Moves {
    pub names: Vec<Move>,
    /// Each in all directories that name it, and for its owner.
    pub files: Vec<(Ino, Growth)>,
    /// Their contents; that they leave one directory for another is among `names`.
    pub trees: Vec<Uprooted>,
    pub made: Vec<(Ino, Attr)>,
    pub gone: Vec<Ino>,
    pub given: Vec<Given>,
}

impl Moves {
    pub fn of(commit: &Commit) -> Self {
        let mut moves = Self::default();
        for mutation in &commit.mutations {
            match mutation {
                Mutation::AddDirStats(dir, _, space, inodes) => {
                    moves.names.push((*dir, *space, *inodes));
                }
                Mutation::CountGrowth(ino, _, space) => {
                    moves.files.push((*ino, Growth::By(*space)));
                }
                Mutation::Patch(ino, patch) => {
                    let longer = patch.length_at_least.map(|length| (*ino, Growth::To(length)));
                    moves.files.extend(longer);
                }
                Mutation::PutEntry(to, _, FileType::Dir, dir) => {
                    let from = parent_before(commit, *dir).filter(|from| from != to);
                    moves.trees.extend(from.map(|from| Uprooted { dir: *dir, from, to: *to }));
                }
                Mutation::PutNode(ino, attr) => moves.made.push((*ino, attr.clone())),
                Mutation::DelNode(ino) => moves.gone.push(*ino),
                Mutation::Set(ino, set) if set.uid.is_some() || set.gid.is_some() => {
                    moves.given.push(Given { ino: *ino, uid: set.uid, gid: set.gid });
                }
                _ => {}
            }
        }
        moves
    }
}

/// What a quota's count moves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Change {
    pub holder: Holder,
    pub space: i64,
    pub inodes: i64,
    /// It needs room. What is given to somebody does not: he is not asked.
    pub needs_room: bool,
}

/// What the quotas of its owner and group count for a node: space, inodes. As the official client
/// recounts them, files and directories only.
pub(in crate::meta) fn owned(node: &Attr) -> (i64, i64) {
    match node.kind {
        FileType::File | FileType::Dir => (charged_bytes(node.kind, node.length), 1),
        _ => (0, 0),
    }
}

/// So much comes to a user and a group.
pub(in crate::meta) fn owners(
    (uid, gid): (u32, u32),
    (space, inodes): (i64, i64),
    needs_room: bool,
) -> [Change; 2] {
    [Holder::User(uid), Holder::Group(gid)].map(|holder| Change {
        holder,
        space,
        inodes,
        needs_room,
    })
}

/// A node leaves its owner and group for those that it is given.
pub(in crate::meta) fn given(node: &Attr, given: Given) -> Vec<Change> {
    let (space, inodes) = owned(node);
    let pairs = [
        given.uid.map(|uid| [Holder::User(node.uid), Holder::User(uid)]),
        given.gid.map(|gid| [Holder::Group(node.gid), Holder::Group(gid)]),
    ];
    let moved = pairs.into_iter().flatten().filter(|[old, new]| old != new);
    let change = |holder, sign: i64| Change {
        holder,
        space: sign * space,
        inodes: sign * inodes,
        needs_room: false,
    };
    moved.flat_map(|[old, new]| [change(old, -1), change(new, 1)]).collect()
}

/// The parent that a commit relies on, of a directory that it gives another one. A new directory
/// has none, and one that goes to the trash is empty.
fn parent_before(commit: &Commit, dir: Ino) -> Option<Ino> {
    commit.expects.iter().find_map(|expect| match expect {
        Expect::NodeFields(ino, fields) if *ino == dir => {
            fields.iter().find_map(|field| match field {
                NodeField::Parent(parent) => Some(*parent),
                _ => None,
            })
        }
        _ => None,
    })
}

/// The quotas that names moved in directories change, with the places of those: each is still below
/// the next. `paths` are the directories from each that is moved in up to the root.
pub(in crate::meta) fn above(
    moves: &[Move],
    paths: &BTreeMap<Ino, Vec<Ino>>,
    has_quota: impl Fn(Ino) -> bool,
) -> (Vec<Expect>, Vec<Change>) {
    let (mut places, mut changes) = (BTreeSet::new(), Vec::new());
    for (dir, space, inodes) in moves {
        let path = paths.get(dir).map(Vec::as_slice).unwrap_or_default();
        places.extend(path.windows(2).map(|pair| (pair[0], pair[1])));
        let limited = path.iter().filter(|above| has_quota(**above));
        changes.extend(limited.map(|above| Change {
            holder: Holder::Dir(*above),
            space: *space,
            inodes: *inodes,
            needs_room: true,
        }));
    }
    let placed = places
        .into_iter()
        .map(|(dir, parent)| Expect::NodeFields(dir, vec![NodeField::Parent(parent)]));
    (placed.collect(), changes)
}

/// Add conditions and changes of quotas: together they must have room.
pub(in crate::meta) fn charge(commit: &mut Commit, relied: Vec<Expect>, changes: &[Change]) {
    let (mut sums, mut grown) = (BTreeMap::new(), BTreeMap::new());
    for Change { holder, space, inodes, needs_room } in changes {
        let add = |sums: &mut BTreeMap<Holder, (i64, i64)>| {
            let sum = sums.entry(*holder).or_default();
            *sum = (sum.0 + space, sum.1 + inodes);
        };
        add(&mut sums);
        if *needs_room {
            add(&mut grown);
        }
    }
    grown.retain(|_, (space, inodes)| *space > 0 || *inodes > 0);
    let room = grown.iter();
    let room = room.map(|(holder, (space, inodes))| Expect::QuotaRoom(*holder, *space, *inodes));
    // In front: what a plan expects last may be one with what it does.
    commit.expects.splice(..0, relied.into_iter().chain(room));
    // Whoever owns something is counted, if only nothing for a symlink.
    sums.retain(|holder, sum| !matches!(holder, Holder::Dir(_)) || *sum != (0, 0));
    let follow = sums.iter();
    let follow =
        follow.map(|(holder, (space, inodes))| Mutation::AddQuota(*holder, *space, *inodes));
    commit.mutations.extend(follow);
}
