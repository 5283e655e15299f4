//! From a META-URL to engine handles for any core.

use std::rc::Rc;

use super::failure::Failure;
use crate::config::MetaUrl;
use crate::meta::Engine;
use crate::meta::sqlite::SqliteFile;
use crate::uring;

/// An engine of some kind; clones are for other cores.
#[derive(Clone)]
pub enum Engines {
    /// The embedded engine.
    Sqlite(SqliteFile),
}

impl Engines {
    /// Open what `url` names; `create` makes a file that is not there.
    ///
    /// # Errors
    /// When there is none, or it is not ours to open.
    pub fn open(url: &MetaUrl, create: bool) -> Result<Self, Failure> {
        uring::probe().map_err(|error| {
            Failure::failed(format!(
                "the kernel refuses io_uring: {error}; `jfs-uring doctor` tells how to allow it"
            ))
        })?;
        match url {
            MetaUrl::Sqlite(path) => Ok(Self::Sqlite(SqliteFile::open(path, create)?)),
            _ => Err(Failure::failed("not yet")),
        }
    }

    /// A handle for the calling core.
    pub fn engine(&self) -> Rc<dyn Engine> {
        match self {
            Self::Sqlite(file) => file.engine(),
        }
    }
}
