//! `jfs-uring mount`: from words to a plan, and into the background.

use std::path::PathBuf;
use std::time::Duration;

use super::args::{
    AtimeArg, CacheArgs, EvictionArg, KernelArgs, MetaArgs, MountArgs, PublishArg, StoreArgs,
    TransportArg, VerifyArg, WritebackArgs,
};
use super::log;
use crate::config::MetaUrl;
use crate::core::allowed_cpus;
use crate::daemon::{
    BackupPlan, CachePlan, Duties, EndSignals, Failure, Forked, MountPlan, OwnStore, Readiness,
    STAGE_WRITES, ServePlan, StagingPlan, StorePolicy, Volume, WantedTransport, check_storage,
    give_back_large_memory, mount, to_background,
};
use crate::fuse::WRITE_BYTES_LIMIT;
use crate::meta::Atime;
use crate::stage::{CacheConfig, Eviction, Verify};
use crate::types::Publish;
use crate::vfs::VfsConfig;

/// Smallest `--buffer-size`: room for two blocks of the largest size being written.
const BUFFER_BYTES_MIN: u64 = 32 << 20;
/// Smallest memory that whole blocks pass through: two of the largest size.
const PASSING_BYTES_MIN: u64 = 32 << 20;

/// Smallest `--max-staging-size`: two blocks of the largest size.
const STAGING_BYTES_MIN: u64 = 32 << 20;

/// Smallest `--backup-meta`.
const BACKUP_PERIOD_MIN: Duration = Duration::from_secs(300);
/// The real client's variable that lets tests go below it.
const BACKUP_UNCHECKED_ENV: &str = "SKIP_BACKUP_META_CHECK";

pub fn run(asked: &MountArgs) -> Result<(), Failure> {
    let url = MetaUrl::parse(&asked.meta_url)?;
    let plan = plan(asked)?;
    if asked.kernel.watch && !matches!(url, MetaUrl::Redis(_)) {
        let text =
            "--watch needs Redis: other metadata engines tell nobody of changes; leave it out";
        return Err(Failure::usage(text));
    }
    if asked.fake {
        return Ok(());
    }
    // The folder is seen by whoever called, with words that are not in a log.
    crate::daemon::check_point(&plan)?;
    if !asked.background {
        log::open(&asked.log, false)?;
        return tell_log(serve(asked, url, plan, &Readiness::default()));
    }
    let forked = to_background()
        .map_err(|error| Failure::failed(format!("no process for the background: {error}")))?;
    match forked {
        Forked::Caller(done) => done,
        Forked::Background(readiness) => {
            let served = log::open(&asked.log, true)
                .and_then(|()| tell_log(serve(asked, url, plan, &readiness)));
            if let Err(failure) = &served {
                readiness.failed(failure);
            }
            served
        }
    }
}

/// A mount that ends badly says so in its log too.
fn tell_log(served: Result<(), Failure>) -> Result<(), Failure> {
    if let Err(failure) = &served {
        tracing::error!("{failure}");
    }
    served
}

fn serve(
    asked: &MountArgs,
    url: MetaUrl,
    plan: MountPlan,
    readiness: &Readiness,
) -> Result<(), Failure> {
    give_back_large_memory();
    let signals = EndSignals::obey();
    let volume = Volume::open(url)?;
    volume.setting.check(plan.serve.vfs.read_only)?;
    let own = OwnStore {
        storage: asked.store.storage.clone(),
        bucket: asked.store.bucket.clone(),
        storage_class: asked.store.storage_class.clone(),
    };
    let stores = volume.stores(own, store_policy(&asked.store))?;
    if asked.store.check_storage {
        check_storage(&stores)?;
    }
    mount(volume, stores, plan, &signals, readiness)
}

fn store_policy(asked: &StoreArgs) -> StorePolicy {
    StorePolicy {
        get_timeout: asked.get_timeout,
        put_timeout: asked.put_timeout,
        retries: asked.io_retries,
        upload_mbps: asked.upload_limit,
        download_mbps: asked.download_limit,
    }
}

