//! From a volume's storage and bucket to store handles for any core.
//!
//! Owns the choice of the store, and the order of decorators: the volume's name in front, then
//! encryption, then patience, then the rate, then the shard, and for each bucket its pace and the deadline of a try.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use crate::config::{SecretKey, Setting};
use crate::limits::BUCKET_REQUESTS_MAX;
use crate::object::{
    Address, BadKey, Deadline, Encrypted, FileStore, Flavour, Keys, ObjectCipher, PASSPHRASE, Pace,
    Paced, Prefixed, Rate, Rated, Retried, S3Store, SHARDS_MAX, Sharded, Store, StoreError, Tiers,
    mem, shard_bucket,
};
#[cfg(feature = "object-extra")]
use crate::object::{Extra, ExtraStore};

/// Retries where a person waits for the word whether a store works.
const RETRIES_ASKING: u32 = 2;

/// Kinds of stores that come with the cargo feature `object-extra`.
const EXTRA: [&str; 6] = ["gs", "wasb", "oss", "cos", "obs", "webdav"];

/// How requests to a store behave.
#[derive(Clone, Debug)]
pub struct StorePolicy {
    /// Longest time for one try of a get (`--get-timeout`).
    pub get_timeout: Duration,
    /// Longest time for one try of a put (`--put-timeout`).
    pub put_timeout: Duration,
    /// Retries of what may pass (`--io-retries`).
    pub retries: u32,
    /// Megabits a second that are put (`--upload-limit`), 0 for no limit; without it what the volume
    /// says, see [`Stores::obey_rates`].
    pub upload_mbps: Option<u64>,
    /// The same for what is got (`--download-limit`).
    pub download_mbps: Option<u64>,
}

impl StorePolicy {
    /// For a person who waits: little patience.
    pub fn asking() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            get_timeout: minute,
            put_timeout: minute,
            retries: RETRIES_ASKING,
            upload_mbps: Some(0),
            download_mbps: Some(0),
        }
    }
}

/// Where the objects of a volume are, and who asks for them.
#[derive(Clone)]
pub struct Place {
    /// Kind of store.
    pub storage: String,
    /// Bucket or folder; with `%d` for its number when there are several.
    pub bucket: String,
    /// Name of the volume.
    volume: String,
    keys: Keys,
    /// Class of storage for new objects.
    pub storage_class: String,
    /// Other tiers, each with its class.
    tiers: Vec<(u8, String)>,
    shards: u64,
    /// On volumes with a private key.
    cipher: Option<Arc<ObjectCipher>>,
}

impl Place {
    /// Where `setting` says.
    ///
    /// # Errors
    /// When its secrets cannot be read, or the passphrase of its private key is not in the environment.
    pub fn of(setting: &Setting) -> Result<Self, Failure> {
        let passphrase = std::env::var(PASSPHRASE).unwrap_or_default();
        Ok(Self {
            storage: setting.storage().to_ascii_lowercase(),
            bucket: setting.bucket().to_owned(),
            volume: setting.name().to_owned(),
            keys: Keys {
                access: setting.access_key().to_owned(),
                secret: setting.secret(SecretKey::Secret)?,
                session_token: setting.secret(SecretKey::SessionToken)?,
            },
            storage_class: setting.storage_class().to_owned(),
            tiers: setting.tiers(),
            shards: setting.shards(),
            cipher: cipher(setting, &passphrase)?,
        })
    }

    /// The bucket of each shard.
    fn buckets(&self) -> Result<Vec<String>, Failure> {
        if self.shards < 2 {
            return Ok(vec![self.bucket.clone()]);
        }
        let count = usize::try_from(self.shards).unwrap_or(usize::MAX);
        if count > SHARDS_MAX {
            return Err(Failure::usage(format!("--shards {count}: at most {SHARDS_MAX}")));
        }
        let each = (0..count).map(|number| shard_bucket(&self.bucket, number));
        each.collect::<Option<_>>().ok_or_else(|| {
            Failure::usage(format!(
                "--bucket {:?} of {count} shards needs a single %d where the number of each goes",
                self.bucket
            ))
        })
    }

