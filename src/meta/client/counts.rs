//! What metadata counts: questions to the engine and commits.
//!
//! Owns what counts as one. What is answered from memory is none.

use super::Meta;
use crate::metrics::{Count, Sum, Times};

/// Of one core.
#[derive(Default)]
pub(super) struct Counts {
    pub questions: Times,
    pub commits: Times,
    /// Operations that were planned once more.
    pub restarts: Count,
}

/// What a mount asked of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaCounts {
    /// Questions answered; nanoseconds. Of these one in eight is measured.
    pub questions: Sum,
    /// Commits applied or not; nanoseconds.
    pub commits: Sum,
    /// Operations that were planned once more, because what they relied on had moved.
    pub restarts: u64,
}

impl Meta {
    /// What all cores of the mount counted.
    pub fn counts(&self) -> MetaCounts {
        let counts = &self.shared.counts;
        MetaCounts {
            questions: counts.sum(|core| core.questions.sum()),
            commits: counts.sum(|core| core.commits.sum()),
            restarts: counts.sum(|core| core.restarts.get()),
        }
    }

    /// Wait for an answer of the engine.
    pub(super) async fn asking<T>(&self, answer: impl Future<Output = T>) -> T {
        let begun = self.counts.questions.begin_often();
        let answer = answer.await;
        self.counts.questions.end(begun);
        answer
    }

    /// Wait for a commit.
    pub(super) async fn committing<T>(&self, commit: impl Future<Output = T>) -> T {
        let begun = self.counts.commits.begin();
        let done = commit.await;
        self.counts.commits.end(begun);
        done
    }
}
