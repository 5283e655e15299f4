//! What a new small file costs when everybody must see it before the call returns: "create +
//! 1 KiB + close" on SQLite and Redis, against the empty file system.
//!
//! One caller, pinned to the first CPU. SQLite is a file in the temporary folder, Redis a real
//! server on loopback TCP and the same server half a millisecond away in each direction. Objects
//! are files in the temporary folder. Nothing is deleted before the end: a file system that has
//! just lost many files may make slow ones for a while.
//!
//! A Redis has its bar at the empty file system's time and three PINGs over the same path, measured
//! here too: an absent name looked up, a file created, its content published.
//!
//! Run as root, with redis-server in the path and the ring switched on:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench sync_create
//! ```
//!
//! All CPUs and the disk of the temporary folder must be idle.

#[path = "../common/mod.rs"]
mod common;
mod distance;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use common::caller::{self, Size, call};
use common::systems::System;
use common::table::{is_quick, median, rounds, shown, size, tell};
use server::Redis;

const ONE_WAY: Duration = Duration::from_micros(500);
const CREATE: &str = "create + 1 KiB + close";
/// Files per round, and files and PINGs per round where each takes milliseconds.
const FILES: usize = 3000;
const FAR_FILES: usize = 500;

/// What may be taken of the time compared with, and PINGs in that time.
const SQLITE_MOST: f64 = 8.0;
const REDIS_MOST: f64 = 1.3;
const PINGS: f64 = 3.0;

/// What is called in each round, one after another.
struct Row {
    name: &'static str,
    place: PathBuf,
    case: &'static str,
    size: Size,
}

/// Rows by number.
const EMPTY: usize = 0;
const SQLITE: usize = 1;
const NEAR: usize = 2;
const FAR: usize = 3;
const NEAR_PING: usize = 4;
const FAR_PING: usize = 5;

fn main() {
    caller::call_if_asked();
    let redis = Redis::start();
    let far = distance::away(redis.address, ONE_WAY);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = format!("sqlite3://{}", folder.path().join("meta.db").display());
    let systems = [
        System::empty("empty", true, jfs_uring::core::possible_cpus()),
        product("SQLite", &sqlite),
        product("Redis, near", &format!("redis://{}/0", redis.address)),
        product("Redis, far", &format!("redis://{far}/1")),
    ];
    let mut rows: Vec<_> = systems
        .iter()
        .map(|system| Row {
            name: system.name,
            place: system.point(),
            case: CREATE,
            size: size(FILES, 0),
        })
        .collect();
    rows[FAR].size = size(FAR_FILES, 0);
    for (name, address, count) in
        [("PING, near", redis.address, FILES), ("PING, far", far, FAR_FILES)]
    {
        let place = address.to_string().into();
        rows.push(Row { name, place, case: "ping", size: size(count, 0) });
    }
    let found = measure(&rows);
    println!("{CREATE} in sync mode, µs: median (least)");
    for (row, values) in rows.iter().zip(&found) {
        println!("{:24}{}", row.name, shown(values));
    }
    if !is_quick() {
        judge(&rows, &found, SQLITE, None, SQLITE_MOST);
        judge(&rows, &found, NEAR, Some(NEAR_PING), REDIS_MOST);
        judge(&rows, &found, FAR, Some(FAR_PING), REDIS_MOST);
    }
}

fn product(name: &'static str, url: &str) -> System {
    System::product(name, url, &["--transport", "uring", "--cache-dir", "memory"])
}

/// What each row took in each round, µs: `[row][round]`. The first round warms up.
fn measure(rows: &[Row]) -> Vec<Vec<f64>> {
    let mut found = vec![Vec::new(); rows.len()];
    for number in 0..=rounds() {
        for (row, values) in rows.iter().zip(&mut found) {
            let value = call(&row.place, row.case, row.size);
            if number > 0 {
                values.push(value);
            }
        }
    }
    found
}

/// Say whether a row reaches its bar: `most` times the empty file system and the PINGs that go with
/// it. Ratios are of rounds side by side.
fn judge(rows: &[Row], found: &[Vec<f64>], judged: usize, ping: Option<usize>, most: f64) {
    let compared: Vec<_> = (0..found[EMPTY].len())
        .map(|round| found[EMPTY][round] + ping.map_or(0.0, |ping| PINGS * found[ping][round]))
        .collect();
    let ratio =
        median(found[judged].iter().zip(&compared).map(|(own, other)| own / other).collect());
    let of = |row: usize| median(found[row].clone());
    let beside = match ping {
        None => format!("{:.1} empty", of(EMPTY)),
        Some(ping) => {
            let sum = median(compared);
            format!("{sum:.1} = {:.1} empty + {PINGS} x {:.1} PING", of(EMPTY), of(ping))
        }
    };
    let told = format!("{ratio:.2}x of at most {most:.2}x: {:.1} µs beside {beside}", of(judged));
    tell(rows[judged].name, &told, ratio <= most);
}
