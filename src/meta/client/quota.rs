//! Quotas: which there are, and what a commit means for them.
//!
//! Owns the list of directories that have one, as of the last look, where directories are, and whose
//! nodes are. What follows from that is `plan::quota`'s. A volume without quotas costs a look at a
//! flag.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use rustix::io::Errno;

use super::{Meta, Usage};
use crate::limits::{ANCESTORS_MAX, QUOTAS_MAX, QUOTAS_PAGE};
use crate::meta::engine::EngineError;
use crate::meta::plan::quota::{
    Change, Growth, Move, Moves, Uprooted, above, charge, given, owned, owners,
};
use crate::meta::plan::{Rules, counted};
use crate::meta::scan::{Row, Table};
use crate::meta::slices::MetaError;
use crate::meta::txn::{Commit, Expect, Holder, Key, NodeField, Quota, Value};
use crate::types::{Attr, FileType, Ino};

type Dirs = HashSet<Ino, RandomState>;

/// What has a quota in a volume.
#[derive(Clone, Default)]
pub(super) struct Watched {
    dirs: Arc<Dirs>,
    /// Every user and every group has one.
    owners: bool,
}

impl Watched {
    fn is_empty(&self) -> bool {
        self.dirs.is_empty() && !self.owners
    }
}

/// It, as of the last look.
#[derive(Default)]
pub(super) struct Quotas {
    any: AtomicBool,
    watched: Mutex<Watched>,
}

impl Quotas {
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What has a quota, where anything has.
    pub fn watched(&self) -> Option<Watched> {
        let held = || self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.any().then(held)
    }

    fn set(&self, watched: Watched) {
        let any = !watched.is_empty();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        self.any.store(any, Ordering::Release);
    }
}

/// What a commit relies on and changes, as it is found out.
#[derive(Default)]
struct Bill {
    relied: Vec<Expect>,
    names: Vec<Move>,
    changes: Vec<Change>,
}

/// Directories on the way up, each asked for once.
struct Climb<'a> {
    meta: &'a Meta,
    may_guess: bool,
    guessed: bool,
    nodes: HashMap<Ino, Option<Attr>, RandomState>,
}

impl<'a> Climb<'a> {
    fn new(meta: &'a Meta, may_guess: bool) -> Self {
        Self { meta, may_guess, guessed: false, nodes: HashMap::default() }
    }

    async fn node(&mut self, ino: Ino) -> Result<Option<&Attr>, MetaError> {
        if !self.nodes.contains_key(&ino) {
            let guess = self.meta.shared.seen.known(ino).filter(|_| self.may_guess);
            if guess.is_some() {
                self.guessed = true;
                self.nodes.insert(ino, guess);
            } else {
                self.ask(ino).await?;
            }
        }
        Ok(self.nodes.get(&ino).and_then(Option::as_ref))
    }

    /// Ask for a node, and in the same turn for those that were above it when they were seen.
    async fn ask(&mut self, ino: Ino) -> Result<(), MetaError> {
        let (mut keys, mut at) = (vec![Key::Node(ino)], ino);
        while let Some(attr) = self.meta.shared.seen.known(at) {
            at = attr.parent;
            let known = at <= Ino::ROOT || at.is_trash() || self.nodes.contains_key(&at);
            if known || keys.len() > ANCESTORS_MAX {
                break;
            }
            keys.push(Key::Node(at));
        }
        let found = self.meta.fetch(&keys).await?;
        for (key, value) in keys.into_iter().zip(found) {
            if let (Key::Node(ino), Value::Node(attr)) = (key, value) {
                self.nodes.insert(ino, attr);
            }
        }
        Ok(())
    }

    /// A node and what is above it, up to the root, the trash, or what is missing or has many
    /// parents.
    async fn path(&mut self, from: Ino) -> Result<Vec<Ino>, MetaError> {
        let (mut path, mut at) = (vec![from], from);
        while at > Ino::ROOT && !at.is_trash() {
            if path.len() > ANCESTORS_MAX {
                return Err(Errno::LOOP.into());
            }
            let Some(attr) = self.node(at).await? else { break };
            at = attr.parent;
            if at == Ino(0) {
                break;
            }
            path.push(at);
        }
        Ok(path)
    }

