//! The system calls of one blob: write beside and rename, read a range, remove.
//!
//! Owns temporary names and the sorting of errno. Does not decide on which thread it runs. As
//! JuiceFS does, it syncs nothing: a folder that must survive power loss is the folder's business.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::StoreError;
use crate::pages::Page;
use crate::stdx::Chance;

/// Most pieces one `writev` takes (IOV_MAX).
const PIECES_MAX: usize = 1024;
/// Most characters of the blob's own name that its temporary name repeats.
const BASE_CHARS_MAX: usize = 200;

/// A folder that holds blobs.
pub(super) struct Disk {
    root: PathBuf,
    next_temporary: AtomicU64,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        // Other clients write to the same folder: a random start keeps temporary names apart.
        let start = Chance::from_system().next_u64() >> 1;
        Self { root, next_temporary: AtomicU64::new(start) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn put(&self, key: &str, body: &[Page]) -> Result<(), StoreError> {
        let target = self.path(key)?;
        let temporary = self.temporary(&target);
        let done = create(&temporary).and_then(|file| {
            write_all(&file, body)?;
            drop(file);
            rustix::fs::rename(&temporary, &target)
        });
        done.map_err(|errno| {
            // A half blob must not stay; that it cannot be removed changes nothing for the caller.
            let _ = rustix::fs::unlink(&temporary);
            sorted(errno, "put", &target)
        })
    }

    pub(super) fn get(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<usize, StoreError> {
        let path = self.path(key)?;
        let missing = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::ISDIR => StoreError::Missing(key.to_owned()),
            _ => sorted(errno, "get", &path),
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = retried(|| rustix::fs::open(&path, flags, Mode::empty())).map_err(missing)?;
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            match retried(|| rustix::io::pread(&file, &mut into[done..], at)).map_err(missing)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(sorted(errno, "delete", &path)),
        }
    }

    /// Where a blob lies; a key cannot lead out of the bucket.
    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if key.split('/').any(odd) {
            return Err(StoreError::Refused(format!("{key:?} cannot name a file")));
        }
        Ok(self.root.join(key))
    }

    fn temporary(&self, target: &Path) -> PathBuf {
        let name = target.file_name().expect("a key has a last part").to_string_lossy();
        let base: String = name.chars().take(BASE_CHARS_MAX).collect();
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        target.with_file_name(format!(".jfs.{base}.tmp.{number}"))
    }
}

/// Whether a file name is one that a put leaves behind when it dies half way.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(".jfs.") && name.contains(".tmp.")
}

/// A new file; its folder is made only when it turns out to be missing.
fn create(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let open = || retried(|| rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)));
    match open() {
        Err(Errno::NOENT) => {
            let folder = path.parent().expect("a file has a folder");
            std::fs::create_dir_all(folder)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            open()
        }
        result => result,
    }
}

fn write_all(file: &OwnedFd, body: &[Page]) -> Result<(), Errno> {
    let mut slices: Vec<IoSlice<'_>> = body.iter().map(|page| IoSlice::new(page)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let now = &rest[..rest.len().min(PIECES_MAX)];
        match retried(|| rustix::io::writev(file, now))? {
            0 => return Err(Errno::IO),
            count => IoSlice::advance_slices(&mut rest, count),
        }
    }
    Ok(())
}

fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    rustix::io::retry_on_intr(&mut call)
}

/// What the caller does next, by errno.
pub(super) fn sorted(errno: Errno, what: &str, path: &Path) -> StoreError {
    let text = format!("{what} {}: {errno}", path.display());
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full(text),
        Errno::ACCESS
        | Errno::PERM
        | Errno::ROFS
        | Errno::NAMETOOLONG
        | Errno::NOTDIR
        | Errno::ISDIR
        | Errno::LOOP => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}
