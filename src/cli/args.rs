//! What may be said on the command line, with JuiceFS's names, units and defaults.
//!
//! Owns the words only; shell completions and the man page come from here too.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{parse_duration, parse_mbps, parse_size};
use crate::stage::UploadHours;

const CACHE: &str = "Cache and buffers";
const WRITEBACK: &str = "Write-back: written blocks wait on this machine for their upload";
const META: &str = "Metadata";
const KERNEL: &str = "Kernel caches";
const STORE: &str = "Object store";
const LOG: &str = "Log";

/// Where secrets of the command line are moved to, out of the list of processes.
pub const SECRET_KEY_ENV: &str = "JFS_URING_SECRET_KEY";
/// Where a session token is moved to.
pub const SESSION_TOKEN_ENV: &str = "JFS_URING_SESSION_TOKEN";

const URL_HELP: &str = "sqlite3://PATH, redis://[USER:PASSWORD@]HOST:PORT/DB, \
     redis://[USER:PASSWORD@]MASTER,SENTINEL:PORT,SENTINEL/DB, \
     redis://[USER:PASSWORD@]NODE:PORT,NODE:PORT/N for a Cluster, rediss:// for TLS, unix://SOCKET?db=N \
     or memory://NAME; \
     the password is better kept in REDIS_PASSWORD, META_PASSWORD or META_PASSWORD_FILE, that of Sentinels in SENTINEL_PASSWORD";

/// A fast and trustworthy client for JuiceFS volumes.
#[derive(Debug, Parser)]
#[command(name = "jfs-uring", version, propagate_version = true, after_help = EXIT_CODES, term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 asked wrongly, or for a command that stays with juicefs; 3 the volume is not for this client; 4 fsck found something; \
     5 data has not come so far in time.\n  \
     Of a mount that a signal ends: 0; 11 when it does not end in time; 130 or 143 before it is there.\n\
     Examples:\n  jfs-uring format sqlite3:///var/lib/my.db myjfs\n  jfs-uring mount -d sqlite3:///var/lib/my.db /mnt/myjfs\n  \
     jfs-uring umount /mnt/myjfs";

/// One verb.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a volume, or change limits of one.
    #[command(after_help = "Examples:\n  jfs-uring format sqlite3:///var/lib/my.db myjfs\n  \
        jfs-uring format --storage file --bucket /data/objects --compress lz4 redis://localhost:6379/1 myjfs\n  \
        jfs-uring format --storage s3 --bucket https://mybucket.s3.eu-west-1.amazonaws.com redis://localhost:6379/1 myjfs")]
    Format(Box<FormatArgs>),
    /// Mount a volume.
    #[command(
        after_help = "Examples:\n  jfs-uring mount -d redis://localhost:6379/1 /mnt/myjfs\n  \
        jfs-uring mount -d --cache-dir /nvme/cache --cache-size 200G --buffer-size 1G sqlite3:///var/lib/my.db /mnt/myjfs\n\
        /etc/fstab, with a link /sbin/mount.jfs-uring to this program:\n  \
        redis://localhost:6379/1 /mnt/myjfs jfs-uring _netdev,cache-size=200G 0 0\n  \
        redis://localhost:6379/1 /mnt/myjfs jfs-uring _netdev,writeback,upload-hours=22-6 0 0"
    )]
    Mount(Box<MountArgs>),
    /// Unmount, and wait until everything is stored, or with --writeback kept on this machine.
    #[command(
        alias = "unmount",
        after_help = "With --writeback it does not wait for uploads, and says how many blocks are left: the next mount with the\n\
        same --cache-dir uploads them. With --flush all is in the object store before the mount ends; if it is not in time\n\
        the mount stays, and the exit code is 5.\n\
        Examples:\n  jfs-uring umount /mnt/myjfs\n  jfs-uring umount --flush --timeout 10m /mnt/myjfs"
    )]
    Umount(UmountArgs),
    /// Wait until what was written has come far enough: to this disk, into the object store, into metadata.
    #[command(
        after_help = "Uploads of what is waited for go first, whatever --upload-delay and --upload-hours of the mount say.\n\
        Exit codes: 0 it has; 1 it cannot, or data was lost; 5 not in time.\n\
        Examples:\n  jfs-uring flush /mnt/myjfs\n  jfs-uring flush --level local /mnt/myjfs/file\n  \
        jfs-uring flush --level uploaded --timeout 30s --json /mnt/myjfs/folder"
    )]
    Flush(FlushArgs),
    /// Show how far the data of a mount, folder or file has come; or a volume's settings, sessions and usage as JSON.
    #[command(
        after_help = "Examples:\n  jfs-uring status /mnt/myjfs\n  jfs-uring status --json /mnt/myjfs/file\n  \
        jfs-uring status redis://localhost:6379/1\n\
        Of a file, getfattr tells the same: getfattr -n user.jfs.state /mnt/myjfs/file"
    )]
    Status(StatusArgs),
    /// Try failed uploads of a mount again now.
    #[command(after_help = "Examples:\n  jfs-uring retry /mnt/myjfs")]
    Retry(RetryArgs),
    /// Check what a mount needs of this machine, and of a volume.
    Doctor(DoctorArgs),
    /// Check that a volume is whole: names, counts, statistics and objects.
    #[command(
        after_help = "Exit codes: 0 all is well, or mended; 1 the check failed; 4 something stays wrong.\n\
        Lines begin with DAMAGE (data or names are lost or contradict one another), WRONG (derived data, which --repair\n\
        makes again) or LEFT (something takes space that nobody can reach). While clients work on the volume, what they\n\
        change may look wrong. Memory: 260 MB for a million files of one slice each, and the names of one folder.\n\
        Examples:\n  jfs-uring fsck redis://localhost:6379/1\n  jfs-uring fsck --deep --json sqlite3:///var/lib/my.db"
    )]
    Fsck(FsckArgs),
    /// Show what a path or inode is made of: size, paths, slices or objects, and who holds locks.
    #[command(
        after_help = "Examples:\n  jfs-uring info /mnt/myjfs/file\n  cd /mnt/myjfs && jfs-uring info -i 100\n  \
        jfs-uring info --raw --json --meta redis://localhost:6379/1 /file"
    )]
    Info(InfoArgs),
    /// Print the version.
    Version,
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the man page, in roff.
    Man,
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_size(text, 1 << 20)
}

