//! The text of `.config`: a mount's settings, in the words of the official client's.
//!
//! Owns which of ours stand under which of its names. Secrets of the volume are not among them.

use std::path::Path;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use super::serve::ServePlan;
use super::volume::VERSION;
use crate::config::Setting;
use crate::meta::Atime;
use crate::stage::UploadHours;

/// The text, for a mount at `point`.
pub fn config_text(setting: &Setting, plan: &ServePlan, point: &Path) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" "));
    let config = config(setting, plan, &point.display().to_string());
    config.serialize(&mut serializer).expect("JSON in memory can be written");
    String::from_utf8(text).expect("JSON is text")
}

fn config(setting: &Setting, plan: &ServePlan, point: &str) -> Value {
    let vfs = &plan.vfs;
    json!({
        "Meta": meta(plan, point),
        "Format": setting.without_secrets(),
        "Chunk": chunk(setting, plan),
        "Version": VERSION,
        "AttrTimeout": vfs.attr_ttl_ns,
        "DirEntryTimeout": vfs.dir_entry_ttl_ns,
        "NegEntryTimeout": vfs.negative_ttl_ns,
        "EntryTimeout": vfs.entry_ttl_ns,
        "ReaddirCache": vfs.readdir_cache,
        "PrefixInternal": false,
        "HideInternal": !vfs.list_internal,
        "BackupMeta": plan.backup.map_or(0, |backup| backup.period.as_nanos() as u64),
        "BackupSkipTrash": plan.backup.is_some_and(|backup| backup.skip_trash),
        "Pid": std::process::id(),
        "PPid": rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
        "Mountpoint": point,
    })
}

fn meta(plan: &ServePlan, point: &str) -> Value {
    let vfs = &plan.vfs;
    let duties = plan.duties.as_ref();
    json!({
        "Retries": plan.cache.tries,
        "MaxDeletes": plan.cache.deletes,
        "ReadOnly": vfs.read_only,
        "NoBGJob": !duties.is_some_and(|duties| duties.clean_up),
        "OpenCache": vfs.open_cache_ns,
        "Heartbeat": duties.map_or(0, |duties| duties.heartbeat.as_nanos() as u64),
        "MountPoint": point,
        "AtimeMode": match vfs.atime {
            None => "noatime",
            Some(Atime::Relative) => "relatime",
            Some(Atime::Strict) => "strictatime",
        },
        "SkipDirMtime": plan.skip_dir_mtime_ns,
    })
}

fn chunk(setting: &Setting, plan: &ServePlan) -> Value {
    let (cache, blocks) = (&plan.cache, &plan.cache.blocks);
    let folders = blocks.folders.iter().map(|path| path.join(setting.uuid()).display().to_string());
    let folders: Vec<_> = folders.collect();
    let staging = cache.staging.unwrap_or_default();
    json!({
        "CacheDir": if folders.is_empty() { "memory".to_owned() } else { folders.join(":") },
        "CacheMode": blocks.file_mode,
        "CacheSize": blocks.disk_bytes,
        "CacheItems": blocks.disk_blocks,
        "FreeSpace": blocks.free_space_ratio,
        "CacheFullBlock": !blocks.partial_only,
        "CacheLargeWrite": cache.large_writes,
        "CacheExpire": blocks.expire.as_nanos() as u64,
        "CacheScanInterval": blocks.scan_interval.as_nanos() as u64,
        "BufferSize": cache.buffer_bytes,
        "Readahead": cache.max_readahead_bytes,
        "Prefetch": cache.prefetch,
        "MaxUpload": cache.uploads,
        "MaxDownload": cache.downloads,
        "MaxRetries": cache.tries,
        "Writeback": cache.staging.is_some(),
        "WritebackThresholdSize": staging.threshold_bytes,
        "UploadDelay": staging.upload_delay.as_nanos() as u64,
        "UploadHours": staging.upload_hours.map_or_else(String::new, |UploadHours { from, to }| format!("{from},{to}")),
        "MaxStageWrite": staging.max_writes,
        "BlockSize": u64::from(setting.block_size_kib()) * 1024,
        "Compress": setting.compression(),
        "HashPrefix": setting.hash_prefix(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::daemon::{CachePlan, StagingPlan};
    use crate::stage::CacheConfig;
    use crate::vfs::VfsConfig;

    #[test]
    fn settings_have_the_real_clients_names_and_no_secret() {
        let mut setting = Setting::new("vol", "uu-id", "s3", "https://b");
        setting.set_text("AccessKey", "AK");
        setting.set_text("SecretKey", "hush");
        let plan = ServePlan {
            cache: CachePlan {
                buffer_bytes: 300 << 20,
                blocks: CacheConfig { folders: vec!["/a".into()], ..CacheConfig::default() },
                staging: Some(StagingPlan {
                    upload_delay: Duration::from_secs(5),
                    upload_hours: Some(UploadHours { from: 22, to: 6 }),
                    ..StagingPlan::default()
                }),
                large_writes: false,
                max_readahead_bytes: None,
                prefetch: 1,
                uploads: 20,
                downloads: 200,
                deletes: 10,
                tries: 10,
            },
            vfs: VfsConfig::default(),
            cores: 1,
            skip_dir_mtime_ns: 5,
            metrics: None,
            duties: None,
            backup: None,
        };
        let text = config_text(&setting, &plan, Path::new("/mnt"));
        assert!(text.starts_with("{\n \"Meta\": {\n  \"Retries\": 10,"), "{text}");
        assert!(!text.contains("hush"), "{text}");
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["Format"]["SecretKey"], "removed");
        assert_eq!(config["Format"]["AccessKey"], "AK");
        assert_eq!(config["Chunk"]["CacheDir"], "/a/uu-id");
        assert_eq!(
            (&config["Chunk"]["Writeback"], &config["Chunk"]["UploadHours"]),
            (&true.into(), &"22,6".into())
        );
        assert_eq!(
            (&config["Chunk"]["UploadDelay"], &config["Chunk"]["MaxStageWrite"]),
            (&json!(5e9 as u64), &1000.into())
        );
        assert_eq!(
            (&config["Mountpoint"], &config["AttrTimeout"]),
            (&"/mnt".into(), &json!(1e9 as u64))
        );
    }
}