fn plan(asked: &MountArgs) -> Result<MountPlan, Failure> {
    let options = Options::read(&asked.options)?;
    let read_only = asked.read_only || options.read_only;
    let cpus = allowed_cpus().len();
    let cores = asked.cores.unwrap_or(cpus);
    if !(1..=1024).contains(&cores) {
        return Err(Failure::usage(format!("--cores {cores}: at least 1, and here best {cpus}")));
    }
    let request_bytes_max = asked.max_fuse_io.clamp(4096, u64::from(WRITE_BYTES_LIMIT));
    if asked.max_fuse_io != request_bytes_max || !request_bytes_max.is_multiple_of(4096) {
        let text = "--max-fuse-io lies between 4K and 1M, in steps of 4K";
        return Err(Failure::usage(text));
    }
    let duties = (!read_only).then_some(Duties {
        heartbeat: heartbeat(asked.meta.heartbeat),
        clean_up: !asked.meta.no_bgjob,
    });
    Ok(MountPlan {
        point: asked.mountpoint.clone(),
        over_content: asked.force || options.over_content,
        allow_other: options.allow_other || rustix::process::geteuid().is_root(),
        transport: match asked.transport {
            TransportArg::Auto => WantedTransport::Auto,
            TransportArg::Uring => WantedTransport::Uring,
            TransportArg::Dev => WantedTransport::Dev,
        },
        writeback_cache: options.writeback_cache,
        request_bytes_max: request_bytes_max as u32,
        subdir: asked.subdir.clone(),
        serve: ServePlan {
            cache: cache_plan(asked, read_only)?,
            vfs: vfs_config(asked, read_only),
            cores,
            skip_dir_mtime_ns: nanoseconds(asked.meta.skip_dir_mtime),
            metrics: asked.metrics.clone(),
            duties,
            backup: backup(&asked.meta)?,
        },
    })
}

/// As the real client has it, which never backs up oftener unless its tests ask for that.
fn backup(asked: &MetaArgs) -> Result<Option<BackupPlan>, Failure> {
    let period = asked.backup_meta;
    let unchecked = std::env::var_os(BACKUP_UNCHECKED_ENV).is_some_and(|value| value == "true");
    if !period.is_zero() && period < BACKUP_PERIOD_MIN && !unchecked {
        return Err(Failure::usage("--backup-meta: at least 5m, or 0 for no backups"));
    }
    let plan = BackupPlan { period, skip_trash: asked.backup_skip_trash };
    Ok((!period.is_zero()).then_some(plan))
}

