//! What the kernel may keep for long because others' changes to it are heard of.
//!
//! Owns which names and nodes those are, and what of them is to be looked at because it may have
//! changed. Nothing is kept for long that is not in these tables, and only while the watch stands.
//! Bounded: what has no room is kept for a short time. Who tells the kernel is `watch`.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::limits::{WATCHED_LISTINGS_MAX, WATCHED_MAX, WATCHED_NAMES_OF_DIR_MAX};
use crate::stdx::{Gate, monotonic_ns};
use crate::types::{Ino, Name};

const SHARDS: usize = 16;
/// Nodes, and names, of each.
const PER_SHARD: usize = WATCHED_MAX / SHARDS;
/// Listings of each.
const LISTINGS_PER_SHARD: usize = WATCHED_LISTINGS_MAX / SHARDS;
/// A full table is searched for what the kernel no longer keeps once in so long.
const SWEEP_NS: u64 = 1_000_000_000;
/// A reply is in the kernel's hands after so long.
const FRESH_NS: u64 = 100_000_000;

/// What a name was told to stand for, 0 for nothing, and until when the kernel may keep that.
type Told = (Ino, u64);

/// When attributes were told, and until when the kernel may keep them.
type Span = (u64, u64);

#[derive(Default)]
struct Shard {
    nodes: HashMap<Ino, Span, RandomState>,
    /// By directory; they lie in its shard.
    dirs: HashMap<Ino, HashMap<Name, Told, RandomState>, RandomState>,
    names: usize,
    /// Directories whose listing the kernel may keep.
    listings: HashSet<Ino, RandomState>,
    swept_ns: u64,
}

/// What the kernel may keep.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    /// Names with their directories.
    pub names: Vec<(Ino, Name)>,
    /// Nodes whose attributes it keeps.
    pub nodes: Vec<Ino>,
    /// Directories whose listing it keeps.
    pub listings: Vec<Ino>,
}

/// Whether the kernel may keep the listing of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listing {
    /// Not, for its changes would be missed.
    Unheard,
    /// From now on; one that it kept before is not to be believed.
    New,
    /// It may, and may have one already.
    Known,
}

/// What may have changed.
#[derive(Default)]
struct Suspects {
    /// And whether that was told just now.
    nodes: HashMap<Ino, bool, RandomState>,
    dirs: HashSet<Ino, RandomState>,
}

/// One per mount.
#[derive(Default)]
pub(super) struct Watched {
    stands: AtomicBool,
    shards: [Mutex<Shard>; SHARDS],
    suspects: Mutex<Suspects>,
    /// Opens when there is a new one.
    suspected: Gate,
}

impl Watched {
    /// Changes are heard of from now on.
    pub fn begin(&self) {
        self.stands.store(true, Ordering::SeqCst);
    }

    /// They are not any more: nothing else is kept, and what was kept is handed out.
    pub fn end(&self) -> Kept {
        self.stands.store(false, Ordering::SeqCst);
        self.take_all()
    }

    /// What was kept is handed out, as by [`Watched::end`].
    pub fn take_all(&self) -> Kept {
        let mut kept = Kept::default();
        for shard in &self.shards {
            let shard = mem::take(&mut *locked(shard));
            kept.nodes.extend(shard.nodes.into_keys());
            kept.listings.extend(shard.listings);
            for (dir, told) in shard.dirs {
                kept.names.extend(told.into_keys().map(|name| (dir, name)));
            }
        }
        kept
    }

    /// Whether changes are heard of.
    pub fn stands(&self) -> bool {
        self.stands.load(Ordering::SeqCst)
    }

    /// The kernel is about to keep attributes for `ttl_ns`; false if their changes would be missed.
    pub fn keep_node(&self, ino: Ino, ttl_ns: u64) -> bool {
        let mut shard = self.shard(ino);
        if !self.stands() || self.is_behind() {
            return false;
        }
        let now_ns = monotonic_ns();
        if shard.nodes.len() >= PER_SHARD && !shard.nodes.contains_key(&ino) {
            shard.sweep(now_ns);
            if shard.nodes.len() >= PER_SHARD {
                return false;
            }
        }
        shard.nodes.insert(ino, (now_ns, now_ns.saturating_add(ttl_ns)));
        true
    }

    /// The kernel is about to keep for `ttl_ns` that a name stands for an inode, or for nothing (0);
    /// false if a change of that would be missed.
    pub fn keep_name(&self, dir: Ino, name: &[u8], ino: Ino, ttl_ns: u64) -> bool {
        let mut shard = self.shard(dir);
        if !self.stands() || self.is_behind() {
            return false;
        }
        let now_ns = monotonic_ns();
        let told = (ino, now_ns.saturating_add(ttl_ns));
        if let Some(known) = shard.dirs.get_mut(&dir).and_then(|names| names.get_mut(name)) {
            *known = told;
            return true;
        }
        let has_room = |shard: &Shard| {
            let of_dir = shard.dirs.get(&dir).map_or(0, HashMap::len);
            shard.names < PER_SHARD && of_dir < WATCHED_NAMES_OF_DIR_MAX
        };
        if !has_room(&shard) {
            shard.sweep(now_ns);
            if !has_room(&shard) {
                return false;
            }
        }
        shard.dirs.entry(dir).or_default().insert(name.into(), told);
        shard.names += 1;
        true
    }

