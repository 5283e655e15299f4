//! `/sbin/mount.jfs-uring`: mount(8) calls this program by that name, with options of fstab.
//!
//! Owns the translation of those words into a `mount` command.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::daemon::Failure;

/// Options of fstab that are for others, or are what happens anyway.
const FOR_OTHERS: &[&str] = &[
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "defaults",
    "user",
    "nouser",
    "users",
    "group",
    "nogroup",
    "owner",
    "noowner",
    "comment",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "async",
    "sync",
    "dirsync",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
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
/// Values of a flag that are options of their own in fstab.
const ATIME_MODES: &[&str] = &["noatime", "relatime", "strictatime"];

/// The words as they are, unless the program was called as a mount helper.
///
/// # Errors
/// When a helper is asked for what it cannot do.
pub fn translated(words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let called = words.first().and_then(|word| Path::new(word).file_name());
    let is_helper = called.is_some_and(|name| name.to_string_lossy().starts_with("mount."));
    if is_helper { as_mount(&words) } else { Ok(words) }
}

/// `mount.jfs-uring SOURCE TARGET [-sfnvrw] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]` as a command of
/// ours.
fn as_mount(words: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let mut command = Command::default();
    let mut places = Vec::new();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        match word.as_bytes() {
            [b'-', b'-', ..] | [b'-'] => command.flags.push(word.clone()),
            [b'-', letters @ ..] => command.take_letters(letters, &mut rest)?,
            _ => places.push(word.clone()),
        }
    }
    let mut out = vec![words[0].clone(), "mount".into(), "-d".into()];
    out.append(&mut command.flags);
    // Of several the last counts, as with mount(8).
    out.extend(command.atime.map(|mode| OsString::from(format!("--atime-mode={mode}"))));
    out.append(&mut places);
    Ok(out)
}

/// What the words of a helper come to.
#[derive(Default)]
struct Command {
    flags: Vec<OsString>,
    atime: Option<String>,
}

impl Command {
    /// One-letter options behind one dash; the value of one is what follows it, or the next word.
    fn take_letters<'a>(
        &mut self,
        letters: &[u8],
        rest: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), Failure> {
        for (at, letter) in letters.iter().enumerate() {
            match letter {
                b'o' | b't' | b'N' => {
                    let joined = OsString::from_vec(letters[at + 1..].to_vec());
                    let value = if joined.is_empty() { rest.next().cloned() } else { Some(joined) };
                    if *letter == b'o' {
                        let options = value.unwrap_or_default().to_string_lossy().into_owned();
                        return options.split(',').try_for_each(|option| self.take(option));
                    }
                    return Ok(());
                }
                b'v' => self.flags.push("--verbose".into()),
                b'f' => self.flags.push("--fake".into()),
                b'r' => self.take("ro")?,
                b'w' => self.take("rw")?,
                // Sloppy options and no mtab are what there is anyway.
                b's' | b'n' => {}
                other => {
                    let letter = char::from(*other);
                    return Err(Failure::usage(format!(
                        "-{letter} is no option of a mount helper"
                    )));
                }
            }
        }
        Ok(())
    }

    /// One option of `-o`.
    fn take(&mut self, option: &str) -> Result<(), Failure> {
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
        if name == "remount" {
            let text = "a volume cannot be remounted; umount and mount again";
            return Err(Failure::usage(text));
        }
        if name.is_empty() || FOR_OTHERS.contains(&name) || name.starts_with("x-") {
            return Ok(());
        }
        if ATIME_MODES.contains(&name) {
            self.atime = Some(name.to_owned());
        } else if FUSE_OPTIONS.contains(&name) {
            self.flags.extend(["-o".into(), option.into()]);
        } else {
            let alias = ALIASES.iter().find(|(old, _)| *old == name);
            let name = alias.map_or(name, |(_, new)| new);
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            self.flags.push(format!("--{name}{value}").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn helper(line: &str) -> Vec<OsString> {
        translated(words(&format!("/sbin/mount.jfs-uring {line}"))).unwrap()
    }

    fn mount(line: &str) -> Vec<OsString> {
        words(&format!("/sbin/mount.jfs-uring mount -d {line}"))
    }

    #[test]
    fn fstab_options_become_flags() {
        let called =
            "redis://h/1 /mnt -o rw,_netdev,attrcacheto=3,cache-size=200G,enable-xattr,x-a.b=c";
        let wanted = "-o rw --attr-cache=3 --cache-size=200G --enable-xattr redis://h/1 /mnt";
        assert_eq!(helper(called), mount(wanted));
        let plain = words("jfs-uring mount -o ro a b");
        assert_eq!(translated(plain.clone()).unwrap(), plain);
    }

    #[test]
    fn write_back_is_an_option_like_others() {
        let called = "a /m -o writeback,upload-hours=22-6,writeback_cache";
        assert_eq!(
            helper(called),
            mount("--writeback --upload-hours=22-6 -o writeback_cache a /m")
        );
    }

    #[test]
    fn letters_mean_what_mount_means_by_them() {
        assert_eq!(helper("a /m -r"), mount("-o ro a /m"));
        assert_eq!(helper("a /m -fnv -oro"), mount("--fake --verbose -o ro a /m"));
        assert_eq!(helper("-t fuse.x a -N /ns /m -sw"), mount("-o rw a /m"));
        assert!(translated(words("mount.jfs-uring a /m -z")).is_err());
    }

    #[test]
    fn options_of_every_file_system_are_known() {
        let called =
            "a /m -o noatime,nodiratime,sync,dirsync,lazytime,noexec,group,owner,comment=x";
        assert_eq!(helper(called), mount("--atime-mode=noatime a /m"));
        assert_eq!(helper("a /m -o noatime,relatime"), mount("--atime-mode=relatime a /m"));
        let told = translated(words("mount.jfs-uring a /m -o remount,ro")).unwrap_err();
        assert!(told.text.contains("umount and mount again"), "{told}");
    }
}
