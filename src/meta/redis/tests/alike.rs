//! The same commits on Redis and on SQLite: the same outcomes, the same answers.

use std::rc::Rc;

use super::basics::join_all;
use super::server::*;
use crate::meta::engine::Engine;
use crate::meta::sqlite::SqliteFile;
use crate::meta::txn::{
    Commit, Counter, Expect, Flock, Key, LockOwner, Mutation, NodeField, Outcome, Patch, Plock,
    SetNode, Value,
};
use crate::stdx::Chance;
use crate::types::{Attr, CHUNK_BYTES, FileType, Ino, Name, SliceRecord, Time};
use crate::uring::block_on;

const INODES: u64 = 6;
const CHUNKS: u32 = 3;
const SESSIONS: u64 = 3;
const NAMES: [&str; 4] = ["a", "b", "\u{e9}", "long name"];

/// Makes commits that often hold and sometimes do not; knows what Redis holds.
struct Maker {
    chance: Chance,
    known: Rc<dyn Engine>,
    /// Slices in some list, with a reference counted.
    shared: Vec<SliceRecord>,
    last_slice: u64,
}

impl Maker {
    fn below(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }

    fn one_in(&mut self, end: u64) -> bool {
        self.below(end) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn ino(&mut self) -> Ino {
        let number = self.below(INODES + 1);
        if number == INODES { Ino(Ino::TRASH.0 + 1) } else { Ino(number + 1) }
    }

    fn name(&mut self) -> Name {
        name(self.of(&NAMES))
    }

    fn kind(&mut self) -> FileType {
        self.of(&[FileType::File, FileType::File, FileType::Dir, FileType::Symlink])
    }

    fn time(&mut self) -> Time {
        let sec = self.of(&[-1, 0, 100, 100, 101, 1 << 33, -(1 << 33)]);
        Time { sec, nsec: self.of(&[0, 1, 50_000_000, 999_999_999]) }
    }

    fn length(&mut self) -> u64 {
        let base = self.of(&[0, 4096, 5000, CHUNK_BYTES, 2 * CHUNK_BYTES, 1 << 55, (1 << 32) - 1]);
        base + self.below(3)
    }

    fn attr(&mut self) -> Attr {
        Attr {
            flags: self.below(4) as u8,
            kind: self.kind(),
            mode: self.below(0o10000) as u16,
            uid: self.of(&[0, 1, u32::MAX]),
            gid: self.below(3) as u32,
            atime: self.time(),
            mtime: self.time(),
            ctime: self.time(),
            nlink: self.of(&[0, 1, 2, u32::MAX]),
            length: self.length(),
            rdev: self.below(2) as u32,
            // Never none: who names it then is told by changes that are not made here.
            parent: self.ino(),
            access_acl: self.of(&[0, 0, 7]),
            default_acl: self.of(&[0, 0, 8]),
            tier: self.of(&[0, 0, 2]),
        }
    }

    fn owner(&mut self) -> LockOwner {
        LockOwner { sid: self.below(SESSIONS) + 1, owner: self.of(&[0, 1, u64::MAX >> 1]) }
    }

    fn option<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.one_in(2)).then(|| make(self))
    }

    async fn now(&self, key: Key) -> Value {
        self.known.fetch(&[key]).await.unwrap().swap_remove(0)
    }

    /// A new slice, or a hole.
    fn slices(&mut self) -> Vec<SliceRecord> {
        let count = self.below(3) + 1;
        let mut records = Vec::new();
        for _ in 0..count {
            self.last_slice += 1;
            let id = if self.one_in(3) { 0 } else { self.last_slice };
            let pos = self.below(1000) as u32;
            records.push(SliceRecord { pos, id, size: 50, off: 0, len: 50 });
        }
        self.shared.extend(records.iter().filter(|record| record.id > 0));
        records
    }

    async fn fields(&mut self, ino: Ino) -> Vec<NodeField> {
        let seen = match self.now(Key::Node(ino)).await {
            Value::Node(Some(attr)) if !self.one_in(4) => attr,
            _ => self.attr(),
        };
        let all = [
            NodeField::Flags(seen.flags),
            NodeField::Mode(seen.kind, seen.mode),
            NodeField::Uid(seen.uid),
            NodeField::Gid(seen.gid),
            NodeField::Nlink(seen.nlink),
            NodeField::Length(seen.length),
            NodeField::Parent(seen.parent),
            NodeField::Acl(seen.access_acl, seen.default_acl),
            NodeField::Tier(seen.tier),
        ];
        all.into_iter().filter(|_| self.one_in(2)).collect()
    }

    async fn expect(&mut self) -> Expect {
        let (ino, text) = (self.ino(), self.name());
        match self.below(9) {
            0 => Expect::EntryAbsent(ino, text),
            1 => match self.now(Key::Entry(ino, text.clone())).await {
                Value::Entry(Some((kind, child))) => Expect::EntryIs(ino, text, kind, child),
                _ => Expect::EntryIs(ino, text, FileType::File, Ino(2)),
            },
            2 => Expect::Node(ino, self.kind()),
            3 => Expect::NodeFields(ino, self.fields(ino).await),
            4 => Expect::DirEmpty(ino),
            5 => {
                let index = self.below(u64::from(CHUNKS)) as u32;
                let Value::Chunk(mut seen) = self.now(Key::Chunk(ino, index)).await else {
                    panic!()
                };
                seen.truncate(self.below(4) as usize);
                if self.one_in(4) {
                    seen.push(SliceRecord { pos: 1, id: 2, size: 3, off: 4, len: 5 });
                }
                Expect::ChunkPrefix(ino, index, seen)
            }
            6 => {
                let found = self.now(Key::Xattr(ino, text.clone())).await;
                let Value::Xattr(seen) = found else { panic!() };
                Expect::XattrIs(ino, text, if self.one_in(4) { Some([9].into()) } else { seen })
            }
            7 => self.locks(ino).await,
            _ => {
                let used = self.now(Key::Counter(Counter::UsedSpace)).await;
                let Value::Counter(used) = used else { panic!() };
                let capacity = used.max(0) as u64 + self.below(3);
                let inode_limit = self.below(10);
                let (space, inodes) = (self.of(&[-1, 0, 1, 2]), self.of(&[-1, 0, 1, 2]));
                Expect::Room { space, inodes, capacity, inode_limit }
            }
        }
    }

    async fn locks(&mut self, ino: Ino) -> Expect {
        if self.one_in(2) {
            let Value::Flocks(mut seen) = self.now(Key::Flocks(ino)).await else { panic!() };
            if self.one_in(4) {
                let exclusive = self.one_in(2);
                seen = vec![Flock { owner: self.owner(), exclusive }];
            }
            return Expect::FlocksAre(ino, seen);
        }
        let Value::Plocks(mut seen) = self.now(Key::Plocks(ino)).await else { panic!() };
        if self.one_in(4) {
            seen = vec![Plock { owner: self.owner(), records: [1; 24].into() }];
        }
        Expect::PlocksAre(ino, seen)
    }

    fn patch(&mut self) -> Patch {
        Patch {
            nlink: self.of(&[0, 0, 0, 1, -1, i32::MIN]),
            mtime: self.option(Self::time),
            ctime: self.option(Self::time),
            atime: self.option(Self::time),
            length_at_least: self.option(Self::length),
            skip_if_younger_ns: self.of(&[0, 1, 100_000_000, 1_000_000_001, u64::MAX]),
        }
    }

    fn set(&mut self) -> SetNode {
        let attr = self.attr();
        SetNode {
            flags: self.option(|_| attr.flags),
            mode: self.option(|_| attr.mode),
            uid: self.option(|_| attr.uid),
            gid: self.option(|_| attr.gid),
            length: self.option(|_| attr.length),
            parent: self.option(|_| attr.parent),
            nlink: self.option(|_| attr.nlink),
            atime: self.option(|_| attr.atime),
            mtime: self.option(|_| attr.mtime),
            ctime: self.option(|_| attr.ctime),
            acl: self.option(|_| (attr.access_acl, attr.default_acl)),
        }
    }

    async fn mutation(&mut self) -> Mutation {
        let (ino, text) = (self.ino(), self.name());
        match self.below(26) {
            0 | 1 => Mutation::PutNode(ino, self.attr()),
            2 => Mutation::DelNode(ino),
            3..=6 => Mutation::Patch(ino, self.patch()),
            7 | 8 => Mutation::Set(ino, self.set()),
            9 | 10 => Mutation::PutEntry(ino, text, self.kind(), self.ino()),
            11 => Mutation::DelEntry(ino, text),
            12 => Mutation::PutSymlink(ino, text),
            13 => Mutation::DelSymlink(ino),
            14..=17 => self.slice_mutation(ino).await,
            18 => Mutation::Add(
                self.of(&[Counter::UsedSpace, Counter::TotalInodes]),
                self.below(9) as i64 - 3,
            ),
            19 => Mutation::PutXattr(ino, text, vec![self.below(3) as u8; 3].into()),
            20 => match self.below(4) {
                0 => Mutation::DelXattrs(ino),
                _ => Mutation::DelXattr(ino, text),
            },
            // A file is queued once in its life.
            21 => match self.below(2) {
                0 => Mutation::QueueFile(ino, ino.0 / 2, self.below(100) as i64),
                _ => Mutation::UnqueueFile(ino, ino.0 / 2),
            },
            22 => match self.below(2) {
                0 => Mutation::PutSustained(self.below(SESSIONS) + 1, ino),
                _ => Mutation::DelSustained(self.below(SESSIONS) + 1, ino),
            },
            23 => match self.below(4) {
                0 => Mutation::DelDirStats(ino),
                1 => Mutation::InitDirStats(ino),
                _ => Mutation::AddDirStats(ino, -5, i64::MAX >> 8, 1),
            },
            24 => {
                let owner = self.owner();
                Mutation::SetFlock(ino, owner, self.option(|maker| maker.one_in(2)))
            }
            _ => {
                let owner = self.owner();
                Mutation::SetPlock(
                    ino,
                    owner,
                    self.option(|maker| [maker.below(3) as u8; 24].into()),
                )
            }
        }
    }

    async fn slice_mutation(&mut self, ino: Ino) -> Mutation {
        let index = self.below(u64::from(CHUNKS)) as u32;
        let hole = SliceRecord { pos: 7, id: 0, size: 0, off: 0, len: 9 };
        let known = self.shared.last().copied();
        match (self.below(6), known) {
            (0, _) => Mutation::PushHolesIfListed(ino, index, vec![hole, hole]),
            (1, Some(record)) => Mutation::ShareSlices(ino, index, vec![record, hole]),
            (2, Some(record)) => {
                Mutation::AddSliceRef(record.id, record.size, self.of(&[-2, -1, 1]))
            }
            (3, _) => {
                let Value::Chunk(seen) = self.now(Key::Chunk(ino, index)).await else { panic!() };
                let count = self.below(seen.len() as u64 + 1) as u32;
                Mutation::ReplacePrefix(ino, index, count, vec![hole; 2])
            }
            (4, _) if self.one_in(2) => Mutation::DelChunk(ino, index),
            _ => Mutation::PushSlices(ino, index, self.slices()),
        }
    }

    async fn commit(&mut self) -> Commit {
        let mut commit = Commit::default();
        for _ in 0..self.below(3) {
            commit.expects.push(self.expect().await);
        }
        let before = (self.shared.len(), self.last_slice);
        for _ in 0..self.below(5) {
            commit.mutations.push(self.mutation().await);
        }
        if !commit.expects.is_empty() {
            // Whether these slices come to be is not known: they are not referred to later.
            self.shared.truncate(before.0);
        }
        for _ in 0..self.below(3) {
            commit.returns.push(self.ino());
        }
        commit
    }
}

