//! The disk of the cache: room, direct I/O, and how long a sync takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open, statvfs};

use super::Finding;

/// Share of the disk that `--free-space-ratio` keeps free by default.
const FREE_SHARE_MIN: f64 = 0.1;
/// A sync of 4 KiB that takes longer makes write-back slow, milliseconds.
const SYNC_MS_MAX: f64 = 20.0;
const SYNCS: usize = 5;

pub fn examine(folder: &Path) -> Vec<Finding> {
    let Some(there) = existing_part(folder) else {
        return vec![Finding::bad("cache disk", "no folder", "choose one with --cache-dir")];
    };
    let test = there.join(format!(".jfs-uring-doctor-{}", std::process::id()));
    let writable = File::create_new(&test);
    let found = match writable {
        Ok(file) => vec![room(&there), direct(&test), syncs(file)],
        Err(error) => {
            let shown = there.display();
            let cure = format!("chown $(id -u) {shown}, or choose another with --cache-dir");
            vec![Finding::bad("cache disk", format!("{shown} is not writable: {error}"), cure)]
        }
    };
    let _ = fs::remove_file(&test);
    found
}

/// The deepest folder on the way to `folder` that is there.
fn existing_part(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|part| part.is_dir()).map(Path::to_path_buf)
}

fn room(folder: &Path) -> Finding {
    let what = "cache disk";
    match statvfs(folder) {
        Ok(told) => {
            let share = told.f_bavail as f64 / (told.f_blocks.max(1)) as f64;
            let gib = (told.f_bavail * told.f_frsize) >> 30;
            let seen =
                format!("{gib} GiB free ({:.0} %) below {}", share * 100.0, folder.display());
            if share < FREE_SHARE_MIN {
                let cure = "free some space, or choose another disk with --cache-dir; nothing is cached below 10 %";
                return Finding::poor(what, seen, cure);
            }
            Finding::good(what, seen)
        }
        Err(error) => Finding::poor(what, error.to_string(), "choose another with --cache-dir"),
    }
}

fn direct(test: &Path) -> Finding {
    match open(test, OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Finding::good("direct I/O", "works on the cache disk"),
        Err(error) => {
            let cure = "choose a disk with ext4 or xfs with --cache-dir; until then reads go through the page cache";
            Finding::poor("direct I/O", format!("not on the cache disk: {error}"), cure)
        }
    }
}

fn syncs(mut file: File) -> Finding {
    let mut once = || -> io::Result<f64> {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let taken: io::Result<Vec<f64>> = (0..SYNCS).map(|_| once()).collect();
    match taken {
        Ok(mut taken) => {
            taken.sort_by(f64::total_cmp);
            let median_ms = taken[SYNCS / 2];
            let seen = format!("{median_ms:.2} ms for 4 KiB");
            if median_ms > SYNC_MS_MAX {
                return Finding::poor("sync", seen, "choose a faster disk with --cache-dir");
            }
            Finding::good("sync", seen)
        }
        Err(error) => Finding::poor("sync", error.to_string(), "choose another with --cache-dir"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = examine(&folder.path().join("not/yet"));
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|finding| finding.health != Health::Bad), "{found:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
