//! What is safe when with `--writeback`, how that is told, and what the next mount finds.

use std::cell::Cell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jfs_uring::object::StoreError;
use jfs_uring::types::{Ino, Level, Publish, Time};
use jfs_uring::uring;
use jfs_uring::vfs::op::{Op, Reply, SetAttr, SetTime};
use jfs_uring::vfs::{Question, VfsConfig};
use serde_json::Value;

use crate::world::*;

const CONTROL: Ino = Ino(0x7FFF_FFFF_0000_0002);
const STATE: &[u8] = b"user.jfs.state";
const BOTH: [Publish; 2] = [Publish::Local, Publish::Uploaded];

fn keeping(publish: Publish) -> VfsConfig {
    VfsConfig { writeback: true, publish, ..VfsConfig::default() }
}

/// A volume whose store is away, and a mount that keeps blocks.
async fn away(publish: Publish) -> (Volume, Rc<BrokenStore>, Rc<Mount>) {
    let volume = Volume::format(0).await;
    let store = volume.broken_store();
    *store.put_error.borrow_mut() = Some(StoreError::Unavailable("no such bucket".into()));
    let mount = volume.mount_keeping(keeping(publish), store.clone()).await;
    (volume, store, mount)
}

/// A life of a mount that is killed: all of it goes but what it kept on disk.
fn killed<F: Future<Output = (Volume, Ino)>>(life: F) -> (Volume, Ino) {
    uring::block_on(life)
}

async fn state(m: &Mount, ino: Ino) -> Value {
    match m.ask(Op::Getxattr { ino, name: STATE.into(), len_bytes: 65_536 }).await {
        Reply::Bytes(text) => serde_json::from_slice(&text).expect("JSON"),
        other => panic!("getxattr: {other:?}"),
    }
}

async fn level(m: &Mount, ino: Ino) -> String {
    state(m, ino).await["level"].as_str().expect("a level").to_owned()
}

/// A question to `.control`, and its answer: JSON, or how it ended.
async fn asked(m: &Mount, question: Question) -> Result<Value, u8> {
    let (handle, _) = m.open(CONTROL, RDWR).await;
    let message = question.message();
    m.write(CONTROL, handle, 0, &message).await;
    let mut offset = message.len() as u64;
    loop {
        let op = Op::Read { ino: CONTROL, handle, offset, len_bytes: 131_072, flags: 0 };
        let Reply::Bytes(got) = m.ask(op).await else { panic!("read") };
        offset += got.len() as u64;
        let mut rest = &got[..];
        while let [0xFE, after @ ..] = rest {
            rest = &after[16..];
        }
        match rest {
            [] => uring::sleep(Duration::from_millis(2)).await,
            [0xFF, text @ ..] => return Ok(serde_json::from_slice(&text[4..]).expect("JSON")),
            [errno, ..] => return Err(*errno),
        }
    }
}

/// Whether something that was begun is over after a while.
async fn is_over(work: impl Future) -> bool {
    uring::timeout(Duration::from_millis(400), work).await.is_ok()
}

fn staged_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { staged_files(&path) } else { vec![path] }).collect()
}

#[test]
fn close_survives_a_crash_of_the_mount() {
    for publish in BOTH {
        let (volume, ino) = killed(async {
            let (volume, _, m) = away(publish).await;
            let ino = m.put(Ino::ROOT, b"small", b"closed while the store is away").await;
            let large = m.put(Ino::ROOT, b"large", &[5; 200_000]).await;
            assert_eq!(volume.objects().await, 0);
            assert_eq!(m.cat(ino).await, b"closed while the store is away");
            assert_eq!(m.cat(large).await, [5; 200_000]);
            (volume, ino)
        });
        uring::block_on(async {
            let store = Rc::new(volume.store());
            let m = volume.mount_keeping(keeping(publish), store).await;
            let large = m.lookup(Ino::ROOT, b"large").await;
            assert_eq!(large.attr.length, 200_000, "{publish:?}");
            assert_eq!(m.cat(ino).await, b"closed while the store is away");
            assert_eq!(m.cat(large.ino).await, [5; 200_000]);
            assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
            let other = volume.mount(VfsConfig::default()).await;
            assert_eq!(other.cat(large.ino).await, [5; 200_000]);
        });
    }
}

