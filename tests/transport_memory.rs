//! What the transports keep in memory once many large requests were in the works. Needs root and
//! the ring; a process of its own, for it is measured.

#![allow(clippy::unwrap_used)] // a test as a whole

#[path = "../benches/common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use common::systems::System;
use jfs_uring::core::possible_cpus;

/// Writers at a time, and what each writes; the empty file system is slow at writes to byte 77.
const WRITERS: usize = 120;
const WRITE_BYTES: usize = 1020 << 10;
const SLOW_AT: u64 = 77;
/// MiB that idle payloads may keep (32, or 2 a core), with room for what else a process needs. All
/// that is touched is 64 a core.
fn kept_mib_max() -> usize {
    (2 * possible_cpus()).max(32) + 10
}

fn resident_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

fn write_at_once(folder: &Path, content: &[u8]) {
    thread::scope(|scope| {
        for number in 0..WRITERS {
            scope.spawn(move || {
                let mut options = fs::File::options();
                options.write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT);
                let file = options.open(folder.join(format!("file-{number}"))).unwrap();
                file.write_all_at(content, SLOW_AT).unwrap();
            });
        }
    });
}

#[test]
fn payloads_give_their_memory_back() {
    let content = vec![7; WRITE_BYTES];
    for over_uring in [true, false] {
        let system = System::empty("empty", over_uring, possible_cpus());
        write_at_once(&system.point(), &content[..4096]);
        let before = resident_mib();
        (0..4).for_each(|_| write_at_once(&system.point(), &content));
        let grown = resident_mib().saturating_sub(before);
        assert!(grown <= kept_mib_max(), "over io_uring {over_uring}: {grown} MiB are kept");
    }
}
