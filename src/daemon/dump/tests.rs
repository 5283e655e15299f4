//! Dumps of volumes of the real client beside its own, and of what a tree may hold.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::*;
use crate::limits::DUMP_BATCH;
use crate::meta::mem::MemBase;
use crate::meta::redis::tests::server::TestServer;
use crate::meta::sqlite::SqliteFile;
use crate::meta::{Commit, Mutation, Outcome};
use crate::types::{Attr, CHUNK_BYTES, FileType, SliceRecord, Time};
use crate::uring::block_on;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

async fn dumped(engine: &dyn Engine, skip_trash: bool) -> (Value, u64) {
    let mut out = Vec::new();
    let names = dump(engine, skip_trash, &mut out).await.unwrap();
    (serde_json::from_slice(&out).expect("it is JSON"), names)
}

/// What `juicefs dump` of 1.4.1 wrote of the fixture in Redis.
fn real(name: &str) -> Value {
    let packed = std::fs::read(fixture(name).join("dump.json.gz")).unwrap();
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn volumes_of_the_real_client_are_dumped_as_it_does() {
    for name in
        ["plain", "quota-acl", "trash", "overwrites", "sustained", "clone", "refuse-encrypt"]
    {
        let server = TestServer::start(&[]);
        server.load(&std::fs::read(fixture(name).join("meta.redis")).unwrap());
        let (ours, _) = block_on(dumped(&*server.engine(), false));
        let theirs = real(name);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&theirs), "{name}");
        for key in keys(&theirs) {
            assert_eq!(ours[&key], theirs[&key], "{name}: {key}");
        }
    }
}

#[test]
fn sqlite_is_dumped_alike() {
    for name in ["plain", "quota-acl"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.sqlite3");
        std::fs::copy(fixture(name).join("meta.sqlite3"), &path).unwrap();
        let engine = SqliteFile::open(&path, false).unwrap().engine();
        let (ours, _) = block_on(dumped(&*engine, false));
        let theirs = real(name);
        for key in ["DelFiles", "Quotas", "UserQuotas", "GroupQuotas", "FSTree", "Trash"] {
            assert_eq!(ours.get(key), theirs.get(key), "{name}: {key}");
        }
        for key in ["usedSpace", "usedInodes"] {
            assert_eq!(ours["Counters"][key], theirs["Counters"][key], "{name}: {key}");
        }
    }
}

const SETTING: &str = "{\"Name\":\"v\",\"UUID\":\"u\",\"AccessKey\":\"AK\",\"SecretKey\":\"hush\",\
    \"SessionToken\":\"\",\"EncryptKey\":\"sealed\",\"Unknown\":7}";

fn node(kind: FileType, length: u64) -> Attr {
    Attr { length, ..Attr::new(kind, 0o644, Time { sec: 7, nsec: 0 }) }
}

/// A volume in memory with a root.
async fn volume() -> Rc<dyn Engine> {
    let engine = MemBase::new().engine();
    engine
        .store_setting(SETTING.into(), vec![(Ino::ROOT, node(FileType::Dir, 4096))])
        .await
        .unwrap();
    engine
}

async fn change(engine: &dyn Engine, mutations: Vec<Mutation>) {
    let commit = Commit { expects: Vec::new(), mutations, returns: Vec::new() };
    assert!(matches!(engine.commit(commit).await.unwrap(), Outcome::Applied(_)));
}

fn put(dir: Ino, name: &[u8], ino: Ino, attr: Attr) -> [Mutation; 2] {
    let kind = attr.kind;
    [Mutation::PutEntry(dir, name.into(), kind, ino), Mutation::PutNode(ino, attr)]
}

#[test]
fn the_secrets_of_the_store_stay_out_and_all_else_is_there() {
    let (text, _) = block_on(async { dumped(&*volume().await, false).await });
    let setting = &text["Setting"];
    assert_eq!(setting["SecretKey"], "removed");
    assert_eq!((&setting["AccessKey"], &setting["SessionToken"]), (&json!("AK"), &json!("")));
    assert_eq!((&setting["EncryptKey"], &setting["Unknown"]), (&json!("sealed"), &json!(7)));
    assert_eq!(text["Trash"]["entries"], json!({}));
    let (text, _) = block_on(async { dumped(&*volume().await, true).await });
    assert!(text.get("Trash").is_none());
}

