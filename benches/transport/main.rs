//! What the transport alone costs: an empty file system, one caller pinned to one CPU.
//!
//! `cargo bench --bench transport` as root mounts below a temporary folder, measures each call
//! `ROUNDS` times from a process of its own, and prints medians with their range in µs per call.

mod null_fs;

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use jfs_uring::core;
use jfs_uring::fuse::{MountOptions, Session, Wishes, mount, unmount};
use null_fs::NullFs;
use rustix::thread::{CpuSet, sched_setaffinity};

const ROUNDS: usize = 5;
/// Tells the process that it is the caller, and where the mount is.
const TARGET: &str = "JFS_URING_BENCH_TARGET";
const MIB: usize = 1 << 20;

fn main() {
    if let Some(target) = std::env::var_os(TARGET) {
        return measure(&PathBuf::from(target));
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("the transport bench mounts, which needs root");
        return;
    }
    for (over_uring, cores) in [(true, core::possible_cpus()), (true, 1), (false, 2), (false, 1)] {
        serve(over_uring, cores);
    }
}

fn serve(over_uring: bool, cores: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = MountOptions {
        source: "transport-bench".to_owned(),
        read_only: false,
        allow_other: true,
        default_permissions: true,
        over_uring,
    };
    let device = mount(folder.path(), &options).expect("root may mount");
    let wishes = Wishes { over_uring, ..Wishes::default() };
    let session = Session::negotiate(device, &wishes).expect("the kernel speaks FUSE");
    println!("{:?}, cores: {cores}", session.transport);
    let files = NullFs::new(false);
    let server = thread::spawn(move || core::run(session, cores, move |_| files.handler()));
    let status = Command::new(std::env::current_exe().expect("our own path"))
        .env(TARGET, folder.path())
        .status();
    unmount(folder.path(), false).expect("nobody is inside any more");
    server.join().expect("no panic").expect("served to the end");
    assert!(status.expect("a process").success());
}

/// The caller's side.
fn measure(target: &Path) {
    let mut only = CpuSet::new();
    only.set(0);
    sched_setaffinity(None, &only).expect("there is a first CPU");
    let dir = target.join("dir");
    fs::create_dir(&dir).expect("mkdir");
    let names: Vec<_> = (0..4000).map(|number| dir.join(format!("file-{number}"))).collect();
    let file = dir.join("data");
    fs::write(&file, b"x").expect("a file");

    report(
        "stat",
        4000,
        || (),
        |_| {
            black_box(fs::metadata(&file).expect("stat"));
        },
    );
    let remove = || names.iter().for_each(|name| drop(fs::remove_file(name)));
    report("create+close", names.len(), remove, |at| drop(create(&names[at])));
    report("create+1KiB+close", names.len(), remove, |at| {
        create(&names[at]).write_all(&[7; 1024]).expect("write");
    });
    let fill = || names.iter().for_each(|name| drop(File::create(name).expect("create")));
    report("unlink", names.len(), fill, |at| fs::remove_file(&names[at]).expect("unlink"));
    let direct = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT)
        .open(&file)
        .expect("open");
    let mut buffer = vec![0u8; 2 * MIB];
    let aligned = buffer.as_ptr().align_offset(4096);
    let block = &mut buffer[aligned..aligned + MIB];
    report(
        "write 1MiB direct",
        500,
        || (),
        |at| {
            direct.write_all_at(block, (at * MIB) as u64).expect("write");
        },
    );
    report(
        "read 1MiB direct",
        500,
        || (),
        |at| {
            direct.read_exact_at(block, (at * MIB) as u64).expect("read");
        },
    );
    report(
        "read 4KiB direct",
        4000,
        || (),
        |at| {
            direct.read_exact_at(&mut block[..4096], (at * 4096) as u64).expect("read");
        },
    );
}

fn create(name: &Path) -> File {
    OpenOptions::new().write(true).create_new(true).open(name).expect("create")
}

fn report(name: &str, count: usize, mut prepare: impl FnMut(), mut call: impl FnMut(usize)) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            prepare();
            let began = Instant::now();
            (0..count).for_each(&mut call);
            began.elapsed().as_secs_f64() * 1e6 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let (median, least, most) = (rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
    println!("  {name:20} {median:8.2} µs ({least:.2} - {most:.2})");
}
