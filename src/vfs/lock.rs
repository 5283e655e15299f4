//! BSD and POSIX locks: who holds what is metadata's, seen by all clients of the volume.
//!
//! Owns waiting for a lock, and giving locks back when descriptors close. Within this mount who
//! waits is woken; locks of other clients are looked at again and again, ever less often.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;

use super::dispatch::Vfs;
use super::error::Done;
use super::inode::Inode;
use super::interrupt::Interruptible;
use super::op::{LockRange, Reply};
use super::ranges::{NONE, READ, WRITE, conflict, pack, place, unpack};
use crate::errno::Cause;
use crate::meta::{MetaError, Plock};
use crate::types::Ino;
use crate::uring;

/// First pause before a lock is tried again; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(32);

/// A lock asked for.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub handle: u64,
    pub owner: u64,
    pub range: LockRange,
    pub flock: bool,
}

impl Vfs {
    pub(super) async fn getlk(&self, handle: u64, owner: u64, range: LockRange) -> Done {
        let file = self.shared.handles.file(handle)?;
        let ours = self.meta.lock_owner(owner);
        for other in self.meta.plocks(file.inode.ino).await? {
            if other.owner == ours {
                continue;
            }
            if let Some(held) = conflict(&unpack(&other.records), range) {
                // Process ids of other machines mean nothing here.
                let pid = if other.owner.sid == ours.sid { held.pid } else { 0 };
                return Ok(Reply::Lock(LockRange { pid, ..held }));
            }
        }
        Ok(Reply::Lock(LockRange { kind: NONE, ..range }))
    }

    pub(super) async fn setlk(&self, wish: Wish, wait: bool, unique: u64) -> Done {
        let file = self.shared.handles.file(wish.handle)?;
        let inode = &file.inode;
        if inode.ino >= Ino::VIRTUAL {
            return Err(Errno::PERM.into());
        }
        if !wait || wish.range.kind == NONE {
            return self.try_lock(inode, wish).await;
        }
        let signal = self.shared.interrupts.enter(unique);
        let mut pause = PAUSE_FIRST;
        loop {
            let ticket = inode.unlocked.ticket();
            match self.try_lock(inode, wish).await {
                Err(Cause::Posix(Errno::AGAIN)) => {}
                done => return done,
            }
            if interrupted(&signal, pause, inode.unlocked.wait(ticket)).await {
                return Err(Errno::INTR.into());
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_lock(&self, inode: &Inode, wish: Wish) -> Done {
        if wish.flock {
            self.flock(inode, flock_owner(wish.owner, wish.handle), wish.range.kind).await?;
        } else {
            self.plock(inode, wish).await?;
        }
        Ok(Reply::Ok)
    }

    async fn flock(&self, inode: &Inode, owner: u64, kind: u32) -> Done<()> {
        let want = match kind {
            READ => Some(false),
            WRITE => Some(true),
            NONE => None,
            _ => return Err(Errno::INVAL.into()),
        };
        self.meta.flock(inode.ino, self.meta.lock_owner(owner), want).await?;
        // Giving a lock back or sharing it lets others in.
        if kind != WRITE {
            inode.unlocked.open();
        }
        Ok(())
    }

    async fn plock(&self, inode: &Inode, wish: Wish) -> Done<()> {
        let Wish { handle, owner, range, .. } = wish;
        if range.kind > NONE || range.start > range.end {
            return Err(Errno::INVAL.into());
        }
        if range.kind == NONE && !inode.has_lock_owner(owner) {
            return Ok(());
        }
        if range.kind != NONE {
            inode.add_lock_owner(owner, handle)?;
        }
        let ours = self.meta.lock_owner(owner);
        let change = |held: &[Plock]| {
            let mut own = Vec::new();
            for other in held {
                let ranges = unpack(&other.records);
                if other.owner == ours {
                    own = ranges;
                } else if range.kind != NONE && conflict(&ranges, range).is_some() {
                    return Err(Errno::AGAIN);
                }
            }
            Ok(pack(&place(&own, range)))
        };
        self.meta.plock(inode.ino, ours, &change).await?;
        if range.kind != WRITE {
            inode.unlocked.open();
        }
        Ok(())
    }

    /// A process closed a descriptor of the file: its POSIX locks on it go.
    pub(super) async fn unlock_owner(&self, inode: &Inode, owner: u64) {
        if !inode.has_lock_owner(owner) {
            return;
        }
        match self.meta.plock(inode.ino, self.meta.lock_owner(owner), &|_| Ok(None)).await {
            Ok(()) => inode.remove_lock_owner(owner),
            Err(error) => stays_locked(inode.ino, &error),
        }
        inode.unlocked.open();
    }

    /// A handle is closed for good: what was locked through it is given back.
    pub(super) fn unlock_all_later(
        self: &Rc<Self>,
        inode: &Arc<Inode>,
        handle: u64,
        flock: Option<u64>,
    ) {
        let owners = inode.lock_owners_of(handle);
        if owners.is_empty() && flock.is_none() {
            return;
        }
        let (vfs, inode) = (Rc::clone(self), Arc::clone(inode));
        uring::spawn(async move {
            if let Some(owner) = flock
                && let Err(error) = vfs.give_back(&inode, flock_owner(owner, handle)).await
            {
                stays_locked(inode.ino, &error);
            }
            for owner in owners {
                vfs.unlock_owner(&inode, owner).await;
            }
        });
    }

    async fn give_back(&self, inode: &Inode, owner: u64) -> Result<(), MetaError> {
        let done = self.meta.flock(inode.ino, self.meta.lock_owner(owner), None).await;
        inode.unlocked.open();
        done
    }
}

/// As the real client names owners of BSD locks.
fn flock_owner(owner: u64, handle: u64) -> u64 {
    owner ^ handle
}

fn stays_locked(ino: Ino, error: &MetaError) {
    tracing::warn!(%ino, %error, "a lock stays until the session ends");
}

/// Wait for a pause or an unlock; whether the caller was interrupted first.
async fn interrupted(
    signal: &Interruptible<'_>,
    pause: Duration,
    unlocked: impl Future<Output = ()>,
) -> bool {
    let mut signal = pin!(signal.interrupted());
    let mut unlocked = pin!(uring::timeout(pause, unlocked));
    poll_fn(|context| {
        if signal.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        unlocked.as_mut().poll(context).map(|_| false)
    })
    .await
}
