//! A volume from its address to its mount, and the end of a mount.
//!
//! `volume` opens what a META-URL names (`engine`, `store`), `format` makes it. `mount` tells the
//! story of a mount: `point` looks at the folder, `process` goes to the background, `serve` runs
//! the cores over what `staging` keeps on this machine, `jobs` does a client's duties. `umount` ends it, and
//! counts `leftovers`. `doctor` looks whether one would work, `fsck` whether a volume is whole; through
//! `control` a mount is asked: `info` what a node is made of, `levels` how far data has come. `dump` writes
//! metadata down. Does not read arguments (`cli`).

mod control;
mod doctor;
mod dump;
mod engine;
mod failure;
mod format;
mod fsck;
mod info;
mod jobs;
mod leftovers;
mod levels;
mod mount;
mod point;
mod process;
mod scrape;
mod serve;
mod shown;
mod staging;
mod store;
mod umount;
mod volume;

pub use doctor::{Finding, Health, examine};
pub use engine::Engines;
pub use failure::Failure;
pub use format::{FormatPlan, check_storage, format};
pub use fsck::{CheckPlan, Checked, Fate, fsck};
pub use info::{InfoPlan, info_from_mount, info_from_volume, inode};
pub use jobs::{BackupPlan, Duties};
pub use leftovers::Leftovers;
pub use levels::{FlushPlan, Flushed, flush, retry, state_of};
pub use mount::{MountPlan, WantedTransport, check_point, mount};
pub use process::{EndSignals, Forked, Readiness, give_back_large_memory, to_background};
pub use serve::{CachePlan, ServePlan};
pub use staging::{STAGE_WRITES, StagingPlan};
pub use store::{OwnStore, StorePolicy, Stores};
pub use umount::umount;
pub use volume::{Statistic, Volume};
