//! Everything a volume holds, counted, and what of it does not fit together.
//!
//! Rows come in the order of the methods: nodes before names, names before statistics, lists before
//! counts, all metadata before objects. A row may come twice.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::finding::{Finding, Findings};
use super::slices::{Slices, Unused};
use crate::limits::ANCESTORS_MAX;
use crate::meta::{Counter, DirEntry, Holder, Quota, Row};
use crate::object::{BlockKey, Layout};
use crate::types::{Attr, FileType, Ino, SliceId, charged_bytes, child_stats};

/// What the volume and its engine say about facts.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How slices are cut and named.
    pub layout: Layout,
    /// Whether an object, as its store tells it, is as long as its block: no compression.
    pub exact_lengths: bool,
    /// Whether directories have statistics.
    pub dir_stats: bool,
    /// Whether users and groups have quotas.
    pub owner_quotas: bool,
    /// Whether the engine keeps parents apart from names.
    pub parents_apart: bool,
    /// How many references a slice without a count has.
    pub unkept_slice_ref: i64,
}

struct Node {
    kind: FileType,
    /// Whether a name was found in `parent`.
    at_home: bool,
    /// Whether its statistics were seen.
    counted: bool,
    nlink: u32,
    /// Names found.
    names: u32,
    length: u64,
    parent: Ino,
}

/// What was found in a directory.
#[derive(Default)]
struct Dir {
    subdirs: u32,
    /// Data length, space, inodes.
    sums: [i64; 3],
}

type Table<K, V> = hashbrown::HashMap<K, V, RandomState>;

/// The first inode that uses a rule of access control, and how many do.
type Users = (Ino, usize);

/// The facts so far.
pub struct Census {
    shape: Shape,
    nodes: Table<Ino, Node>,
    dirs: Table<Ino, Dir>,
    sustained: HashSet<Ino, RandomState>,
    queued: HashSet<Ino, RandomState>,
    /// Directories that have a name elsewhere than in their parent: there.
    elsewhere: Table<Ino, Ino>,
    /// Rules of access control that nodes name.
    rules_used: Table<u32, Users>,
    /// Of inodes and directories: names found, and links that the table of parents counts.
    links: Table<(Ino, Ino), (u32, i64)>,
    slices: Slices,
    /// Quotas that are kept.
    quotas: Table<Holder, Quota>,
    /// Space and inodes that were found for each.
    held: Table<Holder, [i64; 2]>,
    findings: Findings,
    used_space: i64,
    total_inodes: i64,
    last_ino: u64,
    last_trash: u64,
}

