//! A volume whose objects are in a store that does nothing, its cache folder on the disk of the temporary
//! folder, and commands on its mounts.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use super::common::null_s3;
use super::common::systems::{System, format};

pub const MIB: usize = 1 << 20;
/// How late the store answers.
pub const DELAY: Duration = Duration::from_millis(10);

/// The URL of the bucket; one server for all.
pub fn bucket() -> &'static str {
    static BUCKET: OnceLock<String> = OnceLock::new();
    BUCKET.get_or_init(|| format!("http://{}/bench", null_s3::start_late_at_both(DELAY)))
}

/// A volume and its cache folder.
pub struct Place {
    folder: tempfile::TempDir,
    name: &'static str,
    url: String,
}

impl Place {
    pub fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite3://{}", folder.path().join("meta.db").display());
        let store = ["--storage", "minio", "--bucket", bucket()];
        let keys = ["--access-key", "AK", "--secret-key", "SK"];
        format(&url, &[&store[..], &keys].concat());
        Self { folder, name, url }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache(&self) -> PathBuf {
        self.folder().join("cache")
    }

    pub fn mount(&self, options: &[&str]) -> System {
        let cache = self.cache().display().to_string();
        // A disk that is nearly full will do.
        let near = ["--transport", "uring", "--cache-dir", &cache, "--free-space-ratio", "0.001"];
        System::formatted(self.name, &self.url, &[&near[..], options].concat())
    }
}

/// A command of the product.
pub fn command(words: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_jfs-uring")).args(words).output();
    let output = output.expect("the product is built");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {told}");
    output
}

/// Wait until all of a mount has come so far.
pub fn flush(point: &Path, level: &str) {
    command(&["flush", "--level", level, &point.display().to_string()]);
}

pub fn empty_page_cache() {
    fs::write("/proc/sys/vm/drop_caches", "1").expect("root may empty the page cache");
}

/// A file of so many bytes, written in pieces of 1 MiB and closed.
pub fn write_file(path: &Path, bytes: usize) {
    let piece = vec![7; MIB];
    let mut file = File::create(path).expect("a file");
    let mut left = bytes;
    while left > 0 {
        let some = left.min(piece.len());
        file.write_all(&piece[..some]).expect("written");
        left -= some;
    }
}

/// MiB/s of fio's writes around the page cache, 1 MiB each, to a new file in `folder`.
pub fn disk_rate(folder: &Path, mebibytes: usize) -> f64 {
    let path = folder.join("fio");
    let output = Command::new("fio")
        .args(["--name=disk", "--direct=1", "--rw=write", "--bs=1M", "--ioengine=psync"])
        .args(["--output-format=json", "--thread", "--end_fsync=1", "--fallocate=none"])
        .arg(format!("--size={mebibytes}M"))
        .arg(format!("--filename={}", path.display()))
        .output()
        .expect("fio is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(path).expect("fio made it");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("fio's JSON");
    let bytes_a_second = told["jobs"][0]["write"]["bw_bytes"].as_f64().expect("a number");
    bytes_a_second / MIB as f64
}
