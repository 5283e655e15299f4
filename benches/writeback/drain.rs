//! Many middling files: how fast they are acknowledged, beside the disk of the cache, and how soon all are
//! in the store, beside parallel puts of the same blocks by the same HTTP client.

use std::path::Path;
use std::time::{Duration, Instant};

use jfs_uring::object::{Address, Flavour, Keys, S3Store, Store};
use jfs_uring::pages::Page;
use jfs_uring::stdx::Permits;
use jfs_uring::uring;

use super::common::table::{is_quick, median, rounds, tell};
use super::rig::{MIB, Place, bucket, disk_rate, flush, write_file};

const MB: usize = 1_000_000;
const BLOCK_BYTES: usize = 4 * MIB;
/// Puts at a time, as many as the mount makes without `--max-uploads`.
const PUTS: usize = 20;
const DISK_SHARE: f64 = 0.8;
const DRAIN_TIMES: f64 = 1.2;

pub fn run() {
    for (files, file_bytes) in [(200, MB), (40, 25 * MB)] {
        let files = if is_quick() { 4 } else { files };
        let what = format!("{files} x {} MB", file_bytes / MB);
        let (mut disk, mut kept, mut puts, mut drained) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds().min(5) {
            let place = Place::new("drain");
            let mebibytes = (files * file_bytes / MIB).max(1);
            disk.push(disk_rate(place.folder(), mebibytes));
            puts.push(put_all(files, file_bytes).as_secs_f64());
            let system = place.mount(&["--writeback"]);
            let began = Instant::now();
            write_all(&system.point(), files, file_bytes);
            kept.push(mebibytes as f64 / began.elapsed().as_secs_f64());
            flush(&system.point(), "uploaded");
            drained.push(began.elapsed().as_secs_f64());
        }
        println!("{what}: median");
        println!("{:24}{:10.0} MiB/s", "fio, O_DIRECT", median(disk.clone()));
        println!("{:24}{:10.0} MiB/s", "acknowledged", median(kept.clone()));
        println!("{:24}{:10.2} s", "parallel puts", median(puts.clone()));
        println!("{:24}{:10.2} s", "drained", median(drained.clone()));
        if !is_quick() {
            let ratio = |own: &[f64], other: &[f64]| {
                median(own.iter().zip(other).map(|(own, other)| own / other).collect())
            };
            let (share, times) = (ratio(&kept, &disk), ratio(&drained, &puts));
            let told = format!("{share:.2}x of fio, at least {DISK_SHARE}x");
            tell("acknowledged", &told, share >= DISK_SHARE);
            let told = format!("{times:.2}x of parallel puts, at most {DRAIN_TIMES}x");
            tell("drained", &told, times <= DRAIN_TIMES);
        }
    }
}

fn write_all(folder: &Path, files: usize, file_bytes: usize) {
    (0..files).for_each(|file| write_file(&folder.join(file.to_string()), file_bytes));
}

/// The same blocks without a file system.
fn put_all(files: usize, file_bytes: usize) -> Duration {
    let address = Address::parse(Flavour::Minio, bucket(), &|_| None).expect("an address");
    let keys = Keys { access: "AK".into(), secret: "SK".into(), session_token: String::new() };
    let client = S3Store::new(Flavour::Minio, address, keys, String::new());
    let block = Page::from_vec(vec![7; BLOCK_BYTES]);
    let began = Instant::now();
    uring::block_on(async {
        let permits = Permits::new(PUTS);
        for file in 0..files {
            for at in (0..file_bytes).step_by(BLOCK_BYTES) {
                let len = BLOCK_BYTES.min(file_bytes - at);
                let (permit, client) = (permits.take().await, client.clone());
                let body = vec![block.piece(0, len)];
                uring::spawn(async move {
                    let name = format!("bench/chunks/0/0/{file}_{at}_{len}");
                    client.put(name, body).await.expect("taken");
                    drop(permit);
                });
            }
        }
        // Who has all permits knows that no put is in work.
        let mut all = Vec::with_capacity(PUTS);
        for _ in 0..PUTS {
            all.push(permits.take().await);
        }
    });
    began.elapsed()
}
