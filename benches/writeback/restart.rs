//! The next mount of a folder in which very many blocks wait: when it serves, and what it needs in memory
//! for each. The blocks are files as the official client leaves them, and hold nothing.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::common::table::{is_quick, tell};
use super::rig::{Place, command};

/// 200,000 of these are 50 GiB.
const BLOCK_BYTES: u64 = 256 << 10;
const HELD: [&str; 3] = ["--writeback", "--upload-delay", "100h"];
const SERVING_MOST: Duration = Duration::from_secs(2);
const RSS_BYTES_MOST: f64 = 64.0;
/// By then all blocks are found.
const FOUND_MOST: Duration = Duration::from_secs(120);

pub fn run() {
    let blocks: u64 = if is_quick() { 1000 } else { 200_000 };
    let place = Place::new("restart");
    let empty = {
        let system = place.mount(&HELD);
        rss_bytes(&system.point())
    };
    leave(&place.cache(), blocks);
    let began = Instant::now();
    let system = place.mount(&HELD);
    fs::read_dir(system.point()).expect("the root").for_each(drop);
    let serving = began.elapsed();
    while blocks_left(&system.point()) < blocks {
        assert!(began.elapsed() < FOUND_MOST, "not all blocks are found");
        thread::sleep(Duration::from_millis(100));
    }
    let found = began.elapsed();
    let each = (rss_bytes(&system.point()) - empty) / blocks as f64;
    println!(
        "{blocks} blocks wait: serving after {serving:.2?}, all found after {found:.2?}, {each:.0} B of memory each"
    );
    if !is_quick() {
        let told = format!("{serving:.2?} of at most {SERVING_MOST:?}");
        tell("serving", &told, serving < SERVING_MOST);
        let told = format!("{each:.0} B of at most {RSS_BYTES_MOST} B a block");
        tell("memory", &told, each <= RSS_BYTES_MOST);
    }
}

/// Blocks in the folder of the only volume there, sparse.
fn leave(cache: &Path, blocks: u64) {
    let volume =
        fs::read_dir(cache).expect("the cache").map(|entry| entry.expect("an entry").path());
    let volume = volume.filter(|path| path.is_dir()).last().expect("the folder of the volume");
    for id in 1_000_000..1_000_000 + blocks {
        let folder = volume.join(format!("rawstaging/chunks/{}/{}", id / 1_000_000, id / 1000));
        if id % 1000 == 0 {
            fs::create_dir_all(&folder).expect("a folder");
        }
        let file = File::create(folder.join(format!("{id}_0_{BLOCK_BYTES}"))).expect("a block");
        file.set_len(BLOCK_BYTES).expect("a length");
    }
}

fn blocks_left(point: &Path) -> u64 {
    let output = command(&["status", "--json", &point.display().to_string()]);
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    state["blocks_left"].as_u64().expect("a count")
}

/// What the process that serves a mount has in memory.
fn rss_bytes(point: &Path) -> f64 {
    let point = point.display().to_string();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    for process in processes {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        if words.any(|word| word == b"mount") && words.any(|word| word == point.as_bytes()) {
            let status = fs::read_to_string(process.path().join("status")).expect("its numbers");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|text| text.trim().strip_suffix(" kB")).expect("kB");
            return kib.parse::<f64>().expect("a number") * 1024.0;
        }
    }
    panic!("nobody serves {point}");
}