fn all_keys(slices: &[SliceRecord]) -> Vec<Key> {
    let mut keys = vec![Key::Counter(Counter::UsedSpace), Key::Counter(Counter::TotalInodes)];
    keys.extend(slices.iter().map(|record| Key::SliceRef(record.id, record.size)));
    for ino in (1..=INODES).map(Ino).chain([Ino(Ino::TRASH.0 + 1)]) {
        keys.extend([
            Key::Node(ino),
            Key::DirLen(ino),
            Key::Symlink(ino),
            Key::XattrNames(ino),
            Key::Flocks(ino),
            Key::Plocks(ino),
        ]);
        keys.extend((0..CHUNKS).map(|index| Key::Chunk(ino, index)));
        for text in NAMES.map(name) {
            keys.extend([
                Key::Entry(ino, text.clone()),
                Key::EntryNode(ino, text.clone()),
                Key::Xattr(ino, text),
            ]);
        }
    }
    keys
}

/// Statistics of directories, which no key of the language asks for.
fn statistics(path: &std::path::Path, line: &mut Line) {
    let base = rusqlite::Connection::open(path).unwrap();
    for ino in (1..=INODES).chain([Ino::TRASH.0 + 1]) {
        let sql = "SELECT data_length || ' ' || used_space || ' ' || used_inodes FROM jfs_dir_stats WHERE inode = ?";
        let here = base.query_row(sql, [ino as i64], |row| row.get::<_, String>(0)).ok();
        let there = ["dirDataLength", "dirUsedSpace", "dirUsedInodes"]
            .map(|hash| line.text(&format!("HGET {hash} {ino}")))
            .join(" ");
        assert_eq!(here.unwrap_or("Nil Nil Nil".into()).to_lowercase(), there.to_lowercase());
    }
}