#[test]
fn files_have_all_their_chunks_and_names_their_bytes() {
    let end = 3 * crate::limits::DUMP_CHUNKS as u64;
    block_on(async {
        let engine = volume().await;
        let record = |id| SliceRecord { pos: 0, id, size: 8, off: 0, len: 8 };
        let list = |index, id| Mutation::PushSlices(Ino(2), index, vec![record(id)]);
        let last = end as u32 - 1;
        let mut changes: Vec<_> =
            put(Ino::ROOT, b"big \xff", Ino(2), node(FileType::File, end * CHUNK_BYTES)).into();
        changes.extend([list(0, 5), list(1, 6), list(last / 2, 7), list(last, 8)]);
        // Behind its end a file has nothing.
        changes.push(list(last + 1, 9));
        changes.extend(put(Ino::ROOT, b"empty", Ino(3), node(FileType::File, 0)));
        changes.extend(put(Ino::ROOT, b"link", Ino(4), node(FileType::Symlink, 3)));
        changes.push(Mutation::PutSymlink(Ino(4), b"a\"b"[..].into()));
        changes.push(Mutation::PutXattr(Ino(3), b"k"[..].into(), b"\0\xfe"[..].into()));
        // A name without a node is left out.
        changes.push(Mutation::PutEntry(Ino::ROOT, b"gone"[..].into(), FileType::File, Ino(9)));
        change(&*engine, changes).await;
        let (text, names) = dumped(&*engine, false).await;
        let entries = &text["FSTree"]["entries"];
        let chunks = &entries["big%20%FF"]["chunks"];
        let seen: Vec<_> = chunks.as_array().unwrap().iter().map(|chunk| &chunk["index"]).collect();
        assert_eq!(json!(seen), json!([0, 1, last / 2, last]));
        assert_eq!(chunks[3]["slices"], json!([{"id": 8, "size": 8, "len": 8}]));
        assert!(entries["empty"].get("chunks").is_none());
        assert_eq!(entries["empty"]["xattrs"], json!([{"name": "k", "value": "%00%FE"}]));
        assert_eq!(entries["link"]["symlink"], "a%22b");
        assert_eq!((entries.as_object().unwrap().len(), names), (3, 3));
    });
}

#[test]
fn a_file_of_holes_costs_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    let server = TestServer::start(&[]);
    for engine in [MemBase::new().engine(), file.engine(), server.engine()] {
        let end = 1 << 31;
        let began = std::time::Instant::now();
        block_on(async {
            let root = vec![(Ino::ROOT, node(FileType::Dir, 4096))];
            engine.store_setting(SETTING.into(), root).await.unwrap();
            let record = SliceRecord { pos: 0, id: 5, size: 8, off: 0, len: 8 };
            let large = node(FileType::File, end * CHUNK_BYTES);
            let mut changes: Vec<_> = put(Ino::ROOT, b"large", Ino(2), large).into();
            changes.extend(
                [1, 7_000_000, end as u32 - 1]
                    .map(|index| Mutation::PushSlices(Ino(2), index, vec![record])),
            );
            change(&*engine, changes).await;
            let (text, _) = dumped(&*engine, true).await;
            let chunks = text["FSTree"]["entries"]["large"]["chunks"].as_array().unwrap().clone();
            let seen: Vec<_> = chunks.iter().map(|chunk| &chunk["index"]).collect();
            assert_eq!(json!(seen), json!([1, 7_000_000, end - 1]));
        });
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[test]
fn trees_may_be_wide_and_deep() {
    const DEEP: u64 = 3000;
    let wide = 3 * DUMP_BATCH as u64 + 1;
    block_on(async {
        let engine = volume().await;
        let mut changes = Vec::new();
        for number in 0..DEEP {
            let dir = if number == 0 { Ino::ROOT } else { Ino(9 + number) };
            changes.extend(put(dir, b"d", Ino(10 + number), node(FileType::Dir, 4096)));
        }
        for number in 0..wide {
            let name = format!("f{number:04}");
            let file = node(FileType::Fifo, 0);
            changes.extend(put(Ino(10 + DEEP / 2), name.as_bytes(), Ino(10_000 + number), file));
        }
        change(&*engine, changes).await;
        let mut out = Vec::new();
        assert_eq!(dump(&*engine, false, &mut out).await.unwrap(), DEEP + wide);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("\"d\":{").count() as u64, DEEP);
        assert_eq!(text.matches("\"type\":\"fifo\"").count() as u64, wide);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    });
}

