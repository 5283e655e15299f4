//! The first read of a file that only this machine has, beside the read of the same bytes when they are
//! cache. Neither asks the store.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use super::common::table::{is_quick, median, rounds, tell};
use super::rig::{MIB, Place, empty_page_cache, flush, write_file};

const SHARE: f64 = 0.8;

pub fn run() {
    let mebibytes = if is_quick() { 16 } else { 1024 };
    let (mut staged, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..rounds().min(5) {
        let place = Place::new("staged");
        let options = ["--writeback", "--upload-delay", "1h", "--memory-cache-size", "0"];
        let written = place.mount(&options);
        write_file(&written.point().join("file"), mebibytes * MIB);
        drop(written);
        let system = place.mount(&options);
        staged.push(rate(&system.point(), mebibytes));
        flush(&system.point(), "uploaded");
        drop(system);
        let system = place.mount(&options);
        cached.push(rate(&system.point(), mebibytes));
    }
    println!("MiB/s of {mebibytes} MiB read: median");
    for (name, row) in [("staged", &staged), ("from the disk cache", &cached)] {
        println!("{name:24}{:10.0}", median(row.clone()));
    }
    if !is_quick() {
        let share = median(staged.iter().zip(&cached).map(|(own, other)| own / other).collect());
        let told = format!("{share:.2}x of the disk cache, at least {SHARE}x");
        tell("staged", &told, share >= SHARE);
    }
}

/// MiB/s of one cold reading.
fn rate(point: &Path, mebibytes: usize) -> f64 {
    empty_page_cache();
    let before = gets(point);
    let mut piece = vec![0; MIB];
    let began = Instant::now();
    let mut file = File::open(point.join("file")).expect("the file");
    for _ in 0..mebibytes {
        file.read_exact(&mut piece).expect("read");
        assert!(piece[0] == 7 && piece[MIB - 1] == 7, "it reads as it was written");
    }
    let rate = mebibytes as f64 / began.elapsed().as_secs_f64();
    assert_eq!(gets(point), before, "the store was asked");
    rate
}

/// Gets of the store so far, as the mount tells.
fn gets(point: &Path) -> f64 {
    let stats = fs::read_to_string(point.join(".stats")).expect("numbers");
    let of_gets = |line: &&str| line.contains("object_request_durations") && line.contains("GET");
    let counts = stats.lines().filter(of_gets).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<f64>().expect("a number")).sum()
}
