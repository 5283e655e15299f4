//! statfs: usage of the volume, with JuiceFS's figures for what has no limit.

use super::dispatch::Vfs;
use super::error::Done;
use super::op::{Reply, StatfsReply};
use crate::meta::{Quota, Usage};
use crate::types::Ino;

impl Vfs {
    pub(super) async fn statfs(&self, ino: Ino) -> Done {
        let (usage, quotas) = self.meta.usage_at(ino).await?;
        Ok(Reply::Statfs(figures(usage, &quotas)))
    }
}

/// The volume's figures, or with quotas those of the nearest one: what it counts, and what all of
/// them leave.
fn figures(usage: Usage, quotas: &[Quota]) -> StatfsReply {
    let volume = StatfsReply {
        total_bytes: usage.total_bytes(),
        free_bytes: usage.total_bytes() - usage.space,
        inodes: usage.inodes.saturating_add(usage.free_inodes()),
        free_inodes: usage.free_inodes(),
    };
    let Some(nearest) = quotas.first() else { return volume };
    let left = |max: i64, used: i64| match max {
        ..=0 => u64::MAX,
        _ => max.saturating_sub(used.max(0)).max(0) as u64,
    };
    let (mut free_bytes, mut free_inodes) = (volume.free_bytes, volume.free_inodes);
    for quota in quotas {
        free_bytes = free_bytes.min(left(quota.max_space, quota.used_space));
        free_inodes = free_inodes.min(left(quota.max_inodes, quota.used_inodes));
    }
    let used = |used: i64| used.max(0) as u64;
    StatfsReply {
        total_bytes: used(nearest.used_space).saturating_add(free_bytes),
        free_bytes,
        inodes: used(nearest.used_inodes).saturating_add(free_inodes),
        free_inodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_real_client() {
        let empty = Usage { space: 0, inodes: 0, capacity: 0, inode_limit: 0 };
        let figures = |usage| figures(usage, &[]);
        let told = figures(empty);
        assert_eq!((told.total_bytes >> 12, told.inodes), (274_877_906_944, 10_485_760));
        let big = figures(Usage { space: 1 << 50, inodes: 60 << 20, ..empty });
        assert_eq!((big.total_bytes, big.free_inodes), (1 << 51, 20 << 20));
        let full = figures(Usage { space: 20, inodes: 7, capacity: 10, inode_limit: 5 });
        assert_eq!((full.total_bytes, full.free_bytes, full.free_inodes), (20, 0, 0));
        assert_eq!(full.inodes, 7);
    }

    #[test]
    fn the_nearest_quota_is_what_there_is_and_every_quota_leaves_less() {
        let volume = Usage { space: 50 << 20, inodes: 100, capacity: 100 << 20, inode_limit: 0 };
        let quota = |max_space, max_inodes, used_space, used_inodes| Quota {
            max_space,
            max_inodes,
            used_space,
            used_inodes,
        };
        let told = figures(volume, &[quota(10 << 20, 0, 4 << 20, 3), quota(-1, 50, 9 << 20, 30)]);
        assert_eq!((told.total_bytes, told.free_bytes), (10 << 20, 6 << 20));
        assert_eq!((told.inodes, told.free_inodes), (23, 20));
        let wide = figures(volume, &[quota(1 << 40, -1, 4 << 20, 3)]);
        assert_eq!((wide.total_bytes, wide.free_bytes), (54 << 20, 50 << 20), "the volume ends");
        let over = figures(volume, &[quota(4096, 1, 8192, 2)]);
        assert_eq!((over.total_bytes, over.free_bytes), (8192, 0));
        assert_eq!((over.inodes, over.free_inodes), (2, 0));
        let odd = figures(volume, &[quota(8192, 0, -4096, -1)]);
        assert_eq!((odd.total_bytes, odd.free_bytes), (8192, 8192), "as if nothing were used");
    }
}
