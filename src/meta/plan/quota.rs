//! What a commit does to the quotas of directories above what it changes.
//!
//! A quota counts what the statistics of all directories below it count together, so that every
//! plan that moves statistics moves quotas, without a word about them. Owns which changes those are
//! and what follows from them. Does not own where a directory is: whoever knows says so, and it
//! becomes a condition.

use std::collections::{BTreeMap, BTreeSet};

use crate::meta::txn::{Commit, Expect, Mutation, NodeField};
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

/// What a commit moves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::meta) struct Moves {
    pub names: Vec<Move>,
    /// Each in all directories that name it.
    pub files: Vec<(Ino, Growth)>,
    /// Their contents; that they leave one directory for another is among `names`.
    pub trees: Vec<Uprooted>,
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
                _ => {}
            }
        }
        moves
    }
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

/// Add what `moves` mean for quotas: they follow, and have room where they grow. `paths` are the
/// directories from each that is moved in up to the root, which must still be above one another.
pub(in crate::meta) fn charge(
    commit: &mut Commit,
    moves: &[Move],
    paths: &BTreeMap<Ino, Vec<Ino>>,
    has_quota: impl Fn(Ino) -> bool,
) {
    let (mut places, mut sums) = (BTreeSet::new(), BTreeMap::<Ino, (i64, i64)>::new());
    for (dir, space, inodes) in moves {
        let path = paths.get(dir).map(Vec::as_slice).unwrap_or_default();
        places.extend(path.windows(2).map(|pair| (pair[0], pair[1])));
        for above in path.iter().filter(|above| has_quota(**above)) {
            let sum = sums.entry(*above).or_default();
            *sum = (sum.0 + space, sum.1 + inodes);
        }
    }
    sums.retain(|_, sum| *sum != (0, 0));
    let placed = places
        .into_iter()
        .map(|(dir, parent)| Expect::NodeFields(dir, vec![NodeField::Parent(parent)]));
    let grown = sums.iter().filter(|(_, (space, inodes))| *space > 0 || *inodes > 0);
    let room = grown.map(|(dir, (space, inodes))| Expect::QuotaRoom(*dir, *space, *inodes));
    // In front: what a plan expects last may be one with what it does.
    commit.expects.splice(..0, placed.chain(room));
    let follow =
        sums.iter().map(|(dir, (space, inodes))| Mutation::AddQuota(*dir, *space, *inodes));
    commit.mutations.extend(follow);
}
