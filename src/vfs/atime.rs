//! Access times, where the mount wants them (`--atime-mode`).
//!
//! Owns when reading counts as an access: opening, reading, listing, following a link. Whether the
//! time moves is `meta`'s rule. A time that cannot be moved fails nothing.

use super::dispatch::Vfs;
use crate::types::Ino;

impl Vfs {
    /// Somebody read `ino`.
    pub(super) async fn accessed(&self, ino: Ino) {
        let Some(atime) = self.config.atime else { return };
        if self.config.read_only || self.meta.is_held() || ino >= Ino::VIRTUAL {
            return;
        }
        match self.meta.touch(ino, atime).await {
            Ok(true) => self.changed(ino),
            Ok(false) => {}
            Err(error) => tracing::debug!(%ino, %error, "the access time stays"),
        }
    }
}
