//! A check of a whole volume: read everything that there is, let `check` judge it, mend what is
//! derived.
//!
//! Owns the order of reading, and that nothing is mended under a client that works. Does not own the
//! judgement (`check`). Metadata comes in pages and objects in lists; what stays in memory is the
//! census, a hash table entry for each node, directory, list and slice (260 MB at the most for a
//! million files of one slice each), and the names of one directory.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures_util::stream::{self, StreamExt};

use super::failure::Failure;
use super::store::{OwnStore, StorePolicy};
use super::volume::{Volume, compression_of};
use crate::check::{Census, Finding, Shape, Unused, mend};
use crate::limits::{CHECK_PAGE, CHECK_READS_MAX};
use crate::meta::{Counter, Engine, EngineError, Key, Outcome, Row, Table, Value};
use crate::object::{BlockKey, Layout, Store, StoreError};
use crate::pages;
use crate::stage::{Codec, Compression};
use crate::stdx::now;
use crate::types::{Ino, SliceId};
use crate::uring;

/// What a check is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckPlan {
    /// Read and decode every object too.
    pub deep: bool,
    /// Mend what is derived.
    pub repair: bool,
}

/// What became of a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is as it was found.
    Stays,
    /// It is right now.
    Mended,
    /// It changed meanwhile, or could not be written.
    Missed(String),
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Nodes seen.
    pub nodes: usize,
    /// Slices seen.
    pub slices: usize,
    /// Objects listed.
    pub objects: u64,
    /// Objects that no slice needs.
    pub unused: Unused,
    /// Objects read whole.
    pub read: u64,
    /// What is wrong, and what became of it.
    pub findings: Vec<(Finding, Fate)>,
    /// Findings that are counted only.
    pub more: usize,
    /// Clients that have the volume mounted: what they change meanwhile may look wrong.
    pub clients: usize,
}

/// The tables, in the order in which the census takes them, with what they are called.
const BEFORE_NAMES: [(Table, &str); 3] =
    [(Table::Nodes, "nodes"), (Table::Sustained, "open files"), (Table::Queued, "deleted files")];
const AFTER_NAMES: [(Table, &str); 8] = [
    (Table::Parents, "parents"),
    (Table::DirStats, "statistics"),
    (Table::DirQuotas, "quotas"),
    (Table::UserQuotas, "quotas of users"),
    (Table::GroupQuotas, "quotas of groups"),
    (Table::Chunks, "chunks"),
    (Table::Delayed, "replaced slices"),
    (Table::SliceRefs, "references"),
];
const COUNTERS: [Counter; 5] = [
    Counter::UsedSpace,
    Counter::TotalInodes,
    Counter::NextInode,
    Counter::NextChunk,
    Counter::NextTrash,
];

/// Told what is being read, and how much of it was.
pub type Progress<'a> = &'a dyn Fn(&str, u64);

struct Check<'a> {
    engine: Rc<dyn Engine>,
    store: Rc<dyn Store>,
    layout: Layout,
    compression: Compression,
    told: Progress<'a>,
}

/// Check a volume.
///
/// # Errors
/// When it is not for this client, engine or store fail, or it shall be mended and is in use.
pub fn fsck(volume: &Volume, plan: CheckPlan, told: Progress<'_>) -> Result<Checked, Failure> {
    let setting = &volume.setting;
    setting.check(!plan.repair)?;
    let compression = compression_of(setting)?;
    let stores = volume.stores(OwnStore::default(), StorePolicy::asking())?;
    let layout = Layout::new(setting.block_size_kib(), setting.hash_prefix());
    uring::block_on(async {
        let engine = volume.engines.engine();
        let shape = Shape {
            layout,
            exact_lengths: compression == Compression::None,
            dir_stats: setting.dir_stats(),
            parents_apart: engine.keeps_parents_apart(),
            owner_quotas: setting.owner_quotas(),
            unkept_slice_ref: engine.unkept_slice_ref(),
        };
        let check = Check { engine, store: stores.store(), layout, compression, told };
        check.run(plan, shape).await
    })
}

