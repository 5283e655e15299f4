//! What the cores of a mount run: every floor from metadata to POSIX, put together once.
//!
//! Owns the settings of the floors and the closed list of what cores share. Relies on each floor
//! for its own sharing.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::engine::Engines;
use super::failure::Failure;
use super::jobs::{self, BackupPlan, Duties, Floors, Mounted};
use super::scrape;
use super::shown::config_text;
use super::staging::{self, StagingPlan};
use super::store::{Stores, device_of};
use super::volume::{compression_of, rules_of, session_info};
use crate::config::Setting;
use crate::data::{Data, DataConfig, DataShared};
use crate::fuse::Handler;
use crate::meta::{Local, Meta, MetaShared, Rules};
use crate::object::Layout;
use crate::pages::Pool;
use crate::stage::{BlockCache, CacheConfig, Staging};
use crate::types::Ino;
use crate::uring;
use crate::vfs::op::{Reply, Request};
use crate::vfs::{Notices, Vfs, VfsConfig, VfsShared};

/// Blocks read ahead of a reader unless told otherwise.
const READAHEAD_BLOCKS: u64 = 8;
/// How long the end of a mount may take before what is left is given up: the time-out of unmount.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long the session may take to end; after that other clients end it.
const SESSION_PATIENCE: Duration = Duration::from_secs(5);

/// The cache and buffers of a mount.
#[derive(Clone, Debug)]
pub struct CachePlan {
    /// Hard bound of written bytes that are not stored yet (`--buffer-size`).
    pub buffer_bytes: usize,
    /// Blocks kept near.
    pub blocks: CacheConfig,
    /// Blocks are kept on this machine before they are stored (`--writeback`).
    pub staging: Option<StagingPlan>,
    /// Keep whole blocks too when they are written (`--cache-large-write`).
    pub large_writes: bool,
    /// Bytes read ahead at most (`--max-readahead`); `None` is eight blocks. See [`readahead_bytes`].
    pub max_readahead_bytes: Option<u64>,
    /// Blocks fetched around random reads at a time (`--prefetch`).
    pub prefetch: usize,
    /// Blocks stored at a time (`--max-uploads`).
    pub uploads: usize,
    /// Objects fetched at a time (`--max-downloads`).
    pub downloads: usize,
    /// Objects removed at a time (`--max-deletes`); 0 for none at all.
    pub deletes: usize,
    /// Tries of a request (`--io-retries`).
    pub tries: u32,
}

/// Everything a mount decides above the transport.
#[derive(Clone, Debug)]
pub struct ServePlan {
    /// Cache and buffers.
    pub cache: CachePlan,
    /// POSIX side.
    pub vfs: VfsConfig,
    /// Threads, each on a CPU of its own.
    pub cores: usize,
    /// A directory younger than this keeps its times (`--skip-dir-mtime`), ns.
    pub skip_dir_mtime_ns: u64,
    /// Where the numbers of the mount are served over HTTP (`--metrics`), `HOST:PORT`.
    pub metrics: Option<String>,
    /// What the session does; `None` on read-only mounts, which have no session.
    pub duties: Option<Duties>,
    /// Backups of metadata, if it makes any.
    pub backup: Option<BackupPlan>,
}

/// What the cores of a mount share.
pub struct Server {
    engines: Engines,
    stores: Stores,
    meta: Arc<MetaShared>,
    data: Arc<DataShared>,
    staging: Option<Arc<Staging>>,
    vfs: Arc<VfsShared>,
    plan: ServePlan,
    /// Where scrapes of the metrics come in; the first core takes it.
    scrapes: Mutex<Option<OwnedFd>>,
    /// Labels of all metrics.
    labels: scrape::Labels,
    /// What `status` shows of the session.
    info: String,
    /// Identity of the volume.
    uuid: String,
}