#[test]
fn close_waits_for_the_kernel_and_fsync_for_the_disk() {
    uring::block_on(async {
        for publish in BOTH {
            let (volume, _, m) = away(publish).await;
            let (ino, handle) = m.create(Ino::ROOT, b"f").await;
            m.write(ino, handle, 0, b"written").await;
            assert_eq!(level(&m, ino).await, "accepted");
            m.ok(Op::Flush { ino, handle, lock_owner: 1 }).await;
            assert_eq!(level(&m, ino).await, "logged");
            m.write(ino, handle, 7, b" twice").await;
            for datasync in [false, true] {
                m.ok(Op::Fsync { ino, handle, datasync }).await;
                assert_eq!(level(&m, ino).await, "local", "{publish:?}");
            }
            m.close(ino, handle).await;
            assert_eq!(volume.objects().await, 0);
        }
    });
}

#[test]
fn direct_writes_with_o_sync_wait_for_the_disk() {
    uring::block_on(async {
        let (_volume, _, m) = away(Publish::Local).await;
        let ino = m.put(Ino::ROOT, b"f", b"").await;
        let (handle, _) = m.open(ino, RDWR | (libc::O_DIRECT | libc::O_SYNC) as u32).await;
        m.write(ino, handle, 0, &[1; 4096]).await;
        assert_eq!(level(&m, ino).await, "local");
        m.close(ino, handle).await;
    });
}

#[test]
fn fsync_of_a_directory_has_nothing_to_wait_for() {
    uring::block_on(async {
        let (volume, _, m) = away(Publish::Local).await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let ino = m.put(dir, b"f", b"x").await;
        let handle = m.opendir(dir).await;
        m.ok(Op::Fsyncdir { ino: dir, handle, datasync: false }).await;
        assert_eq!(level(&m, ino).await, "logged", "what is in its files is theirs to sync");
        let other = volume.mount(VfsConfig::default()).await;
        assert_eq!(other.lookup(dir, b"f").await.ino, ino);
    });
}

#[test]
fn others_see_it_at_once_or_when_it_is_uploaded() {
    uring::block_on(async {
        for publish in BOTH {
            let (volume, store, m) = away(publish).await;
            let other = volume.mount(VfsConfig::default()).await;
            let ino = m.put(Ino::ROOT, b"f", b"seen").await;
            assert_eq!(m.attr(ino).await.length, 4);
            let (handle, _) = other.open(ino, RDONLY).await;
            let read = Op::Read { ino, handle, offset: 0, len_bytes: 9, flags: 0 };
            match publish {
                Publish::Local => {
                    assert_eq!(other.attr(ino).await.length, 4);
                    assert_eq!(other.errno(read).await, libc::EIO);
                }
                Publish::Uploaded => assert_eq!(other.attr(ino).await.length, 0),
            }
            other.release(ino, handle).await;
            *store.put_error.borrow_mut() = None;
            assert_eq!(asked(&m, Question::Reach(ino, Level::Committed)).await, Err(0));
            assert_eq!(level(&m, ino).await, "committed");
            assert_eq!(other.cat(ino).await, b"seen");
        }
    });
}

#[test]
fn a_mount_sees_its_own_files_before_they_are_published() {
    uring::block_on(async {
        let (_volume, store, m) = away(Publish::Uploaded).await;
        let ino = m.put(Ino::ROOT, b"f", b"first").await;
        let (handle, _) = m.open(ino, RDWR).await;
        m.write(ino, handle, 5, b" second").await;
        m.close(ino, handle).await;
        assert!(matches!(m.ask(Op::Forget { items: vec![(ino, 1)] }).await, Reply::None));
        let found = m.lookup(Ino::ROOT, b"f").await;
        assert_eq!(found.attr.length, 12);
        assert_eq!(m.cat(ino).await, b"first second");
        *store.put_error.borrow_mut() = None;
        assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
        assert_eq!(m.attr(ino).await.length, 12);
        // What was shown before its commit does not outlive a change of others.
        uring::sleep(Duration::from_millis(700)).await;
        m.truncate(ino, 5).await;
        assert_eq!(m.cat(ino).await, b"first");
    });
}

#[test]
fn operations_on_a_file_wait_until_it_is_committed() {
    uring::block_on(async {
        for publish in BOTH {
            let (_volume, store, m) = away(publish).await;
            let ino = m.put(Ino::ROOT, b"f", b"12345678").await;
            let set = SetAttr { size: Some(3), ..SetAttr::default() };
            let done = Rc::new(Cell::new(false));
            let (mount, over) = (Rc::clone(&m), Rc::clone(&done));
            uring::spawn(async move {
                let reply = mount.ask(Op::Setattr { ino, set }).await;
                over.set(matches!(reply, Reply::Attr { attr, .. } if attr.length == 3));
            });
            uring::sleep(Duration::from_millis(300)).await;
            assert_eq!(done.get(), publish == Publish::Local, "{publish:?}");
            *store.put_error.borrow_mut() = None;
            m.data.retry_uploads();
            eventually(|| async { done.get() }).await;
            assert_eq!(m.cat(ino).await, b"123");
        }
    });
}