    /// The kernel is about to open a directory, and would keep what it lists.
    pub fn keep_listing(&self, dir: Ino) -> Listing {
        let mut shard = self.shard(dir);
        if !self.stands() || self.is_behind() {
            return Listing::Unheard;
        }
        if shard.listings.contains(&dir) {
            return Listing::Known;
        }
        if shard.listings.len() >= LISTINGS_PER_SHARD {
            return Listing::Unheard;
        }
        shard.listings.insert(dir);
        Listing::New
    }

    /// Whether the kernel may keep the listing of a directory.
    pub fn keeps_listing(&self, dir: Ino) -> bool {
        self.shard(dir).listings.contains(&dir)
    }

    /// The kernel has forgotten an inode, and its listing with it.
    pub fn forget_listing(&self, ino: Ino) {
        self.shard(ino).listings.remove(&ino);
    }

    /// Attributes may have changed: they count as not kept, and if they were, the kernel is to hear.
    pub fn suspect_node(&self, ino: Ino) {
        let kept = self.shard(ino).nodes.remove(&ino);
        if let Some((told_ns, _)) = kept {
            let fresh = monotonic_ns().saturating_sub(told_ns) < FRESH_NS;
            let mut suspects = self.suspects();
            *suspects.nodes.entry(ino).or_default() |= fresh;
            drop(suspects);
            self.suspected.open();
        }
    }

    /// Names in a directory may have changed; looked at if any is kept, or its listing.
    pub fn suspect_dir(&self, dir: Ino) {
        let shard = self.shard(dir);
        let kept = shard.dirs.contains_key(&dir) || shard.listings.contains(&dir);
        drop(shard);
        if kept {
            self.suspects().dirs.insert(dir);
            self.suspected.open();
        }
    }

    /// Nodes whose attributes may have changed, waited for, each with whether they were told so short a
    /// time ago that the kernel may not have them yet.
    pub async fn suspect_nodes(&self) -> Vec<(Ino, bool)> {
        self.next_of(|suspects| mem::take(&mut suspects.nodes).into_iter().collect()).await
    }

    /// Directories whose names may have changed, waited for.
    pub async fn suspect_dirs(&self) -> Vec<Ino> {
        self.next_of(|suspects| mem::take(&mut suspects.dirs).into_iter().collect()).await
    }

    async fn next_of<T>(&self, take: impl Fn(&mut Suspects) -> Vec<T>) -> Vec<T> {
        loop {
            let ticket = self.suspected.ticket();
            let found = take(&mut self.suspects());
            if !found.is_empty() {
                return found;
            }
            self.suspected.wait(ticket).await;
        }
    }

    /// The names of a directory that are kept, and what they were told to stand for.
    pub fn names_of(&self, dir: Ino) -> Vec<(Name, Ino)> {
        let shard = self.shard(dir);
        let names = shard.dirs.get(&dir).into_iter().flatten();
        names.map(|(name, (ino, _))| (name.clone(), *ino)).collect()
    }

    /// A name stands for something else than it was told to; whether that is still kept.
    pub fn drop_name(&self, dir: Ino, name: &[u8], told: Ino) -> bool {
        let mut shard = self.shard(dir);
        let Some(names) = shard.dirs.get_mut(&dir) else { return false };
        if names.get(name).is_none_or(|(ino, _)| *ino != told) {
            return false;
        }
        names.remove(name);
        if names.is_empty() {
            shard.dirs.remove(&dir);
        }
        shard.names -= 1;
        true
    }

    /// So much is to be looked at that nothing more is taken on.
    fn is_behind(&self) -> bool {
        let suspects = self.suspects();
        suspects.nodes.len().max(suspects.dirs.len()) >= WATCHED_MAX
    }

