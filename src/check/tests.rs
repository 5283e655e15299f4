//! Volumes that are whole have no findings; each planted damage has its own, and what mends it does.

use proptest::prelude::*;

use super::*;
use crate::meta::{Counter, DirEntry, Holder, Mutation, Quota, Row};
use crate::object::Layout;
use crate::types::{Attr, FileType, Ino, SliceRecord, Time, charged_bytes};

fn shape() -> Shape {
    Shape {
        layout: Layout::new(64, false),
        exact_lengths: true,
        dir_stats: true,
        owner_quotas: false,
        parents_apart: true,
        unkept_slice_ref: 1,
    }
}

/// Facts of a volume, as an engine and a store tell them.
#[derive(Clone, Debug)]
struct Facts {
    nodes: Vec<(Ino, Attr)>,
    names: Vec<(Ino, Vec<DirEntry>)>,
    stats: Vec<(Ino, [i64; 3])>,
    chunks: Vec<(Ino, SliceRecord)>,
    counters: Vec<(Counter, i64)>,
}

fn attr(kind: FileType, parent: u64, length: u64) -> Attr {
    let new = Attr { parent: Ino(parent), ..Attr::new(kind, 0o755, Time::default()) };
    if kind == FileType::Dir { new } else { Attr { length, ..new } }
}

/// A whole volume: entry `n` becomes inode `n + 2` below one of the directories before it.
fn whole(made: &[(usize, bool, u32)]) -> Facts {
    let mut nodes = vec![(Ino::ROOT, attr(FileType::Dir, 1, 4096))];
    let mut names: Vec<(Ino, Vec<DirEntry>)> = vec![(Ino::ROOT, vec![])];
    let (mut chunks, mut used) = (Vec::new(), 0);
    for (at, (below, is_dir, length)) in made.iter().enumerate() {
        let ino = Ino(at as u64 + 2);
        let place = below % names.len();
        let dir = names[place].0;
        let kind = if *is_dir { FileType::Dir } else { FileType::File };
        let new = attr(kind, dir.0, u64::from(*length));
        used += charged_bytes(kind, new.length);
        let name = format!("n{at}").into_bytes().into();
        names[place].1.push(DirEntry { name, kind, ino, attr: None });
        nodes.push((ino, new));
        if *is_dir {
            names.push((ino, vec![]));
            let parent = nodes.iter_mut().find(|(other, _)| *other == dir).unwrap();
            parent.1.nlink += 1;
        } else {
            chunks.push((
                ino,
                SliceRecord { pos: 0, id: ino.0, size: *length, off: 0, len: *length },
            ));
        }
    }
    let sum = |entries: &Vec<DirEntry>| {
        entries.iter().fold([0; 3], |sum: [i64; 3], entry| {
            let node = &nodes[entry.ino.0 as usize - 1].1;
            let length = if node.kind == FileType::File { node.length as i64 } else { 0 };
            [sum[0] + length, sum[1] + charged_bytes(node.kind, node.length), sum[2] + 1]
        })
    };
    let stats = names.iter().map(|(dir, entries)| (*dir, sum(entries))).collect();
    let last = made.len() as i64 + 1;
    let counters = vec![
        (Counter::UsedSpace, used),
        (Counter::TotalInodes, made.len() as i64),
        (Counter::NextInode, last),
        (Counter::NextChunk, last),
    ];
    Facts { nodes, names, stats, chunks, counters }
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let mut census = Census::new(shape());
    // Twice, as an engine may tell it.
    for _ in 0..2 {
        facts.nodes.iter().for_each(|(ino, attr)| census.row(Row::Node(*ino, attr.clone())));
    }
    for _ in 0..2 {
        facts.names.iter().for_each(|(dir, entries)| census.names(*dir, entries));
    }
    for _ in 0..2 {
        facts.stats.iter().for_each(|(dir, stats)| census.row(Row::DirStats(*dir, *stats)));
        for (ino, record) in &facts.chunks {
            census.row(Row::Chunk(*ino, 0, vec![*record]));
        }
    }
    census.judge(&facts.counters);
    let layout = shape().layout;
    for (_, record) in &facts.chunks {
        let blocks = layout.blocks(record.id, record.size);
        blocks.for_each(|block| census.object(block, u64::from(block.size)));
    }
    let short = census.short_slices();
    assert!(short.is_empty(), "all objects are there: {short:?}");
    census.finish().told
}

