//! One thread per core from the first request to the last.
//!
//! Owns the threads and how queues are spread over them, and the one that tells the kernel what it has not
//! asked for. A panic outside of a request is a broken
//! invariant: it ends the process, for a core that is gone would leave its callers waiting.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cpus::{allowed_cpus, possible_cpus, stay_on};
use crate::fuse::transport::dev_fuse::{self, Wait};
use crate::fuse::transport::{clone_device, over_uring};
use crate::fuse::{Handler, Session, Transport, notify};
use crate::stdx::Gate;
use crate::uring;
use crate::vfs::Notices;

/// How long FORGET and INTERRUPT may gather while requests come over the ring.
const SIDE_PACE: Duration = Duration::from_millis(20);
/// Cores that look at `/dev/fuse` whenever something comes. Measured with a caller on the first of
/// two CPUs: stat 5.6 µs, and 35 µs when the cores are woken in turns.
const OPEN_WAITERS: usize = 4;
/// Niceness of cores, where the system allows it: callers wait for them, not the other way round.
const NICE: i32 = -10;

/// Serve `session` on `cores` pinned threads until the kernel lets go of the mount, and every
/// core's handler is drained. `make_handler` is called once on each thread with its number. What
/// `notices` bring is told to the kernel meanwhile.
///
/// With fewer cores than CPUs a core serves the queues of several; calls from the other CPUs then
/// pay a wake-up across.
///
/// # Errors
/// When the connection cannot be opened once more for each core.
pub fn run(
    session: Session,
    cores: usize,
    notices: &Notices,
    make_handler: impl Fn(usize) -> Rc<dyn Handler> + Send + Sync,
) -> io::Result<()> {
    assert!(cores > 0, "a mount needs a core");
    let own: io::Result<Vec<_>> = (0..=cores).map(|_| clone_device(&session.device)).collect();
    let mut own = own?;
    let teller = clone_device(&session.device)?;
    let shared = Shared {
        side: Mutex::new(own.pop()),
        device: Arc::new(session.device),
        transport: session.transport,
        payload_bytes: session.payload_bytes,
        cores,
        let_go: Barrier::new(cores),
        drained: Barrier::new(cores),
    };
    let (shared, make_handler) = (&shared, &make_handler);
    std::thread::scope(|scope| {
        notices.begin();
        let telling =
            std::thread::Builder::new().name("notices".to_owned()).spawn_scoped(scope, move || {
                let _guard = EndsTheProcess;
                notify::serve(&teller, notices);
            });
        if let Err(error) = telling {
            fatal("a thread beside the cores could not start", &error);
        }
        let started = |(number, own)| {
            let core = std::thread::Builder::new()
                .name(format!("core-{number}"))
                .spawn_scoped(scope, move || shared.serve(number, own, make_handler));
            // Without it some queues are unserved, and no request on any goes through.
            core.unwrap_or_else(|error| fatal("a core could not start", &error))
        };
        let running: Vec<_> = own.into_iter().enumerate().map(started).collect();
        for core in running {
            core.join().expect("a core that panics ends the process");
        }
        notices.end();
    });
    Ok(())
}

struct Shared {
    device: Arc<OwnedFd>,
    /// For what does not come over the ring; the first core takes it.
    side: Mutex<Option<OwnedFd>>,
    transport: Transport,
    payload_bytes: usize,
    cores: usize,
    let_go: Barrier,
    drained: Barrier,
}

impl Shared {
    fn serve(&self, number: usize, own: OwnedFd, make_handler: &impl Fn(usize) -> Rc<dyn Handler>) {
        let _guard = EndsTheProcess;
        let cpus = allowed_cpus();
        // More cores than CPUs share them.
        if let Err(error) = stay_on(cpus[number % cpus.len()]) {
            tracing::warn!(%error, "a core could not be pinned; calls will cost more");
        }
        let thread = rustix::thread::gettid();
        let _ = rustix::process::setpriority_process(Some(thread), NICE);
        uring::block_on(async {
            let handler = make_handler(number);
            if let Err(error) = self.transport(number, own, &handler).await {
                fatal("the connection to the kernel failed", &error);
            }
            self.let_go.pass().await;
            handler.drain().await;
            // Tasks of this core may be needed by another that still drains.
            self.drained.pass().await;
        });
    }

    async fn transport(
        &self,
        number: usize,
        own: OwnedFd,
        handler: &Rc<dyn Handler>,
    ) -> io::Result<()> {
        let handler = Rc::clone(handler);
        let wait = if number < OPEN_WAITERS { Wait::Open } else { Wait::InTurn };
        if self.transport == Transport::DevFuse {
            return dev_fuse::serve(own, self.payload_bytes, wait, handler).await;
        }
        let side = self.side.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(side) = side {
            let (payload_bytes, handler) = (self.payload_bytes, Rc::clone(&handler));
            uring::spawn(async move {
                let gather = Wait::Gather(SIDE_PACE);
                if let Err(error) = dev_fuse::serve(side, payload_bytes, gather, handler).await {
                    tracing::error!(%error, "forgotten inodes are no longer heard of");
                }
            });
        }
        let queues = queues_of(number, self.cores, possible_cpus());
        let (device, payload_bytes) = (Arc::clone(&self.device), self.payload_bytes);
        let requests = Rc::clone(&handler);
        match over_uring::serve(device, &queues, self.cores, payload_bytes, requests).await {
            Ok(()) => Ok(()),
            // The kernel has gone back to the device; so do we.
            Err(error) => {
                tracing::warn!(%error, "FUSE over io_uring was refused; using /dev/fuse");
                dev_fuse::serve(own, self.payload_bytes, wait, handler).await
            }
        }
    }
}

/// Cores wait here for each other, once.
struct Barrier {
    missing: AtomicUsize,
    arrived: Gate,
}

impl Barrier {
    fn new(cores: usize) -> Self {
        Self { missing: AtomicUsize::new(cores), arrived: Gate::default() }
    }

    async fn pass(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        self.arrived.open();
        loop {
            let ticket = self.arrived.ticket();
            if self.missing.load(Ordering::Acquire) == 0 {
                return;
            }
            self.arrived.wait(ticket).await;
        }
    }
}

/// The FUSE queues that core `number` of `cores` serves: one per possible CPU, dealt round.
fn queues_of(number: usize, cores: usize, possible: usize) -> Vec<u16> {
    let queue = |cpu: usize| u16::try_from(cpu).expect("the kernel counts queues in 16 bits");
    (number..possible).step_by(cores).map(queue).collect()
}

struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn fatal(what: &str, error: &io::Error) -> ! {
    tracing::error!(%error, "{what}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_one_core() {
        for cores in 1..6 {
            let mut all: Vec<u16> =
                (0..cores).flat_map(|number| queues_of(number, cores, 4)).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
        assert_eq!(queues_of(1, 2, 4), [1, 3]);
        assert!(queues_of(5, 6, 4).is_empty());
    }
}
