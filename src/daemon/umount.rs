//! The end of a mount from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::failure::Failure;
use super::leftovers::Leftovers;
use super::point::{Serving, absolute, mounted};
use crate::fuse;

/// How long the serving process may take to store what is dirty and end.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// How long the mount may take to tell where its cache is; one that is stuck is unmounted all the same.
const CONFIG_PATIENCE: Duration = Duration::from_secs(2);

/// Unmount `point` and wait until the process that served it has ended; `lazy` also when somebody
/// is inside. With `--writeback`: which blocks wait on this machine for their upload.
///
/// # Errors
/// When it is no mount of a volume, or in use.
pub fn umount(point: &Path, lazy: bool) -> Result<Leftovers, Failure> {
    let point = absolute(point)?;
    let shown = point.display();
    let mount = match mounted(&point) {
        Some(mount) if mount.kind == "fuse.juicefs" => mount,
        Some(other) => {
            return Err(Failure::failed(format!(
                "{shown} is a mount of {}, not of a volume; end it with `umount {shown}`",
                other.kind
            )));
        }
        None => return Err(Failure::failed(format!("{shown} is not mounted"))),
    };
    let serving = Serving::of(&point, &mount);
    let folders = if lazy { Vec::new() } else { staging_folders(&point) };
    fuse::unmount(&point, lazy).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::failed(format!(
            "{shown} is in use; see by whom with `fuser -vm {shown}`, \
             or hide it now and end it later with --force"
        )),
        Some(libc::EPERM | libc::EACCES) => {
            Failure::failed(format!("{shown} was mounted by another user; ask root"))
        }
        _ => Failure::failed(format!("cannot unmount {shown}: {error}")),
    })?;
    // A lazy unmount ends with its last user.
    if lazy || serving.wait_for_end(END_PATIENCE) {
        return Ok(Leftovers::of(&folders));
    }
    Err(Failure::failed(format!(
        "{shown} is unmounted, but its process still stores data after {} s; its log tells why",
        END_PATIENCE.as_secs()
    )))
}

/// Where a mount with `--writeback` keeps blocks; none where that is not known in time.
fn staging_folders(point: &Path) -> Vec<PathBuf> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = point.join(".config");
    thread::spawn(move || {
        // Whoever asked may have stopped waiting.
        let _ = sender.send(fs::read(path).unwrap_or_default());
    });
    let text = receiver.recv_timeout(CONFIG_PATIENCE).unwrap_or_default();
    folders_in(&serde_json::from_slice(&text).unwrap_or_default())
}

fn folders_in(config: &Value) -> Vec<PathBuf> {
    let chunk = &config["Chunk"];
    match (&chunk["Writeback"], &chunk["CacheDir"]) {
        (Value::Bool(true), Value::String(folders)) => {
            folders.split(':').map(PathBuf::from).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn folders_are_those_of_a_mount_that_keeps_blocks() {
        let config = |on: bool| json!({"Chunk": {"Writeback": on, "CacheDir": "/a/u:/b/u"}});
        assert_eq!(folders_in(&config(true)), [Path::new("/a/u"), Path::new("/b/u")]);
        assert!(folders_in(&config(false)).is_empty() && folders_in(&Value::Null).is_empty());
    }
}