fn words(facts: &Facts) -> Vec<&'static str> {
    findings(facts).iter().map(Finding::word).collect()
}

proptest! {
    #[test]
    fn whole_volumes_have_no_findings(
        made in proptest::collection::vec((0usize..20, any::<bool>(), 1u32..300_000), 0..40),
    ) {
        prop_assert_eq!(findings(&whole(&made)), vec![]);
    }

    #[test]
    fn a_wrong_number_is_found_and_mended_by_the_difference(
        made in proptest::collection::vec((0usize..20, any::<bool>(), 1u32..300_000), 1..40),
        which in 0usize..4, by in 1i64..1000,
    ) {
        let mut facts = whole(&made);
        match which {
            0 => facts.counters[0].1 += by,
            1 => facts.stats[0].1[1] -= by,
            2 => facts.nodes[0].1.nlink += by as u32,
            _ => facts.counters[2].1 -= by.min(facts.counters[2].1),
        }
        let found = findings(&facts);
        prop_assert_eq!(found.len(), 1, "{:?}", found);
        prop_assert_eq!(found[0].weight(), Weight::Derived);
        let commit = mend(&found[0]).expect("it is derived");
        prop_assert_eq!(commit.mutations.len(), 1);
        let right = match &commit.mutations[0] {
            Mutation::Add(_, n) => *n == -by || which == 3,
            Mutation::AddDirStats(Ino::ROOT, 0, n, 0) => *n == by,
            Mutation::Set(Ino::ROOT, set) => set.nlink == Some(facts.nodes[0].1.nlink - by as u32),
            _ => false,
        };
        prop_assert!(right, "{:?}", commit);
    }
}

fn small() -> Facts {
    whole(&[(0, true, 1), (1, false, 100_000), (0, false, 5)])
}

#[test]
fn names_and_nodes_that_do_not_meet_are_found_and_never_guessed() {
    let mut facts = small();
    facts.nodes.remove(3);
    let found = words(&facts);
    assert!(found.contains(&"dangling-entry") && found.contains(&"stray-chunk"), "{found:?}");
    let mut facts = small();
    facts.names[1].1.clear();
    let found = findings(&facts);
    let orphan = Finding::Orphan { ino: Ino(3), kind: FileType::File };
    assert!(found.contains(&orphan), "{found:?}");
    assert_eq!(mend(&orphan), None);
    let mut facts = small();
    facts.nodes[2].1.parent = Ino(1);
    assert_eq!(words(&facts), ["parent"]);
    let mut facts = small();
    facts.nodes[2].1.nlink = 2;
    let found = findings(&facts);
    assert_eq!((found.len(), found[0].weight()), (1, Weight::Damage));
    assert_eq!(mend(&found[0]), None, "which names a file had cannot be told");
}

#[test]
fn directories_below_themselves_are_found() {
    let entry = |ino: u64| DirEntry {
        name: format!("d{ino}").into_bytes().into(),
        kind: FileType::Dir,
        ino: Ino(ino),
        attr: None,
    };
    // 1 / 2 / 3 / 4, and 5 in 1.
    let facts = whole(&[(0, true, 1), (1, true, 1), (2, true, 1), (0, true, 1)]);
    assert_eq!(findings(&facts), []);
    let mut torn = facts.clone();
    // 3 is moved below 4, by halves of two renames.
    torn.names[1].1.clear();
    torn.names[3].1.push(entry(3));
    torn.nodes[2].1.parent = Ino(4);
    let found = findings(&torn);
    assert!(found.contains(&Finding::Loop { ino: Ino(3), dirs: 2 }), "{found:?}");
    assert_eq!(found.iter().filter(|finding| finding.word() == "directory-loop").count(), 1);
    assert!(found.iter().all(|finding| finding.word() != "orphan-node"), "{found:?}");
    // The same where the node still calls its old parent its own.
    torn.nodes[2].1.parent = Ino(2);
    let found = findings(&torn);
    assert!(found.contains(&Finding::Loop { ino: Ino(3), dirs: 2 }), "{found:?}");
    let mut alone = facts.clone();
    alone.names[0].1.retain(|entry| entry.ino != Ino(5));
    alone.names[4].1.push(entry(5));
    alone.nodes[4].1.parent = Ino(5);
    assert!(findings(&alone).contains(&Finding::Loop { ino: Ino(5), dirs: 1 }));
    // A second name that leads back is no loop without a path, but no directory may have two.
    let mut twice = facts;
    twice.names[3].1.push(entry(2));
    let found = findings(&twice);
    assert!(found.contains(&Finding::DirNames { ino: Ino(2), names: 2 }), "{found:?}");
    assert!(found.iter().all(|finding| finding.word() != "directory-loop"), "{found:?}");
    assert_eq!(
        mend(&Finding::Loop { ino: Ino(3), dirs: 2 }),
        None,
        "where it belongs is not known"
    );
}

