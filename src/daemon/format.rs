//! Making a volume, or changing what may be changed of one.

use std::rc::Rc;

use super::engine::{Engines, need_uring};
use super::failure::Failure;
use super::store::{OwnStore, StorePolicy, Stores, folder_bucket};
use crate::config::{MetaUrl, SecretKey, Setting};
use crate::meta::Engine;
use crate::object::Store;
use crate::pages::Page;
use crate::stdx::{Chance, now};
use crate::types::{Attr, FileType, Ino};
use crate::uring;

/// What `format` was asked; `None` keeps what the volume has, or the default on a new one.
#[derive(Clone, Default)]
pub struct FormatPlan {
    /// Name of the volume, prefix of its objects.
    pub name: String,
    /// Kind of store.
    pub storage: Option<String>,
    /// Bucket or folder.
    pub bucket: Option<String>,
    /// Key for the store.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<String>,
    /// Of keys for a limited time.
    pub session_token: Option<String>,
    /// Class of storage for new objects.
    pub storage_class: Option<String>,
    /// Buckets that objects are spread over.
    pub shards: Option<u64>,
    /// Block size in KiB.
    pub block_size_kib: Option<u32>,
    /// `none`, `lz4` or `zstd`.
    pub compression: Option<String>,
    /// Text of the private key that objects are encrypted with.
    pub encrypt_key: Option<String>,
    /// How they are encrypted.
    pub encrypt_algo: Option<String>,
    /// Objects below two hex digits.
    pub hash_prefix: bool,
    /// Days in the trash.
    pub trash_days: Option<u64>,
    /// Limit in bytes.
    pub capacity_bytes: Option<u64>,
    /// Limit in inodes.
    pub inodes: Option<u64>,
    /// Nodes may have access control lists, for good.
    pub acl: bool,
    /// Overwrite the settings of a volume that exists.
    pub force: bool,
    /// Leave a volume that exists as it is.
    pub no_update: bool,
}

/// Where objects go when nothing is said.
fn default_bucket() -> String {
    if rustix::process::geteuid().is_root() {
        return "/var/jfs".to_owned();
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    format!("{home}/.juicefs/local")
}

/// Make the volume of `plan` at `url`, or update it; returns its setting.
///
/// # Errors
/// Bad values, a store that does not work, objects of another volume, or another volume there.
pub fn format(url: &MetaUrl, plan: &FormatPlan) -> Result<Setting, Failure> {
    check_name(&plan.name)?;
    if let Some(storage) = &plan.storage {
        Stores::check_kind(storage)?;
    }
    if let MetaUrl::Sqlite(path) = url
        && !path.exists()
    {
        // What is refused leaves no empty database behind: it is opened when all else holds.
        need_uring()?;
        uring::block_on(free_store(&fresh(plan)?))?;
    }
    make(&Engines::open(url, true)?, plan)
}

/// The store of a new volume: it works and holds nothing.
async fn free_store(setting: &Setting) -> Result<Rc<dyn Store>, Failure> {
    let stores = Stores::open(setting, OwnStore::default(), StorePolicy::asking())?;
    let store = stores.store();
    if let Err(failure) = prove(&store).await {
        // Nothing in it works when it is not there; its own words are better when it cannot be made.
        if stores.make_buckets().await.is_err() {
            return Err(failure);
        }
        prove(&store).await?;
    }
    refuse_leftovers(&store).await?;
    Ok(store)
}

/// Make or update the volume behind `engines`.
pub(super) fn make(engines: &Engines, plan: &FormatPlan) -> Result<Setting, Failure> {
    uring::block_on(async {
        let engine = engines.engine();
        let stored = engine.load_setting().await?;
        let Some(old) = stored.as_deref().map(Setting::parse).transpose()? else {
            return first(&*engine, plan).await;
        };
        check_same_name(&old, plan)?;
        if plan.no_update {
            return Ok(old);
        }
        let setting = updated(&old, plan)?;
        let stores = Stores::open(&setting, OwnStore::default(), StorePolicy::asking())?;
        prove(&stores.store()).await?;
        engine.store_setting(setting.to_json(), Vec::new()).await?;
        Ok(setting)
    })
}

/// Make the volume where there is none.
async fn first(engine: &dyn Engine, plan: &FormatPlan) -> Result<Setting, Failure> {
    let setting = fresh(plan)?;
    let store = free_store(&setting).await?;
    // Of two who format at once the first stays in the engine; what is there then tells which.
    engine.store_setting(setting.to_json(), first_nodes()).await?;
    let stored = engine.load_setting().await?;
    let stored = stored.as_deref().map(Setting::parse).transpose()?;
    if stored.is_none_or(|stored| stored.uuid() != setting.uuid()) {
        return Err(overtaken(plan));
    }
    // Only now: the objects' UUID is that of the volume which is there.
    let uuid = Page::from_vec(setting.uuid().as_bytes().to_vec());
    store.put("juicefs_uuid".to_owned(), vec![uuid]).await?;
    Ok(setting)
}

fn overtaken(plan: &FormatPlan) -> Failure {
    Failure::failed(format!(
        "somebody else made a volume in this database at the same time, and theirs stays; \
         see it with `jfs-uring status` before using {:?}",
        plan.name
    ))
}

/// A database holds one volume.
fn check_same_name(old: &Setting, plan: &FormatPlan) -> Result<(), Failure> {
    if old.name() == plan.name {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the database holds the volume {:?}, not {:?}; use its name, or another database",
        old.name(),
        plan.name
    )))
}

