//! statfs: usage of the volume, with JuiceFS's figures for what has no limit.

use super::dispatch::Vfs;
use super::error::Done;
use super::op::{Reply, StatfsReply};
use crate::meta::Usage;

impl Vfs {
    pub(super) async fn statfs(&self) -> Done {
        Ok(Reply::Statfs(figures(self.meta.usage().await?)))
    }
}

fn figures(usage: Usage) -> StatfsReply {
    let (total_bytes, free_inodes) = (usage.total_bytes(), usage.free_inodes());
    StatfsReply {
        total_bytes,
        free_bytes: total_bytes - usage.space,
        inodes: usage.inodes.saturating_add(free_inodes),
        free_inodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_real_client() {
        let empty = Usage { space: 0, inodes: 0, capacity: 0, inode_limit: 0 };
        let told = figures(empty);
        assert_eq!((told.total_bytes >> 12, told.inodes), (274_877_906_944, 10_485_760));
        let big = figures(Usage { space: 1 << 50, inodes: 60 << 20, ..empty });
        assert_eq!((big.total_bytes, big.free_inodes), (1 << 51, 20 << 20));
        let full = figures(Usage { space: 20, inodes: 7, capacity: 10, inode_limit: 5 });
        assert_eq!((full.total_bytes, full.free_bytes, full.free_inodes), (20, 0, 0));
        assert_eq!(full.inodes, 7);
    }
}
