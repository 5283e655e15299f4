//! Two engines live the same random life and never tell them apart.
//!
//! Owns the making of commits: what they expect is mostly true, for it is read from the first
//! engine, and what they change stays inside a small world, so that changes meet. Does what plans
//! do where engines rely on it: names of a hard-linked inode move together with its parents, a
//! slice that is shared has been pushed.

use std::collections::BTreeMap;

use super::{dir, file, get, name, node};
use crate::meta::engine::{Engine, Session};
use crate::meta::txn::{
    Commit, Counter, Delayed, Expect, Flock, Holder, Key, LockOwner, Mutation, NodeField, Outcome,
    Patch, Plock, Quota, SetNode, Value,
};
use crate::stdx::Chance;
use crate::types::{Attr, FileType, Ino, Name, SliceId, SliceRecord, Time};

const DIRS: [Ino; 3] = [Ino::ROOT, Ino(600), Ino(601)];
const NODES: [Ino; 6] = [Ino(600), Ino(601), Ino(610), Ino(611), Ino(612), Ino(613)];
const HOLDERS: [Holder; 5] = [
    Holder::Dir(Ino::ROOT),
    Holder::Dir(Ino(600)),
    Holder::Dir(Ino(601)),
    Holder::User(0),
    Holder::Group(u32::MAX),
];
/// Inodes that only ever have names as hard links do.
const LINKED: [Ino; 2] = [Ino(620), Ino(621)];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const LINK_NAMES: [&str; 2] = ["l", "m"];
const CHUNKS: u32 = 3;
const COMMITS: usize = 600;
/// The size of every slice.
const SIZE: u32 = 1 << 20;

/// Apply the random commits of `seed` to both engines, just formatted; all answers are equal.
pub(in crate::meta) async fn agrees(a: &dyn Engine, b: &dyn Engine, seed: u64) {
    let mut life = Life { chance: Chance::seeded(seed), last_slice: 0, refs: BTreeMap::new() };
    let mut applied = 0;
    for number in 0..COMMITS {
        let commit = life.commit(a).await;
        let outcome = a.commit(commit.clone()).await.unwrap();
        let other = b.commit(commit.clone()).await.unwrap();
        assert_eq!(outcome, other, "seed {seed}, commit {number}: {commit:?}");
        if let Outcome::Applied(_) = outcome {
            life.count_refs(&commit);
            applied += 1;
        }
        if number % 5 == 0 {
            life.beside_commits(a, b).await;
        }
        if number % 25 == 0 || number + 1 == COMMITS {
            life.same(a, b, &format!("seed {seed}, after commit {number}: {commit:?}")).await;
        }
    }
    assert!((COMMITS / 3..COMMITS * 9 / 10).contains(&applied), "seed {seed} is a dull life");
}

struct Life {
    chance: Chance,
    last_slice: SliceId,
    /// The true count of references of every slice pushed and not forgotten.
    refs: BTreeMap<SliceId, i64>,
}