fn gibibytes(text: &str) -> Result<u64, String> {
    parse_size(text, 1 << 30)
}

/// Block sizes are in KiB without a unit.
fn block_size_kib(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text, 1 << 10)?;
    if (64 << 10..=16 << 20).contains(&bytes) {
        let kib = (bytes >> 10) as u32;
        // As the real client does: down to a power of two.
        Ok(1 << (31 - kib.leading_zeros()))
    } else {
        Err("a block size lies between 64K and 16M; the default is 4M".to_owned())
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} are no permission bits; write them as 0600"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|count| *count > 0);
    number.ok_or_else(|| "a count of at least 1 is needed".to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() {
        Err("nothing is done in no time; the default is 60s".to_owned())
    } else {
        Ok(time)
    }
}

/// JuiceFS's form, `22,6`, or `22-6`, which fits into a list of options.
fn upload_hours(text: &str) -> Result<UploadHours, String> {
    let wrong = || format!("{text:?} are no hours; write 22,6 or 22-6, from 0 to 23");
    let (from, to) = text.split_once([',', '-']).ok_or_else(wrong)?;
    let hour = |word: &str| word.trim().parse().ok().filter(|hour| *hour < 24).ok_or_else(wrong);
    Ok(UploadHours { from: hour(from)?, to: hour(to)? })
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no address; write it as 127.0.0.1:9567")),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|ratio| (0.0..1.0).contains(ratio));
    number.ok_or_else(|| format!("{text:?} is no share; write it as 0.1"))
}