/// Ask for something that needs the store, which is away, see that it waits, and that it is done when the
/// store is back.
async fn waits_for_the_store(m: &Rc<Mount>, store: &BrokenStore, op: Op) {
    let done = Rc::new(Cell::new(false));
    let (mount, over) = (Rc::clone(m), Rc::clone(&done));
    uring::spawn(async move {
        let reply = mount.ask(op).await;
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        over.set(true);
    });
    uring::sleep(Duration::from_millis(300)).await;
    assert!(!done.get(), "what is to go first is not in the store");
    *store.put_error.borrow_mut() = None;
    m.data.retry_uploads();
    eventually(|| async { done.get() }).await;
}

#[test]
fn operations_on_a_file_of_an_earlier_mount_wait_for_it_too() {
    let time = Time { sec: 1_600_000_000, nsec: 5 };
    let size = SetAttr { size: Some(3), ..SetAttr::default() };
    let mtime = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
    for set in [size, mtime] {
        let (volume, ino) = killed(async {
            let (volume, _, m) = away(Publish::Uploaded).await;
            let ino = m.put(Ino::ROOT, b"f", b"12345678").await;
            (volume, ino)
        });
        uring::block_on(async {
            let store = volume.broken_store();
            *store.put_error.borrow_mut() = Some(StoreError::Unavailable("still away".into()));
            let m = volume.mount_keeping(keeping(Publish::Uploaded), store.clone()).await;
            waits_for_the_store(&m, &store, Op::Setattr { ino, set }).await;
            assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
            let other = volume.mount(VfsConfig::default()).await;
            match set.size {
                Some(_) => assert_eq!(other.cat(ino).await, b"123"),
                None => assert_eq!(other.attr(ino).await.mtime, time),
            }
        });
    }
}

#[test]
fn nothing_that_was_refused_lands_on_top_of_a_truncation() {
    uring::block_on(async {
        let mut volume = Volume::format(0).await;
        volume.rules.capacity = 12_288;
        let m = volume.mount_keeping(keeping(Publish::Uploaded), Rc::new(volume.store())).await;
        m.put(Ino::ROOT, b"other", &[1; 4096]).await;
        let ino = m.put(Ino::ROOT, b"f", &[2; 8000]).await;
        assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
        let (handle, _) = m.open(ino, RDWR).await;
        m.write(ino, handle, 0, &[3; 9000]).await;
        m.close(ino, handle).await;
        let set = SetAttr { size: Some(100), ..SetAttr::default() };
        assert_eq!(m.errno(Op::Setattr { ino, set }).await, libc::ENOSPC);
        assert_eq!(m.attr(ino).await.length, 9000, "nothing was cut off");
        m.unlink(Ino::ROOT, b"other").await;
        eventually(|| async {
            matches!(m.ask(Op::Setattr { ino, set }).await, Reply::Attr { .. })
        })
        .await;
        // Longer than a refused commit waits before it is tried again.
        uring::sleep(Duration::from_millis(1500)).await;
        let other = volume.mount(VfsConfig::default()).await;
        assert_eq!(other.cat(ino).await, [3; 100]);
    });
}

#[test]
fn a_rename_over_a_file_waits_until_others_can_read_what_replaces_it() {
    for flags in [0, libc::RENAME_EXCHANGE] {
        uring::block_on(async {
            let (volume, store, m) = away(Publish::Uploaded).await;
            *store.put_error.borrow_mut() = None;
            m.put(Ino::ROOT, b"f", b"old").await;
            assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
            *store.put_error.borrow_mut() = Some(StoreError::Unavailable("away again".into()));
            m.put(Ino::ROOT, b"first", b"new").await;
            let rename = |name: &[u8], new_name: &[u8], flags| {
                let (dir, new_dir) = (Ino::ROOT, Ino::ROOT);
                Op::Rename { dir, name: name.into(), new_dir, new_name: new_name.into(), flags }
            };
            m.ok(rename(b"first", b"new", 0)).await;
            waits_for_the_store(&m, &store, rename(b"new", b"f", flags)).await;
            let other = volume.mount(VfsConfig::default()).await;
            let found = other.lookup(Ino::ROOT, b"f").await.ino;
            assert_eq!(other.cat(found).await, b"new");
        });
    }
}

