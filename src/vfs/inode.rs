//! What this mount knows of inodes it opened: how often they are open, how long they are with
//! what was written here, and what is to happen at the last close.
//!
//! Owns the rules by which fetched attributes and own changes meet. A fetch may have begun before
//! a write of ours was committed: until a flush is over, the length known here counts too. Does
//! not own dirty bytes (`data`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rustix::io::Errno;
use smallvec::SmallVec;

use super::error::Done;
use super::turns::Turns;
use crate::limits::{INODES_MAX, LOCK_OWNERS_MAX};
use crate::stdx::{Gate, monotonic_ns};
use crate::types::{Attr, Ino, Time};

const SHARDS: usize = 16;
const PER_SHARD: usize = INODES_MAX / SHARDS;
/// Records looked at to make room for one.
const ROOM_TRIES: usize = 64;

/// What happens when the last handle is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum End {
    /// Nothing: it has a name.
    #[default]
    Stays,
    /// It has no name; metadata keeps it for this session until then.
    Sustained,
    /// Metadata has let go of it already; its data of so many bytes is to be removed.
    Doomed(u64),
}

#[derive(Default)]
struct State {
    opens: u32,
    end: End,
    /// Bytes, with all that was written here.
    length: u64,
    mode: u16,
    /// Writes begun or ended.
    writes: u64,
    /// Number of the change with which all writes were committed; `u64::MAX` while they are not.
    settled: u64,
    /// Number of the last change of length other than by writing.
    resized: u64,
    /// Number of the last write.
    touched: u64,
    /// Latest mtime known of writes that a fetch may have missed.
    late_mtime: Option<Time>,
    /// The mtime that metadata told last: what is kept of the content is of that time.
    seen_mtime: Option<Time>,
    /// The mtime at the last open: the kernel's pages are of that time.
    open_mtime: Option<Time>,
    /// As metadata told with everything of ours in it, and when.
    told: Option<(u64, Attr)>,
    /// It is looked at now and then until all that was written here is committed.
    awaits: bool,
    /// The kernel forgot it while that was not so.
    forgotten: bool,
    /// POSIX lock owners with the handle they locked through.
    lock_owners: SmallVec<[(u64, u64); 2]>,
}

/// One inode.
pub(super) struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Writers share, others change it alone.
    pub turns: Turns,
    /// Opens whenever this mount gives a lock on it back.
    pub unlocked: Gate,
    state: Mutex<State>,
}

/// How fetched attributes compare with what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The content may be another than the one that is kept.
    pub content: bool,
    /// This mount wrote to it since the fetch began.
    pub touched: bool,
}

impl Inode {
    fn new(ino: Ino) -> Self {
        Self { ino, turns: Turns::default(), unlocked: Gate::default(), state: Mutex::default() }
    }

    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes, with all that was written here.
    pub fn length(&self) -> u64 {
        self.with(|state| state.length)
    }

    /// Permission bits as last heard.
    pub fn mode(&self) -> u16 {
        self.with(|state| state.mode)
    }

    /// Whether it is open and what is to happen at the last close.
    pub fn end(&self) -> End {
        self.with(|state| state.end)
    }

    /// Whether everything written here is committed as far as is known.
    pub fn is_settled(&self) -> bool {
        self.with(|state| state.settled != u64::MAX)
    }

    /// A write begins; the length before it.
    pub fn begin_write(&self, change: u64) -> u64 {
        self.with(|state| {
            state.writes += 1;
            state.settled = u64::MAX;
            state.touched = change;
            state.told = None;
            state.length
        })
    }

    /// A write is over: the file reaches to `end` at least.
    pub fn end_write(&self, end: u64) {
        self.with(|state| {
            state.writes += 1;
            state.settled = u64::MAX;
            state.told = None;
            state.length = state.length.max(end);
        });
    }

    /// Take this before a flush.
    pub fn writes(&self) -> u64 {
        self.with(|state| state.writes)
    }

