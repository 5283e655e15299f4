//! `jfs-uring fsck`: a check of a volume, for people and for programs.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::args::FsckArgs;
use super::say;
use crate::check::{Finding, Weight};
use crate::config::MetaUrl;
use crate::daemon::{CheckPlan, Checked, Failure, Fate, Volume, fsck};
use crate::stdx::monotonic_ns;

/// The exit code for findings that stay.
const FOUND: u8 = 4;
/// How often the line of progress is drawn.
const DRAW_NS: u64 = 100_000_000;

pub fn run(asked: &FsckArgs) -> Result<(), Failure> {
    let volume = Volume::open(MetaUrl::parse(&asked.meta_url)?)?;
    let line = Line::new();
    let plan = CheckPlan { deep: asked.deep, repair: asked.repair };
    let checked = fsck(&volume, plan, &|what, count| line.draw(what, count));
    line.clear();
    let checked = checked?;
    if asked.json {
        let text = serde_json::to_string_pretty(&as_json(&checked));
        say(&text.map_err(|error| Failure::failed(error.to_string()))?)?;
    } else {
        checked.findings.iter().try_for_each(|(finding, fate)| say(&as_line(finding, fate)))?;
        say(&sum(&checked))?;
    }
    end(&checked)
}

/// A line of progress on a terminal, drawn over itself.
struct Line {
    shown: bool,
    drawn_ns: Cell<u64>,
}

impl Line {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), drawn_ns: Cell::new(0) }
    }

    fn draw(&self, what: &str, count: u64) {
        let now = monotonic_ns();
        if self.shown && now - self.drawn_ns.get() > DRAW_NS {
            self.drawn_ns.set(now);
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[K{count} {what}");
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Damage => "DAMAGE",
        Weight::Derived => "WRONG",
        Weight::Leftover => "LEFT",
    }
}

fn as_line(finding: &Finding, fate: &Fate) -> String {
    let line = format!("{:7}{finding}", word(finding.weight()));
    match fate {
        Fate::Stays => line,
        Fate::Mended => format!("{line}: mended"),
        Fate::Missed(why) => format!("{line}: not mended, {why}"),
    }
}

fn as_json(checked: &Checked) -> Value {
    let one = |(finding, fate): &(Finding, Fate)| {
        json!({
            "finding": finding.word(),
            "weight": word(finding.weight()).to_ascii_lowercase(),
            "text": finding.to_string(),
            "mended": *fate == Fate::Mended,
        })
    };
    json!({
        "nodes": checked.nodes,
        "slices": checked.slices,
        "objects": checked.objects,
        "objects_read": checked.read,
        "unused_objects": checked.unused.objects,
        "unused_bytes": checked.unused.len_bytes,
        "clients": checked.clients,
        "findings": checked.findings.iter().map(one).collect::<Vec<_>>(),
        "more_findings": checked.more,
    })
}

fn sum(checked: &Checked) -> String {
    let Checked { nodes, slices, objects, read, unused, .. } = checked;
    let mut text = format!("{nodes} nodes, {slices} slices, {objects} objects");
    if *read > 0 {
        text += &format!(", {read} of them read");
    }
    if unused.objects > 0 {
        text += &format!(
            "; {} objects of {} bytes are needed by nothing (`juicefs gc META-URL` looks at them)",
            unused.objects, unused.len_bytes
        );
    }
    text
}

/// Leftovers alone are no reason for alarm.
fn end(checked: &Checked) -> Result<(), Failure> {
    let stays = |(finding, fate): &&(Finding, Fate)| {
        finding.weight() > Weight::Leftover && *fate != Fate::Mended
    };
    let left: Vec<_> = checked.findings.iter().filter(stays).collect();
    let count = left.len() + checked.more;
    if count == 0 {
        return Ok(());
    }
    let derived = left.iter().filter(|(finding, _)| finding.weight() == Weight::Derived).count();
    let mut text = format!("{count} findings");
    if derived > 0 {
        text += &format!(", {derived} of them can be mended with --repair");
    }
    if checked.more > 0 {
        text += &format!("; {} more than are told", checked.more);
    }
    if checked.clients > 0 {
        text += &format!(
            "; {} clients have the volume mounted, and what they change meanwhile may look wrong: \
             unmount them and check again",
            checked.clients
        );
    }
    Err(Failure { text, code: FOUND })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Counter;

    fn checked(fate: Fate) -> Checked {
        let finding = Finding::Counter { counter: Counter::UsedSpace, kept: 1, counted: 4096 };
        let left = Finding::StraySlice { id: 3, kept: 1 };
        Checked { findings: vec![(finding, fate), (left, Fate::Stays)], ..Checked::default() }
    }

    #[test]
    fn what_stays_is_told_by_the_exit_code() {
        let failure = end(&checked(Fate::Stays)).unwrap_err();
        assert_eq!(failure.code, FOUND);
        assert!(failure.text.starts_with("1 findings, 1 of them can be mended"), "{failure}");
        assert!(end(&checked(Fate::Mended)).is_ok());
        assert!(end(&Checked { more: 1, ..Checked::default() }).is_err());
    }

    #[test]
    fn findings_are_told_to_people_and_programs() {
        let checked = checked(Fate::Mended);
        let (finding, fate) = &checked.findings[0];
        let line = as_line(finding, fate);
        assert_eq!(line, "WRONG  counter usedSpace is 1, counted 4096: mended");
        let shown = as_json(&checked);
        assert_eq!(shown["findings"][0]["finding"], "counter");
        assert_eq!(shown["findings"][0]["mended"], true);
        assert_eq!(shown["findings"][1]["weight"], "left");
    }
}
