//! The ring of a core: reactor, operations, executor. Knows the kernel, not FUSE.
//!
//! A thread gets its ring when it first runs a future (`block_on`). Everything here stays on that
//! thread; only wakers travel. `file` and `net` move buffers in and hand them back with the result.

pub mod command;
mod exec;
pub mod file;
pub mod net;
mod ops;
mod reactor;
mod ring;
mod timer;

pub use ops::{poll_readable, poll_readable_alone};
pub use reactor::{block_on, expect_within, probe, spawn};
pub use timer::{Elapsed, sleep, timeout};

#[cfg(test)]
mod tests;