    /// A flush is over; nothing is dirty unless there were more writes since.
    pub fn flushed(&self, writes: u64, change: u64) {
        self.with(|state| {
            if state.writes == writes && state.settled == u64::MAX {
                state.settled = change;
                state.late_mtime = None;
            }
        });
    }

    /// What is not committed of it was written by an earlier mount, or may still be kept on this
    /// machine: the file reaches to `end` at least. True the first time until [`Inode::stop_awaiting`].
    pub fn await_commit(&self, end: u64) -> bool {
        self.with(|state| {
            state.settled = u64::MAX;
            state.told = None;
            state.length = state.length.max(end);
            !std::mem::replace(&mut state.awaits, true)
        })
    }

    /// Nobody looks at it any more.
    pub fn stop_awaiting(&self) {
        self.with(|state| state.awaits = false);
    }

    /// The length was set to, or grown to at least, what metadata tells; all was committed before.
    pub fn resized(&self, attr: &Attr, change: u64) {
        self.with(|state| {
            state.length = attr.length;
            state.seen_mtime = Some(attr.mtime);
            state.resized = change;
            state.touched = change;
            state.told = None;
        });
    }

    /// Attributes were set: nothing older counts.
    pub fn attributes_set(&self) {
        self.with(|state| {
            state.late_mtime = None;
            state.told = None;
        });
    }

    /// What metadata told last may be old.
    pub fn forget_told(&self) {
        self.with(|state| state.told = None);
    }

    /// A fetch that began at change `began` told `attr`; correct both by each other. `late` is
    /// the mtime of writes that the fetch may have missed. `keep` it for [`Inode::cached`].
    pub fn fold(&self, attr: &mut Attr, began: u64, late: Option<Time>, keep: bool) -> News {
        self.with(|state| {
            let content = state.seen_mtime != Some(attr.mtime);
            state.seen_mtime = Some(attr.mtime);
            state.correct(attr, began, late);
            let whole = began >= state.settled && began >= state.resized;
            state.told = (keep && whole).then(|| (monotonic_ns(), attr.clone()));
            state.length = attr.length;
            state.mode = attr.mode;
            News { content, touched: state.touched > began }
        })
    }

    /// As metadata told at most `age_ns` ago, if nothing was changed here since.
    pub fn cached(&self, age_ns: u64) -> Option<Attr> {
        self.with(|state| {
            let (when_ns, attr) = state.told.as_ref()?;
            (monotonic_ns() - when_ns < age_ns).then(|| attr.clone())
        })
    }

    /// Opened at `mtime`; whether the kernel's pages are of that time.
    pub fn opened(&self, mtime: Time) -> bool {
        self.with(|state| state.open_mtime.replace(mtime) == Some(mtime))
    }

    /// Just made by this mount: all about it is known.
    pub fn made(&self, attr: &Attr) {
        self.with(|state| {
            state.length = attr.length;
            state.mode = attr.mode;
            state.seen_mtime = Some(attr.mtime);
            state.open_mtime = Some(attr.mtime);
        });
    }

    /// An owner may hold POSIX locks from now on, taken through a handle. ENOLCK when too many do.
    pub fn add_lock_owner(&self, owner: u64, handle: u64) -> Done<()> {
        self.with(|state| {
            if state.lock_owners.contains(&(owner, handle)) {
                return Ok(());
            }
            if state.lock_owners.len() >= LOCK_OWNERS_MAX {
                return Err(Errno::NOLCK.into());
            }
            state.lock_owners.push((owner, handle));
            Ok(())
        })
    }

    /// Whether an owner may hold POSIX locks.
    pub fn has_lock_owner(&self, owner: u64) -> bool {
        self.with(|state| state.lock_owners.iter().any(|(held, _)| *held == owner))
    }

    /// Owners who locked through a handle.
    pub fn lock_owners_of(&self, handle: u64) -> SmallVec<[u64; 2]> {
        self.with(|state| {
            let through = state.lock_owners.iter().filter(|(_, through)| *through == handle);
            through.map(|(owner, _)| *owner).collect()
        })
    }

