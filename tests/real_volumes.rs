//! Volumes written by JuiceFS 1.4.1, read through metadata, data floor and store: every file of
//! the manifest has the bytes the real client wrote.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use jfs_uring::data::{Data, DataConfig, DataShared};
use jfs_uring::meta::sqlite::SqliteFile;
use jfs_uring::meta::{Meta, MetaShared, Rules};
use jfs_uring::object::{FileStore, Layout, Prefixed};
use jfs_uring::pages::Pool;
use jfs_uring::stage::{BlockCache, CacheConfig, Compression};
use jfs_uring::types::{Ino, Publish};
use jfs_uring::uring;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Run a program with `input`; its output.
fn piped(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
    child.stdin.take().expect("its input").write_all(input).expect("it reads all");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    output.stdout
}

fn sha256(bytes: &[u8]) -> String {
    let line = String::from_utf8(piped(&mut Command::new("sha256sum"), bytes)).expect("text");
    line.split(' ').next().expect("a sum").to_owned()
}

/// Objects unpacked and metadata copied, so that the fixture stays as it is.
fn unpack(name: &str, into: &Path) -> Value {
    let packed = std::fs::read(fixture(name).join("objects.tar.zst")).expect("objects");
    let tar = zstd::stream::decode_all(&packed[..]).expect("a frame");
    piped(Command::new("tar").args(["-x", "-f", "-", "-C"]).arg(into), &tar);
    std::fs::copy(fixture(name).join("meta.sqlite3"), into.join("meta.sqlite3")).expect("copied");
    let volume = std::fs::read_to_string(fixture(name).join("volume.json")).expect("a description");
    serde_json::from_str::<Value>(&volume).expect("JSON")["setting"].clone()
}

fn open(name: &str, folder: &Path) -> Rc<Data> {
    let setting = unpack(name, folder);
    mount(&setting, folder, false)
}

/// A mount of an unpacked volume; one that compacts may write.
fn mount(setting: &Value, folder: &Path, compacts: bool) -> Rc<Data> {
    let file = SqliteFile::open(&folder.join("meta.sqlite3"), false).expect("a database");
    let rules = Rules::default();
    let meta = Meta::new(file.engine(), MetaShared::new(Ino::ROOT, !compacts, 0, rules));
    let number = |name: &str| setting[name].as_u64().unwrap_or(0);
    let hashed = setting["HashPrefix"].as_bool().unwrap_or(false);
    let layout = Layout::new(number("BlockSize") as u32, hashed);
    let compression = setting["Compression"].as_str().unwrap_or("");
    let cache = CacheConfig { memory_bytes: 8 << 20, ..CacheConfig::default() };
    let shared = DataShared::new(DataConfig {
        layout,
        compression: Compression::from_setting(compression).expect("known"),
        encrypted: false,
        pool: Pool::new(8 << 20),
        cache: Some(BlockCache::open(&cache, "none", layout).expect("memory only")),
        cache_large_writes: false,
        uploads: 4,
        downloads: 8,
        deletes: 10,
        tries: 2,
        max_readahead_bytes: 4 << 20,
        prefetch: 1,
        compacts,
        staging: None,
        publish: Publish::Local,
    });
    let prefix = format!("{}/", setting["Name"].as_str().expect("a name"));
    let store = Prefixed::new(FileStore::new(folder).expect("a folder"), prefix);
    Data::new(meta, Rc::new(store), shared)
}

/// Read all of a file in pieces of `step` bytes.
async fn read(data: &Rc<Data>, ino: Ino, length: u64, step: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let pages = data.read(ino, bytes.len() as u64, step, length).await.expect("readable");
        pages.iter().for_each(|page| bytes.extend_from_slice(page));
    }
    bytes
}

fn check(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = open(name, folder.path());
    uring::block_on(verify(name, &data));
}

/// Every file of the manifest has its bytes.
async fn verify(name: &str, data: &Rc<Data>) {
    let manifest = std::fs::read_to_string(fixture(name).join("manifest.jsonl")).expect("manifest");
    let mut sums = HashMap::new();
    for line in manifest.lines() {
        let file: Value = serde_json::from_str(line).expect("a line of JSON");
        let (Some(sum), Some(size)) = (file["sha256"].as_str(), file["size"].as_u64()) else {
            continue;
        };
        // Some files are huge and hollow; the manifest then sums up what was read of them.
        if file["read"].as_u64() != Some(size) || size > 1 << 28 {
            continue;
        }
        let ino = Ino(file["ino"].as_u64().expect("an inode"));
        let step = if ino.0.is_multiple_of(2) { 1 << 20 } else { 10_007 };
        let bytes = read(data, ino, size, step).await;
        assert_eq!(sha256(&bytes), sum, "{name}: {}", file["path"]);
        sums.insert(ino, size);
    }
    assert!(sums.len() > 3, "{name}: files were compared");
}

#[test]
fn plain_volume() {
    check("sqlite-plain");
}

#[test]
fn compressed_volume() {
    check("sqlite-lz4");
}

#[test]
fn volume_of_overwrites() {
    check("overwrites");
}

/// Records in all lists of a volume.
fn records(folder: &Path) -> i64 {
    let sum = "SELECT sum(length(hex(slices))) / 48 FROM jfs_chunk";
    let base = rusqlite::Connection::open(folder.join("meta.sqlite3")).expect("a database");
    base.query_row(sum, [], |row| row.get(0)).expect("a sum")
}

/// What was read once is compacted where it pays, and what is read again has the same bytes. (How
/// many objects go is not looked at: the counts in this file are higher than what is listed.)
#[test]
fn volume_of_overwrites_that_is_compacted_while_it_is_read() {
    let (name, folder) = ("overwrites", tempfile::tempdir().expect("a folder"));
    let setting = unpack(name, folder.path());
    let before = records(folder.path());
    // Four chunks at a time: others are left to the next reader.
    for _ in 0..8 {
        let data = mount(&setting, folder.path(), true);
        uring::block_on(async {
            verify(name, &data).await;
            uring::sleep(Duration::from_millis(100)).await;
            verify(name, &data).await;
            data.end_compactions().await;
        });
    }
    let after = records(folder.path());
    assert!(after < before / 2, "{before} records became {after}");
    uring::block_on(verify(name, &mount(&setting, folder.path(), false)));
}

#[test]
fn volume_of_overwrites_after_compaction() {
    check("overwrites-compacted");
}