    /// Tiers whose objects are put otherwise than those of tier 0.
    fn other_tiers(&self) -> impl Iterator<Item = &(u8, String)> {
        self.tiers.iter().filter(|(_, class)| *class != self.storage_class)
    }

    fn open(&self, bucket: &str) -> Result<Bucket, Failure> {
        let flavour = match self.storage.as_str() {
            "file" => {
                let path = PathBuf::from(bucket);
                return Ok(Bucket::File { store: FileStore::new(bucket)?, path });
            }
            "mem" => return Ok(Bucket::Memory(format!("{bucket}{}", self.volume))),
            "s3" => Flavour::S3,
            "minio" => Flavour::Minio,
            other => return self.open_extra(other, bucket),
        };
        let env = |name: &str| std::env::var(name).ok();
        let address = Address::parse(flavour, bucket, &env)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let keys = self.keys_for(flavour, &env)?;
        let store = S3Store::new(flavour, address, keys, self.storage_class.clone());
        Ok(Bucket::S3 { store, pace: Pace::new(BUCKET_REQUESTS_MAX) })
    }

    #[cfg(feature = "object-extra")]
    fn open_extra(&self, storage: &str, bucket: &str) -> Result<Bucket, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let (keys, class) = (self.keys.clone(), &self.storage_class);
        let place = Extra::parse(storage, bucket, keys, class, &env)
            .ok_or_else(|| unknown_kind(storage))?
            .map_err(|error| Failure::usage(error.to_string()))?;
        if storage != "webdav" && !place.has_classes() && self.other_tiers().next().is_some() {
            return Err(Failure::refused(format!(
                "tiers of storage with classes of their own are not supported yet by jfs-uring for \
                 storage {storage:?}; use the official client (juicefs mount) for this volume"
            )));
        }
        Ok(Bucket::Extra { store: ExtraStore::new(place), pace: Pace::new(BUCKET_REQUESTS_MAX) })
    }

    #[cfg(not(feature = "object-extra"))]
    #[expect(clippy::unused_self, reason = "with the feature it says where the bucket is")]
    fn open_extra(&self, storage: &str, _: &str) -> Result<Bucket, Failure> {
        Err(unknown_kind(storage))
    }

    /// The volume's keys, or those that the environment has for a driver.
    fn keys_for(
        &self,
        flavour: Flavour,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Keys, Failure> {
        let mut keys = self.keys.clone();
        if flavour == Flavour::Minio {
            let told = |text: &mut String, name| {
                if text.is_empty() {
                    *text = env(name).unwrap_or_default();
                }
            };
            told(&mut keys.access, "MINIO_ACCESS_KEY");
            told(&mut keys.secret, "MINIO_SECRET_KEY");
        }
        let half = keys.access.is_empty() != keys.secret.is_empty();
        if half && keys.access != "anonymous" {
            return Err(Failure::usage(
                "an access key and a secret key belong together; give both --access-key and \
                 --secret-key to `jfs-uring format`, or none to use the environment, ~/.aws or the \
                 machine's role",
            ));
        }
        Ok(keys)
    }
}

/// What the objects of a volume with a private key are sealed with.
fn cipher(setting: &Setting, passphrase: &str) -> Result<Option<Arc<ObjectCipher>>, Failure> {
    if !setting.encrypted() {
        return Ok(None);
    }
    let pem = setting.secret(SecretKey::Encrypt)?;
    let cipher = ObjectCipher::new(setting.encrypt_algo(), &pem, passphrase);
    Ok(Some(Arc::new(cipher.map_err(|bad| refusal(setting, &bad))?)))
}

