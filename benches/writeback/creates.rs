//! Small files, kept on the disk of the cache, beside the empty file system.

use jfs_uring::core;

use super::common::systems::System;
use super::common::table::{Bar, judge, measure, print, size};

const CASES: [&str; 1] = ["create + 1 KiB + close"];
const FILES: usize = 10_000;
const MOST: f64 = 1.6;

pub fn run() {
    let systems = [
        System::empty("empty", true, core::possible_cpus()),
        System::product("write-back", "memory://bench", &["--transport", "uring", "--writeback"]),
    ];
    let found = measure(&systems, &CASES, size(FILES, 0));
    print(&systems, &CASES, &found);
    judge(CASES[0], &found, 0, 1, &Bar::Times(MOST, 0));
}
