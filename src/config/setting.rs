//! `setting`: the volume's own description, JSON as the real client writes it.
//!
//! Owns the order of keys and which of them are sealed (`secret`). Keys that are not known here are kept as they are. What a client must not touch is told by
//! [`Setting::check`].

use std::fmt;

use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::secret;

/// The client version this one stands in for when a volume names versions.
const COMPATIBLE: (u64, u64, u64) = (1, 4, 1);
/// The first client version that knows access control lists.
const ACL_VERSION: (u64, u64, u64) = (1, 2, 0);
/// Newest metadata version that is understood.
const META_VERSION_MAX: u64 = 1;

/// Says that secrets are sealed.
const KEY_ENCRYPTED: &str = "KeyEncrypted";
/// Most buckets the real client spreads a volume over.
const SHARDS_MAX: u64 = 256;
/// The real client's order of keys.
const ORDER: &[&str] = &[
    "Name",
    "UUID",
    "Storage",
    "StorageClass",
    "Tiers",
    "Bucket",
    "AccessKey",
    "SecretKey",
    "SessionToken",
    "BlockSize",
    "Compression",
    "Shards",
    "HashPrefix",
    "Capacity",
    "Inodes",
    "EncryptKey",
    "EncryptAlgo",
    KEY_ENCRYPTED,
    "UploadLimit",
    "DownloadLimit",
    "TrashDays",
    "MetaVersion",
    "MinClientVersion",
    "MaxClientVersion",
    "DirStats",
    "UserGroupQuota",
    "EnableACL",
];

/// A volume's setting.
#[derive(Clone, PartialEq)]
pub struct Setting(Map<String, Value>);

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting of {}", self.name())
    }
}

/// A key of the setting that holds a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKey {
    /// The object store's.
    Secret,
    /// Of keys for a limited time.
    SessionToken,
    /// The private key of encrypted objects, in PEM.
    Encrypt,
}

impl SecretKey {
    const ALL: [Self; 3] = [Self::Secret, Self::SessionToken, Self::Encrypt];

    fn name(self) -> &'static str {
        match self {
            Self::Secret => "SecretKey",
            Self::SessionToken => "SessionToken",
            Self::Encrypt => "EncryptKey",
        }
    }

    /// That it cannot be used: a secret is stored anew, the key of objects that exist cannot be.
    fn lost(self, why: &'static str, why_and_cure: &'static str) -> Refusal {
        match self {
            Self::Secret | Self::SessionToken => Refusal::Secret(self.name(), why),
            Self::Encrypt => Refusal::EncryptKey(why_and_cure),
        }
    }
}

/// Keys that say where objects are, who asks for them and how they are put.
const STORE: &[&str] = &[
    "Storage",
    "StorageClass",
    "Tiers",
    "Bucket",
    "AccessKey",
    "SecretKey",
    "SessionToken",
    "Shards",
];
/// Keys whose values nobody is shown.
const HIDDEN: &[&str] = &["SecretKey", "SessionToken", "EncryptKey"];

/// Why a volume is not mounted, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not JSON of a volume.
    #[error("the database holds no volume of JuiceFS: {0}; make one with `jfs-uring format`")]
    NotAVolume(String),
    /// Written by a newer kind of client.
    #[error("incompatible metadata version: {0}; please upgrade the client")]
    MetaVersion(u64),
    /// The volume wants a newer client.
    #[error("allowed minimum version: {0}; please upgrade the client")]
    MinVersion(String),
    /// The volume wants an older client.
    #[error("allowed maximum version: {0}; please use an older client")]
    MaxVersion(String),
    /// A feature that is not served.
    #[error(
        "{0} is not supported yet by jfs-uring; use the official client (juicefs mount) for this volume"
    )]
    Feature(&'static str),
    /// Secrets that cannot be used.
    #[error(
        "the volume's {0} cannot be read: {1}; store it anew with `jfs-uring format` and its flags, \
         or `juicefs config`"
    )]
    Secret(&'static str, &'static str),
    /// The private key of encrypted objects cannot be used; with the cure.
    #[error("objects of the volume are encrypted, and its private key cannot be read: {0}")]
    EncryptKey(&'static str),
    /// A feature that is only safe to read.
    #[error(
        "not supported yet by jfs-uring for writing: {0}; mount with --read-only, or use the official client"
    )]
    OnlyReadable(&'static str),
}