/// Arguments of `format`.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// Where the metadata is.
    #[arg(value_name = "META-URL", long_help = URL_HELP)]
    pub meta_url: String,
    /// Name of the volume, and prefix of its objects.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Kind of object store: file, s3 or minio [default: file].
    #[arg(long, value_name = "KIND", help_heading = STORE)]
    pub storage: Option<String>,
    /// Folder for objects, or the bucket's URL [default: /var/jfs, or ~/.juicefs/local for users].
    #[arg(long, value_name = "PATH|URL", help_heading = STORE)]
    pub bucket: Option<String>,
    /// Key for the bucket [default: ACCESS_KEY; else AWS_ACCESS_KEY_ID, ~/.aws, the machine's role].
    #[arg(long, value_name = "KEY", help_heading = STORE)]
    pub access_key: Option<String>,
    /// Its secret; better kept in SECRET_KEY [default: SECRET_KEY].
    #[arg(long, value_name = "SECRET", env = SECRET_KEY_ENV, hide_env = true, help_heading = STORE)]
    pub secret_key: Option<String>,
    /// Token of keys for a limited time [default: SESSION_TOKEN].
    #[arg(long, value_name = "TOKEN", env = SESSION_TOKEN_ENV, hide_env = true, help_heading = STORE)]
    pub session_token: Option<String>,
    /// Class of storage for new objects.
    #[arg(long, value_name = "CLASS", help_heading = STORE)]
    pub storage_class: Option<String>,
    /// Spread objects over so many buckets, whose number stands for %d in --bucket.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(..=256), help_heading = "Data layout, fixed for good")]
    pub shards: Option<u64>,
    /// Size of a block [default: 4M].
    #[arg(long, value_name = "SIZE", value_parser = block_size_kib, help_heading = "Data layout, fixed for good")]
    pub block_size: Option<u32>,
    /// How blocks are compressed: none, lz4 or zstd [default: none].
    #[arg(long, value_name = "METHOD", value_parser = ["none", "lz4", "zstd"], help_heading = "Data layout, fixed for good")]
    pub compress: Option<String>,
    /// Encrypt objects; the file of a private RSA key in PEM, its passphrase in JFS_RSA_PASSPHRASE.
    #[arg(long, value_name = "PATH", help_heading = "Data layout, fixed for good")]
    pub encrypt_rsa_key: Option<PathBuf>,
    /// How objects are encrypted: aes256gcm-rsa or chacha20-rsa [default: aes256gcm-rsa].
    #[arg(long, value_name = "METHOD", value_parser = ["aes256gcm-rsa", "chacha20-rsa"], help_heading = "Data layout, fixed for good")]
    pub encrypt_algo: Option<String>,
    /// Put two hex digits in front of object names.
    #[arg(long, help_heading = "Data layout, fixed for good")]
    pub hash_prefix: bool,
    /// Days that deleted files stay in the trash [default: 1].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(..=36_500), help_heading = "Limits")]
    pub trash_days: Option<u64>,
    /// Bytes the volume may hold, GiB without a unit; 0 for no limit.
    #[arg(long, value_name = "SIZE", value_parser = gibibytes, help_heading = "Limits")]
    pub capacity: Option<u64>,
    /// Inodes the volume may hold; 0 for no limit.
    #[arg(long, value_name = "COUNT", help_heading = "Limits")]
    pub inodes: Option<u64>,
    /// POSIX access control lists; a volume that has them keeps them.
    #[arg(long)]
    pub enable_acl: bool,
    /// Change what belongs to a volume that has data, such as where its objects are.
    #[arg(long)]
    pub force: bool,
    /// Leave a volume that exists as it is.
    #[arg(long)]
    pub no_update: bool,
}

/// Arguments of `umount`.
#[derive(Debug, Args)]
pub struct UmountArgs {
    /// The mount point.
    pub mountpoint: PathBuf,
    /// Hide the mount now, end it with its last user.
    #[arg(short, long)]
    pub force: bool,
    /// First wait until everything is in the object store and committed.
    #[arg(long)]
    pub flush: bool,
    /// How long that may take; without it, as long as it takes.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "flush")]
    pub timeout: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How far data is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// On this machine's disk: a loss of power does not reach it.
    Local,
    /// In the object store.
    Uploaded,
    /// In the object store, and named by metadata: every client can read it.
    Committed,
}

/// Arguments of `flush`.
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// A mount point for all that was written to it; or a folder or file of a mount.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How far.
    #[arg(long, value_enum, default_value = "committed")]
    pub level: LevelArg,
    /// How long it may take; without it, as long as it takes.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The mount point.
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// A mount point, a folder or a file of a mount; or where the metadata of a volume is.
    #[arg(value_name = "PATH|META-URL")]
    pub target: String,
    /// Print JSON; of a META-URL it is JSON anyway.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A volume to check too.
    #[arg(value_name = "META-URL", long_help = URL_HELP)]
    pub meta_url: Option<String>,
    /// Folder of the cache.
    #[arg(long, value_name = "PATH")]
    pub cache_dir: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `fsck`.