/// JuiceFS's rule for names.
fn check_name(name: &str) -> Result<(), Failure> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c != '-' && inner(c));
    let fits = (3..=63).contains(&name.len()) && name.chars().all(inner);
    if fits && edge(name.chars().next()) && edge(name.chars().last()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{name:?} is no volume name: 3 to 63 lower-case letters, digits and hyphens, \
         with a letter or digit at both ends"
    )))
}

fn fresh(plan: &FormatPlan) -> Result<Setting, Failure> {
    let storage = plan.storage.as_deref().unwrap_or("file").to_ascii_lowercase();
    let bucket = match (&plan.bucket, storage.as_str()) {
        (Some(bucket), _) => bucket.clone(),
        (None, "s3" | "minio") => {
            let text = format!("--storage {storage} needs --bucket with the bucket's URL");
            return Err(Failure::usage(text));
        }
        (None, _) => default_bucket(),
    };
    let bucket = if storage == "file" { folder_bucket(&bucket)? } else { bucket };
    let mut setting = Setting::new(&plan.name, &new_uuid()?, &storage, &bucket);
    if let Some(kib) = plan.block_size_kib {
        setting.set("BlockSize", kib);
    }
    if let Some(compression) = &plan.compression {
        setting.set("Compression", compression.as_str());
    }
    if plan.hash_prefix {
        setting.set("HashPrefix", true);
    }
    if let Some(shards) = plan.shards.filter(|shards| *shards > 0) {
        setting.set("Shards", shards);
    }
    if let Some(class) = &plan.storage_class {
        setting.set_storage_class(class);
    }
    if let Some(algo) = &plan.encrypt_algo {
        setting.set("EncryptAlgo", algo.as_str());
    }
    set_keys(&mut setting, &with_env(plan))?;
    if let Some(key) = &plan.encrypt_key {
        setting.set_secret(SecretKey::Encrypt, key)?;
    }
    set_limits(&mut setting, plan);
    Ok(setting)
}

/// The plan of a new volume; keys that are not said are those of the environment, as JuiceFS has it.
fn with_env(plan: &FormatPlan) -> FormatPlan {
    let told = |asked: &Option<String>, name: &str| {
        let asked = asked.clone().filter(|text| !text.is_empty());
        asked.or_else(|| std::env::var(name).ok().filter(|text| !text.is_empty()))
    };
    FormatPlan {
        access_key: told(&plan.access_key, "ACCESS_KEY"),
        secret_key: told(&plan.secret_key, "SECRET_KEY"),
        session_token: told(&plan.session_token, "SESSION_TOKEN"),
        ..plan.clone()
    }
}

/// Keys that were said; an empty one takes away what the volume has.
fn set_keys(setting: &mut Setting, plan: &FormatPlan) -> Result<(), Failure> {
    if let Some(key) = &plan.access_key {
        setting.set_text("AccessKey", key);
    }
    if let Some(secret) = &plan.secret_key {
        setting.set_secret(SecretKey::Secret, secret)?;
    }
    if let Some(token) = &plan.session_token {
        setting.set_secret(SecretKey::SessionToken, token)?;
    }
    Ok(())
}

fn set_limits(setting: &mut Setting, plan: &FormatPlan) {
    let limits = [
        ("Capacity", plan.capacity_bytes),
        ("Inodes", plan.inodes),
        ("TrashDays", plan.trash_days),
    ];
    for (key, value) in limits {
        if let Some(value) = value {
            setting.set(key, value);
        }
    }
    if plan.acl {
        setting.enable_acl();
    }
}

