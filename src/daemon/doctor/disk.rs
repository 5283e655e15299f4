//! The disk of the cache: room, and how long a sync takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::statvfs;

use super::Finding;

/// Share of the disk that `--free-space-ratio` keeps free by default.
const FREE_SHARE_MIN: f64 = 0.1;
/// Below this share nothing is kept for a later upload, either.
const STAGING_SHARE_MIN: f64 = FREE_SHARE_MIN / 2.0;
/// A sync of 4 KiB that takes longer makes write-back slow, milliseconds.
const SYNC_MS_MAX: f64 = 20.0;
const SYNCS: usize = 5;
const OTHER: &str = "mount with --cache-dir FOLDER, on another disk";

pub fn examine(folder: &Path) -> Vec<Finding> {
    let Some(there) = existing_part(folder) else {
        let cure = format!("mkdir -p {}", folder.display());
        return vec![Finding::bad("cache disk", "no folder", cure)];
    };
    let test = there.join(format!(".jfs-uring-doctor-{}", std::process::id()));
    let writable = File::create_new(&test);
    let found = match writable {
        Ok(file) => vec![room(&there), syncs(file)],
        Err(error) => {
            let shown = there.display();
            let cure = format!("chown $(id -u) {shown} (or mount with --cache-dir OTHER-FOLDER)");
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
                let shown = folder.display();
                let lost = match share < STAGING_SHARE_MIN {
                    true => "nothing is cached below 10 %, and --writeback keeps nothing below 5 %",
                    false => "nothing is cached below 10 %",
                };
                let cure = format!(
                    "delete what `du -xhd1 {shown}` shows to be large, or mount with \
                     --free-space-ratio 0.02: now {lost}"
                );
                return Finding::poor(what, seen, cure);
            }
            Finding::good(what, seen)
        }
        Err(error) => Finding::poor(what, error.to_string(), OTHER),
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
                return Finding::poor("sync", seen, OTHER);
            }
            Finding::good("sync", seen)
        }
        Err(error) => Finding::poor("sync", error.to_string(), OTHER),
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
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|finding| finding.health != Health::Bad), "{found:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
