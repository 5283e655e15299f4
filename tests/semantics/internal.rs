//! The files that exist only in a mount: `.stats`, `.accesslog`, `.config` and `.control`.

use std::collections::HashMap;
use std::rc::Rc;

use jfs_uring::types::{Attr, Ino};
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Op, Reply, SetAttr};

use crate::world::{Mount, RDONLY, RDWR, with_config, with_mount};

const DIRECT_IO: u32 = 1;
const LOG: Ino = Ino(0x7FFF_FFFF_0000_0001);
const CONTROL: Ino = Ino(0x7FFF_FFFF_0000_0002);
const STATS: Ino = Ino(0x7FFF_FFFF_0000_0003);
const CONFIG: Ino = Ino(0x7FFF_FFFF_0000_0004);

async fn read(m: &Mount, ino: Ino, handle: u64, offset: u64) -> Vec<u8> {
    match m.ask(Op::Read { ino, handle, offset, len_bytes: 131_072, flags: 0 }).await {
        Reply::Bytes(bytes) => bytes.into(),
        other => panic!("read: {other:?}"),
    }
}

async fn text(m: &Mount, ino: Ino) -> String {
    let (handle, open_flags) = m.open(ino, RDONLY).await;
    assert_eq!(open_flags, DIRECT_IO);
    let text = read(m, ino, handle, 0).await;
    assert_eq!(read(m, ino, handle, text.len() as u64).await, b"");
    m.close(ino, handle).await;
    String::from_utf8(text).expect("text")
}

/// `.stats` as the official tools read it.
async fn stats(m: &Mount) -> HashMap<String, f64> {
    let text = text(m, STATS).await;
    let lines = text.lines().map(|line| line.split_once(' ').expect("a name and a value"));
    lines.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

#[test]
fn they_are_found_by_name_and_look_as_the_official_ones() {
    with_mount(|m| async move {
        let expected =
            [(".accesslog", LOG, 0o400), (".stats", STATS, 0o444), (".config", CONFIG, 0o400)];
        for (name, ino, mode) in expected {
            let entry = m.lookup(Ino::ROOT, name.as_bytes()).await;
            let Attr { mode: found, nlink, .. } = entry.attr;
            assert_eq!((entry.ino, found, nlink), (ino, mode, 1));
        }
        let dir = m.mkdir(Ino::ROOT, b"dir").await;
        for dir in [Ino::ROOT, dir] {
            let entry = m.lookup(dir, b".control").await;
            assert_eq!((entry.ino, entry.attr.mode), (CONTROL, 0o666));
        }
        m.absent(dir, b".stats").await;
        m.put(dir, b".stats", b"a file like any other").await;
        let handle = m.opendir(Ino::ROOT).await;
        let listed = m.readdir(Ino::ROOT, handle, 0, 4096, false).await;
        let has = |name: &[u8]| listed.iter().any(|entry| *entry.name == *name);
        assert!(has(b".stats") && has(b".config") && has(b".accesslog") && !has(b".control"));
    });
    let config = VfsConfig { list_internal: false, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let handle = m.opendir(Ino::ROOT).await;
        let listed = m.readdir(Ino::ROOT, handle, 0, 4096, false).await;
        assert!(listed.iter().all(|entry| !entry.name.starts_with(b".s")));
        assert_eq!(m.lookup(Ino::ROOT, b".stats").await.ino, STATS);
    });
}