/// An existing volume with what may change changed; the rest only under `--force`.
fn updated(old: &Setting, plan: &FormatPlan) -> Result<Setting, Failure> {
    old.check(false)?;
    let fixed = |flag: &str, has: &str, wanted: &str| {
        Failure::failed(format!(
            "the volume has {flag} {has}, which cannot become {wanted}; leave the flag out, \
             or make a new volume"
        ))
    };
    if let Some(kib) = plan.block_size_kib
        && kib != old.block_size_kib()
    {
        let (has, wanted) = (format!("{}K", old.block_size_kib()), format!("{kib}K"));
        return Err(fixed("--block-size", &has, &wanted));
    }
    if let Some(compression) = &plan.compression
        && *compression != old.compression()
    {
        return Err(fixed("--compress", old.compression(), compression));
    }
    if plan.hash_prefix && !old.hash_prefix() {
        return Err(fixed("--hash-prefix", "off", "on"));
    }
    if let Some(shards) = plan.shards
        && shards.max(1) != old.shards().max(1)
    {
        let (has, wanted) = (old.shards().to_string(), shards.to_string());
        return Err(fixed("--shards", &has, &wanted));
    }
    check_same_encryption(old, plan)?;
    let mut setting = old.clone();
    let storage = plan.storage.as_deref().unwrap_or(old.storage()).to_ascii_lowercase();
    if storage != old.storage() && !plan.force {
        let text = "the volume's objects are elsewhere; move them first, then say --force";
        return Err(Failure::failed(text));
    }
    setting.set("Storage", storage.as_str());
    if let Some(bucket) = &plan.bucket {
        let bucket = if storage == "file" { folder_bucket(bucket)? } else { bucket.clone() };
        if bucket != old.bucket() && !plan.force {
            return Err(Failure::failed(format!(
                "the volume's objects are in {}; move them first, then say --force",
                old.bucket()
            )));
        }
        setting.set("Bucket", bucket);
    }
    if let Some(class) = &plan.storage_class {
        let text = "--storage-class of a volume that exists is changed with `juicefs config`, \
                    that of one mount with `jfs-uring mount --storage-class`";
        if class != old.storage_class() {
            return Err(Failure::usage(text));
        }
    }
    set_keys(&mut setting, plan)?;
    set_limits(&mut setting, plan);
    Ok(setting)
}

/// Objects stay as they were encrypted; who says it again is not told off.
fn check_same_encryption(old: &Setting, plan: &FormatPlan) -> Result<(), Failure> {
    let fixed = |flag: &str, why: &str| {
        let cure = "leave the flag out, or make a new volume";
        Err(Failure::failed(format!("{flag} cannot change on a volume that exists: {why}; {cure}")))
    };
    if let Some(key) = &plan.encrypt_key {
        if !old.encrypted() {
            return fixed("--encrypt-rsa-key", "its objects are not encrypted");
        }
        if *key != old.secret(SecretKey::Encrypt)? {
            return fixed(
                "--encrypt-rsa-key",
                "its objects are encrypted with the key of another file",
            );
        }
    }
    match &plan.encrypt_algo {
        Some(algo) if algo != old.encrypt_algo() => {
            fixed("--encrypt-algo", &format!("it has {}", old.encrypt_algo()))
        }
        _ => Ok(()),
    }
}

/// Whether objects can be stored, read and deleted.
///
/// # Errors
/// What cannot be done, with the store's words.
pub fn check_storage(stores: &Stores) -> Result<(), Failure> {
    uring::block_on(async { prove(&stores.asking()).await })
}

/// Put, get, compare and delete a test object.
async fn prove(store: &Rc<dyn Store>) -> Result<(), Failure> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| {
        Failure::failed(format!(
            "the object store {} cannot {what}: {error}; check --bucket and its permissions",
            store.describe()
        ))
    };
    let mut chance = Chance::from_system();
    let key = format!("testing/{:010x}", chance.next_u64() >> 24);
    let body: Vec<u8> = (0..100).map(|_| chance.next_u64() as u8).collect();
    let page = Page::from_vec(body.clone());
    store.put(key.clone(), vec![page]).await.map_err(|error| cannot("store", &error))?;
    let read = store.get(key.clone(), 0, vec![0; 128]).await;
    let (bytes, count) = read.map_err(|error| cannot("be read", &error))?;
    if bytes[..count] != body {
        return Err(cannot("be trusted", &"a test object came back changed"));
    }
    store.delete(key).await.map_err(|error| cannot("delete", &error))
}

