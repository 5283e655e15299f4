//! Staged blocks as files, where the official client looks for them: `rawstaging/<object name>`.
//!
//! Owns names, the bytes of a file, its checks, and the second name in `raw/` by which it becomes cache
//! without a copy. Does not own when a file is on the disk, nor which files there should be.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::footer::{self, Shape};
use super::medium::Medium;
use crate::object::{BlockKey, Layout};
use crate::pages::{self, Page};
use crate::stage::cache::Verify;
use crate::stage::cache::checksum;
use crate::stage::cache::folder::{ReadError, TEMPORARY_END};

/// Where files wait for their upload.
pub(super) const STAGED: &str = "rawstaging";
/// Where the cache is.
const CACHED: &str = "raw";
/// Where files lie that are not what their names say.
pub(super) const SET_ASIDE: &str = "set-aside";

/// The files of one folder.
pub(super) struct Files<M> {
    medium: Arc<M>,
    layout: Layout,
    /// Whether checksums are written.
    sums: bool,
}

/// What a file is that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A block, with the time it was kept and its tier.
    Block { kept_ms: u64, tier: u8 },
    /// Less than a block.
    Short,
}

impl<M: Medium> Files<M> {
    pub(super) fn new(medium: Arc<M>, layout: Layout, sums: bool) -> Self {
        Self { medium, layout, sums }
    }

    /// The name of a staged block's file.
    pub(super) fn staged(&self, key: BlockKey) -> String {
        format!("{STAGED}/{}", self.layout.name(key))
    }

    fn cached(&self, key: BlockKey) -> String {
        format!("{CACHED}/{}", self.layout.name(key))
    }

    /// The directory of a staged block's file.
    pub(super) fn dir(&self, key: BlockKey) -> String {
        parent(&self.staged(key)).to_owned()
    }

    /// The block a path below the staged files belongs to.
    pub(super) fn parse(&self, path: &str) -> Option<BlockKey> {
        self.layout.parse(path.strip_prefix(STAGED)?.strip_prefix('/')?)
    }

    /// Write a block beside its place and move it there.
    pub(super) fn write(&self, key: BlockKey, tier: u8, pages: &[Page]) -> io::Result<()> {
        let block_bytes: usize = pages.iter().map(|page| page.len()).sum();
        assert_eq!(block_bytes, key.size as usize, "a whole block");
        let path = self.staged(key);
        let temporary = format!("{path}{TEMPORARY_END}");
        let sums = if self.sums { checksum::sums_of_pages(pages) } else { Vec::new() };
        let footer = footer::footer(tier, self.sums);
        let mut parts: Vec<&[u8]> = pages.iter().map(|page| &page[..]).collect();
        parts.extend([&sums[..], &footer[..]].into_iter().filter(|part| !part.is_empty()));
        let file = self.create(&temporary)?;
        let written = self.medium.write_at(&file, 0, &parts);
        drop(file);
        if let Err(error) = written.and_then(|()| self.medium.rename(&temporary, &path)) {
            // Already failing; the next walk removes what remains.
            let _ = self.medium.remove(&temporary);
            return Err(error);
        }
        self.share(key, &path);
        Ok(())
    }

    /// Have a file say when its block was kept.
    pub(super) fn date(&self, key: BlockKey, kept_ms: u64) -> io::Result<()> {
        self.medium.date(&self.medium.open(&self.staged(key))?, kept_ms)
    }

    /// Give the file its name in the cache. Without it the block is read from here all the same.
    fn share(&self, key: BlockKey, path: &str) {
        let cached = self.cached(key);
        let linked = match self.medium.link(path, &cached) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.medium.make_dir(parent(&cached)).and_then(|()| self.medium.link(path, &cached))
            }
            linked => linked,
        };
        if let Err(error) = linked {
            tracing::debug!("staged block {path} has no name in the cache: {error}");
        }
    }

    /// The part `wanted` of a block, checked as far as there are checksums.
    pub(super) fn read(&self, key: BlockKey, wanted: Range<usize>) -> Result<Page, ReadError> {
        let path = self.staged(key);
        let block_bytes = key.size as usize;
        let level = match footer::shape(self.medium.stat(&path)?.0, key.size) {
            Shape::Short => return Err(ReadError::Damaged("shorter than its name says")),
            Shape::Whole { sums: true, .. } => Verify::Extend,
            Shape::Whole { sums: false, .. } => Verify::None,
        };
        let plan = checksum::plan(level, block_bytes, wanted.clone());
        let file = self.medium.open(&path)?;
        let mut bytes = pages::buffer(plan.bytes.len());
        self.fill(&file, plan.bytes.start, &mut bytes)?;
        let mut sums = vec![0; plan.pieces.len() * 4];
        self.fill(&file, block_bytes + plan.pieces.start * 4, &mut sums)?;
        if !checksum::matches(&plan, &bytes, &sums) {
            return Err(ReadError::Damaged("the checksum is wrong"));
        }
        Ok(Page::from_vec(bytes).piece(wanted.start - plan.bytes.start, wanted.len()))
    }

    /// What the file of a block is.
    pub(super) fn sort(&self, key: BlockKey) -> io::Result<Sort> {
        let path = self.staged(key);
        let (file_bytes, kept_ms) = self.medium.stat(&path)?;
        let tier = match footer::shape(file_bytes, key.size) {
            Shape::Short => return Ok(Sort::Short),
            Shape::Whole { footer_bytes: 0, .. } => 0,
            Shape::Whole { footer_bytes, .. } => {
                let mut footer = vec![0; footer_bytes.min(footer::FOOTER_BYTES_MAX)];
                let file = self.medium.open(&path)?;
                let at = file_bytes - footer_bytes as u64;
                let count = self.medium.read_at(&file, at, &mut footer)?;
                footer::tier(&footer[..count])
            }
        };
        Ok(Sort::Block { kept_ms, tier })
    }

    /// A file becomes cache alone.
    pub(super) fn uploaded(&self, key: BlockKey) -> io::Result<()> {
        self.medium.remove(&self.staged(key))
    }

    /// A file goes, with its name in the cache.
    pub(super) fn remove(&self, key: BlockKey) -> io::Result<()> {
        self.medium.remove(&self.cached(key))?;
        self.medium.remove(&self.staged(key))
    }

    /// A file that is not what its name says is kept where nobody uploads it; its path then.
    pub(super) fn set_aside(&self, key: BlockKey) -> io::Result<String> {
        self.medium.make_dir(SET_ASIDE)?;
        let BlockKey { id, index, size } = key;
        let kept = format!("{SET_ASIDE}/{id}_{index}_{size}");
        self.medium.remove(&self.cached(key))?;
        self.medium.rename(&self.staged(key), &kept)?;
        Ok(kept)
    }

    fn fill(&self, file: &M::File, offset: usize, into: &mut [u8]) -> Result<(), ReadError> {
        match self.medium.read_at(file, offset as u64, into)? == into.len() {
            true => Ok(()),
            false => Err(ReadError::Damaged("shorter than it was")),
        }
    }

    fn create(&self, path: &str) -> io::Result<M::File> {
        match self.medium.create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.medium.make_dir(parent(path))?;
                self.medium.create(path)
            }
            // What a crash left half-written.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.medium.remove(path)?;
                self.medium.create(path)
            }
            created => created,
        }
    }
}

/// The directory a path is in; empty for that of the volume.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