/// As the real client clamps it; 0 stays 0.
fn heartbeat(asked: Duration) -> Duration {
    if asked.is_zero() {
        return asked;
    }
    asked.clamp(Duration::from_secs(1), Duration::from_secs(600))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn vfs_config(asked: &MountArgs, read_only: bool) -> VfsConfig {
    let KernelArgs {
        attr_cache,
        entry_cache,
        dir_entry_cache,
        negative_entry_cache,
        readdir_cache,
        watch,
    } = &asked.kernel;
    VfsConfig {
        attr_ttl_ns: nanoseconds(*attr_cache),
        entry_ttl_ns: nanoseconds(*entry_cache),
        dir_entry_ttl_ns: nanoseconds(*dir_entry_cache),
        negative_ttl_ns: nanoseconds(*negative_entry_cache),
        open_cache_ns: nanoseconds(asked.meta.open_cache),
        readdir_cache: *readdir_cache,
        watch: *watch,
        atime: match asked.meta.atime_mode {
            AtimeArg::Noatime => None,
            AtimeArg::Relatime => Some(Atime::Relative),
            AtimeArg::Strictatime => Some(Atime::Strict),
        },
        xattr: asked.enable_xattr,
        // The volume tells, when it is open.
        acl: false,
        capability: asked.enable_cap,
        selinux: asked.enable_selinux,
        ioctl: asked.enable_ioctl,
        read_only,
        list_trash: !asked.hide_internal && asked.subdir.is_none(),
        list_internal: !asked.hide_internal,
        ..VfsConfig::default()
    }
}

fn cache_plan(asked: &MountArgs, read_only: bool) -> Result<CachePlan, Failure> {
    let CacheArgs { buffer_size, max_readahead, prefetch, cache_large_write, .. } = &asked.cache;
    if *buffer_size < BUFFER_BYTES_MIN {
        return Err(Failure::usage(
            "--buffer-size must be at least 32M: two blocks of the largest size",
        ));
    }
    Ok(CachePlan {
        buffer_bytes: usize::try_from(*buffer_size).unwrap_or(usize::MAX),
        blocks: block_cache(&asked.cache)?,
        staging: staging(&asked.writeback, read_only)?,
        large_writes: *cache_large_write,
        max_readahead_bytes: *max_readahead,
        prefetch: *prefetch,
        uploads: asked.store.max_uploads,
        downloads: asked.store.max_downloads,
        deletes: asked.store.max_deletes,
        tries: asked.store.io_retries,
    })
}

/// What `--writeback` asks for, if it is there.
fn staging(asked: &WritebackArgs, read_only: bool) -> Result<Option<StagingPlan>, Failure> {
    let delay = asked.upload_delay.unwrap_or_default();
    let deadline = asked.upload_deadline.unwrap_or_default();
    let max_bytes = asked.max_staging_size.unwrap_or(0);
    let wrong = if !asked.writeback {
        return Ok(None);
    } else if read_only {
        "--writeback: nothing is written to a read-only mount; leave it out"
    } else if (1..STAGING_BYTES_MIN).contains(&max_bytes) {
        "--max-staging-size must be at least 32M, two blocks of the largest size, or 0 for no limit"
    } else if !deadline.is_zero() && deadline <= delay {
        "--upload-deadline must be longer than --upload-delay, or every block is late"
    } else {
        return Ok(Some(StagingPlan {
            threshold_bytes: asked.writeback_threshold_size.unwrap_or(0),
            max_bytes,
            max_writes: asked.max_stage_write.unwrap_or(STAGE_WRITES),
            upload_delay: delay,
            upload_hours: asked.upload_hours,
            upload_deadline: deadline,
            publish: match asked.publish {
                Some(PublishArg::Uploaded) => Publish::Uploaded,
                Some(PublishArg::Local) | None => Publish::Local,
            },
        }));
    };
    Err(Failure::usage(wrong))
}

fn block_cache(asked: &CacheArgs) -> Result<CacheConfig, Failure> {
    let folders = cache_folders(asked.cache_dir.as_deref())?;
    let memory_bytes = match folders.is_empty() {
        true => asked.cache_size.min(asked.memory_cache_size),
        false => asked.memory_cache_size,
    };
    if asked.cache_partial_only && memory_bytes < PASSING_BYTES_MIN {
        return Err(Failure::usage(
            "--cache-partial-only needs a --memory-cache-size of at least 32M: \
             whole blocks pass through memory",
        ));
    }
    Ok(CacheConfig {
        folders,
        disk_bytes: asked.cache_size,
        disk_blocks: asked.cache_items,
        free_space_ratio: asked.free_space_ratio,
        verify: match asked.verify_cache_checksum {
            VerifyArg::None => Verify::None,
            VerifyArg::Full => Verify::Full,
            VerifyArg::Shrink => Verify::Shrink,
            VerifyArg::Extend => Verify::Extend,
        },
        eviction: match asked.cache_eviction {
            EvictionArg::TwoRandom => Eviction::TwoRandom,
            EvictionArg::Lru => Eviction::Lru,
            EvictionArg::None => Eviction::None,
        },
        file_mode: asked.cache_mode,
        expire: asked.cache_expire,
        scan_interval: asked.cache_scan_interval,
        partial_only: asked.cache_partial_only,
        memory_bytes,
    })
}

/// The folders of `--cache-dir`.
pub fn cache_folders(asked: Option<&str>) -> Result<Vec<PathBuf>, Failure> {
    match asked {
        Some(list) => {
            CacheConfig::folders_from(list).map_err(|error| Failure::usage(error.to_string()))
        }
        // No pattern, whatever the home is called.
        None => Ok(vec![default_cache()]),
    }
}

/// Where the real client keeps its cache.
fn default_cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/jfsCache".into();
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".juicefs/cache")
}

/// What `-o` may hold.
#[derive(Default)]
struct Options {
    read_only: bool,
    over_content: bool,
    allow_other: bool,
    writeback_cache: bool,
}

