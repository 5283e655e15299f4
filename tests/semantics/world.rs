//! A volume and mounts of it, without a kernel.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jfs_uring::data::{Data, DataConfig, DataShared};
use jfs_uring::meta::sqlite::SqliteFile;
use jfs_uring::meta::{Meta, MetaShared, Rules};
use jfs_uring::object::{Layout, Local, ObjectInfo, Store, StoreError, mem};
use jfs_uring::pages::{Page, Pool};
use jfs_uring::stage::{
    BlockCache, CacheConfig, Compression, Staging, StagingConfig, StagingError,
};
use jfs_uring::types::{Attr, FileType, Ino, Time};
use jfs_uring::uring;
use jfs_uring::vfs::op::{
    Caller, DirentReply, EntryReply, LockRange, Op, Payload, Reply, Request, SetAttr,
};
use jfs_uring::vfs::{Vfs, VfsConfig, VfsShared};

pub const RDONLY: u32 = libc::O_RDONLY as u32;
pub const WRONLY: u32 = libc::O_WRONLY as u32;
pub const RDWR: u32 = libc::O_RDWR as u32;
pub const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 100 };
pub const USER: Caller = Caller { uid: 1000, gid: 1000, pid: 101 };

const DATABASE: &str = "meta.db";
/// The volume, as cache folders know it.
pub const VOLUME: &str = "semantics";

/// A volume; it goes with this.
pub struct Volume {
    folder: tempfile::TempDir,
    store: String,
    pub trash_days: u64,
    /// Later mounts compact what they meet.
    pub compacts: bool,
    /// Limits and settings that later mounts follow.
    pub rules: Rules,
}

/// One mount of a volume, on one core.
pub struct Mount {
    pub vfs: Rc<Vfs>,
    pub meta: Rc<Meta>,
    /// File bytes below it.
    pub data: Rc<Data>,
    /// What is kept on this machine.
    pub staging: Option<Arc<Staging>>,
    shared: Arc<VfsShared>,
    next_unique: Cell<u64>,
}

/// Run a test against one mount of a fresh volume.
pub fn with_mount<F: Future<Output = ()>>(test: impl FnOnce(Rc<Mount>) -> F) {
    with_config(VfsConfig { xattr: true, ..VfsConfig::default() }, test);
}

/// As [`with_mount`], with these settings.
pub fn with_config<F: Future<Output = ()>>(config: VfsConfig, test: impl FnOnce(Rc<Mount>) -> F) {
    uring::block_on(async {
        let volume = Volume::format(0).await;
        let mount = volume.mount(config).await;
        test(Rc::clone(&mount)).await;
        Rc::clone(&mount.vfs).drain().await;
    });
}

impl Volume {
    pub async fn format(trash_days: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().display().to_string();
        let engine = SqliteFile::open(&folder.path().join(DATABASE), true).expect("a database");
        let time = Time { sec: 1_700_000_000, nsec: 0 };
        let root = Attr::new(FileType::Dir, 0o777, time);
        let trash = Attr { mode: 0o555, ..root.clone() };
        let init = vec![(Ino::ROOT, root), (Ino::TRASH, trash)];
        engine.engine().store_setting("{}".into(), init).await.expect("formatted");
        Self { folder, store, trash_days, compacts: false, rules: Rules::default() }
    }

    pub async fn mount(&self, config: VfsConfig) -> Rc<Mount> {
        self.mount_on(config, Rc::new(mem::open(&self.store))).await
    }

    /// As [`Volume::mount`], with objects behind `store`; see [`Volume::broken_store`].
    pub async fn mount_on(&self, config: VfsConfig, store: Rc<dyn Store>) -> Rc<Mount> {
        self.mount_with(config, store, None).await
    }