impl Setting {
    /// A new volume with the real client's keys in its order.
    pub fn new(name: &str, uuid: &str, storage: &str, bucket: &str) -> Self {
        let Value::Object(map) = json!({
            "Name": name, "UUID": uuid, "Storage": storage,
            "Tiers": {"0": {"ID": 0, "StorageClass": "", "Tag": ""}},
            "Bucket": bucket, "BlockSize": 4096, "Compression": "none", "EncryptAlgo": "aes256gcm-rsa",
            "TrashDays": 1, "MetaVersion": 1, "MinClientVersion": "1.1.0-A", "DirStats": true, "EnableACL": false,
        }) else {
            unreachable!("an object is written above")
        };
        Self(map)
    }

    /// Read the stored text.
    ///
    /// # Errors
    /// When it is no JSON object with a volume's name and UUID.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let map: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| Refusal::NotAVolume(error.to_string()))?;
        let setting = Self(map);
        if setting.text("Name").is_empty() || setting.text("UUID").is_empty() {
            return Err(Refusal::NotAVolume("its setting has no name".to_owned()));
        }
        Ok(setting)
    }

    /// The text to store: one key a line, no indentation, `<`, `>` and `&` escaped.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        let mut serializer =
            Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b""));
        serde::Serialize::serialize(&self.0, &mut serializer)
            .expect("JSON in memory can be written");
        let text = String::from_utf8(out).expect("JSON is text");
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }

    /// All of it for people and tools to see, with "removed" where secrets are.
    pub fn without_secrets(&self) -> Value {
        let mut shown = self.0.clone();
        for secret in HIDDEN {
            if let Some(value) = shown.get_mut(*secret)
                && value.as_str() != Some("")
            {
                *value = "removed".into();
            }
        }
        Value::Object(shown)
    }

    /// All of it as a dump keeps it: without the secrets of the store, which are stored anew when it is
    /// loaded. The key of encrypted objects stays, sealed as it is: nobody has another copy of it.
    pub fn to_dump(&self) -> Value {
        let mut shown = self.0.clone();
        for secret in [SecretKey::Secret, SecretKey::SessionToken] {
            if let Some(value) = shown.get_mut(secret.name())
                && value.as_str() != Some("")
            {
                *value = "removed".into();
            }
        }
        Value::Object(shown)
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or("")
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Replace one key's value; new keys go where the real client has them.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if self.0.contains_key(key) {
            self.0.insert(key.to_owned(), value);
            return;
        }
        let rank = |key: &str| ORDER.iter().position(|known| *known == key);
        let behind =
            |other: &str| rank(key).zip(rank(other)).is_some_and(|(own, theirs)| theirs > own);
        let old = std::mem::take(&mut self.0);
        let mut value = Some(value);
        for (name, kept) in old {
            if behind(&name)
                && let Some(value) = value.take()
            {
                self.0.insert(key.to_owned(), value);
            }
            self.0.insert(name, kept);
        }
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value);
        }
    }

    /// Replace one key's text; without text the key goes, as the real client leaves it out.
    pub fn set_text(&mut self, key: &str, text: &str) {
        if text.is_empty() {
            self.0.shift_remove(key);
        } else {
            self.set(key, text);
        }
    }

    /// Keep a secret; sealed as the others are, or from the first one on.
    ///
    /// # Errors
    /// When the volume seals in a way that is not known here.
    pub fn set_secret(&mut self, key: SecretKey, text: &str) -> Result<(), Refusal> {
        let others =
            SecretKey::ALL.iter().any(|other| *other != key && !self.text(other.name()).is_empty());
        let sealed = self.flag(KEY_ENCRYPTED);
        if text.is_empty() || (others && !sealed) {
            // Among secrets in the clear, which old clients wrote, one that is sealed is not read.
            self.set_text(key.name(), text);
            return Ok(());
        }
        self.check_seal(key)?;
        self.set_text(key.name(), &secret::seal(self.uuid(), text));
        self.set(KEY_ENCRYPTED, true);
        Ok(())
    }

    /// A secret in the clear; empty when there is none.
    ///
    /// # Errors
    /// When it was removed, or sealed in a way that is not known here.
    pub fn secret(&self, key: SecretKey) -> Result<String, Refusal> {
        let text = self.text(key.name());
        if text.is_empty() || !self.flag(KEY_ENCRYPTED) {
            return Ok(text.to_owned());
        }
        if text == "removed" {
            return Err(key.lost(
                "it was removed, as `juicefs dump` does",
                "it was removed, as `juicefs dump` does; take it from a dump with --keep-secret-key",
            ));
        }
        self.check_seal(key)?;
        let opened = secret::open(self.uuid(), text);
        opened.ok_or_else(|| {
            key.lost(
                "it was not sealed for this volume",
                "it was not sealed for this volume; put EncryptKey and UUID of the same setting back",
            )
        })
    }

    fn check_seal(&self, key: SecretKey) -> Result<(), Refusal> {
        match self.encrypt_algo() {
            "sm4gcm" => Err(key.lost(
                "it is sealed with SM4",
                "it is sealed with SM4, which is not supported yet by jfs-uring; \
                 use the official client (juicefs mount) for this volume",
            )),
            _ => Ok(()),
        }
    }

    /// Whether objects are encrypted, with the secret [`SecretKey::Encrypt`].
    pub fn encrypted(&self) -> bool {
        !self.text(SecretKey::Encrypt.name()).is_empty()
    }

    /// How they are; has a value on volumes in the clear, too.
    pub fn encrypt_algo(&self) -> &str {
        self.text("EncryptAlgo")
    }

    /// Key for the object store; empty when the machine's own are used.
    pub fn access_key(&self) -> &str {
        self.text("AccessKey")
    }

    /// Class of storage for new objects; empty for the store's own.
    pub fn storage_class(&self) -> &str {
        let tier = self.0.get("Tiers").and_then(|tiers| tiers["0"]["StorageClass"].as_str());
        tier.filter(|class| !class.is_empty()).unwrap_or_else(|| self.text("StorageClass"))
    }

    /// Set it where the real client keeps it, in both places.
    pub fn set_storage_class(&mut self, class: &str) {
        self.set_text("StorageClass", class);
        let mut tiers = self.0.get("Tiers").and_then(Value::as_object).cloned().unwrap_or_default();
        let tag = tiers.get("0").map_or(json!(""), |tier| tier["Tag"].clone());
        tiers.insert("0".to_owned(), json!({"ID": 0, "StorageClass": class, "Tag": tag}));
        self.set("Tiers", tiers);
    }

    /// Tiers of storage beside the first, each with its class, which may be empty.
    pub fn tiers(&self) -> Vec<(u8, String)> {
        let tiers = self.0.get("Tiers").and_then(Value::as_object);
        let named = tiers.into_iter().flatten().filter_map(|(id, tier)| {
            let class = tier["StorageClass"].as_str().unwrap_or("");
            Some((id.parse().ok()?, class.to_owned()))
        });
        named.filter(|(id, _)| *id > 0).collect()
    }

    /// Whether objects of some tier are to be given a tag, in a store that has tags.
    fn tags(&self) -> bool {
        if ["file", "mem"].contains(&&*self.storage().to_ascii_lowercase()) {
            return false;
        }
        // The official client leaves out a tag that is not a name and a value.
        let is_tag = |tag: &str| matches!(tag.split_once('='), Some((name, value)) if !name.is_empty() && !value.is_empty() && !value.contains('='));
        let tiers = self.0.get("Tiers").and_then(Value::as_object);
        tiers.into_iter().flatten().any(|(_, tier)| tier["Tag"].as_str().is_some_and(is_tag))
    }

    /// Whether objects are where `other` says, and asked for and put in the same way. A secret that was
    /// sealed anew counts as another one.
    pub fn has_store_of(&self, other: &Self) -> bool {
        STORE.iter().all(|key| self.0.get(*key) == other.0.get(*key))
    }

    /// Buckets that objects are spread over; 0 and 1 are one.
    pub fn shards(&self) -> u64 {
        self.number("Shards")
    }

    /// Limits for bytes put and got in Mbps, 0 for none, of mounts that say nothing else.
    pub fn rates_mbps(&self) -> (u64, u64) {
        (self.number("UploadLimit"), self.number("DownloadLimit"))
    }

    /// Name of the volume, prefix of its objects.
    pub fn name(&self) -> &str {
        self.text("Name")
    }

    /// Identity of the volume; names its cache folder.
    pub fn uuid(&self) -> &str {
        self.text("UUID")
    }

    /// Kind of object store.
    pub fn storage(&self) -> &str {
        self.text("Storage")
    }

    /// Bucket or folder.
    pub fn bucket(&self) -> &str {
        self.text("Bucket")
    }

    /// Block size in KiB.
    pub fn block_size_kib(&self) -> u32 {
        self.number("BlockSize") as u32
    }

    /// `none`, `lz4` or `zstd`.
    pub fn compression(&self) -> &str {
        self.text("Compression")
    }

    /// Objects lie below two hex digits of their slice.
    pub fn hash_prefix(&self) -> bool {
        self.flag("HashPrefix")
    }

    /// Nodes may have access control lists.
    pub fn acl(&self) -> bool {
        self.flag("EnableACL")
    }

    /// Nodes may have access control lists from now on, for good: clients that know none are kept
    /// away, as the official client does it.
    pub fn enable_acl(&mut self) {
        self.set("EnableACL", true);
        let least = parse_version(self.text("MinClientVersion"));
        if least.is_none_or(|least| least < ACL_VERSION) {
            self.set("MinClientVersion", "1.2.0-A");
        }
    }

    /// Days that deleted files stay; 0 without trash.
    pub fn trash_days(&self) -> u64 {
        self.number("TrashDays")
    }

    /// Limit in bytes, 0 for none.
    pub fn capacity(&self) -> u64 {
        self.number("Capacity")
    }

    /// Limit in inodes, 0 for none.
    pub fn inodes(&self) -> u64 {
        self.number("Inodes")
    }

    /// Whether directories have statistics.
    pub fn dir_stats(&self) -> bool {
        self.flag("DirStats")
    }

    /// Whether what users and groups own is counted and limited.
    pub fn owner_quotas(&self) -> bool {
        self.flag("UserGroupQuota")
    }

    /// Whether this client may serve the volume.
    ///
    /// # Errors
    /// The first thing that forbids it.
    pub fn check(&self, read_only: bool) -> Result<(), Refusal> {
        let meta_version = self.number("MetaVersion");
        if meta_version > META_VERSION_MAX {
            return Err(Refusal::MetaVersion(meta_version));
        }
        let (least, most) = (self.text("MinClientVersion"), self.text("MaxClientVersion"));
        if parse_version(least).is_some_and(|least| least > COMPATIBLE) {
            return Err(Refusal::MinVersion(least.to_owned()));
        }
        if parse_version(most).is_some_and(|most| most < COMPATIBLE) {
            return Err(Refusal::MaxVersion(most.to_owned()));
        }
        if self.shards() > SHARDS_MAX {
            return Err(Refusal::Feature("a bucket in more than 256 shards"));
        }
        if self.flag("ChangeLog") && !read_only {
            return Err(Refusal::OnlyReadable("the change log of the volume"));
        }
        if self.tags() && !read_only {
            return Err(Refusal::OnlyReadable("tags of objects in a tier of storage"));
        }
        Ok(())
    }
}