impl Options {
    fn read(words: &[String]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words {
            match word.as_str() {
                "ro" => options.read_only = true,
                "nonempty" => options.over_content = true,
                "allow_other" => options.allow_other = true,
                "writeback_cache" => options.writeback_cache = true,
                "rw" => options.read_only = false,
                "" | "default_permissions" => {}
                other => {
                    return Err(Failure::usage(format!(
                        "-o {other} is not known; there are ro, rw, nonempty, allow_other, \
                         default_permissions and writeback_cache"
                    )));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Verb};
    use super::*;
    use crate::stage::UploadHours;

    fn cache(flags: &str) -> Result<CacheConfig, Failure> {
        let words = format!("jfs-uring mount {flags} memory://x /mnt");
        let Verb::Mount(asked) = Cli::parse_from(words.split_whitespace()).verb else {
            unreachable!("it says mount")
        };
        block_cache(&asked.cache)
    }

    #[test]
    fn the_cache_is_as_juicefs_has_it() {
        let default = cache("--cache-dir /a").unwrap();
        let folders = vec![PathBuf::from("/a")];
        assert_eq!(default, CacheConfig { folders, ..CacheConfig::default() });
        let asked = cache(
            "--cache-dir memory --cache-eviction lru --cache-expire 30m --cache-scan-interval 0 \
             --cache-partial-only",
        );
        let wanted = CacheConfig {
            eviction: Eviction::Lru,
            expire: Duration::from_secs(1800),
            scan_interval: Duration::ZERO,
            partial_only: true,
            ..CacheConfig::default()
        };
        assert_eq!(asked.unwrap(), wanted);
    }

    fn kept(flags: &str) -> Result<Option<StagingPlan>, String> {
        let words = format!("jfs-uring mount {flags} memory://x /mnt");
        let parsed = Cli::try_parse_from(words.split_whitespace());
        let cli = parsed.map_err(|error| error.to_string())?;
        let Verb::Mount(asked) = cli.verb else { unreachable!("it says mount") };
        staging(&asked.writeback, asked.read_only).map_err(|failure| failure.to_string())
    }

    #[test]
    fn write_back_has_the_flags_of_juicefs_and_ours() {
        assert_eq!(kept(""), Ok(None));
        assert_eq!(kept("--writeback"), Ok(Some(StagingPlan::default())));
        let asked = kept(
            "--writeback --writeback-max-size 4M --upload-delay 1h --upload-hours 22-6 \
             --max-stage-write 5 --max-staging-size 50G --upload-deadline 2h --publish uploaded",
        );
        let wanted = StagingPlan {
            threshold_bytes: 4 << 20,
            max_bytes: 50 << 30,
            max_writes: 5,
            upload_delay: Duration::from_secs(3600),
            upload_hours: Some(UploadHours { from: 22, to: 6 }),
            upload_deadline: Duration::from_secs(7200),
            publish: Publish::Uploaded,
        };
        assert_eq!(asked, Ok(Some(wanted)));
        let threshold = kept("--writeback --writeback-threshold-size 4097").unwrap().unwrap();
        assert_eq!(threshold.threshold_bytes, 4097);
        let hours = kept("--writeback --upload-hours 0,23").unwrap().unwrap().upload_hours;
        assert_eq!(hours, Some(UploadHours { from: 0, to: 23 }));
    }

    #[test]
    fn write_back_that_makes_no_sense_is_refused_with_its_cure() {
        let told = |flags: &str, cure: &str| {
            let told = kept(flags).unwrap_err();
            assert!(told.contains(cure), "{flags}: {told}");
        };
        told("--writeback --read-only", "leave it out");
        told("--upload-delay 5s", "--writeback");
        told("--publish uploaded", "--writeback");
        told("--writeback --upload-hours 22", "22-6");
        told("--writeback --upload-hours 3,24", "from 0 to 23");
        told("--writeback --max-staging-size 1M", "at least 32M");
        told("--writeback --upload-delay 1h --upload-deadline 1h", "longer than --upload-delay");
    }

    #[test]
    fn of_ro_and_rw_the_last_counts() {
        let read_only = |list: &str| {
            let words: Vec<_> = list.split(',').map(str::to_owned).collect();
            Options::read(&words).unwrap().read_only
        };
        assert!(read_only("rw,ro"));
        assert!(!read_only("ro,rw"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_cure() {
        let told = |flags| cache(flags).unwrap_err().to_string();
        let partial = told("--cache-dir /a --cache-partial-only --memory-cache-size 1M");
        assert!(partial.contains("--memory-cache-size of at least 32M"), "{partial}");
        let pattern = told("--cache-dir /not/there*");
        assert!(pattern.contains("no folder matches --cache-dir /not/there*"), "{pattern}");
    }

    #[test]
    fn backups_are_asked_for_and_not_too_often() {
        let asked = |flags: &str| {
            let words = format!("jfs-uring mount {flags} memory://x /mnt");
            let Verb::Mount(asked) = Cli::parse_from(words.split_whitespace()).verb else {
                unreachable!("it says mount")
            };
            backup(&asked.meta).map_err(|failure| failure.to_string())
        };
        let hourly = |skip_trash| BackupPlan { period: Duration::from_secs(3600), skip_trash };
        assert_eq!(asked(""), Ok(None), "the official client's default is not ours");
        assert_eq!(asked("--backup-skip-trash"), Ok(None));
        assert_eq!(asked("--backup-meta 1h"), Ok(Some(hourly(false))));
        assert_eq!(asked("--backup-meta 3600 --backup-skip-trash"), Ok(Some(hourly(true))));
        assert!(asked("--backup-meta 299s").unwrap_err().contains("at least 5m"));
    }
}