    /// As [`Volume::mount_on`], and what waits for its upload is in a folder of the volume. It is taken
    /// over from mounts before; new blocks are kept there if `config` says so.
    pub async fn mount_keeping(&self, config: VfsConfig, store: Rc<dyn Store>) -> Rc<Mount> {
        let staging = self.staging(config.writeback).expect("the folder is free");
        let mount = self.mount_with(config, store, Some(staging)).await;
        if mount.data.recover().await.expect("taken over") {
            mount.shared.expect_unpublished();
        }
        uring::spawn(Rc::clone(&mount.data).drain());
        uring::spawn(Rc::clone(&mount.vfs).follow_commits());
        mount
    }

    /// What waits for its upload.
    pub fn staging(&self, takes: bool) -> Result<Arc<Staging>, StagingError> {
        let config = StagingConfig {
            folders: vec![self.cache_folder()],
            takes,
            threshold_bytes: 0,
            max_bytes: 0,
            max_writes: 0,
            upload_delay: Duration::ZERO,
            upload_hours: None,
            upload_deadline: Duration::ZERO,
            free_space_ratio: 0.0,
            file_mode: 0o600,
            checksums: true,
        };
        Staging::open(&config, VOLUME, Layout::new(64, false), None)
    }

    /// Where blocks wait for their upload.
    pub fn cache_folder(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    async fn mount_with(
        &self,
        config: VfsConfig,
        store: Rc<dyn Store>,
        staging: Option<Arc<Staging>>,
    ) -> Rc<Mount> {
        let file = SqliteFile::open(&self.database(), false);
        let engine = file.expect("a database").engine();
        let shared = MetaShared::new(Ino::ROOT, config.read_only, self.trash_days, self.rules);
        let meta = Meta::new(engine, shared);
        if !config.read_only {
            meta.open_session("{}".into(), 300).await.expect("a session");
        }
        let layout = Layout::new(64, false);
        let cache = CacheConfig { memory_bytes: 8 << 20, ..CacheConfig::default() };
        let shared = DataShared::new(DataConfig {
            layout,
            compression: Compression::None,
            encrypted: false,
            pool: Pool::new(8 << 20),
            cache: Some(BlockCache::open(&cache, VOLUME, layout).expect("memory only")),
            cache_large_writes: false,
            uploads: 4,
            downloads: 4,
            deletes: 10,
            tries: 2,
            max_readahead_bytes: 1 << 20,
            prefetch: 1,
            compacts: self.compacts,
            staging: staging.clone(),
            publish: config.publish,
        });
        let data = Data::new(Rc::clone(&meta) as Rc<_>, store, shared);
        let shared = VfsShared::new();
        let vfs = Vfs::new(Rc::clone(&meta), Rc::clone(&data), Arc::clone(&shared), config);
        Rc::new(Mount { vfs, meta, data, staging, shared, next_unique: Cell::new(2) })
    }

    /// Where the engine's file is.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }

    /// The store of this volume, which may be told to refuse.
    pub fn broken_store(&self) -> Rc<BrokenStore> {
        Rc::new(BrokenStore { inner: mem::open(&self.store), put_error: Rc::default() })
    }

    /// The store of this volume.
    pub fn store(&self) -> mem::MemStore {
        mem::open(&self.store)
    }

    /// Objects in the store.
    pub async fn objects(&self) -> usize {
        let list = mem::open(&self.store).list(String::new(), String::new(), 100_000).await;
        list.expect("a list").len()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        mem::forget(&self.store);
    }
}

/// A store of which puts fail with an error while there is one; clones fail together.
#[derive(Clone)]
pub struct BrokenStore {
    inner: mem::MemStore,
    pub put_error: Rc<RefCell<Option<StoreError>>>,
}

impl Store for BrokenStore {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        match self.put_error.borrow().clone() {
            Some(error) => Box::pin(async move { Err(error) }),
            None => self.inner.put(key, body),
        }
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        self.inner.get(key, offset, into)
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        self.inner.delete(key)
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        self.inner.list(prefix, start_after, limit)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// Wait until `is_so`, for things that happen in the background.
pub async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    for _ in 0..2000 {
        if is_so().await {
            return;
        }
        uring::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen");
}

impl Mount {
    fn request(&self, caller: Caller, op: Op) -> Request {
        self.next_unique.set(self.next_unique.get() + 2);
        Request { unique: self.next_unique.get(), caller, op }
    }