impl Server {
    /// Everything for `plan` on the volume of `setting`, to be seen at `point`; nothing running
    /// yet. Called in the process that will serve.
    ///
    /// # Errors
    /// When the cache folders are not usable, or the setting is none of ours.
    pub fn new(
        setting: &Setting,
        engines: Engines,
        stores: Stores,
        mut plan: ServePlan,
        point: &Path,
    ) -> Result<Self, Failure> {
        if plan.cache.staging.is_some()
            && let Some(why) = staging::hindrance(&plan.cache.blocks)
        {
            tracing::warn!("{why}");
            plan.cache.staging = None;
        }
        plan.vfs.writeback = plan.cache.staging.is_some();
        plan.vfs.publish = plan.cache.staging.map(|staging| staging.publish).unwrap_or_default();
        plan.vfs.shown = config_text(setting, &plan, point).into();
        plan.vfs.volume = setting.name().into();
        let layout = Layout::new(setting.block_size_kib(), setting.hash_prefix());
        let compression = compression_of(setting)?;
        let cache = CacheConfig {
            folders: useful_folders(&plan.cache.blocks.folders, &stores),
            ..plan.cache.blocks.clone()
        };
        let cache = BlockCache::open(&cache, setting.uuid(), layout)
            .map_err(|error| Failure::failed(error.to_string()))?;
        let staging = staging::open(&plan, setting.uuid(), layout, &cache)?;
        let block_bytes = u64::from(layout.block_bytes());
        let data = DataShared::new(DataConfig {
            layout,
            compression,
            encrypted: setting.encrypted(),
            pool: Pool::new(plan.cache.buffer_bytes),
            cache: Some(cache),
            cache_large_writes: plan.cache.large_writes,
            uploads: plan.cache.uploads,
            downloads: plan.cache.downloads,
            deletes: plan.cache.deletes,
            tries: plan.cache.tries,
            max_readahead_bytes: readahead_bytes(&plan.cache, block_bytes),
            prefetch: plan.cache.prefetch,
            compacts: plan.duties.as_ref().is_some_and(|duties| duties.clean_up),
            staging: staging.clone(),
            publish: plan.vfs.publish,
        });
        let rules = Rules { skip_dir_mtime_ns: plan.skip_dir_mtime_ns, ..rules_of(setting) };
        let (root, read_only) = (plan.vfs.root, plan.vfs.read_only);
        let meta = MetaShared::new(root, read_only, setting.trash_days(), rules);
        let info = session_info(point);
        let scrapes = Mutex::new(plan.metrics.as_deref().and_then(metrics_listener));
        let labels = scrape::labels(setting.name(), point);
        let vfs = VfsShared::new();
        let uuid = setting.uuid().to_owned();
        Ok(Self { engines, stores, meta, data, staging, vfs, plan, scrapes, labels, info, uuid })
    }

    /// Metadata and data for the calling core.
    fn floors(&self) -> (Rc<Meta>, Rc<Data>) {
        let meta = Meta::new(self.engines.engine(), Arc::clone(&self.meta));
        let slices = Rc::clone(&meta) as Rc<_>;
        let data = Data::with_tiers(slices, self.stores.tiers(), Arc::clone(&self.data));
        (meta, data)
    }

    /// What core `number` answers requests with; the first core also does the mount's duties.
    pub fn handler(&self, number: usize) -> Rc<dyn Handler> {
        let (meta, data) = self.floors();
        if number == 0 {
            uring::spawn(Rc::clone(&data).tick());
            let (backup, duties) = (self.plan.backup, self.plan.duties.as_ref());
            let last = Arc::clone(&self.vfs.last_backup);
            jobs::back_up(backup, duties, (Rc::clone(&meta), last), || self.stores.store());
            let mounted = Mounted::new(&self.uuid, self.plan.vfs.read_only, self.stores.clone());
            let heartbeat = duties.map(|duties| duties.heartbeat);
            uring::spawn(jobs::follow(Rc::clone(&meta), mounted, heartbeat));
        }
        if self.staging.is_some() {
            uring::spawn(Rc::clone(&data).drain());
        }
        let watch = self.plan.vfs.watch && number == 0;
        let (shared, config) = (Arc::clone(&self.vfs), self.plan.vfs.clone());
        let vfs = Vfs::new(Rc::clone(&meta), Rc::clone(&data), shared, config);
        if watch {
            uring::spawn(Rc::clone(&vfs).watch());
        }
        if number == 0 && self.staging.is_some() {
            uring::spawn(Rc::clone(&vfs).follow_commits());
        }
        let door =
            self.scrapes.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| number == 0);
        if let Some(listener) = door {
            uring::spawn(scrape::serve(listener, Rc::clone(&vfs), self.labels.clone()));
        }
        if let Some(duties) = self.plan.duties.as_ref().filter(|_| number == 0) {
            let floors = Floors { vfs: Rc::clone(&vfs), meta, data };
            jobs::begin(&floors, duties, self.info.clone());
        }
        Rc::new(Served(vfs))
    }

    /// What the kernel must forget.
    pub fn notices(&self) -> &Notices {
        &self.vfs.notices
    }

    /// Learn which directories have a quota.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn load_quotas(&self) -> Result<(), Failure> {
        uring::block_on(async { Ok(self.floors().0.load_quotas().await?) })
    }

    /// Register the mount, if it has a session.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn open_session(&self) -> Result<(), Failure> {
        let Some(duties) = &self.plan.duties else { return Ok(()) };
        uring::block_on(async {
            let (meta, _) = self.floors();
            meta.open_session(self.info.clone(), duties.lifetime_s()).await?;
            Ok(())
        })
    }

    /// What an earlier mount kept and did not publish is seen from now on.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn take_over(&self) -> Result<(), Failure> {
        let recovered = uring::block_on(async { self.floors().1.recover().await });
        let wrong = |error| Failure::failed(format!("what an earlier mount left: {error}"));
        if recovered.map_err(wrong)? {
            self.vfs.expect_unpublished();
        }
        Ok(())
    }

    /// End the session, with what it kept open. Other clients do it when this cannot.
    pub fn close_session(&self) {
        if self.plan.duties.is_none() {
            return;
        }
        uring::block_on(async {
            let (meta, data) = self.floors();
            let ending = async {
                match meta.close_session(self.meta.sid()).await {
                    Ok(gone) => {
                        jobs::remove_data(&data, gone).await;
                    }
                    Err(error) => tracing::warn!(%error, "the session stays until it expires"),
                }
            };
            if uring::timeout(SESSION_PATIENCE, ending).await.is_err() {
                tracing::warn!("metadata is away; the session stays until it expires");
            }
        });
    }

    /// What is kept on this machine stays there, in a form that every client finds.
    pub fn close_staging(&self) {
        let Some(staging) = &self.staging else { return };
        let left = uring::block_on(staging.close());
        staging::tell_left(&left, &self.plan.cache.blocks.folders);
    }

    /// The directory at `path` of the volume (`--subdir`), made if it is not there.
    ///
    /// # Errors
    /// When it is no directory, or missing on a read-only mount.
    pub fn subdir(
        engines: &Engines,
        rules: Rules,
        path: &str,
        read_only: bool,
    ) -> Result<Ino, Failure> {
        uring::block_on(async {
            let shared = MetaShared::new(Ino::ROOT, read_only, 0, rules);
            let meta = Meta::new(engines.engine(), shared);
            // What is made on the way counts.
            meta.load_quotas().await?;
            super::volume::find_dir(&meta, path).await
        })
    }
}

