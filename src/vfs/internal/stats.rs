//! What a mount counted, under the names of the official client, and under `jfs_uring_` what that does
//! not have: for `.stats`, and for Prometheus.
//!
//! Owns the table of names. Only what is measured has a line.

use std::time::Duration;

use crate::meta::{MetaCounts, Usage};
use crate::metrics::Sum;
use crate::metrics::report::Report;
use crate::metrics::spread::{METADATA, OBJECTS, OPERATIONS, SIZES, SpreadSum};
use crate::stage::{CacheStats, StagingCounts, StagingStatus};
use crate::stdx::{monotonic_ns, process_ns};
use crate::types::Level;
use crate::uring;
use crate::vfs::Vfs;
use crate::vfs::method::NAMES;
use crate::vfs::span::Sums;

/// How long the engine may take to tell what the volume uses; without that it is left out.
const USAGE_PATIENCE: Duration = Duration::from_secs(1);

/// Errors by their names; others go by their number.
const ERRORS: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::EBADF, "EBADF"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EACCES, "EACCES"),
    (libc::EEXIST, "EEXIST"),
    (libc::EXDEV, "EXDEV"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::EISDIR, "EISDIR"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENFILE, "ENFILE"),
    (libc::ENOTTY, "ENOTTY"),
    (libc::EFBIG, "EFBIG"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EROFS, "EROFS"),
    (libc::EMLINK, "EMLINK"),
    (libc::ERANGE, "ERANGE"),
    (libc::EDEADLK, "EDEADLK"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG"),
    (libc::ENOLCK, "ENOLCK"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::ENOTEMPTY, "ENOTEMPTY"),
    (libc::ELOOP, "ELOOP"),
    (libc::ENODATA, "ENODATA"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::ESTALE, "ESTALE"),
    (libc::EDQUOT, "EDQUOT"),
];

impl Vfs {
    /// What this mount counted, and holds, now.
    pub async fn report(&self) -> Report {
        let mut report = Report::default();
        self.process(&mut report);
        operations(&mut report, self.sums());
        self.metadata(&mut report);
        // Without metadata the rest is worth the more.
        if let Ok(Ok(usage)) = uring::timeout(USAGE_PATIENCE, self.meta.usage()).await {
            volume(&mut report, usage);
        }
        self.file_bytes(&mut report);
        if let Some((status, dirty_bytes)) = self.data.staging() {
            staged(&mut report, &status);
            levels(&mut report, &status, dirty_bytes);
        }
        report
    }

    /// The text of `.stats` as of now.
    pub(super) async fn stats(&self) -> Vec<u8> {
        self.report().await.lines()
    }

    fn process(&self, report: &mut Report) {
        let lives_ns = monotonic_ns().saturating_sub(self.shared.began_ns);
        report.gauge_ns("uptime", "Seconds since the mount began.", lives_ns);
        report.gauge_ns("cpu_usage", "Seconds of CPU time of the process.", process_ns());
        if let Some(bytes) = resident_bytes() {
            report.gauge("memory", "Bytes of memory that are resident.", bytes);
        }
        let backup = &self.shared.last_backup;
        let help = "Unix time of this mount's last backup of metadata, 0 without one.";
        report.gauge_ns("last_successful_backup", help, backup.at_ns());
        let help = "Seconds that it took.";
        report.gauge_ns("last_backup_duration", help, backup.took_ns());
    }

    fn metadata(&self, report: &mut Report) {
        let MetaCounts { questions, commits, restarts } = self.meta.counts();
        let SpreadSum { all, buckets } = [questions, commits.clone()].into_iter().sum();
        let name = "meta_ops_durations_histogram_seconds";
        let help = "Times of questions to the metadata engine and commits.";
        report.spread(name, help, &METADATA, all, buckets);
        let name = "transaction_durations_histogram_seconds";
        report.spread(name, "Times of commits.", &METADATA, commits.all, commits.buckets);
        let help = "Operations that were planned once more.";
        report.counter("transaction_restart", help, restarts);
    }

    fn file_bytes(&self, report: &mut Report) {
        let counts = self.data.counts();
        let help = "Bytes of written data in memory.";
        report.gauge("used_buffer_size_bytes", help, counts.buffer_bytes);
        blocks(report, &counts.cache);
        let method = |name: &str, value| (name.to_owned(), value);
        report.spreads(
            "object_request_durations_histogram_seconds",
            "Times of requests to the object store.",
            &OBJECTS,
            "method",
            [method("GET", counts.get), method("PUT", counts.put), method("DELETE", counts.delete)],
        );
        let bytes = |name: &str, value| (name.to_owned(), value);
        report.counters(
            "object_request_data_bytes",
            "Bytes fetched and stored, as they are stored.",
            "method",
            [bytes("GET", counts.get_bytes), bytes("PUT", counts.put_bytes)],
        );
        let help = "Requests to the object store that failed in the end.";
        report.counter("object_request_errors", help, counts.errors);
        report.gauge("object_request_uploading", "Blocks being stored.", counts.uploading);
    }
}

fn blocks(report: &mut Report, cache: &CacheStats) {
    let hits = cache.memory_hits + cache.disk_hits;
    report.gauge("store_cache_size_bytes", "Bytes of blocks in memory.", cache.memory_bytes);
    report.counter("blockcache_hits", "Reads that the block cache answered.", hits);
    report.counter("blockcache_miss", "Reads that it did not answer.", cache.misses);
    report.counter("blockcache_hit_bytes", "Bytes that it answered.", cache.hit_bytes);
    report.counter("blockcache_miss_bytes", "Bytes that it did not answer.", cache.miss_bytes);
    report.counter("blockcache_writes", "Blocks written to its disks.", cache.writes);
    report.counter("blockcache_write_bytes", "Bytes of these.", cache.write_bytes);
    report.counter("blockcache_drops", "Blocks that were not written.", cache.drops);
    report.counter("blockcache_evicts", "Blocks that made room or expired.", cache.evicts);
    report.gauge("blockcache_blocks", "Blocks on its disks.", cache.disk_blocks);
    report.gauge("blockcache_bytes", "Bytes of these.", cache.disk_bytes);
}

