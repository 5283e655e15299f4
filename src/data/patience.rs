//! How often and how long the data floor asks metadata again. Stores have a patience of their own.

use std::time::Duration;

use super::Data;
use crate::meta::{EngineError, MetaError};
use crate::uring;

/// First pause; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Data {
    /// Ask metadata again while that may help.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, MetaError>>>(
        &self,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, MetaError> {
        let mut tries = Patience::new(self.shared.config.tries);
        loop {
            match ask().await {
                Err(error) if is_passing(&error) && tries.pause().await => {}
                done => return done,
            }
        }
    }
}

/// Tries that are left.
struct Patience {
    tries: u32,
    pause: Duration,
}

impl Patience {
    /// For `tries` tries in all.
    pub fn new(tries: u32) -> Self {
        Self { tries, pause: PAUSE_FIRST }
    }

    /// Wait before the next try; false if there is none.
    pub async fn pause(&mut self) -> bool {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 {
            return false;
        }
        uring::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// Whether trying again may help.
fn is_passing(error: &MetaError) -> bool {
    matches!(error, MetaError::Engine(EngineError::Unavailable(_)))
}
