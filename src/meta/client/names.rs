//! Operations on names.

use rustix::io::Errno;

use super::acl::rule_in;
use super::{Meta, entry_in, found_in, node_in, now};
use crate::limits::ANCESTORS_MAX;
use crate::meta::engine::DirEntry;
use crate::meta::plan::acl::{OrRule, Permissions, default_for, permissions};
use crate::meta::plan::create::{NewNode, create, create_unnamed};
use crate::meta::plan::remove::{Fate, Removed, rmdir, trash_key, unlink};
use crate::meta::plan::rename::{EXCHANGE, Ends, Manner, NO_REPLACE, Side, above, rename};
use crate::meta::plan::{Rules, Who, link};
use crate::meta::slices::MetaError;
use crate::meta::txn::{Key, Value};
use crate::types::{Attr, Ino, NAME_BYTES_MAX};

/// A node that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its inode.
    pub ino: Ino,
    /// Its attributes.
    pub attr: Attr,
    /// The directory's attributes, as they are with it.
    pub dir: Option<Attr>,
}

/// What a rename touched.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The node that was moved.
    pub ino: Ino,
    /// The node that was replaced, or moved the other way.
    pub other: Option<Ino>,
    /// What became of a replaced non-directory.
    pub removed: Option<Removed>,
}

fn good_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" => Err(Errno::INVAL),
        _ if name.len() > NAME_BYTES_MAX => Err(Errno::NAMETOOLONG),
        _ if name.contains(&b'/') || name.contains(&0) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// A directory and a name in it.
type Place<'a> = (Ino, &'a [u8]);

/// Both ends of a rename, as the first four values tell them.
fn ends<'a>(
    ((dir, name), (new_dir, new_name)): (Place<'a>, Place<'a>),
    found: &'a [Value],
) -> Result<Ends<'a>, Errno> {
    Ok(Ends {
        source: found_in(&found[1])?.ok_or(Errno::NOENT)?,
        target: found_in(&found[3])?,
        from: Side { dir, parent: node_in(&found[0])?, name },
        to: Side { dir: new_dir, parent: node_in(&found[2])?, name: new_name },
    })
}

/// The default list that a new node in a directory begins with, to be asked for.
fn default_key(new: &NewNode, parent: &Value) -> Option<Key> {
    default_for(new, node_in(parent).ok()?).map(Key::Acl)
}

impl Meta {
    fn is_trash_name(&self, dir: Ino, name: &[u8]) -> bool {
        self.real(dir) == Ino::ROOT && name == b".trash"
    }