#[test]
fn the_end_of_a_mount_leaves_files_that_any_mount_uploads() {
    for publish in BOTH {
        let (volume, ino) = killed(async {
            let (volume, _, m) = away(publish).await;
            let ino = m.put(Ino::ROOT, b"closed", b"small").await;
            let (open, handle) = m.create(Ino::ROOT, b"open").await;
            m.write(open, handle, 0, &[9; 100_000]).await;
            Rc::clone(&m.vfs).drain().await;
            let left = m.staging.as_ref().expect("it keeps").close().await;
            assert_eq!(left.local_bytes + left.logged_bytes, 100_005);
            (volume, ino)
        });
        let files = staged_files(&volume.cache_folder().join(VOLUME).join("rawstaging"));
        assert_eq!(files.len(), 3, "{files:?}");
        uring::block_on(async {
            let m = volume.mount_keeping(VfsConfig::default(), Rc::new(volume.store())).await;
            assert_eq!(m.cat(ino).await, b"small");
            assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Committed)).await, Err(0));
            assert_eq!(volume.objects().await, 3);
            let other = volume.mount(VfsConfig::default()).await;
            let open = other.lookup(Ino::ROOT, b"open").await.ino;
            assert_eq!(other.cat(open).await, [9; 100_000]);
        });
    }
}

#[test]
fn what_is_removed_before_its_upload_is_never_uploaded() {
    uring::block_on(async {
        for publish in BOTH {
            let (volume, store, m) = away(publish).await;
            m.put(Ino::ROOT, b"f", &[1; 100_000]).await;
            m.unlink(Ino::ROOT, b"f").await;
            eventually(|| async { state(&m, Ino::ROOT).await["blocks_left"] == 0 }).await;
            *store.put_error.borrow_mut() = None;
            assert_eq!(asked(&m, Question::Reach(Ino::ROOT, Level::Uploaded)).await, Err(0));
            assert_eq!(volume.objects().await, 0);
        }
    });
}

#[test]
fn the_state_is_told_without_extended_attributes_too() {
    uring::block_on(async {
        let (_volume, _, m) = away(Publish::Local).await;
        let ino = m.put(Ino::ROOT, b"f", &[1; 1000]).await;
        let told = state(&m, ino).await;
        assert_eq!((&told["bytes_left"], &told["blocks_left"]), (&1000.into(), &1.into()));
        let whole = state(&m, Ino::ROOT).await;
        assert_eq!((&whole["writeback"], &whole["publish"]), (&true.into(), &"local".into()));
        assert_eq!(whole["blocks_left"], 1);
        let size = Op::Getxattr { ino, name: STATE.into(), len_bytes: 0 };
        let Reply::XattrSize(len) = m.ask(size).await else { panic!("a size") };
        assert!(len as usize > told.to_string().len());
        let short = Op::Getxattr { ino, name: STATE.into(), len_bytes: 10 };
        assert_eq!(m.errno(short).await, libc::ERANGE);
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let of_dir = Op::Getxattr { ino: dir, name: STATE.into(), len_bytes: 999 };
        assert_eq!(m.errno(of_dir).await, libc::ENODATA);
        // The kernel goes on asking, and so do programs.
        let other = Op::Getxattr { ino, name: (*b"security.capability").into(), len_bytes: 9 };
        assert_eq!(m.errno(other).await, libc::EOPNOTSUPP);
    });
}

#[test]
fn the_state_is_not_listed_and_cannot_be_set() {
    let config = VfsConfig { xattr: true, ..VfsConfig::default() };
    with_config(config, |m| async move {
        let ino = m.put(Ino::ROOT, b"f", b"x").await;
        assert_eq!(state(&m, ino).await["level"], "committed");
        assert_eq!(state(&m, Ino::ROOT).await["writeback"], false);
        let name = || STATE.into();
        let value = (*b"{}").into();
        let set = Op::Setxattr { ino, name: name(), value, flags: 0, drops_group_id: false };
        assert_eq!(m.errno(set).await, libc::EPERM);
        assert_eq!(m.errno(Op::Removexattr { ino, name: name() }).await, libc::EPERM);
        match m.ask(Op::Listxattr { ino, len_bytes: 999 }).await {
            Reply::Bytes(list) => assert!(list.is_empty()),
            other => panic!("listxattr: {other:?}"),
        }
    });
}

