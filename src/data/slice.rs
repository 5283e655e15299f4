//! One slice while its bytes are only here: pages that fill up, blocks that are sealed and stored.
//!
//! Owns the bytes until they are in the object store, or kept on this machine. Does not own when to
//! seal (`extents`), nor how blocks travel (`uploader`). A move of states, no waiting.

use std::sync::Arc;

use super::geometry::parts;
use super::notes::Note;
use crate::object::BlockKey;
use crate::pages::{PAGE_BYTES, Page, PageMut, Pool};
use crate::types::{CHUNK_BYTES, Ino, SliceId, SliceRecord, Time};

/// One block of a slice.
pub(super) enum Block {
    /// Still written to.
    Open(Vec<PageMut>),
    /// Complete, on its way to the store.
    Sealed(Vec<Page>),
    /// Kept on this machine; the slice is not committed before it is in the store.
    Staged(BlockKey),
    /// An earlier mount kept it, and it is here no more: it is asked for in the store.
    Sought(BlockKey),
    /// Nothing keeps the slice from being committed for its sake.
    Stored(BlockKey),
}

/// Whether a slice that waits for its upload is itself kept on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noted {
    /// No.
    Not,
    /// Somebody is at it.
    Begun,
    /// Yes: it survives a crash.
    Kept,
    /// It could not be; who closes the file waits for the commit.
    Failed,
}

/// A block that is to be stored.
pub(super) struct SealedBlock {
    /// Chunk of the slice.
    pub chunk: u32,
    /// Number of the slice.
    pub seq: u64,
    /// Block index in the slice.
    pub index: u32,
    /// The bytes.
    pub pages: Vec<Page>,
}

/// Bytes of a slice as a reader finds them.
pub(super) enum Source {
    /// So many zeros.
    Zero(u32),
    /// Bytes in memory.
    Memory(Page),
    /// A piece of a stored block: offset in it and length.
    Block(BlockKey, u32, u32),
}

/// A slice that is not committed yet.
pub(super) struct Slice {
    /// Number in order of creation, unique in the mount.
    pub seq: u64,
    /// First byte in the chunk.
    pub pos: u32,
    /// Bytes so far.
    pub len: u32,
    /// No more bytes are taken.
    pub sealed: bool,
    /// The id, once the first block needed it.
    pub id: Option<SliceId>,
    /// Some write into it went beyond the length of the file.
    pub grows: bool,
    /// When it was opened, monotonic ns.
    pub born_ns: u64,
    /// When it was last written to, monotonic ns.
    pub touched_ns: u64,
    /// Time of the last write, or as set since.
    pub mtime: Time,
    /// Whether there is a note of it.
    pub noted: Noted,
    blocks: Vec<Block>,
}

impl Slice {
    /// An empty slice that starts at `pos`.
    pub fn new(seq: u64, pos: u32, now_ns: u64) -> Self {
        Self {
            seq,
            pos,
            len: 0,
            sealed: false,
            id: None,
            grows: false,
            born_ns: now_ns,
            touched_ns: now_ns,
            mtime: Time::default(),
            noted: Noted::Not,
            blocks: Vec::new(),
        }
    }

    /// A slice that an earlier mount kept, or that was made of others: no byte of it is in memory.
    pub fn kept(note: &Note, blocks: Vec<Block>, now_ns: u64) -> Self {
        let SliceRecord { pos, id, len, .. } = note.record;
        Self {
            seq: note.seq,
            pos,
            len,
            sealed: true,
            id: Some(id),
            grows: note.grows,
            born_ns: now_ns,
            touched_ns: now_ns,
            mtime: note.mtime,
            noted: Noted::Kept,
            blocks,
        }
    }

    /// What is to be kept of it, once every block of it is.
    pub fn note(&self, ino: Ino, chunk: u32) -> Note {
        let id = self.id.expect("a slice with kept blocks has an id");
        let record = SliceRecord { pos: self.pos, id, size: self.len, off: 0, len: self.len };
        Note { ino, chunk, seq: self.seq, record, mtime: self.mtime, grows: self.grows }
    }

    /// First byte in the chunk after it.
    pub fn end(&self) -> u32 {
        self.pos + self.len
    }

    /// Whether bytes at `pos` may go into it: at its end, or over what is not sealed yet.
    pub fn accepts(&self, pos: u32, block_bytes: u32) -> bool {
        let flushed = self.len / block_bytes * block_bytes;
        !self.sealed && (self.pos + flushed..=self.end()).contains(&pos)
    }

    /// Whether it has a byte in the range.
    pub fn overlaps(&self, pos: u32, len: u32) -> bool {
        pos < self.end() && self.pos < pos + len
    }