proptest! {
    #[test]
    fn a_loop_is_found_wherever_it_is(
        depth in 1usize..12, from in 0usize..12, made in 0usize..6,
    ) {
        // A chain of directories below the root, and others beside it.
        let mut entries: Vec<_> = (0..depth).map(|at| (at, true, 1)).collect();
        entries.extend((0..made).map(|at| (at, true, 1)));
        let mut facts = whole(&entries);
        let (first, last) = (2 + (from % depth) as u64, depth as u64 + 1);
        // The one called `first` gets below the last one of its own chain.
        let place = facts.names.iter().position(|(_, entries)| entries.iter().any(|e| e.ino.0 == first)).unwrap();
        let moved: Vec<_> = facts.names[place].1.extract_if(.., |entry| entry.ino.0 == first).collect();
        facts.names.iter_mut().find(|(dir, _)| dir.0 == last).unwrap().1.extend(moved);
        facts.nodes[first as usize - 1].1.parent = Ino(last);
        let told = Finding::Loop { ino: Ino(first), dirs: (last - first + 1) as usize };
        prop_assert!(findings(&facts).contains(&told));
    }
}

#[test]
fn rules_that_nodes_name_must_be_there() {
    let mut census = Census::new(shape());
    assert!(!census.uses_rules());
    let mut dir = attr(FileType::Dir, 1, 4096);
    (dir.access_acl, dir.default_acl) = (3, 4);
    let mut file = attr(FileType::File, 1, 0);
    file.access_acl = 4;
    for _ in 0..2 {
        census.row(Row::Node(Ino(2), dir.clone()));
        census.row(Row::Node(Ino(3), file.clone()));
    }
    assert!(census.uses_rules());
    census.rules(&[3, 9].into_iter().collect());
    let told = census.finish().told;
    assert_eq!(told, [Finding::MissingRule { id: 4, ino: Ino(2), users: 2 }]);
    assert_eq!((told[0].weight(), mend(&told[0])), (Weight::Damage, None));
}

#[test]
fn a_quota_counts_all_that_is_below_its_directory() {
    let [root, inner, file] = [Ino::ROOT, Ino(2), Ino(3)];
    let with = |dir: Ino, used_space, used_inodes| {
        let facts = small();
        let mut census = Census::new(shape());
        facts.nodes.iter().for_each(|(ino, attr)| census.row(Row::Node(*ino, attr.clone())));
        facts.names.iter().for_each(|(dir, entries)| census.names(*dir, entries));
        facts.stats.iter().for_each(|(dir, stats)| census.row(Row::DirStats(*dir, *stats)));
        let quota = Quota { used_space, used_inodes, ..Quota::default() };
        (0..2).for_each(|_| census.row(Row::Quota(Holder::Dir(dir), quota)));
        census.judge(&[]);
        let mut told = census.finish().told;
        told.retain(|finding| finding.word() == "quota-usage");
        told
    };
    // A directory, a file of 25 pages in it, a file of one page beside it.
    assert_eq!(with(root, 27 * 4096, 3), []);
    assert_eq!(with(inner, 25 * 4096, 1), []);
    assert_eq!(with(file, 7, 7), [], "only directories have quotas that hold");
    assert_eq!(with(Ino(99), 7, 7), []);
    let wrong = with(inner, 24 * 4096, 3);
    let (kept, counted) = ([24 * 4096, 3], [25 * 4096, 1]);
    let holder = Holder::Dir(inner);
    assert_eq!(wrong, [Finding::QuotaUsage { holder, kept, counted }]);
    assert_eq!(wrong[0].weight(), Weight::Derived);
    assert_eq!(mend(&wrong[0]).unwrap().mutations, [Mutation::AddQuota(holder, 4096, -2)]);
}

