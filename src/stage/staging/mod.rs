//! Blocks kept on this machine until the object store has them.
//!
//! Owns that what was kept is found again after a crash, how far onto the disk it has come, and the
//! order of uploads. Does not own the uploads (`data` does), what a slice is, nor who waits.
//!
//! `area` is the front, with `keep`, `durable`, `uploads` and `close` for what it does; all of them share
//! `held`. Small blocks are in the `log`, large ones in `files`; `folder` is a cache folder with both.
//! `index` knows what is kept, `queue` whose turn it is, `recover` finds what is there at the start.

mod area;
mod aside;
mod block;
mod close;
mod config;
#[cfg(test)]
mod crash;
mod durable;
mod files;
mod folder;
mod footer;
mod held;
mod index;
mod keep;
mod level;
mod lock;
mod log;
mod medium;
mod queue;
mod rate;
mod recover;
mod status;
mod sync;
mod uploads;

#[cfg(test)]
mod tests;

pub use area::Staging;
pub use block::{NewBlock, NotKept, Removed, StagingError, Upload};
pub use config::{StagingConfig, UploadHours};
pub use level::Standing;
pub use status::{FailedUpload, StagingCounts, StagingStatus};