#[derive(Debug, Args)]
pub struct FsckArgs {
    /// Where the metadata is.
    #[arg(value_name = "META-URL", long_help = URL_HELP)]
    pub meta_url: String,
    /// Read every object that a file needs, and decode it.
    #[arg(long)]
    pub deep: bool,
    /// Mend derived data: counters, statistics, link counts of folders, parents, references of slices. No client may have the volume mounted.
    #[arg(long)]
    pub repair: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Paths in a mount; with --inode, inodes of the mount that the current folder is in.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// The words are numbers of inodes.
    #[arg(short = 'i', long)]
    pub inode: bool,
    /// Count all that is below folders.
    #[arg(short = 'r', long)]
    pub recursive: bool,
    /// Count by looking at everything; this client does so in any case.
    #[arg(long)]
    pub strict: bool,
    /// Show slices in place of objects.
    #[arg(long)]
    pub raw: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Ask the volume itself, mounted or not; paths begin at its root.
    #[arg(long, value_name = "META-URL", long_help = URL_HELP)]
    pub meta: Option<String>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// How requests travel between the kernel and this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportArg {
    /// io_uring where the kernel has it, /dev/fuse otherwise.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// /dev/fuse.
    Dev,
}

/// When access times move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AtimeArg {
    /// Never by reading.
    Noatime,
    /// When a change is younger, or after a day.
    Relatime,
    /// Also after a second.
    Strictatime,
}

/// JuiceFS's levels of looking at checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyArg {
    /// Never.
    None,
    /// When a whole block is read.
    Full,
    /// For the pieces inside what is read.
    Shrink,
    /// For all pieces that what is read touches.
    Extend,
}

/// What makes room in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvictionArg {
    /// The older of two drawn at random goes.
    #[value(name = "2-random")]
    TwoRandom,
    /// The one unused for longest goes.
    Lru,
    /// Nothing goes.
    None,
}

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Where the metadata is.
    #[arg(value_name = "META-URL", long_help = URL_HELP)]
    pub meta_url: String,
    /// An empty folder.
    pub mountpoint: PathBuf,
    /// Return when the mount answers, and serve it in the background.
    #[arg(short = 'd', long)]
    pub background: bool,
    /// Stay in the foreground (the default).
    #[arg(short = 'f', long, hide = true)]
    pub foreground: bool,
    /// Check the arguments and mount nothing (`mount -f` of mount(8)).
    #[arg(long, hide = true)]
    pub fake: bool,
    /// More options, separated by commas: ro, rw, nonempty, allow_other, writeback_cache.
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub options: Vec<String>,
    /// Nothing may be changed; no session is registered.
    #[arg(long)]
    pub read_only: bool,
    /// Show this folder of the volume as the root.
    #[arg(long, value_name = "PATH")]
    pub subdir: Option<String>,
    /// Hide what is in the mount point.
    #[arg(long)]
    pub force: bool,
    /// Threads that serve, each on a CPU of its own [default: one for each CPU].
    #[arg(long, value_name = "COUNT")]
    pub cores: Option<usize>,
    /// How requests travel.
    #[arg(long, value_enum, default_value = "auto")]
    pub transport: TransportArg,
    /// Largest request.
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| parse_size(text, 1 << 10), default_value = "1M")]
    pub max_fuse_io: u64,
    /// Serve the numbers of the mount to Prometheus there, as http://HOST:PORT/metrics; port 0 for any, which the log tells.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub metrics: Option<String>,
    /// Extended attributes.
    #[arg(long)]
    pub enable_xattr: bool,
    /// The attribute security.capability.
    #[arg(long)]
    pub enable_cap: bool,
    /// The attribute security.selinux.
    #[arg(long)]
    pub enable_selinux: bool,
    /// chattr(1) for append-only and immutable.
    #[arg(long)]
    pub enable_ioctl: bool,
    /// Do not list .trash, .stats, .accesslog and .config in the root.
    #[arg(long)]
    pub hide_internal: bool,
    #[command(flatten)]
    pub kernel: KernelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub writeback: WritebackArgs,
    #[command(flatten)]
    pub meta: MetaArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Times for the kernel.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// How long attributes are kept.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s", help_heading = KERNEL)]
    pub attr_cache: Duration,
    /// How long file names are kept.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s", help_heading = KERNEL)]
    pub entry_cache: Duration,
    /// How long names of folders are kept.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s", help_heading = KERNEL)]
    pub dir_entry_cache: Duration,
    /// How long it is kept that a name is absent.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s", help_heading = KERNEL)]
    pub negative_entry_cache: Duration,
    /// The kernel keeps listings.
    #[arg(long, help_heading = KERNEL)]
    pub readdir_cache: bool,
    /// Hear of changes by other clients (Redis), and drop what they changed: the times above may be long then. While they cannot be heard of, they are a second at most.
    #[arg(long, help_heading = KERNEL)]
    pub watch: bool,
}

