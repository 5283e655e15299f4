//! Turns of the duties on volumes of the real client, and what is left afterwards counted anew.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::io::Errno;

use super::*;
use crate::config::Setting;
use crate::daemon::{OwnStore, StorePolicy, Stores};
use crate::data::{DataConfig, DataShared};
use crate::meta::redis::tests::server::TestServer;
use crate::meta::sqlite::SqliteFile;
use crate::meta::{
    Commit, Counter, Holder, Key, MetaError, MetaShared, Mutation, NewNode, Rules, Value, Who,
};
use crate::object::{FileStore, Layout, Prefixed, Store};
use crate::pages::Pool;
use crate::stage::Compression;
use crate::stdx::{now, step};
use crate::types::{Attr, CHUNK_BYTES, FileType, Ino, Publish, charged_bytes};
use crate::uring::block_on;
use crate::vfs::{VfsConfig, VfsShared};

/// A fixture in a Redis of its own.
struct World {
    server: TestServer,
    folder: tempfile::TempDir,
    name: &'static str,
    layout: Layout,
}

fn unpack(packed: &[u8], into: &Path) {
    let tar = zstd::stream::decode_all(packed).unwrap();
    let mut child = Command::new("tar")
        .args(["-x", "-f", "-", "-C"])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(child.wait().unwrap().success());
}

impl World {
    fn load(name: &'static str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let server = TestServer::start(&[]);
        server.load(&std::fs::read(from.join("meta.redis")).unwrap());
        let folder = tempfile::tempdir().unwrap();
        unpack(&std::fs::read(from.join("objects.tar.zst")).unwrap(), folder.path());
        Self { server, folder, name, layout: Layout::new(64, false) }
    }

    fn store(&self) -> Rc<dyn Store> {
        let store = FileStore::new(self.folder.path()).unwrap();
        Rc::new(Prefixed::new(store, format!("{}/", self.name)))
    }

    /// A mount of it with a session of its own.
    async fn mount(&self) -> Floors {
        let shared = MetaShared::new(Ino::ROOT, false, 2, Rules::default());
        let meta = Meta::new(self.server.engine(), shared);
        meta.open_session("{}".into(), 300).await.unwrap();
        let data = DataShared::new(DataConfig {
            layout: self.layout,
            compression: Compression::None,
            encrypted: false,
            pool: Pool::new(1 << 20),
            cache: None,
            cache_large_writes: false,
            uploads: 4,
            downloads: 4,
            deletes: 10,
            tries: 2,
            max_readahead_bytes: 0,
            prefetch: 0,
            compacts: true,
            staging: None,
            publish: Publish::Local,
        });
        let data = Data::new(Rc::clone(&meta) as Rc<_>, self.store(), data);
        let shared: Arc<VfsShared> = VfsShared::new();
        let vfs = Vfs::new(Rc::clone(&meta), Rc::clone(&data), shared, VfsConfig::default());
        Floors { vfs, meta, data }
    }