const MS_NS: u64 = 1_000_000;
const US_NS: u64 = 1_000;

fn staged(report: &mut Report, status: &StagingStatus) {
    let StagingCounts { write_bytes, writing, errors, delay_ms, .. } = status.counted;
    let (blocks, bytes) =
        (status.logged_blocks + status.local_blocks, status.logged_bytes + status.local_bytes);
    report.gauge("staging_blocks", "Blocks that wait for their upload.", blocks);
    report.gauge("staging_block_bytes", "Bytes of these.", bytes);
    report.counter("staging_write_bytes", "Bytes that were kept for their upload.", write_bytes);
    report.gauge("staging_writing_blocks", "Blocks being written to the disk.", writing);
    let help = "Ages of blocks when their uploads began, added up.";
    report.counter_ns("staging_block_delay_seconds", help, delay_ms * MS_NS);
    report.counter("staging_block_errors", "Blocks that the disk did not take.", errors);
}

/// What the official client does not count.
fn levels(report: &mut Report, status: &StagingStatus, dirty_bytes: u64) {
    let of = |level: Level, value| (level.name().to_owned(), value);
    let blocks = [of(Level::Logged, status.logged_blocks), of(Level::Local, status.local_blocks)];
    let help = "Blocks that came so far and no farther.";
    report.gauges("jfs_uring_level_blocks", help, "level", blocks);
    let bytes = [
        of(Level::Accepted, dirty_bytes),
        of(Level::Logged, status.logged_bytes),
        of(Level::Local, status.local_bytes),
    ];
    let help = "Bytes that came so far and no farther.";
    report.gauges("jfs_uring_level_bytes", help, "level", bytes);
    let oldest_ns = status.oldest_age_ms * MS_NS;
    let help = "Age of the oldest block that waits for its upload.";
    report.gauge_ns("jfs_uring_oldest_block_age_seconds", help, oldest_ns);
    let help = "Blocks whose upload failed and is tried again.";
    report.gauge("jfs_uring_failed_blocks", help, status.failed_blocks);
    let lost = status.lost_folders.len() as u64;
    report.gauge("jfs_uring_lost_folders", "Folders that were taken out.", lost);
    let counted = &status.counted;
    let help = "Blocks that were uploaded.";
    report.counter("jfs_uring_uploaded_blocks", help, counted.uploaded);
    let help = "Blocks that nobody needed any more before their upload.";
    report.counter("jfs_uring_spared_blocks", help, counted.spared);
    let help = "Blocks older than --upload-deadline.";
    report.counter("jfs_uring_deadline_misses", help, counted.deadline_misses);
    let help = "Rounds that brought what is kept to the disk.";
    report.counter("jfs_uring_sync_rounds", help, counted.syncs);
    let help = "Calls that waited for these rounds.";
    report.counter("jfs_uring_sync_waiters", help, counted.sync_waiters);
    let help = "Time of these rounds.";
    report.counter_ns("jfs_uring_sync_seconds", help, counted.sync_us * US_NS);
    let help = "Time that writers waited for room, all together.";
    report.counter_ns("jfs_uring_back_pressure_seconds", help, counted.waited_ms * MS_NS);
}

fn operations(report: &mut Report, sums: Sums) {
    let all: Sum = sums.operations.iter().copied().sum();
    let name = "fuse_ops_durations_histogram_seconds";
    report.spread(name, "Times of all operations.", &OPERATIONS, all, sums.times);
    let done = || NAMES.iter().zip(&sums.operations).filter(|(_, sum)| sum.count > 0);
    let counts = done().map(|(name, sum)| ((*name).to_owned(), sum.count));
    report.counters("fuse_ops_total", "Operations.", "method", counts);
    let times = done().map(|(name, sum)| ((*name).to_owned(), sum.total));
    let name = "fuse_ops_durations_seconds";
    report.counters_ns(name, "Times of operations, added up.", "method", times);
    let errors = sums.errors.iter().enumerate().filter(|(_, count)| **count > 0);
    let named = |(number, count): (usize, &u64)| {
        let known = ERRORS.iter().find(|(errno, _)| usize::try_from(*errno) == Ok(number));
        (known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned()), *count)
    };
    let help = "Operations that ended with an error.";
    report.counters("fuse_ops_io_errors", help, "errno", errors.map(named));
    let help = "Bytes of each read.";
    report.spread("fuse_read_size_bytes", help, &SIZES, sums.read_bytes, sums.read_sizes);
    let help = "Bytes of each write.";
    report.spread("fuse_written_size_bytes", help, &SIZES, sums.written_bytes, sums.written_sizes);
}

fn volume(report: &mut Report, usage: Usage) {
    report.gauge("used_space", "Bytes that the volume uses.", usage.space);
    report.gauge("used_inodes", "Inodes that it uses.", usage.inodes);
    report.gauge("total_space", "Bytes that it may have.", usage.total_bytes());
    let inodes = usage.inodes.saturating_add(usage.free_inodes());
    report.gauge("total_inodes", "Inodes that it may have.", inodes);
}

/// Memory of this process that is not swapped out.
fn resident_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = told.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
