//! A few plain threads for calls that block: TLS set-up, name resolution, compression of bulk.
//!
//! Owns the threads and their bounded queue. A job must not wait for another job.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::stdx::{Gate, oneshot};

/// Threads of the pool.
const THREADS: usize = 2;
/// Jobs that may wait for a thread; who comes then waits for a place.
const QUEUE_JOBS: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: Sender<Job>,
    /// Opened each time a job leaves the queue.
    left: Gate,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let (queue, jobs) = bounded(QUEUE_JOBS);
        for number in 0..THREADS {
            let jobs = jobs.clone();
            std::thread::Builder::new()
                .name(format!("side-{number}"))
                .spawn(move || work(&jobs))
                .expect("the system lets us start a thread");
        }
        Pool { queue, left: Gate::default() }
    })
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        pool().left.open();
        job();
    }
}

/// From so many bytes on, copying takes longer than it takes to wake a thread for it.
const ASIDE_BYTES: usize = 256 << 10;

/// Run `job`, which copies or computes over `len_bytes`, where it holds up the core least: at once
/// if it is small, on a side thread otherwise.
///
/// # Panics
/// If the job does.
pub async fn run_sized<T: Send + 'static>(
    len_bytes: usize,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    if len_bytes < ASIDE_BYTES { job() } else { run(job).await }
}

/// Run `job` on a side thread. It runs to its end even when nobody waits for it any more, unless
/// the wait is given up before a place in the queue was free.
///
/// # Panics
/// If the job does.
pub fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let (sender, receiver) = oneshot();
    let job: Job = Box::new(move || {
        // The waiting side panics in its own place; the thread lives on.
        if let Ok(value) = catch_unwind(AssertUnwindSafe(job)) {
            sender.send(value);
        }
    });
    let early = pool().queue.try_send(job).err().map(crossbeam_channel::TrySendError::into_inner);
    async move {
        if let Some(job) = early {
            enqueue(job).await;
        }
        receiver.await.expect("a side job gives a value unless it panicked")
    }
}

async fn enqueue(mut job: Job) {
    let pool = pool();
    loop {
        let ticket = pool.left.ticket();
        match pool.queue.try_send(job) {
            Ok(()) => return,
            Err(full) => job = full.into_inner(),
        }
        pool.left.wait(ticket).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::uring;

    #[test]
    fn results_come_back_to_the_core() {
        let name = uring::block_on(run(|| std::thread::current().name().map(str::to_owned)));
        assert!(name.unwrap().starts_with("side-"));
    }

    #[test]
    fn a_full_queue_makes_callers_wait_not_fail() {
        let ran = Arc::new(AtomicUsize::new(0));
        uring::block_on(async {
            let mut waits = Vec::new();
            for _ in 0..3 * QUEUE_JOBS {
                let ran = Arc::clone(&ran);
                waits.push(run(move || {
                    std::thread::sleep(Duration::from_micros(10));
                    ran.fetch_add(1, Ordering::Relaxed)
                }));
            }
            for wait in waits {
                wait.await;
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), 3 * QUEUE_JOBS);
    }

    #[test]
    fn a_panic_stays_with_its_job() {
        let caught = std::panic::catch_unwind(|| uring::block_on(run(|| panic!("on purpose"))));
        assert!(caught.is_err());
        assert_eq!(uring::block_on(run(|| 7)), 7);
    }
}
