//! Listing directories: a snapshot per handle, kept in step with what this mount does to it.
//!
//! Owns offsets: a name keeps its place from the moment it is listed, so that removing and adding
//! names while listing neither repeats nor skips others. Names of other clients come with the next
//! snapshot (rewinddir).

use std::collections::HashMap as OrderlessMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::internal;
use super::op::{DirentReply, Reply};
use super::watched::Listing;
use crate::limits::{LISTED_NAMES_MAX, LISTING_CHANGES_MAX};
use crate::meta::DirEntry;
use crate::stdx::monotonic_ns;
use crate::types::{FileType, Ino, Name};

/// Listed attributes older than this are not told any more: the kernel asks by name.
const FRESH_NS: u64 = 5_000_000_000;
/// Names between the start of a listing and the first stored one.
const DOTS: usize = 2;
/// How often a listing is fetched again because too much changed meanwhile.
const FETCHES: usize = 8;
/// Bytes of a directory reply for each name, and with attributes.
const DIRENT_BYTES: usize = 24;
const ENTRY_BYTES: usize = 128;
/// The kernel keeps what it lists (`FOPEN_CACHE_DIR`).
const KEEPS: u32 = 8;
/// And believes what it kept before (`FOPEN_KEEP_CACHE`).
const BELIEVES: u32 = 2;

/// What this mount did to a name.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It stands for this now.
    Added(Name, FileType, Ino),
    /// It stands for nothing.
    Removed(Name),
}

/// Names in the order of their offsets; what was removed leaves a gap.
struct Snapshot {
    entries: Vec<Option<DirEntry>>,
    /// Where a name is; made when something changes.
    places: Option<OrderlessMap<Name, usize, RandomState>>,
    parent: Ino,
    began: u64,
    made_ns: u64,
    with_attr: bool,
}

#[derive(Default)]
struct State {
    snapshot: Option<Snapshot>,
    /// While one is being fetched: what changed meanwhile.
    meanwhile: Option<Vec<Change>>,
}

/// An open directory.
pub(super) struct DirHandle {
    ino: Ino,
    state: Mutex<State>,
}

/// Open directories of a mount by inode.
#[derive(Default)]
pub(super) struct Listings {
    open: Mutex<HashMap<Ino, Vec<Arc<DirHandle>>, RandomState>>,
    /// How many are in there; most changes happen while there is none.
    count: AtomicUsize,
    /// Names in all snapshots.
    names: AtomicUsize,
}

type OpenDirs = HashMap<Ino, Vec<Arc<DirHandle>>, RandomState>;

impl Listings {
    fn lock(&self) -> MutexGuard<'_, OpenDirs> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new handle of a directory.
    fn open(&self, ino: Ino) -> Arc<DirHandle> {
        let dir = Arc::new(DirHandle { ino, state: Mutex::default() });
        self.count.fetch_add(1, Ordering::SeqCst);
        self.lock().entry(ino).or_default().push(Arc::clone(&dir));
        dir
    }

    fn close(&self, dir: &Arc<DirHandle>) {
        let mut open = self.lock();
        let dirs = open.get_mut(&dir.ino).expect("an open directory is in the table");
        dirs.retain(|other| !Arc::ptr_eq(other, dir));
        if dirs.is_empty() {
            open.remove(&dir.ino);
        }
        drop(open);
        self.count.fetch_sub(1, Ordering::SeqCst);
        let names = dir.with(|state| state.snapshot.take().map_or(0, |old| old.entries.len()));
        self.names.fetch_sub(names, Ordering::Relaxed);
    }

    /// Whether somebody lists the directory.
    pub fn watches(&self, ino: Ino) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.lock().contains_key(&ino)
    }

    /// This mount changed a name.
    pub fn changed(&self, ino: Ino, change: impl FnOnce() -> Change) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let dirs = self.lock().get(&ino).cloned().unwrap_or_default();
        if dirs.is_empty() {
            return;
        }
        let change = change();
        for dir in dirs {
            dir.with(|state| self.names.fetch_add(state.change(&change), Ordering::Relaxed));
        }
    }

    /// Take a fetched snapshot into a handle. False if too much changed while it was fetched.
    fn install(&self, dir: &DirHandle, mut new: Snapshot) -> Done<bool> {
        let names = new.entries.len();
        if self.names.load(Ordering::Relaxed) + names > LISTED_NAMES_MAX {
            return Err(Errno::NOMEM.into());
        }
        Ok(dir.with(|state| {
            let meanwhile = state.meanwhile.take().unwrap_or_default();
            if meanwhile.len() >= LISTING_CHANGES_MAX {
                return false;
            }
            for change in &meanwhile {
                new.apply(change);
            }
            self.names.fetch_add(new.entries.len(), Ordering::Relaxed);
            let before = state.snapshot.replace(new).map_or(0, |old| old.entries.len());
            self.names.fetch_sub(before, Ordering::Relaxed);
            true
        }))
    }
}

