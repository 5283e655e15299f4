//! `jfs-uring umount`: the end of a mount, with a verdict on what is left.

use std::path::Path;

use serde_json::{Value, json};

use super::args::UmountArgs;
use super::levels::{left, wait};
use super::words::{amount, blocks, time_ms};
use super::{say, say_json};
use crate::daemon::{Failure, FlushPlan, Leftovers, umount};
use crate::types::Level;

pub fn run(asked: &UmountArgs) -> Result<(), Failure> {
    let point = &asked.mountpoint;
    if asked.flush {
        let plan = FlushPlan { level: Level::Committed, timeout: asked.timeout };
        let flushed = wait(point, plan)?;
        if !flushed.reached {
            if asked.json {
                say_json(&json!({"unmounted": false, "state": flushed.state}))?;
            }
            return Err(Failure::late(stays(point, &flushed.state)));
        }
    }
    let leftovers = umount(point, asked.force)?;
    match (asked.json, leftovers.blocks) {
        (true, _) => say_json(&ended(&leftovers)),
        (false, 0) => Ok(()),
        (false, _) => say(&told(point, &leftovers)),
    }
}

fn stays(point: &Path, state: &Value) -> String {
    let shown = point.display();
    format!(
        "{shown} stays mounted: {}; wait longer, or `jfs-uring umount {shown}` leaves them for the next mount",
        left(state)
    )
}

fn ended(leftovers: &Leftovers) -> Value {
    json!({
        "unmounted": true,
        "blocks_left": leftovers.blocks,
        "bytes_left": leftovers.bytes,
        "oldest_age_ms": leftovers.oldest_age_ms,
        "folders": leftovers.folders,
    })
}

fn told(point: &Path, leftovers: &Leftovers) -> String {
    let folders: Vec<_> =
        leftovers.folders.iter().map(|folder| folder.display().to_string()).collect();
    format!(
        "{} is unmounted; {} ({}, the oldest of {}) wait in {} for their upload by the next mount with this --cache-dir",
        point.display(),
        blocks(leftovers.blocks),
        amount(leftovers.bytes),
        time_ms(leftovers.oldest_age_ms),
        folders.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_with_its_place() {
        let leftovers = Leftovers {
            blocks: 2,
            bytes: 1536,
            oldest_age_ms: 90_000,
            folders: vec!["/c/u".into()],
        };
        let words = told(Path::new("/m"), &leftovers);
        assert!(
            words.contains("2 blocks (1.50 KiB, the oldest of 1m 30s) wait in /c/u"),
            "{words}"
        );
        assert_eq!(ended(&leftovers)["folders"][0], "/c/u");
        let state = json!({"blocks_left": 1, "bytes_left": 5, "oldest_age_ms": 10});
        assert!(stays(Path::new("/m"), &state).starts_with("/m stays mounted: 1 block (5 Bytes)"));
    }
}
