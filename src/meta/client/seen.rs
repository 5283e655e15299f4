//! What metadata told this mount lately: the guess from which a plan may begin without asking.
//!
//! Owns no truth. A commit planned from a guess carries what it relied on as conditions; if they
//! do not hold, the plan begins again from what is fetched. So nothing here has a lifetime, and a
//! stale entry costs a round trip, never a wrong result.

use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};

use crate::limits::SEEN_MAX;
use crate::meta::txn::{Key, Value};
use crate::types::{Attr, FileType, Ino, Name};

const SHARDS: usize = 16;
const PER_SHARD: usize = SEEN_MAX / SHARDS;

#[derive(PartialEq, Eq)]
struct Named(Ino, Name);

struct NamedRef<'a>(Ino, &'a [u8]);

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NamedRef(self.0, &self.1).hash(state);
    }
}

impl Hash for NamedRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Named> for NamedRef<'_> {
    fn equivalent(&self, key: &Named) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

#[derive(Default)]
struct Shard {
    nodes: HashMap<Ino, Attr, RandomState>,
    /// By directory and name; they lie in the shard of the directory.
    names: HashMap<Named, (FileType, Ino), RandomState>,
}

/// One per mount.
#[derive(Default)]
pub(super) struct Seen {
    shards: [Mutex<Shard>; SHARDS],
}

impl Seen {
    /// A node is like this.
    pub fn node(&self, ino: Ino, attr: &Attr) {
        let mut shard = self.shard(ino);
        if shard.nodes.len() >= PER_SHARD {
            shard.nodes.clear();
        }
        shard.nodes.insert(ino, attr.clone());
    }

    /// A name stands for this.
    pub fn name(&self, dir: Ino, name: &[u8], kind: FileType, ino: Ino) {
        let mut shard = self.shard(dir);
        if let Some(known) = shard.names.get_mut(&NamedRef(dir, name)) {
            *known = (kind, ino);
            return;
        }
        if shard.names.len() >= PER_SHARD {
            shard.names.clear();
        }
        shard.names.insert(Named(dir, name.into()), (kind, ino));
    }

    /// A node is not as it was.
    pub fn forget_node(&self, ino: Ino) {
        self.shard(ino).nodes.remove(&ino);
    }

    /// A name does not stand for what it did.
    pub fn forget_name(&self, dir: Ino, name: &[u8]) {
        self.shard(dir).names.remove(&NamedRef(dir, name));
    }

    /// Keep what was fetched.
    pub fn fetched(&self, keys: &[Key], values: &[Value]) {
        for (key, value) in keys.iter().zip(values) {
            match (key, value) {
                (Key::Node(ino), Value::Node(Some(attr))) => self.node(*ino, attr),
                (Key::EntryNode(dir, name), Value::EntryNode(Some((kind, ino, Some(attr))))) => {
                    self.name(*dir, name, *kind, *ino);
                    self.node(*ino, attr);
                }
                (Key::EntryNode(dir, name), Value::EntryNode(None)) => self.forget_name(*dir, name),
                _ => {}
            }
        }
    }

    /// A guess at the values of `keys`; a name that is not known is guessed absent.
    pub fn guess(&self, keys: &[Key]) -> Option<Vec<Value>> {
        keys.iter().map(|key| self.guess_one(key)).collect()
    }

    fn guess_one(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Node(ino) => self.known(*ino).map(|attr| Value::Node(Some(attr))),
            Key::Entry(dir, name) => {
                let known = self.shard(*dir).names.contains_key(&NamedRef(*dir, name));
                (!known).then_some(Value::Entry(None))
            }
            Key::EntryNode(dir, name) => {
                let known = self.shard(*dir).names.get(&NamedRef(*dir, name)).copied();
                let Some((kind, ino)) = known else { return Some(Value::EntryNode(None)) };
                Some(Value::EntryNode(Some((kind, ino, Some(self.known(ino)?)))))
            }
            _ => None,
        }
    }

    /// A node as it was.
    pub fn known(&self, ino: Ino) -> Option<Attr> {
        self.shard(ino).nodes.get(&ino).cloned()
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, Shard> {
        self.shards[ino.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Time;

    fn attr(length: u64) -> Attr {
        let time = Time { sec: 1, nsec: 0 };
        Attr { length, ..Attr::new(FileType::File, 0o644, time) }
    }

    #[test]
    fn a_guess_needs_all_its_parts() {
        let seen = Seen::default();
        let node = Key::Node(Ino(1));
        let child = Key::EntryNode(Ino(1), (*b"a").into());
        let bare = Key::Entry(Ino(1), (*b"a").into());
        assert_eq!(seen.guess(std::slice::from_ref(&node)), None);
        assert_eq!(seen.guess(std::slice::from_ref(&bare)), Some(vec![Value::Entry(None)]));
        seen.node(Ino(1), &attr(1));
        let found = Value::EntryNode(Some((FileType::File, Ino(7), Some(attr(7)))));
        seen.fetched(std::slice::from_ref(&child), std::slice::from_ref(&found));
        let keys = [node, child.clone()];
        assert_eq!(seen.guess(&keys), Some(vec![Value::Node(Some(attr(1))), found]));
        assert_eq!(seen.guess(std::slice::from_ref(&bare)), None, "a known name is not absent");
        seen.forget_node(Ino(7));
        assert_eq!(seen.guess(&keys), None);
        seen.fetched(std::slice::from_ref(&child), &[Value::EntryNode(None)]);
        assert_eq!(
            seen.guess(&[child, bare]),
            Some(vec![Value::EntryNode(None), Value::Entry(None)])
        );
    }

    #[test]
    fn it_stays_inside_its_bound() {
        let seen = Seen::default();
        for number in 0..2 * SEEN_MAX as u64 {
            seen.node(Ino(number), &attr(number));
        }
        let held: usize = (0..SHARDS as u64).map(|ino| seen.shard(Ino(ino)).nodes.len()).sum();
        assert!((1..=SEEN_MAX).contains(&held));
    }
}
