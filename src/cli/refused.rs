//! Flags of `juicefs mount` that this client does not have yet: refused by name with the reason,
//! never ignored.

use std::ffi::OsString;

const LATER: &str = "is not built yet";
const WRITE_BACK: &str =
    "belongs to write-back, which is not built yet: every close waits until data is stored";

const REFUSED: &[(&str, &str)] = &[
    ("writeback", WRITE_BACK),
    ("writeback-threshold-size", WRITE_BACK),
    ("upload-delay", WRITE_BACK),
    ("upload-hours", WRITE_BACK),
    ("max-stage-write", WRITE_BACK),
    ("tag", LATER),
    ("max-deletes", LATER),
    (
        "backup-meta",
        "is not built: this client never writes metadata backups; the official client does",
    ),
    (
        "backup-skip-trash",
        "is not built: this client never writes metadata backups; the official client does",
    ),
    ("skip-dir-nlink", "is for key-value engines, which are not served"),
    ("sort-dir", LATER),
    ("fast-statfs", LATER),
    ("network-interfaces", LATER),
    ("open-cache-limit", LATER),
    ("metrics", LATER),
    ("custom-labels", LATER),
    ("consul", LATER),
    ("pyroscope", "is for the official client, which is written in Go"),
    (
        "no-agent",
        "is for the official client, which is written in Go; this one opens no debug port",
    ),
    ("log-id", LATER),
    ("log-level", "is not known; choose --verbose, --quiet or --trace"),
    ("no-syslog", "is not needed: this client writes no syslog"),
    ("no-usage-report", "is not needed: this client reports nothing to anybody"),
    ("root-squash", LATER),
    ("all-squash", LATER),
    ("prefix-internal", LATER),
    ("non-default-permission", "is for tests of the official client"),
    ("umask", LATER),
    ("update-fstab", LATER),
    ("disable-transparent-hugepage", LATER),
    (
        "enable-acl",
        "is a setting of the volume: `jfs-uring format --enable-acl`, or `juicefs config`",
    ),
];

/// Why the first of these words that is such a flag is refused.
pub fn first(words: &[OsString]) -> Option<String> {
    if words.get(1).is_none_or(|verb| verb != "mount") {
        return None;
    }
    words.iter().skip(2).find_map(|word| {
        let flag = word.to_str()?.strip_prefix("--")?;
        let name = flag.split('=').next()?;
        let (name, reason) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
        Some(format!("--{name} {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_refused_by_name() {
        let told = |line: &str| first(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(told("jfs-uring mount --writeback a b").unwrap().starts_with("--writeback "));
        assert!(told("jfs-uring mount --metrics=1:2 a b").unwrap().starts_with("--metrics "));
        assert_eq!(told("jfs-uring mount --cache-size 1G a b"), None);
        assert_eq!(told("jfs-uring format --writeback a b"), None);
    }

    #[test]
    fn none_of_them_is_a_flag_of_ours() {
        use clap::CommandFactory;
        let cli = super::super::args::Cli::command();
        let mount = cli.find_subcommand("mount").unwrap();
        for (name, _) in REFUSED {
            let known = mount.get_arguments().any(|arg| arg.get_long() == Some(name));
            assert!(!known, "--{name} is a flag and refused");
        }
    }
}
