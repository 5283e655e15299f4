//! From a META-URL to engine handles for any core.

use std::rc::Rc;

use super::failure::Failure;
use crate::config::MetaUrl;
use crate::meta::Engine;
use crate::meta::mem::MemBase;
use crate::meta::redis::RedisServer;
use crate::meta::sqlite::SqliteFile;
use crate::uring;

/// An engine of some kind; clones are for other cores.
#[derive(Clone)]
pub enum Engines {
    /// A file.
    Sqlite(SqliteFile),
    /// A server.
    Redis(RedisServer),
    /// Memory of this process.
    Memory(MemBase),
}

impl Engines {
    /// Open what `url` names; `create` makes a file that is not there.
    ///
    /// # Errors
    /// When there is none, or it is not ours to open.
    pub fn open(url: &MetaUrl, create: bool) -> Result<Self, Failure> {
        need_uring()?;
        Ok(match url {
            MetaUrl::Sqlite(path) => Self::Sqlite(SqliteFile::open(path, create)?),
            MetaUrl::Redis(text) => Self::Redis(RedisServer::from_url(text, password()?)?),
            MetaUrl::Memory(_) => Self::Memory(MemBase::new()),
        })
    }

    /// A handle for the calling core.
    pub fn engine(&self) -> Rc<dyn Engine> {
        match self {
            Self::Sqlite(file) => file.engine(),
            Self::Redis(server) => server.engine(),
            Self::Memory(base) => base.engine(),
        }
    }
}

/// Everything that waits needs io_uring.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn need_uring() -> Result<(), Failure> {
    uring::probe().map_err(|error| {
        Failure::failed(format!(
            "the kernel refuses io_uring: {error}; `jfs-uring doctor` tells how to allow it"
        ))
    })
}

/// The password for a URL without one: `META_PASSWORD`, or the file `META_PASSWORD_FILE` names.
fn password() -> Result<Option<String>, Failure> {
    if let Ok(password) = std::env::var("META_PASSWORD")
        && !password.is_empty()
    {
        return Ok(Some(password));
    }
    let Some(path) = std::env::var_os("META_PASSWORD_FILE") else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => {
            let shown = path.display();
            Err(Failure::usage(format!("META_PASSWORD_FILE {shown} cannot be read: {error}")))
        }
    }
}
