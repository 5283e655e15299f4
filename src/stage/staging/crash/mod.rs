//! Crashes at every point, on a disk in memory that may lose its power.

mod log;
mod model;
mod staging;

pub(super) use model::{Fault, Model};

/// Let the others go on once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
