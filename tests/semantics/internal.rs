//! The files that exist only in a mount: `.stats`, `.accesslog`, `.config` and `.control`.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use jfs_uring::types::{Attr, Ino};
use jfs_uring::uring;
use jfs_uring::vfs::VfsConfig;
use jfs_uring::vfs::op::{Caller, LockRange, Op, Reply, SetAttr};
use serde_json::{Value, json};

use crate::acl;
use crate::world::{Mount, RDONLY, RDWR, ROOT, Volume, with_config, with_mount};

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
        for name in ["juicefs_last_successful_backup", "juicefs_last_backup_duration"] {
            assert_eq!(before.get(name), Some(&0.0), "{name}: there was none");
        }
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

/// What the official tools read as the answer to a message: how far it was, and the end.
struct Answer {
    progress: Vec<(u64, u64)>,
    end: Result<Value, u8>,
}

fn message(command: u32, body: &[u8]) -> Vec<u8> {
    [&command.to_be_bytes()[..], &(body.len() as u32).to_be_bytes(), body].concat()
}

fn long(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// Read as `readProgress` of the official client does.
async fn answer(m: &Mount, handle: u64, mut offset: u64) -> Answer {
    let mut progress = Vec::new();
    loop {
        let got = read(m, CONTROL, handle, offset).await;
        offset += got.len() as u64;
        let mut rest = &got[..];
        while let Some(first) = rest.first() {
            match first {
                0xFE if rest.len() > 16 => {
                    progress.push((long(&rest[1..9]), long(&rest[9..17])));
                    rest = &rest[17..];
                }
                0xFF => {
                    let len = u32::from_be_bytes(rest[1..5].try_into().expect("four bytes"));
                    assert_eq!(rest.len(), len as usize + 5);
                    let value = serde_json::from_slice(&rest[5..]).expect("JSON");
                    return Answer { progress, end: Ok(value) };
                }
                errno => {
                    assert_eq!(rest.len(), 1);
                    return Answer { progress, end: Err(*errno) };
                }
            }
        }
        uring::sleep(Duration::from_millis(1)).await;
    }
}

async fn send_as(m: &Mount, caller: Caller, command: u32, body: &[u8]) -> Answer {
    let (handle, open_flags) = m.open(CONTROL, RDWR).await;
    assert_eq!(open_flags, DIRECT_IO);
    let message = message(command, body);
    let sent = m.ask_as(caller, Mount::write_op(CONTROL, handle, 0, &message)).await;
    assert!(matches!(sent, Reply::Written(count) if count as usize == message.len()));
    let answer = answer(m, handle, message.len() as u64).await;
    m.close(CONTROL, handle).await;
    answer
}

async fn send(m: &Mount, command: u32, body: &[u8]) -> Answer {
    send_as(m, ROOT, command, body).await
}

fn rmr(dir: Ino, name: &[u8], flags: u8) -> Vec<u8> {
    [&dir.0.to_be_bytes()[..], &[name.len() as u8], name, &[flags, 50]].concat()
}

/// A tree of 3 directories and 42 files.
async fn tree(m: &Mount, name: &[u8]) -> Ino {
    let top = m.mkdir(Ino::ROOT, name).await;
    let inner = m.mkdir(top, b"inner").await;
    m.mkdir(inner, b"empty").await;
    for number in 0..40 {
        m.put(inner, format!("f{number}").as_bytes(), b"x").await;
    }
    m.put(top, b"large", &[5; 200_000]).await;
    m.put(top, b"small", &[6; 5000]).await;
    top
}

#[test]
fn a_message_removes_a_tree() {
    with_mount(|m| async move {
        tree(&m, b"tree").await;
        let Answer { progress, end } = send(&m, 1002, &rmr(Ino::ROOT, b"tree", 0)).await;
        assert_eq!((end, progress.last()), (Err(0), Some(&(45, 0))));
        m.absent(Ino::ROOT, b"tree").await;
        m.put(Ino::ROOT, b"file", b"").await;
        assert_eq!(send(&m, 1002, &rmr(Ino::ROOT, b"file", 0)).await.end, Err(0));
        m.absent(Ino::ROOT, b"file").await;
        let missing = send(&m, 1002, &rmr(Ino::ROOT, b"file", 0)).await;
        assert_eq!(missing.end, Err(libc::ENOENT as u8));
    });
}

#[test]
fn a_removal_asks_for_permission_and_knows_the_trash() {
    uring::block_on(async {
        let volume = Volume::format(1).await;
        let m = volume.mount(VfsConfig::default()).await;
        let top = tree(&m, b"tree").await;
        let user = Caller { uid: 1000, gid: 1000, pid: 0 };
        let refused = send_as(&m, user, 1002, &rmr(top, b"inner", 0)).await;
        assert_eq!(refused.end, Err(libc::EACCES as u8));
        // The root of the volume is open to all; what is below is not.
        let refused = send_as(&m, user, 1002, &rmr(Ino::ROOT, b"tree", 0)).await;
        assert_eq!(refused.end, Err(libc::EACCES as u8));
        let refused = send_as(&m, user, 1002, &rmr(Ino::ROOT, b"tree", 1)).await;
        assert_eq!(refused.end, Err(libc::EPERM as u8));
        assert_eq!(m.attr(top).await.nlink, 3);
        assert_eq!(send(&m, 1002, &rmr(top, b"inner", 0)).await.end, Err(0));
        assert_eq!(send(&m, 1002, &rmr(Ino::ROOT, b"tree", 1)).await.end, Err(0));
        let hours = m.names(Ino::TRASH).await;
        let hour = m.lookup(Ino::TRASH, hours[0].as_bytes()).await.ino;
        let kept = m.names(hour).await;
        assert_eq!(kept.iter().filter(|name| name.contains("-f")).count(), 40);
        assert!(!kept.iter().any(|name| name.ends_with("-large")), "{kept:?}");
        Rc::clone(&m.vfs).drain().await;
    });
}

#[test]
fn a_removal_asks_the_access_control_list() {
    with_config(acl::with_acl(), |m| async move {
        let top = m.mkdir(Ino::ROOT, b"shared").await;
        let named = Caller { uid: 1001, gid: 1000, pid: 0 };
        for (list, name, end) in [
            (acl::shared(7, 7, 0, 5, 7), b"masked", libc::EACCES as u8),
            (acl::shared(7, 5, 7, 7, 7), b"denied", libc::EACCES as u8),
            (acl::shared(7, 7, 0, 7, 0), b"listed", 0),
        ] {
            m.put(top, name, b"").await;
            m.ok(acl::set(top, acl::ACCESS, list)).await;
            assert_eq!(send_as(&m, named, 1002, &rmr(top, name, 0)).await.end, Err(end));
        }
        let stranger = Caller { uid: 1002, ..named };
        let refused = send_as(&m, stranger, 1002, &rmr(top, b"masked", 0)).await;
        assert_eq!(refused.end, Err(libc::EACCES as u8));
        let mut kept = m.names(top).await;
        kept.sort();
        assert_eq!(kept, ["denied", "masked"]);
    });
}

#[test]
fn a_message_tells_of_a_node() {
    let config = VfsConfig { volume: "vol".into(), ..VfsConfig::default() };
    with_config(config, |m| async move {
        let top = tree(&m, b"tree").await;
        let info =
            |ino: Ino, recursive, raw| [&ino.0.to_be_bytes()[..], &[recursive, raw, 0]].concat();
        let told = send(&m, 1005, &info(top, 1, 0)).await.end.unwrap();
        let sum =
            json!({"Length": 205_040, "Size": 4096 * (3 + 40 + 49 + 2), "Files": 42, "Dirs": 3});
        assert_eq!((&told["Summary"], &told["Paths"]), (&sum, &json!(["/tree"])));
        let told = send(&m, 1005, &info(top, 0, 0)).await.end.unwrap();
        assert_eq!((&told["Summary"]["Files"], &told["Summary"]["Dirs"]), (&json!(2), &json!(2)));
        let large = m.lookup(top, b"large").await.ino;
        m.entry(Op::Link { ino: large, new_dir: Ino::ROOT, new_name: (*b"link").into() }).await;
        let told = send(&m, 1005, &info(large, 1, 0)).await.end.unwrap();
        let mut paths: Vec<String> = serde_json::from_value(told["Paths"].clone()).unwrap();
        paths.sort();
        assert_eq!(paths, ["/link", "/tree/large"]);
        let objects = told["Objects"].as_array().unwrap();
        assert_eq!(objects.len(), 4);
        let sizes: Vec<_> = objects.iter().map(|each| each["Len"].as_u64().unwrap()).collect();
        assert_eq!(sizes, [65_536, 65_536, 65_536, 3392]);
        let key = objects[3]["Key"].as_str().unwrap();
        assert!(key.starts_with("vol/chunks/0/0/") && key.ends_with("_3_3392"), "{key}");
        assert_eq!((&told["FLocks"], &told["PLocks"]), (&json!([]), &json!([])));
        let (handle, _) = m.open(large, RDWR).await;
        let range = LockRange { start: 10, end: 19, kind: 1, pid: 9 };
        for flock in [true, false] {
            m.ok(Op::Setlk { ino: large, handle, owner: 5, range, wait: false, flock }).await;
        }
        let told = send(&m, 1005, &info(large, 1, 0)).await.end.unwrap();
        let sid = &told["PLocks"][0]["Sid"];
        let held = json!([{"Sid": sid, "Owner": 5, "Type": 1, "Pid": 9, "Start": 10, "End": 19}]);
        assert_eq!(told["PLocks"], held);
        let flock = &told["FLocks"][0];
        assert_eq!((&flock["Sid"], &flock["Type"]), (sid, &json!("W")));
        m.close(large, handle).await;
        let told = send(&m, 1005, &info(large, 1, 1)).await.end.unwrap();
        assert_eq!(told["Chunks"][0]["Size"], 200_000);
        assert_eq!(told["Objects"], json!([]));
        let told = send(&m, 1005, &info(Ino(1 << 40), 1, 0)).await.end.unwrap();
        assert_eq!(
            (&told["Failed"], &told["Reason"]),
            (&json!(true), &json!("no such file or directory"))
        );
        let summary = [&top.0.to_be_bytes()[..], &[2, 2, 0]].concat();
        let told = send(&m, 1007, &summary).await.end.unwrap();
        let tree = &told["Tree"];
        assert_eq!((&tree["Files"], &tree["Dirs"]), (&json!(42), &json!(3)));
        assert_eq!(tree["Children"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn messages_bring_blocks_near_and_let_them_go() {
    with_mount(|m| async move {
        let top = tree(&m, b"tree").await;
        let fill = |paths: &str, action: u8| {
            let len = (paths.len() as u32).to_be_bytes();
            [&len[..], paths.as_bytes(), &[0, 8, 0, action]].concat()
        };
        let of = |answer: Answer| {
            let told = answer.end.unwrap();
            let number = |name: &str| told[name].as_u64().unwrap();
            (number("FileCount"), number("TotalBytes"), number("MissBytes"))
        };
        assert_eq!(of(send(&m, 1004, &fill("/tree", 1)).await), (42, 205_040, 0));
        assert_eq!(of(send(&m, 1004, &fill("/tree", 2)).await), (42, 205_040, 205_040));
        assert_eq!(of(send(&m, 1004, &fill("/tree/large\n/none", 0)).await), (1, 200_000, 0));
        assert_eq!(of(send(&m, 1004, &fill("/tree", 2)).await), (42, 205_040, 5040));
        let by_number = fill(&format!("inode:{top}"), 0);
        assert_eq!(of(send(&m, 1004, &by_number).await), (42, 205_040, 0));
        let Answer { progress, end } = send(&m, 1004, &fill("/tree", 2)).await;
        assert_eq!(end.unwrap()["Locations"], json!({"memory": 205_040}));
        assert_eq!(progress.last(), Some(&(42, 205_040)));
    });
}

#[test]
fn whatever_else_is_sent_is_answered_too() {
    with_mount(|m| async move {
        assert_eq!(send(&m, 1006, b"").await.end, Err(libc::EOPNOTSUPP as u8));
        assert_eq!(send(&m, 1008, &[0; 10]).await.end, Err(libc::EOPNOTSUPP as u8));
        assert_eq!(send(&m, 1, b"?").await.end, Err(libc::EINVAL as u8));
        assert_eq!(send(&m, 1005, b"short").await.end, Err(libc::EINVAL as u8));
        // In parts, one after the other in one stream, and with bytes too many.
        let (handle, _) = m.open(CONTROL, RDWR).await;
        let message = message(1005, &[&[0; 7][..], &[1, 0, 0, 0]].concat());
        m.write(CONTROL, handle, 0, &message[..5]).await;
        m.write(CONTROL, handle, 5, &message[5..]).await;
        let told = answer(&m, handle, message.len() as u64).await.end.unwrap();
        assert_eq!(told["Paths"], json!(["/"]));
        let end = message.len() as u64 + 5 + told.to_string().len() as u64;
        m.write(CONTROL, handle, end, &[&message[..], b"!"].concat()).await;
        let broken = answer(&m, handle, end + message.len() as u64 + 1).await;
        assert_eq!(broken.end, Err(libc::EIO as u8));
        m.close(CONTROL, handle).await;
    });
}