impl DirHandle {
    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Follow a change; how many places that took.
    fn change(&mut self, change: &Change) -> usize {
        if let Some(meanwhile) = &mut self.meanwhile
            && meanwhile.len() < LISTING_CHANGES_MAX
        {
            meanwhile.push(change.clone());
        }
        self.snapshot.as_mut().map_or(0, |snapshot| snapshot.apply(change))
    }
}

impl Snapshot {
    /// Follow a change; how many places that took.
    fn apply(&mut self, change: &Change) -> usize {
        let (Change::Added(name, ..) | Change::Removed(name)) = change;
        let places = self.places.get_or_insert_with(|| {
            let named = self.entries.iter().enumerate();
            named.filter_map(|(at, entry)| Some((entry.as_ref()?.name.clone(), at))).collect()
        });
        match (change, places.get(name).copied()) {
            (Change::Removed(_), None) => 0,
            (Change::Removed(_), Some(at)) => {
                places.remove(name);
                self.entries[at] = None;
                0
            }
            (Change::Added(name, kind, ino), place) => {
                let entry = DirEntry { name: name.clone(), kind: *kind, ino: *ino, attr: None };
                if let Some(at) = place {
                    self.entries[at] = Some(entry);
                    return 0;
                }
                places.insert(name.clone(), self.entries.len());
                self.entries.push(Some(entry));
                1
            }
        }
    }
}

impl Vfs {
    pub(super) fn opendir(&self, ino: Ino) -> Done {
        let dir = self.shared.listings.open(ino);
        let added = self.shared.handles.add_dir(Arc::clone(&dir));
        let handle = added.inspect_err(|_| self.shared.listings.close(&dir))?;
        let open_flags = match self.listing(ino) {
            Listing::Unheard => 0,
            Listing::New => KEEPS,
            Listing::Known => KEEPS | BELIEVES,
        };
        Ok(Reply::Open { handle, open_flags })
    }

    pub(super) fn releasedir(&self, handle: u64) -> Done {
        if let Some(dir) = self.shared.handles.remove_dir(handle) {
            self.shared.listings.close(&dir);
        }
        Ok(Reply::Ok)
    }

    pub(super) async fn readdir(
        self: &Rc<Self>,
        handle: u64,
        offset: u64,
        len_bytes: u32,
        plus: bool,
    ) -> Done {
        let dir = self.shared.handles.dir(handle)?;
        let stands = dir.with(|state| state.snapshot.is_some());
        if offset == 0 || !stands {
            self.fetch_listing(&dir, plus).await?;
            self.accessed(dir.ino).await;
        }
        Ok(Reply::Dirents(self.list(&dir, offset, len_bytes as usize, plus)))
    }

    async fn fetch_listing(&self, dir: &DirHandle, with_attr: bool) -> Done<()> {
        for _ in 0..FETCHES {
            dir.with(|state| state.meanwhile = Some(Vec::new()));
            let snapshot = self.snapshot(dir.ino, with_attr).await;
            if self.shared.listings.install(dir, snapshot?)? {
                return Ok(());
            }
        }
        Err(Errno::AGAIN.into())
    }

    async fn snapshot(&self, ino: Ino, with_attr: bool) -> Done<Snapshot> {
        let began = self.shared.changes.now();
        let made_ns = monotonic_ns();
        let attr = self.meta.getattr(ino).await?;
        if attr.kind != FileType::Dir {
            return Err(Errno::NOTDIR.into());
        }
        let is_top = ino == Ino::ROOT || attr.parent == self.config.root;
        let parent = if is_top { Ino::ROOT } else { attr.parent };
        let mut entries = Vec::new();
        if ino == Ino::ROOT && self.config.list_trash {
            let name = Name::from(*b".trash");
            entries.push(Some(DirEntry { name, kind: FileType::Dir, ino: Ino::TRASH, attr: None }));
        }
        if ino == Ino::ROOT && self.config.list_internal {
            entries.extend(internal::listed().map(|(name, ino)| {
                let name = Name::from(name);
                Some(DirEntry { name, kind: FileType::File, ino, attr: None })
            }));
        }
        entries.extend(self.meta.list(ino, with_attr).await?.into_iter().map(Some));
        Ok(Snapshot { entries, places: None, parent, began, made_ns, with_attr })
    }

