//! The loop of a core: poll until nobody is ready, hand over what is queued, sleep in the ring.
//!
//! A turn is several rounds of polling: a task that is woken by another runs before the ring is
//! entered, so that all they ask for goes out in one call, which also waits for the next answer.
//! Where an answer is due within less than a sleep and a wake cost (`expect_within`), the core looks
//! for it for that long before it sleeps, and lets others run meanwhile.
//!
//! Owns the thread's one reactor. Relies on `exec` for tasks, `ring` for operations, `timer` for
//! deadlines.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::exec::{MAIN, ReadyList, Tasks};
use super::ring::Ring;
use super::timer::Timers;
use super::{file, ops};
use crate::stdx::monotonic_ns;

/// Pauses of the processor between two looks, a fraction of a microsecond.
const PAUSES: usize = 16;
/// Rounds of one turn: a task that wakes itself for ever does not keep completions out.
const ROUNDS_MAX: usize = 16;

pub(super) struct Reactor {
    pub(super) ring: Ring,
    pub(super) timers: Timers,
    tasks: Tasks,
    ready: Arc<ReadyList>,
    /// Until then looking for completions is better than sleeping; monotonic.
    look_until_ns: Cell<u64>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// This thread's reactor.
///
/// # Panics
/// Outside of [`block_on`]: operations and timers only exist inside a core.
pub(super) fn current() -> Rc<Reactor> {
    CURRENT.with_borrow(|current| {
        Rc::clone(current.as_ref().expect("ring operations run inside uring::block_on"))
    })
}

/// Whether the kernel lets this process have a ring.
///
/// # Errors
/// What the kernel said.
pub fn probe() -> io::Result<()> {
    Ring::new().map(drop)
}

/// Run `future` on this core beside what runs there; polled at the next round.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    current().tasks.spawn(Box::pin(future));
}

/// Something will be completed within `patience`, most likely: a core without work looks for it so
/// long before it sleeps.
pub fn expect_within(patience: Duration) {
    let until_ns = monotonic_ns() + u64::try_from(patience.as_nanos()).expect("a short time");
    current().look_until_ns.set(until_ns);
}

/// Run `future` on this thread's ring until it is done; tasks that are not done then are dropped
/// with the ring, unless an outer call is still running on it.
///
/// # Panics
/// If the kernel offers no io_uring, or when called from inside another `block_on`.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let reactor =
        Reactor::enter().expect("the kernel offers io_uring; `jfs-uring doctor` tells why not");
    let _leave = Leave;
    reactor.tasks.spawn(Box::pin(watch_doorbell(Arc::clone(&reactor.ready))));
    reactor.run(future)
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        // Tasks hold operations and these the reactor: they go first, while it is still current.
        current().tasks.clear();
        CURRENT.with_borrow_mut(Option::take);
    }
}

/// Keeps one read on the eventfd in flight: its completion is what ends the sleep.
async fn watch_doorbell(ready: Arc<ReadyList>) {
    loop {
        let done = ops::poll_readable(&ready.doorbell).await;
        if done.is_err() {
            return;
        }
        let mut count = [0; 8];
        // Nothing to read means another turn has emptied it.
        let _ = rustix::io::read(&ready.doorbell, &mut count);
    }
}

impl Reactor {
    fn enter() -> std::io::Result<Rc<Self>> {
        let ready = ReadyList::new()?;
        let reactor = Rc::new(Self {
            ring: Ring::new()?,
            timers: Timers::default(),
            tasks: Tasks::new(Arc::clone(&ready)),
            ready,
            look_until_ns: Cell::new(0),
        });
        CURRENT.with_borrow_mut(|current| {
            assert!(current.is_none(), "one core runs one loop: block_on inside block_on");
            *current = Some(Rc::clone(&reactor));
        });
        Ok(reactor)
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let waker = self.tasks.waker(MAIN, 0);
        let mut context = Context::from_waker(&waker);
        waker.wake_by_ref();
        let mut round = Vec::new();
        loop {
            for _ in 0..ROUNDS_MAX {
                self.ready.take(&mut round);
                if round.is_empty() {
                    break;
                }
                for (task, generation) in round.drain(..) {
                    if task != MAIN {
                        self.tasks.poll(task, generation);
                    } else if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                        return output;
                    }
                }
            }
            self.rest();
        }
    }

    /// Submit, and sleep until a completion, a doorbell or a deadline unless work is waiting.
    fn rest(&self) {
        let next = self.timers.fire();
        let sleep = self.ready.may_sleep() && next != Some(Duration::ZERO);
        if sleep && monotonic_ns() < self.look_until_ns.get() {
            self.ring.enter(false, None).expect("the ring accepts what is queued");
            self.look(next);
        }
        self.ring.enter(sleep, next).expect("the ring accepts what is queued");
        self.ready.awake();
        self.ring.reap();
    }

    /// Wait for news without sleep, until the next deadline at most. Whoever else wants this CPU
    /// gets it.
    fn look(&self, next: Option<Duration>) {
        let next_ns = next.and_then(|next| u64::try_from(next.as_nanos()).ok());
        let deadline_ns =
            next_ns.map_or(u64::MAX, |next_ns| monotonic_ns().saturating_add(next_ns));
        let until_ns = self.look_until_ns.get().min(deadline_ns);
        while !self.ring.has_news() && monotonic_ns() < until_ns {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            rustix::thread::sched_yield();
        }
    }
}

const _: () = assert!(file::CHUNK_MAX <= u32::MAX as usize);
