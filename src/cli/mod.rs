//! Commands, one file per verb.
//!
//! Owns arguments, words for people and exit codes: 0 done; 1 failed; 2 asked wrongly, or for a
//! command that stays with the official client; 3 the volume is not for this client;
//! 4 `fsck` found what stays wrong; 5 data has not come as far as was asked in time. What a command does is `daemon`'s, and so are the codes of signals.

mod args;
mod doctor;
mod format;
mod fsck;
mod helper;
mod info;
mod levels;
mod log;
mod mount;
mod refused;
mod secret;
mod status;
mod umount;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use serde_json::Value;

use crate::daemon::Failure;
use args::{Cli, Verb};

/// Run the command of these arguments, the first being the program's own name.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let words = match helper::translated(words) {
        Ok(words) => words,
        Err(failure) => return end(Err(failure)),
    };
    if let Some(reason) = refused::first(&words) {
        return end(Err(Failure::usage(reason)));
    }
    if let Err(failure) = secret::hide(&words) {
        return end(Err(failure));
    }
    match Cli::command().try_get_matches_from(words).and_then(|found| Cli::from_arg_matches(&found))
    {
        Ok(cli) => end(obey(cli)),
        Err(error) if error.use_stderr() => {
            // One line says what is wrong; clap's own form is for help that was asked for.
            end(Err(Failure::usage(one_line(&error.render().to_string()))))
        }
        Err(help) => {
            let _ = help.print();
            ExitCode::SUCCESS
        }
    }
}

fn obey(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        Verb::Format(asked) => format::run(&asked),
        Verb::Mount(asked) => mount::run(&asked),
        Verb::Umount(asked) => umount::run(&asked),
        Verb::Flush(asked) => levels::flush(&asked),
        Verb::Status(asked) => status::run(&asked),
        Verb::Retry(asked) => levels::retry(&asked),
        Verb::Doctor(asked) => doctor::run(&asked),
        Verb::Fsck(asked) => fsck::run(&asked),
        Verb::Info(asked) => info::run(&asked),
        Verb::Version => say(&format!("jfs-uring {}", env!("CARGO_PKG_VERSION"))),
        Verb::Completions(asked) => {
            let mut out = Vec::new();
            clap_complete::generate(asked.shell, &mut Cli::command(), "jfs-uring", &mut out);
            say(String::from_utf8_lossy(&out).trim_end())
        }
        Verb::Man => {
            let pages = man_pages().map_err(|error| Failure::failed(error.to_string()))?;
            say(String::from_utf8_lossy(&pages).trim_end())
        }
    }
}

/// The page of the program, and behind it one for each command.
fn man_pages() -> std::io::Result<Vec<u8>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    // Commands learn their full names from it.
    program.build();
    let mut out = Vec::new();
    clap_mangen::Man::new(program.clone()).render(&mut out)?;
    for command in program.get_subcommands() {
        clap_mangen::Man::new(command.clone()).render(&mut out)?;
    }
    Ok(out)
}

/// Print for whoever asked; a reader that has left is no failure.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Print JSON.
fn say_json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    say(&text.map_err(|error| Failure::failed(error.to_string()))?)
}

fn end(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be said where standard error is closed.
            let _ = writeln!(std::io::stderr(), "jfs-uring: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// clap's message without usage and tips on lines of their own.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let advice = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more");
    let told: Vec<_> = lines.take_while(|line| !advice(line)).collect();
    let told = told.join(" ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told}; see `jfs-uring --help`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_its_man_page() {
        let pages = String::from_utf8(man_pages().unwrap()).unwrap();
        for needle in [
            ".TH jfs-uring 1",
            ".TH jfs-uring-mount 1",
            ".TH jfs-uring-umount 1",
            ".TH jfs-uring-flush 1",
        ] {
            assert!(pages.contains(needle), "no {needle}");
        }
        assert!(pages.contains("buffer\\-size"), "flags of mount are missing");
    }

    #[test]
    fn counts_of_nothing_are_refused() {
        for flag in ["--max-uploads", "--max-downloads", "--io-retries"] {
            let told = |count| {
                Cli::command().try_get_matches_from(["jfs-uring", "mount", flag, count, "a", "/m"])
            };
            assert!(told("0").is_err(), "{flag}");
            assert!(told("1").is_ok(), "{flag}");
        }
        let days = |days| {
            let words = ["jfs-uring", "format", "--trash-days", days, "a", "abc"];
            Cli::command().try_get_matches_from(words)
        };
        assert!(days("36501").is_err());
        assert!(days("36500").is_ok());
    }

    #[test]
    fn wrong_words_end_on_one_line() {
        let wrong = Cli::command().try_get_matches_from(["jfs-uring", "mount"]).unwrap_err();
        let line = one_line(&wrong.render().to_string());
        assert!(line.contains("META-URL") && !line.contains('\n'), "{line}");
    }
}
