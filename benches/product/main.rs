//! What the floors above the transport cost: the whole product, metadata and objects in memory,
//! against the empty file system on the same transport.
//!
//! Measures calls of one caller pinned to the first CPU, on the ring and on /dev/fuse.
//! Run as root, with the ring switched on:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench product
//! ```
//!
//! All CPUs must be idle, and the disk of the temporary folder, where the product caches blocks.

#[path = "../common/mod.rs"]
mod common;

use common::caller;
use common::systems::System;
use common::table::{Bar, judge, measure, print, size};

/// Each with what it may take of the empty file system's time.
const CASES: &[(&str, f64)] = &[
    ("stat", 1.15),
    ("4 KiB read", 1.3),
    ("create + 1 KiB + close", 1.5),
    ("unlink", 1.5),
    ("ls -l per entry", 1.5),
    // At least 0.75 of the throughput.
    ("1 MiB write", 1.0 / 0.75),
    ("1 MiB read", 1.0 / 0.75),
];

fn main() {
    caller::call_if_asked();
    let cores = jfs_uring::core::possible_cpus();
    for over_uring in [true, false] {
        let transport = if over_uring { "uring" } else { "dev" };
        println!("transport {transport}, cores: {cores}, kernel caches of 60 s on both sides");
        let options =
            ["--transport", transport, "--cache-dir", "memory", "--memory-cache-size", "1G"];
        let systems = [
            System::empty("empty", over_uring, cores),
            System::product("product", "memory://bench", &options),
        ];
        let cases: Vec<_> = CASES.iter().map(|(case, _)| *case).collect();
        let found = measure(&systems, &cases, size(3000, 48));
        print(&systems, &cases, &found);
        for (at, (case, most)) in CASES.iter().enumerate() {
            judge(case, &found, at, 1, &Bar::Times(*most, 0));
        }
    }
}