/// Major, minor, patch of `1.4.0-A`; what stands behind a hyphen only sorts before the release.
fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let release = text.split(['-', '+']).next()?;
    let mut parts = release.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Setting {
        let path = format!("{}/tests/fixtures/{name}/volume.json", env!("CARGO_MANIFEST_DIR"));
        let volume: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Setting::parse(&volume["setting"].to_string()).unwrap()
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = r#"{"Name":"v","UUID":"u","SecretKey":"hush","EncryptKey":"","Bucket":"b"}"#;
        let shown = Setting::parse(text).unwrap().without_secrets();
        assert_eq!(shown["SecretKey"], "removed");
        assert_eq!((&shown["EncryptKey"], &shown["Bucket"]), (&"".into(), &"b".into()));
    }

    #[test]
    fn a_new_volume_has_the_real_clients_text() {
        let mut setting = Setting::new(
            "trace",
            "9a1ad459-a2d8-4f97-b8a8-ad23bcd95002",
            "file",
            "/var/jfs-fixture/trace/objects/",
        );
        setting.set("BlockSize", 1024);
        setting.set("TrashDays", 0);
        let expected = "{\n\"Name\": \"trace\",\n\"UUID\": \"9a1ad459-a2d8-4f97-b8a8-ad23bcd95002\",\n\"Storage\": \"file\",\n\
            \"Tiers\": {\n\"0\": {\n\"ID\": 0,\n\"StorageClass\": \"\",\n\"Tag\": \"\"\n}\n},\n\"Bucket\": \"/var/jfs-fixture/trace/objects/\",\n\
            \"BlockSize\": 1024,\n\"Compression\": \"none\",\n\"EncryptAlgo\": \"aes256gcm-rsa\",\n\"TrashDays\": 0,\n\"MetaVersion\": 1,\n\
            \"MinClientVersion\": \"1.1.0-A\",\n\"DirStats\": true,\n\"EnableACL\": false\n}";
        assert_eq!(setting.to_json(), expected);
    }

    #[test]
    fn unknown_keys_stay_and_new_ones_take_their_place() {
        let text = "{\"Name\":\"a\",\"UUID\":\"u\",\"Odd\":{\"b\":[1,2]},\"EncryptAlgo\":\"x\",\"TrashDays\":1,\"Last\":\"<&>\"}";
        let mut setting = Setting::parse(text).unwrap();
        setting.set("HashPrefix", true);
        setting.set("Capacity", 5);
        let keys: Vec<_> = setting.0.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["Name", "UUID", "Odd", "HashPrefix", "Capacity", "EncryptAlgo", "TrashDays", "Last"]
        );
        assert!(setting.to_json().contains("\\u003c\\u0026\\u003e"));
        assert_eq!(Setting::parse(&setting.to_json()), Ok(setting));
    }

    #[test]
    fn volumes_that_are_not_ours_are_refused_by_name() {
        for name in ["plain", "lz4", "zstd", "hash-prefix", "older", "sqlite-plain"] {
            assert_eq!(fixture(name).check(false), Ok(()), "{name}");
        }
        let reason = |name: &str| fixture(name).check(false).unwrap_err().to_string();
        assert_eq!(
            reason("refuse-min-version"),
            "allowed minimum version: 9.9.9; please upgrade the client"
        );
        assert_eq!(
            reason("refuse-max-version"),
            "allowed maximum version: 1.0.0; please use an older client"
        );
        assert!(reason("refuse-meta-version").starts_with("incompatible metadata version: 99"));
        for name in ["refuse-encrypt", "refuse-encrypt-passphrase"] {
            assert_eq!(fixture(name).check(false), Ok(()), "{name}");
            assert!(fixture(name).encrypted());
        }
        assert!(!fixture("plain").encrypted());
        assert_eq!(fixture("refuse-shards").check(false), Ok(()));
        assert_eq!(fixture("refuse-tiers").check(false), Ok(()));
        let mut many = fixture("refuse-shards");
        many.set("Shards", 257);
        assert!(many.check(true).unwrap_err().to_string().contains("256 shards"));
        assert!(reason("refuse-changelog").contains("change log"));
        assert_eq!(fixture("refuse-changelog").check(true), Ok(()));
        assert!(fixture("quota-acl").acl() && fixture("quota-acl").owner_quotas());
        assert_eq!(fixture("quota-acl").check(false), Ok(()));
        assert!(matches!(Setting::parse("{}"), Err(Refusal::NotAVolume(_))));
    }

    #[test]
    fn lists_keep_clients_away_that_know_none() {
        let mut setting = Setting::new("v", "u", "file", "/b/");
        assert!(!setting.acl());
        setting.enable_acl();
        assert!(setting.to_json().contains("\"MinClientVersion\": \"1.2.0-A\""));
        assert_eq!((setting.acl(), setting.check(false)), (true, Ok(())));
        setting.set("MinClientVersion", "1.3.0-A");
        setting.enable_acl();
        assert!(setting.to_json().contains("\"MinClientVersion\": \"1.3.0-A\""));
    }

    #[test]
    fn secrets_are_sealed_where_the_real_client_has_them() {
        let mut setting = Setting::new("v", "u-u-i-d", "s3", "https://b");
        setting.set_text("AccessKey", "AK");
        setting.set_secret(SecretKey::SessionToken, "token").unwrap();
        setting.set_secret(SecretKey::Secret, "hush").unwrap();
        let keys: Vec<_> = setting.0.keys().map(String::as_str).collect();
        assert_eq!(keys[4..9], ["Bucket", "AccessKey", "SecretKey", "SessionToken", "BlockSize"]);
        assert_eq!(keys[10..13], ["EncryptAlgo", "KeyEncrypted", "TrashDays"]);
        let text = setting.to_json();
        assert!(!text.contains("hush") && !text.contains("token"), "{text}");
        assert_eq!(setting.secret(SecretKey::Secret).unwrap(), "hush");
        assert_eq!(setting.secret(SecretKey::SessionToken).unwrap(), "token");
        assert!(!format!("{setting:?}").contains("AK"));
        setting.set_text("AccessKey", "");
        setting.set_secret(SecretKey::SessionToken, "").unwrap();
        assert!(!setting.to_json().contains("AccessKey"));
        assert_eq!(setting.secret(SecretKey::SessionToken).unwrap(), "");
    }

    #[test]
    fn secrets_of_other_clients_are_read_or_told() {
        let read = |rest: &str| {
            let text = format!("{{\"Name\":\"v\",\"UUID\":\"u\",{rest}}}");
            let setting = Setting::parse(&text).unwrap();
            setting.secret(SecretKey::Secret).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(read("\"SecretKey\":\"in the clear\"").unwrap(), "in the clear");
        let removed = read("\"SecretKey\":\"removed\",\"KeyEncrypted\":true").unwrap_err();
        assert!(removed.contains("was removed") && removed.contains("SecretKey"), "{removed}");
        let odd = read("\"SecretKey\":\"QUJD\",\"KeyEncrypted\":true").unwrap_err();
        assert!(odd.contains("not sealed for this volume"), "{odd}");
        let chinese =
            read("\"SecretKey\":\"QUJD\",\"KeyEncrypted\":true,\"EncryptAlgo\":\"sm4gcm\"");
        assert!(chinese.unwrap_err().contains("SM4"));
        let mut old =
            Setting::parse("{\"Name\":\"v\",\"UUID\":\"u\",\"SecretKey\":\"old\"}").unwrap();
        old.set_secret(SecretKey::SessionToken, "new").unwrap();
        assert_eq!(old.secret(SecretKey::Secret).unwrap(), "old", "one way for all of a volume");
        assert_eq!(old.secret(SecretKey::SessionToken).unwrap(), "new");
    }

    #[test]
    fn the_class_of_storage_is_that_of_the_first_tier() {
        let mut setting = Setting::new("v", "u", "s3", "b");
        assert_eq!(setting.storage_class(), "");
        setting.set("StorageClass", "OLD");
        assert_eq!(setting.storage_class(), "OLD");
        setting.set_storage_class("STANDARD_IA");
        assert_eq!(setting.storage_class(), "STANDARD_IA");
        let keys: Vec<_> = setting.0.keys().map(String::as_str).collect();
        assert_eq!(keys[2..5], ["Storage", "StorageClass", "Tiers"]);
        assert!(
            setting.to_json().contains("\"ID\": 0,\n\"StorageClass\": \"STANDARD_IA\",\n\"Tag\"")
        );
        assert!(setting.tiers().is_empty());
        let mut setting = fixture("refuse-tiers");
        setting.set_storage_class("ONEZONE_IA");
        let others = [(1, "STANDARD_IA".to_owned()), (2, "GLACIER_IR".to_owned())];
        assert_eq!((setting.storage_class(), &setting.tiers()[..]), ("ONEZONE_IA", &others[..]));
    }

    #[test]
    fn tags_of_tiers_are_only_read_where_there_are_any() {
        let told = |storage: &str, tag: &str, read_only: bool| {
            let mut setting = Setting::new("v", "u", storage, "b");
            setting.set("Tiers", json!({"1": {"ID": 1, "StorageClass": "STANDARD", "Tag": tag}}));
            setting.check(read_only).map_err(|refusal| refusal.to_string())
        };
        let refused = told("s3", "project=a", false).unwrap_err();
        assert!(
            refused.contains("tags of objects") && refused.contains("--read-only"),
            "{refused}"
        );
        assert_eq!(told("s3", "project=a", true), Ok(()));
        assert_eq!(told("s3", "no tag", false), Ok(()));
        assert_eq!(told("s3", "a=b=c", false), Ok(()));
        assert_eq!(told("file", "project=a", false), Ok(()));
    }
}