    /// The kernel's number of the next request.
    pub fn next_unique(&self) -> u64 {
        self.next_unique.get() + 2
    }

    pub async fn ask_as(&self, caller: Caller, op: Op) -> Reply {
        let request = self.request(caller, op);
        Rc::clone(&self.vfs).handle(request).await
    }

    pub async fn ask(&self, op: Op) -> Reply {
        self.ask_as(ROOT, op).await
    }

    /// The answer, which must need no wait.
    pub fn at_once(&self, op: Op) -> Reply {
        let request = self.request(ROOT, op);
        let future = pin!(Rc::clone(&self.vfs).handle(request));
        match { future }.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => reply,
            Poll::Pending => panic!("this must not wait"),
        }
    }

    pub async fn errno(&self, op: Op) -> i32 {
        let told = format!("{op:?}");
        match self.ask(op).await {
            Reply::Error(errno) => errno,
            other => panic!("{told} worked: {other:?}"),
        }
    }

    pub async fn ok(&self, op: Op) {
        let told = format!("{op:?}");
        match self.ask(op).await {
            Reply::Ok => {}
            other => panic!("{told}: {other:?}"),
        }
    }

    pub async fn entry(&self, op: Op) -> EntryReply {
        let told = format!("{op:?}");
        match self.ask(op).await {
            Reply::Entry(entry) => entry,
            other => panic!("{told}: {other:?}"),
        }
    }

    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> EntryReply {
        self.entry(Op::Lookup { dir, name: name.into() }).await
    }

    pub async fn absent(&self, dir: Ino, name: &[u8]) {
        assert_eq!(self.errno(Op::Lookup { dir, name: name.into() }).await, libc::ENOENT);
    }

    pub async fn mkdir(&self, dir: Ino, name: &[u8]) -> Ino {
        self.entry(Op::Mkdir { dir, name: name.into(), mode: 0o755, umask: 0 }).await.ino
    }

    /// A new file and a handle of it.
    pub async fn create(&self, dir: Ino, name: &[u8]) -> (Ino, u64) {
        let op = Op::Create { dir, name: name.into(), mode: 0o644, umask: 0, flags: RDWR };
        match self.ask(op).await {
            Reply::Create { entry, handle, .. } => (entry.ino, handle),
            other => panic!("create: {other:?}"),
        }
    }

    /// Handle and open flags.
    pub async fn open(&self, ino: Ino, flags: u32) -> (u64, u32) {
        match self.ask(Op::Open { ino, flags, kill_priv: false }).await {
            Reply::Open { handle, open_flags } => (handle, open_flags),
            other => panic!("open: {other:?}"),
        }
    }

    pub fn write_op(ino: Ino, handle: u64, offset: u64, bytes: &[u8]) -> Op {
        let data = Payload(Box::new(bytes.to_vec()));
        Op::Write { ino, handle, offset, data, flags: 0, kill_priv: false, cached: false }
    }

    pub async fn write(&self, ino: Ino, handle: u64, offset: u64, bytes: &[u8]) {
        match self.ask(Self::write_op(ino, handle, offset, bytes)).await {
            Reply::Written(count) => assert_eq!(count as usize, bytes.len()),
            other => panic!("write: {other:?}"),
        }
    }

    pub async fn read(&self, ino: Ino, handle: u64, offset: u64, len_bytes: u32) -> Vec<u8> {
        match self.ask(Op::Read { ino, handle, offset, len_bytes, flags: 0 }).await {
            Reply::Data(pages) => pages.iter().flat_map(|page| page.to_vec()).collect(),
            other => panic!("read: {other:?}"),
        }
    }

