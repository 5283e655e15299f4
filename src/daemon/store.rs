//! From a volume's storage and bucket to store handles for any core.
//!
//! Owns the choice of the store, and when it is another one; and the order of decorators: the volume's name
//! in front, then encryption, then patience, then the rate, then whichever store it is now, then the shard, and for
//! each bucket its pace and the deadline of a try.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::failure::Failure;
use crate::config::{SecretKey, Setting};
use crate::limits::BUCKET_REQUESTS_MAX;
use crate::object::{
    Address, BadKey, Current, Deadline, Encrypted, FileStore, Flavour, Following, Keys,
    ObjectCipher, PASSPHRASE, Pace, Paced, Prefixed, Rate, Rated, Retried, S3Store, SHARDS_MAX,
    Sharded, Store, StoreError, Tiers, mem, shard_bucket,
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

/// What a mount says of the store itself; it goes before what the volume says.
#[derive(Clone, Debug, Default)]
pub struct OwnStore {
    /// Kind of store (`--storage`).
    pub storage: Option<String>,
    /// Bucket or folder (`--bucket`).
    pub bucket: Option<String>,
    /// Class of storage for new objects (`--storage-class`).
    pub storage_class: Option<String>,
}

/// Where the objects of a volume are, and who asks for them.
struct Place {
    /// Kind of store.
    storage: String,
    /// Bucket or folder; with `%d` for its number when there are several.
    bucket: String,
    /// Name of the volume.
    volume: String,
    keys: Keys,
    /// Class of storage for new objects.
    storage_class: String,
    /// Other tiers, each with its class.
    tiers: Vec<(u8, String)>,
    shards: u64,
}

impl Place {
    /// Where `setting` says.
    ///
    /// # Errors
    /// When its secrets cannot be read.
    fn of(setting: &Setting) -> Result<Self, Failure> {
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
        })
    }

    /// Where `setting` says, but for what a mount says itself.
    fn with(setting: &Setting, own: &OwnStore) -> Result<Self, Failure> {
        let mut place = Self::of(setting)?;
        if let Some(storage) = &own.storage {
            place.storage = storage.to_ascii_lowercase();
        }
        if let Some(bucket) = &own.bucket {
            place.bucket = match place.storage.as_str() {
                "file" => folder_bucket(bucket)?,
                _ => bucket.clone(),
            };
        }
        if let Some(class) = &own.storage_class {
            place.storage_class.clone_from(class);
        }
        Ok(place)
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

/// The buckets of a place.
struct Opened {
    buckets: Vec<Bucket>,
    /// The same for each tier that puts otherwise.
    tiers: Vec<(u8, Vec<Bucket>)>,
}

impl Opened {
    fn at(place: &Place) -> Result<Self, Failure> {
        let buckets = place.buckets()?;
        let buckets =
            buckets.iter().map(|bucket| place.open(bucket)).collect::<Result<Vec<_>, _>>()?;
        let tiers = place.other_tiers().filter_map(|(tier, class)| {
            let each = buckets.iter().map(|bucket| bucket.with_class(class));
            Some((*tier, each.collect::<Option<Vec<_>>>()?))
        });
        let tiers = tiers.collect();
        Ok(Self { buckets, tiers })
    }

    /// Those of a tier that puts otherwise.
    fn tier(&self, tier: u8) -> Option<&Vec<Bucket>> {
        self.tiers.iter().find(|(other, _)| *other == tier).map(|(_, buckets)| buckets)
    }

    fn store(&self, tier: Option<u8>, policy: &StorePolicy) -> Box<dyn Store> {
        let buckets = tier.and_then(|tier| self.tier(tier)).unwrap_or(&self.buckets);
        let mut stores: Vec<_> = buckets.iter().map(|bucket| bucket.store(policy)).collect();
        match stores.len() {
            1 => stores.remove(0),
            _ => Box::new(Sharded::new(stores)),
        }
    }
}

/// The object store of a volume; clones are for other cores.
#[derive(Clone)]
pub struct Stores(Arc<Shared>);

struct Shared {
    current: Arc<Current<Opened>>,
    /// The setting it was opened by last, and what goes before it.
    seen: Mutex<Setting>,
    own: OwnStore,
    /// Name of the volume with a slash behind.
    prefix: String,
    cipher: Option<Arc<ObjectCipher>>,
    policy: StorePolicy,
    up: Arc<Rate>,
    down: Arc<Rate>,
}

impl Stores {
    /// The store of `setting`, but for what goes before it. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When there is no such kind, its bucket is none, secrets of the setting cannot be read, or the
    /// passphrase of its private key is not in the environment.
    pub fn open(setting: &Setting, own: OwnStore, policy: StorePolicy) -> Result<Self, Failure> {
        let place = Place::with(setting, &own)?;
        let passphrase = std::env::var(PASSPHRASE).unwrap_or_default();
        let rate = |mbps: Option<u64>| Rate::of_mbps(mbps.unwrap_or(0));
        Ok(Self(Arc::new(Shared {
            current: Current::new(Opened::at(&place)?),
            seen: Mutex::new(setting.clone()),
            own,
            prefix: format!("{}/", place.volume),
            up: rate(policy.upload_mbps),
            down: rate(policy.download_mbps),
            cipher: cipher(setting, &passphrase)?,
            policy,
        })))
    }

    /// Go where `setting` says now; whether that is elsewhere or by other keys than before.
    ///
    /// # Errors
    /// When it is a kind that is not served, no bucket, or its secrets cannot be read; then it stays where it
    /// was.
    pub fn follow(&self, setting: &Setting) -> Result<bool, Failure> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if setting.has_store_of(&seen) {
            return Ok(false);
        }
        self.0.current.replace(Opened::at(&Place::with(setting, &self.0.own)?)?);
        *seen = setting.clone();
        Ok(true)
    }

    /// Keep to what the volume says, megabits a second up and down, where nothing else was asked
    /// for; 0 for no limit.
    pub fn obey_rates(&self, (up, down): (u64, u64)) {
        let Shared { policy, up: own_up, down: own_down, .. } = &*self.0;
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
        match self.0.current.get().buckets.first() {
            Some(Bucket::File { path, .. }) => device_of(path),
            _ => None,
        }
    }

    /// A handle for the calling core.
    pub fn store(&self) -> Rc<dyn Store> {
        self.handle(None, self.0.policy.retries)
    }

    /// Handles for the calling core, one for each tier.
    pub fn tiers(&self) -> Rc<dyn Tiers> {
        let (stores, base) = (self.clone(), self.store());
        Rc::new(Handles { stores, base, others: RefCell::default() })
    }

    /// A handle that fails soon, for a person who waits.
    pub fn asking(&self) -> Rc<dyn Store> {
        self.handle(None, RETRIES_ASKING.min(self.0.policy.retries))
    }

    /// Make buckets that are not there, of kinds that can be made.
    ///
    /// # Errors
    /// Of the first that cannot be made.
    pub async fn make_buckets(&self) -> Result<(), StoreError> {
        for bucket in &self.0.current.get().buckets {
            if let Bucket::S3 { store, .. } = bucket {
                store.make_bucket().await?;
            }
        }
        Ok(())
    }

    fn handle(&self, tier: Option<u8>, retries: u32) -> Rc<dyn Store> {
        let Shared { current, prefix, cipher, policy, up, down, .. } = &*self.0;
        let policy = policy.clone();
        let open = move |opened: &Opened| opened.store(tier, &policy);
        let store = Following::new(Arc::clone(current), open);
        let store = Rated::new(store, Arc::clone(up), Arc::clone(down));
        let mut store: Box<dyn Store> = Box::new(Retried::new(store, retries));
        if let Some(cipher) = cipher {
            store = Box::new(Encrypted::new(store, Arc::clone(cipher)));
        }
        Rc::new(Prefixed::new(store, prefix.clone()))
    }
}