fn refusal(setting: &Setting, bad: &BadKey) -> Failure {
    let text = format!("objects of the volume {:?} are encrypted: {bad}", setting.name());
    match bad {
        BadKey::NeedsPassphrase | BadKey::WrongPassphrase => Failure::failed(text),
        BadKey::NoKey(_) | BadKey::Lock(_) | BadKey::Kind | BadKey::Algorithm(_) => {
            Failure::refused(text)
        }
    }
}

/// One bucket, opened.
enum Bucket {
    File {
        store: FileStore,
        path: PathBuf,
    },
    Memory(String),
    S3 {
        store: S3Store,
        pace: Arc<Pace>,
    },
    #[cfg(feature = "object-extra")]
    Extra {
        store: ExtraStore,
        pace: Arc<Pace>,
    },
}

impl Bucket {
    /// The same bucket for objects of a tier, in stores that have classes.
    fn with_class(&self, class: &str) -> Option<Self> {
        match self {
            Self::File { .. } | Self::Memory(_) => None,
            Self::S3 { store, pace } => {
                Some(Self::S3 { store: store.with_class(class.to_owned()), pace: Arc::clone(pace) })
            }
            #[cfg(feature = "object-extra")]
            Self::Extra { store, pace } => {
                let store = store.with_class(class.to_owned())?;
                Some(Self::Extra { store, pace: Arc::clone(pace) })
            }
        }
    }

    fn store(&self, policy: &StorePolicy) -> Box<dyn Store> {
        let StorePolicy { get_timeout: get, put_timeout: put, .. } = *policy;
        match self {
            Self::File { store, .. } => Box::new(Deadline::new(store.clone(), get, put)),
            Self::Memory(name) => Box::new(mem::open(name)),
            Self::S3 { store, pace } => {
                Box::new(Paced::new(Deadline::new(store.clone(), get, put), Arc::clone(pace)))
            }
            #[cfg(feature = "object-extra")]
            Self::Extra { store, pace } => {
                Box::new(Paced::new(Deadline::new(store.clone(), get, put), Arc::clone(pace)))
            }
        }
    }
}

/// The object store of a volume; clones are for other cores.
#[derive(Clone)]
pub struct Stores(Arc<Opened>);

struct Opened {
    buckets: Vec<Bucket>,
    /// The same for each tier that puts otherwise.
    tiers: Vec<(u8, Vec<Bucket>)>,
    /// Name of the volume with a slash behind.
    prefix: String,
    cipher: Option<Arc<ObjectCipher>>,
    policy: StorePolicy,
    up: Arc<Rate>,
    down: Arc<Rate>,
}

impl Stores {
    /// The store at `place`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When there is no such kind, or its bucket is none.
    pub fn open(place: &Place, policy: StorePolicy) -> Result<Self, Failure> {
        let buckets = place.buckets()?;
        let buckets =
            buckets.iter().map(|bucket| place.open(bucket)).collect::<Result<Vec<_>, _>>()?;
        let tiers = place.other_tiers().filter_map(|(tier, class)| {
            let each = buckets.iter().map(|bucket| bucket.with_class(class));
            Some((*tier, each.collect::<Option<Vec<_>>>()?))
        });
        let tiers = tiers.collect();
        // Memory has a name of its own for each volume.
        let prefix = match place.storage.as_str() {
            "mem" => String::new(),
            _ => format!("{}/", place.volume),
        };
        let rate = |mbps: Option<u64>| Rate::of_mbps(mbps.unwrap_or(0));
        let (up, down) = (rate(policy.upload_mbps), rate(policy.download_mbps));
        let cipher = place.cipher.clone();
        Ok(Self(Arc::new(Opened { buckets, tiers, prefix, cipher, policy, up, down })))
    }

    /// Keep to what the volume says, megabits a second up and down, where nothing else was asked
    /// for; 0 for no limit.
    pub fn obey_rates(&self, (up, down): (u64, u64)) {
        let Opened { policy, up: own_up, down: own_down, .. } = &*self.0;
        own_up.set_mbps(policy.upload_mbps.unwrap_or(up));
        own_down.set_mbps(policy.download_mbps.unwrap_or(down));
    }

