//! Where the log goes: a file in the background, standard error (and so journald) otherwise.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use super::args::LogArgs;
use crate::daemon::Failure;

/// A panic ends its request with EIO, or the process: either way the log tells where it was.
fn tell_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("a bug: {panic}");
        before(panic);
    }));
}

/// Open the log; `to_file` when there will be no standard error.
///
/// # Errors
/// When the file cannot be written.
pub fn open(asked: &LogArgs, to_file: bool) -> Result<(), Failure> {
    let level = match asked {
        LogArgs { trace: true, .. } => LevelFilter::TRACE,
        LogArgs { verbose: true, .. } => LevelFilter::DEBUG,
        LogArgs { quiet: true, .. } => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    if to_file {
        let path = asked.log.clone().unwrap_or_else(default_path);
        let file = Arc::new(append_to(&path)?);
        builder.with_ansi(false).with_writer(file).init();
    } else {
        let colours = !asked.no_color && std::io::stderr().is_terminal();
        builder.with_ansi(colours).with_writer(std::io::stderr).init();
    }
    tell_panics();
    Ok(())
}

fn default_path() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/log/jfs-uring.log");
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()))
        .join(".juicefs/jfs-uring.log")
}

fn append_to(path: &Path) -> Result<File, Failure> {
    let wrong = |error: std::io::Error| {
        let shown = path.display();
        Failure::failed(format!("cannot write the log {shown}: {error}; choose another with --log"))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    File::options().create(true).append(true).open(path).map_err(wrong)
}
