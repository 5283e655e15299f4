//! The tree of a dump: directories depth first, names in order.
//!
//! Owns what is in memory meanwhile: for each directory of the path that is being walked the names
//! that are still to come, and one batch of nodes of each.

use std::collections::VecDeque;
use std::io::Write;
use std::vec;

use super::{DumpError, check_count, form, pause};
use crate::limits::{DUMP_BATCH, DUMP_CHUNKS, DUMP_NAMES_MAX};
use crate::meta::{DirEntry, Engine, Key, Rule, Value};
use crate::net::side;
use crate::types::{Attr, CHUNK_BYTES, FileType, Ino, Name, SliceRecord, Time};

/// A name that is still to be written.
struct Named {
    name: Name,
    ino: Ino,
    kind: FileType,
}

/// One with all that belongs to its node, but for the chunks after the first.
struct Entry {
    name: Name,
    ino: Ino,
    attr: Attr,
    target: Option<Name>,
    first_chunk: Vec<SliceRecord>,
    xattrs: Vec<(Name, Box<[u8]>)>,
    access: Option<Rule>,
    default: Option<Rule>,
}

/// A directory that is being walked.
struct Level {
    name: Name,
    dir: Ino,
    names: vec::IntoIter<Named>,
    ready: VecDeque<Entry>,
    written: bool,
}

/// Write the tree below `top` as `title`; returns how many names it has. A volume that never had a trash
/// has none, and the real client dumps an empty one.
pub(super) async fn write<W: Write>(
    engine: &dyn Engine,
    title: &str,
    top: Ino,
    out: &mut W,
) -> Result<u64, DumpError> {
    let mut walk = Walk { engine, out, names: 0 };
    let named = Named { name: title.as_bytes().into(), ino: top, kind: FileType::Dir };
    let top = match walk.read(vec![named]).await?.pop() {
        Some(entry) => entry,
        None if top == Ino::ROOT => return Err(DumpError::Damaged("the root has no node".into())),
        None => Entry {
            name: title.as_bytes().into(),
            ino: top,
            attr: Attr::new(FileType::Dir, 0, Time::default()),
            target: None,
            first_chunk: Vec::new(),
            xattrs: Vec::new(),
            access: None,
            default: None,
        },
    };
    walk.tree(top).await?;
    Ok(walk.names)
}

struct Walk<'a, W> {
    engine: &'a dyn Engine,
    out: &'a mut W,
    names: u64,
}

