//! From a volume's storage and bucket to store handles for any core.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::failure::Failure;
use crate::object::{FileStore, Prefixed, Store, mem};

/// An object store of some kind; clones are for other cores.
#[derive(Clone)]
pub enum Stores {
    /// A folder.
    File {
        /// The bucket.
        store: FileStore,
        /// Its path.
        bucket: PathBuf,
        /// Name of the volume with a slash behind.
        prefix: String,
    },
    /// Memory of this process, by name.
    Memory(String),
}

impl Stores {
    /// The store of kind `storage` at `bucket` for the volume called `name`.
    ///
    /// # Errors
    /// When there is no such kind.
    pub fn open(storage: &str, bucket: &str, name: &str) -> Result<Self, Failure> {
        match storage {
            "file" => Ok(Self::File {
                store: FileStore::new(bucket)?,
                bucket: PathBuf::from(bucket),
                prefix: format!("{name}/"),
            }),
            "mem" => Ok(Self::Memory(format!("{bucket}{name}"))),
            other => Err(unknown_kind(other)),
        }
    }

    /// Whether stores of kind `storage` are served.
    ///
    /// # Errors
    /// When there is no such kind.
    pub fn check_kind(storage: &str) -> Result<(), Failure> {
        if ["file", "mem"].contains(&storage) { Ok(()) } else { Err(unknown_kind(storage)) }
    }

    /// The device that objects lie on, if it is one of this machine.
    pub fn device(&self) -> Option<u64> {
        match self {
            Self::File { bucket, .. } => device_of(bucket),
            Self::Memory(_) => None,
        }
    }

    /// A handle for the calling core.
    pub fn store(&self) -> Rc<dyn Store> {
        match self {
            Self::File { store, prefix, .. } => {
                Rc::new(Prefixed::new(store.clone(), prefix.clone()))
            }
            Self::Memory(name) => Rc::new(mem::open(name)),
        }
    }
}

fn unknown_kind(storage: &str) -> Failure {
    Failure::refused(format!(
        "storage {storage:?} is not supported yet by jfs-uring, only \"file\"; \
         use the official client (juicefs mount) for this volume"
    ))
}

/// The device that `path`, or the deepest part of it that is there, lies on.
pub fn device_of(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|part| std::fs::metadata(part).ok()).map(|meta| meta.dev())
}

/// The bucket of a folder as the real client keeps it: absolute, with a slash behind.
///
/// # Errors
/// When the current folder is not known.
pub fn folder_bucket(path: &str) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("--bucket {path:?}: {error}")))?;
    Ok(format!("{}/", absolute.display().to_string().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_absolute_and_end_with_a_slash() {
        assert_eq!(folder_bucket("/var/jfs").unwrap(), "/var/jfs/");
        assert_eq!(folder_bucket("/var/jfs/").unwrap(), "/var/jfs/");
        assert!(folder_bucket("here").unwrap().ends_with("/here/"));
        assert!(folder_bucket("").is_err());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let refused = Stores::open("s3", "https://x", "v").err().unwrap();
        assert!(refused.text.contains("s3"));
        assert_eq!(refused.code, 3);
    }
}
