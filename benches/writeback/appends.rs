//! Appends with fsync each, by one writer and by many at once, beside one writer on ext4.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::common::table::{is_quick, median, rounds, tell};
use super::rig::Place;

const APPEND_BYTES: usize = 200;
const WRITERS: usize = 16;
const MOST: f64 = 1.3;
const LEAST: f64 = 4.0;

pub fn run() {
    let appends = if is_quick() { 50 } else { 5000 };
    let place = Place::new("appends");
    let system = place.mount(&["--writeback"]);
    let (point, plain) = (system.point(), place.folder().to_owned());
    let (mut disk, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds().min(5) {
        disk.push(rate(&plain, round, 1, appends));
        one.push(rate(&point, round, 1, appends));
        many.push(rate(&point, round, WRITERS, appends));
    }
    println!("appends of {APPEND_BYTES} B with fsync, a second: median");
    for (name, row) in [("ext4, 1 writer", &disk), ("1 writer", &one), ("16 writers", &many)] {
        println!("{name:24}{:10.0}", median(row.clone()));
    }
    if !is_quick() {
        let pairs = |own: &[f64]| -> f64 {
            median(own.iter().zip(&disk).map(|(own, disk)| own / disk).collect())
        };
        let (times, share) = (1.0 / pairs(&one), pairs(&many));
        tell("1 writer", &format!("{times:.2}x ext4's time, at most {MOST}x"), times <= MOST);
        tell("16 writers", &format!("{share:.2}x ext4's rate, at least {LEAST}x"), share >= LEAST);
    }
}

/// Appends a second of all writers together, each to a file of its own.
fn rate(folder: &Path, round: usize, writers: usize, appends: usize) -> f64 {
    let each = appends / writers;
    let began = Instant::now();
    thread::scope(|scope| {
        for writer in 0..writers {
            let path = folder.join(format!("appended-{round}-{writers}-{writer}"));
            scope.spawn(move || {
                let mut options = OpenOptions::new();
                let mut file =
                    options.append(true).create_new(true).mode(0o644).open(path).expect("a file");
                for _ in 0..each {
                    file.write_all(&[7; APPEND_BYTES]).expect("written");
                    file.sync_all().expect("synced");
                }
            });
        }
    });
    (each * writers) as f64 / began.elapsed().as_secs_f64()
}
