//! The files of one cache folder: `<dir>/<UUID>/raw/<object name>` and `.lock`.
//!
//! Owns names, modes, the file format and its checks. Does not know what is cached or when room is
//! needed. Opens a file per read: a cache of a million blocks must not need a million descriptors.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::ReadWriteFlags;

use super::checksum::{self, ReadPlan};
use super::config::{CacheConfig, CacheError, Verify};
use crate::object::{BlockKey, Layout};
use crate::pages::{self, Page};
use crate::stdx::Chance;
use crate::uring;

/// Reads up to this are tried from the page cache on the core itself.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// What JuiceFS names a file while it is written.
pub(in crate::stage) const TEMPORARY_END: &str = ".tmp";

/// The file with the folder's identity.
const LOCK: &str = ".lock";

/// Why a block was not read.
#[derive(Debug)]
pub(in crate::stage) enum ReadError {
    /// There is no file.
    Missing,
    /// The file is not what was written.
    Damaged(&'static str),
    /// The disk failed.
    Failed(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            io::ErrorKind::UnexpectedEof => Self::Damaged("shorter than it was"),
            _ => Self::Failed(error),
        }
    }
}

/// Where a folder is while the mount goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Where it was.
    Here,
    /// Somebody removed it.
    Removed,
    /// Its disk is no longer mounted.
    Away,
}

/// A folder of one volume.
pub(super) struct Folder {
    root: PathBuf,
    identity: String,
    device: u64,
    layout: Layout,
    verify: Verify,
    file_mode: u32,
    folder_mode: u32,
}

impl Folder {
    /// The folder of volume `uuid` in `dir`, made if need be and proven to be writable.
    pub(super) fn open(
        dir: &Path,
        uuid: &str,
        config: &CacheConfig,
        layout: Layout,
    ) -> Result<Self, CacheError> {
        let root = dir.join(uuid);
        let unwritable =
            |reason| CacheError::Unwritable { folder: root.display().to_string(), reason };
        let mut folder = Self {
            root: root.clone(),
            identity: String::new(),
            device: 0,
            layout,
            verify: config.verify,
            file_mode: config.file_mode,
            folder_mode: config.folder_mode(),
        };
        folder.make(&root.join("raw")).map_err(unwritable)?;
        folder.prove_writable().map_err(unwritable)?;
        folder.identity = folder.read_identity().map_err(unwritable)?;
        folder.device = fs::metadata(&root).map_err(unwritable)?.dev();
        Ok(folder)
    }

    /// The folder of the volume.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where blocks lie.
    pub(super) fn raw(&self) -> PathBuf {
        self.root.join("raw")
    }

    /// What `.lock` holds: the folder's place on the ring, wherever it is mounted.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Look whether the folder is still there.
    pub(super) fn presence(&self) -> io::Result<Presence> {
        let identity = match fs::read_to_string(self.root.join(LOCK)) {
            Ok(identity) if identity == self.identity => return Ok(Presence::Here),
            Ok(_) => Presence::Here,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Presence::Removed,
            Err(error) => return Err(error),
        };
        // Not ours: on our disk somebody tidied up, on another one we look below our mount point.
        let nearest = self.root.ancestors().find_map(|path| fs::metadata(path).ok());
        let same = nearest.is_some_and(|info| info.dev() == self.device);
        Ok(if same { identity } else { Presence::Away })
    }

    /// Make a folder again that was removed.
    pub(super) fn restore(&self) -> io::Result<()> {
        self.make(&self.raw())?;
        fs::write(self.root.join(LOCK), &self.identity)
    }

    /// The block a path below `raw` belongs to.
    pub(super) fn parse(&self, name: &str) -> Option<BlockKey> {
        self.layout.parse(name)
    }

    fn path(&self, key: BlockKey) -> PathBuf {
        self.root.join("raw").join(self.layout.name(key))
    }

