//! What a mount needs, checked before it is missed: each finding with the command that cures it.
//!
//! Owns the list of findings. `machine` looks at the kernel and limits, `disk` at a cache folder, `left` at
//! what waits there for its upload, `volume` at metadata and objects. Changes nothing but a test file and a test object.

mod disk;
mod left;
mod machine;
mod volume;

use std::path::PathBuf;

use super::volume::Volume;
use crate::config::MetaUrl;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, but slower or less safely than it could.
    Poor,
    /// A mount will fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// The command, or what to do exactly, that cures it; empty when nothing needs to be cured.
    pub cure: String,
}

impl Finding {
    fn good(what: &'static str, seen: impl Into<String>) -> Self {
        Self { what, health: Health::Good, seen: seen.into(), cure: String::new() }
    }

    fn poor(what: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what, health: Health::Poor, seen: seen.into(), cure: cure.into() }
    }

    fn bad(what: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what, health: Health::Bad, seen: seen.into(), cure: cure.into() }
    }
}

/// Look at the machine, at the disks below `cache_folders`, at what earlier mounts left there, and at the
/// volume of `url`.
pub fn examine(url: Option<&MetaUrl>, cache_folders: &[PathBuf]) -> Vec<Finding> {
    let mut found = machine::examine();
    for folder in cache_folders {
        found.extend(disk::examine(folder));
        found.push(left::examine(folder));
    }
    if let Some(url) = url {
        match Volume::open(url.clone()) {
            Ok(volume) => found.extend(volume::examine(&volume)),
            Err(failure) => {
                found.push(Finding::bad("metadata", failure.text, cure_of_metadata(url)));
            }
        }
    }
    found
}

/// What to do about metadata that does not open.
fn cure_of_metadata(url: &MetaUrl) -> String {
    match url {
        MetaUrl::Sqlite(path) if !path.exists() => format!("jfs-uring format {url} NAME"),
        MetaUrl::Redis(_) => {
            let ask = volume::ask(url);
            format!("{ask} tells whether it answers; export META_PASSWORD if it wants one")
        }
        _ => volume::ask(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cures_of_metadata_are_commands() {
        let cure = |url: &str| cure_of_metadata(&MetaUrl::parse(url).expect("a URL"));
        assert_eq!(cure("sqlite3:///not/there"), "jfs-uring format sqlite3:///not/there NAME");
        assert_eq!(cure("sqlite3:///proc/mounts"), "sqlite3 /proc/mounts 'PRAGMA quick_check'");
        let redis = cure("redis://:hush@host:6379/1");
        assert!(redis.starts_with("redis-cli -h host -p 6379 --askpass PING"), "{redis}");
        assert!(!redis.contains("hush"), "{redis}");
        let socket = cure("unix://:hush@/run/redis.sock?db=3");
        assert!(socket.starts_with("redis-cli -s /run/redis.sock --askpass PING"), "{socket}");
    }
}
