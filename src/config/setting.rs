//! `setting`: the volume's own description, JSON as the real client writes it.
//!
//! Keys that are not known here are kept as they are. What a client must not touch is told by
//! [`Setting::check`].

use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

/// The client version this one stands in for when a volume names versions.
const COMPATIBLE: (u64, u64, u64) = (1, 4, 1);
/// Newest metadata version that is understood.
const META_VERSION_MAX: u64 = 1;

/// A volume's setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting(Map<String, Value>);

/// What directories with quotas are refused for.
pub const DIR_QUOTAS: &str = "quotas of directories";

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

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or("")
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Replace one key's value; new keys go where the real client has them, before `TrashDays`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if self.0.contains_key(key) {
            self.0.insert(key.to_owned(), value);
            return;
        }
        let order = ["Shards", "HashPrefix", "Capacity", "Inodes", "EncryptKey", "EncryptAlgo"];
        let rank = |key: &str| order.iter().position(|known| *known == key);
        let behind = |other: &str| match (rank(key), rank(other)) {
            (Some(own), Some(theirs)) => theirs > own,
            (Some(_), None) => {
                ["TrashDays", "MetaVersion", "MinClientVersion", "DirStats", "EnableACL"]
                    .contains(&other)
            }
            _ => false,
        };
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
        if !self.text("EncryptKey").is_empty() {
            return Err(Refusal::Feature("encryption of objects"));
        }
        if self.number("Shards") > 1 {
            return Err(Refusal::Feature("a bucket in several shards"));
        }
        if self.flag("ChangeLog") && !read_only {
            return Err(Refusal::OnlyReadable("the change log of the volume"));
        }
        if self.flag("UserGroupQuota") && !read_only {
            return Err(Refusal::OnlyReadable("user and group quotas"));
        }
        if self.flag("EnableACL") && !read_only {
            return Err(Refusal::OnlyReadable("POSIX ACLs"));
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
        assert!(reason("refuse-encrypt").contains("encryption"));
        assert!(reason("refuse-shards").contains("shard"));
        assert!(reason("refuse-changelog").contains("change log"));
        assert_eq!(fixture("refuse-changelog").check(true), Ok(()));
        assert!(matches!(Setting::parse("{}"), Err(Refusal::NotAVolume(_))));
    }
}
