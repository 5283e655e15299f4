//! What a transport hands requests to, and the guard that keeps a panic inside its request.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::meta::Local;
use crate::vfs::op::{Reply, Request};

/// Answers requests on one core. The future is polled once where the request arrives: what needs
/// no wait is answered there and then.
pub trait Handler {
    /// Answer one request. The future owns the request; its payload must be dropped before or
    /// with the future, for the transport reuses that memory.
    fn handle(&self, request: Request) -> Local<'static, Reply>;

    /// The caller of request `unique` got a signal; the request is still to be answered, and may
    /// be already. Default: waits run to their end.
    fn interrupt(&self, _unique: u64) {}

    /// The kernel has let go of the mount: finish what must not be lost. All cores keep running
    /// until every one of them is through here.
    fn drain(&self) -> Local<'static, ()> {
        Box::pin(async {})
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Requests that panicked since the start of the process; each was answered EIO.
pub fn panic_count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The handler's answer, or EIO if it panics.
pub async fn guarded(handler: &dyn Handler, request: Request) -> Reply {
    let started = catch_unwind(AssertUnwindSafe(|| handler.handle(request)));
    let Ok(mut future) = started else { return panicked() };
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(reply)) => Poll::Ready(Some(reply)),
            Err(_) => Poll::Ready(None),
        });
    let reply = polled.await;
    // What the future still owns may panic as it goes, too.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
    match (reply, dropped) {
        (Some(reply), Ok(())) => reply,
        _ => panicked(),
    }
}

fn panicked() -> Reply {
    PANICS.fetch_add(1, Ordering::Relaxed);
    Reply::Error(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;
    use crate::vfs::op::{Caller, Op};

    struct Panics;

    impl Handler for Panics {
        fn handle(&self, request: Request) -> Local<'static, Reply> {
            assert!(request.unique != 1, "on purpose, at once");
            Box::pin(async move {
                assert!(request.unique != 2, "on purpose, later");
                Reply::Ok
            })
        }
    }

    #[test]
    fn a_panic_stays_inside_its_request() {
        let ask = |unique| {
            let caller = Caller { uid: 0, gid: 0, pid: 0 };
            block_on(guarded(&Panics, Request { unique, caller, op: Op::Destroy }))
        };
        let before = panic_count();
        assert!(matches!(ask(1), Reply::Error(libc::EIO)));
        assert!(matches!(ask(2), Reply::Error(libc::EIO)));
        assert!(matches!(ask(3), Reply::Ok));
        assert_eq!(panic_count() - before, 2);
    }
}
