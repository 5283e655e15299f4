//! An opened volume: its address, its setting, and the doors to its metadata and objects.

use std::path::Path;

use rustix::io::Errno;
use serde_json::{Value, json};

use super::engine::Engines;
use super::failure::Failure;
use super::format::{FormatPlan, make};
use super::store::{OwnStore, StorePolicy, Stores};
use crate::config::{MetaUrl, Setting};
use crate::meta::{Meta, MetaError, MetaShared, NewNode, Rules, Session, Who};
use crate::stage::Compression;
use crate::types::{FileType, Ino};
use crate::uring;

/// As which client this one works, and which it is.
pub const VERSION: &str = concat!("1.4.1+jfs-uring.", env!("CARGO_PKG_VERSION"));

/// A volume that this client understands.
pub struct Volume {
    /// Where its metadata is.
    pub url: MetaUrl,
    /// Doors to its metadata.
    pub engines: Engines,
    /// Its description.
    pub setting: Setting,
}

/// How full a volume is, in the words of the real client's `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// Bytes charged.
    pub used_bytes: u64,
    /// Bytes left.
    pub available_bytes: u64,
    /// Nodes.
    pub used_inodes: u64,
    /// Nodes left.
    pub available_inodes: u64,
}

/// What a volume itself demands of plans.
pub(super) fn rules_of(setting: &Setting) -> Rules {
    Rules {
        capacity: setting.capacity(),
        inode_limit: setting.inodes(),
        acl: setting.acl(),
        dir_quotas: setting.dir_stats(),
        owner_quotas: setting.owner_quotas(),
        ..Rules::default()
    }
}

/// How a volume's blocks are encoded.
///
/// # Errors
/// When this client does not know.
pub(super) fn compression_of(setting: &Setting) -> Result<Compression, Failure> {
    Compression::from_setting(setting.compression()).ok_or_else(|| {
        Failure::refused(format!("compression {:?} is not known", setting.compression()))
    })
}

impl Volume {
    /// Open the volume at `url`, whatever its features are; one in memory is made on the spot.
    ///
    /// # Errors
    /// When the engine is not reachable or holds no volume.
    pub fn open(url: MetaUrl) -> Result<Self, Failure> {
        let engines = Engines::open(&url, false)?;
        if let MetaUrl::Memory(name) = &url {
            let plan = FormatPlan {
                name: name.clone(),
                storage: Some("mem".to_owned()),
                trash_days: Some(0),
                ..FormatPlan::default()
            };
            return Ok(Self { setting: make(&engines, &plan)?, url, engines });
        }
        let stored = uring::block_on(async { engines.engine().load_setting().await })?;
        let Some(text) = stored else {
            return Err(Failure::failed(format!(
                "{url} holds no volume; make one with `jfs-uring format {url} NAME`"
            )));
        };
        Ok(Self { setting: Setting::parse(&text)?, url, engines })
    }

    /// Doors to its objects; what `own` says goes before the volume's own.
    ///
    /// # Errors
    /// When the kind of store is not served, or its secrets cannot be read.
    pub fn stores(&self, own: OwnStore, policy: StorePolicy) -> Result<Stores, Failure> {
        let stores = Stores::open(&self.setting, own, policy)?;
        stores.obey_rates(self.setting.rates_mbps());
        Ok(stores)
    }

    /// What the volume itself demands of plans.
    pub fn rules(&self) -> Rules {
        rules_of(&self.setting)
    }

    /// Sessions and usage.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn look(&self) -> Result<(Vec<Session>, Statistic), Failure> {
        uring::block_on(async {
            let shared = MetaShared::new(Ino::ROOT, true, 0, self.rules());
            let meta = Meta::new(self.engines.engine(), shared);
            let usage = meta.usage().await?;
            let statistic = Statistic {
                used_bytes: usage.space,
                available_bytes: usage.total_bytes() - usage.space,
                used_inodes: usage.inodes,
                available_inodes: usage.free_inodes(),
            };
            Ok((meta.sessions().await?, statistic))
        })
    }
}

/// The JSON text of this process's session at `point`, as `juicefs status` reads it.
pub fn session_info(point: &Path) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let info: Value = json!({
        "Version": VERSION,
        "HostName": host,
        "MountPoint": point.display().to_string(),
        "MountTime": crate::stdx::calendar::rfc3339(crate::stdx::now()),
        "ProcessID": std::process::id(),
    });
    info.to_string()
}

/// The directory at `path` from the root of the volume, made where it is missing, as the real
/// client does for `--subdir`.
///
/// # Errors
/// When a part of it is no directory, or missing where nothing may be written.
pub async fn find_dir(meta: &Meta, path: &str) -> Result<Ino, Failure> {
    let mut dir = Ino::ROOT;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        dir = match meta.lookup(dir, part.as_bytes()).await {
            Ok((ino, attr)) if attr.kind == FileType::Dir => ino,
            Ok(_) => {
                return Err(Failure::usage(format!("--subdir {path}: {part:?} is not a folder")));
            }
            Err(MetaError::Posix(Errno::NOENT)) => {
                let new =
                    NewNode { kind: FileType::Dir, mode: 0o777, umask: 0, rdev: 0, target: None };
                let made = meta.create(dir, part.as_bytes(), &new, Who { uid: 0, gid: 0 }).await;
                made.map_err(|error| {
                    Failure::failed(format!("--subdir {path}: {part:?} cannot be made: {error}"))
                })?
                .ino
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(dir)
}
