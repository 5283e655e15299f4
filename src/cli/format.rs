//! `jfs-uring format`.

use std::path::Path;

use super::args::FormatArgs;
use super::say;
use crate::config::MetaUrl;
use crate::daemon::{Failure, FormatPlan, format};

pub fn run(asked: &FormatArgs) -> Result<(), Failure> {
    let url = MetaUrl::parse(&asked.meta_url)?;
    if let MetaUrl::Memory(_) = url {
        let text = "a volume in memory lives in one process: `jfs-uring mount memory://NAME` makes it by itself";
        return Err(Failure::usage(text));
    }
    if asked.storage.as_deref() == Some("mem") {
        let text = "--storage mem would lose all objects with each process; mount memory://NAME for a volume in memory";
        return Err(Failure::usage(text));
    }
    let plan = FormatPlan {
        name: asked.name.clone(),
        storage: asked.storage.clone(),
        bucket: asked.bucket.clone(),
        access_key: asked.access_key.clone(),
        secret_key: asked.secret_key.clone(),
        session_token: asked.session_token.clone(),
        storage_class: asked.storage_class.clone(),
        shards: asked.shards,
        block_size_kib: asked.block_size,
        compression: asked.compress.clone(),
        encrypt_key: asked.encrypt_rsa_key.as_deref().map(read_key).transpose()?,
        encrypt_algo: asked.encrypt_algo.clone(),
        hash_prefix: asked.hash_prefix,
        trash_days: asked.trash_days,
        capacity_bytes: asked.capacity,
        inodes: asked.inodes,
        acl: asked.enable_acl,
        force: asked.force,
        no_update: asked.no_update,
    };
    let setting = format(&url, &plan)?;
    say(&format!(
        "volume {} ({}) is ready: metadata in {url}, objects in {} {} below {}/",
        setting.name(),
        setting.uuid(),
        setting.storage(),
        setting.bucket(),
        setting.name()
    ))
}

fn read_key(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let shown = path.display();
        Failure::usage(format!(
            "--encrypt-rsa-key {shown}: {error}; a file with a private key in PEM is needed"
        ))
    })
}
