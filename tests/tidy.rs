//! The linter for what rustc and clippy cannot see: floors, headers, length, words.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders by floor; an import may only point to a lower floor, or inside its own folder.
const FLOORS: &[(u32, &[&str])] = &[
    (10, &["cli", "main"]),
    (9, &["daemon"]),
    (8, &["core"]),
    (7, &["fuse"]),
    (6, &["vfs"]),
    (5, &["data"]),
    (4, &["stage", "check"]),
    (3, &["object", "meta"]),
    (2, &["net"]),
    (1, &["uring"]),
    (0, &["pages", "stdx", "types", "limits", "errno", "metrics", "config"]),
];

/// Files that may hold `unsafe`, and why.
const UNSAFE_FILES: &[&str] = &[
    "src/uring/ring.rs",                // submits pointers to the kernel
    "src/uring/net.rs",                 // socket addresses in the kernel's form
    "src/uring/command.rs", // a field of the entry that the ring crate has no setter for
    "src/pages/arena.rs",   // maps memory
    "src/pages/allocator.rs", // hands mappings out as memory
    "src/fuse/transport/device.rs", // one ioctl
    "src/fuse/transport/over_uring.rs", // the kernel writes into queue entries
    "src/daemon/process.rs", // fork, the signal mask, the allocator's mark, before any thread
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn each_source(check: impl Fn(&str, &str, &mut Vec<String>)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 10, "the walk must see the tree");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        check(&name, &fs::read_to_string(&file).expect("UTF-8"), &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn floor_of(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(_, names)| names.contains(&module)).map(|(floor, _)| *floor)
}

#[test]
fn imports_point_down() {
    each_source(|name, text, wrong| {
        let own = name.trim_start_matches("src/").split(['/', '.']).next().expect("a module");
        let Some(floor) = floor_of(own) else { return };
        for (number, line) in text.lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let target = part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let Some(other) = floor_of(target) else { continue };
                let inside = target == own || (floor == 0 && other == 0);
                if !inside && other >= floor {
                    let line = number + 1;
                    wrong.push(format!("{name}:{line}: {own} (floor {floor}) must not know {target} (floor {other})"));
                }
            }
        }
    });
}

#[test]
fn every_file_says_what_it_is() {
    each_source(|name, text, wrong| {
        if !text.starts_with("//!") {
            wrong
                .push(format!("{name}: starts with no //! header (owns, does not own, relies on)"));
        }
    });
}

#[test]
fn files_stay_readable() {
    each_source(|name, text, wrong| {
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        if production > 900 {
            wrong.push(format!(
                "{name}: {production} lines outside tests; 900 is the end, 500 the time to think"
            ));
        }
    });
}

#[test]
fn unsafe_stays_in_named_files() {
    each_source(|name, text, wrong| {
        let found = text.lines().position(|line| {
            let code = line.split("//").next().unwrap();
            code.contains("unsafe ") && !code.contains("unsafe_")
        });
        if let Some(line) = found
            && !UNSAFE_FILES.contains(&name)
        {
            wrong.push(format!("{name}:{}: unsafe outside the named files", line + 1));
        }
    });
}

#[test]
fn nothing_is_left_for_later() {
    each_source(|name, text, wrong| {
        for (number, line) in text.lines().enumerate() {
            if ["TODO", "FIXME", "todo!(", "unimplemented!("].iter().any(|word| line.contains(word))
            {
                wrong.push(format!("{name}:{}: left for later", number + 1));
            }
        }
    });
}
