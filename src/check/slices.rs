//! Slices: who refers to them, how often, and which of their objects are there.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::finding::{Finding, Findings};
use crate::object::{BlockKey, Layout};
use crate::types::{CHUNK_BYTES, Ino, SliceId, SliceRecord};

/// Objects that no slice needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unused {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub len_bytes: u64,
}

struct Slice {
    size: u32,
    counted: u32,
    /// What is kept, if it is.
    kept: Option<i64>,
    /// Blocks that are there.
    blocks: u32,
    /// Whether somebody reads it.
    needed: bool,
}

/// All slices that records or counts name.
#[derive(Default)]
pub(super) struct Slices {
    known: HashMap<SliceId, Slice, RandomState>,
    /// Lists and slices put aside that were taken: a row may come twice.
    lists: HashSet<(Ino, u32), RandomState>,
    aside: HashSet<SliceId, RandomState>,
    unused: Unused,
}

/// Why a record cannot be.
fn impossible(record: &SliceRecord) -> Option<&'static str> {
    let end = |from: u32, len: u32| u64::from(from) + u64::from(len);
    if end(record.pos, record.len) > CHUNK_BYTES {
        Some("ends behind its chunk")
    } else if record.id == 0 {
        None
    } else if end(record.off, record.len) > u64::from(record.size) {
        Some("ends behind its slice")
    } else if record.size == 0 || u64::from(record.size) > CHUNK_BYTES {
        Some("has an impossible size")
    } else {
        None
    }
}

impl Slices {
    pub(super) fn list(
        &mut self,
        (ino, index): (Ino, u32),
        records: &[SliceRecord],
        needed: bool,
        findings: &mut Findings,
    ) {
        if !self.lists.insert((ino, index)) {
            return;
        }
        for record in records {
            let bad = impossible(record).or_else(|| {
                let hole = record.id == 0;
                (!hole && !self.refer(record.id, record.size, needed)).then_some("has another size")
            });
            if let Some(reason) = bad {
                findings.add(Finding::BadRecord { ino, index, id: record.id, reason });
            }
        }
    }

    pub(super) fn aside(
        &mut self,
        by: SliceId,
        slices: &[(SliceId, u32)],
        findings: &mut Findings,
    ) {
        if !self.aside.insert(by) {
            return;
        }
        for (id, size) in slices {
            if *id != 0 && !self.refer(*id, *size, true) {
                let reason = "that is put aside has another size";
                findings.add(Finding::BadRecord { ino: Ino(0), index: 0, id: *id, reason });
            }
        }
    }

    /// One more reference; false if the slice is known with another size.
    fn refer(&mut self, id: SliceId, size: u32, needed: bool) -> bool {
        let slice = self.slice(id, size);
        slice.counted += 1;
        slice.needed |= needed;
        slice.size == size
    }

    /// What is known of a slice; of a new one its size.
    fn slice(&mut self, id: SliceId, size: u32) -> &mut Slice {
        let fresh = || Slice { size, counted: 0, kept: None, blocks: 0, needed: false };
        self.known.entry(id).or_insert_with(fresh)
    }

    pub(super) fn kept(&mut self, id: SliceId, size: u32, kept: i64) {
        let slice = self.slice(id, size);
        if slice.size == size {
            slice.kept = Some(kept);
        }
    }

    pub(super) fn object(
        &mut self,
        layout: Layout,
        block: BlockKey,
        len_bytes: u64,
        exact: bool,
        findings: &mut Findings,
    ) {
        let fits = |slice: &&mut Slice| {
            let count = layout.block_count(slice.size);
            block.index < count && layout.block(block.id, slice.size, block.index) == block
        };
        match self.known.get_mut(&block.id).filter(fits) {
            Some(slice) => {
                slice.blocks += 1;
                if exact && slice.needed && len_bytes != u64::from(block.size) {
                    findings.add(Finding::ObjectLength {
                        name: layout.name(block),
                        found: len_bytes,
                        wanted: u64::from(block.size),
                        users: Vec::new(),
                    });
                }
            }
            None => {
                self.unused.objects += 1;
                self.unused.len_bytes += len_bytes;
            }
        }
    }

    /// Slices that somebody reads, with their sizes, by ascending id: all, or those of which fewer
    /// objects are listed than they have.
    pub(super) fn needed(&self, layout: Layout, short_only: bool) -> Vec<(SliceId, u32)> {
        let wanted = |slice: &Slice| {
            slice.needed && (!short_only || slice.blocks < layout.block_count(slice.size))
        };
        let found = self.known.iter().filter(|(_, slice)| wanted(slice));
        let mut found: Vec<_> = found.map(|(id, slice)| (*id, slice.size)).collect();
        found.sort_unstable();
        found
    }

    /// Contradictions between records and counts; a slice without a count has `unkept` references.
    pub(super) fn judge(&self, unkept: i64, findings: &mut Findings) {
        let mut wrong = Vec::new();
        for (id, slice) in &self.known {
            let kept = slice.kept.unwrap_or(unkept);
            if slice.counted == 0 {
                if kept > 0 {
                    wrong.push(Finding::StraySlice { id: *id, kept });
                }
            } else if kept != i64::from(slice.counted) {
                let Slice { size, counted, .. } = *slice;
                wrong.push(Finding::SliceRefs { id: *id, size, kept, counted });
            }
        }
        wrong.sort_by_key(|finding| match finding {
            Finding::StraySlice { id, .. } | Finding::SliceRefs { id, .. } => *id,
            _ => 0,
        });
        wrong.into_iter().for_each(|finding| findings.add(finding));
    }

    pub(super) fn last_id(&self) -> SliceId {
        self.known.keys().copied().max().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn unused(&self) -> Unused {
        self.unused
    }
}