impl<W: Write> Walk<'_, W> {
    async fn tree(&mut self, top: Entry) -> Result<(), DumpError> {
        self.out.write_all(b",")?;
        let mut levels = vec![self.open(top, 0).await?];
        while let Some(level) = levels.last_mut() {
            if level.ready.is_empty() && level.names.len() > 0 {
                let batch = level.names.by_ref().take(DUMP_BATCH).collect();
                level.ready = self.read(batch).await?.into();
                continue;
            }
            let Some(entry) = level.ready.pop_front() else {
                self.out.write_all(b"\n}}")?;
                levels.pop();
                continue;
            };
            let is_dir = entry.attr.kind == FileType::Dir;
            if is_dir && let Some(above) = levels.iter().position(|level| level.dir == entry.ino) {
                // One that has moved below what is being walked has been written already.
                self.check_moved(&levels[above..], &entry).await?;
                continue;
            }
            let level = levels.last_mut().expect("the name is one of its");
            if std::mem::replace(&mut level.written, true) {
                self.out.write_all(b",")?;
            }
            self.names += 1;
            if is_dir {
                let held = levels.iter().map(|level| level.names.len()).sum();
                levels.push(self.open(entry, held).await?);
            } else {
                self.leaf(&entry).await?;
            }
        }
        Ok(())
    }

    /// A directory is found again below itself: whether any of the names that lead there leads elsewhere by now.
    async fn check_moved(&self, path: &[Level], entry: &Entry) -> Result<(), DumpError> {
        let below = path.iter().skip(1).map(|level| (&level.name, level.dir));
        let steps: Vec<_> = below.chain([(&entry.name, entry.ino)]).collect();
        let keys = path
            .iter()
            .zip(&steps)
            .map(|(level, (name, _))| Key::Entry(level.dir, (*name).clone()));
        let found = self.engine.fetch(&keys.collect::<Vec<_>>()).await?;
        let leads = |(value, (_, ino)): (&Value, &(&Name, Ino))| matches!(value, Value::Entry(Some((_, to))) if to == ino);
        if found.iter().zip(&steps).all(leads) {
            return Err(DumpError::Damaged(format!("directory {} is below itself", entry.ino)));
        }
        Ok(())
    }

    /// Begin a directory, while so many names of others are in memory.
    async fn open(&mut self, entry: Entry, held: usize) -> Result<Level, DumpError> {
        self.begin(&entry)?;
        self.out.write_all(b",\"entries\":{")?;
        let found = self.engine.fetch(&[Key::DirLen(entry.ino)]).await?.pop();
        let Some(Value::DirLen(count)) = found else { unreachable!("a length was asked for") };
        let all = held.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        let what = || format!("names of directory {} and those above it", entry.ino);
        check_count(all, DUMP_NAMES_MAX, what)?;
        let listed = self.engine.list(entry.ino, false).await?;
        // A directory of many names would hold up the core.
        let bytes = listed.len() * size_of::<DirEntry>();
        let names = side::run_sized(bytes, move || in_order(listed)).await;
        pause().await;
        Ok(Level {
            name: entry.name,
            dir: entry.ino,
            names: names.into_iter(),
            ready: VecDeque::new(),
            written: false,
        })
    }

    /// What is written of any node, without the end.
    fn begin(&mut self, entry: &Entry) -> Result<(), DumpError> {
        let (name, attr) = (form::escaped(&entry.name), form::attr(entry.ino, &entry.attr));
        write!(self.out, "\n\"{name}\":{{\"attr\":{attr}")?;
        if let Some(target) = entry.target.as_ref().filter(|target| !target.is_empty()) {
            write!(self.out, ",\"symlink\":\"{}\"", form::escaped(target))?;
        }
        if !entry.xattrs.is_empty() {
            write!(self.out, ",\"xattrs\":{}", form::xattrs(&entry.xattrs))?;
        }
        for (key, rule) in [("access", &entry.access), ("default", &entry.default)] {
            if let Some(rule) = rule {
                write!(self.out, ",\"posix_acl_{key}\":{}", form::rule(rule))?;
            }
        }
        Ok(())
    }

    /// A node that is no directory, with all its chunks.
    async fn leaf(&mut self, entry: &Entry) -> Result<(), DumpError> {
        self.begin(entry)?;
        let mut separator = ",\"chunks\":[";
        if entry.attr.kind == FileType::File && entry.attr.length > 0 {
            if !entry.first_chunk.is_empty() {
                write!(self.out, "{separator}{}", form::chunk(0, &entry.first_chunk))?;
                separator = ",\n";
            }
            let end = entry.attr.length.div_ceil(CHUNK_BYTES) as u32;
            for some in self.listed(entry.ino, end).await?.chunks(DUMP_CHUNKS) {
                for (index, records) in self.chunks(entry.ino, some).await? {
                    write!(self.out, "{separator}{}", form::chunk(index, &records))?;
                    separator = ",\n";
                }
                pause().await;
            }
        }
        let end: &[u8] = if separator == ",\n" { b"]}" } else { b"}" };
        Ok(self.out.write_all(end)?)
    }

    /// Chunks of a file after the first that have a list. They are asked for once: most of a file of holes are
    /// none.
    async fn listed(&self, ino: Ino, end: u32) -> Result<Vec<u32>, DumpError> {
        if end < 2 {
            return Ok(Vec::new());
        }
        let found = self.engine.fetch(&[Key::Chunks(ino, 1, end)]).await?.pop();
        let Some(Value::Chunks(mut indexes)) = found else { unreachable!("chunks were asked for") };
        indexes.retain(|index| (1..end).contains(index));
        Ok(indexes)
    }

    /// The lists of some chunks of a file.
    async fn chunks(
        &self,
        ino: Ino,
        indexes: &[u32],
    ) -> Result<Vec<(u32, Vec<SliceRecord>)>, DumpError> {
        let keys: Vec<_> = indexes.iter().map(|index| Key::Chunk(ino, *index)).collect();
        let lists = self.engine.fetch(&keys).await?.into_iter().map(|value| match value {
            Value::Chunk(records) => records,
            other => unreachable!("a chunk was asked for, not {other:?}"),
        });
        // One that is gone since has no records.
        Ok(indexes.iter().copied().zip(lists).filter(|(_, list)| !list.is_empty()).collect())
    }

    /// All that belongs to some names; those that are gone by now are left out.
    async fn read(&self, batch: Vec<Named>) -> Result<Vec<Entry>, DumpError> {
        let mut keys = Vec::with_capacity(batch.len() * 3);
        for Named { ino, kind, .. } in &batch {
            keys.extend([Key::Node(*ino), Key::XattrNames(*ino)]);
            match kind {
                FileType::File => keys.push(Key::Chunk(*ino, 0)),
                FileType::Symlink => keys.push(Key::Symlink(*ino)),
                _ => {}
            }
        }
        let mut values = self.engine.fetch(&keys).await?.into_iter();
        let mut entries = Vec::with_capacity(batch.len());
        for named in batch {
            if let Some(entry) = entry(named, &mut values)? {
                entries.push(entry);
            }
        }
        self.read_rest(&mut entries).await?;
        pause().await;
        Ok(entries)
    }

    /// The values of extended attributes, and rules.
    async fn read_rest(&self, entries: &mut [Entry]) -> Result<(), DumpError> {
        let mut keys = Vec::new();
        for entry in &*entries {
            keys.extend(entry.xattrs.iter().map(|(name, _)| Key::Xattr(entry.ino, name.clone())));
            let ids = [entry.attr.access_acl, entry.attr.default_acl];
            keys.extend(ids.into_iter().filter(|id| *id != 0).map(Key::Acl));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let mut values = self.engine.fetch(&keys).await?.into_iter();
        for entry in entries {
            // One that is gone since is left out.
            entry.xattrs.retain_mut(|(_, value)| match values.next() {
                Some(Value::Xattr(Some(found))) => {
                    *value = found;
                    true
                }
                _ => false,
            });
            // Rules are never removed, and are there before who has them.
            let mut rule = |id: u32| match (id != 0).then(|| values.next()).flatten() {
                None => Ok(None),
                Some(Value::Acl(Some(rule))) => Ok(Some(rule)),
                Some(_) => Err(DumpError::Damaged(format!(
                    "rule {id} of access control, which inode {} has, is missing",
                    entry.ino
                ))),
            };
            entry.access = rule(entry.attr.access_acl)?;
            entry.default = rule(entry.attr.default_acl)?;
        }
        Ok(())
    }
}