    fn suspects(&self) -> MutexGuard<'_, Suspects> {
        locked(&self.suspects)
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, Shard> {
        locked(&self.shards[ino.0 as usize % SHARDS])
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// Leave out what the kernel no longer keeps, if that was not done just now.
    fn sweep(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.swept_ns) < SWEEP_NS {
            return;
        }
        self.swept_ns = now_ns;
        self.nodes.retain(|_, (_, until_ns)| *until_ns > now_ns);
        self.dirs.retain(|_, names| {
            names.retain(|_, (_, until_ns)| *until_ns > now_ns);
            !names.is_empty()
        });
        self.names = self.dirs.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const LONG: u64 = 1 << 50;

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(future).poll(&mut context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nothing_is_kept_while_changes_are_not_heard() {
        let watched = Watched::default();
        assert!(!watched.keep_node(Ino(7), LONG) && !watched.keep_name(Ino(1), b"a", Ino(7), LONG));
        watched.begin();
        assert!(watched.keep_node(Ino(7), LONG) && watched.keep_name(Ino(1), b"a", Ino(7), LONG));
        assert_eq!(watched.keep_listing(Ino(1)), Listing::New);
        let names = vec![(Ino(1), (*b"a").into())];
        let kept = Kept { names, nodes: vec![Ino(7)], listings: vec![Ino(1)] };
        assert_eq!(watched.end(), kept);
        assert!(!watched.keep_node(Ino(7), LONG) && !watched.keep_name(Ino(1), b"a", Ino(7), LONG));
        assert_eq!(watched.keep_listing(Ino(1)), Listing::Unheard);
        assert_eq!(watched.take_all(), Kept::default());
    }

    #[test]
    fn only_what_is_kept_is_looked_at() {
        let watched = Watched::default();
        watched.begin();
        watched.suspect_node(Ino(7));
        watched.suspect_dir(Ino(1));
        assert!(
            ready(watched.suspect_nodes()).is_none() && ready(watched.suspect_dirs()).is_none()
        );
        watched.keep_node(Ino(7), LONG);
        watched.keep_name(Ino(1), b"a", Ino(7), LONG);
        watched.keep_name(Ino(1), b"none", Ino(0), LONG);
        (0..2).for_each(|_| watched.suspect_node(Ino(7)));
        (0..2).for_each(|_| watched.suspect_dir(Ino(1)));
        assert_eq!(ready(watched.suspect_nodes()), Some(vec![(Ino(7), true)]));
        assert_eq!(ready(watched.suspect_dirs()), Some(vec![Ino(1)]));
        assert_eq!(ready(watched.suspect_nodes()), None);
        assert_eq!(watched.names_of(Ino(1)).len(), 2);
        assert!(!watched.drop_name(Ino(1), b"a", Ino(8)), "told again meanwhile");
        assert!(
            watched.drop_name(Ino(1), b"a", Ino(7)) && !watched.drop_name(Ino(1), b"a", Ino(7))
        );
        assert_eq!(watched.names_of(Ino(1)), [((*b"none").into(), Ino(0))]);
    }

    #[test]
    fn a_listing_is_heard_of_for_as_long_as_it_is_kept() {
        let watched = Watched::default();
        watched.begin();
        assert_eq!(watched.keep_listing(Ino(1)), Listing::New);
        assert_eq!(watched.keep_listing(Ino(1)), Listing::Known);
        (1..=2).for_each(|dir| watched.suspect_dir(Ino(dir)));
        assert_eq!(ready(watched.suspect_dirs()), Some(vec![Ino(1)]));
        assert!(watched.keeps_listing(Ino(1)), "an open directory may list again");
        watched.forget_listing(Ino(1));
        watched.suspect_dir(Ino(1));
        assert_eq!(ready(watched.suspect_dirs()), None);
        assert_eq!(watched.keep_listing(Ino(1)), Listing::New);
        assert_eq!(watched.take_all().listings, [Ino(1)]);
        assert_eq!(watched.keep_listing(Ino(1)), Listing::New, "what was kept is not believed");
    }

    #[test]
    fn directories_that_nobody_listed_leave_nothing_behind() {
        let watched = Watched::default();
        watched.begin();
        let dirs = || (0..2 * WATCHED_LISTINGS_MAX as u64).map(Ino);
        let kept = dirs().filter(|dir| watched.keep_listing(*dir) == Listing::New).count();
        assert_eq!(kept, WATCHED_LISTINGS_MAX);
        dirs().for_each(|dir| watched.suspect_dir(dir));
        assert_eq!(ready(watched.suspect_dirs()).map(|dirs| dirs.len()), Some(kept));
    }

    #[test]
    fn it_stays_inside_its_bounds() {
        let watched = Watched::default();
        watched.begin();
        let held = |watched: &Watched| watched.names_of(Ino(1)).len();
        let kept = (0..2 * WATCHED_NAMES_OF_DIR_MAX as u64)
            .filter(|number| watched.keep_name(Ino(1), &number.to_be_bytes(), Ino(9), LONG))
            .count();
        assert_eq!((kept, held(&watched)), (WATCHED_NAMES_OF_DIR_MAX, WATCHED_NAMES_OF_DIR_MAX));
        let kept = (0..2 * WATCHED_MAX as u64).filter(|ino| watched.keep_node(Ino(*ino), LONG));
        assert_eq!(kept.count(), WATCHED_MAX);
        let short = Watched::default();
        short.begin();
        let kept = (0..2 * WATCHED_MAX as u64).filter(|ino| short.keep_node(Ino(*ino), 0));
        assert!(kept.count() > WATCHED_MAX, "what is over makes room");
    }
}
