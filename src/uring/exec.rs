//! Tasks of one core and the list of those that are to be polled.
//!
//! Owns futures, wakers and the ready list. Does not own the ring; relies on an eventfd that the
//! reactor watches, so that a waker on another thread ends the core's sleep.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::ThreadId;

use rustix::event::{EventfdFlags, eventfd};
use slab::Slab;

/// The future that `block_on` runs has no slot; it is named by this.
pub(super) const MAIN: usize = usize::MAX;

/// Names of tasks to poll; the one part of a core that other threads touch.
pub(super) struct ReadyList {
    woken: Mutex<Vec<(usize, u64)>>,
    sleeping: AtomicBool,
    thread: ThreadId,
    pub(super) doorbell: OwnedFd,
}

impl ReadyList {
    pub(super) fn new() -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            woken: Mutex::new(Vec::new()),
            sleeping: AtomicBool::new(false),
            thread: std::thread::current().id(),
            doorbell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    fn push(&self, task: usize, generation: u64) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push((task, generation));
        if self.sleeping.load(Ordering::SeqCst) && std::thread::current().id() != self.thread {
            // A full counter means the bell already rings.
            let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
        }
    }

    /// Announce sleep; false if a task was woken before the announcement was seen.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Exchange what was woken for an empty list.
    pub(super) fn take(&self, empty: &mut Vec<(usize, u64)>) {
        assert!(empty.is_empty(), "names taken before have been polled");
        std::mem::swap(empty, &mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

struct TaskWaker {
    task: usize,
    generation: u64,
    ready: Arc<ReadyList>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.task, self.generation);
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u64,
    /// Absent while the task is being polled.
    task: Option<(Task, Waker)>,
}

/// All tasks of a core.
pub(super) struct Tasks {
    slots: RefCell<Slab<Slot>>,
    next_generation: std::cell::Cell<u64>,
    ready: Arc<ReadyList>,
}

impl Tasks {
    pub(super) fn new(ready: Arc<ReadyList>) -> Self {
        Self { slots: RefCell::new(Slab::new()), next_generation: std::cell::Cell::new(1), ready }
    }

    pub(super) fn waker(&self, task: usize, generation: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, generation, ready: Arc::clone(&self.ready) }))
    }

    /// Take a task in and poll it once at the next round.
    pub(super) fn spawn(&self, future: Task) {
        let generation = self.next_generation.get();
        self.next_generation.set(generation + 1);
        let mut slots = self.slots.borrow_mut();
        let entry = slots.vacant_entry();
        let waker = self.waker(entry.key(), generation);
        waker.wake_by_ref();
        entry.insert(Slot { generation, task: Some((future, waker)) });
    }

    /// Drop every task, also those that a dropped one spawns.
    pub(super) fn clear(&self) {
        loop {
            let slots = std::mem::take(&mut *self.slots.borrow_mut());
            if slots.is_empty() {
                return;
            }
            drop(slots);
        }
    }

    /// Poll one task if it still lives; a wake-up may outlive its task.
    pub(super) fn poll(&self, task: usize, generation: u64) {
        let taken =
            self.slots.borrow_mut().get_mut(task).and_then(|slot| {
                if slot.generation == generation { slot.task.take() } else { None }
            });
        let Some((mut future, waker)) = taken else { return };
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.slots.borrow_mut().remove(task);
        } else {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(task).expect("a task being polled keeps its slot");
            let before = slot.task.replace((future, waker));
            assert!(before.is_none(), "a task is polled by one at a time");
        }
    }
}
