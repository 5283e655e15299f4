//! Random reads of 4 KiB from blocks in the disk cache, against the same reads of a plain file on
//! the disk of the cache: fio with O_DIRECT on both, one thread and many.
//!
//! No block is held in the mount's memory. The kernel's page cache, which the plain file does not
//! use, is empty when a cold run begins, and has all blocks in a warm one. Run as root, with the ring switched on, on an idle
//! machine with fio:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench cached
//! ```

#[path = "../common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::null_s3;
use common::systems::{System, format};
use common::table::{is_quick, median, rounds, tell};

const BLOCK_BYTES: usize = 4 << 20;
const THREADS: [usize; 2] = [1, 16];
/// Readings of the whole file until every block is in the cache; it drops some while its disk is busy.
const FILLS_MAX: usize = 20;

/// What a read may take longer than fio's on the disk, and what share of its reads there must be.
const LONGER_MICROS: f64 = 15.0;
const IOPS_SHARE: f64 = 0.7;

/// One run of fio.
struct Run {
    iops: f64,
    /// The median read.
    micros: f64,
}

fn main() {
    let blocks = if is_quick() { 8 } else { 256 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = folder.path().join("plain");
    write(&plain, blocks);
    let (url, cache) = volume(folder.path(), blocks);
    let system = reader(&url, &cache);
    let cached = system.point().join("file");
    for threads in THREADS {
        let (mut disk, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds().min(5) {
            empty_page_cache();
            disk.push(fio(&plain, threads));
            cold.push(fio(&cached, threads));
            fill_page_cache(&cache);
            warm.push(fio(&cached, threads));
        }
        tell_runs(threads, "disk", &disk);
        for (name, own) in [("cold", &cold), ("warm", &warm)] {
            tell_runs(threads, name, own);
            judge(&format!("{threads} threads, {name}"), &disk, own);
        }
    }
}

fn empty_page_cache() {
    fs::write("/proc/sys/vm/drop_caches", "1").expect("root may empty the page cache");
}

fn fill_page_cache(cache: &Path) {
    for block in blocks_below(cache) {
        fs::read(block).expect("a block");
    }
}

/// A volume with `blocks` in one file, all of them in the cache folder; both.
fn volume(folder: &Path, blocks: usize) -> (String, PathBuf) {
    let bucket = format!("http://{}/bench", null_s3::start(Duration::ZERO));
    let url = format!("sqlite3://{}", folder.join("meta.db").display());
    let cache = folder.join("cache");
    let keys = ["--access-key", "AK", "--secret-key", "SK"];
    format(&url, &[&["--storage", "minio", "--bucket", &bucket], &keys[..]].concat());
    write(&reader(&url, &cache).point().join("file"), blocks);
    for _ in 0..FILLS_MAX {
        if read_whole(&url, blocks, &cache) {
            return (url, cache);
        }
    }
    panic!("the cache holds fewer than {blocks} blocks after {FILLS_MAX} readings");
}

/// Read the file once; whether the cache has all of it now.
fn read_whole(url: &str, blocks: usize, cache: &Path) -> bool {
    let system = reader(url, cache);
    let mut file = File::open(system.point().join("file")).expect("the file");
    let mut block = vec![0; BLOCK_BYTES];
    (0..blocks).for_each(|_| file.read_exact(&mut block).expect("read"));
    drop((file, system));
    blocks_below(cache).len() >= blocks
}

fn reader(url: &str, cache: &Path) -> System {
    let cache = cache.display().to_string();
    // A disk that is nearly full will do.
    let room = ["--free-space-ratio", "0.001"];
    let near = ["--transport", "uring", "--memory-cache-size", "0", "--cache-dir", &cache];
    let options = [room.as_slice(), &near].concat();
    System::formatted("cached", url, &options)
}

/// Blocks lie in files of their own, named by their slice and length.
fn blocks_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => blocks_below(&path),
            false => vec![path],
        })
        .filter(|path| path.to_string_lossy().ends_with(&BLOCK_BYTES.to_string()))
        .collect()
}

fn write(path: &Path, blocks: usize) {
    let block: Vec<u8> = (0..BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
    let mut file = File::create(path).expect("a file");
    (0..blocks).for_each(|_| file.write_all(&block).expect("written"));
    file.sync_all().expect("stored");
}

fn fio(path: &Path, threads: usize) -> Run {
    let seconds = if is_quick() { 1 } else { 4 };
    let output = Command::new("fio")
        .args(["--name=cached", "--readonly", "--direct=1", "--rw=randread", "--bs=4k"])
        .args(["--ioengine=psync", "--thread", "--time_based", "--group_reporting"])
        .args(["--output-format=json", &format!("--runtime={seconds}")])
        .arg(format!("--numjobs={threads}"))
        .arg(format!("--filename={}", path.display()))
        .output()
        .expect("fio is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("fio's JSON");
    let read = &told["jobs"][0]["read"];
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let nanos = number(&read["clat_ns"]["percentile"]["50.000000"]);
    Run { iops: number(&read["iops"]), micros: nanos / 1e3 }
}

fn tell_runs(threads: usize, name: &str, runs: &[Run]) {
    let iops = median(runs.iter().map(|run| run.iops).collect());
    let micros = median(runs.iter().map(|run| run.micros).collect());
    println!("{threads:3} threads, {name:6}{iops:10.0} reads a second, median {micros:8.1} µs");
}

/// Ratios and differences are of runs side by side.
fn judge(what: &str, disk: &[Run], own: &[Run]) {
    if is_quick() {
        return;
    }
    let pairs = || own.iter().zip(disk);
    let longer = median(pairs().map(|(own, disk)| own.micros - disk.micros).collect());
    let share = median(pairs().map(|(own, disk)| own.iops / disk.iops).collect());
    let told = format!("{longer:+.1} µs of at most +{LONGER_MICROS}");
    tell(what, &told, longer <= LONGER_MICROS);
    let told = format!("{share:.2}x of at least {IOPS_SHARE}x");
    tell(what, &told, share >= IOPS_SHARE);
}
