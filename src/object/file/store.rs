//! The folder as a [`Store`].
//!
//! Owns the handle. Small blobs are moved by plain system calls on the core: a hop to another
//! thread costs more than writing them into the page cache. Large ones make the hop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Local, ObjectInfo, Store, StoreError};
use super::disk::Disk;
use super::list;
use crate::net::side;
use crate::pages::Page;

/// A folder of blobs; clones share it, also across cores.
#[derive(Clone)]
pub struct FileStore(Arc<Disk>);

impl FileStore {
    /// The bucket at `root`, which is made with the first put.
    /// A relative path is taken from the current folder once and for all.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = root.as_ref();
        let absolute = std::path::absolute(root)
            .map_err(|error| StoreError::Refused(format!("bucket {}: {error}", root.display())))?;
        Ok(Self(Arc::new(Disk::new(PathBuf::from_iter(absolute.components())))))
    }
}

impl Store for FileStore {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let disk = Arc::clone(&self.0);
        let len_bytes = body.iter().map(|page| page.len()).sum();
        Box::pin(side::run_sized(len_bytes, move || disk.put(&key, &body)))
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        mut into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        let disk = Arc::clone(&self.0);
        Box::pin(side::run_sized(into.len(), move || {
            let count = disk.get(&key, offset, &mut into)?;
            Ok((into, count))
        }))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move { self.0.delete(&key) })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(async move { list::list(self.0.root(), &prefix, &start_after, limit) })
    }

    fn describe(&self) -> String {
        format!("file://{}/", self.0.root().display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::super::conformance::{body, check, pattern};
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    #[test]
    fn conforms() {
        let folder = tempfile::tempdir().unwrap();
        check(&FileStore::new(folder.path().join("bucket/")).unwrap());
    }

    #[test]
    fn files_lie_where_juicefs_puts_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path()).unwrap();
        let pool = Pool::new(PAGE_BYTES);
        block_on(store.put("vol/chunks/0/1/1000_0_3".into(), body(&pool, b"abc"))).unwrap();
        let path = folder.path().join("vol/chunks/0/1/1000_0_3");
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o666, 0, "no more than 0666");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn folders_that_vanish_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path()).unwrap();
        let pool = Pool::new(PAGE_BYTES);
        for _ in 0..2 {
            block_on(store.put("a/b/c".into(), body(&pool, b"abc"))).unwrap();
            fs::remove_dir_all(folder.path().join("a")).unwrap();
        }
    }

    #[test]
    fn many_small_pieces_are_written_in_several_calls() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path()).unwrap();
        let pool = Pool::new(PAGE_BYTES);
        let bytes = pattern(3000);
        let whole = body(&pool, &bytes).remove(0);
        let pieces = (0..3000).map(|at| whole.piece(at, 1)).collect();
        block_on(store.put("a".into(), pieces)).unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), bytes);
    }

    #[test]
    fn what_a_dead_put_left_is_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".jfs.1_0_1.tmp.77"), b"half").unwrap();
        let store = FileStore::new(folder.path()).unwrap();
        assert_eq!(block_on(store.list(String::new(), String::new(), 9)).unwrap(), []);
    }

    #[test]
    fn errors_say_what_to_do_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let store = FileStore::new(folder.path().join("file")).unwrap();
        let pool = Pool::new(PAGE_BYTES);
        let put = |store: &FileStore, key: &str| block_on(store.put(key.into(), body(&pool, b"x")));
        assert!(matches!(put(&store, "a"), Err(StoreError::Refused(_))));
        let full = FileStore::new("/dev").unwrap();
        assert!(matches!(put(&full, "../etc/x"), Err(StoreError::Refused(_))));
        assert!(matches!(put(&full, "a//b"), Err(StoreError::Refused(_))));
        assert_eq!(pool.used_pages(), 0);
    }
}
