//! What is asked of a node for people to see: where it is, and which slices it has.

use std::rc::Rc;
use std::sync::Arc;

use super::{Meta, entry_in, node_in};
use crate::limits::ANCESTORS_MAX;
use crate::meta::engine::{EngineError, Heard};
use crate::meta::overlay;
use crate::meta::slices::MetaError;
use crate::meta::txn::{Key, Value};
use crate::types::{Ino, Name, SliceRecord};

/// What is shown of a node that no path of this mount leads to.
const OUTSIDE: &[u8] = b"path not shown because it's outside of the mounted root";

impl Meta {
    /// The same volume, but what is removed is gone and does not go to the trash.
    pub fn without_trash(&self) -> Rc<Self> {
        Rc::new(Self {
            engine: Rc::clone(&self.engine),
            shared: Arc::clone(&self.shared),
            counts: self.counts.clone(),
            uses_trash: false,
        })
    }

    /// The visible pieces of each chunk of a file of this length that has any, holes among them.
    pub async fn pieces(
        &self,
        ino: Ino,
        length: u64,
    ) -> Result<Vec<(u32, Vec<SliceRecord>)>, MetaError> {
        let mut pieces = Vec::new();
        for (_, chunk) in self.listed(&[(ino, length)]).await? {
            let found = self.fetch(&[Key::Chunk(ino, chunk)]).await?;
            let Some(Value::Chunk(records)) = found.first() else {
                unreachable!("a chunk was asked for")
            };
            pieces.push((chunk, overlay(records)));
        }
        Ok(pieces)
    }

    /// All paths of a node from the root of the mount; those that cannot be told are left out.
    pub async fn paths(&self, ino: Ino) -> Result<Vec<Name>, MetaError> {
        match ino {
            Ino::ROOT => return Ok(vec![(*b"/").into()]),
            Ino::TRASH => return Ok(vec![(*b"/.trash").into()]),
            _ => {}
        }
        let mut paths = Vec::new();
        for parent in self.parents(ino).await? {
            let Some(folder) = self.path_of_dir(parent).await? else { continue };
            if *folder == *OUTSIDE {
                paths.push(folder.into());
                continue;
            }
            for entry in self.list(parent, false).await? {
                if entry.ino == ino {
                    paths.push([&folder[..], b"/", &entry.name].concat().into());
                }
            }
        }
        Ok(paths)
    }

    /// What names in a directory stand for.
    pub async fn stand_for(
        &self,
        dir: Ino,
        names: Vec<Name>,
    ) -> Result<Vec<Option<Ino>>, MetaError> {
        let real = self.real(dir);
        let keys: Vec<Key> = names.into_iter().map(|name| Key::Entry(real, name)).collect();
        let found = self.fetch(&keys).await?;
        let shown = |ino| if ino == self.shared.root { Ino::ROOT } else { ino };
        Ok(found.iter().map(|value| entry_in(value).map(|(_, ino)| shown(ino))).collect())
    }

    /// See [`Engine::watch`](crate::meta::Engine::watch).
    pub async fn watch(&self, hear: Rc<dyn Fn(Heard)>) -> EngineError {
        self.engine.watch(hear).await
    }

    /// The directories that have a name of a node.
    async fn parents(&self, ino: Ino) -> Result<Vec<Ino>, MetaError> {
        let found = self.fetch(&[Key::Node(ino), Key::Parents(ino)]).await?;
        let parent = node_in(&found[0])?.parent;
        if parent != Ino(0) {
            return Ok(vec![parent]);
        }
        let Value::Parents(parents) = &found[1] else { unreachable!("parents were asked for") };
        Ok(parents.iter().filter(|(_, links)| *links > 0).map(|(parent, _)| *parent).collect())
    }

    /// The path of a directory, empty for the root; `None` where something on the way is missing.
    async fn path_of_dir(&self, dir: Ino) -> Result<Option<Vec<u8>>, MetaError> {
        let (mut names, mut at) = (Vec::new(), dir);
        for _ in 0..ANCESTORS_MAX {
            if at == self.shared.root || at == Ino::ROOT {
                if at != self.shared.root {
                    return Ok(Some(OUTSIDE.to_vec()));
                }
                names.reverse();
                return Ok(Some(names.concat()));
            }
            if at == Ino::TRASH {
                names.push(b"/.trash".to_vec());
                at = Ino::ROOT;
                continue;
            }
            let parent = self.node(at).await?.parent;
            let list = self.engine.list(parent, false).await?;
            let Some(entry) = list.into_iter().find(|entry| entry.ino == at) else {
                return Ok(None);
            };
            names.push([b"/", &*entry.name].concat());
            at = parent;
        }
        Ok(None)
    }
}
