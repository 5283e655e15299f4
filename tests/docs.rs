//! Holds the documents to the code: tests, files and flags they name exist, bytes they show are written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jfs_uring::meta::record::{encode_entry, encode_node, encode_slice};
use jfs_uring::object::Layout;
use jfs_uring::types::{Attr, FileType, Ino, SliceRecord, Time};

#[path = "docs/compatibility.rs"]
mod compatibility;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `file` defines the function `name`.
fn defines(file: &str, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
    let word = if file.ends_with(".py") { "def" } else { "fn" };
    text.contains(&format!("{word} {name}("))
}

/// The tests that a line `Test: FILE::NAME, FILE::NAME` names.
fn named(line: &str) -> Option<Vec<(String, String)>> {
    let list = line.strip_prefix("Test: ")?;
    let split = |one: &str| {
        let one = one.trim().trim_matches('`');
        let (file, name) = one.split_once("::").unwrap_or((one, ""));
        (file.to_owned(), name.to_owned())
    };
    Some(list.split(',').map(split).collect())
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let semantics = text("docs/semantics.md");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (number, line) in semantics.lines().enumerate() {
        for (file, name) in named(line).unwrap_or_default() {
            count += 1;
            if !defines(&file, &name) {
                wrong.push(format!("docs/semantics.md:{}: no {file}::{name}", number + 1));
            }
        }
    }
    assert!(count > 40, "the walk must see the lines");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_section_of_promises_ends_with_its_test() {
    let semantics = text("docs/semantics.md");
    let mut wrong = Vec::new();
    assert!(semantics.matches("\n### ").count() > 30, "the walk must see the sections");
    // What stands before the first heading, and tables of contents, promise nothing.
    for section in semantics.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().expect("a split has a first part");
        let last = section.trim_end().lines().last().expect("a section has a line");
        if !last.starts_with("Test: ") {
            wrong.push(section.lines().next().unwrap_or_default().to_owned());
        }
    }
    assert!(wrong.is_empty(), "sections without a test: {wrong:?}");
}

#[test]
fn links_lead_somewhere() {
    let pages = ["docs/semantics.md", "docs/formats/juicefs.md", "docs/compatibility.md"];
    let mut documents = pages.map(PathBuf::from).to_vec();
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        documents.push(name.into());
    }
    let mut wrong = Vec::new();
    for document in documents {
        let folder = document.parent().expect("a document lies in a folder").to_owned();
        for part in text(&document).split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://");
            if !outside && !root().join(&folder).join(target).exists() {
                wrong.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_that_architecture_names_exist() {
    let wrong: Vec<_> = text("ARCHITECTURE.md")
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && word.ends_with(".rs") && !word.contains(' '))
        .filter(|word| !root().join("src").join(word).exists() && !root().join(word).exists())
        .map(str::to_owned)
        .collect();
    assert!(wrong.is_empty(), "no such files: {wrong:?}");
}

#[test]
fn the_file_store_syncs_nothing() {
    for name in ["disk.rs", "store.rs", "list.rs"] {
        let text = text(format!("src/object/file/{name}"));
        for word in ["fsync", "fdatasync", "sync_all", "sync_data", "DSYNC", "O_SYNC"] {
            assert!(
                !text.contains(word),
                "{name} has {word}: docs/semantics.md says it syncs nothing"
            );
        }
    }
}

/// Flags such as `--cache-dir` in a text.
fn flags(text: &str) -> BTreeSet<&str> {
    let inner = |c: char| c.is_ascii_lowercase() || c == '-';
    let behind = text.match_indices("--").map(|(at, _)| &text[at..]);
    let whole = behind.map(|rest| &rest[..rest.find(|c| !inner(c)).unwrap_or(rest.len())]);
    whole.filter(|flag| flag[2..].starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// Named because it is refused, or because the official tools have it.
const OF_OTHERS: &[&str] = &["--skip-trash", "--evict", "--check"];

#[test]
fn flags_that_documents_name_exist() {
    let help: String =
        ["format", "mount", "umount", "status", "flush", "retry", "doctor", "fsck", "info"]
            .map(|verb| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_jfs-uring"));
                let told = command.args([verb, "--help"]).output().expect("the program runs");
                String::from_utf8(told.stdout).expect("help is text")
            })
            .concat();
    let known = flags(&help);
    for document in
        ["README.md", "docs/semantics.md", "docs/formats/juicefs.md", "docs/compatibility.md"]
    {
        let text = text(document);
        let mut unknown = flags(&text);
        unknown.retain(|flag| !known.contains(flag) && !OF_OTHERS.contains(flag));
        assert!(unknown.is_empty(), "{document} names {unknown:?}");
    }
}

#[test]
fn bytes_in_the_formats_are_those_that_are_written() {
    let told: String = text("docs/formats/juicefs.md").split_whitespace().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let node = Attr {
        uid: 1000,
        gid: 1001,
        atime: Time { sec: 1_700_000_000, nsec: 1 },
        mtime: Time { sec: 1_700_000_001, nsec: 2 },
        length: 0x12_3456_789A,
        ..Attr::new(FileType::File, 0o644, Time { sec: 1_700_000_002, nsec: 3 })
    };
    let slice = SliceRecord { pos: 100, id: 1, size: 5000, off: 0, len: 5000 };
    let both = encode_node(&Attr { access_acl: 5, tier: 2, ..node.clone() });
    for bytes in [
        hex(&encode_node(&node)),
        hex(&both[71..]),
        hex(&encode_slice(&slice)),
        hex(&encode_entry(FileType::Dir, Ino(7))),
    ] {
        assert!(told.contains(&bytes), "docs/formats/juicefs.md does not show {bytes}");
    }
    for hashed in [false, true] {
        let layout = Layout::new(4096, hashed);
        let name = layout.name(layout.block(1_234_567, 9 << 20, 0));
        assert!(told.contains(&name), "docs/formats/juicefs.md does not show {name}");
    }
}

#[test]
fn readme_has_the_test_command() {
    let command = "scripts/install && scripts/test";
    assert!(text("README.md").contains(&format!("```sh\n{command}\n```")));
    assert!(text(".ci/run").contains(command));
}
