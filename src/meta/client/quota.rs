//! Quotas of directories: which there are, and what a commit means for them.
//!
//! Owns the list of directories that have one, as of the last look, and where directories are.
//! What follows from that is `plan::quota`'s. A volume without quotas costs a look at a flag.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use rustix::io::Errno;

use super::{Meta, Usage};
use crate::limits::{ANCESTORS_MAX, QUOTAS_MAX, QUOTAS_PAGE};
use crate::meta::engine::EngineError;
use crate::meta::plan::counted;
use crate::meta::plan::quota::{Growth, Move, Moves, Uprooted, charge};
use crate::meta::scan::{Row, Table};
use crate::meta::slices::MetaError;
use crate::meta::txn::{Commit, DirQuota, Expect, Key, NodeField, Value};
use crate::types::{Attr, FileType, Ino};

type Dirs = HashSet<Ino, RandomState>;

/// Directories that have a quota.
#[derive(Default)]
pub(super) struct Quotas {
    any: AtomicBool,
    dirs: Mutex<Arc<Dirs>>,
}

impl Quotas {
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// They, where there are any.
    pub fn dirs(&self) -> Option<Arc<Dirs>> {
        let held = || Arc::clone(&self.dirs.lock().unwrap_or_else(PoisonError::into_inner));
        self.any().then(held)
    }

    fn set(&self, dirs: Dirs) {
        let any = !dirs.is_empty();
        *self.dirs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(dirs);
        self.any.store(any, Ordering::Release);
    }
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

    /// What the growth of a file means for the directories that name it.
    async fn grown(
        &mut self,
        (ino, growth): (Ino, Growth),
        commit: &mut Commit,
    ) -> Result<Vec<Move>, MetaError> {
        let Some(node) = self.node(ino).await?.cloned() else { return Ok(Vec::new()) };
        let mut relied = vec![NodeField::Nlink(node.nlink), NodeField::Parent(node.parent)];
        if let Growth::To(_) = growth {
            relied.push(NodeField::Length(node.length));
        }
        commit.expects.insert(0, Expect::NodeFields(ino, relied));
        let space = growth.space(&node);
        if node.nlink == 0 || space == 0 {
            return Ok(Vec::new());
        }
        if node.parent != Ino(0) {
            return Ok(vec![(node.parent, space, 0)]);
        }
        let found = self.meta.fetch(&[Key::Parents(ino)]).await?;
        let Some(Value::Parents(parents)) = found.into_iter().next() else {
            unreachable!("parents were asked for")
        };
        let moves = parents.iter().map(|(dir, links)| (*dir, space * links, 0)).collect();
        commit.expects.insert(0, Expect::ParentsAre(ino, parents));
        Ok(moves)
    }
}

impl Meta {
    /// Look which directories have a quota; so at the beginning of a mount, and again with every
    /// heartbeat. Quotas that others set or delete are heeded from then on.
    ///
    /// # Errors
    /// When the engine fails, or there are more than are held.
    pub async fn load_quotas(&self) -> Result<(), MetaError> {
        if !self.shared.rules().dir_quotas {
            return Ok(());
        }
        let (mut dirs, mut from) = (Dirs::default(), 0);
        loop {
            let page = self.engine.scan(Table::DirQuotas, from, QUOTAS_PAGE).await?;
            for row in page.rows {
                match row {
                    Row::DirQuota(dir, _) => drop(dirs.insert(dir)),
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
                None => break,
            }
        }
        self.shared.quotas.set(dirs);
        Ok(())
    }

    /// Add to a commit what quotas ask for; whether that rests on a guess.
    pub(super) async fn charge(
        &self,
        quotas: &Dirs,
        commit: &mut Commit,
        may_guess: bool,
    ) -> Result<bool, MetaError> {
        let Moves { mut names, files, trees } = Moves::of(commit);
        let mut climb = Climb::new(self, may_guess);
        for file in files {
            names.extend(climb.grown(file, commit).await?);
        }
        let mut paths = BTreeMap::new();
        for (dir, ..) in &names {
            if !paths.contains_key(dir) {
                paths.insert(*dir, climb.path(*dir).await?);
            }
        }
        for Uprooted { dir, from, to } in trees {
            let limited = |at: &Ino| {
                let path = paths.get(at).into_iter().flatten();
                path.filter(|above| quotas.contains(*above)).collect::<Vec<_>>()
            };
            if limited(&from) != limited(&to) {
                let (space, inodes) = self.below(dir).await?;
                names.extend([(from, -space, -inodes), (to, space, inodes)]);
            }
        }
        charge(commit, &names, &paths, |dir| quotas.contains(&dir));
        Ok(climb.guessed)
    }

    /// Space and inodes of all names below a directory. What others change there meanwhile may be
    /// counted or not.
    async fn below(&self, dir: Ino) -> Result<(i64, i64), MetaError> {
        let (mut sum, mut dirs) = ((0, 0), vec![dir]);
        while let Some(dir) = dirs.pop() {
            for entry in self.engine.list(dir, true).await? {
                let Some(attr) = entry.attr else { continue };
                let (_, space, inodes) = counted(&attr);
                sum = (sum.0 + space, sum.1 + inodes);
                if attr.kind == FileType::Dir {
                    dirs.push(entry.ino);
                }
            }
        }
        Ok(sum)
    }

    /// Usage of the volume, and the quotas that hold at a node, the nearest first.
    pub async fn usage_at(&self, ino: Ino) -> Result<(Usage, Vec<DirQuota>), MetaError> {
        let Some(quotas) = self.shared.quotas.dirs() else {
            return Ok((self.usage().await?, Vec::new()));
        };
        let path = Climb::new(self, true).path(self.real(ino)).await?;
        let limited = path.into_iter().filter(|dir| quotas.contains(dir));
        let keys: Vec<_> = limited.map(Key::DirQuota).collect();
        let found = self.asking(self.engine.fetch(&keys)).await?.into_iter();
        let held = found.filter_map(|value| match value {
            Value::DirQuota(quota) => quota,
            _ => None,
        });
        Ok((self.usage().await?, held.collect()))
    }
}