    /// What the growth of a file means for the directories that name it, and for its owner.
    async fn grown(
        &mut self,
        (ino, growth): (Ino, Growth),
        watched: &Watched,
        bill: &mut Bill,
    ) -> Result<(), MetaError> {
        let Some(node) = self.node(ino).await?.cloned() else { return Ok(()) };
        let mut relied = vec![NodeField::Nlink(node.nlink), NodeField::Parent(node.parent)];
        if let Growth::To(_) = growth {
            relied.push(NodeField::Length(node.length));
        }
        let space = growth.space(&node);
        if watched.owners && space != 0 {
            relied.extend([NodeField::Uid(node.uid), NodeField::Gid(node.gid)]);
            bill.changes.extend(owners((node.uid, node.gid), (space, 0), true));
        }
        bill.relied.push(Expect::NodeFields(ino, relied));
        if node.nlink == 0 || space == 0 || watched.dirs.is_empty() {
            return Ok(());
        }
        if node.parent != Ino(0) {
            bill.names.push((node.parent, space, 0));
            return Ok(());
        }
        let found = self.meta.fetch(&[Key::Parents(ino)]).await?;
        let Some(Value::Parents(parents)) = found.into_iter().next() else {
            unreachable!("parents were asked for")
        };
        bill.names.extend(parents.iter().map(|(dir, links)| (*dir, space * links, 0)));
        bill.relied.push(Expect::ParentsAre(ino, parents));
        Ok(())
    }

    /// What changes for owners and groups, other than by growth.
    async fn owned(&mut self, moves: &Moves, bill: &mut Bill) -> Result<(), MetaError> {
        for (ino, node) in &moves.made {
            // Nobody is kept from a removal by the hour of the trash that it needs.
            let needs_room = !ino.is_trash();
            bill.changes.extend(owners((node.uid, node.gid), owned(node), needs_room));
        }
        let relied = |node: &Attr| {
            vec![NodeField::Uid(node.uid), NodeField::Gid(node.gid), NodeField::Length(node.length)]
        };
        for ino in &moves.gone {
            let Some(node) = self.node(*ino).await? else { continue };
            let (space, inodes) = owned(node);
            bill.changes.extend(owners((node.uid, node.gid), (-space, -inodes), true));
            bill.relied.push(Expect::NodeFields(*ino, relied(node)));
        }
        // Nobody counts the root.
        for one in moves.given.iter().filter(|one| one.ino != Ino::ROOT) {
            let Some(node) = self.node(one.ino).await? else { continue };
            bill.changes.extend(given(node, *one));
            bill.relied.push(Expect::NodeFields(one.ino, relied(node)));
        }
        Ok(())
    }

    /// What names that move mean for the directories above.
    async fn directories(
        &mut self,
        trees: &[Uprooted],
        dirs: &Dirs,
        bill: &mut Bill,
    ) -> Result<(), MetaError> {
        let mut paths = BTreeMap::new();
        for (dir, ..) in &bill.names {
            if !paths.contains_key(dir) {
                paths.insert(*dir, self.path(*dir).await?);
            }
        }
        for Uprooted { dir, from, to } in trees {
            let limited = |at: &Ino| {
                let path = paths.get(at).into_iter().flatten();
                path.filter(|above| dirs.contains(*above)).collect::<Vec<_>>()
            };
            if limited(from) != limited(to) {
                let (space, inodes) = self.meta.below(*dir).await?;
                bill.names.extend([(*from, -space, -inodes), (*to, space, inodes)]);
            }
        }
        let (placed, changes) = above(&bill.names, &paths, |dir| dirs.contains(&dir));
        bill.relied.extend(placed);
        bill.changes.extend(changes);
        Ok(())
    }
}