    /// close(2) of the only descriptor.
    pub async fn close(&self, ino: Ino, handle: u64) {
        self.ok(Op::Flush { ino, handle, lock_owner: 1 }).await;
        self.release(ino, handle).await;
    }

    pub async fn release(&self, ino: Ino, handle: u64) {
        self.ok(Op::Release { ino, handle, flags: 0, flock_owner: None, lock_owner: 0 }).await;
    }

    /// A closed file with this content.
    pub async fn put(&self, dir: Ino, name: &[u8], bytes: &[u8]) -> Ino {
        let (ino, handle) = self.create(dir, name).await;
        self.write(ino, handle, 0, bytes).await;
        self.close(ino, handle).await;
        ino
    }

    /// All bytes of a file, through a handle of its own.
    pub async fn cat(&self, ino: Ino) -> Vec<u8> {
        let (handle, _) = self.open(ino, RDONLY).await;
        let length = self.attr(ino).await.length;
        let bytes = self.read(ino, handle, 0, length as u32).await;
        self.release(ino, handle).await;
        bytes
    }

    pub async fn attr(&self, ino: Ino) -> Attr {
        match self.ask(Op::Getattr { ino, handle: None }).await {
            Reply::Attr { attr, .. } => attr,
            other => panic!("getattr: {other:?}"),
        }
    }

    pub async fn setattr(&self, ino: Ino, set: SetAttr) -> Attr {
        match self.ask(Op::Setattr { ino, set }).await {
            Reply::Attr { attr, .. } => attr,
            other => panic!("setattr: {other:?}"),
        }
    }

    pub async fn truncate(&self, ino: Ino, length: u64) -> Attr {
        self.setattr(ino, SetAttr { size: Some(length), ..SetAttr::default() }).await
    }

    pub async fn opendir(&self, ino: Ino) -> u64 {
        match self.ask(Op::Opendir { ino, flags: 0 }).await {
            Reply::Open { handle, .. } => handle,
            other => panic!("opendir: {other:?}"),
        }
    }

    pub async fn readdir(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        len_bytes: u32,
        plus: bool,
    ) -> Vec<DirentReply> {
        match self.ask(Op::Readdir { ino, handle, offset, len_bytes, plus }).await {
            Reply::Dirents(entries) => entries,
            other => panic!("readdir: {other:?}"),
        }
    }

    /// All names of a directory, sorted, without the dots, the trash and the files of the mount.
    pub async fn names(&self, ino: Ino) -> Vec<String> {
        let handle = self.opendir(ino).await;
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let entries = self.readdir(ino, handle, offset, 4096, false).await;
            let Some(last) = entries.last() else { break };
            offset = last.next_offset;
            names.extend(entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into()));
        }
        self.ok(Op::Releasedir { ino, handle }).await;
        let internal = [".", "..", ".trash", ".accesslog", ".stats", ".config"];
        names.retain(|name: &String| !internal.contains(&name.as_str()));
        names.sort();
        names
    }

    pub async fn unlink(&self, dir: Ino, name: &[u8]) {
        self.ok(Op::Unlink { dir, name: name.into() }).await;
    }

    pub fn rename_op(dir: Ino, name: &[u8], new_dir: Ino, new_name: &[u8], flags: u32) -> Op {
        Op::Rename { dir, name: name.into(), new_dir, new_name: new_name.into(), flags }
    }

    pub async fn rename(&self, dir: Ino, name: &[u8], new_dir: Ino, new_name: &[u8]) {
        self.ok(Self::rename_op(dir, name, new_dir, new_name, 0)).await;
    }
}

/// A lock request.
pub fn lock(ino: Ino, handle: u64, owner: u64, (start, end, kind): (u64, u64, u32)) -> Op {
    let range = LockRange { start, end, kind, pid: owner as u32 };
    Op::Setlk { ino, handle, owner, range, wait: false, flock: false }
}
