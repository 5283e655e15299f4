//! What metadata counts: questions to the engine and commits.
//!
//! Owns what counts as one. What is answered from memory is none.

use super::Meta;
use crate::metrics::Count;
use crate::metrics::spread::{METADATA, Spread, SpreadSum};

/// Of one core.
pub(super) struct Counts {
    pub questions: Spread,
    pub commits: Spread,
    /// Operations that were planned once more.
    pub restarts: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let spread = || Spread::new(&METADATA);
        Self { questions: spread(), commits: spread(), restarts: Count::default() }
    }
}

/// What a mount asked of its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaCounts {
    /// Questions answered; nanoseconds. Of these one in eight is measured.
    pub questions: SpreadSum,
    /// Commits applied or not; nanoseconds.
    pub commits: SpreadSum,
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
