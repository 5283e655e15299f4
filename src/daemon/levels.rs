//! How far the data of a mount, a folder or a file has come, asked of the mount; and waiting for it.
//!
//! Owns how long is waited, and what is known in the end. What the levels are is the mount's to know.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::control::{Answer, Control};
use super::failure::Failure;
use crate::types::{Ino, Level};
use crate::vfs::Question;

/// What else may be wrong with a path that is in no mount.
const CURE: &str = "; name its mount point, or a path in it";

/// How far is waited.
#[derive(Clone, Copy, Debug)]
pub struct FlushPlan {
    /// All that was written until now comes so far.
    pub level: Level,
    /// How long at most; `None` for as long as it takes.
    pub timeout: Option<Duration>,
}

/// How waiting ended.
#[derive(Clone, Debug)]
pub struct Flushed {
    /// All has come so far.
    pub reached: bool,
    /// How long that took.
    pub waited: Duration,
    /// What is known of the path now.
    pub state: Value,
}

/// What is known of a path, and whether it is the root of a mount.
///
/// # Errors
/// When it is in no mount of this client.
pub fn state_of(path: &Path) -> Result<(Value, bool), Failure> {
    let mut control = Control::of(path, CURE)?;
    let state = state(&mut control)?;
    Ok((state, control.is_root()))
}

fn state(control: &mut Control) -> Result<Value, Failure> {
    json_answer(control, Question::State(Ino(control.ino)))
}

fn json_answer(control: &mut Control, question: Question) -> Result<Value, Failure> {
    let text = control.ask_text(&question.message())?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::failed(format!("the mount's answer is none: {error}")))
}

/// Wait until what was written to `path` has come as far as `plan` says; `progress` hears how many blocks
/// and bytes of the mount are left meanwhile.
///
/// # Errors
/// When it is in no mount of this client, or data was lost.
pub fn flush(
    path: &Path,
    plan: FlushPlan,
    progress: impl FnMut(u64, u64),
) -> Result<Flushed, Failure> {
    let began = Instant::now();
    let deadline = plan.timeout.map(|timeout| began + timeout);
    let mut control = Control::of(path, CURE)?;
    let question = Question::Reach(Ino(control.ino), plan.level);
    let reached = match control.ask(&question.message(), deadline, progress)? {
        Answer::Errno(0) | Answer::Data(_) => true,
        Answer::Errno(errno) => return Err(control.failed(errno)),
        Answer::Late => false,
    };
    let waited = began.elapsed();
    // A handle has one question in work: the one that took too long is given up with it.
    drop(control);
    let state = state(&mut Control::of(path, CURE)?)?;
    Ok(Flushed { reached, waited, state })
}

/// Have failed uploads of a mount tried again now; how many.
///
/// # Errors
/// When `path` is in no mount of this client.
pub fn retry(path: &Path) -> Result<u64, Failure> {
    let mut control = Control::of(path, CURE)?;
    let answer = json_answer(&mut control, Question::Retry)?;
    Ok(answer["retried"].as_u64().unwrap_or(0))
}
