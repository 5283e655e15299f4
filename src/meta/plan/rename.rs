//! rename, with its forms that keep a target (no-replace) or swap it (exchange).

use rustix::io::Errno;

use super::remove::{Fate, Found, Removed, lose_dir, lose_name};
use super::{
    Rules, Who, accepts_names, count_child, owners, relied_on, removable_from, sticky, touch_dir,
    unchangeable,
};
use crate::meta::txn::{Commit, Expect, Mutation, NodeField, SetNode, Value};
use crate::types::{Attr, FileType, Ino, Time};

/// Fail with EEXIST where the target exists.
pub const NO_REPLACE: u32 = 1;
/// Swap source and target.
pub const EXCHANGE: u32 = 2;

/// One side of a rename: the directory, its attributes, the name in it.
pub(in crate::meta) struct Side<'a> {
    pub dir: Ino,
    pub parent: &'a Attr,
    pub name: &'a [u8],
}

/// What a rename is about: both sides and what stands there.
pub(in crate::meta) struct Ends<'a> {
    pub from: Side<'a>,
    pub to: Side<'a>,
    pub source: Found<'a>,
    pub target: Option<Found<'a>>,
}

/// How to rename, and who asks.
pub(in crate::meta) struct Manner<'a> {
    /// `NO_REPLACE`, `EXCHANGE` or 0.
    pub flags: u32,
    /// What becomes of a target that is replaced.
    pub fate: Fate,
    /// Directories above, see [`above`].
    pub above: Vec<(Ino, Ino)>,
    pub who: Who,
    pub rules: &'a Rules,
}

/// The commit, or `None` when nothing is to be done, with what became of a replaced node.
pub(in crate::meta) type Renamed = Option<(Commit, Option<Removed>)>;

/// The directories from where a directory moves to up to the root, each with its parent: it may
/// not be one of them. `known` are the nodes that were asked for; or the inode to ask for next.
pub(in crate::meta) fn above(
    ends: &Ends<'_>,
    flags: u32,
    known: &[Value],
) -> Result<Vec<(Ino, Ino)>, Ino> {
    let (mut found, mut known) = (Vec::new(), known.iter());
    let Ends { from, to, source, target } = ends;
    let swapped = target.filter(|_| flags & EXCHANGE != 0);
    for (moved, side) in [(Some(*source), to), (swapped, from)] {
        if from.dir == to.dir || moved.is_none_or(|(kind, ..)| kind != FileType::Dir) {
            continue;
        }
        let (mut at, mut parent) = (side.dir, side.parent.parent);
        while at > Ino::ROOT && !at.is_trash() {
            found.push((at, parent));
            at = parent;
            if at > Ino::ROOT && !at.is_trash() {
                parent = match known.next() {
                    Some(Value::Node(Some(node))) => node.parent,
                    // Gone: what named it as its parent does so no more.
                    Some(_) => break,
                    None => return Err(at),
                };
            }
        }
    }
    Ok(found)
}

/// Move what one side names to the other.
pub(in crate::meta) fn rename(
    ends: &Ends<'_>,
    manner: &Manner<'_>,
    now: Time,
) -> Result<Renamed, Errno> {
    let Ends { from, to, source, target } = ends;
    let (source, target) = (*source, *target);
    let Manner { flags, fate, who, rules, .. } = *manner;
    if target.is_some() && flags & NO_REPLACE != 0 {
        return Err(Errno::EXIST);
    }
    if target.is_some_and(|(_, ino, _)| ino == source.1) {
        return Ok(None);
    }
    allowed(ends, manner)?;
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
    let parents = manner.above.iter();
    commit.expects.extend(
        parents.map(|(dir, parent)| Expect::NodeFields(*dir, vec![NodeField::Parent(*parent)])),
    );
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

fn allowed(ends: &Ends<'_>, manner: &Manner<'_>) -> Result<(), Errno> {
    let Ends { from, to, source, target } = ends;
    let Manner { flags, who, above, .. } = manner;
    if let (Some(target), 0) = (target, flags & EXCHANGE) {
        match (source.0 == FileType::Dir, target.0 == FileType::Dir) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            _ => {}
        }
    }
    removable_from(from.parent)?;
    accepts_names(to.parent)?;
    let below_itself = |(_, ino, _): Found<'_>| above.iter().any(|(dir, _)| *dir == ino);
    if below_itself(*source) || target.is_some_and(below_itself) {
        return Err(Errno::INVAL);
    }
    unchangeable(source.2)?;
    sticky(from.parent, source.2, *who)?;
    let moves_dir = from.dir != to.dir && source.0 == FileType::Dir;
    if moves_dir && from.parent.mode & 0o1000 != 0 && who.uid != 0 && who.uid != source.2.uid {
        return Err(Errno::ACCESS);
    }
    if let Some((_, _, node)) = target {
        unchangeable(node)?;
        sticky(to.parent, node, *who)?;
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