async fn compare(sqlite: &dyn Engine, redis: &dyn Engine, slices: &[SliceRecord], at: &str) {
    let keys = all_keys(slices);
    let (here, there) = (sqlite.fetch(&keys).await.unwrap(), redis.fetch(&keys).await.unwrap());
    for ((key, here), there) in keys.iter().zip(&here).zip(&there) {
        assert_eq!(here, there, "{at}: {key:?} on SQLite and on Redis");
    }
    for ino in (1..=INODES).map(Ino) {
        let mut lists =
            [sqlite.list(ino, true).await.unwrap(), redis.list(ino, true).await.unwrap()];
        lists.iter_mut().for_each(|list| list.sort_by(|one, other| one.name.cmp(&other.name)));
        assert_eq!(lists[0], lists[1], "{at}: the list of {ino}");
    }
}

fn run(seed: u64) {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let (sqlite, redis) = (SqliteFile::open(&path, true).unwrap().engine(), server.engine());
    let chance = Chance::seeded(seed);
    let mut maker = Maker { chance, known: Rc::clone(&redis), shared: vec![], last_slice: 0 };
    let (mut applied, mut conflicts) = (0, 0);
    block_on(async {
        for engine in [&sqlite, &redis] {
            engine.store_setting("{}".into(), vec![(Ino::ROOT, dir())]).await.unwrap();
        }
        for round in 0..150 {
            let mut commits = Vec::new();
            for _ in 0..maker.below(5) + 1 {
                commits.push(maker.commit().await);
            }
            let at = format!("seed {seed}, round {round}, {commits:#?}");
            let here = join_all(commits.iter().map(|one| sqlite.commit(one.clone())).collect());
            let here: Vec<_> = here.await.into_iter().map(Result::unwrap).collect();
            let there = join_all(commits.iter().map(|one| redis.commit(one.clone())).collect());
            let there: Vec<_> = there.await.into_iter().map(Result::unwrap).collect();
            assert_eq!(here, there, "{at}");
            let fine = here.iter().filter(|one| matches!(one, Outcome::Applied(_))).count();
            (applied, conflicts) = (applied + fine, conflicts + here.len() - fine);
            compare(&*sqlite, &*redis, &maker.shared, &at).await;
        }
        let queued = [sqlite.queued_files(60, 99), redis.queued_files(60, 99)];
        let mut queued = join_all(queued.into()).await.into_iter().map(Result::unwrap);
        let (mut here, mut there) = (queued.next().unwrap(), queued.next().unwrap());
        here.sort_unstable();
        there.sort_unstable();
        assert_eq!(here, there);
        for sid in 1..=SESSIONS {
            let mut here = sqlite.end_session(sid).await.unwrap();
            let mut there = redis.end_session(sid).await.unwrap();
            here.sort_unstable();
            there.sort_unstable();
            assert_eq!(here, there, "seed {seed}: inodes kept by session {sid}");
        }
        compare(&*sqlite, &*redis, &maker.shared, "after the sessions").await;
    });
    statistics(&path, &mut server.line());
    assert!(applied > 150 && conflicts > 50, "{applied} applied, {conflicts} in conflict");
}

