//! Why a command ends without having done its work: one line for a person, and the exit code.

use std::fmt;

use crate::config::{Refusal, UrlError};
use crate::meta::{EngineError, MetaError};
use crate::object::StoreError;

/// The end of a command.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong and what cures it, on one line.
    pub text: String,
    /// 1: it failed; 2: it was asked wrongly; 3: the volume is refused; 5: it was not done in time.
    pub code: u8,
}

impl Failure {
    /// It was tried and did not work.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    /// The request itself is wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }

    /// It was not done in time.
    pub fn late(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 5 }
    }

    /// The volume is not for this client.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 3 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<UrlError> for Failure {
    fn from(error: UrlError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(error.to_string())
    }
}