/// The names of a directory in the order in which they are written.
fn in_order(listed: Vec<DirEntry>) -> Vec<Named> {
    let mut names: Vec<_> = listed
        .into_iter()
        .map(|DirEntry { name, ino, kind, .. }| Named { name, ino, kind })
        .collect();
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    names
}

/// What was fetched for a name, if its node is there.
fn entry(
    named: Named,
    values: &mut impl Iterator<Item = Value>,
) -> Result<Option<Entry>, DumpError> {
    let Named { name, ino, kind } = named;
    let (node, xattrs) = (values.next(), values.next());
    let (Some(Value::Node(node)), Some(Value::XattrNames(mut xattrs))) = (node, xattrs) else {
        unreachable!("a node and its attributes were asked for")
    };
    let (mut target, mut first_chunk) = (None, Vec::new());
    match kind {
        FileType::File => {
            let Some(Value::Chunk(records)) = values.next() else {
                unreachable!("a chunk was asked for")
            };
            first_chunk = records;
        }
        FileType::Symlink => {
            let Some(Value::Symlink(found)) = values.next() else {
                unreachable!("a target was asked for")
            };
            target = found;
        }
        _ => {}
    }
    let Some(attr) = node else { return Ok(None) };
    if attr.kind != kind {
        let name = form::escaped(&name);
        return Err(DumpError::Damaged(format!("inode {ino} is not what its name {name} says")));
    }
    xattrs.sort_unstable();
    let xattrs = xattrs.into_iter().map(|name| (name, Box::default())).collect();
    let (access, default) = (None, None);
    Ok(Some(Entry { name, ino, attr, target, first_chunk, xattrs, access, default }))
}