    /// Whether stores of kind `storage` are served.
    ///
    /// # Errors
    /// When there is no such kind.
    pub fn check_kind(storage: &str) -> Result<(), Failure> {
        let (known, storage) = (["file", "mem", "s3", "minio"], &*storage.to_ascii_lowercase());
        let extra = cfg!(feature = "object-extra") && EXTRA.contains(&storage);
        if extra || known.contains(&storage) { Ok(()) } else { Err(unknown_kind(storage)) }
    }

    /// The device that objects lie on, if it is one of this machine.
    pub fn device(&self) -> Option<u64> {
        match self.0.buckets.first() {
            Some(Bucket::File { path, .. }) => device_of(path),
            _ => None,
        }
    }

    /// A handle for the calling core.
    pub fn store(&self) -> Rc<dyn Store> {
        self.handle(&self.0.buckets, self.0.policy.retries)
    }

    /// Handles for the calling core, one for each tier.
    pub fn tiers(&self) -> Rc<dyn Tiers> {
        let handle = |buckets: &[Bucket]| self.handle(buckets, self.0.policy.retries);
        let others = self.0.tiers.iter().map(|(tier, buckets)| (*tier, handle(buckets)));
        Rc::new(Handles { base: self.store(), others: others.collect() })
    }

    /// A handle that fails soon, for a person who waits.
    pub fn asking(&self) -> Rc<dyn Store> {
        self.handle(&self.0.buckets, RETRIES_ASKING.min(self.0.policy.retries))
    }

    /// Make buckets that are not there, of kinds that can be made.
    ///
    /// # Errors
    /// Of the first that cannot be made.
    pub async fn make_buckets(&self) -> Result<(), StoreError> {
        for bucket in &self.0.buckets {
            if let Bucket::S3 { store, .. } = bucket {
                store.make_bucket().await?;
            }
        }
        Ok(())
    }

    fn handle(&self, buckets: &[Bucket], retries: u32) -> Rc<dyn Store> {
        let Opened { prefix, cipher, policy, up, down, .. } = &*self.0;
        let mut stores: Vec<_> = buckets.iter().map(|bucket| bucket.store(policy)).collect();
        let mut store = match stores.len() {
            1 => stores.remove(0),
            _ => Box::new(Sharded::new(stores)),
        };
        store = Box::new(Rated::new(store, Arc::clone(up), Arc::clone(down)));
        let mut store: Box<dyn Store> = Box::new(Retried::new(store, retries));
        if let Some(cipher) = cipher {
            store = Box::new(Encrypted::new(store, Arc::clone(cipher)));
        }
        Rc::new(Prefixed::new(store, prefix.clone()))
    }
}

/// The stores of a core.
struct Handles {
    base: Rc<dyn Store>,
    others: Vec<(u8, Rc<dyn Store>)>,
}

impl Tiers for Handles {
    fn base(&self) -> Rc<dyn Store> {
        Rc::clone(&self.base)
    }

    fn tier(&self, tier: u8) -> Rc<dyn Store> {
        let found = self.others.iter().find(|(other, _)| *other == tier);
        found.map_or_else(|| self.base(), |(_, store)| Rc::clone(store))
    }

    fn differ(&self) -> bool {
        !self.others.is_empty()
    }
}