#[test]
fn messages_tell_of_files_folders_and_the_mount() {
    uring::block_on(async {
        let (_volume, store, m) = away(Publish::Local).await;
        let dir = m.mkdir(Ino::ROOT, b"d").await;
        let below = m.mkdir(dir, b"below").await;
        m.put(dir, b"one", &[1; 100]).await;
        m.put(below, b"two", &[2; 200]).await;
        let ino = m.put(Ino::ROOT, b"three", &[3; 400]).await;
        let told = asked(&m, Question::State(dir)).await.expect("JSON");
        assert_eq!((&told["files"], &told["bytes_left"]), (&2.into(), &300.into()));
        assert_eq!(asked(&m, Question::State(ino)).await.expect("JSON")["bytes_left"], 400);
        eventually(|| async { state(&m, Ino::ROOT).await["failed_blocks"] != 0 }).await;
        let whole = asked(&m, Question::State(Ino::ROOT)).await.expect("JSON");
        assert_eq!((&whole["blocks_left"], &whole["bytes_left"]), (&3.into(), &700.into()));
        assert!(whole["last_error"].as_str().expect("an error").contains("no such bucket"));
        assert_eq!(asked(&m, Question::Reach(dir, Level::Local)).await, Err(0));
        assert!(!is_over(asked(&m, Question::Reach(dir, Level::Uploaded))).await);
        *store.put_error.borrow_mut() = None;
        asked(&m, Question::Retry).await.expect("JSON");
        assert_eq!(asked(&m, Question::Reach(dir, Level::Committed)).await, Err(0));
        let told = asked(&m, Question::State(dir)).await.expect("JSON");
        assert_eq!((&told["level"], &told["bytes_left"]), (&"committed".into(), &0.into()));
        let gone = Question::State(Ino(999_999));
        assert_eq!(asked(&m, gone).await, Err(libc::ENOENT as u8));
    });
}

#[test]
fn who_stops_waiting_is_waited_for_no_longer() {
    uring::block_on(async {
        let (_volume, _, m) = away(Publish::Local).await;
        m.put(Ino::ROOT, b"f", b"x").await;
        let (handle, _) = m.open(CONTROL, RDWR).await;
        let reach = Question::Reach(Ino::ROOT, Level::Uploaded).message();
        m.write(CONTROL, handle, 0, &reach).await;
        let again = Mount::write_op(CONTROL, handle, 0, &reach);
        assert_eq!(m.errno(again).await, libc::EBUSY);
        m.ok(Op::Flush { ino: CONTROL, handle, lock_owner: 1 }).await;
        uring::sleep(Duration::from_millis(700)).await;
        let op = Op::Read {
            ino: CONTROL,
            handle,
            offset: reach.len() as u64,
            len_bytes: 4096,
            flags: 0,
        };
        let Reply::Bytes(answer) = m.ask(op).await else { panic!("read") };
        assert_eq!(answer.last(), Some(&(libc::EINTR as u8)));
    });
}

#[test]
fn two_mounts_do_not_share_a_folder() {
    uring::block_on(async {
        let (volume, _, _m) = away(Publish::Local).await;
        let told = volume.staging(true).err().expect("it is in use").to_string();
        assert!(told.contains("in use by process") && told.contains("--cache-dir"), "{told}");
    });
}

#[test]
fn numbers_of_what_is_kept_are_counted() {
    uring::block_on(async {
        let (_volume, _, m) = away(Publish::Local).await;
        let (ino, handle) = m.create(Ino::ROOT, b"f").await;
        m.write(ino, handle, 0, &[7; 1000]).await;
        m.ok(Op::Fsync { ino, handle, datasync: false }).await;
        let text = String::from_utf8(m.vfs.report().await.lines()).expect("text");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().expect("a number")
        };
        assert_eq!(value("juicefs_staging_blocks"), 1.0);
        assert_eq!(value("juicefs_staging_block_bytes"), 1000.0);
        assert_eq!(value("jfs_uring_level_bytes_local"), 1000.0);
        assert_eq!(value("jfs_uring_level_blocks_logged"), 0.0);
        assert!(value("juicefs_staging_write_bytes") >= 1000.0);
        assert!(value("jfs_uring_sync_rounds") >= 1.0 && value("jfs_uring_sync_waiters") >= 1.0);
        for name in ["oldest_block_age_seconds", "deadline_misses", "back_pressure_seconds"] {
            assert!(value(&format!("jfs_uring_{name}")) >= 0.0);
        }
    });
}