/// Objects below the name mean that another volume lives, or lived, there.
async fn refuse_leftovers(store: &Rc<dyn Store>) -> Result<(), Failure> {
    let found = store.list(String::new(), String::new(), 64).await?;
    let left = found.iter().find(|object| {
        object.len_bytes > 0 && !object.key.starts_with("testing/") && !object.key.is_empty()
    });
    match left {
        None => Ok(()),
        Some(object) => Err(Failure::failed(format!(
            "{} already holds objects of a volume of this name ({}); \
             choose another name or bucket, or clean it up",
            store.describe(),
            object.key
        ))),
    }
}

/// The root and the root of the trash.
fn first_nodes() -> Vec<(Ino, Attr)> {
    let time = now();
    let root = Attr::new(FileType::Dir, 0o777, time);
    let trash = Attr { mode: 0o555, ..root.clone() };
    vec![(Ino::ROOT, root), (Ino::TRASH, trash)]
}

/// A random UUID from the kernel.
fn new_uuid() -> Result<String, Failure> {
    let file = "/proc/sys/kernel/random/uuid";
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(Failure::failed(format!("{file}: {error}; is /proc mounted?"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, bucket: &std::path::Path) -> FormatPlan {
        FormatPlan {
            name: name.to_owned(),
            bucket: Some(bucket.display().to_string()),
            ..FormatPlan::default()
        }
    }

    #[test]
    fn names() {
        for name in ["abc", "a-b", "0x1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "ab", "A-bc", "abc-", "-abc", "a_b", "a/b"] {
            assert_eq!(check_name(name).unwrap_err().code, 2, "{name}");
        }
    }

    #[test]
    fn uuids_are_of_version_4_and_differ() {
        let (one, two) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!(["8", "9", "a", "b"].contains(&&one[19..20]));
    }

    #[test]
    fn a_volume_is_made_once_and_then_only_changed_where_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let url = MetaUrl::Sqlite(folder.path().join("meta.db"));
        let bucket = folder.path().join("objects");
        let made = format(&url, &plan("first", &bucket)).unwrap();
        assert_eq!((made.trash_days(), made.block_size_kib()), (1, 4096));
        assert!(bucket.join("first/juicefs_uuid").exists());

        let more = FormatPlan { capacity_bytes: Some(1 << 30), ..plan("first", &bucket) };
        let changed = format(&url, &more).unwrap();
        assert_eq!((changed.capacity(), changed.uuid()), (1 << 30, made.uuid()));
        let kept = FormatPlan { capacity_bytes: Some(7), no_update: true, ..more };
        assert_eq!(format(&url, &kept).unwrap().capacity(), 1 << 30);

        let smaller = FormatPlan { block_size_kib: Some(1024), ..plan("first", &bucket) };
        assert!(format(&url, &smaller).unwrap_err().text.contains("--block-size"));
        assert!(format(&url, &plan("second", &bucket)).unwrap_err().text.contains("first"));
        let other = MetaUrl::Sqlite(folder.path().join("other.db"));
        assert!(format(&other, &plan("first", &bucket)).unwrap_err().text.contains("already"));
        assert!(!folder.path().join("other.db").exists(), "a refused format leaves a database");

        let lists = FormatPlan { acl: true, ..plan("first", &bucket) };
        assert!(format(&url, &lists).unwrap().acl());
        assert!(format(&url, &plan("first", &bucket)).unwrap().acl(), "they stay");

        let kept = FormatPlan { no_update: true, ..plan("second", &bucket) };
        assert!(format(&url, &kept).unwrap_err().text.contains("first"));
        let far = FormatPlan { storage: Some("swift".to_owned()), ..plan("first", &bucket) };
        let refused = format(&url, &far).unwrap_err();
        assert_eq!(refused.code, 3);
        assert!(refused.text.contains("not supported yet"), "{refused}");
    }

    #[test]
    fn of_two_formats_at_once_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let engines = Engines::open(&MetaUrl::Memory("x".to_owned()), true).unwrap();
        let plan = plan("twice", &folder.path().join("objects"));
        let made = make(&engines, &plan).unwrap();
        std::fs::remove_file(folder.path().join("objects/twice/juicefs_uuid")).unwrap();
        let late = uring::block_on(async { first(&*engines.engine(), &plan).await });
        assert!(late.unwrap_err().text.contains("at the same time"));
        let stored = uring::block_on(async { engines.engine().load_setting().await }).unwrap();
        assert_eq!(Setting::parse(&stored.unwrap()).unwrap().uuid(), made.uuid());
    }
}
