//! Passwords and keys must not stay in the list of processes.
//!
//! Owns moving them: the program starts itself again with them in its environment.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::CommandFactory;

use super::args::{Cli, SECRET_KEY_ENV, SESSION_TOKEN_ENV};
use crate::config::split_password;
use crate::daemon::Failure;

/// Where passwords are looked for first, as with the real client: only META-URLs of Redis hold one.
const PASSWORD: &str = "REDIS_PASSWORD";
/// Flags with secrets, and the variables that are read in their place.
const FLAGS: &[(&str, &str)] =
    &[("--secret-key", SECRET_KEY_ENV), ("--session-token", SESSION_TOKEN_ENV)];

/// Returns when no word holds a secret; otherwise the program starts again without it.
///
/// # Errors
/// When it cannot be started again.
pub fn hide(words: &[OsString]) -> Result<(), Failure> {
    let (kept, found) = split(words);
    if found.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program itself: {error}")))?;
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    // Not as a mount helper again: its words are translated already.
    let error = Command::new(program).arg0("jfs-uring").args(&kept[1..]).envs(found).exec();
    Err(Failure::failed(format!(
        "cannot hide what the command line must not show: {error}; give it in {} instead",
        names.join(", ")
    )))
}

/// What the parser takes for META-URL, where that is an address of Redis without `redis://`. Words that it
/// refuses end the program at once, and hide nothing.
fn bare_address(words: &[OsString]) -> Option<String> {
    let mut program = Cli::command().ignore_errors(true);
    let found = program.try_get_matches_from_mut(words).ok()?;
    let (verb, given) = found.subcommand()?;
    let is_url = |names: &[clap::builder::Str]| names.iter().any(|name| name.contains("META-URL"));
    let mut arguments = program.find_subcommand(verb)?.get_arguments();
    let argument = arguments.find(|argument| argument.get_value_names().is_some_and(is_url))?;
    let text = given.try_get_one::<String>(argument.get_id().as_str()).ok().flatten()?;
    (!text.contains("://")).then(|| text.clone())
}

/// The words without secrets, and the secrets by the variables they go to.
fn split(words: &[OsString]) -> (Vec<OsString>, Vec<(&'static str, String)>) {
    let mut found = Vec::new();
    let mut kept = Vec::new();
    let bare = bare_address(words);
    let is_format = words.get(1).is_some_and(|verb| verb == "format");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or("");
        let flag = text.split('=').next().unwrap_or("");
        let secret = FLAGS.iter().find(|(name, _)| is_format && *name == flag);
        if let Some((_, variable)) = secret {
            match text.split_once('=') {
                Some((_, value)) => found.push((*variable, value.to_owned())),
                None => match words.next().map(|next| next.to_str()) {
                    Some(Some(value)) => found.push((*variable, value.to_owned())),
                    // Without a value that can be moved, the parser tells what is wrong.
                    _ => kept.push(word.clone()),
                },
            }
            continue;
        }
        // `--meta=URL` is one word.
        let (before, url) = match text.split_once('=') {
            Some((_, url)) if text.starts_with("--") => text.split_at(text.len() - url.len()),
            _ => ("", text),
        };
        let split = match bare.as_deref() == Some(url) {
            true => split_password(&format!("redis://{url}")),
            false => split_password(url),
        };
        match split {
            Some((url, password)) => {
                found.push((PASSWORD, password));
                kept.push(format!("{before}{url}").into());
            }
            None => kept.push(word.clone()),
        }
    }
    (kept, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_words_in_all_their_forms() {
        let parts = |line: &str| {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            let (kept, found) = split(&words);
            let kept: Vec<_> = kept.iter().map(|word| word.to_string_lossy()).collect();
            (kept.join(" "), found)
        };
        let (kept, found) =
            parts("j format --secret-key S --session-token=T=x redis://:p@h/1 vol --access-key A");
        assert_eq!(kept, "j format redis://@h/1 vol --access-key A");
        let wanted = [(SECRET_KEY_ENV, "S"), (SESSION_TOKEN_ENV, "T=x"), (PASSWORD, "p")];
        assert_eq!(found, wanted.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(parts("j format --secret-key"), ("j format --secret-key".to_owned(), vec![]));
        let (kept, found) = parts("j info --meta=redis://u:p@h/1 /f");
        assert_eq!(kept, "j info --meta=redis://u@h/1 /f");
        assert_eq!(found, [(PASSWORD, "p".to_owned())]);
        let password = [(PASSWORD, "p".to_owned())];
        for (line, wanted) in [
            (
                "j mount -d --cache-dir /c:d@e u:p@h:6379/1 /m:x@y",
                "j mount -d --cache-dir /c:d@e redis://u@h:6379/1 /m:x@y",
            ),
            ("j format :p@h/1 vol", "j format redis://@h/1 vol"),
            ("j status :p@h/1", "j status redis://@h/1"),
            ("j fsck --deep :p@h/1", "j fsck --deep redis://@h/1"),
            ("j info --meta :p@h/1 /f:x@y", "j info --meta redis://@h/1 /f:x@y"),
            ("j info --meta=:p@h/1 /f", "j info --meta=redis://@h/1 /f"),
        ] {
            assert_eq!(parts(line), (wanted.to_owned(), password.to_vec()), "{line}");
        }
        for line in ["j mount h:6379/1 /m", "j umount /a:b@c", "j version", "j mount --help", "j"] {
            assert_eq!(parts(line), (line.to_owned(), vec![]));
        }
        let (kept, found) = parts("j mount --secret-key S a b");
        assert_eq!((kept.as_str(), found.len()), ("j mount --secret-key S a b", 0));
    }
}