    fn changeable(&self, dir: Ino, name: &[u8], who: Who) -> Result<(), Errno> {
        good_name(name)?;
        if self.is_trash_name(dir, name) || dir.is_trash() && who.uid != 0 {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// What `name` in `dir` stands for.
    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<(Ino, Attr), MetaError> {
        let real = self.real(dir);
        if name == b"." {
            return Ok((dir, self.getattr(dir).await?));
        }
        if name == b".." {
            let parent = self.node(real).await?.parent;
            let shown = if real == self.shared.root || parent == self.shared.root {
                Ino::ROOT
            } else {
                parent
            };
            return Ok((shown, self.getattr(shown).await?));
        }
        if self.is_trash_name(dir, name) {
            return Ok((Ino::TRASH, self.getattr(Ino::TRASH).await?));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let found = self.fetch(&[Key::EntryNode(real, name.into())]).await?;
        let (_, ino, attr) = found_in(&found[0])?.ok_or(Errno::NOENT)?;
        Ok((ino, attr.clone()))
    }

    /// Make a node; EEXIST if the name is taken.
    pub async fn create(
        &self,
        dir: Ino,
        name: &[u8],
        new: &NewNode,
        who: Who,
    ) -> Result<Made, MetaError> {
        good_name(name)?;
        if dir.is_trash() {
            return Err(Errno::PERM.into());
        }
        if self.is_trash_name(dir, name) || name == b"." || name == b".." {
            return Err(Errno::EXIST.into());
        }
        let dir = self.real(dir);
        self.create_in(dir, name, new, who).await
    }

    /// As [`Meta::create`], also below the trash root.
    pub(super) async fn create_in(
        &self,
        dir: Ino,
        name: &[u8],
        new: &NewNode,
        who: Who,
    ) -> Result<Made, MetaError> {
        self.writable()?;
        let ino = self.next_inode().await?;
        self.create_as(ino, dir, name, new, who).await
    }

    pub(super) async fn create_as(
        &self,
        ino: Ino,
        dir: Ino,
        name: &[u8],
        new: &NewNode,
        who: Who,
    ) -> Result<Made, MetaError> {
        let keys = [Key::Node(dir), Key::Entry(dir, name.into())];
        let rules = self.shared.rules();
        let ask = |found: &[Value]| match found {
            [parent, _] => default_key(new, parent),
            _ => None,
        };
        let made = self.with_rules(async || {
            let done = self.decide_asking(&keys, ask, |found| {
                let parent = node_in(&found[0])?;
                if found[1] != Value::Entry(None) {
                    return Err(Errno::EXIST);
                }
                let given = match self.permissions(new, parent, found.get(2))? {
                    Ok(given) => given,
                    Err(rule) => return Ok((None, Err(rule))),
                };
                create((dir, parent), name, (ino, given), new, who, &rules, now())
                    .map(|(commit, attr)| (Some(commit), Ok(attr)))
            });
            let (planned, nodes) = done.await?;
            Ok(planned.map(|attr| (attr, nodes)))
        });
        let (attr, nodes) = made.await?;
        self.shared.seen.node(ino, &attr);
        self.shared.seen.name(dir, name, new.kind, ino);
        Ok(Made { ino, attr, dir: self.returned(dir, nodes) })
    }

    /// Make a file without a name below `dir`, for `open(O_TMPFILE)`; EOPNOTSUPP without a session,
    /// which keeps it.
    pub async fn create_unnamed(
        &self,
        dir: Ino,
        new: &NewNode,
        who: Who,
    ) -> Result<(Ino, Attr), MetaError> {
        if dir.is_trash() {
            return Err(Errno::PERM.into());
        }
        self.writable()?;
        let (dir, ino) = (self.real(dir), self.next_inode().await?);
        let rules = self.shared.rules();
        let ask = |found: &[Value]| match found {
            [parent] => default_key(new, parent),
            _ => None,
        };
        let made = self.with_rules(async || {
            let done = self.decide_asking([Key::Node(dir)], ask, |found| {
                let parent = node_in(&found[0])?;
                let given = match self.permissions(new, parent, found.get(1))? {
                    Ok(given) => given,
                    Err(rule) => return Ok((None, Err(rule))),
                };
                create_unnamed((dir, parent), (ino, given), new, who, &rules, now())
                    .map(|(commit, attr)| (Some(commit), Ok(attr)))
            });
            Ok(done.await?.0)
        });
        Ok((ino, made.await?))
    }

    /// Permissions of a new node where `default` tells the directory's default list.
    fn permissions(
        &self,
        new: &NewNode,
        parent: &Attr,
        default: Option<&Value>,
    ) -> Result<OrRule<Permissions>, Errno> {
        let default = default.map(rule_in).transpose()?;
        Ok(permissions(new, parent, default, |rule| self.shared.rulebook.id(rule)))
    }

    /// Take away the name of a non-directory; `is_open` tells whether this mount has it open. With
    /// the directory's attributes afterwards.
    pub async fn unlink(
        &self,
        dir: Ino,
        name: &[u8],
        who: Who,
        is_open: &dyn Fn(Ino) -> bool,
    ) -> Result<(Removed, Option<Attr>), MetaError> {
        self.changeable(dir, name, who)?;
        let dir = self.real(dir);
        let rules = self.rules_for_removal(dir).await?;
        let keys = [Key::Node(dir), Key::EntryNode(dir, name.into())];
        // A name that was not asked for in the trash does not matter.
        let ask = |found: &[Value]| match found {
            [_, target] => trash_key((dir, name), found_in(target).ok()??, &rules),
            _ => None,
        };
        let done = self.decide_asking(&keys, ask, |found| {
            let target = found_in(&found[1])?.ok_or(Errno::NOENT)?;
            let fate =
                Fate { is_open: is_open(target.1), in_trash: found.get(2).and_then(entry_in) };
            unlink((dir, node_in(&found[0])?), name, target, fate, who, &rules, now())
                .map(|(commit, removed)| (Some(commit), removed))
        });
        let (removed, nodes) = done.await?;
        self.gone(dir, name, removed.ino);
        Ok((removed, self.returned(dir, nodes)))
    }

    /// Take away an empty directory; its inode, and the attributes of `dir` afterwards. The folders
    /// of the trash stay: mounts go on to put into them what is removed.
    pub async fn rmdir(
        &self,
        dir: Ino,
        name: &[u8],
        who: Who,
    ) -> Result<(Ino, Option<Attr>), MetaError> {
        match name {
            b"." => return Err(Errno::INVAL.into()),
            b".." => return Err(Errno::NOTEMPTY.into()),
            _ if dir == Ino::TRASH => return Err(Errno::PERM.into()),
            _ => self.changeable(dir, name, who)?,
        }
        let dir = self.real(dir);
        let rules = self.rules_for_removal(dir).await?;
        let keys = [Key::Node(dir), Key::EntryNode(dir, name.into())];
        let done = self.decide_warm(&keys, |found| {
            let target = found_in(&found[1])?.ok_or(Errno::NOENT)?;
            rmdir((dir, node_in(&found[0])?), name, target, who, &rules, now())
                .map(|commit| (Some(commit), target.1))
        });
        let (ino, nodes) = done.await?;
        self.gone(dir, name, ino);
        Ok((ino, self.returned(dir, nodes)))
    }

    /// The directory's attributes that a commit told.
    fn returned(&self, dir: Ino, nodes: Vec<Option<Attr>>) -> Option<Attr> {
        let attr = nodes.into_iter().next().flatten();
        if let Some(attr) = &attr {
            self.shared.seen.node(dir, attr);
        }
        attr
    }

    /// A name of a node was taken away.
    pub(super) fn gone(&self, dir: Ino, name: &[u8], ino: Ino) {
        self.shared.seen.forget_name(dir, name);
        self.shared.seen.forget_node(ino);
    }

    async fn rules_for_removal(&self, dir: Ino) -> Result<Rules, MetaError> {
        let mut rules = self.shared.rules();
        if self.uses_trash && !dir.is_trash() {
            rules.trash = self.trash_folder().await?;
        }
        Ok(rules)
    }

    /// Move a name.
    pub async fn rename(
        &self,
        (dir, name): (Ino, &[u8]),
        (new_dir, new_name): (Ino, &[u8]),
        flags: u32,
        who: Who,
        is_open: &dyn Fn(Ino) -> bool,
    ) -> Result<Moved, MetaError> {
        if flags & !(NO_REPLACE | EXCHANGE) != 0 || flags == NO_REPLACE | EXCHANGE {
            return Err(Errno::INVAL.into());
        }
        self.changeable(dir, name, who)?;
        self.changeable(new_dir, new_name, who)?;
        // Nothing gets into the trash but by a removal, which relies on the names there.
        let into_trash = new_dir.is_trash() || dir.is_trash() && flags & EXCHANGE != 0;
        if into_trash || dir == Ino::TRASH {
            return Err(Errno::PERM.into());
        }
        let (dir, new_dir) = (self.real(dir), self.real(new_dir));
        let rules = if flags & EXCHANGE == 0 {
            self.rules_for_removal(new_dir).await?
        } else {
            self.shared.rules()
        };
        let keys = [
            Key::Node(dir),
            Key::EntryNode(dir, name.into()),
            Key::Node(new_dir),
            Key::EntryNode(new_dir, new_name.into()),
        ];
        let names = ((dir, name), (new_dir, new_name));
        let ask = |found: &[Value]| {
            let (ends, more) = (ends(names, found).ok()?, &found[keys.len()..]);
            let replaced = ends.target.filter(|_| flags & EXCHANGE == 0 && more.is_empty());
            let kept = replaced.and_then(|target| trash_key((new_dir, new_name), target, &rules));
            let climb = || above(&ends, flags, more).err().map(Key::Node);
            kept.or_else(climb).filter(|_| more.len() < ANCESTORS_MAX)
        };
        let done = self.decide_asking(&keys, ask, |found| {
            let (ends, more) = (ends(names, found)?, &found[keys.len()..]);
            let (source, target) = (ends.source.1, ends.target.map(|target| target.1));
            let in_trash = match more.first() {
                Some(Value::Entry(found)) => *found,
                _ => None,
            };
            let fate = Fate { is_open: target.is_some_and(is_open), in_trash };
            // Only what was not asked to the end is not known.
            let above = above(&ends, flags, more).map_err(|_| Errno::LOOP)?;
            let manner = Manner { flags, fate, above, who, rules: &rules };
            Ok(match rename(&ends, &manner, now())? {
                Some((commit, removed)) => (Some(commit), (source, target, removed)),
                None => (None, (source, None, None)),
            })
        });
        let (ino, other, removed) = done.await?.0;
        self.gone(dir, name, ino);
        self.gone(new_dir, new_name, other.unwrap_or(ino));
        Ok(Moved { ino, other, removed })
    }

    /// One more name for a node; its attributes afterwards.
    pub async fn link(&self, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attr, MetaError> {
        self.changeable(dir, name, Who { uid: 0, gid: 0 })?;
        if dir.is_trash() {
            return Err(Errno::PERM.into());
        }
        let dir = self.real(dir);
        let keys = [Key::Node(ino), Key::Node(dir), Key::Entry(dir, name.into())];
        let rules = self.shared.rules();
        let (_, nodes) = self
            .decide_warm(&keys, |found| {
                if found[2] != Value::Entry(None) {
                    return Err(Errno::EXIST);
                }
                link::link(
                    (ino, node_in(&found[0])?),
                    (dir, node_in(&found[1])?),
                    name,
                    &rules,
                    now(),
                )
                .map(|commit| (Some(commit), ()))
            })
            .await?;
        let attr = nodes.into_iter().next().flatten().ok_or(Errno::NOENT)?;
        self.shared.seen.node(ino, &attr);
        self.shared.seen.name(dir, name, attr.kind, ino);
        Ok(attr)
    }

    /// All names of a directory.
    pub async fn list(&self, dir: Ino, with_attr: bool) -> Result<Vec<DirEntry>, MetaError> {
        Ok(self.asking(self.engine.list(self.real(dir), with_attr)).await?)
    }
}
