//! The medium that the operating system offers: a folder of a file system.
//!
//! Owns how each thing is asked for. Writes are plain calls, which the kernel answers from its memory
//! in less time than a ring takes to hand them on; syncs go through the ring of the core, as they wait
//! for the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::FallocateFlags;
use smallvec::SmallVec;

use super::Medium;
use crate::uring;

/// A folder of a file system.
pub struct Os {
    root: PathBuf,
    file_mode: u32,
    dir_mode: u32,
}

impl Os {
    /// The folder `root`; files and directories made in it get these modes.
    pub(in super::super) fn new(root: PathBuf, file_mode: u32, dir_mode: u32) -> Self {
        Self { root, file_mode, dir_mode }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Medium for Os {
    type File = File;

    fn list(&self, dir: &str) -> io::Result<Vec<(String, bool)>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is no text is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.file_type()?.is_dir()));
            }
        }
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(self.dir_mode).create(self.path(dir))
    }

    fn create(&self, path: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(self.file_mode);
        options.open(self.path(path))
    }

    fn open(&self, path: &str) -> io::Result<File> {
        let path = self.path(path);
        match OpenOptions::new().read(true).write(true).open(&path) {
            // A disk that went read-only still gives back what is on it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            opened => opened,
        }
    }

    fn stat(&self, path: &str) -> io::Result<(u64, u64)> {
        let info = fs::metadata(self.path(path))?;
        let since = info.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((info.len(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    fn date(&self, file: &File, changed_ms: u64) -> io::Result<()> {
        file.set_modified(UNIX_EPOCH + Duration::from_millis(changed_ms))
    }

    fn allocate(&self, file: &File, len_bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len_bytes) {
            // Without that call there is no promise of room: a write may then find the disk full.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len_bytes),
            done => Ok(done?),
        }
    }

    fn write_at(&self, file: &File, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: SmallVec<[IoSlice<'_>; 8]> =
            parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // More slices than the kernel takes are handed over in several calls.
            let some = &rest[..rest.len().min(SLICES_MAX)];
            match rustix::io::pwritev(file, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match rustix::io::pread(file, &mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        match fs::hard_link(self.path(from), self.path(to)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    async fn sync_file(&self, file: &File) -> io::Result<()> {
        uring::file::fdatasync(file).await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = File::open(self.path(dir))?;
        uring::file::fsync(&dir).await
    }
}

/// What the kernel takes in one call.
const SLICES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::uring::block_on;

    fn medium() -> (tempfile::TempDir, Os) {
        let dir = tempfile::tempdir().unwrap();
        let medium = Os::new(dir.path().to_path_buf(), 0o600, 0o700);
        (dir, medium)
    }

    #[test]
    fn files_hold_what_is_written_and_have_their_mode() {
        let (dir, medium) = medium();
        medium.make_dir("a/b").unwrap();
        let file = medium.create("a/b/c").unwrap();
        assert_eq!(medium.create("a/b/c").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        medium.allocate(&file, 100).unwrap();
        let many = vec![&b"xy"[..]; SLICES_MAX + 1];
        medium.write_at(&file, 90, &many).unwrap();
        medium.write_at(&file, 1, &[b"", b"12", b"3"]).unwrap();
        let mut bytes = [9; 8];
        assert_eq!(medium.read_at(&file, 0, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes, b"\x00123\0\0\0\0");
        let end = 90 + many.len() as u64 * 2;
        assert_eq!(medium.read_at(&file, end - 3, &mut bytes).unwrap(), 3);
        assert_eq!(&bytes[..3], b"yxy");
        assert_eq!(medium.stat("a/b/c").unwrap().0, end);
        assert!(medium.stat("a/b/c").unwrap().1 > 1_600_000_000_000);
        medium.date(&file, 1_234_567_890_123).unwrap();
        assert_eq!(medium.stat("a/b/c").unwrap().1, 1_234_567_890_123);
        let mode = |path| fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
        assert_eq!((mode("a/b/c") & 0o777, mode("a/b") & 0o777), (0o600, 0o700));
        assert!(fs::metadata(dir.path().join("a/b/c")).unwrap().blocks() > 0);
    }

    #[test]
    fn names_come_move_and_go() {
        let (_dir, medium) = medium();
        assert_eq!(medium.list("none").unwrap(), []);
        medium.make_dir("d").unwrap();
        drop(medium.create("d/one").unwrap());
        medium.link("d/one", "two").unwrap();
        medium.link("d/one", "two").unwrap();
        medium.rename("d/one", "d/three").unwrap();
        let mut names = medium.list("").unwrap();
        names.sort();
        assert_eq!(names, [("d".to_owned(), true), ("two".to_owned(), false)]);
        assert_eq!(medium.list("d").unwrap(), [("three".to_owned(), false)]);
        medium.remove("two").unwrap();
        medium.remove("two").unwrap();
        assert_eq!(medium.open("two").unwrap_err().kind(), io::ErrorKind::NotFound);
        medium.open("d/three").unwrap();
    }

    #[test]
    fn syncs_go_through_the_ring() {
        let (_dir, medium) = medium();
        let file = medium.create("f").unwrap();
        medium.write_at(&file, 0, &[b"x"]).unwrap();
        block_on(async {
            medium.sync_file(&file).await.unwrap();
            medium.sync_dir("").await.unwrap();
            assert_eq!(medium.sync_dir("no").await.unwrap_err().kind(), io::ErrorKind::NotFound);
        });
    }
}
