//! What the transport alone costs: the same empty file system on our two transports and on the
//! `fuse3` crate. `cargo bench --bench transport` as root.

#[path = "../common/mod.rs"]
mod common;

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

fn main() {
    caller::call_if_asked();
    let cores = jfs_uring::core::possible_cpus();
    let systems =
        [System::empty("io_uring", true, cores), System::empty("/dev/fuse", false, cores)];
    let found = measure(&systems, CASES, size(4000, 48));
    print(&systems, CASES, &found);
    judge("stat", &found, 0, 0, &Bar::Micros(10.0));
    judge("create + close", &found, 1, 0, &Bar::Micros(45.0));
}