/// The stores of a core.
struct Handles {
    stores: Stores,
    base: Rc<dyn Store>,
    /// Made when they are first asked for.
    others: RefCell<BTreeMap<u8, Rc<dyn Store>>>,
}

impl Tiers for Handles {
    fn base(&self) -> Rc<dyn Store> {
        Rc::clone(&self.base)
    }

    fn tier(&self, tier: u8) -> Rc<dyn Store> {
        if self.stores.0.current.get().tier(tier).is_none() {
            return self.base();
        }
        let made = || self.stores.handle(Some(tier), self.stores.0.policy.retries);
        Rc::clone(self.others.borrow_mut().entry(tier).or_insert_with(made))
    }

    fn differ(&self) -> bool {
        !self.stores.0.current.get().tiers.is_empty()
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

    fn of(storage: &str, bucket: &str) -> Setting {
        Setting::new("vol", "uuid", storage, bucket)
    }

    fn open(setting: &Setting) -> Stores {
        Stores::open(setting, OwnStore::default(), StorePolicy::asking()).unwrap()
    }

    fn refusal(setting: &Setting) -> Failure {
        Stores::open(setting, OwnStore::default(), StorePolicy::asking()).err().unwrap()
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
        let refused = refusal(&of("ceph", "ceph://x"));
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
        let told = refusal(&of("s3", "ftp://x")).text;
        assert!(told.contains("--bucket") && told.contains("amazonaws.com"), "{told}");
        let mut half = of("minio", "http://127.0.0.1:1/b");
        half.set_text("AccessKey", "AK");
        let told = refusal(&half).text;
        assert!(told.contains("--secret-key"), "{told}");
        let mut shards = of("file", "/objects/");
        shards.set("Shards", 3);
        let told = refusal(&shards).text;
        assert!(told.contains("%d"), "{told}");
    }

    #[test]
    fn tiers_have_handles_where_their_class_differs() {
        let tiers = |storage: &str, bucket: &str, base: &str| {
            let mut setting = of(storage, bucket);
            let tier = |id: u8, class: &str| serde_json::json!({"ID": id, "StorageClass": class, "Tag": ""});
            let tiers = serde_json::json!({"0": tier(0, base), "1": tier(1, "STANDARD_IA"), "3": tier(3, "")});
            setting.set("Tiers", tiers);
            open(&setting).tiers()
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
        let mut setting = of("S3", "https://b%d.s3.eu-west-1.amazonaws.com");
        setting.set("Shards", 2);
        setting.set_text("AccessKey", "AK");
        setting.set_secret(SecretKey::Secret, "hush").unwrap();
        let stores = open(&setting);
        let told = stores.store().describe();
        let wanted = "s3 https://s3.eu-west-1.amazonaws.com/b0 and 1 more buckets below vol/";
        assert_eq!(told, wanted);
        assert_eq!(stores.device(), None);
    }

    async fn put(store: &Rc<dyn Store>, name: &str) -> Result<(), StoreError> {
        store.put(name.into(), vec![crate::pages::Page::from_vec(vec![7])]).await
    }

    #[test]
    fn objects_go_where_the_setting_says_now() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bucket = |folder: &tempfile::TempDir| format!("{}/", folder.path().display());
        let mut setting = of("file", &bucket(&old));
        let own = OwnStore { bucket: Some(bucket(&old)), ..OwnStore::default() };
        let (stores, own) =
            (open(&setting), Stores::open(&setting, own, StorePolicy::asking()).unwrap());
        let (store, stays) = (stores.store(), own.store());
        let there =
            |folder: &tempfile::TempDir, name: &str| folder.path().join("vol").join(name).exists();
        crate::uring::block_on(async {
            put(&store, "a").await.unwrap();
            setting.set("TrashDays", 7);
            assert!(!stores.follow(&setting).unwrap(), "that is nothing to the store");
            setting.set("Bucket", bucket(&new));
            assert!(stores.follow(&setting).unwrap());
            assert!(!stores.follow(&setting).unwrap(), "once");
            put(&store, "b").await.unwrap();
            assert!(there(&old, "a") && there(&new, "b") && !there(&old, "b"));
            own.follow(&setting).unwrap();
            put(&stays, "c").await.unwrap();
            assert!(there(&old, "c"), "a mount with a bucket of its own stays there");
            let mut unknown = setting.clone();
            unknown.set("Storage", "ceph");
            let told = stores.follow(&unknown).unwrap_err();
            assert!(told.text.contains("ceph"), "{told}");
            put(&store, "d").await.unwrap();
            assert!(there(&new, "d"), "it stays where it was");
            assert!(!stores.follow(&setting).unwrap());
        });
    }

    #[test]
    fn other_keys_and_tiers_are_taken_too() {
        let mut setting = of("minio", "http://127.0.0.1:1/b");
        setting.set_text("AccessKey", "AK");
        setting.set_secret(SecretKey::Secret, "old").unwrap();
        let stores = open(&setting);
        let tiers = stores.tiers();
        assert!(!tiers.differ());
        setting.set_secret(SecretKey::Secret, "new").unwrap();
        assert!(stores.follow(&setting).unwrap());
        setting.set_secret(SecretKey::SessionToken, "token").unwrap();
        assert!(stores.follow(&setting).unwrap());
        let cold = serde_json::json!({"1": {"ID": 1, "StorageClass": "GLACIER_IR", "Tag": ""}});
        setting.set("Tiers", cold);
        assert!(stores.follow(&setting).unwrap());
        assert!(tiers.differ() && !Rc::ptr_eq(&tiers.tier(1), &tiers.base()));
    }
}
