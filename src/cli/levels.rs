//! `jfs-uring flush`, `retry`, and `status` of a path: how far written data has come, for people and for
//! programs.
//!
//! Owns the words, and the bar while somebody waits.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{FlushArgs, LevelArg, RetryArgs};
use super::words::{amount, blocks, time_ms};
use super::{say, say_json};
use crate::daemon::{self, Failure, FlushPlan, Flushed};
use crate::types::Level;

/// Cells of the bar.
const BAR: u64 = 30;

fn level(asked: LevelArg) -> Level {
    match asked {
        LevelArg::Local => Level::Local,
        LevelArg::Uploaded => Level::Uploaded,
        LevelArg::Committed => Level::Committed,
    }
}

pub fn flush(asked: &FlushArgs) -> Result<(), Failure> {
    let plan = FlushPlan { level: level(asked.level), timeout: asked.timeout };
    let flushed = wait(&asked.path, plan)?;
    if asked.json {
        say_json(&verdict_json(&flushed, plan.level))?;
    }
    let verdict = verdict(&asked.path, &flushed, plan.level);
    match flushed.reached {
        true if asked.json => Ok(()),
        true => say(&verdict),
        false => Err(Failure::late(verdict)),
    }
}

/// Wait, with a bar where somebody looks.
pub fn wait(path: &Path, plan: FlushPlan) -> Result<Flushed, Failure> {
    let shown = std::io::stderr().is_terminal();
    let mut most = 0;
    let flushed = daemon::flush(path, plan, |blocks_left, bytes_left| {
        most = bytes_left.max(most);
        if shown {
            // Nobody misses a bar that cannot be shown.
            let _ = write!(std::io::stderr(), "\r{}", bar(most, blocks_left, bytes_left));
        }
    });
    if shown && most > 0 {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    flushed
}

/// How much of what was left at most is gone.
fn bar(most_bytes: u64, blocks_left: u64, bytes_left: u64) -> String {
    let share = (most_bytes - bytes_left).saturating_mul(BAR) / most_bytes.max(1);
    let (full, empty) = ("#".repeat(share as usize), ".".repeat((BAR - share) as usize));
    format!("[{full}{empty}] {} left, {}\x1b[K", blocks(blocks_left), amount(bytes_left))
}

fn number(state: &Value, name: &str) -> u64 {
    state[name].as_u64().unwrap_or(0)
}

/// What is left of a path, and why: `3 blocks (12.00 MiB) left, the oldest for 40.0 s; last error: no bucket`.
pub fn left(state: &Value) -> String {
    let mut text = format!(
        "{} ({}) left, the oldest for {}",
        blocks(number(state, "blocks_left")),
        amount(number(state, "bytes_left")),
        time_ms(number(state, "oldest_age_ms")),
    );
    if let Some(error) = state["last_error"].as_str() {
        text.push_str(&format!("; last error: {error}"));
    }
    text
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn verdict(path: &Path, flushed: &Flushed, level: Level) -> String {
    let (shown, level) = (path.display(), level.name());
    let waited = time_ms(milliseconds(flushed.waited));
    match flushed.reached {
        true => format!("{shown} is {level}, after {waited}"),
        false => format!(
            "{shown} is not {level} after {waited}: {}; `jfs-uring status` tells more",
            left(&flushed.state)
        ),
    }
}

fn verdict_json(flushed: &Flushed, level: Level) -> Value {
    json!({
        "reached": flushed.reached,
        "level": level.name(),
        "waited_ms": milliseconds(flushed.waited),
        "state": flushed.state,
    })
}

pub fn retry(asked: &RetryArgs) -> Result<(), Failure> {
    let count = daemon::retry(&asked.mountpoint)?;
    match asked.json {
        true => say_json(&json!({"retried": count})),
        false => say(&format!("{} tried again now", blocks(count))),
    }
}

/// `status` of a path.
pub fn status(path: &Path, as_json: bool) -> Result<(), Failure> {
    let (state, is_root) = daemon::state_of(path)?;
    match (as_json, is_root) {
        (true, _) => say_json(&state),
        (false, true) => say(&mount_words(path, &state)),
        (false, false) => say(&file_words(&state)),
    }
}

fn line(what: &str, told: impl std::fmt::Display) -> String {
    format!("{what:>12}: {told}")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn file_words(state: &Value) -> String {
    let mut lines = vec![line("level", word(&state["level"]))];
    if state["files"].is_u64() {
        lines.push(line("files", number(state, "files")));
    }
    if number(state, "bytes_left") > 0 || number(state, "blocks_left") > 0 {
        lines.push(line("waits", left(state)));
    }
    lines.join("\n")
}

fn mount_words(path: &Path, state: &Value) -> String {
    let of = |level: &str| {
        let level = &state["levels"][level];
        format!("{}, {}", blocks(number(level, "blocks")), amount(number(level, "bytes")))
    };
    let published = match (&state["writeback"], &state["publish"]) {
        (Value::Bool(true), publish) => format!("on, published when {}", word(publish)),
        _ => "off".to_owned(),
    };
    let dirty = amount(number(&state["levels"]["accepted"], "bytes"));
    let mut lines = vec![
        line("write-back", published),
        line("level", word(&state["level"])),
        line("accepted", format!("{dirty} in memory")),
        line("logged", format!("{}, which survive a crash of the mount", of("logged"))),
        line("local", format!("{}, which survive a loss of power", of("local"))),
    ];
    if number(state, "blocks_left") > 0 {
        lines.push(line("oldest", time_ms(number(state, "oldest_age_ms"))));
        lines.push(line("drained in", drain_words(state)));
    }
    if let Some(error) = state["last_error"].as_str() {
        let age = time_ms(number(state, "last_error_age_ms"));
        lines.push(line("last error", format!("{error} ({age} ago)")));
    }
    if number(state, "deadline_misses") > 0 {
        let late = blocks(number(state, "deadline_misses"));
        lines.push(line("late", format!("{late} past --upload-deadline")));
    }
    lines.extend(failed_lines(path, state));
    for lost in state["lost_folders"].as_array().into_iter().flatten() {
        let (folder, reason) = (word(&lost["folder"]), word(&lost["reason"]));
        let count = blocks(number(lost, "blocks"));
        lines.push(line("lost folder", format!("{folder}: {reason}; {count} on it")));
    }
    lines.join("\n")
}

fn drain_words(state: &Value) -> String {
    let rate = number(state, "upload_bytes_per_s");
    match state["drain_s"].as_u64() {
        Some(drain_s) => {
            let time = time_ms(drain_s.saturating_mul(1000));
            format!("about {time}, at {} a second", amount(rate))
        }
        None => "not known: nothing was uploaded of late".to_owned(),
    }
}

fn failed_lines(path: &Path, state: &Value) -> Vec<String> {
    let count = number(state, "failed_blocks");
    if count == 0 {
        return Vec::new();
    }
    let cure = format!("`jfs-uring retry {}` tries them now", path.display());
    let mut lines = vec![line("failed", format!("{}; {cure}", blocks(count)))];
    for upload in state["failed"].as_array().into_iter().flatten() {
        let wait = time_ms(number(upload, "retry_in_ms"));
        lines.push(format!(
            "{:>14}{}: {} (failed {} times, again in {wait})",
            "",
            word(&upload["block"]),
            word(&upload["reason"]),
            number(upload, "failures"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Value {
        json!({
            "writeback": true, "publish": "local", "level": "logged",
            "bytes_left": 12 << 20, "blocks_left": 3, "oldest_age_ms": 40_000,
            "last_error": "no bucket", "last_error_age_ms": 2_000,
            "levels": {
                "accepted": {"bytes": 0}, "logged": {"blocks": 1, "bytes": 4 << 20},
                "local": {"blocks": 2, "bytes": 8 << 20},
            },
            "upload_bytes_per_s": 1 << 20, "drain_s": 12, "deadline_misses": 1,
            "failed_blocks": 1,
            "failed": [{"block": "chunks/0/0/1_0_9", "failures": 2, "reason": "no bucket", "retry_in_ms": 900}],
            "lost_folders": [{"folder": "/a", "reason": "EIO", "blocks": 4}],
        })
    }

    #[test]
    fn a_mount_is_told_in_words() {
        let told = mount_words(Path::new("/m"), &state());
        let has = |words: &str| assert!(told.contains(words), "no {words:?} in:\n{told}");
        has("  write-back: on, published when local\n");
        has("      logged: 1 block, 4.00 MiB, which survive a crash of the mount\n");
        has("      oldest: 40.0 s\n  drained in: about 12.0 s, at 1.00 MiB a second\n");
        has("  last error: no bucket (2.0 s ago)\n");
        has("      failed: 1 block; `jfs-uring retry /m` tries them now\n");
        has("chunks/0/0/1_0_9: no bucket (failed 2 times, again in 900 ms)\n");
        has(" lost folder: /a: EIO; 4 blocks on it");
        let rest = json!({"writeback": false, "level": "committed", "levels": {}});
        let told = mount_words(Path::new("/m"), &rest);
        assert!(told.starts_with("  write-back: off\n       level: committed\n"), "{told}");
        assert!(!told.contains("oldest") && !told.contains("failed"), "{told}");
    }

    #[test]
    fn a_file_is_told_in_words() {
        let told = file_words(&state());
        assert!(told.ends_with("last error: no bucket") && told.contains("3 blocks (12.00 MiB)"));
        assert_eq!(file_words(&json!({"level": "committed"})), "       level: committed");
    }

    #[test]
    fn a_verdict_says_what_is_left() {
        let mut flushed =
            Flushed { reached: false, waited: Duration::from_secs(30), state: state() };
        let told = verdict(Path::new("/m"), &flushed, Level::Uploaded);
        assert!(
            told.starts_with("/m is not uploaded after 30.0 s: 3 blocks (12.00 MiB) left, "),
            "{told}"
        );
        assert_eq!(verdict_json(&flushed, Level::Uploaded)["reached"], false);
        flushed.reached = true;
        assert_eq!(verdict(Path::new("/m"), &flushed, Level::Local), "/m is local, after 30.0 s");
        assert_eq!(bar(100, 1, 50).matches('#').count(), 15);
        assert_eq!(bar(0, 0, 0).matches('.').count(), 30);
    }
}
