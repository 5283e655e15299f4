//! What the transport alone costs: the same empty file system on our two transports and on the
//! `fuse3` crate, the yardstick.
//!
//! Measures calls of one caller pinned to the first CPU; the bars are those of the ring.
//! Run as root, with fusermount3 (package fuse3) and the ring switched on:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench transport
//! ```
//!
//! All CPUs must be idle: the bench takes turns of its systems, so that a disturbance falls on
//! all, but the bars in microseconds are those of a machine without other work.

#[path = "../common/mod.rs"]
mod common;
mod fuse3_fs;

use common::caller;
use common::systems::System;
use common::table::{Bar, judge, measure, print, size};

const CASES: &[&str] = &[
    "stat",
    "create + close",
    "create + 1 KiB + close",
    "unlink",
    "4 KiB read",
    "1 MiB write",
    "1 MiB read",
];

/// Cases with bars, and the system to compare with.
const STAT: usize = 0;
const CREATE: usize = 1;
const FUSE3: usize = 2;

fn main() {
    caller::call_if_asked();
    let cores = jfs_uring::core::possible_cpus();
    let systems = [
        System::empty("io_uring", true, cores),
        System::empty("/dev/fuse", false, cores),
        System::other("fuse3", fuse3_fs::serve),
    ];
    let found = measure(&systems, CASES, size(4000, 48));
    print(&systems, CASES, &found);
    for (at, micros, times) in [(STAT, 10.0, 0.3), (CREATE, 45.0, 0.75)] {
        judge(CASES[at], &found, at, 0, &Bar::Micros(micros));
        judge(CASES[at], &found, at, 0, &Bar::Times(times, FUSE3));
    }
}
