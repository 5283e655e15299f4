//! Objects spread over several buckets, as JuiceFS spreads them (`--shards`).
//!
//! Owns the choice, FNV-1a of the whole name in 32 bits, and the merging of listings. Names come
//! here with the volume's name in front: that is what JuiceFS hashes.

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;

/// Most buckets a volume may have.
pub const SHARDS_MAX: usize = 256;

/// Several stores as one.
pub struct Sharded<S>(Vec<S>);

/// Which of `count` buckets has `key`.
fn shard_of(key: &str, count: usize) -> usize {
    let hash = key
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % count
}

/// Bucket `number` of the pattern with `%d` in it; `None` when the pattern has no such place, or
/// another `%`.
pub fn shard_bucket(pattern: &str, number: usize) -> Option<String> {
    let (before, after) = pattern.split_once("%d")?;
    let alone = !before.contains('%') && !after.contains('%');
    alone.then(|| format!("{before}{number}{after}"))
}

impl<S: Store> Sharded<S> {
    /// `stores` in their order, which decides where objects are.
    pub fn new(stores: Vec<S>) -> Self {
        assert!((1..=SHARDS_MAX).contains(&stores.len()), "the volume's setting is checked before");
        Self(stores)
    }

    fn of(&self, key: &str) -> &S {
        &self.0[shard_of(key, self.0.len())]
    }
}

impl<S: Store> Store for Sharded<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        self.of(&key).put(key, body)
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        self.of(&key).get(key, offset, into)
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        self.of(&key).delete(key)
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            for store in &self.0 {
                found.extend(store.list(prefix.clone(), start_after.clone(), limit).await?);
            }
            found.sort_by(|one, two| one.key.cmp(&two.key));
            found.truncate(limit);
            Ok(found)
        })
    }

    fn describe(&self) -> String {
        format!("{} and {} more buckets", self.0[0].describe(), self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::check;
    use super::super::mem;
    use super::*;

    #[test]
    fn conforms() {
        let store = |number| mem::open(&format!("shard-conforms-{number}"));
        check(&Sharded::new((0..3).map(store).collect()));
        check(&Sharded::new(vec![mem::open("shard-alone")]));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Values of the function's authors.
        let hash = |text: &str| shard_of(text, 1 << 32);
        assert_eq!(hash(""), 0x811c_9dc5);
        assert_eq!(hash("a"), 0xe40c_292c);
        assert_eq!(hash("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn objects_of_the_real_client_are_where_they_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/refuse-shards");
        let packed = std::fs::read(format!("{fixture}/objects.tar.zst")).unwrap();
        let tar = folder.path().join("objects.tar");
        std::fs::write(&tar, zstd::stream::decode_all(&packed[..]).unwrap()).unwrap();
        let unpacked = std::process::Command::new("tar")
            .arg("-xf")
            .arg(&tar)
            .arg("-C")
            .arg(folder.path())
            .status();
        assert!(unpacked.unwrap().success());
        let mut counted = [0; 3];
        for (number, count) in counted.iter_mut().enumerate() {
            let bucket = folder.path().join(number.to_string());
            let store = super::super::FileStore::new(bucket).unwrap();
            let all = store.list(String::new(), String::new(), 1_000);
            for object in crate::uring::block_on(all).unwrap() {
                assert_eq!(shard_of(&object.key, 3), number, "{}", object.key);
                *count += 1;
            }
        }
        assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
    }

    #[test]
    fn buckets_have_their_number_in_the_name() {
        assert_eq!(shard_bucket("/objects/%d/", 2).unwrap(), "/objects/2/");
        let url = shard_bucket("https://b-%d.s3.amazonaws.com", 10);
        assert_eq!(url.unwrap(), "https://b-10.s3.amazonaws.com");
        for pattern in ["/objects/", "/%s/", "/%d/%d/", "/%d%2F"] {
            assert_eq!(shard_bucket(pattern, 0), None, "{pattern}");
        }
    }
}