    /// Write a block beside its place and move it there.
    pub(super) fn write(&self, key: BlockKey, block: &[u8]) -> io::Result<()> {
        assert_eq!(block.len(), key.size as usize, "a whole block");
        let path = self.path(key);
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY_END);
        let sums = match self.verify {
            Verify::None => Vec::new(),
            _ => checksum::sums(block),
        };
        let mut file = self.create(Path::new(&temporary))?;
        let written =
            write_all(&mut file, block, &sums).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // Already failing: what remains is removed by the next scan.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Remove a block; whether there was one.
    pub(super) fn remove(&self, key: BlockKey) -> io::Result<bool> {
        match fs::remove_file(self.path(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The part `wanted` of a block, checked as the volume's cache is set to.
    pub(super) async fn read(
        &self,
        key: BlockKey,
        wanted: Range<usize>,
    ) -> Result<Page, ReadError> {
        let block_bytes = key.size as usize;
        let file = File::open(self.path(key))?;
        let level = match has_sums(file.metadata()?.len(), block_bytes)? {
            true => self.verify,
            false => Verify::None,
        };
        let plan = checksum::plan(level, block_bytes, wanted.clone());
        let (bytes, sums) = read_planned(&file, &plan, block_bytes).await?;
        if !checksum::matches(&plan, &bytes[..plan.bytes.len()], &sums) {
            return Err(ReadError::Damaged("the checksum is wrong"));
        }
        Ok(Page::from_vec(bytes).piece(wanted.start - plan.bytes.start, wanted.len()))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(self.file_mode);
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make(path.parent().expect("a block lies in a folder"))?;
                options.open(path)
            }
            result => result,
        }
    }

    fn make(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(self.folder_mode).create(folder)
    }

    fn prove_writable(&self) -> io::Result<()> {
        let probe = self.root.join(format!(".probe.{:x}", Chance::from_system().next_u64()));
        self.create(&probe)?;
        fs::remove_file(probe)
    }

    fn read_identity(&self) -> io::Result<String> {
        let path = self.root.join(LOCK);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o644).open(&path) {
            Ok(mut file) => {
                let identity = new_uuid();
                file.write_all(identity.as_bytes())?;
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(path),
            Err(error) => Err(error),
        }
    }
}

/// Whether sums follow the block, by the length of the file: JuiceFS's staging may add a footer.
fn has_sums(file_bytes: u64, block_bytes: usize) -> Result<bool, ReadError> {
    let Some(extra) = file_bytes.checked_sub(block_bytes as u64) else {
        return Err(ReadError::Damaged("shorter than its name says"));
    };
    if extra == 0 || extra % 4 != 0 {
        return Ok(false);
    }
    match extra >= checksum::sums_len(block_bytes) as u64 {
        true => Ok(true),
        false => Err(ReadError::Damaged("checksums are missing")),
    }
}

/// The planned bytes, maybe with something behind them, and the sums of the planned pieces.
async fn read_planned(
    file: &File,
    plan: &ReadPlan,
    block_bytes: usize,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let start = plan.bytes.start;
    if plan.pieces.is_empty() {
        return Ok((read_exact(file, start, plan.bytes.len()).await?, Vec::new()));
    }
    let sums_at = |piece: usize| block_bytes + piece * 4;
    // The last bytes of a block and all sums lie side by side: one read for both.
    if plan.bytes.end == block_bytes {
        let end = sums_at(plan.pieces.end);
        let bytes = read_exact(file, start, end - start).await?;
        let sums = bytes[sums_at(plan.pieces.start) - start..].to_vec();
        return Ok((bytes, sums));
    }
    let bytes = read_exact(file, start, plan.bytes.len()).await?;
    let sums = read_exact(file, sums_at(plan.pieces.start), plan.pieces.len() * 4).await?;
    Ok((bytes, sums))
}

/// Exactly `len` bytes: without waiting if the page cache has them, else through the ring.
async fn read_exact(file: &File, offset: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = pages::buffer(len);
    if len <= INLINE_BYTES_MAX {
        let mut target = [IoSliceMut::new(&mut buffer)];
        let flags = ReadWriteFlags::NOWAIT;
        // Any error here only means: ask again in the way that may wait.
        if rustix::io::preadv2(file, &mut target, offset as u64, flags) == Ok(len) {
            return Ok(buffer);
        }
    }
    let (result, mut buffer) = uring::file::read_at(file.as_fd(), buffer, offset as u64).await;
    let mut done = result?;
    while done < len {
        let rest = vec![0; len - done];
        let at = (offset + done) as u64;
        let (result, rest) = uring::file::read_at(file.as_fd(), rest, at).await;
        let count = result?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer[done..done + count].copy_from_slice(&rest[..count]);
        done += count;
    }
    Ok(buffer)
}

fn write_all(file: &mut File, block: &[u8], sums: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(block), IoSlice::new(sums)];
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A random UUID, version 4, as text.
fn new_uuid() -> String {
    let mut chance = Chance::from_system();
    let (high, low) = (chance.next_u64(), Chance::from_system().next_u64());
    let (version, variant) = (high & !0xF000 | 0x4000, low & !(3 << 62) | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        version >> 32,
        version >> 16 & 0xFFFF,
        version & 0xFFFF,
        variant >> 48,
        variant & 0xFFFF_FFFF_FFFF,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_folder_is_told_from_a_lost_disk() {
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig::default();
        let open = || Folder::open(dir.path(), "uuid", &config, Layout::new(4096, false)).unwrap();
        let mut folder = open();
        assert_eq!(folder.presence().unwrap(), Presence::Here);
        fs::write(folder.root().join(LOCK), "another").unwrap();
        assert_eq!(folder.presence().unwrap(), Presence::Here, "made anew by somebody else");
        fs::remove_dir_all(folder.root()).unwrap();
        assert_eq!(folder.presence().unwrap(), Presence::Removed);
        folder.restore().unwrap();
        assert_eq!(folder.presence().unwrap(), Presence::Here);
        assert_eq!(open().identity(), folder.identity());

        folder.device += 1;
        assert_eq!(folder.presence().unwrap(), Presence::Here, "its lock is proof enough");
        fs::write(folder.root().join(LOCK), "below the mount point").unwrap();
        assert_eq!(folder.presence().unwrap(), Presence::Away);
        fs::remove_dir_all(folder.root()).unwrap();
        assert_eq!(folder.presence().unwrap(), Presence::Away);
    }
}