#[test]
fn their_names_are_taken_and_nothing_about_them_changes() {
    with_mount(|m| async move {
        let (dir, name) = (Ino::ROOT, || (*b".stats").into());
        let make = Op::Create { dir, name: name(), mode: 0o644, umask: 0, flags: RDWR };
        assert_eq!(m.errno(make).await, libc::EEXIST);
        assert_eq!(m.errno(Op::Mkdir { dir, name: name(), mode: 0, umask: 0 }).await, libc::EEXIST);
        assert_eq!(m.errno(Op::Unlink { dir, name: name() }).await, libc::EPERM);
        m.put(dir, b"file", b"").await;
        let over = Mount::rename_op(dir, b"file", dir, b".config", 0);
        assert_eq!(m.errno(over).await, libc::EPERM);
        let away = Mount::rename_op(dir, b".config", dir, b"other", 0);
        assert_eq!(m.errno(away).await, libc::EPERM);
        let link = Op::Link { ino: STATS, new_dir: dir, new_name: (*b"link").into() };
        assert_eq!(m.errno(link).await, libc::EPERM);
        let set = SetAttr { mode: Some(0o777), size: Some(0), ..SetAttr::default() };
        assert_eq!(m.setattr(STATS, set).await.mode, 0o444);
        for flags in [RDWR, RDWR | libc::O_TRUNC as u32] {
            let open = |ino| Op::Open { ino, flags, kill_priv: false };
            assert_eq!(m.errno(open(STATS)).await, libc::EACCES);
            assert!(matches!(m.ask(open(CONTROL)).await, Reply::Open { .. }));
        }
        assert_eq!(m.attr(STATS).await.mode, 0o444);
    });
}

#[test]
fn stats_count_what_was_done() {
    with_mount(|m| async move {
        let before = stats(&m).await;
        let ino = m.put(Ino::ROOT, b"file", &[7; 100_000]).await;
        assert_eq!(m.cat(ino).await.len(), 100_000);
        m.absent(Ino::ROOT, b"nothing").await;
        let after = stats(&m).await;
        let more = |name: &str| {
            let of = |stats: &HashMap<String, f64>| stats.get(name).copied().unwrap_or(0.0);
            of(&after) - of(&before)
        };
        assert!(more("juicefs_fuse_read_size_bytes_sum") >= 100_000.0);
        assert!(more("juicefs_fuse_written_size_bytes_sum") >= 100_000.0);
        assert!(more("juicefs_fuse_ops_total_create") >= 1.0);
        assert!(more("juicefs_fuse_ops_io_errors_ENOENT") >= 1.0);
        assert!(more("juicefs_fuse_ops_durations_histogram_seconds_total") >= 6.0);
        assert!(more("juicefs_fuse_ops_durations_histogram_seconds_sum") > 0.0);
        assert!(more("juicefs_transaction_durations_histogram_seconds_total") >= 2.0);
        assert!(more("juicefs_meta_ops_durations_histogram_seconds_total") >= 3.0);
        // Blocks of 64 KiB.
        assert!(more("juicefs_object_request_durations_histogram_seconds_PUT_total") >= 2.0);
        assert!(more("juicefs_object_request_data_bytes_PUT") >= 100_000.0);
        assert!(more("juicefs_used_inodes") >= 1.0 && more("juicefs_used_space") >= 102_400.0);
        assert!(after["juicefs_memory"] > 0.0 && after["juicefs_cpu_usage"] > 0.0);
        assert!(after["juicefs_uptime"] < 60.0);
    });
}

#[test]
fn config_is_what_the_mount_was_told() {
    let shown = "{\n \"Meta\": {}\n}";
    let config = VfsConfig { shown: shown.into(), ..VfsConfig::default() };
    with_config(config, |m| async move {
        assert_eq!(text(&m, CONFIG).await, shown);
        assert_eq!(m.attr(CONFIG).await.length, shown.len() as u64);
    });
}

#[test]
fn the_access_log_tells_what_happens_while_it_is_open() {
    with_mount(|m: Rc<Mount>| async move {
        m.mkdir(Ino::ROOT, b"before").await;
        let (log, _) = m.open(LOG, RDONLY).await;
        let dir = m.mkdir(Ino::ROOT, b"dir").await;
        m.absent(dir, b"no\nname").await;
        let told = String::from_utf8(read(&m, LOG, log, 0).await).expect("text");
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines[0].contains("] mkdir (1,dir,?rwxr-xr-x:00755): ("), "{told}");
        assert!(lines[0].ends_with('>') && lines[0].contains(" - OK <0.0"), "{told}");
        let wanted = format!("] lookup ({dir},no\\nname): - no such file or directory <0.0");
        assert!(lines[1].contains(&wanted), "{told}");
        assert_eq!(read(&m, LOG, log, 0).await, b"#\n");
        m.close(LOG, log).await;
        assert_eq!(
            m.errno(Op::Read { ino: LOG, handle: log, offset: 0, len_bytes: 1, flags: 0 }).await,
            libc::EBADF
        );
    });
}
