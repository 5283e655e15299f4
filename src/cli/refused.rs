//! What the official client takes and this one does not: flags of `juicefs mount`, refused by name
//! with the reason, and whole commands, answered with the `juicefs` command to run instead.
//!
//! Owns both lists. Nothing of them is ever ignored.

use std::ffi::OsString;

const LATER: &str = "is not built yet";

const REFUSED: &[(&str, &str)] = &[
    ("tag", LATER),
    ("skip-dir-nlink", "is for key-value engines, which are not served"),
    ("sort-dir", LATER),
    ("fast-statfs", LATER),
    ("network-interfaces", LATER),
    ("open-cache-limit", LATER),
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

/// What of the official client's commands needs a mount that it made itself.
const ON_ITS_MOUNT: &str = " on a mount of its own (juicefs mount META-URL MOUNTPOINT)";

/// Commands of the official client that stay with it: name, arguments, and where it is run.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("config", "META-URL", ""),
    ("quota", "set|get|delete|list|check META-URL --path PATH", ""),
    ("tier", "list|set|restore META-URL", ""),
    ("destroy", "META-URL UUID", ""),
    ("gc", "META-URL", ""),
    ("restore", "META-URL YYYY-MM-DD-HH", ""),
    ("dump", "META-URL FILE", ""),
    ("load", "META-URL FILE", ""),
    ("changelog", "META-URL", ""),
    ("gateway", "META-URL ADDRESS", ""),
    ("webdav", "META-URL ADDRESS", ""),
    ("mdtest", "META-URL PATH", ""),
    ("bench", "PATH", ""),
    ("objbench", "BUCKET", ""),
    ("sync", "SRC DST", ""),
    ("printsid", "", ""),
    ("stats", "MOUNTPOINT", ON_ITS_MOUNT),
    ("profile", "MOUNTPOINT", ON_ITS_MOUNT),
    ("debug", "MOUNTPOINT", ON_ITS_MOUNT),
    ("summary", "PATH", ON_ITS_MOUNT),
    ("warmup", "PATH", ON_ITS_MOUNT),
    ("rmr", "PATH", ON_ITS_MOUNT),
    ("clone", "SRC DST", ON_ITS_MOUNT),
    ("compact", "PATH", ON_ITS_MOUNT),
];

/// Why these words are refused before anything of them is read: a command of the official client,
/// or the first flag of its `mount` that is none of ours.
pub fn first(words: &[OsString]) -> Option<String> {
    verb(words).or_else(|| flag(words))
}

fn verb(words: &[OsString]) -> Option<String> {
    let asked = words.get(1)?.to_str()?;
    let (name, arguments, place) = ELSEWHERE.iter().find(|(name, ..)| *name == asked)?;
    let command = format!("juicefs {name} {arguments}");
    Some(format!("{name} stays with the official client: run `{}`{place}", command.trim_end()))
}

fn flag(words: &[OsString]) -> Option<String> {
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
        assert!(told("jfs-uring mount --tag a=b a b").unwrap().starts_with("--tag "));
        assert!(told("jfs-uring mount --consul=1:2 a b").unwrap().starts_with("--consul "));
        assert_eq!(told("jfs-uring mount --cache-size 1G a b"), None);
        assert_eq!(told("jfs-uring format --tag a b"), None);
    }

    #[test]
    fn official_commands_are_named_with_what_to_run() {
        let told = |line: &str| first(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let line = told("jfs-uring config redis://:hush@h/1 --trash-days 3").unwrap();
        assert!(line.contains("`juicefs config META-URL`"), "{line}");
        assert!(!line.contains("hush") && !line.contains('\n'), "{line}");
        let line = told("jfs-uring rmr /mnt/x").unwrap();
        assert!(line.contains("`juicefs rmr PATH` on a mount of its own"), "{line}");
        assert_eq!(told("jfs-uring status config"), None);
        assert_eq!(told("jfs-uring"), None);
    }

    #[test]
    fn each_official_command_is_ours_or_named() {
        use clap::CommandFactory;
        let cli = super::super::args::Cli::command();
        let official = "format config quota tier destroy gc fsck restore dump load version status \
            stats profile info debug summary changelog mount umount gateway webdav bench objbench \
            mdtest warmup rmr sync clone compact printsid";
        for verb in official.split_whitespace() {
            let ours = cli.find_subcommand(verb).is_some();
            let named = ELSEWHERE.iter().any(|(name, ..)| *name == verb);
            assert!(ours != named, "{verb}: ours {ours}, named {named}");
        }
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
