//! Each of the first 200 batches is hurt at each of its points: what was acknowledged is there,
//! and nothing is there twice.
//!
//! A life of a fixed seed is lived on Redis behind a fault proxy, and on a twin in memory. After
//! every step the answers are the same and so is the volume, which is also counted again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::basics::join_all;
use super::proxy::{Fault, FaultProxy};
use super::server::{Line, TestServer};
use crate::meta::client::{Meta, MetaShared};
use crate::meta::engine::Engine;
use crate::meta::mem::MemBase;
use crate::meta::plan::create::NewNode;
use crate::meta::plan::rename::{EXCHANGE, NO_REPLACE};
use crate::meta::plan::{Rules, Who};
use crate::meta::slices::{NewSlices, Slices};
use crate::meta::txn::{Key, Value};
use crate::stdx::Chance;
use crate::types::{Attr, FileType, Ino, Name, SliceRecord, Time, charged_bytes};
use crate::uring::block_on;

const BATCHES: usize = 200;
const SEED: u64 = 20;
const ROOT: Who = Who { uid: 0, gid: 0 };
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"d", b"e", b"f", b"g"];
const CHUNKS: u32 = 2;

/// A name that is there: directory, name, type, inode.
type Named = (Ino, Name, FileType, Ino);

#[derive(Clone, Debug)]
enum Step {
    Create(Ino, Name, FileType),
    Link(Ino, Ino, Name),
    Rename(Ino, Name, Ino, Name, u32),
    Unlink(Ino, Name),
    Rmdir(Ino, Name),
    Write(Ino, u32, u32),
    Truncate(Ino, u64),
    Xattr(Ino, u8),
}

fn meta(engine: Rc<dyn Engine>) -> Rc<Meta> {
    let root = Attr::new(FileType::Dir, 0o777, Time::default());
    block_on(engine.store_setting("{}".into(), vec![(Ino::ROOT, root)])).unwrap();
    Meta::new(engine, MetaShared::new(Ino::ROOT, false, 0, Rules::default()))
}

/// Do it; what the caller hears, without times.
async fn done(meta: &Meta, step: Step) -> String {
    let heard = match step {
        Step::Create(dir, name, kind) => {
            let target = (kind == FileType::Symlink).then(|| name.clone());
            let new = NewNode { kind, mode: 0o755, umask: 0, rdev: 0, target };
            meta.create(dir, &name, &new, ROOT).await.map(|made| made.ino.to_string())
        }
        Step::Link(ino, dir, name) => {
            meta.link(ino, dir, &name).await.map(|attr| attr.nlink.to_string())
        }
        Step::Rename(from, name, to, new, flags) => {
            let (from, to) = ((from, &name[..]), (to, &new[..]));
            let moved = meta.rename(from, to, flags, ROOT, &|_| false).await;
            moved.map(|moved| format!("{} {:?}", moved.ino, moved.other))
        }
        Step::Unlink(dir, name) => {
            let gone = meta.unlink(dir, &name, ROOT, &|_| false).await;
            gone.map(|(gone, _)| format!("{} {}", gone.ino, gone.delete_data))
        }
        Step::Rmdir(dir, name) => {
            meta.rmdir(dir, &name, ROOT).await.map(|(ino, _)| ino.to_string())
        }
        Step::Write(ino, chunk, pos) => {
            let id = meta.next_slice_id().await.unwrap();
            let record = SliceRecord { pos, id, size: 5000, off: 0, len: 5000 };
            let slices = NewSlices { ino, chunk, records: vec![record], mtime: Time::default() };
            meta.push(slices).await.map(|attr| attr.length.to_string())
        }
        Step::Truncate(ino, length) => {
            meta.truncate(ino, length).await.map(|attr| attr.length.to_string())
        }
        Step::Xattr(ino, byte) => {
            meta.setxattr(ino, b"user.x", &[byte; 3], 0).await.map(|()| "set".into())
        }
    };
    heard.unwrap_or_else(|error| format!("error: {error}"))
}

/// All names below the root.
async fn names(meta: &Meta) -> Vec<Named> {
    let (mut found, mut dirs) = (Vec::new(), vec![Ino::ROOT]);
    while let Some(dir) = dirs.pop() {
        let mut entries = meta.list(dir, false).await.unwrap();
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            if entry.kind == FileType::Dir {
                dirs.push(entry.ino);
            }
            found.push((dir, entry.name, entry.kind, entry.ino));
        }
    }
    found
}

