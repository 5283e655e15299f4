//! One large file written to the disk of the cache, beside fio on that disk; and how near its upload comes
//! to the limit that the mount was given.

use std::time::Instant;

use super::common::table::{is_quick, median, rounds, tell};
use super::rig::{MIB, Place, disk_rate, flush, write_file};

/// Of the uploads, Mbit/s; and in MiB/s.
const LIMIT_MBPS: f64 = 1000.0;
const LIMIT_MIB: f64 = LIMIT_MBPS * 1e6 / 8.0 / MIB as f64;
const DISK_SHARE: f64 = 0.8;
const LIMIT_SHARE: f64 = 0.9;

pub fn run() {
    let mebibytes = if is_quick() { 16 } else { 2048 };
    let (mut disk, mut written, mut drained) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds().min(3) {
        let place = Place::new("stream");
        disk.push(disk_rate(place.folder(), mebibytes));
        let system = place.mount(&["--writeback", "--upload-limit", &LIMIT_MBPS.to_string()]);
        let began = Instant::now();
        write_file(&system.point().join("file"), mebibytes * MIB);
        written.push(mebibytes as f64 / began.elapsed().as_secs_f64());
        flush(&system.point(), "uploaded");
        drained.push(mebibytes as f64 / began.elapsed().as_secs_f64());
    }
    println!("MiB/s of {mebibytes} MiB: median");
    let rows = [("fio, O_DIRECT", &disk), ("one writer", &written), ("until drained", &drained)];
    for (name, row) in rows {
        println!("{name:24}{:10.0}", median(row.clone()));
    }
    if !is_quick() {
        let share = median(written.iter().zip(&disk).map(|(own, disk)| own / disk).collect());
        let told = format!("{share:.2}x of fio, at least {DISK_SHARE}x");
        tell("one writer", &told, share >= DISK_SHARE);
        let share = median(drained) / LIMIT_MIB;
        let told = format!("{share:.2}x of --upload-limit, at least {LIMIT_SHARE}x");
        tell("until drained", &told, share >= LIMIT_SHARE);
    }
}
