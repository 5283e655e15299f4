//! Both transports against the real kernel. Needs root and /dev/fuse.

#![allow(clippy::unwrap_used)] // a test as a whole

#[path = "../benches/common/null_fs.rs"]
mod null_fs;

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jfs_uring::core;
use jfs_uring::fuse::{MountOptions, Session, Transport, Wishes, mount, panic_count, unmount};
use jfs_uring::types::Ino;
use jfs_uring::uring;
use jfs_uring::vfs::op::Op;
use jfs_uring::vfs::{Notice, Notices};
use null_fs::NullFs;

/// Run `check` inside a mount.
fn with_mount(over_uring: bool, cores: usize, check: impl FnOnce(&Path, &NullFs)) {
    with_notices(over_uring, cores, |target, files, _| check(target, files));
}

/// As [`with_mount`], with what the kernel can be told.
fn with_notices(over_uring: bool, cores: usize, check: impl FnOnce(&Path, &NullFs, &Notices)) {
    let may_mount = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    assert!(may_mount, "this test mounts: run it as root where there is /dev/fuse");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mount");
    fs::create_dir(&target).unwrap();
    let options = MountOptions {
        source: "transport-test".to_owned(),
        read_only: false,
        allow_other: true,
        default_permissions: true,
        over_uring,
    };
    let device = mount(&target, &options).unwrap();
    let wishes = Wishes { over_uring, ..Wishes::default() };
    let session = Session::negotiate(device, &wishes).unwrap();
    let served = session.transport;
    let switch = fs::read_to_string("/sys/module/fuse/parameters/enable_uring");
    let offered = switch.is_ok_and(|told| told.trim() == "Y");
    assert_eq!(served == Transport::OverUring, over_uring && offered);
    let files = NullFs::new(true);
    let shared = files.clone();
    let notices = Arc::new(Notices::default());
    let told = Arc::clone(&notices);
    let server = thread::spawn(move || core::run(session, cores, &told, move |_| shared.handler()));
    let checked = std::panic::AssertUnwindSafe(|| check(&target, &files, &notices));
    let outcome = std::panic::catch_unwind(checked);
    unmount(&target, outcome.is_err()).unwrap();
    server.join().unwrap().unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn everyday(target: &Path, files: &NullFs) {
    let dir = target.join("dir");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("file");
    let content: Vec<u8> = (0..3_000_001u32).map(|at| (at / 3) as u8).collect();
    let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(&content).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut back = Vec::new();
    file.read_to_end(&mut back).unwrap();
    assert!(back == content);
    drop(file);
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(fs::metadata(&path).unwrap().len(), 3_000_001);
    assert_eq!(fs::metadata(dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    for number in 0..500 {
        fs::write(dir.join(format!("a-name-that-takes-room-{number}")), b"x").unwrap();
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 501);
    for number in 0..500 {
        fs::remove_file(dir.join(format!("a-name-that-takes-room-{number}"))).unwrap();
    }
    let began = Instant::now();
    while files.forgotten() < 500 {
        assert!(began.elapsed() < Duration::from_secs(5), "inodes are forgotten");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Requests that wait do not hold up others, keep their data, and a panic is one failed call.
fn waits_and_panics(target: &Path) {
    let before = panic_count();
    let broken = fs::metadata(target.join("panic")).unwrap_err();
    assert_eq!(broken.raw_os_error(), Some(libc::EIO));
    assert!(panic_count() > before);
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0..40 {
            scope.spawn(move || fs::metadata(target.join(format!("slow-{number}"))).unwrap_err());
        }
        for number in 0..8u8 {
            scope.spawn(move || {
                let path = target.join(format!("late-{number}"));
                let file =
                    fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
                let content = vec![number; 500_000];
                file.write_all_at(&content, 77).unwrap();
                let mut back = vec![0xff; 500_000];
                file.read_exact_at(&mut back, 77).unwrap();
                assert!(back == content);
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(5), "waits run side by side");
}

/// More large requests at a time than payloads may stay in memory: what is given back is never
/// what somebody still reads.
fn many_large_requests(target: &Path) {
    thread::scope(|scope| {
        for number in 0..48u8 {
            scope.spawn(move || {
                let mut options = fs::File::options();
                options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT);
                let file = options.open(target.join(format!("large-{number}"))).unwrap();
                let mut back = vec![0; 1 << 20];
                for round in 0..6u8 {
                    let content: Vec<u8> = (0..1u32 << 20)
                        .map(|at| (at >> 10) as u8 ^ number ^ (round << 6))
                        .collect();
                    // Every other one is answered late.
                    let offset = if round % 2 == 0 { 0 } else { 77 };
                    file.write_all_at(&content, offset).unwrap();
                    file.read_exact_at(&mut back, offset).unwrap();
                    assert!(back == content, "file {number}, round {round}");
                }
            });
        }
    });
}

/// A caller that is killed while it waits gets away, and its mount lives on.
fn interrupted_callers(target: &Path) {
    // A name each: the kernel lets one caller at a time look a name up.
    let started = |number| {
        let name = target.join(format!("stuck-{number}"));
        Command::new("stat").arg(name).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut callers: Vec<_> = (0..4).map(started).collect();
    thread::sleep(Duration::from_millis(100));
    for caller in &mut callers {
        assert!(caller.try_wait().unwrap().is_none(), "it waits for an answer");
        caller.kill().unwrap();
    }
    let began = Instant::now();
    for caller in &mut callers {
        caller.wait().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    fs::metadata(target).unwrap();
}

/// What the kernel keeps for a minute goes when it is told, also while lookups, creates and listings in
/// that very directory wait for their answers: nobody waits for ever.
fn what_is_gone_is_forgotten(target: &Path, files: &NullFs, notices: &Notices) {
    let dir = target.join("dir");
    fs::create_dir(&dir).unwrap();
    let dir_ino = Ino(fs::metadata(&dir).unwrap().ino());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for caller in 0..4 {
            let (dir, done) = (&dir, &done);
            scope.spawn(move || {
                for round in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    // Answered late, under the lock of the directory; then names made and listed.
                    fs::metadata(dir.join(format!("slow-{caller}-{round}"))).unwrap_err();
                    fs::write(dir.join(format!("other-{caller}-{round}")), b"x").unwrap();
                    fs::read_dir(dir).unwrap().for_each(drop);
                }
            });
        }
        for round in 0..20 {
            let path = dir.join(format!("name-{round}"));
            fs::write(&path, b"x").unwrap();
            let (ino, name) = (Ino(fs::metadata(&path).unwrap().ino()), format!("name-{round}"));
            files.answer(Op::Unlink { dir: dir_ino, name: name.as_bytes().into() });
            assert!(fs::metadata(&path).is_ok(), "the kernel keeps it");
            uring::block_on(async {
                let name = name.as_bytes().into();
                notices.tell(Notice::Removed { dir: dir_ino, name, ino }).await;
                notices.settled().await;
            });
            assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn notices_reach_the_kernel_while_it_asks() {
    for (over_uring, cores) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        with_notices(over_uring, cores, what_is_gone_is_forgotten);
    }
}

fn all(target: &Path, files: &NullFs) {
    everyday(target, files);
    waits_and_panics(target);
    many_large_requests(target);
    interrupted_callers(target);
}

#[test]
fn over_uring_a_core_per_cpu() {
    with_mount(true, core::possible_cpus(), all);
}

#[test]
fn over_uring_one_core_serves_all_queues() {
    with_mount(true, 1, all);
}

#[test]
fn over_uring_more_cores_than_queues() {
    with_mount(true, core::possible_cpus() + 1, all);
}

#[test]
fn dev_fuse_two_cores() {
    with_mount(false, 2, all);
}

#[test]
fn dev_fuse_one_core() {
    with_mount(false, 1, all);
}

#[test]
fn an_aborted_connection_ends_the_cores() {
    for over_uring in [true, false] {
        with_mount(over_uring, 2, |target, _| {
            let minor = fs::metadata(target).unwrap().dev() & 0xff;
            let control = format!("/sys/fs/fuse/connections/{minor}/abort");
            if fs::write(&control, "1").is_ok() {
                fs::metadata(target.join("name")).unwrap_err();
            }
        });
    }
}