impl Life {
    fn one_in(&mut self, n: u64) -> bool {
        self.chance.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.chance.below(from.len() as u64) as usize]
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(3).then(|| make(self))
    }

    fn time(&mut self) -> Time {
        Time { sec: self.chance.below(4) as i64, nsec: self.chance.below(1_000_000_000) as u32 }
    }

    fn length(&mut self) -> u64 {
        let bits = self.pick(&[0, 3, 12, 13, 16, 33, 45]);
        self.chance.below(1 << bits)
    }

    fn bytes(&mut self) -> Box<[u8]> {
        let len = self.chance.below(4);
        (0..len).map(|_| self.chance.below(256) as u8).collect()
    }

    fn attr(&mut self) -> Attr {
        let kinds = [FileType::File, FileType::File, FileType::Dir, FileType::Symlink];
        Attr {
            flags: self.pick(&[0, 1, 32]),
            kind: self.pick(&kinds),
            mode: self.chance.below(0o10000) as u16,
            uid: self.chance.below(1 << 32) as u32,
            gid: self.chance.below(3) as u32,
            atime: self.time(),
            mtime: self.time(),
            ctime: self.time(),
            nlink: self.chance.below(5) as u32,
            length: self.length(),
            rdev: self.chance.below(1 << 32) as u32,
            parent: self.pick(&[Ino(0), Ino::ROOT, Ino(600), Ino(Ino::TRASH.0 + 1)]),
            access_acl: self.pick(&[0, 0, 5]),
            default_acl: self.pick(&[0, 0, 6]),
            tier: self.pick(&[0, 0, 2]),
        }
    }

    fn slice(&mut self) -> SliceRecord {
        self.last_slice += 1;
        let off = self.chance.below(u64::from(SIZE)) as u32;
        let pos = self.chance.below(1 << 26) as u32;
        SliceRecord { pos, id: self.last_slice, size: SIZE, off, len: SIZE - off }
    }

    fn owner(&mut self) -> LockOwner {
        LockOwner { sid: 1 + self.chance.below(3), owner: self.pick(&[0, 7, u64::MAX]) }
    }

    /// A commit of several small changes, each of another sort.
    async fn commit(&mut self, engine: &dyn Engine) -> Commit {
        let mut commit = Commit::default();
        for sort in 0..10 {
            if !self.one_in(4) {
                continue;
            }
            match sort {
                0 | 1 => self.names(engine, &mut commit).await,
                2 => self.whole_nodes(&mut commit),
                3 => self.patches(&mut commit),
                4 => self.guarded(engine, &mut commit).await,
                5 => self.contents(engine, &mut commit).await,
                6 => self.attributes(engine, &mut commit).await,
                7 => self.locks(engine, &mut commit).await,
                8 => self.links(engine, &mut commit).await,
                _ => self.sums(engine, &mut commit).await,
            }
        }
        for _ in 0..self.chance.below(3) {
            commit.returns.push(self.pick(&NODES));
        }
        commit
    }

    async fn names(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (dir, text) = (self.pick(&DIRS), name(self.pick(&NAMES)));
        let Value::Entry(found) = get(engine, Key::Entry(dir, text.clone())).await else {
            panic!("an entry was asked for")
        };
        let seen = if self.one_in(8) { Some((FileType::File, self.pick(&NODES))) } else { found };
        commit.expects.push(match seen {
            Some((kind, ino)) => Expect::EntryIs(dir, text.clone(), kind, ino),
            None => Expect::EntryAbsent(dir, text.clone()),
        });
        if self.one_in(20) {
            commit.expects.push(Expect::DirEmpty(dir));
        }
        commit.mutations.push(if seen.is_some() && self.one_in(2) {
            Mutation::DelEntry(dir, text)
        } else {
            Mutation::PutEntry(dir, text, FileType::File, self.pick(&NODES))
        });
    }

    fn whole_nodes(&mut self, commit: &mut Commit) {
        let ino = self.pick(&NODES);
        let made = self.attr();
        if self.one_in(8) {
            commit.expects.push(Expect::Node(ino, made.kind));
        }
        commit.mutations.extend(match self.chance.below(4) {
            0 => vec![Mutation::DelNode(ino), Mutation::DelDirStats(ino)],
            1 => vec![Mutation::PutNode(ino, dir()), Mutation::InitDirStats(ino)],
            2 => vec![Mutation::PutNode(ino, file()), Mutation::AddDirStats(Ino(600), 1, 4096, 1)],
            _ => vec![Mutation::PutNode(ino, made)],
        });
    }

    fn patches(&mut self, commit: &mut Commit) {
        for _ in 0..=self.chance.below(2) {
            let patch = Patch {
                nlink: self.chance.below(5) as i32 - 2,
                mtime: self.maybe(Self::time),
                ctime: self.maybe(Self::time),
                atime: self.maybe(Self::time),
                length_at_least: self.maybe(Self::length),
                skip_if_younger_ns: self.pick(&[0, 0, 100_000_000, 2_000_000_000]),
            };
            commit.mutations.push(Mutation::Patch(self.pick(&NODES), patch));
        }
    }

    async fn guarded(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let ino = self.pick(&NODES);
        let seen = match node(engine, ino).await {
            Some(attr) if !self.one_in(8) => attr,
            _ => self.attr(),
        };
        let fields = [
            NodeField::Flags(seen.flags),
            NodeField::Mode(seen.kind, seen.mode),
            NodeField::Uid(seen.uid),
            NodeField::Gid(seen.gid),
            NodeField::Nlink(seen.nlink),
            NodeField::Length(seen.length),
            NodeField::Parent(seen.parent),
            NodeField::Acl(seen.access_acl, seen.default_acl),
        ];
        let fields = (0..self.chance.below(4)).map(|_| self.pick(&fields)).collect();
        commit.expects.push(Expect::NodeFields(ino, fields));
        let new = self.attr();
        let set = SetNode {
            flags: self.maybe(|_| new.flags),
            mode: self.maybe(|_| new.mode),
            uid: self.maybe(|_| new.uid),
            gid: self.maybe(|_| new.gid),
            length: self.maybe(|_| new.length),
            parent: self.maybe(|_| new.parent),
            nlink: self.maybe(|_| new.nlink),
            atime: self.maybe(|_| new.atime),
            mtime: self.maybe(|_| new.mtime),
            ctime: self.maybe(|_| new.ctime),
            acl: self.maybe(|_| (new.access_acl, new.default_acl)),
        };
        commit.mutations.push(Mutation::Set(ino, set));
    }

    /// One change of a list or of counts; several in one commit would have to know each other.
    async fn contents(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (ino, index) = (self.pick(&NODES), self.chance.below(u64::from(CHUNKS)) as u32);
        let Value::Chunk(list) = get(engine, Key::Chunk(ino, index)).await else {
            panic!("a chunk was asked for")
        };
        let mut seen = list[..self.chance.below(list.len() as u64 + 1) as usize].to_vec();
        if self.one_in(10) {
            seen.push(self.slice());
        }
        let count = seen.len() as u32;
        commit.expects.push(Expect::ChunkPrefix(ino, index, seen));
        let known: Vec<_> = self.refs.iter().map(|(id, count)| (*id, *count)).collect();
        let known = (!known.is_empty()).then(|| self.pick(&known));
        let hole = SliceRecord { pos: 1, id: 0, size: 0, off: 0, len: 5 };
        let shared = known.filter(|(_, count)| *count > 0).map(|(id, _)| id);
        let mutation = match (self.chance.below(8), known, shared) {
            (0, ..) => Mutation::DelChunk(ino, index),
            (1, ..) => Mutation::PushHolesIfListed(ino, index, vec![hole]),
            (2, ..) => {
                let made = self.slice();
                commit.mutations.push(Mutation::CountSlice(made.id, made.size));
                Mutation::ReplacePrefix(ino, index, count, vec![made, hole])
            }
            (3, _, Some(id)) => {
                Mutation::ShareSlices(ino, index, vec![SliceRecord { id, ..self.slice() }, hole])
            }
            (4, _, Some(id)) => Mutation::AddSliceRef(id, SIZE, -1),
            (5, Some((id, _)), _) => Mutation::ForgetSlice(id, SIZE),
            _ => Mutation::PushSlices(ino, index, vec![self.slice(), hole, self.slice()]),
        };
        commit.mutations.push(mutation);
    }

    fn count_refs(&mut self, commit: &Commit) {
        for mutation in &commit.mutations {
            match mutation {
                Mutation::PushSlices(_, _, records) | Mutation::ShareSlices(_, _, records) => {
                    let slices = records.iter().filter(|record| record.id > 0);
                    slices.for_each(|record| *self.refs.entry(record.id).or_default() += 1);
                }
                Mutation::CountSlice(id, _) => *self.refs.entry(*id).or_default() += 1,
                Mutation::AddSliceRef(id, _, n) => *self.refs.entry(*id).or_default() += n,
                Mutation::ForgetSlice(id, _) => {
                    self.refs.remove(id);
                }
                _ => {}
            }
        }
    }

    async fn attributes(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (ino, text) = (self.pick(&NODES), name(self.pick(&NAMES)));
        let Value::Xattr(found) = get(engine, Key::Xattr(ino, text.clone())).await else {
            panic!("an attribute was asked for")
        };
        let seen = if self.one_in(8) { Some(self.bytes()) } else { found };
        commit.expects.push(Expect::XattrIs(ino, text.clone(), seen));
        commit.mutations.push(match self.chance.below(8) {
            0 => Mutation::DelXattrs(ino),
            1 | 2 => Mutation::DelXattr(ino, text),
            3 => Mutation::PutSymlink(ino, self.bytes()),
            4 => Mutation::DelSymlink(ino),
            _ => Mutation::PutXattr(ino, text, self.bytes()),
        });
    }

    /// Engines order several holders as they like, so that only up to one is expected.
    async fn locks(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (ino, owner) = (self.pick(&NODES), self.owner());
        let keys = [Key::Flocks(ino), Key::Plocks(ino)];
        let found = engine.fetch(&keys).await.unwrap();
        let [Value::Flocks(flocks), Value::Plocks(plocks)] = &found[..] else {
            panic!("locks were asked for, not {found:?}")
        };
        let wrong = self.one_in(8);
        if wrong {
            commit.expects.push(Expect::FlocksAre(ino, vec![Flock { owner, exclusive: true }]));
            let records = self.bytes();
            commit.expects.push(Expect::PlocksAre(ino, vec![Plock { owner, records }]));
        } else if flocks.len() <= 1 && plocks.len() <= 1 {
            commit.expects.push(Expect::FlocksAre(ino, flocks.clone()));
            commit.expects.push(Expect::PlocksAre(ino, plocks.clone()));
        }
        let exclusive = self.maybe(|life| life.one_in(2));
        let records = self.maybe(|life| [life.chance.below(256) as u8; 24].into());
        commit.mutations.push(Mutation::SetFlock(ino, owner, exclusive));
        commit.mutations.push(Mutation::SetPlock(ino, owner, records));
    }

    /// One name of a hard-linked inode comes or goes.
    async fn links(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (dir, text) = (self.pick(&DIRS), name(self.pick(&LINK_NAMES)));
        let Value::Entry(found) = get(engine, Key::Entry(dir, text.clone())).await else {
            panic!("an entry was asked for")
        };
        let Some((kind, ino)) = found else {
            let ino = self.pick(&LINKED);
            commit.expects.push(Expect::EntryAbsent(dir, text.clone()));
            commit.mutations.push(Mutation::PutEntry(dir, text, FileType::File, ino));
            commit.mutations.push(Mutation::AddParent(ino, dir, 1));
            return;
        };
        let Value::Parents(parents) = get(engine, Key::Parents(ino)).await else {
            panic!("parents were asked for")
        };
        commit.expects.push(Expect::EntryIs(dir, text.clone(), kind, ino));
        commit.mutations.push(Mutation::DelEntry(dir, text));
        commit.mutations.push(if parents == [(dir, 1)] && self.one_in(2) {
            Mutation::DelParents(ino)
        } else {
            Mutation::AddParent(ino, dir, -1)
        });
    }

    async fn sums(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let Value::Counter(used) = get(engine, Key::Counter(Counter::UsedSpace)).await else {
            panic!("a counter was asked for")
        };
        let (space, inodes) = (self.chance.below(3) as i64 * 4096, self.chance.below(2) as i64);
        let capacity = if self.one_in(2) { 0 } else { used.max(0) as u64 + 4096 };
        let inode_limit = self.pick(&[0, 0, 50]);
        commit.expects.push(Expect::Room { space, inodes, capacity, inode_limit });
        self.quotas(engine, commit).await;
        let ino = self.pick(&NODES);
        let sid = 1 + self.chance.below(3);
        commit.mutations.extend([
            Mutation::Add(Counter::UsedSpace, space),
            Mutation::Add(Counter::TotalInodes, inodes),
        ]);
        commit.mutations.push(match self.chance.below(6) {
            0 => Mutation::QueueFile(ino, ino.0 * 1000, self.chance.below(100) as i64),
            1 => Mutation::UnqueueFile(ino, ino.0 * 1000),
            2 => Mutation::PutSustained(sid, ino),
            3 => Mutation::DelSustained(sid, ino),
            4 => Mutation::PutDelayed(self.aside()),
            _ => {
                let delayed = self.aside();
                commit.expects.push(Expect::Delayed(delayed.clone()));
                Mutation::DelDelayed(delayed)
            }
        });
    }

    async fn quotas(&mut self, engine: &dyn Engine, commit: &mut Commit) {
        let (holder, linked) = (self.pick(&HOLDERS), self.pick(&LINKED));
        let number = |of: &mut Self| of.chance.below(40) as i64 * 4096 - 40_960;
        let (space, inodes) = (number(self), number(self));
        if self.one_in(2) {
            commit.expects.push(Expect::QuotaRoom(holder, space, inodes));
        }
        if self.one_in(2) {
            let Value::Parents(mut parents) = get(engine, Key::Parents(linked)).await else {
                panic!("parents were asked for")
            };
            if self.one_in(8) {
                parents.push((Ino(699), 1));
            }
            commit.expects.push(Expect::ParentsAre(linked, parents));
        }
        commit.mutations.push(if self.one_in(3) {
            let [max_space, max_inodes] = [number(self), number(self)];
            let [used_space, used_inodes] = [number(self), number(self)];
            Mutation::PutQuota(holder, Quota { max_space, max_inodes, used_space, used_inodes })
        } else {
            Mutation::AddQuota(holder, space, inodes)
        });
    }

    /// Slices put aside; never two of one slice, nor at two times.
    fn aside(&mut self) -> Delayed {
        let by = self.chance.below(6);
        Delayed { by, at: 40 + by as i64, slices: vec![(by + 100, SIZE); by as usize + 1] }
    }

    /// One thing that is no commit.
    async fn beside_commits(&mut self, a: &dyn Engine, b: &dyn Engine) {
        let sid = 1 + self.chance.below(3);
        let now = self.chance.below(1000) as i64;
        match self.chance.below(4) {
            0 => {
                let session = Session { sid, expire: now, info: format!("{{\"n\":{now}}}") };
                a.put_session(session.clone()).await.unwrap();
                b.put_session(session).await.unwrap();
            }
            1 if self.one_in(4) => {
                let mut kept = a.end_session(sid).await.unwrap();
                let mut other = b.end_session(sid).await.unwrap();
                kept.sort();
                other.sort();
                assert_eq!(kept, other);
            }
            2 => {
                let won = a.win_job("lastCleanupSessions", now, 100).await.unwrap();
                assert_eq!(b.win_job("lastCleanupSessions", now, 100).await.unwrap(), won);
            }
            _ => {
                let counter = self.pick(&[Counter::NextTrash, Counter::NextChunk]);
                let last = a.reserve(counter, now).await.unwrap();
                assert_eq!(b.reserve(counter, now).await.unwrap(), last);
            }
        }
    }

    /// Both engines tell the same of everything.
    async fn same(&mut self, a: &dyn Engine, b: &dyn Engine, when: &str) {
        let keys = self.all_keys();
        let (of_a, of_b) = (told(a, &keys).await, told(b, &keys).await);
        for ((key, of_a), of_b) in keys.iter().zip(of_a).zip(of_b) {
            assert_eq!(of_a, of_b, "{key:?}, {when}");
        }
        for dir in DIRS {
            for with_attr in [false, true] {
                let mut of_a = a.list(dir, with_attr).await.unwrap();
                let mut of_b = b.list(dir, with_attr).await.unwrap();
                of_a.sort_by(|a, b| a.name.cmp(&b.name));
                of_b.sort_by(|a, b| a.name.cmp(&b.name));
                assert_eq!(of_a, of_b, "names of {dir}, {when}");
            }
        }
        for before in [50, 1000] {
            let mut of_a = a.queued_files(before, 100).await.unwrap();
            let mut of_b = b.queued_files(before, 100).await.unwrap();
            of_a.sort_unstable();
            of_b.sort_unstable();
            assert_eq!(of_a, of_b, "queued files, {when}");
            let mut of_a = a.delayed_slices(before - 7, 100).await.unwrap();
            let mut of_b = b.delayed_slices(before - 7, 100).await.unwrap();
            of_a.sort();
            of_b.sort();
            assert_eq!(of_a, of_b, "slices put aside, {when}");
        }
        let (of_a, of_b) = (unused(a).await, unused(b).await);
        assert_eq!(of_a, of_b, "unused slices, {when}");
        let mut of_a = a.sessions().await.unwrap();
        let mut of_b = b.sessions().await.unwrap();
        of_a.sort_by_key(|session| session.sid);
        of_b.sort_by_key(|session| session.sid);
        assert_eq!(of_a, of_b, "sessions, {when}");
    }

    fn all_keys(&self) -> Vec<Key> {
        let names = |names: &[&str]| names.iter().map(|text| name(text)).collect::<Vec<Name>>();
        let mut keys = Vec::new();
        for dir in DIRS {
            keys.push(Key::DirLen(dir));
            for name in [names(&NAMES), names(&LINK_NAMES)].concat() {
                keys.push(Key::Entry(dir, name.clone()));
                keys.push(Key::EntryNode(dir, name));
            }
        }
        for ino in NODES {
            keys.extend([Key::Node(ino), Key::Chunks(ino, 0, CHUNKS), Key::Symlink(ino)]);
            keys.extend([Key::XattrNames(ino), Key::Flocks(ino), Key::Plocks(ino)]);
            keys.extend((0..CHUNKS).map(|index| Key::Chunk(ino, index)));
            keys.extend(names(&NAMES).into_iter().map(|name| Key::Xattr(ino, name)));
        }
        keys.extend(LINKED.map(Key::Parents));
        keys.extend(HOLDERS.map(Key::Quota));
        keys.extend(self.refs.keys().map(|id| Key::SliceRef(*id, SIZE)));
        let counters = [
            Counter::UsedSpace,
            Counter::TotalInodes,
            Counter::NextChunk,
            Counter::NextSession,
            Counter::NextTrash,
        ];
        keys.extend(counters.map(Key::Counter));
        keys
    }
}

/// All slices that have lost their references.
async fn unused(engine: &dyn Engine) -> Vec<(SliceId, u32)> {
    let mut page = engine.unused_slices(0, 10_000).await.unwrap();
    assert_eq!(page.next, None, "few slices are one page");
    page.slices.sort_unstable();
    page.slices
}

/// The answers, those without an order sorted. Lists outside of what is asked for are not looked for
/// by every engine.
async fn told(engine: &dyn Engine, keys: &[Key]) -> Vec<Value> {
    let mut values = engine.fetch(keys).await.unwrap();
    for (key, value) in keys.iter().zip(&mut values) {
        match value {
            Value::Chunks(indexes) => {
                let Key::Chunks(.., end) = key else { panic!("{key:?} is no question for chunks") };
                indexes.retain(|index| index < end);
            }
            Value::XattrNames(names) => names.sort(),
            Value::Parents(parents) => parents.sort(),
            Value::Flocks(held) => held.sort_by_key(|lock| lock.owner),
            Value::Plocks(held) => held.sort_by_key(|lock| lock.owner),
            _ => {}
        }
    }
    values
}