    /// Copy bytes in at `pos`; how many, less than given only when the pool is spent.
    pub fn fill(&mut self, pos: u32, bytes: &[u8], pool: &Arc<Pool>, block_bytes: u32) -> u32 {
        assert!(self.accepts(pos, block_bytes), "who fills has asked whether it may");
        let off = pos - self.pos;
        let mut done = 0;
        for part in parts(off, bytes.len() as u32, PAGE_BYTES as u32) {
            let pages_per_block = block_bytes / PAGE_BYTES as u32;
            let block = (part.index / pages_per_block) as usize;
            let page = (part.index % pages_per_block) as usize;
            let Some(page) = self.page(block, page, pool) else { break };
            let target = &mut page.bytes_mut()[part.off as usize..][..part.len as usize];
            target.copy_from_slice(&bytes[done as usize..][..part.len as usize]);
            done += part.len;
        }
        self.len = self.len.max(off + done);
        assert!(u64::from(self.end()) <= CHUNK_BYTES, "a slice stays inside its chunk");
        done
    }

    fn page(&mut self, block: usize, page: usize, pool: &Arc<Pool>) -> Option<&mut PageMut> {
        if block == self.blocks.len() {
            self.blocks.push(Block::Open(Vec::new()));
        }
        let Block::Open(pages) = &mut self.blocks[block] else {
            unreachable!("bytes only go where nothing is sealed")
        };
        if page == pages.len() {
            pages.push(pool.take()?);
        }
        Some(&mut pages[page])
    }

    /// Seal blocks that are full, all when `finish`; what is to be stored because of it.
    pub fn seal(
        &mut self,
        chunk: u32,
        block_bytes: u32,
        finish: bool,
        into: &mut Vec<SealedBlock>,
    ) {
        let (seq, len) = (self.seq, self.len);
        self.sealed |= finish;
        // A page that the pool refused may have left an empty block behind.
        self.blocks.truncate(len.div_ceil(block_bytes) as usize);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let index = index as u32;
            let size = (len - index * block_bytes).min(block_bytes);
            if matches!(block, Block::Open(_)) && (finish || size == block_bytes) {
                let pages = seal_pages(block, size);
                into.push(SealedBlock { chunk, seq, index, pages });
            }
        }
    }

    /// A block is in the store; its pages go home.
    pub fn stored(&mut self, key: BlockKey) {
        let block = &mut self.blocks[key.index as usize];
        assert!(!matches!(block, Block::Open(_)), "a block is stored after it is sealed");
        *block = Block::Stored(key);
    }

    /// A block is kept on this machine, unless it is in the store already; its pages go home.
    pub fn staged(&mut self, key: BlockKey) {
        let block = &mut self.blocks[key.index as usize];
        assert!(!matches!(block, Block::Open(_)), "a block is kept after it is sealed");
        if matches!(block, Block::Sealed(_)) {
            *block = Block::Staged(key);
        }
    }

    /// The pages of a block that is on its way to the store.
    pub fn sealed_pages(&self, index: u32) -> Option<Vec<Page>> {
        match &self.blocks[index as usize] {
            Block::Sealed(pages) => Some(pages.clone()),
            Block::Open(_) | Block::Staged(_) | Block::Sought(_) | Block::Stored(_) => None,
        }
    }

    /// Whether all of it is kept on this machine or in the store, and nothing can be added.
    pub fn is_safe(&self) -> bool {
        let loose = |block: &Block| matches!(block, Block::Open(_) | Block::Sealed(_));
        self.sealed && !self.blocks.iter().any(loose)
    }

    /// Whether all of it is in the store and nothing can be added.
    pub fn is_ready(&self) -> bool {
        self.sealed && self.blocks.iter().all(|block| matches!(block, Block::Stored(_)))
    }

    /// Whether every block of it waits for its upload.
    pub fn is_all_staged(&self) -> bool {
        self.sealed && self.blocks.iter().all(|block| matches!(block, Block::Staged(_)))
    }

    /// The record that makes it visible, once it is ready.
    pub fn record(&self) -> SliceRecord {
        assert!(self.is_ready(), "only what is stored becomes visible");
        let id = self.id.expect("a slice with stored blocks has an id");
        SliceRecord { pos: self.pos, id, size: self.len, off: 0, len: self.len }
    }

    /// Blocks that are in the store or kept on this machine.
    pub fn stored_blocks(&self) -> impl Iterator<Item = BlockKey> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Staged(key) | Block::Sought(key) | Block::Stored(key) => Some(*key),
            Block::Open(_) | Block::Sealed(_) => None,
        })
    }

    /// Blocks that must be uploaded before it is committed.
    pub fn staged_blocks(&self) -> impl Iterator<Item = BlockKey> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Staged(key) => Some(*key),
            Block::Open(_) | Block::Sealed(_) | Block::Sought(_) | Block::Stored(_) => None,
        })
    }

    /// Blocks that are asked for in the store before it is committed.
    pub fn sought_blocks(&self) -> impl Iterator<Item = BlockKey> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Sought(key) => Some(*key),
            Block::Open(_) | Block::Sealed(_) | Block::Staged(_) | Block::Stored(_) => None,
        })
    }

    /// Lengths in bytes of blocks that are only in memory.
    pub fn loose_blocks(&self, block_bytes: u32) -> impl Iterator<Item = u32> {
        let loose =
            |(_, block): &(usize, &Block)| matches!(block, Block::Open(_) | Block::Sealed(_));
        let blocks = self.blocks.iter().enumerate().filter(loose);
        blocks.map(move |(index, _)| {
            (self.len - (index as u32 * block_bytes).min(self.len)).min(block_bytes)
        })
    }

    /// Where the bytes `off .. off + len` are; open pages are copied, they may still change.
    pub fn sources(&self, off: u32, len: u32, block_bytes: u32, into: &mut Vec<Source>) {
        for part in parts(off, len, block_bytes) {
            match &self.blocks[part.index as usize] {
                Block::Staged(key) | Block::Sought(key) | Block::Stored(key) => {
                    into.push(Source::Block(*key, part.off, part.len));
                }
                Block::Open(pages) => {
                    let mut copy = Vec::with_capacity(part.len as usize);
                    for piece in parts(part.off, part.len, PAGE_BYTES as u32) {
                        let bytes = &pages[piece.index as usize].bytes()[piece.off as usize..];
                        copy.extend_from_slice(&bytes[..piece.len as usize]);
                    }
                    into.push(Source::Memory(Page::from_vec(copy)));
                }
                Block::Sealed(pages) => {
                    for piece in parts(part.off, part.len, PAGE_BYTES as u32) {
                        let page = &pages[piece.index as usize];
                        let page = page.piece(piece.off as usize, piece.len as usize);
                        into.push(Source::Memory(page));
                    }
                }
            }
        }
    }
}