impl Check<'_> {
    async fn run(&self, plan: CheckPlan, shape: Shape) -> Result<Checked, Failure> {
        let clients = self.clients().await?;
        if plan.repair && clients > 0 {
            return Err(Failure::failed(format!(
                "{clients} clients have the volume mounted, and nothing is mended under them; \
                 unmount them (`jfs-uring status` shows where), then repair"
            )));
        }
        let mut census = Census::new(shape);
        self.metadata(&mut census).await?;
        let objects = self.objects(&mut census).await?;
        let read = if plan.deep { self.deep(&mut census).await? } else { 0 };
        self.name_users(&mut census).await?;
        let (nodes, slices) = census.seen();
        let unused = census.unused();
        let findings = census.finish();
        let mut fates = Vec::with_capacity(findings.told.len());
        for finding in findings.told {
            let fate = if plan.repair { self.mended(&finding).await? } else { Fate::Stays };
            fates.push((finding, fate));
        }
        let more = findings.more;
        Ok(Checked { nodes, slices, objects, unused, read, findings: fates, more, clients })
    }

    /// Sessions that have not expired.
    async fn clients(&self) -> Result<usize, Failure> {
        let sessions = self.engine.sessions().await?;
        Ok(sessions.iter().filter(|session| session.expire > now().sec).count())
    }

    /// All rows of a table.
    async fn each_row(
        &self,
        table: Table,
        what: &str,
        mut take: impl AsyncFnMut(Row) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut from, mut count) = (0, 0);
        loop {
            let page = self.engine.scan(table, from, CHECK_PAGE).await?;
            for row in page.rows {
                take(row).await?;
                count += 1;
            }
            (self.told)(what, count);
            let Some(next) = page.next else { return Ok(()) };
            from = next;
        }
    }

    /// The census takes all rows of some tables.
    async fn tables(&self, named: &[(Table, &str)], census: &mut Census) -> Result<(), Failure> {
        for (table, what) in named {
            self.each_row(*table, what, async |row| {
                census.row(row);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn metadata(&self, census: &mut Census) -> Result<(), Failure> {
        self.tables(&BEFORE_NAMES, census).await?;
        self.each_row(Table::Dirs, "directories", async |row| {
            let Row::Dir(dir) = row else { return Ok(()) };
            match self.engine.list(dir, false).await {
                Ok(entries) => census.names(dir, &entries),
                Err(EngineError::Corrupt { key, reason }) => {
                    census.add(Finding::Unreadable { key, reason });
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
        .await?;
        self.tables(&AFTER_NAMES, census).await?;
        let values = self.engine.fetch(&COUNTERS.map(Key::Counter)).await?;
        let counters =
            COUNTERS.into_iter().zip(values).filter_map(|(counter, value)| match value {
                Value::Counter(kept) => Some((counter, kept)),
                _ => None,
            });
        census.judge(&counters.collect::<Vec<_>>());
        if census.uses_rules() {
            census.rules(&self.rules().await?);
        }
        Ok(())
    }

    /// The ids of all rules of access control.
    async fn rules(&self) -> Result<HashSet<u32>, Failure> {
        let (mut known, mut after) = (HashSet::new(), 0);
        loop {
            let page = self.engine.acl_rules(after).await?;
            known.extend(page.rules.iter().map(|(id, _)| *id));
            (self.told)("access control rules", known.len() as u64);
            if !page.more {
                return Ok(known);
            }
            after = page.told_to;
        }
    }

    /// List all objects; look once more for those that are not in the list.
    async fn objects(&self, census: &mut Census) -> Result<u64, Failure> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let page = self.store.list("chunks/".into(), after, CHECK_PAGE).await?;
            for object in &page {
                if let Some(block) = self.layout.parse(&object.key) {
                    census.object(block, object.len_bytes);
                    count += 1;
                }
            }
            (self.told)("objects", count);
            match page.last() {
                Some(last) => after = last.key.clone(),
                None => break,
            }
        }
        for (id, size) in census.short_slices() {
            for block in self.layout.blocks(id, size) {
                let name = self.layout.name(block);
                match self.store.get(name.clone(), 0, vec![0; 1]).await {
                    Ok(_) => {}
                    Err(StoreError::Missing(_)) => {
                        census.add(Finding::MissingObject { name, users: Vec::new() });
                    }
                    Err(error) => census.add(bad(name, error)?),
                }
            }
        }
        Ok(count)
    }

    /// Read and decode all objects that files need, many at a time.
    async fn deep(&self, census: &mut Census) -> Result<u64, Failure> {
        let codec = RefCell::new(Codec::new(self.compression));
        let read = Cell::new(0);
        let slices = census.needed_slices();
        let blocks = slices.iter().flat_map(|(id, size)| self.layout.blocks(*id, *size));
        let mut found = stream::iter(blocks)
            .map(|block| self.read(block, &codec))
            .buffer_unordered(CHECK_READS_MAX);
        while let Some(outcome) = found.next().await {
            if let Some(finding) = outcome? {
                census.add(finding);
            }
            read.set(read.get() + 1);
            (self.told)("objects read", read.get());
        }
        Ok(read.get())
    }

    /// What is wrong with the bytes of one object; a missing one, or one of wrong length, was found
    /// in the list.
    async fn read(
        &self,
        block: BlockKey,
        codec: &RefCell<Codec>,
    ) -> Result<Option<Finding>, Failure> {
        let (name, raw_bytes) = (self.layout.name(block), block.size as usize);
        let most = self.compression.stored_bytes_max(raw_bytes);
        match self.store.get(name.clone(), 0, pages::buffer(most)).await {
            Ok((mut stored, count)) => {
                stored.truncate(count);
                if self.compression == Compression::None {
                    pages::give_back(stored);
                    return Ok(None);
                }
                Ok(match codec.borrow_mut().decode(stored, raw_bytes) {
                    Ok(raw) => {
                        pages::give_back(raw);
                        None
                    }
                    Err(damaged) => {
                        Some(Finding::BadObject { name, reason: damaged.0, users: Vec::new() })
                    }
                })
            }
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => bad(name, error).map(Some),
        }
    }

    /// Say of which files the objects are that are missing or damaged.
    async fn name_users(&self, census: &mut Census) -> Result<(), Failure> {
        let bad = census.bad_slices();
        if bad.is_empty() {
            return Ok(());
        }
        let mut users: HashMap<SliceId, Vec<Ino>> = HashMap::new();
        self.each_row(Table::Chunks, "files of bad objects", async |row| {
            if let Row::Chunk(ino, _, records) = row {
                for record in records.iter().filter(|record| bad.contains(&record.id)) {
                    let of = users.entry(record.id).or_default();
                    if !of.contains(&ino) {
                        of.push(ino);
                    }
                }
            }
            Ok(())
        })
        .await?;
        census.users(&users);
        Ok(())
    }

    async fn mended(&self, finding: &Finding) -> Result<Fate, Failure> {
        let Some(commit) = mend(finding) else { return Ok(Fate::Stays) };
        Ok(match self.engine.commit(commit).await? {
            Outcome::Applied(_) => Fate::Mended,
            Outcome::Conflict(_) => Fate::Missed("it changed meanwhile".into()),
        })
    }
}

/// An error that is about the object; others end the check.
fn bad(name: String, error: StoreError) -> Result<Finding, Failure> {
    match error {
        StoreError::Corrupt { reason, .. } => {
            Ok(Finding::BadObject { name, reason, users: Vec::new() })
        }
        other => Err(other.into()),
    }
}
