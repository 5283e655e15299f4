//! A volume's metadata and objects: do they answer, how fast, how safely.

use std::time::Instant;

use super::Finding;
use crate::config::MetaUrl;
use crate::daemon::volume::Volume;
use crate::daemon::{Failure, OwnStore, StorePolicy, check_storage};
use crate::meta::Description;
use crate::meta::redis::command_to_ask;
use crate::object::PASSPHRASE;
use crate::uring;

const TURNS: usize = 20;

pub fn examine(volume: &Volume) -> Vec<Finding> {
    let mut found = vec![features(volume), round_trip(volume)];
    found.extend(persistence(volume));
    found.push(objects(volume));
    found
}

/// The command that asks where the metadata is without this client, and tells more.
pub fn ask(url: &MetaUrl) -> String {
    match url {
        MetaUrl::Sqlite(path) => format!("sqlite3 {} 'PRAGMA quick_check'", path.display()),
        MetaUrl::Redis(text) => {
            command_to_ask(text).unwrap_or_else(|| "write META-URL as above".to_owned())
        }
        MetaUrl::Memory(_) => "run the command again: memory is new each time".to_owned(),
    }
}

fn features(volume: &Volume) -> Finding {
    let what = "volume";
    if let Err(refusal) = volume.setting.check(false) {
        let cure = format!("juicefs mount {} MOUNTPOINT", volume.url);
        return Finding::bad(what, refusal.to_string(), cure);
    }
    Finding::good(what, format!("{} is served", volume.setting.name()))
}

fn round_trip(volume: &Volume) -> Finding {
    let what = "metadata";
    let turns = uring::block_on(async {
        let engine = volume.engines.engine();
        let mut taken_us = Vec::with_capacity(TURNS);
        for _ in 0..TURNS {
            let began = Instant::now();
            engine.load_setting().await?;
            taken_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok::<_, Failure>(taken_us)
    });
    match turns {
        Ok(mut taken_us) => {
            taken_us.sort_by(f64::total_cmp);
            Finding::good(what, format!("{:.0} µs for a round trip", taken_us[TURNS / 2]))
        }
        Err(failure) => Finding::bad(what, failure.text, ask(&volume.url)),
    }
}

/// What the engine says of itself, and what should be otherwise.
fn persistence(volume: &Volume) -> Vec<Finding> {
    let what = "persistence";
    match uring::block_on(async { volume.engines.engine().describe().await }) {
        Ok(Description { text, warnings }) => {
            let poor = |(seen, cure)| Finding::poor(what, seen, cure);
            std::iter::once(Finding::good(what, text))
                .chain(warnings.into_iter().map(poor))
                .collect()
        }
        Err(error) => vec![Finding::bad(what, error.to_string(), ask(&volume.url))],
    }
}

fn objects(volume: &Volume) -> Finding {
    let what = "objects";
    let began = Instant::now();
    let stores = volume.stores(OwnStore::default(), StorePolicy::asking());
    match stores.and_then(|stores| check_storage(&stores)) {
        Ok(()) => {
            let taken_ms = began.elapsed().as_secs_f64() * 1e3;
            Finding::good(what, format!("stored, read and deleted one in {taken_ms:.1} ms"))
        }
        Err(failure) => {
            let bucket = volume.setting.bucket();
            let cure = match failure.text.contains(PASSPHRASE) {
                true => format!("read -rs {PASSPHRASE}; export {PASSPHRASE}"),
                false => format!("mkdir -p {bucket} && chown $(id -u) {bucket} && df -h {bucket}"),
            };
            Finding::bad(what, failure.text, cure)
        }
    }
}