/// Text that is written, and what happens when the name of a directory is.
struct MovedWhen<'a> {
    text: Vec<u8>,
    name: &'static str,
    then: Option<Box<dyn FnOnce() + 'a>>,
}

impl Write for MovedWhen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if String::from_utf8_lossy(&self.text).contains(self.name)
            && let Some(then) = self.then.take()
        {
            then();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_directory_that_moves_meanwhile_is_no_damage() {
    block_on(async {
        let engine = volume().await;
        let dir = || node(FileType::Dir, 4096);
        let mut changes: Vec<_> = put(Ino::ROOT, b"a", Ino(2), dir()).into();
        changes.extend(put(Ino(2), b"b", Ino(3), dir()));
        changes.extend(put(Ino(3), b"file", Ino(4), node(FileType::Fifo, 0)));
        change(&*engine, changes).await;
        // b moves up to the root and a below it, when b is known to be in a and is not listed yet.
        let moves = || {
            let entry =
                |dir, name: &[u8], ino| Mutation::PutEntry(dir, name.into(), FileType::Dir, ino);
            let mutations = vec![
                Mutation::DelEntry(Ino(2), b"b"[..].into()),
                entry(Ino::ROOT, b"b", Ino(3)),
                Mutation::DelEntry(Ino::ROOT, b"a"[..].into()),
                entry(Ino(3), b"a", Ino(2)),
            ];
            let moved = change(&*engine, mutations);
            futures_util::FutureExt::now_or_never(moved).expect("memory answers at once");
        };
        let mut out = MovedWhen { text: Vec::new(), name: "\"b\":{", then: Some(Box::new(moves)) };
        assert_eq!(dump(&*engine, true, &mut out).await.unwrap(), 3);
        let text: Value = serde_json::from_slice(&out.text).expect("it is JSON");
        let inside = &text["FSTree"]["entries"]["a"]["entries"]["b"]["entries"];
        assert_eq!(inside.as_object().unwrap().keys().collect::<Vec<_>>(), ["file"]);
    });
}

#[test]
fn what_would_not_fit_into_memory_is_left_to_others() {
    check_count(5, 5, || unreachable!("so many may be")).unwrap();
    let told = check_count(6, 5, || "names of directory 7".into()).unwrap_err().to_string();
    assert_eq!(
        told,
        "names of directory 7 are more than 5, too many for a backup by a mount; use `juicefs dump`"
    );
}

#[test]
fn a_rule_that_is_missing_ends_with_a_word() {
    block_on(async {
        let engine = volume().await;
        let listed = Attr { access_acl: 9, ..node(FileType::Fifo, 0) };
        change(&*engine, put(Ino::ROOT, b"x", Ino(5), listed).into()).await;
        let told = dump(&*engine, true, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(told.contains("rule 9") && told.contains("inode 5"), "{told}");
    });
}

#[test]
fn a_tree_that_is_none_ends_with_a_word() {
    block_on(async {
        let engine = volume().await;
        let mut changes: Vec<_> = put(Ino::ROOT, b"d", Ino(2), node(FileType::Dir, 4096)).into();
        changes.push(Mutation::PutEntry(Ino(2), b"up"[..].into(), FileType::Dir, Ino(2)));
        change(&*engine, changes).await;
        let told = dump(&*engine, false, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(told.contains("directory 2 is below itself") && told.contains("fsck"), "{told}");
        let engine = volume().await;
        let odd = Mutation::PutEntry(Ino::ROOT, b"x"[..].into(), FileType::File, Ino::ROOT);
        change(&*engine, vec![odd]).await;
        let told = dump(&*engine, false, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(told.contains("inode 1 is not what its name x says"), "{told}");
    });
}