struct Life {
    chance: Chance,
    twin: Rc<Meta>,
    redis: Rc<Meta>,
    line: Line,
}

impl Life {
    fn one_in(&mut self, n: u64) -> bool {
        self.chance.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.chance.below(from.len() as u64) as usize].clone()
    }

    /// Steps that are taken at once, none of which minds the others.
    async fn steps(&mut self) -> Vec<Step> {
        let named = names(&self.twin).await;
        let is = |wanted: FileType| {
            let of = named.iter().filter(move |(_, _, kind, _)| *kind == wanted);
            of.cloned().collect::<Vec<_>>()
        };
        let (files, subdirs) = (is(FileType::File), is(FileType::Dir));
        let dirs: Vec<_> = std::iter::once(Ino::ROOT).chain(subdirs.iter().map(|d| d.3)).collect();
        let (dir, name) = (self.pick(&dirs), Name::from(self.pick(&NAMES)));
        let many = self.one_in(4);
        match self.chance.below(12) {
            0..=3 if many => {
                let made = NAMES.map(|name| Step::Create(dir, name.into(), FileType::File));
                made.into()
            }
            0 | 1 => vec![Step::Create(dir, name, FileType::File)],
            2 if dirs.len() < 6 => vec![Step::Create(dir, name, FileType::Dir)],
            3 => vec![Step::Create(dir, name, FileType::Symlink)],
            4 if !files.is_empty() => vec![Step::Link(self.pick(&files).3, dir, name)],
            5 | 6 if !named.is_empty() => {
                let (from, old, ..) = self.pick(&named);
                vec![Step::Rename(from, old, dir, name, self.pick(&[0, 0, NO_REPLACE, EXCHANGE]))]
            }
            7 if !named.is_empty() => {
                let (from, old, ..) = self.pick(&named);
                vec![Step::Unlink(from, old)]
            }
            8 if !subdirs.is_empty() => {
                let (from, old, ..) = self.pick(&subdirs);
                vec![Step::Rmdir(from, old)]
            }
            9 if !files.is_empty() => {
                vec![Step::Truncate(self.pick(&files).3, self.chance.below(100_000_000))]
            }
            10 if !files.is_empty() => vec![Step::Xattr(self.pick(&files).3, name[0])],
            _ if !files.is_empty() => {
                let mut written: Vec<_> = files.iter().map(|file| file.3).collect();
                written.sort_unstable();
                written.dedup();
                written.truncate(if many { 5 } else { 1 });
                let (chunk, pos) = (self.chance.below(2) as u32, self.chance.below(1 << 20) as u32);
                written.into_iter().map(|ino| Step::Write(ino, chunk, pos)).collect()
            }
            _ => vec![Step::Create(dir, name, FileType::File)],
        }
    }

    async fn step(&mut self) -> String {
        let steps = self.steps().await;
        let mut heard = Vec::new();
        for meta in [&self.twin, &self.redis] {
            heard.push(join_all(steps.iter().map(|step| done(meta, step.clone())).collect()).await);
        }
        assert_eq!(heard[0], heard[1], "what the callers of {steps:?} hear");
        format!("{steps:?}")
    }

    /// The volumes are the same but for times, and add up.
    async fn compare(&mut self, when: &str) {
        let named = names(&self.twin).await;
        assert_eq!(named, names(&self.redis).await, "{when}");
        let mut nodes = BTreeMap::from([(Ino::ROOT, Vec::new())]);
        named.iter().for_each(|(dir, _, _, ino)| nodes.entry(*ino).or_default().push(*dir));
        let (mut space, mut inodes, mut attrs) = (0, 0, BTreeMap::new());
        for (ino, dirs) in &nodes {
            let attr = self.same_node(*ino, when).await;
            if attr.kind != FileType::Dir {
                assert_eq!(attr.nlink as usize, dirs.len(), "links of {ino}, {when}");
            }
            if *ino != Ino::ROOT {
                space += charged_bytes(attr.kind, attr.length);
                inodes += 1;
            }
            attrs.insert(*ino, attr);
        }
        let usage = self.redis.usage().await.unwrap();
        assert_eq!((usage.space as i64, usage.inodes as i64), (space, inodes), "{when}");
        for dir in attrs.iter().filter(|(_, attr)| attr.kind == FileType::Dir).map(|(ino, _)| ino) {
            self.add_up(*dir, &named, &attrs, when);
        }
    }

    async fn same_node(&self, ino: Ino, when: &str) -> Attr {
        let mut keys =
            vec![Key::Node(ino), Key::Parents(ino), Key::Xattr(ino, b"user.x"[..].into())];
        keys.extend([Key::Symlink(ino), Key::DirLen(ino)]);
        keys.extend((0..CHUNKS).map(|chunk| Key::Chunk(ino, chunk)));
        let mut slices = Vec::new();
        let mut all = Vec::new();
        for meta in [&self.twin, &self.redis] {
            let mut values = meta.engine().fetch(&keys).await.unwrap();
            let Value::Node(Some(attr)) = &mut values[0] else { panic!("{ino} is gone, {when}") };
            (attr.atime, attr.mtime, attr.ctime) = Default::default();
            for value in &values {
                if let Value::Chunk(records) = value {
                    slices.extend(records.iter().filter(|record| record.id > 0).map(|r| r.id));
                }
            }
            let counts: Vec<_> = slices.iter().map(|id| Key::SliceRef(*id, 5000)).collect();
            values.extend(meta.engine().fetch(&counts).await.unwrap());
            all.push(values);
        }
        assert_eq!(all[0][..keys.len()], all[1][..keys.len()], "{ino}, {when}");
        let counts = all.iter().flat_map(|values| &values[keys.len()..]);
        for count in counts {
            assert_eq!(*count, Value::SliceRef(1), "references of slices of {ino}, {when}");
        }
        match all.swap_remove(0).swap_remove(0) {
            Value::Node(Some(attr)) => attr,
            other => panic!("{other:?}"),
        }
    }

    /// Statistics of a directory are what is in it.
    fn add_up(&mut self, dir: Ino, named: &[Named], attrs: &BTreeMap<Ino, Attr>, when: &str) {
        let told = ["dirDataLength", "dirUsedSpace", "dirUsedInodes"]
            .map(|hash| self.line.text(&format!("HGET {hash} {dir}")));
        if told[2] == "nil" {
            return;
        }
        let mut sums = [0i64; 3];
        for (_, _, kind, ino) in named.iter().filter(|(at, ..)| *at == dir) {
            let length = attrs[ino].length;
            sums[0] += if *kind == FileType::File { length as i64 } else { 0 };
            sums[1] += charged_bytes(*kind, length);
            sums[2] += 1;
        }
        assert_eq!(told, sums.map(|sum| sum.to_string()), "statistics of {dir}, {when}");
    }
}

