//! `jfs-uring`: a client for JuiceFS volumes over FUSE on io_uring.
//!
//! Folders are floors; imports point down (`tests/tidy.rs` holds the table):
//! `cli daemon` > `core` > `fuse` > `vfs` > `data` > `stage check` > `object meta` > `net` > `uring`
//! > `pages stdx types limits errno metrics config`.

pub mod check;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod data;
pub mod errno;
pub mod fuse;
pub mod limits;
pub mod meta;
pub mod metrics;
pub mod net;
pub mod object;
pub mod pages;
pub mod stage;
pub mod stdx;
pub mod types;
pub mod uring;
pub mod vfs;
