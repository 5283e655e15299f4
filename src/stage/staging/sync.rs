//! Rounds of bringing things to the disk, shared by all who wait: a leader and followers.
//!
//! Owns who starts a round, who shares one, and that an error stays. A round takes in all that was
//! there when it began; who comes while it runs shares the next one, which begins as soon as this one
//! ends: no timer delays anybody. Does not own what a round does, nor count what is brought.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stdx::{Gate, monotonic_ns};
use crate::uring;

/// Rounds, and how far they have come. Clones share them.
#[derive(Clone)]
pub(super) struct Rounds(Arc<Shared>);

struct Shared {
    /// How far everything is on the disk.
    reached: AtomicU64,
    state: Mutex<State>,
    changed: Gate,
}

#[derive(Default)]
struct State {
    running: bool,
    failed: Option<Failure>,
    counts: RoundCounts,
}

/// Rounds done, and the time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RoundCounts {
    /// Rounds that ended well.
    pub(super) rounds: u64,
    /// Their time, us.
    pub(super) took_us: u64,
}

/// An error that is told again and again.
struct Failure {
    code: Option<i32>,
    kind: io::ErrorKind,
    words: String,
}

/// What somebody who waits does next.
enum Turn {
    Reached,
    Failed(io::Error),
    Share,
    Lead,
}

impl Rounds {
    /// Everything up to this number is on the disk.
    pub(super) fn new(reached: u64) -> Self {
        Self(Arc::new(Shared {
            reached: AtomicU64::new(reached),
            state: Mutex::default(),
            changed: Gate::default(),
        }))
    }

    /// How far everything is on the disk.
    pub(super) fn reached(&self) -> u64 {
        self.0.reached.load(Ordering::Acquire)
    }

    /// Rounds so far.
    pub(super) fn counts(&self) -> RoundCounts {
        self.0.lock().counts
    }

    /// Wait until everything up to `upto` is on the disk. `round` brings all that is there when it is
    /// first polled, and tells up to which number that was. It runs to its end on the core that
    /// started it, whoever waits: the word of the kernel about a write that failed comes once.
    ///
    /// # Errors
    /// Of the first round that failed, from then on for all that was not reached before.
    pub(super) async fn reach<F>(&self, upto: u64, round: impl Fn() -> F) -> io::Result<()>
    where
        F: Future<Output = io::Result<u64>> + 'static,
    {
        loop {
            let ticket = self.0.changed.ticket();
            match self.0.turn(upto) {
                Turn::Reached => return Ok(()),
                Turn::Failed(error) => return Err(error),
                Turn::Share => {}
                Turn::Lead => uring::spawn(Arc::clone(&self.0).carry(round())),
            }
            self.0.changed.wait(ticket).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, upto: u64) -> Turn {
        let mut state = self.lock();
        if self.reached.load(Ordering::Acquire) >= upto {
            Turn::Reached
        } else if let Some(failure) = &state.failed {
            Turn::Failed(failure.told())
        } else if state.running {
            Turn::Share
        } else {
            state.running = true;
            Turn::Lead
        }
    }

    async fn carry(self: Arc<Self>, round: impl Future<Output = io::Result<u64>>) {
        let began_ns = monotonic_ns();
        let mut ending = Ending { shared: self, began_ns, outcome: Err(gone()) };
        ending.outcome = round.await;
    }
}

/// Ends a round, also one whose core ends before it.
struct Ending {
    shared: Arc<Shared>,
    began_ns: u64,
    outcome: io::Result<u64>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.running = false;
            match &self.outcome {
                Ok(reached) => {
                    self.shared.reached.fetch_max(*reached, Ordering::AcqRel);
                    state.counts.rounds += 1;
                    state.counts.took_us += (monotonic_ns() - self.began_ns) / 1000;
                }
                Err(error) => state.failed = Some(Failure::of(error)),
            }
        }
        self.shared.changed.open();
    }
}

