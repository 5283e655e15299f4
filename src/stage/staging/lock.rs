//! One process per cache folder: `staging.lock`, locked as long as the process lives, with its number in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::stdx::monotonic_ns;

const NAME: &str = "staging.lock";
/// How long somebody who ends is waited for. A child of its process holds the lock, too, from its fork to
/// the start of its program.
const ENDING: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why the folder cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// This process has it, 0 if not known.
    By(u32),
    /// The system said no.
    Failed(io::Error),
}

/// The lock of a folder; it is free again when the file is closed.
pub(super) fn take(root: &Path, mode: u32) -> Result<File, Refused> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(mode);
    let mut file = options.open(root.join(NAME)).map_err(Refused::Failed)?;
    let until_ns = monotonic_ns() + ENDING.as_nanos() as u64;
    while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if errno != rustix::io::Errno::WOULDBLOCK {
            return Err(Refused::Failed(errno.into()));
        }
        if monotonic_ns() >= until_ns {
            return Err(Refused::By(owner(&mut file)));
        }
        thread::sleep(LOOK_AGAIN);
    }
    let pid = std::process::id().to_string();
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    written.map_err(Refused::Failed)?;
    Ok(file)
}

/// Who wrote its number there; it is only a help.
fn owner(file: &mut File) -> u32 {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), 0o600).unwrap();
        let refused = take(dir.path(), 0o600);
        assert!(matches!(refused, Err(Refused::By(pid)) if pid == std::process::id()));
        let ends = thread::spawn(move || {
            thread::sleep(ENDING / 5);
            drop(first);
        });
        assert!(take(dir.path(), 0o600).is_ok(), "who ends is waited for");
        ends.join().unwrap();
        assert!(matches!(take(&dir.path().join("away"), 0o600), Err(Refused::Failed(_))));
    }
}
