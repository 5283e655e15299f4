//! Following what other clients change, so that what the kernel and this mount keep is dropped in time
//! (`--watch`).
//!
//! Owns how long the kernel may keep what it is told: as the mount says while changes are heard of and
//! there is room to remember what was told (`watched`); otherwise as without this, and for a second at
//! most. Whatever is told is entered there before it is looked whether it changed meanwhile, and what is
//! heard is noted before it is looked who was told: one of both sees the other. What is heard may be a
//! change of this mount, too. The kernel is told by `notices`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::dispatch::Vfs;
use super::notices::Notice;
use super::watched::{Kept, Listing};
use crate::limits::WATCHED_NAMES_TOGETHER;
use crate::meta::Heard;
use crate::types::{Ino, Name};
use crate::uring;

/// What is kept while changes may be missed, at most.
const SHORT_NS: u64 = 1_000_000_000;
/// Pauses between tries to hear of changes grow from here ...
const PAUSE: Duration = Duration::from_millis(200);
/// ... to here.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After names were looked at, nothing is for so long for each: ten times what they cost an engine, so that
/// little of its time goes into it, however many names a directory has and however fast it changes.
const REST_PER_NAME: Duration = Duration::from_micros(2);
/// A reply that was made is in the kernel's hands after this.
const REPLY: Duration = Duration::from_millis(30);

