//! How much must go before more comes: sums over the limits and the disk's free space.

use std::path::Path;

/// Part of the limits that a clean-up leaves in use.
const BYTES_KEPT: f64 = 0.95;
const BLOCKS_KEPT: f64 = 0.99;

/// A total and what is free of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stage) struct Supply {
    pub(in crate::stage) total: u64,
    pub(in crate::stage) free: u64,
}

/// What the file system of a folder has, in bytes and in inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stage) struct Disk {
    pub(in crate::stage) bytes: Supply,
    pub(in crate::stage) inodes: Supply,
}

impl Disk {
    /// Ask the system.
    pub(in crate::stage) fn of(path: &Path) -> rustix::io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self {
            bytes: Supply { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) },
            inodes: Supply { total: stat.f_files, free: stat.f_favail },
        })
    }
}

/// What one folder may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    /// 0: only the free inodes count.
    pub(super) blocks: u64,
    pub(super) free_ratio: f64,
}

/// How much of one kind must go for `coming` more to fit; 0 when it fits now.
fn excess(used: u64, coming: u64, limit: u64, kept: f64, supply: Supply, ratio: f64) -> u64 {
    let most = limit.min((supply.total as f64 * (1.0 - ratio)) as u64);
    let over_limit = match used + coming > most {
        true => (used + coming).saturating_sub((most as f64 * kept) as u64),
        false => 0,
    };
    let free_goal = (supply.total as f64 * ratio) as u64;
    over_limit.max((free_goal + coming).saturating_sub(supply.free)).min(used + coming)
}

/// Bytes and blocks that must go before `coming_bytes` are written as one more block.
pub(super) fn to_free(
    limits: Limits,
    disk: Disk,
    used_bytes: u64,
    used_blocks: u64,
    coming_bytes: u64,
) -> (u64, u64) {
    let ratio = limits.free_ratio;
    let bytes = excess(used_bytes, coming_bytes, limits.bytes, BYTES_KEPT, disk.bytes, ratio);
    // Some file systems count no inodes.
    if disk.inodes.total == 0 && limits.blocks == 0 {
        return (bytes, 0);
    }
    let endless = Supply { total: u64::MAX, free: u64::MAX };
    let inodes = if disk.inodes.total == 0 { endless } else { disk.inodes };
    let most = if limits.blocks == 0 { u64::MAX } else { limits.blocks };
    (bytes, excess(used_blocks, 1, most, BLOCKS_KEPT, inodes, ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Supply = Supply { total: 1_000_000, free: 900_000 };

    fn limits(bytes: u64, blocks: u64) -> Limits {
        Limits { bytes, blocks, free_ratio: 0.1 }
    }

    #[test]
    fn nothing_goes_while_all_fits() {
        let disk = Disk { bytes: ROOMY, inodes: ROOMY };
        assert_eq!(to_free(limits(1000, 0), disk, 900, 9, 100), (0, 0));
    }

    #[test]
    fn past_the_limit_it_goes_down_to_a_part() {
        let disk = Disk { bytes: ROOMY, inodes: ROOMY };
        assert_eq!(to_free(limits(1000, 0), disk, 1000, 9, 100), (150, 0));
        assert_eq!(to_free(limits(10_000, 100), disk, 0, 100, 1), (0, 2));
    }

    #[test]
    fn the_disk_keeps_its_free_part() {
        let tight = Supply { total: 1_000_000, free: 90_000 };
        let disk = Disk { bytes: tight, inodes: ROOMY };
        assert_eq!(to_free(limits(u64::MAX, 0), disk, 500_000, 9, 1000), (11_000, 0));
        let disk = Disk { bytes: ROOMY, inodes: tight };
        assert_eq!(to_free(limits(u64::MAX, 0), disk, 0, 50_000, 0).1, 10_001);
        assert_eq!(to_free(limits(u64::MAX, 0), disk, 0, 9, 0).1, 10, "not more than there is");
    }

    #[test]
    fn a_file_system_without_inode_counts_is_fine() {
        let disk = Disk { bytes: ROOMY, inodes: Supply { total: 0, free: 0 } };
        assert_eq!(to_free(limits(1000, 0), disk, 10, 10, 10), (0, 0));
        assert_eq!(to_free(limits(1000, 5), disk, 10, 5, 10), (0, 2));
    }
}
