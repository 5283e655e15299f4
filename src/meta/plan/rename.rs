//! rename, with its forms that keep a target (no-replace) or swap it (exchange).

use rustix::io::Errno;

use super::remove::{Fate, Found, Removed, lose_dir, lose_name};
use super::{
    Rules, Who, accepts_names, count_child, owners, relied_on, removable_from, sticky, touch_dir,
    unchangeable,
};
use crate::meta::txn::{Commit, Expect, Mutation, NodeField, SetNode};
use crate::types::{Attr, FileType, Ino, Time};

/// Fail with EEXIST where the target exists.
pub const NO_REPLACE: u32 = 1;
/// Swap source and target.
pub const EXCHANGE: u32 = 2;

/// One side of a rename: the directory, its attributes, the name, what stands there.
pub(in crate::meta) struct Side<'a> {
    pub dir: Ino,
    pub parent: &'a Attr,
    pub name: &'a [u8],
}

/// How to rename, and who asks.
pub(in crate::meta) struct Manner<'a> {
    /// `NO_REPLACE`, `EXCHANGE` or 0.
    pub flags: u32,
    /// What becomes of a target that is replaced.
    pub fate: Fate,
    pub who: Who,
    pub rules: &'a Rules,
}

/// The commit, or `None` when nothing is to be done, with what became of a replaced node.
pub(in crate::meta) type Renamed = Option<(Commit, Option<Removed>)>;

/// Move what `from` names to `to`.
pub(in crate::meta) fn rename(
    from: &Side<'_>,
    to: &Side<'_>,
    source: Found<'_>,
    target: Option<Found<'_>>,
    manner: &Manner<'_>,
    now: Time,
) -> Result<Renamed, Errno> {
    let Manner { flags, fate, who, rules } = *manner;
    if target.is_some() && flags & NO_REPLACE != 0 {
        return Err(Errno::EXIST);
    }
    if target.is_some_and(|(_, ino, _)| ino == source.1) {
        return Ok(None);
    }
    allowed(from, to, source, target, flags, who)?;
    let mut commit = Commit {
        expects: vec![
            Expect::NodeFields(from.dir, relied_on(from.parent)),
            Expect::NodeFields(to.dir, relied_on(to.parent)),
            Expect::EntryIs(from.dir, from.name.into(), source.0, source.1),
            match target {
                Some((kind, ino, _)) => Expect::EntryIs(to.dir, to.name.into(), kind, ino),
                None => Expect::EntryAbsent(to.dir, to.name.into()),
            },
        ],
        ..Commit::default()
    };
    commit.expects.extend(owners((from.dir, from.parent), (source.1, source.2), who));
    if let Some((_, ino, node)) = target {
        commit.expects.extend(owners((to.dir, to.parent), (ino, node), who));
    }
    if flags & EXCHANGE != 0 {
        let target = target.ok_or(Errno::NOENT)?;
        exchange(&mut commit, from, to, source, target, rules, now);
        return Ok(Some((commit, None)));
    }
    commit.mutations.push(Mutation::DelEntry(from.dir, from.name.into()));
    let removed = target.and_then(|target| replace(&mut commit, to, target, fate, rules, now));
    commit.mutations.push(Mutation::PutEntry(to.dir, to.name.into(), source.0, source.1));
    settle(&mut commit, (from.dir, to.dir), source, now);
    let is_dir = |found: Found<'_>| i32::from(found.0 == FileType::Dir);
    let lost = target.map_or(0, is_dir);
    let moved = if from.dir == to.dir { 0 } else { is_dir(source) };
    if from.dir != to.dir {
        commit.mutations.extend(touch_dir(from.dir, -moved, rules, now));
    }
    commit.mutations.extend(touch_dir(to.dir, moved - lost, rules, now));
    Ok(Some((commit, removed)))
}

fn allowed(
    from: &Side<'_>,
    to: &Side<'_>,
    source: Found<'_>,
    target: Option<Found<'_>>,
    flags: u32,
    who: Who,
) -> Result<(), Errno> {
    if let (Some(target), 0) = (target, flags & EXCHANGE) {
        match (source.0 == FileType::Dir, target.0 == FileType::Dir) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            _ => {}
        }
    }
    removable_from(from.parent)?;
    accepts_names(to.parent)?;
    if source.1 == to.dir
        || source.1 == to.parent.parent && source.0 == FileType::Dir && to.dir != Ino::ROOT
    {
        return Err(Errno::INVAL);
    }
    unchangeable(source.2)?;
    sticky(from.parent, source.2, who)?;
    let moves_dir = from.dir != to.dir && source.0 == FileType::Dir;
    if moves_dir && from.parent.mode & 0o1000 != 0 && who.uid != 0 && who.uid != source.2.uid {
        return Err(Errno::ACCESS);
    }
    if let Some((_, _, node)) = target {
        unchangeable(node)?;
        sticky(to.parent, node, who)?;
    }
    Ok(())
}

/// The target loses its name to the source.
fn replace(
    commit: &mut Commit,
    to: &Side<'_>,
    (kind, ino, node): Found<'_>,
    fate: Fate,
    rules: &Rules,
    now: Time,
) -> Option<Removed> {
    commit.mutations.push(count_child(to.dir, node, -1));
    if kind == FileType::Dir {
        commit.expects.push(Expect::DirEmpty(ino));
        lose_dir(commit, (to.dir, to.name), (ino, node), rules, now);
        return None;
    }
    Some(lose_name(commit, (to.dir, to.name), (ino, node), fate, rules, now))
}

/// A node has moved between directories: parent or parents table, times, statistics.
fn settle(commit: &mut Commit, (old, new): (Ino, Ino), (_, ino, node): Found<'_>, now: Time) {
    let mut set = SetNode { ctime: Some(now), ..SetNode::default() };
    let mut relied = vec![NodeField::Parent(node.parent), NodeField::Flags(node.flags)];
    if old != new {
        // Statistics of both directories move by it.
        relied.push(NodeField::Length(node.length));
        if node.parent == Ino(0) {
            commit.mutations.push(Mutation::AddParent(ino, new, 1));
            commit.mutations.push(Mutation::AddParent(ino, old, -1));
        } else {
            set.parent = Some(new);
        }
        commit.mutations.push(count_child(old, node, -1));
        commit.mutations.push(count_child(new, node, 1));
    }
    commit.expects.push(Expect::NodeFields(ino, relied));
    commit.mutations.push(Mutation::Set(ino, set));
}

fn exchange(
    commit: &mut Commit,
    from: &Side<'_>,
    to: &Side<'_>,
    source: Found<'_>,
    target: Found<'_>,
    rules: &Rules,
    now: Time,
) {
    commit.mutations.push(Mutation::PutEntry(from.dir, from.name.into(), target.0, target.1));
    commit.mutations.push(Mutation::PutEntry(to.dir, to.name.into(), source.0, source.1));
    settle(commit, (from.dir, to.dir), source, now);
    settle(commit, (to.dir, from.dir), target, now);
    let gained = i32::from(source.0 == FileType::Dir) - i32::from(target.0 == FileType::Dir);
    if from.dir == to.dir {
        commit.mutations.extend(touch_dir(to.dir, 0, rules, now));
    } else {
        commit.mutations.extend(touch_dir(from.dir, -gained, rules, now));
        commit.mutations.extend(touch_dir(to.dir, gained, rules, now));
    }
}
