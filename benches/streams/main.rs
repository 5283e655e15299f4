//! One reader and one writer of a large file whose blocks are in S3, against the same HTTP client
//! without a file system: one request at a time, and many.
//!
//! The server does nothing (`common/null_s3.rs`), and its first byte takes 10 ms. Caches are cold.
//! Run as root, with the ring switched on, on an idle machine:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench streams
//! ```

#[path = "../common/mod.rs"]
mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::null_s3;
use common::systems::{System, format};
use common::table::{is_quick, median, rounds, tell};
use jfs_uring::object::{Address, Flavour, Keys, S3Store, Store};
use jfs_uring::pages::{self, Page};
use jfs_uring::uring;

const FIRST_BYTE: Duration = Duration::from_millis(10);
const BLOCK_BYTES: usize = 4 << 20;
const MIB: usize = 1 << 20;
/// Requests at a time that are compared with.
const MANY: usize = 16;

/// What one reader reaches of one request at a time, and of many.
const READ_TIMES: f64 = 5.0;
const READ_SHARE: f64 = 0.8;
const WRITE_SHARE: f64 = 0.8;

fn main() {
    let blocks = if is_quick() { 8 } else { 512 };
    let bucket = format!("http://{}/bench", null_s3::start(FIRST_BYTE));
    let mut found: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds().min(5) {
        let client = client(&bucket);
        let (write, read) = product(&bucket, blocks);
        let values = [
            get_all(&client, blocks.min(64), 1),
            get_all(&client, blocks, MANY),
            read,
            put_all(&client, blocks, MANY),
            write,
        ];
        found.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
    }
    let [one, many, read, puts, write] = found;
    println!("MiB/s of {} MiB: median", blocks * BLOCK_BYTES / MIB);
    for (name, row) in [
        ("gets, 1 at a time", &one),
        ("gets, 16 at a time", &many),
        ("one reader", &read),
        ("puts, 16 at a time", &puts),
        ("one writer", &write),
    ] {
        println!("{name:24}{:10.0}", median(row.clone()));
    }
    if !is_quick() {
        judge("one reader", &read, ("one get at a time", &one), READ_TIMES);
        judge("one reader", &read, ("16 gets at a time", &many), READ_SHARE);
        judge("one writer", &write, ("16 puts at a time", &puts), WRITE_SHARE);
    }
}

/// Ratios are of rounds side by side.
fn judge(what: &str, own: &[f64], (name, other): (&str, &[f64]), least: f64) {
    let ratio = median(own.iter().zip(other).map(|(own, other)| own / other).collect());
    tell(what, &format!("{ratio:.2}x of {name}, at least {least:.2}x"), ratio >= least);
}

fn client(bucket: &str) -> S3Store {
    let address = Address::parse(Flavour::Minio, bucket, &|_| None).expect("an address");
    let keys = Keys { access: "AK".into(), secret: "SK".into(), session_token: String::new() };
    S3Store::new(Flavour::Minio, address, keys, String::new())
}

fn name(block: usize) -> String {
    format!("bench/chunks/0/0/{block}_0_{BLOCK_BYTES}")
}

/// MiB/s of gets of whole blocks, so many at a time.
fn get_all(client: &S3Store, blocks: usize, at_a_time: usize) -> f64 {
    let client = client.clone();
    rate(blocks, at_a_time, move |block| {
        let client = client.clone();
        async move {
            let got = client.get(name(block), 0, pages::buffer(BLOCK_BYTES)).await;
            let (bytes, count) = got.expect("zeros");
            assert_eq!(count, BLOCK_BYTES);
            pages::give_back(bytes);
        }
    })
}

/// MiB/s of puts of whole blocks, so many at a time.
fn put_all(client: &S3Store, blocks: usize, at_a_time: usize) -> f64 {
    let (client, page) = (client.clone(), Page::from_vec(vec![7; MIB]));
    rate(blocks, at_a_time, move |block| {
        let (client, body) = (client.clone(), vec![page.clone(); BLOCK_BYTES / MIB]);
        async move { client.put(name(block), body).await.expect("taken") }
    })
}

fn rate<F>(blocks: usize, at_a_time: usize, request: impl Fn(usize) -> F + 'static) -> f64
where
    F: Future<Output = ()> + 'static,
{
    let (next, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let request = Rc::new(request);
    let began = Instant::now();
    uring::block_on(async {
        for _ in 0..at_a_time {
            let (next, done) = (Rc::clone(&next), Rc::clone(&done));
            let request = Rc::clone(&request);
            uring::spawn(async move {
                while next.get() < blocks {
                    let block = next.replace(next.get() + 1);
                    request(block).await;
                    done.set(done.get() + 1);
                }
            });
        }
        while done.get() < blocks {
            uring::sleep(Duration::from_millis(1)).await;
        }
    });
    (blocks * BLOCK_BYTES / MIB) as f64 / began.elapsed().as_secs_f64()
}

/// MiB/s of a file written through a mount, with fsync, and read through another.
fn product(bucket: &str, blocks: usize) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite3://{}", folder.path().join("meta.db").display());
    let keys = ["--access-key", "AK", "--secret-key", "SK"];
    format(&url, &[&["--storage", "minio", "--bucket", bucket], &keys[..]].concat());
    let options = ["--transport", "uring", "--cache-dir", "memory"];
    let mib = blocks * BLOCK_BYTES / MIB;
    let written = {
        let system = System::formatted("writer", &url, &options);
        write(&system.point().join("file"), mib)
    };
    let system = System::formatted("reader", &url, &options);
    (written, read(&system.point().join("file"), mib))
}

fn write(path: &Path, mib: usize) -> f64 {
    let piece = vec![7; MIB];
    let began = Instant::now();
    let mut file = File::create(path).expect("a file");
    (0..mib).for_each(|_| file.write_all(&piece).expect("written"));
    file.sync_all().expect("stored");
    mib as f64 / began.elapsed().as_secs_f64()
}

fn read(path: &Path, mib: usize) -> f64 {
    let mut piece = vec![0; MIB];
    let began = Instant::now();
    let mut file = File::open(path).expect("a file");
    (0..mib).for_each(|_| file.read_exact(&mut piece).expect("read"));
    mib as f64 / began.elapsed().as_secs_f64()
}