impl Vfs {
    /// Follow what others change, for ever.
    pub async fn watch(self: Rc<Self>) {
        uring::spawn(Rc::clone(&self).tell_nodes());
        uring::spawn(Rc::clone(&self).tell_names());
        let (mut is_told, mut pause) = (false, PAUSE);
        loop {
            let vfs = Rc::clone(&self);
            let reason = self.meta.watch(Rc::new(move |heard| vfs.hear(heard))).await;
            if self.shared.watched.stands() {
                (is_told, pause) = (false, PAUSE);
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%reason, "changes are not heard of: caches live for a second at most");
            }
            self.lose().await;
            uring::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Something was changed, by whomever.
    fn hear(&self, heard: Heard) {
        let shared = &self.shared;
        match heard {
            Heard::Began => {
                // What was fetched before may be older than what is heard from now on.
                shared.changes.forget();
                shared.inodes.each(|inode| inode.forget_told());
                shared.watched.begin();
                tracing::info!("changes of other clients are heard of");
            }
            Heard::Node(ino) => {
                let Some(ino) = self.shown(ino) else { return };
                shared.changes.note(ino);
                if let Some(inode) = shared.inodes.get(ino) {
                    inode.forget_told();
                }
                shared.watched.suspect_node(ino);
            }
            Heard::Dir(ino) => {
                let Some(ino) = self.shown(ino) else { return };
                shared.changes.note(ino);
                shared.watched.suspect_dir(ino);
            }
            Heard::Everything => {
                shared.changes.forget();
                shared.inodes.each(|inode| inode.forget_told());
                let kept = shared.watched.take_all();
                self.tell_later(kept.nodes.clone());
                let notices = told_of(kept);
                let shared = Arc::clone(shared);
                uring::spawn(async move {
                    for notice in notices {
                        shared.notices.tell(notice).await;
                    }
                });
            }
        }
    }

    /// Changes are not heard of any more: nothing counts that was kept.
    async fn lose(&self) {
        let kept = self.shared.watched.end();
        self.shared.changes.forget();
        self.shared.inodes.each(|inode| inode.forget_told());
        self.tell_later(kept.nodes.clone());
        for notice in told_of(kept) {
            self.shared.notices.tell(notice).await;
        }
    }

    /// The number under which the kernel knows an inode; `None` for one outside of the mount.
    fn shown(&self, ino: Ino) -> Option<Ino> {
        match ino {
            root if root == self.config.root => Some(Ino::ROOT),
            Ino::ROOT => None,
            other => Some(other),
        }
    }

    async fn tell_nodes(self: Rc<Self>) {
        loop {
            let mut again = Vec::new();
            for (ino, fresh) in self.shared.watched.suspect_nodes().await {
                self.shared.notices.tell(Notice::Attributes(ino)).await;
                again.extend(fresh.then_some(ino));
            }
            self.tell_later(again);
        }
    }

    /// Tell that attributes changed once the kernel has them: a notice may overtake the reply that told
    /// them, and the kernel does not remember it for a node that it does not know yet. (Names need no
    /// such care: their directory is locked until the reply is there.)
    fn tell_later(&self, nodes: Vec<Ino>) {
        if nodes.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        uring::spawn(async move {
            uring::sleep(REPLY).await;
            for ino in nodes {
                shared.notices.tell(Notice::Attributes(ino)).await;
            }
        });
    }

    async fn tell_names(self: Rc<Self>) {
        loop {
            for dir in self.shared.watched.suspect_dirs().await {
                let names = self.look_at_names(dir).await;
                if self.shared.watched.keeps_listing(dir) {
                    self.shared.notices.tell(Notice::Content(dir)).await;
                }
                uring::sleep(REST_PER_NAME * names).await;
            }
        }
    }

    /// Tell the kernel which of the names that it keeps of a directory stand for something else now; how
    /// many it keeps.
    async fn look_at_names(&self, dir: Ino) -> u32 {
        let told = self.shared.watched.names_of(dir);
        for part in told.chunks(WATCHED_NAMES_TOGETHER) {
            let names: Vec<Name> = part.iter().map(|(name, _)| name.clone()).collect();
            let found = self.meta.stand_for(dir, names).await;
            for (at, (name, ino)) in part.iter().enumerate() {
                // What cannot be asked counts as changed.
                let same = found.as_ref().is_ok_and(|found| found[at].unwrap_or(Ino(0)) == *ino);
                if !same && self.shared.watched.drop_name(dir, name, *ino) {
                    self.shared.notices.tell(Notice::Name { dir, name: name.clone() }).await;
                }
            }
        }
        u32::try_from(told.len()).expect("a directory has a bound of names")
    }

    /// Whether the kernel may keep the listing of a directory that it opens.
    pub(super) fn listing(&self, dir: Ino) -> Listing {
        match (self.config.readdir_cache, self.config.watch) {
            (false, _) => Listing::Unheard,
            // Its own look at the directory's time is what keeps it right.
            (true, false) => Listing::Known,
            (true, true) => self.shared.watched.keep_listing(dir),
        }
    }

    /// How long the kernel may keep attributes that are looked at after this.
    pub(super) fn attr_lifetime_ns(&self, ino: Ino) -> u64 {
        let ttl_ns = self.config.attr_ttl_ns;
        if !self.config.watch || self.shared.watched.keep_node(ino, ttl_ns) {
            return ttl_ns;
        }
        ttl_ns.min(SHORT_NS)
    }

    /// How long attributes of what was opened are believed.
    pub(super) fn open_cache_ns(&self) -> u64 {
        if !self.config.watch || self.shared.watched.stands() {
            return self.config.open_cache_ns;
        }
        self.config.open_cache_ns.min(SHORT_NS)
    }

    /// How long the kernel may keep that a name stands for an inode, or for nothing (0), as a fetch
    /// told that began at change `began`; `ttl_ns` as the mount says.
    pub(super) fn name_lifetime_ns(
        &self,
        (dir, name): (Ino, &[u8]),
        ino: Ino,
        ttl_ns: u64,
        began: u64,
    ) -> u64 {
        // The trash is found by a name that is in no directory.
        if !self.config.watch || ino == Ino::TRASH {
            return ttl_ns;
        }
        if matches!(name, b"" | b"." | b"..") {
            return ttl_ns.min(SHORT_NS);
        }
        let kept = self.shared.watched.keep_name(dir, name, ino, ttl_ns);
        match self.shared.changes.since(dir, began) {
            true => 0,
            false if kept => ttl_ns,
            false => ttl_ns.min(SHORT_NS),
        }
    }
}

fn told_of(kept: Kept) -> impl Iterator<Item = Notice> {
    let names = kept.names.into_iter().map(|(dir, name)| Notice::Name { dir, name });
    let nodes = kept.nodes.into_iter().map(Notice::Attributes);
    names.chain(nodes).chain(kept.listings.into_iter().map(Notice::Content))
}