/// Cache and buffers.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Memory for written bytes that are not stored yet; a hard bound.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "300M", help_heading = CACHE)]
    pub buffer_size: u64,
    /// Bytes read ahead of one reader, in less than half of --memory-cache-size [default: 8 blocks].
    #[arg(long, value_name = "SIZE", value_parser = bytes, help_heading = CACHE)]
    pub max_readahead: Option<u64>,
    /// Whole blocks fetched at a time after a read of a piece; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 1, help_heading = CACHE)]
    pub prefetch: usize,
    /// Cache folders, separated by colons, patterns such as /mnt/nvme* for all that are there; `memory` for none on disk [default: /var/jfsCache, or ~/.juicefs/cache for users]. A folder on the very disk where the objects are is not used: what is cached then is in memory only, as the log says.
    #[arg(long, value_name = "PATHS", help_heading = CACHE)]
    pub cache_dir: Option<String>,
    /// Permission bits of cached blocks.
    #[arg(long, value_name = "MODE", value_parser = octal, default_value = "0600", help_heading = CACHE)]
    pub cache_mode: u32,
    /// Size of the cache over all folders.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "100G", help_heading = CACHE)]
    pub cache_size: u64,
    /// Blocks kept in memory in front of the folders.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "100M", help_heading = CACHE)]
    pub memory_cache_size: u64,
    /// Most cached blocks; 0 leaves it to the free inodes.
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = CACHE)]
    pub cache_items: u64,
    /// Share of the cache disk that stays free.
    #[arg(long, value_name = "SHARE", value_parser = ratio, default_value = "0.1", help_heading = CACHE)]
    pub free_space_ratio: f64,
    /// Keep on disk only what small or random reads and short writes bring, no whole blocks that are read through.
    #[arg(long, help_heading = CACHE)]
    pub cache_partial_only: bool,
    /// Keep whole blocks too when they are written.
    #[arg(long, help_heading = CACHE)]
    pub cache_large_write: bool,
    /// When checksums of cached blocks are looked at.
    #[arg(long, value_enum, default_value = "extend", help_heading = CACHE)]
    pub verify_cache_checksum: VerifyArg,
    /// What makes room.
    #[arg(long, value_enum, default_value = "2-random", help_heading = CACHE)]
    pub cache_eviction: EvictionArg,
    /// Blocks unused for longer go, from disk and memory; 0 for never, at least a second.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s", help_heading = CACHE)]
    pub cache_expire: Duration,
    /// Pace at which cache folders are scanned for what others put or removed there; 0 for at the start only.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h", help_heading = CACHE)]
    pub cache_scan_interval: Duration,
}

/// When others may see what is written with `--writeback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishArg {
    /// When it is kept on this machine; they hear errors if they read it before its upload.
    Local,
    /// When it is in the object store.
    Uploaded,
}

/// Write-back.
#[derive(Debug, Args)]
pub struct WritebackArgs {
    /// Keep written blocks in the cache folder and upload them later: close is answered when they survive a crash of the mount, fsync when they survive a loss of power. Off where the cache is in memory or its size is 0.
    #[arg(long, help_heading = WRITEBACK)]
    pub writeback: bool,
    /// Blocks of this size and larger are uploaded at once, in bytes without a unit; 0 for none.
    #[arg(long, alias = "writeback-max-size", value_name = "SIZE", value_parser = |text: &str| parse_size(text, 1), requires = "writeback", help_heading = WRITEBACK)]
    pub writeback_threshold_size: Option<u64>,
    /// Blocks wait for so long before they are uploaded [default: 0s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "writeback", help_heading = WRITEBACK)]
    pub upload_delay: Option<Duration>,
    /// Hours of the local day in which is uploaded: 22,6 or 22-6 for from 22:00 to 6:00 [default: always].
    #[arg(long, value_name = "FROM,TO", value_parser = upload_hours, requires = "writeback", help_heading = WRITEBACK)]
    pub upload_hours: Option<UploadHours>,
    /// Blocks written to the disk at a time, more are uploaded at once; 0 for no limit [default: 1000].
    #[arg(long, value_name = "COUNT", requires = "writeback", help_heading = WRITEBACK)]
    pub max_stage_write: Option<usize>,
    /// Bytes that may wait for their upload; writers wait when there are more. 0 for no limit [default: 0].
    #[arg(long, value_name = "SIZE", value_parser = bytes, requires = "writeback", help_heading = WRITEBACK)]
    pub max_staging_size: Option<u64>,
    /// Blocks of this age go before all others, and are counted as late; 0 for never [default: 0s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "writeback", help_heading = WRITEBACK)]
    pub upload_deadline: Option<Duration>,
    /// When other clients may see what was written [default: local].
    #[arg(long, value_enum, requires = "writeback", help_heading = WRITEBACK)]
    pub publish: Option<PublishArg>,
}

