//! Calls on a mounted folder, timed from the caller's side, in a process pinned to one CPU.
//!
//! Owns the cases. Knows nothing of who serves the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Tells a process that it is the caller: where, which cases, and how much.
const CALL: &str = "JFS_URING_BENCH_CALL";
const MIB: usize = 1 << 20;
/// Offsets of small reads jump about by so many blocks.
const STRIDE: usize = 37;

/// How long data of removed files, and forgotten names, may take to go.
const SETTLE: Duration = Duration::from_millis(200);

/// How much one round does.
#[derive(Clone, Copy)]
pub struct Size {
    /// Small calls and files per case.
    pub files: usize,
    /// MiB streamed.
    pub mebibytes: usize,
}

/// Returns in the bench itself; in the process it started, makes the calls and exits.
pub fn call_if_asked() {
    let Ok(asked) = std::env::var(CALL) else { return };
    let words: Vec<_> = asked.split('\t').collect();
    let [folder, case, files, mebibytes] = words[..] else { panic!("asked wrongly: {asked}") };
    let size = Size { files: files.parse().unwrap(), mebibytes: mebibytes.parse().unwrap() };
    let mut only = CpuSet::new();
    only.set(0);
    sched_setaffinity(None, &only).expect("there is a first CPU");
    println!("{}", measure(case, Path::new(folder), size));
    std::process::exit(0);
}

/// Microseconds per item of a case, called on `folder` by a process of its own.
pub fn call(folder: &Path, case: &str, size: Size) -> f64 {
    let asked = format!("{}\t{case}\t{}\t{}", folder.display(), size.files, size.mebibytes);
    let program = std::env::current_exe().expect("our own path");
    let output = Command::new(program).env(CALL, asked).output().expect("a process");
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case} on {}: {wrong}", folder.display());
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

fn measure(case: &str, root: &Path, size: Size) -> f64 {
    if case == "ping" {
        return ping(root, size.files);
    }
    let folder = root.join(format!("bench-{}-{}", case.replace(' ', "-"), std::process::id()));
    fs::create_dir(&folder).expect("mkdir");
    let paths: Vec<_> =
        (0..size.files).map(|number| folder.join(format!("file-{number}"))).collect();
    let file = folder.join("data");
    let taken = match case {
        "stat" => {
            fs::write(&file, b"x").unwrap();
            each(size.files, |_| force_stat(&file))
        }
        "create + close" => each(size.files, |at| drop(create(&paths[at]))),
        "create + 1 KiB + close" => {
            each(size.files, |at| create(&paths[at]).write_all(&[7; 1024]).unwrap())
        }
        "unlink" => {
            paths.iter().for_each(|path| drop(create(path)));
            each(size.files, |at| fs::remove_file(&paths[at]).unwrap())
        }
        "ls -l per entry" => {
            paths.iter().for_each(|path| drop(create(path)));
            forget_names();
            let listed = each(1, |_| list(&folder, size.files));
            listed / size.files as f64
        }
        "1 MiB write" => stream(&file, size.mebibytes).0,
        "1 MiB read" => stream(&file, size.mebibytes).1,
        "4 KiB read" => small_reads(&file, size),
        other => panic!("there is no case {other}"),
    };
    // Folders are left alone: removing them would weigh on whoever is measured next.
    taken
}

/// Microseconds per call.
fn each(count: usize, mut call: impl FnMut(usize)) -> f64 {
    let began = Instant::now();
    (0..count).for_each(&mut call);
    began.elapsed().as_secs_f64() * 1e6 / count as f64
}

fn create(path: &Path) -> File {
    OpenOptions::new().write(true).create_new(true).open(path).expect("create")
}

/// stat that asks whoever serves the file, whatever the kernel knows.
fn force_stat(path: &Path) {
    let told = statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
    assert_eq!(told.expect("statx").stx_size, 1);
}

fn list(folder: &Path, count: usize) {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut listed = 0;
    for entry in entries {
        listed += usize::from(entry.unwrap().metadata().unwrap().is_file());
    }
    assert_eq!(listed, count, "the listing shows what was created");
}

/// The kernel forgets names and attributes.
fn forget_names() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("root may drop caches");
    std::thread::sleep(SETTLE);
}

/// A buffer aligned for O_DIRECT, found inside a larger one.
fn aligned(memory: &mut [u8], len_bytes: usize) -> &mut [u8] {
    let skip = memory.as_ptr().align_offset(4096);
    &mut memory[skip..skip + len_bytes]
}

fn direct(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
    options.open(path).expect("a file for direct I/O")
}

/// Microseconds per MiB written, and read back.
fn stream(path: &Path, mebibytes: usize) -> (f64, f64) {
    let mut memory = vec![5u8; MIB + 4096];
    let buffer = aligned(&mut memory, MIB);
    let file = direct(path);
    let written =
        each(mebibytes, |at| file.write_all_at(buffer, (at * MIB) as u64).expect("write"));
    file.sync_all().expect("fsync");
    let once = |buffer: &mut [u8]| {
        each(mebibytes, |at| file.read_exact_at(buffer, (at * MIB) as u64).expect("read"))
    };
    once(buffer);
    let read = once(buffer);
    // Memory that was used before is what the next round is to find.
    drop(file);
    fs::remove_file(path).expect("unlink");
    std::thread::sleep(SETTLE);
    (written, read)
}

fn small_reads(path: &Path, size: Size) -> f64 {
    let mut memory = vec![5u8; MIB + 4096];
    let buffer = aligned(&mut memory, MIB);
    let file = direct(path);
    let blocks = 16 * 256;
    (0..16).for_each(|at| file.write_all_at(buffer, (at * MIB) as u64).expect("write"));
    file.sync_all().expect("fsync");
    (0..16).for_each(|at| file.read_exact_at(buffer, (at * MIB) as u64).expect("read"));
    each(size.files, |at| {
        let offset = (at * STRIDE % blocks * 4096) as u64;
        file.read_exact_at(&mut buffer[..4096], offset).expect("read");
    })
}

/// Round trips to a Redis: a socket's path, or host and port.
fn ping(server: &Path, count: usize) -> f64 {
    fn turns(mut stream: impl Read + Write, count: usize) -> f64 {
        let mut answer = [0; 7];
        each(count, |_| {
            stream.write_all(b"PING\r\n").unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"+PONG\r\n");
        })
    }
    if server.is_absolute() {
        return turns(UnixStream::connect(server).expect("Redis listens"), count);
    }
    let stream = std::net::TcpStream::connect(server.to_str().unwrap()).expect("Redis listens");
    stream.set_nodelay(true).unwrap();
    turns(stream, count)
}
