//! A password in a META-URL must not stay in the list of processes.
//!
//! Owns moving it: the program starts itself again with the password in its environment.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::config::split_password;
use crate::daemon::Failure;

/// Where passwords are looked for, as with the real client.
const PASSWORD: &str = "META_PASSWORD";

/// Returns when no word holds a password; otherwise the program starts again without it.
///
/// # Errors
/// When it cannot be started again.
pub fn hide(words: &[OsString]) -> Result<(), Failure> {
    let mut found = None;
    let without = |word: &OsString, found: &mut Option<String>| -> OsString {
        match word.to_str().and_then(split_password) {
            Some((url, password)) => {
                *found = Some(password);
                url.into()
            }
            None => word.clone(),
        }
    };
    let kept: Vec<_> = words.iter().map(|word| without(word, &mut found)).collect();
    let Some(password) = found else { return Ok(()) };
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program itself: {error}")))?;
    // Not as a mount helper again: its words are translated already.
    let error =
        Command::new(program).arg0("jfs-uring").args(&kept[1..]).env(PASSWORD, password).exec();
    Err(Failure::failed(format!(
        "cannot hide the password in the META-URL: {error}; give it in {PASSWORD} instead"
    )))
}
