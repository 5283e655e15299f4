//! Folders where volumes are mounted: which ones may be, which ones are, and who serves them.
//!
//! Owns the checks before a mount and the lock by which `umount` waits for the serving process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::failure::Failure;

const LOCK_PACE: Duration = Duration::from_millis(10);

/// The absolute form of a mount point, links followed: the name that the kernel's table has. What
/// cannot be followed, such as a dead mount, keeps its name.
///
/// # Errors
/// When the current folder is not known, or the path is empty.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let wrong = |error| Failure::usage(format!("mount point {}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(wrong)?;
    if let Ok(whole) = absolute.canonicalize() {
        return Ok(whole);
    }
    let parts = absolute.components();
    let parent = parts.as_path().parent().and_then(|parent| parent.canonicalize().ok());
    Ok(match (parent, absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => folded(&absolute),
    })
}

/// The path with `..` taken by its letters.
fn folded(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// A mount in the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The kind of file system.
    pub kind: String,
    /// Its device number, which no other living mount has: it tells mounts of one place apart.
    pub device: String,
}

/// What is mounted at exactly this path, if anything: of several the topmost, which is seen.
pub fn mounted(point: &Path) -> Option<Mounted> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounted_in(&table, point)
}

fn mounted_in(table: &str, point: &Path) -> Option<Mounted> {
    table.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (device, at) = (left.next()?, unescaped(left.nth(1)?));
        let kind = right.split(' ').next().unwrap_or("");
        let found = Mounted { kind: kind.to_owned(), device: device.to_owned() };
        (Path::new(&at) == point).then_some(found)
    })
}

/// A path as the kernel writes it in its tables, with `\040` for a space.
fn unescaped(text: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(out)
}

/// Whether a volume may be mounted at `point`.
///
/// # Errors
/// When it is missing, no folder, dead, in use or not empty; each with its cure.
pub fn check_free(point: &Path, over_content: bool) -> Result<(), Failure> {
    let shown = point.display();
    let no = |text: String| Err(Failure::failed(text));
    match fs::metadata(point) {
        Ok(meta) if !meta.is_dir() => {
            return no(format!("{shown} is not a folder; a mount point must be one"));
        }
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return no(format!(
                "{shown} is a stale mount whose process is gone (not connected); \
                 end it with `jfs-uring umount {shown}`"
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return no(format!("{shown} does not exist; make it with `mkdir -p {shown}`"));
        }
        Err(error) => return no(format!("{shown} cannot be entered: {error}")),
    }
    if over_content {
        return Ok(());
    }
    if let Some(Mounted { kind, .. }) = mounted(point) {
        return no(format!(
            "{shown} is already mounted ({kind}); end that with `jfs-uring umount {shown}`, \
             or mount over it with --force"
        ));
    }
    match fs::read_dir(point).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => no(format!(
            "{shown} is not empty; choose an empty folder, or hide what is in it with -o nonempty"
        )),
        Err(error) => no(format!("{shown} cannot be listed: {error}")),
    }
}

/// Held by the process that serves a mount for as long as it lives.
pub struct ServingLock {
    file: File,
    path: PathBuf,
}

impl ServingLock {
    /// Take the lock of what is mounted at `point` now; without a place for it the mount works,
    /// only `umount` cannot wait.
    pub fn take(point: &Path) -> Option<Self> {
        Self::take_for(point, &mounted(point)?.device)
    }

    fn take_for(point: &Path, device: &str) -> Option<Self> {
        let path = lock_path(point, device);
        fs::create_dir_all(path.parent()?).ok()?;
        // The number of a mount that ended is used again, perhaps while its process still stores:
        // who waits for that one has its file open.
        let _ = fs::remove_file(&path);
        let file = File::create_new(&path).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self { file, path })
    }
}

impl Drop for ServingLock {
    fn drop(&mut self) {
        remove_if_same(&self.path, &self.file);
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Remove a lock's file, unless another lock has its path by now.
fn remove_if_same(path: &Path, file: &File) {
    let inode = |found: io::Result<fs::Metadata>| found.map(|found| found.ino()).ok();
    if inode(fs::metadata(path)) == inode(file.metadata()) {
        let _ = fs::remove_file(path);
    }
}

/// The serving process of a mount point, as seen by another process.
pub struct Serving(Option<(File, PathBuf)>);

impl Serving {
    /// Who serves `mount`, at `point`.
    pub fn of(point: &Path, mount: &Mounted) -> Self {
        let path = lock_path(point, &mount.device);
        Self(File::open(&path).ok().map(|file| (file, path)))
    }

    /// Wait until it has ended; false when it takes longer than `patience`.
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        let Some((file, path)) = &self.0 else { return true };
        let began = Instant::now();
        loop {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {
                    // A process that was killed left it.
                    remove_if_same(path, file);
                    return true;
                }
                Err(_) if began.elapsed() >= patience => return false,
                Err(_) => std::thread::sleep(LOCK_PACE),
            }
        }
    }
}