#[test]
fn commits_mean_the_same_on_both_engines() {
    (1..=4).for_each(run);
}

/// A file grows: each directory that names it counts it, once for each of its names there.
#[test]
fn directories_count_what_their_files_grow() {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let (sqlite, redis) = (SqliteFile::open(&path, true).unwrap().engine(), server.engine());
    let (file, one, two) = (Ino(5), Ino(2), Ino(3));
    let link = |dir, text| {
        let entry = Mutation::PutEntry(dir, name(text), FileType::File, file);
        [entry, Mutation::AddParent(file, dir, 1)]
    };
    let node = |nlink, parent| Attr { kind: FileType::File, nlink, parent, length: 0, ..dir() };
    let grow = |length| Patch { length_at_least: Some(length), ..Patch::default() };
    let long = (1 << 40) + 5000;
    let steps = [
        vec![Mutation::InitDirStats(one), Mutation::InitDirStats(two)],
        vec![Mutation::PutNode(file, node(1, one)), Mutation::Patch(file, grow(1))],
        [link(one, "a"), link(one, "b"), link(two, "c"), link(two, "d")].concat(),
        vec![Mutation::DelEntry(two, name("d")), Mutation::AddParent(file, two, -1)],
        vec![Mutation::PutNode(file, node(3, Ino(0))), Mutation::Patch(file, grow(long))],
        vec![Mutation::CountGrowth(file, -5000, -4096)],
        vec![Mutation::PutNode(file, node(0, one)), Mutation::Patch(file, grow(9_000_000))],
        vec![Mutation::CountGrowth(file, 1, 4096), Mutation::CountGrowth(Ino(7), 1, 4096)],
    ];
    block_on(async {
        for engine in [&sqlite, &redis] {
            engine.store_setting("{}".into(), vec![(Ino::ROOT, dir())]).await.unwrap();
            for mutations in steps.clone() {
                let commit = Commit { mutations, ..Commit::default() };
                engine.commit(commit).await.unwrap();
            }
        }
    });
    let mut line = server.line();
    statistics(&path, &mut line);
    let counted = [one, two].map(|dir| {
        ["dirDataLength", "dirUsedSpace"].map(|hash| line.text(&format!("HGET {hash} {dir}")))
    });
    let once = 1i64 << 40;
    let wanted = [[2 * once + 1, 2 * once], [once, once]];
    assert_eq!(counted, wanted.map(|sums| sums.map(|sum| sum.to_string())));
}
