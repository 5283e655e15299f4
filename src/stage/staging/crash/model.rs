//! A disk in memory that may lose its power.
//!
//! Owns what a disk may do to bytes and names that were not synced: each sector of a file has any of the
//! contents it had since the last sync, whatever the others have; each name came, went or moved, or not,
//! in any order; a length that was not synced may be the old one. A crash of the process keeps all that
//! was written. Seeds decide, so that a run can be repeated. Knows nothing of logs and blocks.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use crate::stage::staging::medium::Medium;
use crate::stdx::Chance;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk; clones are the same one.
#[derive(Clone)]
pub(in super::super) struct Model(Arc<Mutex<World>>);

/// What goes wrong with one call. Calls that change or sync something are counted from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// It and all later ones fail; a write may be done in part.
    FreezeAt(u64),
    /// It fails with this code; a write may be done in part.
    FailAt(u64, i32),
    /// The n-th sync, counted on its own, does nothing and says that all is well.
    LeaveOutSync(u64),
}

/// An open file.
pub(in super::super) struct Handle {
    inode: usize,
}

#[derive(Clone, Default)]
struct World {
    files: Vec<Inode>,
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    /// Changes of names that are not synced, in order.
    changes: Vec<Change>,
    calls: u64,
    syncs: u64,
    faults: Vec<Fault>,
    frozen: bool,
    chance: Option<Chance>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone)]
enum Change {
    Set(String, Node),
    Gone(String),
    Moved { from: String, to: String, node: Node },
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Not synced, in order.
    pending: Vec<Pending>,
    /// Time of last change, ms since 1970.
    changed_ms: u64,
}

