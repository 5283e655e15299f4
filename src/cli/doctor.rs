//! `jfs-uring doctor`.

use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::mount::cache_folders;
use super::say;
use crate::config::MetaUrl;
use crate::daemon::{Failure, Finding, Health, examine};

pub fn run(asked: &DoctorArgs) -> Result<(), Failure> {
    let url = asked.meta_url.as_deref().map(MetaUrl::parse).transpose()?;
    let folders = cache_folders(asked.cache_dir.as_deref())?;
    let found = examine(url.as_ref(), &folders);
    if asked.json {
        let all: Vec<Value> = found.iter().map(as_json).collect();
        let text = serde_json::to_string_pretty(&all);
        say(&text.map_err(|error| Failure::failed(error.to_string()))?)?;
    } else {
        found.iter().try_for_each(|finding| say(&as_line(finding)))?;
    }
    let bad = found.iter().filter(|finding| finding.health == Health::Bad).count();
    if bad > 0 {
        return Err(Failure::failed(format!("{bad} of {} findings stop a mount", found.len())));
    }
    Ok(())
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Good => "OK",
        Health::Poor => "WARN",
        Health::Bad => "FAIL",
    }
}

fn as_line(finding: &Finding) -> String {
    let Finding { what, health, seen, cure } = finding;
    let line = format!("{:5} {what:19} {seen}", word(*health));
    if cure.is_empty() { line } else { format!("{line}\n      -> {cure}") }
}

fn as_json(finding: &Finding) -> Value {
    let Finding { what, health, seen, cure } = finding;
    json!({ "check": what, "status": word(*health), "seen": seen, "cure": cure })
}
