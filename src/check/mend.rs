//! The commit that mends a finding about derived data.
//!
//! Each carries a condition where the language has one, and moves by the difference that was seen,
//! so that what others changed since is kept.

use super::finding::Finding;
use crate::meta::{Commit, Expect, Mutation, NodeField, SetNode};
use crate::types::{FileType, Ino};

/// What makes it right, or `None` for what no other data can tell: that is never guessed.
pub fn mend(finding: &Finding) -> Option<Commit> {
    let (expects, mutations) = match finding {
        Finding::Links { ino, kind: FileType::Dir, kept, counted } => (
            vec![Expect::NodeFields(*ino, vec![NodeField::Nlink(*kept)])],
            vec![Mutation::Set(*ino, SetNode { nlink: Some(*counted), ..SetNode::default() })],
        ),
        Finding::ParentLinks { ino, dir, kept, counted } => (
            vec![Expect::NodeFields(*ino, vec![NodeField::Parent(Ino(0))])],
            vec![Mutation::AddParent(*ino, *dir, i64::from(*counted) - kept)],
        ),
        Finding::DirStats { dir, kept, counted } => {
            let old = kept.unwrap_or_default();
            let [length, space, inodes] = std::array::from_fn(|at| counted[at] - old[at]);
            let begin = kept.is_none().then_some(Mutation::InitDirStats(*dir));
            let moved = Mutation::AddDirStats(*dir, length, space, inodes);
            (vec![Expect::Node(*dir, FileType::Dir)], begin.into_iter().chain([moved]).collect())
        }
        Finding::QuotaUsage { holder, kept, counted } => {
            let [space, inodes] = std::array::from_fn(|at| counted[at] - kept[at]);
            (vec![], vec![Mutation::AddQuota(*holder, space, inodes)])
        }
        Finding::SliceRefs { id, size, kept, counted } => {
            (vec![], vec![Mutation::AddSliceRef(*id, *size, i64::from(*counted) - kept)])
        }
        Finding::Counter { counter, kept, counted } => {
            (vec![], vec![Mutation::Add(*counter, counted - kept)])
        }
        _ => return None,
    };
    Some(Commit { expects, mutations, ..Commit::default() })
}
