//! A small runtime of its own for libraries that speak HTTP, and the bridge to it.
//!
//! Owns its threads, which start with the first request, and the bound on requests in work. A core
//! hands a future over and awaits its result; dropping that wait gives the request up. Does not
//! know what is asked of whom.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

use crate::limits::NET_REQUESTS_MAX;
use crate::stdx::{Permits, oneshot};

/// Threads of the runtime: TLS of one transfer must not hold up the next.
const THREADS: usize = 2;
/// Threads for what it does aside: name resolution, files with credentials.
const BLOCKING_THREADS: usize = 4;

/// The request ended without an answer: a bug in it, told in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

struct Net {
    runtime: Runtime,
    permits: Arc<Permits>,
}

fn net() -> &'static Net {
    static NET: OnceLock<Net> = OnceLock::new();
    NET.get_or_init(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("net")
            .enable_all()
            .build()
            .expect("the system lets us start a thread");
        Net { runtime, permits: Permits::new(NET_REQUESTS_MAX) }
    })
}

/// Ends the request when nobody waits for it any more.
struct GiveUp(AbortHandle);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Run `request` on the runtime's threads; with too many in work it waits for its turn first.
///
/// # Errors
/// When it panicked.
pub async fn run<F>(request: F) -> Result<F::Output, Broken>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let net = net();
    let permit = net.permits.take().await;
    let (sender, receiver) = oneshot();
    let task = net.runtime.spawn(async move {
        let answer = request.await;
        drop(permit);
        sender.send(answer);
    });
    let _give_up = GiveUp(task.abort_handle());
    receiver.await.map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::uring;

    #[test]
    fn answers_come_back_to_the_core() {
        let name = uring::block_on(run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            std::thread::current().name().map(str::to_owned)
        }));
        assert_eq!(name.unwrap().as_deref(), Some("net"));
    }

    #[test]
    fn a_wait_that_is_given_up_ends_the_request() {
        struct Ended(Arc<AtomicUsize>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let ended = Arc::new(AtomicUsize::new(0));
        let guard = Ended(Arc::clone(&ended));
        uring::block_on(async {
            let request = run(async move {
                let _guard = guard;
                tokio::time::sleep(Duration::from_secs(600)).await;
            });
            assert!(uring::timeout(Duration::from_millis(20), request).await.is_err());
            for _ in 0..500 {
                if ended.load(Ordering::SeqCst) == 1 {
                    return;
                }
                uring::sleep(Duration::from_millis(10)).await;
            }
            panic!("the request goes on without anybody");
        });
    }

    #[test]
    fn more_requests_than_places_all_get_their_turn() {
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        uring::block_on(async {
            let mut waits = Vec::new();
            for _ in 0..2 * NET_REQUESTS_MAX {
                let (most, now) = (Arc::clone(&most), Arc::clone(&now));
                let (sender, receiver) = oneshot();
                uring::spawn(async move {
                    let done = run(async move {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                    });
                    sender.send(done.await);
                });
                waits.push(receiver);
            }
            for wait in waits {
                assert_eq!(wait.await, Ok(Ok(())));
            }
        });
        assert!(most.load(Ordering::SeqCst) <= NET_REQUESTS_MAX, "{most:?}");
    }

    #[test]
    fn a_panic_stays_with_its_request() {
        assert_eq!(uring::block_on(run(async { panic!("on purpose") })), Err::<(), _>(Broken));
        assert_eq!(uring::block_on(run(async { 7 })), Ok(7));
    }
}