    async fn objects(&self) -> BTreeSet<String> {
        let listed = self.store().list("chunks/".into(), String::new(), 100_000).await.unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    /// All nodes that have a name, each once, with the counters recounted.
    async fn live(&self, meta: &Meta) -> (BTreeSet<Ino>, i64, i64) {
        let (mut seen, mut space, mut stack) = (BTreeSet::new(), 0, vec![Ino::ROOT, Ino::TRASH]);
        while let Some(dir) = stack.pop() {
            for entry in meta.list(dir, true).await.unwrap() {
                let attr = entry.attr.expect("a name has a node");
                if seen.insert(entry.ino) {
                    space += charged_bytes(attr.kind, attr.length);
                    if entry.kind == FileType::Dir {
                        stack.push(entry.ino);
                    }
                }
            }
        }
        let inodes = seen.len() as i64;
        (seen, space, inodes)
    }

    /// Objects are exactly those that live files list, counters are what is counted, and nothing of
    /// a dead session is left.
    async fn is_sound(&self, meta: &Meta) {
        let (nodes, space, inodes) = self.live(meta).await;
        let counters = [Counter::UsedSpace, Counter::TotalInodes].map(Key::Counter);
        let found = meta.engine().fetch(&counters).await.unwrap();
        assert_eq!(found, [Value::Counter(space), Value::Counter(inodes)]);
        let mut listed = BTreeSet::new();
        for ino in nodes {
            let node = meta.getattr(ino).await.unwrap();
            let chunks = node.length.div_ceil(CHUNK_BYTES) as u32;
            for index in 0..chunks.min(2) {
                let keys = [Key::Chunk(ino, index)];
                let Value::Chunk(records) = meta.engine().fetch(&keys).await.unwrap().remove(0)
                else {
                    panic!("a chunk was asked for")
                };
                for record in records.iter().filter(|record| record.id > 0) {
                    let blocks = self.layout.blocks(record.id, record.size);
                    listed.extend(blocks.map(|block| self.layout.name(block)));
                }
            }
        }
        assert_eq!(self.objects().await, listed);
        for pattern in ["session?", "locked*", "lockf*", "lockp*"] {
            assert_eq!(self.server.text(&format!("KEYS {pattern}")), "", "{pattern}");
        }
    }
}

fn long() -> Turn {
    Turn::lasting(Duration::from_secs(600))
}

/// Both looks of a turn; how many sessions came to their end.
async fn end(floors: &Floors, turn: Turn) -> usize {
    let suspects = sessions::overdue(&floors.meta).await.unwrap();
    sessions::end_dead(&floors.meta, &floors.data, turn, &suspects).await.unwrap()
}

#[test]
fn a_dead_session_goes_with_its_files_and_locks() {
    for (name, kept, objects) in [("sustained", 4, 6), ("trash", 3, 5)] {
        let world = World::load(name);
        block_on(async {
            let floors = world.mount().await;
            let before = world.objects().await.len();
            let named = world.live(&floors.meta).await.0;
            assert_ne!(world.server.text("KEYS lockf*"), "");
            assert_eq!(world.server.text("SCARD session2"), kept.to_string());
            assert_eq!(end(&floors, long()).await, 1);
            assert_eq!(world.objects().await.len(), before - objects, "{name}");
            assert_eq!(world.live(&floors.meta).await.0, named, "names are not touched");
            world.is_sound(&floors.meta).await;
            // This mount's own session lives on.
            let left = floors.meta.sessions().await.unwrap();
            assert_eq!(left.len(), 1);
            assert_eq!(left[0].sid, floors.meta.lock_owner(0).sid);
            assert_eq!(end(&floors, long()).await, 0);
        });
    }
}

#[test]
fn one_turn_ends_one_session_at_least_and_the_next_goes_on() {
    let world = World::load("sustained");
    block_on(async {
        let floors = world.mount().await;
        for sid in [70, 71, 72] {
            let info = "{}".into();
            let dead = crate::meta::Session { sid, expire: 1000, info };
            floors.meta.engine().put_session(dead).await.unwrap();
        }
        let none = Turn::lasting(Duration::ZERO);
        for left in [4, 3, 2, 1] {
            assert_eq!(end(&floors, none).await, 1);
            assert_eq!(floors.meta.sessions().await.unwrap().len(), left);
        }
        assert_eq!(end(&floors, none).await, 0);
    });
}

#[test]
fn the_trash_goes_after_its_days() {
    let world = World::load("trash");
    block_on(async {
        let floors = world.mount().await;
        end(&floors, long()).await;
        let all = world.objects().await;
        let names = world.live(&floors.meta).await.0;
        let (century_s, none) = (100 * 365 * 86_400, Turn::lasting(Duration::ZERO));
        hourly::expired_names(&floors, century_s, long()).await.unwrap();
        hourly::expired_names(&floors, 0, none).await.unwrap();
        assert_eq!(world.live(&floors.meta).await.0, names, "neither too early nor without time");
        hourly::expired_names(&floors, 2 * 86_400, long()).await.unwrap();
        assert_eq!(floors.meta.trash_folders().await.unwrap(), []);
        assert_eq!(floors.meta.list(Ino::TRASH, false).await.unwrap(), []);
        Rc::clone(&floors.vfs).drain().await;
        // What was still waiting at the end of the mount is in the queue of the volume.
        let now_s = now().sec;
        while !floors.meta.queued_files(now_s + 1, 1).await.unwrap().is_empty() {
            let queued = floors.meta.queued_files(now_s + 1, 100).await.unwrap();
            assert!(remove_data(&floors.data, queued).await);
        }
        world.is_sound(&floors.meta).await;
        assert!(world.objects().await.len() < all.len());
    });
}

#[test]
fn what_other_clients_left_is_removed() {
    let world = World::load("sustained");
    block_on(async {
        let floors = world.mount().await;
        end(&floors, long()).await;
        let before = world.objects().await;
        let put = async |id, bytes: &[u8]| {
            let key = crate::object::BlockKey { id, index: 0, size: bytes.len() as u32 };
            let page = crate::pages::Page::from_vec(bytes.to_vec());
            world.store().put(world.layout.name(key), vec![page]).await.unwrap();
        };
        // A file deleted long ago, one deleted now, slices without a reference, and one replaced.
        let record = |id| crate::types::SliceRecord { pos: 0, id, size: 3, off: 0, len: 3 };
        let aside = |by, at, id| crate::meta::Delayed { by, at, slices: vec![(id, 3)] };
        for id in 9001..=9008 {
            put(id, b"abc").await;
        }
        let now_s = now().sec;
        let mutations = vec![
            Mutation::PushSlices(Ino(5001), 0, vec![record(9001)]),
            Mutation::PushSlices(Ino(5002), 0, vec![record(9002)]),
            Mutation::QueueFile(Ino(5001), 3, now_s - 7200),
            Mutation::QueueFile(Ino(5002), 3, now_s),
            Mutation::AddSliceRef(9003, 3, -1),
            Mutation::AddSliceRef(9004, 3, -1),
            Mutation::AddSliceRef(9005, 3, 1),
            Mutation::PutDelayed(aside(9100, now_s - 3 * 86_400, 9006)),
            Mutation::PutDelayed(aside(9101, now_s - 86_400, 9007)),
            Mutation::AddSliceRef(9008, 3, 1),
            Mutation::PutDelayed(aside(9102, now_s - 3 * 86_400, 9008)),
        ];
        let commit = Commit { mutations, ..Commit::default() };
        floors.meta.engine().commit(commit).await.unwrap();
        hourly::queued_files(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::unused_slices(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::replaced_slices(&floors.meta, &floors.data, 2 * 86_400, long()).await.unwrap();
        let added: Vec<_> = world.objects().await.difference(&before).cloned().collect();
        let kept = [9002, 9005, 9007, 9008];
        assert_eq!(added, kept.map(|id| format!("chunks/0/9/{id}_0_3")));
        // The one that is shared has one reference left, and the hash only what says something.
        assert_eq!(world.server.text("HGETALL sliceRef"), "k9005_3 1 k9008_3 0");
        assert_eq!(world.server.text("HKEYS delSlices"), format!("9101_{}", now_s - 86_400));
        hourly::unused_slices(&floors.meta, &floors.data, long()).await.unwrap();
        assert_eq!(world.server.text("HGETALL sliceRef"), "k9005_3 1");
    });
}

#[test]
fn a_mount_that_takes_no_changes_does_no_job_to_its_end() {
    let world = World::load("sustained");
    block_on(async {
        let floors = world.mount().await;
        let queue = Mutation::QueueFile(Ino(5001), 3, now().sec - 7200);
        let unused = Mutation::AddSliceRef(9003, 3, -1);
        let aside = crate::meta::Delayed { by: 9100, at: 1000, slices: vec![(9006, 3)] };
        let mutations = vec![queue, unused, Mutation::PutDelayed(aside)];
        let commit = Commit { mutations, ..Commit::default() };
        floors.meta.engine().commit(commit).await.unwrap();
        let all = || {
            let parts = ["KEYS *", "ZRANGE delfiles 0 -1", "HGETALL sliceRef", "HGETALL delSlices"];
            parts.map(|command| world.server.text(command))
        };
        let before = all();
        floors.meta.set_held(true);
        assert_eq!(end(&floors, long()).await, 0, "the dead session stays");
        hourly::queued_files(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::unused_slices(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::replaced_slices(&floors.meta, &floors.data, 0, long()).await.unwrap();
        hourly::expired_names(&floors, 0, long()).await.unwrap();
        assert_eq!(all(), before);
        floors.meta.set_held(false);
        assert_eq!(end(&floors, long()).await, 1);
        hourly::queued_files(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::unused_slices(&floors.meta, &floors.data, long()).await.unwrap();
        hourly::replaced_slices(&floors.meta, &floors.data, 0, long()).await.unwrap();
        assert_ne!(all(), before);
        assert_eq!(world.server.text("HLEN delSlices"), "0");
    });
}

#[test]
fn a_turn_has_an_end_and_begins_at_no_common_time() {
    assert!(Turn::lasting(Duration::ZERO).is_over());
    assert!(!long().is_over());
    let (hour, mut chance) = (Duration::from_secs(3600), Chance::seeded(1));
    let all: BTreeSet<_> = (0..1000).map(|_| about(hour, &mut chance)).collect();
    assert_eq!(*all.first().unwrap(), hour * 95 / 100);
    assert_eq!(*all.last().unwrap(), hour * 105 / 100);
    assert_eq!(due_s(hour), 3240);
}

#[test]
fn clocks_that_jump_end_nobody_who_lives() {
    const DAY_S: i64 = 86_400;
    let world = World::load("sustained");
    block_on(async {
        let (floors, other) = (world.mount().await, world.mount().await);
        assert_eq!(end(&floors, long()).await, 1, "the dead one of the fixture");
        let sids = [&floors, &other].map(|floors| floors.meta.lock_owner(0).sid);
        let lock = |sid| {
            let owner = crate::meta::LockOwner { sid, owner: 7 };
            Mutation::SetFlock(Ino(sid + 5000), owner, Some(true))
        };
        let mutations = sids.map(lock).into();
        let commit = Commit { mutations, ..Commit::default() };
        floors.meta.engine().commit(commit).await.unwrap();
        let expiry = async |sid| {
            let known = floors.meta.sessions().await.unwrap();
            known.iter().find(|session| session.sid == sid).map(|session| session.expire)
        };
        let began = now().sec;
        // Ours jumps ahead: all look dead to us, and we ourselves.
        step::set_ahead_s(DAY_S);
        let suspects = sessions::overdue(&floors.meta).await.unwrap();
        assert_eq!(suspects.keys().collect::<Vec<_>>(), [&sids[1]], "never its own");
        // The other one, whose clock is right, lives: it is heard of before the second look.
        step::set_ahead_s(0);
        other.meta.heartbeat("{}".into(), 305).await.unwrap();
        step::set_ahead_s(DAY_S);
        let ended =
            sessions::end_dead(&floors.meta, &floors.data, long(), &suspects).await.unwrap();
        assert_eq!(ended, 0);
        floors.meta.heartbeat("{}".into(), 300).await.unwrap();
        assert!(expiry(sids[0]).await.unwrap() >= began + DAY_S + 300);
        // Ours goes back, by two days: it stays alive to those whose clocks are right.
        step::set_ahead_s(-DAY_S);
        floors.meta.heartbeat("{}".into(), 300).await.unwrap();
        step::set_ahead_s(0);
        assert!(expiry(sids[0]).await.unwrap() >= began + 300);
        assert_eq!(end(&other, long()).await, 0);
        for sid in sids {
            let kept = world.server.text(&format!("HLEN lockf{}", sid + 5000));
            assert_eq!(kept, "1", "the lock of session {sid} is lost");
        }
        // Who is silent is ended, whatever the clock was in between.
        step::set_ahead_s(DAY_S);
        assert_eq!(end(&floors, long()).await, 1);
        step::set_ahead_s(0);
        assert_eq!(expiry(sids[1]).await, None);
        assert!(expiry(sids[0]).await.is_some());
    });
}

#[test]
fn a_clock_that_jumps_ahead_is_not_believed_at_once() {
    let hour_ns = |hours: u64| hours * 3600 * 1_000_000_000;
    let mut clock = hourly::Steady::seen(1000, hour_ns(1));
    assert!(clock.is_steady(1000 + 3600 + 200, hour_ns(2)), "put right a little");
    assert!(!clock.is_steady(1000 + 7200 + 200 + 86_400, hour_ns(3)));
    assert!(clock.is_steady(1000 + 10_800 + 200 + 86_400, hour_ns(4)), "it stayed so for an hour");
    assert!(clock.is_steady(1000 + 14_400, hour_ns(5)), "back: what is due waits longer");
}

/// What this process holds: bytes of memory of its own, and descriptors.
fn held() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kib << 10, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// A day of heartbeats of 12 s, with what other clients do meanwhile: a mount each 6 minutes, one in
/// ten of which dies. Alone in its process, for its memory is measured.
#[test]
#[ignore = "run by a_day_of_duties_leaves_nothing_behind in a process of its own"]
fn a_day_of_duties() {
    const BEATS: u64 = 7200;
    const GROWTH_BYTES_MAX: usize = 1 << 20;
    crate::daemon::give_back_large_memory();
    let world = World::load("sustained");
    let duties = Duties { heartbeat: Duration::from_secs(12), clean_up: true };
    block_on(async {
        let floors = world.mount().await;
        let mut warm = None;
        for beat in 1..=BEATS {
            beat_once(&floors.meta, &duties, "{}").await;
            floors.meta.win_job("lastCleanupSessions", due_s(duties.heartbeat)).await.unwrap();
            end(&floors, long()).await;
            if beat % 30 == 0 {
                let other = world.mount().await;
                let sid = other.meta.lock_owner(0).sid;
                if beat % 300 == 0 {
                    let info = "{}".into();
                    let dead = crate::meta::Session { sid, expire: 1000, info };
                    other.meta.engine().put_session(dead).await.unwrap();
                } else {
                    let gone = other.meta.close_session(sid).await.unwrap();
                    remove_data(&other.data, gone).await;
                }
                Rc::clone(&other.vfs).drain().await;
            }
            if beat == BEATS / 4 {
                warm = Some(held());
            }
        }
        let (warm, last) = (warm.unwrap(), held());
        println!("{BEATS} heartbeats, {} mounts: {warm:?}, then {last:?}", BEATS / 30);
        assert_eq!(last.1, warm.1, "descriptors");
        assert!(last.0 <= warm.0 + GROWTH_BYTES_MAX, "memory: {} bytes, then {}", warm.0, last.0);
        assert_eq!(end(&floors, long()).await, 1, "the last that died");
        assert_eq!(floors.meta.sessions().await.unwrap().len(), 1);
    });
}

#[test]
fn a_day_of_duties_leaves_nothing_behind() {
    let program = std::env::current_exe().unwrap();
    let name = "daemon::jobs::tests::a_day_of_duties";
    let words = [name, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    let done = Command::new(program).args(words).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{told}{}", String::from_utf8_lossy(&done.stderr));
    assert!(told.contains("7200 heartbeats, 240 mounts") && told.contains("1 passed"), "{told}");
}

#[test]
fn limits_and_days_are_obeyed_while_the_volume_is_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    let server = TestServer::start(&[]);
    for engine in [file.engine(), server.engine()] {
        let other = Rc::clone(&engine);
        let shared = MetaShared::new(Ino::ROOT, false, 0, Rules::default());
        let meta = Meta::new(engine, shared);
        block_on(async {
            let root = Attr::new(FileType::Dir, 0o777, now());
            let nodes = vec![(Ino::ROOT, root.clone()), (Ino::TRASH, root)];
            let mut setting = Setting::new("vol", "uuid", "file", "/b/");
            setting.set("TrashDays", 0);
            other.store_setting(setting.to_json(), nodes).await.unwrap();
            let who = Who { uid: 0, gid: 0 };
            let new =
                NewNode { kind: FileType::File, mode: 0o644, umask: 0, rdev: 0, target: None };
            let make = async |name: &[u8]| meta.create(Ino::ROOT, name, &new, who).await;
            make(b"a").await.unwrap();
            // As `juicefs config` does it, elsewhere.
            setting.set("Inodes", 1);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            make(b"b").await.unwrap();
            setting::obey(&meta).await.unwrap();
            assert!(matches!(make(b"c").await, Err(MetaError::Posix(Errno::NOSPC))));
            setting.set("Inodes", 0);
            setting.set("Capacity", 4096);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::obey(&meta).await.unwrap();
            assert!(matches!(make(b"c").await, Err(MetaError::Posix(Errno::NOSPC))));
            setting.set("Capacity", 0);
            setting.set("TrashDays", 1);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::obey(&meta).await.unwrap();
            make(b"c").await.unwrap();
            meta.unlink(Ino::ROOT, b"a", who, &|_| false).await.unwrap();
            assert_eq!(meta.list(Ino::TRASH, false).await.unwrap().len(), 1, "it is in the trash");
            // As `juicefs quota set --uid` does it.
            setting.set("UserGroupQuota", true);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::obey(&meta).await.unwrap();
            meta.load_quotas().await.unwrap();
            make(b"e").await.unwrap();
            let counted = other.fetch(&[Key::Quota(Holder::User(0))]).await.unwrap();
            assert!(matches!(&counted[0], Value::Quota(Some(quota)) if quota.used_inodes == 1));
            setting.set("ChangeLog", true);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            assert!(matches!(setting::obey(&meta).await, Err(hourly::Obstacle::Setting(_))));
            other.store_setting("no setting".into(), Vec::new()).await.unwrap();
            assert!(matches!(setting::obey(&meta).await, Err(hourly::Obstacle::Setting(_))));
            make(b"d").await.unwrap();
        });
    }
}

#[test]
fn a_mount_follows_its_setting_or_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    let server = TestServer::start(&[]);
    for engine in [file.engine(), server.engine()] {
        let other = Rc::clone(&engine);
        let meta = Meta::new(engine, MetaShared::new(Ino::ROOT, false, 0, Rules::default()));
        let mut setting = Setting::new("vol", "uuid-1", "file", "/b/");
        let mounted = |read_only| {
            let (own, policy) = (OwnStore::default(), StorePolicy::asking());
            let stores = Stores::open(&setting, own, policy).unwrap();
            Mounted::new("uuid-1", read_only, stores)
        };
        let (writes, reads) = (mounted(false), mounted(true));
        block_on(async {
            let root = Attr::new(FileType::Dir, 0o777, now());
            let gone = setting::look(&meta, &writes).await.unwrap_err().to_string();
            assert!(gone.contains("holds no volume any more"), "{gone}");
            other.store_setting(setting.to_json(), vec![(Ino::ROOT, root)]).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            assert!(!meta.is_held());
            setting.set("ChangeLog", true);
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &reads).await.unwrap();
            assert!(!meta.is_held(), "who only reads goes on");
            setting::look(&meta, &writes).await.unwrap();
            assert!(meta.is_held());
            setting.set("ChangeLog", false);
            setting.set("MinClientVersion", "9.0.0");
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            assert!(meta.is_held(), "as long as not all is well");
            setting.set("MinClientVersion", "1.1.0-A");
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            assert!(!meta.is_held(), "and takes changes again");
            setting.set("Bucket", "/elsewhere/");
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            let place = writes.stores.store().describe();
            assert!(!meta.is_held() && place.contains("/elsewhere/"), "{place}");
            setting.set("Storage", "ceph");
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            assert!(meta.is_held(), "where it cannot store nothing is written");
            setting.set("Storage", "file");
            other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
            setting::look(&meta, &writes).await.unwrap();
            assert!(!meta.is_held());
            other.store_setting("no setting".into(), Vec::new()).await.unwrap();
            let odd = setting::look(&meta, &writes).await;
            assert!(matches!(odd, Err(hourly::Obstacle::Setting(_))), "{odd:?}");
            let gone = async |setting: &Setting| {
                other.store_setting(setting.to_json(), Vec::new()).await.unwrap();
                match setting::look(&meta, &reads).await {
                    Err(hourly::Obstacle::Gone(text)) => text,
                    other => panic!("{other:?}"),
                }
            };
            let mut newer = setting.clone();
            newer.set("MetaVersion", 2);
            assert!(gone(&newer).await.contains("metadata version: 2"));
            let foreign = gone(&Setting::new("vol", "uuid-2", "file", "/b/")).await;
            assert!(foreign.contains("UUID uuid-2 in place of uuid-1"), "{foreign}");
        });
    }
}

#[test]
fn what_is_held_takes_no_changes_and_stores_those_it_took() {
    use crate::vfs::op::{Caller, Op, Payload, Reply, Request};
    let world = World::load("sustained");
    block_on(async {
        let floors = world.mount().await;
        let ask = async |op: Op| {
            let caller = Caller { uid: 0, gid: 0, pid: 1 };
            Rc::clone(&floors.vfs).handle(Request { unique: 1, caller, op }).await
        };
        let create = Op::Create {
            dir: Ino::ROOT,
            name: b"new"[..].into(),
            mode: libc::S_IFREG | 0o644,
            umask: 0,
            flags: libc::O_RDWR as u32,
        };
        let Reply::Create { handle, .. } = ask(create).await else { panic!("a file is made") };
        let write = |cached| Op::Write {
            ino: Ino(0),
            handle,
            offset: 0,
            data: Payload(Box::new(vec![7; 100_000])),
            flags: 0,
            kill_priv: false,
            cached,
        };
        assert!(matches!(ask(write(false)).await, Reply::Written(100_000)));
        floors.meta.set_held(true);
        assert!(matches!(ask(write(false)).await, Reply::Error(libc::EROFS)));
        assert!(matches!(ask(write(true)).await, Reply::Written(100_000)), "it was written before");
        let mkdir = || Op::Mkdir { dir: Ino::ROOT, name: b"d"[..].into(), mode: 0o755, umask: 0 };
        assert!(matches!(ask(mkdir()).await, Reply::Error(libc::EROFS)));
        let open = |flags: i32| Op::Open { ino: Ino::ROOT, flags: flags as u32, kill_priv: false };
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC] {
            assert!(matches!(ask(open(flags)).await, Reply::Error(libc::EROFS)), "{flags}");
        }
        let lookup = Op::Lookup { dir: Ino::ROOT, name: b"new"[..].into() };
        let Reply::Entry(entry) = ask(lookup).await else { panic!("names are there") };
        let flush = Op::Flush { ino: Ino(0), handle, lock_owner: 0 };
        assert!(matches!(ask(flush).await, Reply::Ok));
        assert_eq!(floors.meta.getattr(entry.ino).await.unwrap().length, 100_000);
        floors.meta.set_held(false);
        assert!(matches!(ask(mkdir()).await, Reply::Entry(_)));
    });
}