impl Meta {
    /// Look what has a quota; so at the beginning of a mount, and again with every heartbeat. Quotas
    /// of directories that others set or delete are heeded from then on.
    ///
    /// # Errors
    /// When the engine fails, or there are more than are held.
    pub async fn load_quotas(&self) -> Result<(), MetaError> {
        let Rules { dir_quotas, owner_quotas, .. } = self.shared.rules();
        let dirs = if dir_quotas { self.limited_dirs().await? } else { Dirs::default() };
        self.shared.quotas.set(Watched { dirs: Arc::new(dirs), owners: owner_quotas });
        Ok(())
    }

    async fn limited_dirs(&self) -> Result<Dirs, MetaError> {
        let (mut dirs, mut from) = (Dirs::default(), 0);
        loop {
            let page = self.engine.scan(Table::DirQuotas, from, QUOTAS_PAGE).await?;
            for row in page.rows {
                match row {
                    Row::Quota(Holder::Dir(dir), _) => drop(dirs.insert(dir)),
                    Row::Damaged { key, reason } => {
                        tracing::warn!(
                            "a quota in {key} cannot be read and does not hold: {reason}"
                        );
                    }
                    _ => {}
                }
            }
            if dirs.len() > QUOTAS_MAX {
                let text = format!("more than {QUOTAS_MAX} directories have a quota");
                return Err(EngineError::Refused(text).into());
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(dirs),
            }
        }
    }

    /// Add to a commit what quotas ask for; whether that rests on a guess.
    pub(super) async fn charge(
        &self,
        watched: &Watched,
        commit: &mut Commit,
        may_guess: bool,
    ) -> Result<bool, MetaError> {
        let mut moves = Moves::of(commit);
        let mut climb = Climb::new(self, may_guess);
        let mut bill = Bill { names: std::mem::take(&mut moves.names), ..Bill::default() };
        for file in &moves.files {
            climb.grown(*file, watched, &mut bill).await?;
        }
        if watched.owners {
            climb.owned(&moves, &mut bill).await?;
        }
        if !watched.dirs.is_empty() {
            climb.directories(&moves.trees, &watched.dirs, &mut bill).await?;
        }
        charge(commit, bill.relied, &bill.changes);
        Ok(climb.guessed)
    }

    /// Space and inodes of all names below a directory. What others change there meanwhile may be
    /// counted or not. A directory below itself, or one that lies too deep, is ELOOP.
    async fn below(&self, dir: Ino) -> Result<(i64, i64), MetaError> {
        let (mut sum, mut dirs, mut path) = ((0, 0), vec![(dir, 0)], Vec::new());
        while let Some((dir, depth)) = dirs.pop() {
            path.truncate(depth);
            if depth > ANCESTORS_MAX || path.contains(&dir) {
                return Err(Errno::LOOP.into());
            }
            path.push(dir);
            for entry in self.engine.list(dir, true).await? {
                let Some(attr) = entry.attr else { continue };
                let (_, space, inodes) = counted(&attr);
                sum = (sum.0 + space, sum.1 + inodes);
                if attr.kind == FileType::Dir {
                    dirs.push((entry.ino, depth + 1));
                }
            }
        }
        Ok(sum)
    }

    /// Usage of the volume, and the quotas that hold at a node, the nearest first.
    pub async fn usage_at(&self, ino: Ino) -> Result<(Usage, Vec<Quota>), MetaError> {
        let watched = self.shared.quotas.watched().filter(|watched| !watched.dirs.is_empty());
        let Some(Watched { dirs, .. }) = watched else {
            return Ok((self.usage().await?, Vec::new()));
        };
        let path = Climb::new(self, true).path(self.real(ino)).await?;
        let limited = path.into_iter().filter(|dir| dirs.contains(dir));
        let keys: Vec<_> = limited.map(|dir| Key::Quota(Holder::Dir(dir))).collect();
        let found = self.asking(self.engine.fetch(&keys)).await?.into_iter();
        let held = found.filter_map(|value| match value {
            Value::Quota(quota) => quota,
            _ => None,
        });
        Ok((self.usage().await?, held.collect()))
    }
}
