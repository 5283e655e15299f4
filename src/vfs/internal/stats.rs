//! `.stats`: what a mount counted, under the names of the official client.
//!
//! Owns the table of names. Only what is measured has a line.

use crate::meta::Usage;
use crate::metrics::{Sum, Text};
use crate::stdx::{monotonic_ns, process_ns};
use crate::vfs::Vfs;
use crate::vfs::method::NAMES;
use crate::vfs::span::Sums;

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
    /// The text of `.stats` as of now.
    pub(super) async fn stats(&self) -> Vec<u8> {
        let mut text = Text::default();
        self.process(&mut text);
        operations(&mut text, &self.sums());
        self.metadata(&mut text);
        // Without metadata the rest is worth the more.
        if let Ok(usage) = self.meta.usage().await {
            volume(&mut text, usage);
        }
        self.file_bytes(&mut text);
        text.into_bytes()
    }

    fn process(&self, text: &mut Text) {
        text.seconds("uptime", monotonic_ns().saturating_sub(self.shared.began_ns));
        text.seconds("cpu_usage", process_ns());
        if let Some(bytes) = resident_bytes() {
            text.number("memory", bytes);
        }
    }

    fn metadata(&self, text: &mut Text) {
        let counts = self.meta.counts();
        let all = [counts.questions, counts.commits].into_iter().sum();
        text.times("meta_ops_durations_histogram_seconds", all);
        text.times("transaction_durations_histogram_seconds", counts.commits);
        text.number("transaction_restart", counts.restarts);
    }

    fn file_bytes(&self, text: &mut Text) {
        let counts = self.data.counts();
        text.number("used_buffer_size_bytes", counts.buffer_bytes);
        let cache = counts.cache;
        text.number("store_cache_size_bytes", cache.memory_bytes);
        text.number("blockcache_hits", cache.memory_hits + cache.disk_hits);
        text.number("blockcache_miss", cache.misses);
        text.number("blockcache_hit_bytes", cache.hit_bytes);
        text.number("blockcache_writes", cache.writes);
        text.number("blockcache_write_bytes", cache.write_bytes);
        text.number("blockcache_drops", cache.drops);
        text.number("blockcache_evicts", cache.evicts);
        text.number("blockcache_blocks", cache.disk_blocks);
        text.number("blockcache_bytes", cache.disk_bytes);
        let name = "object_request_durations_histogram_seconds";
        text.times(&format!("{name}_GET"), counts.get);
        text.times(&format!("{name}_PUT"), counts.put);
        text.times(&format!("{name}_DELETE"), counts.delete);
        text.number("object_request_data_bytes_GET", counts.get_bytes);
        text.number("object_request_data_bytes_PUT", counts.put_bytes);
        text.number("object_request_errors", counts.errors);
        text.number("object_request_uploading", counts.uploading);
    }
}

fn operations(text: &mut Text, sums: &Sums) {
    let all: Sum = sums.operations.iter().copied().sum();
    text.times("fuse_ops_durations_histogram_seconds", all);
    for (name, sum) in NAMES.iter().zip(&sums.operations).filter(|(_, sum)| sum.count > 0) {
        text.number(&format!("fuse_ops_total_{name}"), sum.count);
        text.seconds(&format!("fuse_ops_durations_seconds_{name}"), sum.total);
    }
    for (number, count) in sums.errors.iter().enumerate().filter(|(_, count)| **count > 0) {
        let known = ERRORS.iter().find(|(errno, _)| usize::try_from(*errno) == Ok(number));
        let name = known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned());
        text.number(&format!("fuse_ops_io_errors_{name}"), *count);
    }
    text.amounts("fuse_read_size_bytes", sums.read_bytes);
    text.amounts("fuse_written_size_bytes", sums.written_bytes);
}

fn volume(text: &mut Text, usage: Usage) {
    text.number("used_space", usage.space);
    text.number("used_inodes", usage.inodes);
    text.number("total_space", usage.total_bytes());
    text.number("total_inodes", usage.inodes.saturating_add(usage.free_inodes()));
}

/// Memory of this process that is not swapped out.
fn resident_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = told.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