    /// As many names from `offset` on as fit into `room` bytes.
    fn list(&self, dir: &DirHandle, offset: u64, room: usize, plus: bool) -> Vec<DirentReply> {
        dir.with(|state| {
            let Some(snapshot) = &state.snapshot else { return Vec::new() };
            let fresh = plus
                && snapshot.with_attr
                && monotonic_ns().saturating_sub(snapshot.made_ns) < FRESH_NS;
            let mut listed = Vec::new();
            let mut used = 0;
            for place in offset as usize..snapshot.entries.len() + DOTS {
                let Some(entry) = self.dirent(dir.ino, snapshot, place, fresh) else { continue };
                used += (DIRENT_BYTES + entry.name.len()).next_multiple_of(8);
                used += if plus { ENTRY_BYTES } else { 0 };
                if used > room {
                    break;
                }
                listed.push(entry);
            }
            listed
        })
    }

    fn dirent(
        &self,
        ino: Ino,
        snapshot: &Snapshot,
        place: usize,
        fresh: bool,
    ) -> Option<DirentReply> {
        let next_offset = place as u64 + 1;
        let dot = |name: &[u8], ino| DirentReply {
            name: name.into(),
            ino,
            kind: FileType::Dir,
            next_offset,
            plus: None,
        };
        match place {
            0 => return Some(dot(b".", ino)),
            1 => return Some(dot(b"..", snapshot.parent)),
            _ => {}
        }
        let entry = snapshot.entries[place - DOTS].as_ref()?;
        let attr = entry.attr.as_ref().filter(|_| fresh);
        let attr = attr.filter(|_| !self.shared.changes.since(entry.ino, snapshot.began));
        Some(DirentReply {
            name: entry.name.clone(),
            ino: entry.ino,
            kind: entry.kind,
            next_offset,
            plus: attr.map(|attr| {
                self.entry((ino, &entry.name), entry.ino, attr.clone(), snapshot.began)
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], ino: u64) -> DirEntry {
        DirEntry { name: name.into(), kind: FileType::File, ino: Ino(ino), attr: None }
    }

    fn snapshot(names: &[&[u8]]) -> Snapshot {
        let entries = names.iter().zip(10..).map(|(name, ino)| Some(entry(name, ino))).collect();
        Snapshot {
            entries,
            places: None,
            parent: Ino::ROOT,
            began: 0,
            made_ns: 0,
            with_attr: false,
        }
    }

    fn added(name: &[u8], ino: u64) -> Change {
        Change::Added(name.into(), FileType::File, Ino(ino))
    }

    #[test]
    fn names_keep_their_places() {
        let mut listing = snapshot(&[b"a", b"b", b"c"]);
        assert_eq!(listing.apply(&Change::Removed((*b"b").into())), 0);
        assert_eq!(listing.apply(&added(b"d", 20)), 1);
        assert_eq!(listing.apply(&added(b"c", 21)), 0);
        assert_eq!(listing.apply(&added(b"b", 22)), 1);
        let expected = [
            Some(entry(b"a", 10)),
            None,
            Some(entry(b"c", 21)),
            Some(entry(b"d", 20)),
            Some(entry(b"b", 22)),
        ];
        assert_eq!(listing.entries, expected);
    }

    #[test]
    fn changes_while_a_listing_is_fetched_are_in_it() {
        let listings = Listings::default();
        let dir = listings.open(Ino(5));
        dir.with(|state| state.meanwhile = Some(Vec::new()));
        listings.changed(Ino(5), || Change::Removed((*b"a").into()));
        listings.changed(Ino(5), || added(b"z", 30));
        listings.changed(Ino(6), || unreachable!("nobody lists it"));
        assert_eq!(listings.install(&dir, snapshot(&[b"a", b"b"])), Ok(true));
        let names = dir.with(|state| state.snapshot.as_ref().unwrap().entries.clone());
        assert_eq!(names, [None, Some(entry(b"b", 11)), Some(entry(b"z", 30))]);
        assert_eq!(listings.names.load(Ordering::Relaxed), 3);
        assert!(listings.watches(Ino(5)) && !listings.watches(Ino(6)));
        listings.close(&dir);
        assert_eq!(listings.names.load(Ordering::Relaxed), 0);
        assert!(!listings.watches(Ino(5)));
    }

    #[test]
    fn a_flood_of_changes_has_it_fetched_again() {
        let listings = Listings::default();
        let dir = listings.open(Ino(5));
        dir.with(|state| state.meanwhile = Some(Vec::new()));
        for number in 0..=LISTING_CHANGES_MAX as u64 {
            listings.changed(Ino(5), || added(&number.to_be_bytes(), number));
        }
        assert_eq!(listings.install(&dir, snapshot(&[])), Ok(false));
    }
}