fn unknown_kind(storage: &str) -> Failure {
    if EXTRA.contains(&storage) {
        return Failure::refused(format!(
            "this jfs-uring was built without storage {storage:?}; build it with \
             `cargo build --release --features object-extra`, or use the official client (juicefs mount)"
        ));
    }
    Failure::refused(format!(
        "storage {storage:?} is not supported yet by jfs-uring, only \"file\", \"s3\" and \"minio\"; \
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

    fn place(storage: &str, bucket: &str) -> Place {
        Place::of(&Setting::new("vol", "uuid", storage, bucket)).unwrap()
    }

    fn refusal(place: &Place) -> Failure {
        Stores::open(place, StorePolicy::asking()).err().unwrap()
    }

    #[test]
    fn buckets_are_absolute_and_end_with_a_slash() {
        assert_eq!(folder_bucket("/var/jfs").unwrap(), "/var/jfs/");
        assert_eq!(folder_bucket("/var/jfs/").unwrap(), "/var/jfs/");
        assert!(folder_bucket("here").unwrap().ends_with("/here/"));
        assert!(folder_bucket("").is_err());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let refused = refusal(&place("ceph", "ceph://x"));
        assert!(refused.text.contains("ceph"));
        assert_eq!(refused.code, 3);
        assert!(Stores::check_kind("Minio").is_ok());
        assert!(Stores::check_kind("swift").is_err() && Stores::check_kind("b2").is_err());
        for kind in EXTRA {
            let built = cfg!(feature = "object-extra");
            assert_eq!(Stores::check_kind(kind).is_ok(), built, "{kind}");
            let told = unknown_kind(kind).text;
            assert!(told.contains(kind) && told.contains("--features object-extra"), "{told}");
        }
    }

    #[test]
    fn what_a_bucket_lacks_is_told() {
        let told = refusal(&place("s3", "ftp://x")).text;
        assert!(told.contains("--bucket") && told.contains("amazonaws.com"), "{told}");
        let mut half = Setting::new("vol", "uuid", "minio", "http://127.0.0.1:1/b");
        half.set_text("AccessKey", "AK");
        let told = refusal(&Place::of(&half).unwrap()).text;
        assert!(told.contains("--secret-key"), "{told}");
        let mut shards = Setting::new("vol", "uuid", "file", "/objects/");
        shards.set("Shards", 3);
        let told = refusal(&Place::of(&shards).unwrap()).text;
        assert!(told.contains("%d"), "{told}");
    }

    #[test]
    fn tiers_have_handles_where_their_class_differs() {
        let tiers = |storage: &str, bucket: &str, base: &str| {
            let mut setting = Setting::new("vol", "uuid", storage, bucket);
            let tier = |id: u8, class: &str| serde_json::json!({"ID": id, "StorageClass": class, "Tag": ""});
            let tiers = serde_json::json!({"0": tier(0, base), "1": tier(1, "STANDARD_IA"), "3": tier(3, "")});
            setting.set("Tiers", tiers);
            Stores::open(&Place::of(&setting).unwrap(), StorePolicy::asking()).unwrap().tiers()
        };
        let is_base = |tiers: &Rc<dyn Tiers>, tier| Rc::ptr_eq(&tiers.tier(tier), &tiers.base());
        let bucket = tiers("minio", "http://127.0.0.1:1/b", "");
        assert!(bucket.differ());
        assert_eq!(
            [0, 1, 2, 3, 9].map(|tier| is_base(&bucket, tier)),
            [true, false, true, true, true]
        );
        let other = tiers("minio", "http://127.0.0.1:1/b", "STANDARD_IA");
        assert_eq!([0, 1, 3].map(|tier| is_base(&other, tier)), [true, true, false]);
        assert!(!tiers("file", "/objects/", "").differ(), "folders have no classes");
    }

    #[test]
    fn a_handle_says_where_it_is_and_no_secret() {
        let mut setting =
            Setting::new("vol", "uuid", "S3", "https://b%d.s3.eu-west-1.amazonaws.com");
        setting.set("Shards", 2);
        setting.set_text("AccessKey", "AK");
        setting.set_secret(SecretKey::Secret, "hush").unwrap();
        let stores = Stores::open(&Place::of(&setting).unwrap(), StorePolicy::asking()).unwrap();
        let told = stores.store().describe();
        let wanted = "s3 https://s3.eu-west-1.amazonaws.com/b0 and 1 more buckets below vol/";
        assert_eq!(told, wanted);
        assert_eq!(stores.device(), None);
    }
}