/// As with the official client, a mount goes on without an endpoint that was asked for and cannot be.
fn metrics_listener(place: &str) -> Option<OwnedFd> {
    let listener = scrape::listen(place);
    let told = |error: &std::io::Error| {
        tracing::error!("no metrics at --metrics {place}: {error}; choose another address or port");
    };
    listener.inspect_err(told).ok()
}

/// How far a reader is read ahead of: as asked, but in less than half of the memory for blocks, so that
/// what was fetched is still there when its reader comes; a block at least.
fn readahead_bytes(cache: &CachePlan, block_bytes: u64) -> u64 {
    let asked = cache.max_readahead_bytes.unwrap_or(READAHEAD_BLOCKS * block_bytes);
    let room = cache.blocks.memory_bytes;
    let below_half = (room / 2).saturating_sub(1) / block_bytes * block_bytes;
    let most = below_half.max(block_bytes);
    if asked > most {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        tracing::info!(
            "{} MiB are read ahead, not {}: less than half of --memory-cache-size ({} MiB)",
            mib(most),
            mib(asked),
            mib(room),
        );
    }
    asked.min(most)
}

/// Cache folders that are not on the very disk where the objects are: a copy there is no nearer.
fn useful_folders(folders: &[PathBuf], stores: &Stores) -> Vec<PathBuf> {
    let Some(objects) = stores.device() else { return folders.to_vec() };
    let (same, useful): (Vec<_>, Vec<_>) =
        folders.iter().cloned().partition(|folder| device_of(folder) == Some(objects));
    for folder in same {
        let folder = folder.display();
        tracing::info!("objects are on the disk of cache folder {folder}: cached in memory only");
    }
    useful
}

/// One core's handler: the file system, and its end.
struct Served(Rc<Vfs>);

impl Handler for Served {
    fn handle(&self, request: Request) -> Local<'static, Reply> {
        Rc::clone(&self.0).handle(request)
    }

    fn interrupt(&self, unique: u64) {
        self.0.interrupt(unique);
    }

    fn drain(&self) -> Local<'static, ()> {
        let vfs = Rc::clone(&self.0);
        Box::pin(async move {
            if uring::timeout(DRAIN_PATIENCE, vfs.drain()).await.is_err() {
                tracing::error!("not everything could be stored in time; what is left is lost");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ahead_leaves_half_of_the_memory_to_those_who_read() {
        const MIB: u64 = 1 << 20;
        let plan = |asked: Option<u64>, memory_bytes| CachePlan {
            buffer_bytes: 0,
            blocks: CacheConfig { memory_bytes, ..CacheConfig::default() },
            staging: None,
            large_writes: false,
            max_readahead_bytes: asked,
            prefetch: 0,
            uploads: 1,
            downloads: 1,
            deletes: 1,
            tries: 1,
        };
        let told = |asked, memory, block| readahead_bytes(&plan(asked, memory), block);
        assert_eq!(told(None, 100 * MIB, 4 * MIB), 32 * MIB, "the default fits the default");
        assert_eq!(told(Some(64 * MIB), 100 * MIB, 4 * MIB), 48 * MIB);
        assert_eq!(told(Some(64 * MIB), 300 * MIB, 4 * MIB), 64 * MIB);
        assert_eq!(told(None, 100 * MIB, 16 * MIB), 48 * MIB);
        assert_eq!(told(Some(0), 100 * MIB, 4 * MIB), 0);
        assert_eq!((told(None, 0, 4 * MIB), told(None, 8 * MIB, 4 * MIB)), (4 * MIB, 4 * MIB));
        for memory in (0..400).map(|mib| mib * MIB) {
            let ahead = told(Some(1 << 40), memory, 4 * MIB);
            assert!(ahead == 4 * MIB || 2 * ahead < memory, "{ahead} of {memory}");
        }
    }
}