    /// An owner holds no POSIX lock any more.
    pub fn remove_lock_owner(&self, owner: u64) {
        self.with(|state| state.lock_owners.retain(|(held, _)| *held != owner));
    }
}

impl State {
    /// Correct fetched attributes by what was written here and may not have been in them.
    fn correct(&mut self, attr: &mut Attr, began: u64, late: Option<Time>) {
        if began < self.resized {
            attr.length = self.length;
        }
        if began < self.settled {
            attr.length = attr.length.max(self.length);
            self.late_mtime = self.late_mtime.max(late);
            attr.mtime = attr.mtime.max(self.late_mtime.unwrap_or_default());
        }
    }

    fn may_go(&self) -> bool {
        self.opens == 0 && self.settled != u64::MAX
    }
}

type Shard = HashMap<Ino, Arc<Inode>, RandomState>;

/// All inodes of a mount of which something is known.
#[derive(Default)]
pub(super) struct Inodes {
    shards: [Mutex<Shard>; SHARDS],
}

impl Inodes {
    /// One more handle of an inode is about to be open. ENFILE when too many are.
    pub fn open(&self, ino: Ino) -> Done<Arc<Inode>> {
        let mut shard = self.shard(ino);
        let known = shard.get(&ino).map(Arc::clone);
        let inode = match known {
            Some(inode) => inode,
            None => {
                make_room(&mut shard)?;
                let inode = Arc::new(Inode::new(ino));
                shard.insert(ino, Arc::clone(&inode));
                inode
            }
        };
        inode.with(|state| state.opens += 1);
        Ok(inode)
    }

    /// A handle is closed; what is to be done if it was the last.
    pub fn close(&self, inode: &Inode) -> Option<End> {
        let _shard = self.shard(inode.ino);
        inode.with(|state| {
            state.opens = state.opens.checked_sub(1).expect("a handle is closed once");
            (state.opens == 0).then_some(state.end)
        })
    }