#[derive(Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Model {
    /// An empty disk.
    pub(in super::super) fn new(seed: u64) -> Self {
        let world = World { chance: Some(Chance::seeded(seed)), ..World::default() };
        Self(Arc::new(Mutex::new(world)))
    }

    /// This goes wrong from now on, beside what was said before.
    pub(in super::super) fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Calls so far that changed or synced something.
    pub(in super::super) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Syncs among them.
    pub(in super::super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Whether the disk does nothing any more.
    pub(in super::super) fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    /// The disk as it is after the process was killed: what was written is there, and may still be lost.
    pub(in super::super) fn after_kill(&self, seed: u64) -> Self {
        self.revived(seed, self.lock().clone())
    }

    /// The disk as it is after a loss of power.
    pub(in super::super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut world = self.lock().clone();
        let mut chance = Chance::seeded(seed);
        for change in std::mem::take(&mut world.changes) {
            if chance.below(2) == 0 {
                change.apply(&mut world.durable_names);
            }
        }
        world.names = world.durable_names.clone();
        world.forget_orphans();
        world.durable_names = world.names.clone();
        for file in &mut world.files {
            file.lose_power(&mut chance);
        }
        self.revived(seed, world)
    }

    fn revived(&self, seed: u64, mut world: World) -> Self {
        (world.calls, world.syncs, world.frozen) = (0, 0, false);
        world.faults.clear();
        world.chance = Some(Chance::seeded(seed ^ 0x5EED));
        Self(Arc::new(Mutex::new(world)))
    }

    /// Flip a bit of a file, as a disk that rots does.
    pub(in super::super) fn flip(&self, path: &str, offset: usize, bit: u8) {
        let mut world = self.lock();
        let Some(Node::File(inode)) = world.names.get(path).copied() else {
            panic!("{path} is a file")
        };
        let file = &mut world.files[inode];
        file.now[offset] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= 1 << bit;
        }
    }

    /// All bytes of a file.
    pub(in super::super) fn bytes(&self, path: &str) -> Vec<u8> {
        let world = self.lock();
        match world.names.get(path) {
            Some(Node::File(inode)) => world.files[*inode].now.clone(),
            _ => panic!("{path} is a file"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: Change) {
        let mut world = self.lock();
        change.apply(&mut world.names);
        world.changes.push(change);
    }

    /// Let others run, as often as the seed says.
    async fn linger(&self) {
        let mut times = self.lock().chance.as_mut().expect("a seed").below(3);
        poll_fn(|context| {
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl World {
    /// Count a call; it may be the one that fails.
    fn call(&mut self) -> io::Result<()> {
        if self.frozen {
            return Err(dead());
        }
        self.calls += 1;
        for fault in &self.faults {
            match *fault {
                Fault::FreezeAt(at) if at == self.calls => {
                    self.frozen = true;
                    return Err(dead());
                }
                Fault::FailAt(at, code) if at == self.calls => {
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Count a sync; whether it is done.
    fn sync(&mut self) -> io::Result<bool> {
        self.call()?;
        self.syncs += 1;
        Ok(!self.faults.contains(&Fault::LeaveOutSync(self.syncs)))
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn has_dir(&self, path: &str) -> bool {
        path.is_empty() || self.names.get(path) == Some(&Node::Dir)
    }

    /// Names below directories that are not there are not there.
    fn forget_orphans(&mut self) {
        loop {
            let whole = self.names.len();
            let names = self.names.clone();
            self.names.retain(|path, _| {
                let dir = parent(path);
                dir.is_empty() || names.get(dir) == Some(&Node::Dir)
            });
            if self.names.len() == whole {
                return;
            }
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Gone(path) => {
                names.remove(path);
            }
            Self::Moved { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    fn touches(&self, dir: &str) -> bool {
        match self {
            Self::Set(path, _) | Self::Gone(path) => parent(path) == dir,
            Self::Moved { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }
}

impl Inode {
    fn set_length(&mut self, len: usize) {
        resize(&mut self.now, len);
        self.pending.push(Pending::Length(len));
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.now.len() {
            self.set_length(end);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
    }

    /// The first changes that were not synced are on the disk.
    fn settle(&mut self, count: usize) {
        for pending in self.pending.drain(..count) {
            match pending {
                Pending::Length(len) => resize(&mut self.durable, len),
                Pending::Write { offset, bytes } => {
                    let end = offset + bytes.len();
                    let len = self.durable.len().max(end);
                    resize(&mut self.durable, len);
                    self.durable[offset..end].copy_from_slice(&bytes);
                }
            }
        }
    }

    fn lose_power(&mut self, chance: &mut Chance) {
        let pending = std::mem::take(&mut self.pending);
        let lengths: Vec<usize> = std::iter::once(self.durable.len())
            .chain(pending.iter().filter_map(|change| match change {
                Pending::Length(len) => Some(*len),
                Pending::Write { .. } => None,
            }))
            .collect();
        // Versions of each sector: how many of the writes to it came through.
        let mut writes: BTreeMap<usize, u64> = BTreeMap::new();
        let sectors = |offset: usize, len: usize| offset / SECTOR..(offset + len).div_ceil(SECTOR);
        for change in &pending {
            if let Pending::Write { offset, bytes } = change {
                sectors(*offset, bytes.len()).for_each(|at| *writes.entry(at).or_default() += 1);
            }
        }
        writes.values_mut().for_each(|count| *count = chance.below(*count + 1));
        let mut bytes_now = self.durable.clone();
        let most = self.now.len().max(bytes_now.len());
        resize(&mut bytes_now, most);
        for change in &pending {
            let Pending::Write { offset, bytes } = change else { continue };
            for at in sectors(*offset, bytes.len()) {
                let left = writes.get_mut(&at).expect("counted");
                if *left == 0 {
                    continue;
                }
                *left -= 1;
                let start = (at * SECTOR).max(*offset);
                let end = ((at + 1) * SECTOR).min(offset + bytes.len());
                bytes_now[start..end].copy_from_slice(&bytes[start - offset..end - offset]);
            }
        }
        resize(&mut bytes_now, lengths[chance.below(lengths.len() as u64) as usize]);
        self.now.clone_from(&bytes_now);
        self.durable = bytes_now;
    }
}

/// As `Vec::resize` with zeros, which takes them one by one where nothing is optimised.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    if len <= bytes.len() {
        bytes.truncate(len);
    } else {
        bytes.extend_from_slice(&vec![0; len - bytes.len()]);
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn dead() -> io::Error {
    io::Error::other("the disk is frozen")
}

impl Medium for Model {
    type File = Handle;

    fn list(&self, dir: &str) -> io::Result<Vec<(String, bool)>> {
        let world = self.lock();
        let inside = world.names.iter().filter(|(path, _)| parent(path) == dir);
        let name = |path: &String| path.rsplit('/').next().expect("a name").to_owned();
        Ok(inside.map(|(path, node)| (name(path), *node == Node::Dir)).collect())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut path = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
            if !self.lock().has_dir(&path) {
                self.lock().call()?;
                self.change(Change::Set(path.clone(), Node::Dir));
            }
        }
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Handle> {
        let inode = {
            let mut world = self.lock();
            world.call()?;
            if world.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !world.has_dir(parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            world.files.push(Inode { changed_ms: 1_700_000_000_000, ..Inode::default() });
            world.files.len() - 1
        };
        self.change(Change::Set(path.to_owned(), Node::File(inode)));
        Ok(Handle { inode })
    }

    fn open(&self, path: &str) -> io::Result<Handle> {
        self.lock().file(path).map(|inode| Handle { inode })
    }

    fn stat(&self, path: &str) -> io::Result<(u64, u64)> {
        let world = self.lock();
        let inode = world.file(path)?;
        let file = &world.files[inode];
        Ok((file.now.len() as u64, file.changed_ms))
    }

    /// Times are not lost, and nothing is promised of them.
    fn date(&self, file: &Handle, changed_ms: u64) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        world.files[file.inode].changed_ms = changed_ms;
        Ok(())
    }

    fn allocate(&self, file: &Handle, len_bytes: u64) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        let file = &mut world.files[file.inode];
        if file.now.len() < len_bytes as usize {
            file.set_length(len_bytes as usize);
        }
        Ok(())
    }

    fn write_at(&self, file: &Handle, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut bytes = parts.concat();
        let mut world = self.lock();
        let was_frozen = world.frozen;
        let called = world.call();
        if called.is_err() {
            // Of a write that fails any part may have been done, or all of it.
            let len = bytes.len() as u64 + 1;
            let done = world.chance.as_mut().expect("a seed").below(len);
            bytes.truncate(if was_frozen { 0 } else { done as usize });
        }
        if !bytes.is_empty() {
            world.files[file.inode].write(offset as usize, &bytes);
        }
        called
    }

    fn read_at(&self, file: &Handle, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let world = self.lock();
        let bytes = &world.files[file.inode].now;
        let start = (offset as usize).min(bytes.len());
        let count = into.len().min(bytes.len() - start);
        into[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let node = {
            let mut world = self.lock();
            world.call()?;
            if world.names.contains_key(to) {
                return Ok(());
            }
            if !world.has_dir(parent(to)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Node::File(world.file(from)?)
        };
        self.change(Change::Set(to.to_owned(), node));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let node = {
            let mut world = self.lock();
            world.call()?;
            if !world.has_dir(parent(to)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Node::File(world.file(from)?)
        };
        self.change(Change::Moved { from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let there = {
            let mut world = self.lock();
            world.call()?;
            world.names.contains_key(path)
        };
        if there {
            self.change(Change::Gone(path.to_owned()));
        }
        Ok(())
    }

    async fn sync_file(&self, file: &Handle) -> io::Result<()> {
        let (done, count) = {
            let mut world = self.lock();
            (world.sync()?, world.files[file.inode].pending.len())
        };
        self.linger().await;
        let mut world = self.lock();
        if world.frozen {
            return Err(dead());
        }
        if done {
            let file = &mut world.files[file.inode];
            // Another sync of the same file may have been done meanwhile.
            let count = count.min(file.pending.len());
            file.settle(count);
        }
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let (done, count) = {
            let mut world = self.lock();
            if !world.has_dir(dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            (world.sync()?, world.changes.len())
        };
        self.linger().await;
        let mut world = self.lock();
        if world.frozen {
            return Err(dead());
        }
        if done {
            let count = count.min(world.changes.len());
            let mut changes = std::mem::take(&mut world.changes);
            let later = changes.split_off(count);
            let (settled, left): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|change| change.touches(dir));
            settled.iter().for_each(|change| change.apply(&mut world.durable_names));
            world.changes = left.into_iter().chain(later).collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;

    fn written(seed: u64) -> (Model, Handle) {
        let model = Model::new(seed);
        model.make_dir("d").unwrap();
        let file = model.create("d/f").unwrap();
        model.allocate(&file, 2048).unwrap();
        model.write_at(&file, 0, &[&[1; 1024]]).unwrap();
        (model, file)
    }

    async fn sync(model: &Model, file: &Handle) {
        model.sync_file(file).await.unwrap();
        model.sync_dir("d").await.unwrap();
        model.sync_dir("").await.unwrap();
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_a_loss_of_power_what_was_synced() {
        block_on(async {
            let (mut lost, mut kept, mut torn) = (false, false, false);
            for seed in 0..200 {
                let (model, file) = written(seed);
                assert_eq!(model.after_kill(seed).bytes("d/f")[..1024], [1; 1024]);
                let later = model.after_kill(seed).after_power_loss(seed);
                lost |= later.open("d/f").is_err();
                sync(&model, &file).await;
                model.write_at(&file, 256, &[&[2; 512]]).unwrap();
                let bytes = model.after_power_loss(seed).bytes("d/f");
                assert_eq!((bytes.len(), bytes[0], bytes[1023]), (2048, 1, 1));
                let (first, second) = (bytes[256], bytes[767]);
                kept |= (first, second) == (2, 2);
                torn |= first != second;
                assert_eq!(bytes[256..512], [first; 256], "a sector is whole");
            }
            assert!(lost && kept && torn);
        });
    }

    #[test]
    fn names_come_and_go_in_any_order_until_they_are_synced() {
        block_on(async {
            let mut seen = std::collections::BTreeSet::new();
            for seed in 0..200 {
                let (model, file) = written(seed);
                sync(&model, &file).await;
                model.rename("d/f", "d/g").unwrap();
                model.link("d/g", "h").unwrap();
                model.create("d/i").unwrap();
                model.remove("d/i").unwrap();
                let later = model.after_power_loss(seed);
                let names: Vec<_> = later.lock().names.keys().cloned().collect();
                assert!(names.contains(&"d/f".to_owned()) != names.contains(&"d/g".to_owned()));
                seen.insert(names);
            }
            assert_eq!(seen.len(), 8, "{seen:?}");
        });
    }

    #[test]
    fn faults_come_at_their_call() {
        block_on(async {
            let (model, file) = written(1);
            assert_eq!(model.calls(), 4);
            model.fault(Fault::FailAt(5, libc::ENOSPC));
            model.fault(Fault::FreezeAt(7));
            let error = model.write_at(&file, 0, &[&[3; 9]]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            model.sync_file(&file).await.unwrap();
            assert!(model.sync_dir("d").await.is_err() && model.is_frozen());
            assert!(model.remove("d/f").is_err() && model.sync_file(&file).await.is_err());
            assert_eq!(model.after_kill(1).calls(), 0);

            let (model, file) = written(2);
            model.fault(Fault::LeaveOutSync(1));
            sync(&model, &file).await;
            assert_eq!(model.syncs(), 3);
            let lost = |seed| model.after_power_loss(seed).bytes("d/f") != model.bytes("d/f");
            assert!((0..50).any(lost), "the sync of its bytes was left out");
        });
    }
}
