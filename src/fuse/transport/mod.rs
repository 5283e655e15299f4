//! The two ways requests come from the kernel and replies go back.
//!
//! `over_uring`: queue entries on the core's ring, answered in place. `dev_fuse`: reads and writes
//! of the device. Both decode, hand over to a `Handler`, and encode; neither knows what an
//! operation means.

pub mod dev_fuse;
mod device;
mod loan;
pub mod over_uring;
mod warmth;

pub use device::clone_device;
