//! Calls on a mounted folder, timed from the caller's side with the caller pinned to one CPU.
//!
//! Owns the cases and their medians. Knows nothing of who serves the folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// What one round measured: microseconds per item, by case.
pub type Round = Vec<(&'static str, f64)>;

/// How much one round does.
#[derive(Clone, Copy)]
pub struct Size {
    /// Files created, and calls per small case.
    pub files: usize,
    /// MiB streamed per case.
    pub stream_mib: usize,
}

/// Pin this thread, as the bars ask of the caller.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

fn micros_each(began: Instant, count: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// One round of every case in a fresh folder `name` below `mount`; the folder is gone afterwards.
pub fn round(mount: &Path, name: &str, size: Size) -> io::Result<Round> {
    let folder = mount.join(name);
    std::fs::create_dir(&folder)?;
    let mut found = small(&folder, size.files)?;
    found.extend(stream(&folder, size.stream_mib)?);
    std::fs::remove_dir(&folder)?;
    Ok(found)
}

fn small(folder: &Path, files: usize) -> io::Result<Round> {
    let paths: Vec<_> = (0..files).map(|number| folder.join(format!("f{number}"))).collect();
    let body = [7u8; 1024];
    let mut found = Round::new();
    let began = Instant::now();
    for path in &paths {
        OpenOptions::new().write(true).create_new(true).open(path)?.write_all(&body)?;
    }
    found.push(("create + 1 KiB + close", micros_each(began, files)));

    std::thread::sleep(Duration::from_millis(1100));
    let began = Instant::now();
    for path in &paths {
        std::fs::symlink_metadata(path)?;
    }
    found.push(("stat, kernel caches expired", micros_each(began, files)));

    std::thread::sleep(Duration::from_millis(1100));
    let began = Instant::now();
    let mut listed = 0;
    for entry in std::fs::read_dir(folder)? {
        entry?.metadata()?;
        listed += 1;
    }
    assert_eq!(listed, files, "the listing shows what was created");
    found.push(("ls -l, per entry", micros_each(began, files)));

    let began = Instant::now();
    for path in &paths {
        std::fs::remove_file(path)?;
    }
    found.push(("unlink", micros_each(began, files)));
    Ok(found)
}

/// A buffer aligned for O_DIRECT, found inside a larger one.
fn aligned(memory: &mut [u8], len_bytes: usize) -> &mut [u8] {
    let skip = memory.as_ptr().align_offset(4096);
    &mut memory[skip..skip + len_bytes]
}

fn stream(folder: &Path, mebibytes: usize) -> io::Result<Round> {
    const MIB: usize = 1 << 20;
    let mut memory = vec![5u8; MIB + 4096];
    let buffer = aligned(&mut memory, MIB);
    let path = folder.join("stream");
    let mut found = Round::new();
    let file = File::options().read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(&path)?;
    let began = Instant::now();
    for number in 0..mebibytes {
        file.write_all_at(buffer, (number * MIB) as u64)?;
    }
    found.push(("1 MiB direct write", micros_each(began, mebibytes)));
    file.sync_all()?;
    for number in 0..mebibytes {
        file.read_exact_at(buffer, (number * MIB) as u64)?;
    }
    let began = Instant::now();
    for number in 0..mebibytes {
        file.read_exact_at(buffer, (number * MIB) as u64)?;
    }
    found.push(("1 MiB direct read", micros_each(began, mebibytes)));
    let small = &mut buffer[..4096];
    let calls = 4000;
    let began = Instant::now();
    for number in 0..calls {
        file.read_exact_at(small, ((number * 37) % (mebibytes * 256) * 4096) as u64)?;
    }
    found.push(("4 KiB direct read, warm", micros_each(began, calls)));
    drop(file);
    std::fs::remove_file(path)?;
    Ok(found)
}

/// The median of each case over all rounds.
pub fn medians(rounds: &[Round]) -> Round {
    let median = |case: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[case].1).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (0..rounds[0].len()).map(|case| (rounds[0][case].0, median(case))).collect()
}