#[test]
fn a_quota_counts_what_its_user_or_group_owns() {
    let with = |owner_quotas, quotas: &[(Holder, [i64; 2])]| {
        let mut facts = small();
        facts.nodes[2].1.uid = 7;
        let mut census = Census::new(Shape { owner_quotas, ..shape() });
        for _ in 0..2 {
            facts.nodes.iter().for_each(|(ino, attr)| census.row(Row::Node(*ino, attr.clone())));
        }
        for (holder, [used_space, used_inodes]) in quotas {
            let (used_space, used_inodes) = (*used_space, *used_inodes);
            census.row(Row::Quota(*holder, Quota { used_space, used_inodes, ..Quota::default() }));
        }
        census.judge(&[]);
        let mut told = census.finish().told;
        told.retain(|finding| finding.word() == "quota-usage");
        told
    };
    let (root, user, group) = (Holder::User(0), Holder::User(7), Holder::Group(0));
    let right = [(root, [8192, 2]), (user, [25 * 4096, 1]), (group, [27 * 4096, 3])];
    assert_eq!(with(true, &right), []);
    assert_eq!(with(false, &[(root, [1, 1])]), [], "nobody counts there");
    let missing = with(true, &right[..2]);
    let counted = [27 * 4096, 3];
    assert_eq!(missing, [Finding::QuotaUsage { holder: group, kept: [0; 2], counted }]);
    let mended = [Mutation::AddQuota(group, 27 * 4096, 3)];
    assert_eq!(mend(&missing[0]).unwrap().mutations, mended);
    let left = [&right[..], &[(Holder::User(9), [4096, 1])]].concat();
    assert_eq!(with(true, &left).len(), 1, "nothing is left of what somebody owned");
}

#[test]
fn references_are_compared_with_records() {
    let with = |rows: Vec<Row>| {
        let facts = small();
        let mut census = Census::new(shape());
        facts.nodes.iter().for_each(|(ino, attr)| census.row(Row::Node(*ino, attr.clone())));
        facts.names.iter().for_each(|(dir, entries)| census.names(*dir, entries));
        facts.stats.iter().for_each(|(dir, stats)| census.row(Row::DirStats(*dir, *stats)));
        let lists = facts.chunks.iter().map(|(ino, record)| Row::Chunk(*ino, 0, vec![*record]));
        lists.chain(rows).for_each(|row| census.row(row));
        census.judge(&[]);
        census.finish().told
    };
    assert_eq!(with(vec![Row::SliceRef(3, 100_000, 1)]), []);
    let low = with(vec![Row::SliceRef(3, 100_000, 0)]);
    assert_eq!(low, [Finding::SliceRefs { id: 3, size: 100_000, kept: 0, counted: 1 }]);
    assert_eq!(low[0].weight(), Weight::Derived);
    assert_eq!(mend(&low[0]).unwrap().mutations, [Mutation::AddSliceRef(3, 100_000, 1)]);
    let high = with(vec![Row::SliceRef(3, 100_000, 7)]);
    assert_eq!(high[0].weight(), Weight::Leftover, "it only keeps its objects too long");
    assert_eq!(with(vec![Row::SliceRef(77, 5, 2)]), [Finding::StraySlice { id: 77, kept: 2 }]);
    assert_eq!(with(vec![Row::SliceRef(77, 5, 0)]), [], "somebody is about to remove it");
    let pos = 64 << 20;
    let record = SliceRecord { pos, id: 3, size: 100_000, off: 0, len: 1 };
    assert_eq!(with(vec![Row::Chunk(Ino(3), 9, vec![record])])[0].word(), "slice-record");
}

#[test]
fn objects_are_held_against_slices() {
    let facts = small();
    let mut census = Census::new(shape());
    facts.nodes.iter().for_each(|(ino, attr)| census.row(Row::Node(*ino, attr.clone())));
    let lists = facts.chunks.iter().map(|(ino, record)| Row::Chunk(*ino, 0, vec![*record]));
    lists.for_each(|row| census.row(row));
    let layout = shape().layout;
    census.object(layout.block(3, 100_000, 0), 65_536);
    census.object(layout.block(4, 5, 0), 4);
    census.object(layout.block(9, 5, 0), 5);
    assert_eq!(census.short_slices(), [(3, 100_000)]);
    assert_eq!(census.needed_slices(), [(3, 100_000), (4, 5)]);
    assert_eq!(census.unused(), Unused { objects: 1, len_bytes: 5 });
    census.users(&[(4, vec![Ino(4)])].into_iter().collect());
    let wanted = Finding::ObjectLength {
        name: "chunks/0/0/4_0_5".into(),
        found: 4,
        wanted: 5,
        users: vec![Ino(4)],
    };
    assert_eq!(census.finish().told, [wanted]);
}