impl Census {
    /// Nothing yet.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            nodes: Table::default(),
            dirs: Table::default(),
            sustained: HashSet::default(),
            queued: HashSet::default(),
            elsewhere: Table::default(),
            rules_used: Table::default(),
            links: Table::default(),
            slices: Slices::default(),
            quotas: Table::default(),
            held: Table::default(),
            findings: Findings::default(),
            used_space: 0,
            total_inodes: 0,
            last_ino: 1,
            last_trash: 0,
        }
    }

    /// One row of any table.
    pub fn row(&mut self, row: Row) {
        match row {
            Row::Node(ino, attr) => self.node(ino, &attr),
            // Its names are asked for one by one.
            Row::Dir(_) => {}
            Row::Sustained(_, ino) => {
                self.sustained.insert(ino);
            }
            Row::Queued(ino, ..) => {
                self.queued.insert(ino);
            }
            Row::Parent(ino, dir, links) => self.links.entry((ino, dir)).or_default().1 = links,
            Row::DirStats(dir, stats) => self.stats(dir, stats),
            Row::Quota(holder, quota) => {
                self.quotas.insert(holder, quota);
            }
            Row::Chunk(ino, index, records) => {
                let there = self.nodes.contains_key(&ino);
                if !there && !self.queued.contains(&ino) {
                    self.findings.add(Finding::StrayChunk { ino, index });
                }
                self.slices.list((ino, index), &records, there, &mut self.findings);
            }
            Row::Delayed(delayed) => {
                self.slices.aside(delayed.by, &delayed.slices, &mut self.findings);
            }
            Row::SliceRef(id, size, kept) => self.slices.kept(id, size, kept),
            Row::Damaged { key, reason } => self.findings.add(Finding::Unreadable { key, reason }),
        }
    }

    fn node(&mut self, ino: Ino, attr: &Attr) {
        let node = Node {
            kind: attr.kind,
            at_home: false,
            counted: false,
            nlink: attr.nlink,
            names: 0,
            length: attr.length,
            parent: attr.parent,
        };
        if self.nodes.insert(ino, node).is_some() {
            return;
        }
        let used = [attr.access_acl, attr.default_acl];
        for id in used.into_iter().filter(|id| *id != 0) {
            self.rules_used.entry(id).or_insert((ino, 0)).1 += 1;
        }
        if ino == Ino::ROOT || ino == Ino::TRASH {
            return;
        }
        self.used_space += charged_bytes(attr.kind, attr.length);
        self.total_inodes += 1;
        if self.shape.owner_quotas && matches!(attr.kind, FileType::File | FileType::Dir) {
            let one = [charged_bytes(attr.kind, attr.length), 1];
            for owner in [Holder::User(attr.uid), Holder::Group(attr.gid)] {
                let sums = self.held.entry(owner).or_default();
                sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
            }
        }
        if ino.is_trash() {
            self.last_trash = self.last_trash.max(ino.0 - Ino::TRASH.0);
        } else {
            self.last_ino = self.last_ino.max(ino.0);
        }
    }

    /// All names of a directory that has some.
    pub fn names(&mut self, dir: Ino, entries: &[DirEntry]) {
        if self.dirs.contains_key(&dir) || entries.is_empty() {
            return;
        }
        if self.nodes.get(&dir).is_none_or(|node| node.kind != FileType::Dir) {
            self.findings.add(Finding::NamesOfNoDir { dir, names: entries.len() });
        }
        let mut found = Dir::default();
        for entry in entries {
            let DirEntry { name, kind, ino, .. } = entry;
            let ino = *ino;
            let Some(node) = self.nodes.get_mut(&ino) else {
                self.findings.add(Finding::Dangling { dir, name: name.clone(), ino });
                continue;
            };
            if node.kind != *kind {
                let kinds = (*kind, node.kind);
                self.findings.add(Finding::WrongKind { dir, name: name.clone(), ino, kinds });
            }
            node.names += 1;
            node.at_home |= node.parent == dir;
            if node.kind == FileType::Dir && node.parent != dir {
                self.elsewhere.insert(ino, dir);
            }
            if node.parent == Ino(0) {
                self.links.entry((ino, dir)).or_default().0 += 1;
            }
            found.subdirs += u32::from(node.kind == FileType::Dir);
            let one = child_stats(node.kind, node.length);
            found.sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
        self.dirs.insert(dir, found);
    }

    /// Directories of which nobody keeps statistics, or not always: what is in the trash.
    fn has_no_stats(&self, dir: Ino, node: &Node) -> bool {
        dir.is_trash() || node.parent.is_trash() || node.kind != FileType::Dir
    }

    fn sums(&self, dir: Ino) -> [i64; 3] {
        self.dirs.get(&dir).map_or([0; 3], |found| found.sums)
    }

    fn stats(&mut self, dir: Ino, kept: [i64; 3]) {
        let counted = self.sums(dir);
        let dir_stats = self.shape.dir_stats;
        let Some(node) = self.nodes.get(&dir) else { return };
        if !dir_stats || node.counted || self.has_no_stats(dir, node) {
            return;
        }
        if kept != counted {
            self.findings.add(Finding::DirStats { dir, kept: Some(kept), counted });
        }
        if let Some(node) = self.nodes.get_mut(&dir) {
            node.counted = true;
        }
    }

    /// The ids of all rules of access control that there are.
    pub fn rules(&mut self, known: &HashSet<u32>) {
        let missing = self.rules_used.iter().filter(|(id, _)| !known.contains(id));
        let mut missing: Vec<_> = missing.map(|(id, users)| (*id, *users)).collect();
        missing.sort_unstable();
        for (id, (ino, users)) in missing {
            self.findings.add(Finding::MissingRule { id, ino, users });
        }
    }

    /// Whether any node names a rule of access control.
    pub fn uses_rules(&self) -> bool {
        !self.rules_used.is_empty()
    }

    /// Judge what only all rows together can tell; `counters` are those of the volume.
    pub fn judge(&mut self, counters: &[(Counter, i64)]) {
        let mut inos: Vec<_> = self.nodes.keys().copied().collect();
        inos.sort_unstable();
        for ino in inos {
            self.judge_node(ino);
        }
        self.judge_loops();
        if self.shape.parents_apart {
            self.judge_links();
        }
        self.judge_quotas();
        self.slices.judge(self.shape.unkept_slice_ref, &mut self.findings);
        for (counter, kept) in counters {
            let (counter, kept) = (*counter, *kept);
            let (counted, least) = match counter {
                Counter::UsedSpace => (self.used_space, false),
                Counter::TotalInodes => (self.total_inodes, false),
                Counter::NextInode => (self.last_ino as i64, true),
                Counter::NextChunk => (self.slices.last_id() as i64, true),
                Counter::NextTrash => (self.last_trash as i64, true),
                Counter::NextSession => continue,
            };
            if if least { kept < counted } else { kept != counted } {
                self.findings.add(Finding::Counter { counter, kept, counted });
            }
        }
    }

    fn judge_node(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get(&ino) else { return };
        let mut wrong = Vec::new();
        let top = ino == Ino::ROOT || ino == Ino::TRASH;
        let open = self.sustained.contains(&ino);
        let kind = node.kind;
        if node.names == 0 && !top && !open {
            wrong.push(Finding::Orphan { ino, kind });
        }
        if kind == FileType::Dir && node.names > 1 {
            wrong.push(Finding::DirNames { ino, names: node.names });
        }
        if node.names > 0 && !node.at_home && node.parent != Ino(0) {
            wrong.push(Finding::Parent { ino, parent: node.parent });
        }
        let subdirs = self.dirs.get(&ino).map_or(0, |found| found.subdirs);
        let links = if kind == FileType::Dir { 2 + subdirs } else { node.names };
        // Folders of the trash never count what is in them.
        let counts = (node.names > 0 || ino == Ino::ROOT) && !ino.is_trash();
        if counts && links != node.nlink {
            wrong.push(Finding::Links { ino, kind, kept: node.nlink, counted: links });
        }
        let counted = self.sums(ino);
        let missing = self.shape.dir_stats && !node.counted && !self.has_no_stats(ino, node);
        // Absent ones are zeros to who reads them, and a new volume has none for its root.
        if missing && ino != Ino::ROOT && counted != [0; 3] {
            wrong.push(Finding::DirStats { dir: ino, kept: None, counted });
        }
        wrong.into_iter().for_each(|finding| self.findings.add(finding));
    }

    /// Where a directory has its name; nowhere if it has none, or is a root.
    fn above(&self, ino: Ino) -> Option<Ino> {
        let node = self.nodes.get(&ino).filter(|_| ino != Ino::ROOT && !ino.is_trash())?;
        if node.at_home { Some(node.parent) } else { self.elsewhere.get(&ino).copied() }
    }

    /// Directories that are below themselves: each has a name, and no path leads to any.
    fn judge_loops(&mut self) {
        let dirs = self.nodes.iter().filter(|(_, node)| node.kind == FileType::Dir);
        let mut starts: Vec<_> = dirs.map(|(ino, _)| *ino).collect();
        starts.sort_unstable();
        // On which walk a directory was met first.
        let mut met: Table<Ino, usize> = Table::default();
        for (walk, start) in starts.into_iter().enumerate() {
            let mut at = Some(start);
            while let Some(dir) = at {
                match met.get(&dir) {
                    None => met.insert(dir, walk),
                    Some(first) if *first == walk => {
                        self.tell_loop(dir);
                        break;
                    }
                    Some(_) => break,
                };
                at = self.above(dir);
            }
        }
    }

    fn tell_loop(&mut self, member: Ino) {
        let rest = std::iter::successors(self.above(member), |dir| self.above(*dir));
        let mut dirs: Vec<_> =
            std::iter::once(member).chain(rest.take_while(|dir| *dir != member)).collect();
        dirs.sort_unstable();
        self.findings.add(Finding::Loop { ino: dirs[0], dirs: dirs.len() });
    }

    /// Each directory's names count for the quotas of itself and of all above it.
    fn count_below(&mut self) {
        for (dir, Dir { sums: [_, space, inodes], .. }) in &self.dirs {
            let mut at = *dir;
            for _ in 0..ANCESTORS_MAX {
                if self.quotas.contains_key(&Holder::Dir(at)) {
                    let sums = self.held.entry(Holder::Dir(at)).or_default();
                    *sums = [sums[0] + space, sums[1] + inodes];
                }
                match self.nodes.get(&at) {
                    Some(node) if at != Ino::ROOT && !at.is_trash() => at = node.parent,
                    _ => break,
                }
            }
        }
    }

    /// Quotas that hold count what was found. One that a removed directory leaves behind holds for
    /// nobody, and a user or group without one has nothing.
    fn judge_quotas(&mut self) {
        if self.quotas.keys().any(|holder| matches!(holder, Holder::Dir(_))) {
            self.count_below();
        }
        let mut holders: Vec<_> = self.quotas.keys().chain(self.held.keys()).copied().collect();
        holders.sort_unstable();
        holders.dedup();
        for holder in holders {
            let holds = match holder {
                Holder::Dir(dir) => {
                    let node = self.nodes.get(&dir);
                    self.shape.dir_stats && node.is_some_and(|node| node.kind == FileType::Dir)
                }
                Holder::User(_) | Holder::Group(_) => self.shape.owner_quotas,
            };
            let quota = self.quotas.get(&holder).copied().unwrap_or_default();
            let kept = [quota.used_space, quota.used_inodes];
            let counted = self.held.get(&holder).copied().unwrap_or_default();
            if holds && kept != counted {
                self.findings.add(Finding::QuotaUsage { holder, kept, counted });
            }
        }
    }

    fn judge_links(&mut self) {
        let mut links: Vec<_> = self.links.iter().map(|(key, both)| (*key, *both)).collect();
        links.sort_unstable();
        for ((ino, dir), (counted, kept)) in links {
            let apart = self.nodes.get(&ino).is_some_and(|node| node.parent == Ino(0));
            if apart && i64::from(counted) != kept {
                self.findings.add(Finding::ParentLinks { ino, dir, kept, counted });
            }
        }
    }

    /// A listed object and its length.
    pub fn object(&mut self, block: BlockKey, len_bytes: u64) {
        let Shape { layout, exact_lengths, .. } = self.shape;
        self.slices.object(layout, block, len_bytes, exact_lengths, &mut self.findings);
    }

    /// Slices with objects that files need and that were not listed, with their sizes.
    pub fn short_slices(&self) -> Vec<(SliceId, u32)> {
        self.slices.needed(self.shape.layout, true)
    }

    /// All slices that files need, with their sizes.
    pub fn needed_slices(&self) -> Vec<(SliceId, u32)> {
        self.slices.needed(self.shape.layout, false)
    }

    /// What was seen otherwise.
    pub fn add(&mut self, finding: Finding) {
        self.findings.add(finding);
    }

    /// Slices of which an object is missing or damaged, so that their users can be looked for.
    pub fn bad_slices(&mut self) -> HashSet<SliceId> {
        let layout = self.shape.layout;
        let named = self.findings.told.iter_mut().filter_map(Finding::users_mut);
        named.filter_map(|(name, _)| layout.parse(name)).map(|block| block.id).collect()
    }

    /// The files that have records of bad slices.
    pub fn users(&mut self, of: &HashMap<SliceId, Vec<Ino>>) {
        let layout = self.shape.layout;
        for (name, users) in self.findings.told.iter_mut().filter_map(Finding::users_mut) {
            let found = layout.parse(name).and_then(|block| of.get(&block.id));
            users.extend(found.into_iter().flatten());
        }
    }

    /// Nodes and slices seen.
    pub fn seen(&self) -> (usize, usize) {
        (self.nodes.len(), self.slices.len())
    }

    /// Objects that nobody needs.
    pub fn unused(&self) -> Unused {
        self.slices.unused()
    }

    /// All findings.
    pub fn finish(self) -> Findings {
        self.findings
    }
}
