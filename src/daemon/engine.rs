//! From a META-URL to engine handles for any core.

use std::rc::Rc;

use super::failure::Failure;
use crate::config::MetaUrl;
use crate::meta::Engine;
use crate::meta::mem::MemBase;
use crate::meta::redis::{Passwords, RedisServer};
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
            MetaUrl::Redis(text) => Self::Redis(RedisServer::from_url(text, passwords()?)?),
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

/// The passwords for a URL without one: `REDIS_PASSWORD`, `META_PASSWORD`, or the file
/// `META_PASSWORD_FILE` names; the Sentinels' own is `SENTINEL_PASSWORD`.
fn passwords() -> Result<Passwords, Failure> {
    let given = |name: &str| std::env::var(name).ok().filter(|password| !password.is_empty());
    let sentinel = given("SENTINEL_PASSWORD");
    let mut redis = given("REDIS_PASSWORD").or_else(|| given("META_PASSWORD"));
    if redis.is_none()
        && let Some(path) = std::env::var_os("META_PASSWORD_FILE")
    {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let shown = path.display();
            Failure::usage(format!("META_PASSWORD_FILE {shown} cannot be read: {error}"))
        })?;
        redis = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(Passwords { redis, sentinel })
}