/// Metadata.
#[derive(Debug, Args)]
pub struct MetaArgs {
    /// Pace at which the session is refreshed; 0 for never.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "12s", help_heading = META)]
    pub heartbeat: Duration,
    /// Leave cleaning up after dead clients to others.
    #[arg(long, help_heading = META)]
    pub no_bgjob: bool,
    /// Back up metadata into the bucket at this pace, as JuiceFS's gzipped JSON, one mount of all; 0, the default here, for never (the official client's default is 1h).
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s", help_heading = META)]
    pub backup_meta: Duration,
    /// Leave the trash out of backups of metadata.
    #[arg(long, help_heading = META)]
    pub backup_skip_trash: bool,
    /// When access times move.
    #[arg(long, value_enum, default_value = "noatime", help_heading = META)]
    pub atime_mode: AtimeArg,
    /// Do not move a folder's times when they would move by less.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "100ms", help_heading = META)]
    pub skip_dir_mtime: Duration,
    /// How long attributes of an opened file are believed without asking; weakens close-to-open.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s", help_heading = META)]
    pub open_cache: Duration,
}

/// Object store.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Kind of object store, instead of the volume's.
    #[arg(long, value_name = "KIND", help_heading = STORE)]
    pub storage: Option<String>,
    /// Folder or bucket of the objects, instead of the volume's.
    #[arg(long, value_name = "PATH|URL", help_heading = STORE)]
    pub bucket: Option<String>,
    /// Class of storage for objects that this mount stores, instead of the volume's.
    #[arg(long, value_name = "CLASS", help_heading = STORE)]
    pub storage_class: Option<String>,
    /// Longest time for one try to fetch an object.
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "60s", help_heading = STORE)]
    pub get_timeout: Duration,
    /// Longest time for one try to store an object.
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "60s", help_heading = STORE)]
    pub put_timeout: Duration,
    /// Bandwidth for storing in Mbps; 0 for no limit [default: the volume's].
    #[arg(long, value_name = "MBPS", value_parser = parse_mbps, help_heading = STORE)]
    pub upload_limit: Option<u64>,
    /// Bandwidth for fetching in Mbps; 0 for no limit [default: the volume's].
    #[arg(long, value_name = "MBPS", value_parser = parse_mbps, help_heading = STORE)]
    pub download_limit: Option<u64>,
    /// Blocks stored at a time.
    #[arg(long, value_name = "COUNT", value_parser = at_least_one, default_value = "20", help_heading = STORE)]
    pub max_uploads: usize,
    /// Objects fetched at a time.
    #[arg(long, value_name = "COUNT", value_parser = at_least_one, default_value = "200", help_heading = STORE)]
    pub max_downloads: usize,
    /// Objects removed at a time; 0 removes none, they stay for garbage collection.
    #[arg(long, value_name = "COUNT", default_value = "10", help_heading = STORE)]
    pub max_deletes: usize,
    /// Retries of a failed request, spread over as long as JuiceFS takes for as many: 385 s for 10.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 10, help_heading = STORE)]
    pub io_retries: u32,
    /// Write, read and delete a test object before mounting.
    #[arg(long, help_heading = STORE)]
    pub check_storage: bool,
}

/// Log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Log file in the background [default: /var/log/jfs-uring.log, or ~/.juicefs/jfs-uring.log for users].
    #[arg(long, value_name = "PATH", help_heading = LOG)]
    pub log: Option<PathBuf>,
    /// Log more.
    #[arg(short, long, alias = "debug", help_heading = LOG)]
    pub verbose: bool,
    /// Log warnings and errors only.
    #[arg(short, long, help_heading = LOG)]
    pub quiet: bool,
    /// Log everything.
    #[arg(long, help_heading = LOG)]
    pub trace: bool,
    /// No colours in the log.
    #[arg(long, help_heading = LOG)]
    pub no_color: bool,
}