    /// What is known of an inode.
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.shard(ino).get(&ino).map(Arc::clone)
    }

    /// Do something to each.
    pub fn each(&self, action: impl Fn(&Inode)) {
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .for_each(|inode| action(inode));
        }
    }

    /// Whether this mount has it open.
    pub fn is_open(&self, ino: Ino) -> bool {
        self.shard(ino).get(&ino).is_some_and(|inode| inode.with(|state| state.opens > 0))
    }

    /// The last name of an inode is gone: `end` comes at the last close. False if it is not open:
    /// then it comes now.
    pub fn lose_name(&self, ino: Ino, end: End) -> bool {
        let shard = self.shard(ino);
        let Some(inode) = shard.get(&ino) else { return false };
        inode.with(|state| {
            state.end = end;
            state.opens > 0
        })
    }

    /// An inode that had no name has one again.
    pub fn regain_name(&self, ino: Ino) {
        if let Some(inode) = self.get(ino) {
            inode.with(|state| state.end = End::Stays);
        }
    }

    /// The kernel forgot the inode, and its pages: what is known here is of no use, unless it is
    /// open or being flushed.
    pub fn forget(&self, ino: Ino) {
        let mut shard = self.shard(ino);
        let Some(inode) = shard.get(&ino) else { return };
        let goes = inode.with(|state| {
            state.forgotten = !state.may_go();
            !state.forgotten
        });
        if goes {
            shard.remove(&ino);
        }
    }

    /// All that was written here is committed: what the kernel forgot before that may go now.
    pub fn forget_again(&self, ino: Ino) {
        let mut shard = self.shard(ino);
        let forgotten = |state: &mut State| state.forgotten && state.may_go();
        if shard.get(&ino).is_some_and(|inode| inode.with(forgotten)) {
            shard.remove(&ino);
        }
    }

    /// The inode is gone for good.
    pub fn remove(&self, ino: Ino) {
        let mut shard = self.shard(ino);
        if shard.get(&ino).is_some_and(|inode| inode.with(|state| state.opens == 0)) {
            shard.remove(&ino);
        }
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, Shard> {
        self.shards[ino.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one more record: one that is not open goes.
fn make_room(shard: &mut Shard) -> Done<()> {
    if shard.len() < PER_SHARD {
        return Ok(());
    }
    let mut candidates = shard.iter().take(ROOM_TRIES);
    let idle = candidates.find(|(_, inode)| inode.with(|state| state.may_go()));
    let ino = *idle.ok_or(Errno::NFILE)?.0;
    shard.remove(&ino);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FileType;

    fn attr(length: u64, sec: i64) -> Attr {
        let time = Time { sec, nsec: 0 };
        Attr { length, ..Attr::new(FileType::File, 0o644, time) }
    }

    fn folded(inode: &Inode, mut attr: Attr, began: u64) -> (u64, i64) {
        inode.fold(&mut attr, began, None, true);
        (attr.length, attr.mtime.sec)
    }

    #[test]
    fn a_fetch_never_hides_what_was_written_here() {
        let inodes = Inodes::default();
        let inode = inodes.open(Ino(5)).unwrap();
        assert_eq!(folded(&inode, attr(10, 1), 0), (10, 1));
        assert_eq!(inode.begin_write(1), 10);
        inode.end_write(30);
        // Dirty: what metadata tells is too short, but others may have made it longer.
        assert_eq!(folded(&inode, attr(10, 1), 1), (30, 1));
        assert_eq!(folded(&inode, attr(50, 2), 1), (50, 2));
        let writes = inode.writes();
        inode.flushed(writes, 7);
        // Begun before the flush was over, told after: still too short.
        assert_eq!(folded(&inode, attr(10, 1), 6), (50, 1));
        // Begun after: others may have made it shorter.
        assert_eq!(folded(&inode, attr(20, 3), 7), (20, 3));
    }

    #[test]
    fn a_fetch_never_undoes_a_truncation() {
        let inodes = Inodes::default();
        let inode = inodes.open(Ino(5)).unwrap();
        inode.end_write(30);
        inode.flushed(inode.writes(), 1);
        inode.resized(&attr(4, 9), 2);
        assert_eq!(folded(&inode, attr(30, 1), 1).0, 4);
        assert_eq!(folded(&inode, attr(40, 9), 2).0, 40);
    }

    #[test]
    fn a_write_during_a_flush_stays_dirty() {
        let inodes = Inodes::default();
        let inode = inodes.open(Ino(5)).unwrap();
        inode.begin_write(1);
        inode.end_write(10);
        let writes = inode.writes();
        inode.begin_write(2);
        inode.flushed(writes, 3);
        assert!(!inode.is_settled());
        assert_eq!(inodes.close(&inode), Some(End::Stays));
        inodes.forget(Ino(5));
        assert!(inodes.get(Ino(5)).is_some(), "dirty ones are not forgotten");
        inode.flushed(inode.writes(), 4);
        inodes.forget(Ino(5));
        assert!(inodes.get(Ino(5)).is_none());
    }

    #[test]
    fn pages_are_kept_while_the_time_stands_still() {
        let inodes = Inodes::default();
        let inode = inodes.open(Ino(5)).unwrap();
        let time = |sec| Time { sec, nsec: 0 };
        assert!(!inode.opened(time(1)));
        assert!(inode.opened(time(1)));
        assert!(!inode.opened(time(2)));
    }

    #[test]
    fn the_last_close_hears_of_the_lost_name() {
        let inodes = Inodes::default();
        assert!(!inodes.lose_name(Ino(5), End::Sustained));
        let inode = inodes.open(Ino(5)).unwrap();
        inodes.open(Ino(5)).unwrap();
        assert!(inodes.lose_name(Ino(5), End::Sustained));
        assert_eq!(inodes.close(&inode), None);
        assert_eq!(inodes.close(&inode), Some(End::Sustained));
    }
}
