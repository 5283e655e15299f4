//! `/sbin/mount.jfs-uring`: mount(8) calls this program by that name, with options of fstab.
//!
//! Owns the translation of those words into a `mount` command.

use std::ffi::OsString;
use std::path::Path;

/// Options of fstab that are for others, or are what happens anyway.
const FOR_OTHERS: &[&str] = &[
    "_netdev", "nofail", "auto", "noauto", "defaults", "remount", "user", "nouser", "users",
    "nosuid", "nodev", "exec", "suid", "dev", "async",
];
/// Spellings that fstab files of the real client use.
const ALIASES: &[(&str, &str)] = &[
    ("attrcacheto", "attr-cache"),
    ("entrycacheto", "entry-cache"),
    ("direntrycacheto", "dir-entry-cache"),
];
/// Options that are not flags.
const FUSE_OPTIONS: &[&str] =
    &["ro", "rw", "nonempty", "allow_other", "writeback_cache", "default_permissions"];

/// The words as they are, unless the program was called as a mount helper.
pub fn translated(words: Vec<OsString>) -> Vec<OsString> {
    let called = words.first().and_then(|word| Path::new(word).file_name());
    let is_helper = called.is_some_and(|name| name.to_string_lossy().starts_with("mount."));
    if is_helper { as_mount(&words) } else { words }
}

/// `mount.jfs-uring SOURCE TARGET [-sfnv] [-o OPTIONS]` as a command of ours.
fn as_mount(words: &[OsString]) -> Vec<OsString> {
    let mut out: Vec<OsString> = vec![words[0].clone(), "mount".into(), "-d".into()];
    let mut places = Vec::new();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("-o") => {
                let options = rest.next().map(|list| list.to_string_lossy().into_owned());
                out.extend(options.unwrap_or_default().split(',').flat_map(as_flag));
            }
            Some("-v") => out.push("--verbose".into()),
            Some("-s" | "-f" | "-n" | "-r" | "-w") => {}
            Some("-t") => drop(rest.next()),
            _ => places.push(word.clone()),
        }
    }
    out.extend(places);
    out
}

fn as_flag(option: &str) -> Vec<OsString> {
    let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
    if name.is_empty() || FOR_OTHERS.contains(&name) || name.starts_with("x-") {
        return Vec::new();
    }
    if FUSE_OPTIONS.contains(&name) {
        return vec!["-o".into(), option.into()];
    }
    let name = ALIASES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
    match value {
        Some(value) => vec![format!("--{name}={value}").into()],
        None => vec![format!("--{name}").into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn fstab_options_become_flags() {
        let called = "/sbin/mount.jfs-uring redis://h/1 /mnt -o rw,_netdev,attrcacheto=3,cache-size=200G,enable-xattr,x-a.b=c";
        let wanted = "/sbin/mount.jfs-uring mount -d -o rw --attr-cache=3 --cache-size=200G --enable-xattr redis://h/1 /mnt";
        assert_eq!(translated(words(called)), words(wanted));
        let plain = words("jfs-uring mount -o ro a b");
        assert_eq!(translated(plain.clone()), plain);
    }
}