/// Live until so many batches were hurt; how many came too late.
fn live(fault: Fault) -> usize {
    let server = TestServer::start(&[]);
    let proxy = FaultProxy::start(&server, fault);
    let mut life = Life {
        chance: Chance::seeded(SEED),
        twin: meta(MemBase::new().engine()),
        redis: meta(proxy.server().engine()),
        line: server.line(),
    };
    block_on(async {
        let mut steps = 0;
        while proxy.hurt() < BATCHES {
            let step = life.step().await;
            let when = format!("{fault:?}, after batch {}: {step}", proxy.hurt());
            life.compare(&when).await;
            steps += 1;
            assert!(steps < 3 * BATCHES, "a dull life");
        }
    });
    proxy.stale()
}

#[test]
fn requests_cut_anywhere_are_applied_once() {
    [0, 1, 8, 15].map(Fault::CutRequest).into_iter().for_each(|fault| assert_eq!(live(fault), 0));
}

#[test]
fn replies_cut_anywhere_are_given_again() {
    [0, 1, 8, 15].map(Fault::CutReply).into_iter().for_each(|fault| assert_eq!(live(fault), 0));
    live(Fault::HalfClose);
}

#[test]
fn requests_and_replies_that_come_twice_count_once() {
    live(Fault::DuplicateRequest);
    live(Fault::DuplicateReply);
}

#[test]
fn requests_that_come_late_change_nothing() {
    assert_eq!(live(Fault::Late(1)), 0, "the one before is the last one");
    assert!(live(Fault::Late(2)) >= BATCHES - 2, "later ones are known");
}

#[test]
fn slow_ways_are_waited_for() {
    live(Fault::Delay(Duration::from_millis(3)));
    live(Fault::Rate(40));
}
