//! `jfs-uring info`: what paths and inodes are made of, for people and for programs.

use std::path::Path;

use serde_json::Value;

use super::args::InfoArgs;
use super::say;
use super::words::amount;
use crate::config::MetaUrl;
use crate::daemon::{Failure, InfoPlan, Volume, info_from_mount, info_from_volume, inode};

pub fn run(asked: &InfoArgs) -> Result<(), Failure> {
    let InfoArgs { recursive, strict, raw, .. } = *asked;
    let plan = InfoPlan { recursive, strict, raw };
    let url = asked.meta.as_deref().map(MetaUrl::parse).transpose()?;
    let volume = url.map(Volume::open).transpose()?;
    let mut told = Vec::new();
    for word in &asked.paths {
        let answer = match &volume {
            Some(volume) => info_from_volume(volume, word, asked.inode, plan)?,
            None if asked.inode => info_from_mount(Path::new("."), Some(inode(word)?), plan)?,
            None => info_from_mount(Path::new(word), None, plan)?,
        };
        if answer["Failed"] == true {
            return Err(Failure::failed(format!("{word}: {}", text(&answer["Reason"]))));
        }
        if !asked.json {
            say(&shown(word, &answer))?;
        }
        told.push(answer);
    }
    if asked.json {
        let all = serde_json::to_string_pretty(&told);
        say(&all.map_err(|error| Failure::failed(error.to_string()))?)?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As `juicefs info` shows it, with a line for each thing.
fn shown(word: &str, answer: &Value) -> String {
    let sum = |name: &str| answer["Summary"][name].as_u64().unwrap_or(0);
    let mut lines = vec![
        format!("{word} :"),
        format!("  inode: {}", answer["Ino"]),
        format!("  files: {}", sum("Files")),
        format!("   dirs: {}", sum("Dirs")),
        format!(" length: {}", bytes(sum("Length"))),
        format!("   size: {}", bytes(sum("Size"))),
    ];
    match list(answer, "Paths") {
        [] => lines.push("   path: unknown".to_owned()),
        [only] => lines.push(format!("   path: {}", text(only))),
        paths => {
            lines.push("  paths:".to_owned());
            lines.extend(paths.iter().map(|path| format!("\t{}", text(path))));
        }
    }
    let tier = &answer["Tier"];
    lines.push(format!("   tier: {}->{}", tier["ID"], text(&tier["StorageClass"])));
    let tables = [
        ("chunks", "Chunks", &["ChunkIndex", "Id", "Size", "Off", "Len"][..]),
        ("objects", "Objects", &["ChunkIndex", "Key", "Size", "Off", "Len"]),
        ("flocks", "FLocks", &["Sid", "Owner", "Type"]),
        ("plocks", "PLocks", &["Sid", "Owner", "Type", "Pid", "Start", "End"]),
    ];
    for (title, name, columns) in tables {
        let rows = list(answer, name);
        if !rows.is_empty() {
            lines.push(format!(" {title}:"));
            lines.extend(table(columns, rows));
        }
    }
    lines.join("\n")
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

/// Lines of equal columns, the first with their names.
fn table(columns: &[&str], rows: &[Value]) -> Vec<String> {
    let mut cells = vec![columns.iter().map(|column| heading(column).to_owned()).collect()];
    for row in rows {
        let cell = |column: &&str| match (*column, &row[*column]) {
            ("Type", Value::Number(kind)) => lock_word(kind.as_u64()).to_owned(),
            (_, value) => text(value),
        };
        cells.push(columns.iter().map(cell).collect::<Vec<_>>());
    }
    let widths: Vec<_> = (0..columns.len())
        .map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("\t{}", cells.join("  "))
    };
    cells.iter().map(line).collect()
}

fn heading(column: &str) -> &str {
    match column {
        "ChunkIndex" => "chunkIndex",
        "Id" => "sliceId",
        "Key" => "objectName",
        "Size" => "size",
        "Off" => "offset",
        "Len" => "length",
        other => other,
    }
}

/// POSIX locks have the kernel's numbers.
fn lock_word(kind: Option<u64>) -> &'static str {
    match kind {
        Some(0) => "R",
        Some(1) => "W",
        _ => "UNKNOWN",
    }
}

/// With a unit, and exactly.
fn bytes(count: u64) -> String {
    if count < 1024 { amount(count) } else { format!("{} ({count} Bytes)", amount(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lengths_are_told_with_a_unit_and_exactly() {
        assert_eq!(bytes(1023), "1023 Bytes");
        assert_eq!(bytes(1536), "1.50 KiB (1536 Bytes)");
        assert_eq!(bytes(5 << 20), "5.00 MiB (5242880 Bytes)");
        assert_eq!(bytes(u64::MAX), "16.00 EiB (18446744073709551615 Bytes)");
    }

    #[test]
    fn what_is_there_is_shown_and_what_is_not_has_no_table() {
        let mut answer = json!({
            "Ino": 7, "Failed": false, "Paths": ["/a", "/b"], "Tier": {"ID": 0, "StorageClass": ""},
            "Summary": {"Length": 9, "Size": 4096, "Files": 1, "Dirs": 0},
            "Chunks": [], "Objects": [{"ChunkIndex": 0, "Key": "v/chunks/0/0/3_0_9", "Size": 9, "Off": 0, "Len": 9}],
            "FLocks": [{"Sid": 2, "Owner": 5, "Type": "W"}],
            "PLocks": [{"Sid": 2, "Owner": 5, "Type": 0, "Pid": 9, "Start": 0, "End": 99}],
        });
        let told = shown("f", &answer);
        assert!(
            told.starts_with("f :\n  inode: 7\n  files: 1\n   dirs: 0\n length: 9 Bytes\n"),
            "{told}"
        );
        assert!(told.contains("  paths:\n\t/a\n\t/b\n"), "{told}");
        assert!(
            told.contains(" objects:\n\tchunkIndex          objectName  size  offset  length\n"),
            "{told}"
        );
        assert!(told.contains(" flocks:\n\tSid  Owner  Type\n\t  2      5     W\n"), "{told}");
        assert!(told.ends_with("\n\t  2      5     R    9      0   99"), "{told}");
        assert!(!told.contains("chunks:\n"), "{told}");
        answer["Paths"] = json!([]);
        assert!(shown("f", &answer).contains("   path: unknown\n"));
    }
}
