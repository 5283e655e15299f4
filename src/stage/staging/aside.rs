//! Threads on which large files are written, so that a slow disk holds up no core.
//!
//! Owns the threads and their bounded queue. Apart from `net::side`: a disk that hangs must not keep
//! blocks from going to the store directly.

use std::future::Future;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::STAGING_WRITES_MAX;
use crate::stdx::oneshot;

const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; dropping it waits for what they have to do.
pub(super) struct Aside {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Aside {
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, queue) = bounded(STAGING_WRITES_MAX);
        let mut aside = Self { jobs: Some(jobs), threads: Vec::new() };
        for number in 0..THREADS {
            let queue: Receiver<Job> = queue.clone();
            let thread = thread::Builder::new().name(format!("stage-write-{number}"));
            aside.threads.push(thread.spawn(move || queue.into_iter().for_each(|job| job()))?);
        }
        Ok(aside)
    }

    /// Have a job done; `None` when too many wait. It is done even if nobody waits for it any more.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<impl Future<Output = T>> {
        let (sender, receiver) = oneshot();
        let job = Box::new(move || sender.send(job()));
        let jobs = self.jobs.as_ref().expect("there until dropped");
        jobs.try_send(job).ok()?;
        Some(async { receiver.await.expect("a job gives a value") })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}