fn lock_path(point: &Path, device: &str) -> PathBuf {
    let folder = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run/jfs-uring")
    } else {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let own = format!("/tmp/jfs-uring-{}", rustix::process::geteuid().as_raw());
        runtime.map_or_else(|| PathBuf::from(own), |runtime| runtime.join("jfs-uring"))
    };
    let whole = [point.as_os_str().as_encoded_bytes(), b"-", device.as_bytes()].concat();
    let name: String = whole
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(*byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    // A longer path than a name may be has its end kept: that is where paths differ.
    folder.join(&name[name.len().saturating_sub(240)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_a_place_counts() {
        let table = "22 1 0:5 / / rw - ext4 /dev/a rw\n\
            40 22 0:50 / /mnt/a\\040b rw,nosuid shared:1 - fuse.juicefs JuiceFS:x rw\n\
            41 22 0:51 / /mnt/c rw - tmpfs t rw\n42 22 0:52 / /mnt/c rw - fuse.juicefs y rw\n";
        let found = |path: &str| {
            let found = mounted_in(table, Path::new(path))?;
            Some(format!("{} {}", found.kind, found.device))
        };
        assert_eq!(found("/mnt/a b").as_deref(), Some("fuse.juicefs 0:50"));
        assert_eq!(found("/mnt/c").as_deref(), Some("fuse.juicefs 0:52"));
        assert_eq!(found("/").as_deref(), Some("ext4 0:5"));
        assert_eq!(found("/mnt"), None);
    }

    #[test]
    fn unfit_folders_are_told_with_their_cure() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| check_free(path, false).unwrap_err().text;
        assert!(check_free(folder.path(), false).is_ok());
        assert!(told(&folder.path().join("none")).contains("mkdir"));
        fs::write(folder.path().join("file"), "x").unwrap();
        assert!(told(&folder.path().join("file")).contains("not a folder"));
        assert!(told(folder.path()).contains("not empty"));
        assert!(check_free(folder.path(), true).is_ok());
        assert!(told(Path::new("/proc")).contains("already mounted"));
    }

    #[test]
    fn links_and_parents_are_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("real/inner")).unwrap();
        std::os::unix::fs::symlink(base.join("real/inner"), base.join("link")).unwrap();
        let at = |path: &str| absolute(&base.join(path)).unwrap();
        assert_eq!(at("link"), base.join("real/inner"));
        assert_eq!(at("link/"), base.join("real/inner"));
        assert_eq!(at("link/.."), base.join("real"));
        assert_eq!(at("link/../none"), base.join("real/none"));
        assert_eq!(at("none/x/../y"), base.join("none/y"));
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn the_end_of_a_serving_process_is_seen() {
        let point = Path::new("/nowhere/of a/test");
        let lock = ServingLock::take_for(point, "0:50").expect("a place for locks");
        let seen = serving(point, "0:50");
        assert!(!seen.wait_for_end(Duration::from_millis(30)));
        drop(lock);
        assert!(seen.wait_for_end(Duration::from_millis(30)));
        assert!(serving(point, "0:50").wait_for_end(Duration::ZERO));
    }

    fn serving(point: &Path, device: &str) -> Serving {
        Serving::of(point, &Mounted { kind: String::new(), device: device.to_owned() })
    }

    #[test]
    fn mounts_of_one_place_are_told_apart() {
        let point = Path::new("/nowhere/stacked");
        let below = ServingLock::take_for(point, "0:50").expect("a place for locks");
        let above = ServingLock::take_for(point, "0:51").expect("another");
        let ended = |serving: &Serving| serving.wait_for_end(Duration::ZERO);
        let both = [serving(point, "0:50"), serving(point, "0:51")];
        assert!(!ended(&both[0]) && !ended(&both[1]));
        drop(above);
        assert!(!ended(&both[0]) && ended(&both[1]));
        // The number is used again while the process of its first mount still stores.
        let again = ServingLock::take_for(point, "0:50").expect("its place is free");
        drop(below);
        assert!(ended(&both[0]));
        let new = serving(point, "0:50");
        assert!(!ended(&new), "the lock of the new one went with the old one");
        drop(again);
        assert!(ended(&new));
    }
}