/// Nobody knows how the round ended, which is no success.
fn gone() -> io::Error {
    io::Error::other("the core that was bringing data to the disk has ended")
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self { code: error.raw_os_error(), kind: error.kind(), words: error.to_string() }
    }

    fn told(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.words.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::stdx::{Sender, oneshot};
    use crate::uring::{block_on, sleep, spawn};

    /// Numbers that are brought to a disk whose rounds end when a test says so.
    #[derive(Default)]
    struct Disk {
        tail: Cell<u64>,
        flying: RefCell<Vec<Sender<io::Result<()>>>>,
        begun: Cell<usize>,
    }

    impl Disk {
        fn round(self: &Rc<Self>) -> impl Future<Output = io::Result<u64>> + use<> {
            let disk = Rc::clone(self);
            async move {
                let tail = disk.tail.get();
                disk.begun.set(disk.begun.get() + 1);
                let (sender, ended) = oneshot();
                disk.flying.borrow_mut().push(sender);
                ended.await.expect("the test ends each round").map(|()| tail)
            }
        }

        fn end(&self, result: io::Result<()>) {
            self.flying.borrow_mut().remove(0).send(result);
        }
    }

    /// What each who waits was told, by the number waited for.
    type Told = Rc<RefCell<Vec<(u64, Option<i32>)>>>;

    fn wait_for(rounds: &Rounds, disk: &Rc<Disk>, upto: u64, told: &Told) {
        let (rounds, disk, told) = (rounds.clone(), Rc::clone(disk), Rc::clone(told));
        spawn(async move {
            let result = rounds.reach(upto, || disk.round()).await;
            let code = result.err().map(|error| error.raw_os_error().expect("a code"));
            told.borrow_mut().push((upto, code));
        });
    }

    async fn settle() {
        sleep(std::time::Duration::from_millis(1)).await;
    }

    #[test]
    fn who_comes_during_a_round_shares_the_next_one() {
        block_on(async {
            let (rounds, disk, told) = (Rounds::new(0), Rc::new(Disk::default()), Told::default());
            disk.tail.set(1);
            wait_for(&rounds, &disk, 1, &told);
            settle().await;
            for upto in 2..=17 {
                disk.tail.set(upto);
                wait_for(&rounds, &disk, upto, &told);
            }
            settle().await;
            assert_eq!((disk.begun.get(), told.borrow().len()), (1, 0));
            disk.end(Ok(()));
            settle().await;
            assert_eq!(*told.borrow(), [(1, None)], "the first round began before the others came");
            assert_eq!(disk.begun.get(), 2);
            disk.end(Ok(()));
            settle().await;
            assert_eq!((told.borrow().len(), disk.begun.get()), (17, 2));
            assert_eq!((rounds.reached(), rounds.counts().rounds), (17, 2));
            rounds.reach(17, || disk.round()).await.unwrap();
            assert_eq!(disk.begun.get(), 2, "what is there needs no round");
        });
    }

    #[test]
    fn an_error_stays_and_what_was_reached_stays_too() {
        block_on(async {
            let (rounds, disk, told) = (Rounds::new(0), Rc::new(Disk::default()), Told::default());
            disk.tail.set(3);
            wait_for(&rounds, &disk, 3, &told);
            settle().await;
            disk.tail.set(4);
            wait_for(&rounds, &disk, 4, &told);
            settle().await;
            disk.end(Ok(()));
            settle().await;
            disk.end(Err(io::Error::from_raw_os_error(libc::EIO)));
            settle().await;
            wait_for(&rounds, &disk, 4, &told);
            wait_for(&rounds, &disk, 5, &told);
            wait_for(&rounds, &disk, 3, &told);
            settle().await;
            let eio = Some(libc::EIO);
            assert_eq!(*told.borrow(), [(3, None), (4, eio), (4, eio), (5, eio), (3, None)]);
            assert_eq!(disk.begun.get(), 2, "nothing is tried again");
            assert_eq!((rounds.reached(), rounds.counts().rounds), (3, 1));
        });
    }

    #[test]
    fn a_round_goes_on_when_its_leader_is_gone() {
        block_on(async {
            let (rounds, disk, told) = (Rounds::new(0), Rc::new(Disk::default()), Told::default());
            disk.tail.set(1);
            {
                let mut leader = std::pin::pin!(rounds.reach(1, || disk.round()));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(leader.as_mut().poll(&mut context).is_pending());
            }
            wait_for(&rounds, &disk, 1, &told);
            settle().await;
            assert_eq!(disk.begun.get(), 1);
            disk.end(Err(io::Error::from_raw_os_error(libc::EIO)));
            settle().await;
            assert_eq!(*told.borrow(), [(1, Some(libc::EIO))], "the error is not lost with it");
        });
    }

    #[test]
    fn a_round_that_ends_with_its_core_is_no_success() {
        let rounds = Rounds::new(0);
        let leader = rounds.clone();
        std::thread::spawn(move || {
            block_on(async move {
                spawn(async move {
                    let _ = leader.reach(1, std::future::pending).await;
                });
                settle().await;
            });
        })
        .join()
        .unwrap();
        let error = block_on(rounds.reach(1, || async { Ok(1) })).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }

    #[test]
    fn cores_share_rounds() {
        let rounds = Rounds::new(0);
        let tail = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    block_on(async {
                        for _ in 0..200 {
                            let upto = tail.fetch_add(1, Ordering::SeqCst) + 1;
                            let round = || {
                                let tail = Arc::clone(&tail);
                                async move {
                                    let tail = tail.load(Ordering::SeqCst);
                                    sleep(std::time::Duration::from_micros(20)).await;
                                    Ok(tail)
                                }
                            };
                            rounds.reach(upto, round).await.unwrap();
                            assert!(rounds.reached() >= upto);
                        }
                    });
                });
            }
        });
        assert_eq!(rounds.reached(), 800);
        assert!(rounds.counts().rounds <= 800);
    }
}