/// Turn an open block of `size` bytes into a sealed one; its pages.
fn seal_pages(block: &mut Block, size: u32) -> Vec<Page> {
    let Block::Open(open) = std::mem::replace(block, Block::Sealed(Vec::new())) else {
        unreachable!("only open blocks are sealed")
    };
    let mut left = size as usize;
    let mut pages = Vec::with_capacity(open.len());
    for page in open {
        let len = left.min(PAGE_BYTES);
        if len > 0 {
            pages.push(page.seal(0, len));
        }
        left -= len;
    }
    assert_eq!(left, 0, "a block has pages for all its bytes");
    *block = Block::Sealed(pages.clone());
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 128 << 10;

    #[test]
    fn blocks_seal_when_full_and_bytes_are_found_in_every_state() {
        let pool = Pool::new(1 << 20);
        let mut slice = Slice::new(1, 10, 0);
        let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        assert_eq!(slice.fill(10, &bytes, &pool, BLOCK), 200_000);
        assert!(!slice.accepts(10, BLOCK) && slice.accepts(10 + BLOCK, BLOCK));
        let mut sealed = Vec::new();
        slice.seal(0, BLOCK, false, &mut sealed);
        assert_eq!(sealed.len(), 1);
        slice.seal(0, BLOCK, true, &mut sealed);
        assert_eq!((sealed.len(), sealed[1].index), (2, 1));
        let mut sources = Vec::new();
        slice.sources(1, 199_999, BLOCK, &mut sources);
        let read: Vec<u8> = sources
            .iter()
            .flat_map(|source| match source {
                Source::Memory(page) => page.to_vec(),
                Source::Zero(_) | Source::Block(..) => panic!("not stored"),
            })
            .collect();
        assert_eq!(read, bytes[1..]);
        slice.stored(BlockKey { id: 7, index: 0, size: BLOCK });
        assert!(!slice.is_ready());
        slice.stored(BlockKey { id: 7, index: 1, size: 200_000 - BLOCK });
        assert!(slice.is_ready());
        drop((sealed, sources));
        assert_eq!(pool.used_pages(), 0);
    }

    #[test]
    fn a_spent_pool_takes_what_fits() {
        let pool = Pool::new(2 * PAGE_BYTES);
        let mut slice = Slice::new(1, 0, 0);
        assert_eq!(slice.fill(0, &[7; 3 * PAGE_BYTES], &pool, BLOCK), BLOCK);
        let mut sealed = Vec::new();
        slice.seal(0, BLOCK, true, &mut sealed);
        assert_eq!(sealed.len(), 1);
    }
}
