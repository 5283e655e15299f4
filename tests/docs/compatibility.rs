//! Holds docs/compatibility.md to the code: everything that the code knows of a volume has its row, and
//! every row says how it is handled and names tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{defines, root, text};

const WORDS: [&str; 3] = ["honoured", "kept", "refused"];

/// Texts between a pair of marks.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// The rows of each table, cell by cell, by the heading that the table stands below.
fn tables() -> BTreeMap<String, Vec<[String; 4]>> {
    let page = text("docs/compatibility.md");
    let mut found: BTreeMap<String, Vec<[String; 4]>> = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (heading, body) = section.split_once('\n').expect("a heading ends");
        let rows = body.lines().filter(|line| line.starts_with("| ")).skip(1);
        for row in rows {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let cells: [&str; 4] =
                cells.try_into().unwrap_or_else(|cells| panic!("{heading}: {cells:?}"));
            found.entry(heading.to_owned()).or_default().push(cells.map(str::to_owned));
        }
    }
    found
}

/// What the first cells of a table name.
fn things(tables: &BTreeMap<String, Vec<[String; 4]>>, heading: &str) -> BTreeSet<String> {
    let rows = tables.get(heading).unwrap_or_else(|| panic!("no table {heading}"));
    let mut found = BTreeSet::new();
    for [thing, ..] in rows {
        let name = quoted(thing, '`').next().unwrap_or(thing);
        assert!(found.insert(name.to_owned()), "{heading}: {name} has two rows");
    }
    found
}

/// All of `wanted` have rows in the table.
fn covers(heading: &str, wanted: BTreeSet<String>, least: usize) {
    assert!(wanted.len() >= least, "{heading}: only {} things were found", wanted.len());
    let told = things(&tables(), heading);
    let missing: Vec<_> = wanted.difference(&told).collect();
    assert!(missing.is_empty(), "docs/compatibility.md, {heading}: no rows for {missing:?}");
}

#[test]
fn each_row_says_how_and_names_tests_that_exist() {
    let suites = text("scripts/suite");
    let mut wrong = Vec::new();
    for (heading, rows) in tables() {
        for [thing, handled, how, tests] in rows {
            if !WORDS.contains(&handled.as_str()) || how.is_empty() {
                wrong.push(format!("{heading}, {thing}: it is {handled:?}, {how:?}"));
            }
            let exists = |test: &str| match (test.split_once("::"), test.strip_prefix("suite ")) {
                (Some((file, name)), _) => defines(file, name),
                (None, Some(suite)) => suites.contains(&format!("\"{suite}\": (")),
                (None, None) => false,
            };
            let named: Vec<_> = quoted(&tests, '`').collect();
            if named.is_empty() || named.iter().any(|test| !exists(test)) {
                wrong.push(format!("{heading}, {thing}: no such tests: {tests}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Fixtures that are volumes, with what describes them.
fn fixtures() -> BTreeMap<String, serde_json::Value> {
    let folder = fs::read_dir(root().join("tests/fixtures")).expect("fixtures");
    let names = folder
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
    let told = |name: String| {
        let path = root().join("tests/fixtures").join(&name).join("volume.json");
        let text = fs::read_to_string(path).ok()?;
        Some((name, serde_json::from_str(&text).expect("JSON")))
    };
    names.filter_map(told).collect()
}

#[test]
fn each_fixture_has_its_row() {
    covers("Fixtures", fixtures().into_keys().collect(), 15);
}

#[test]
fn each_key_of_the_setting_has_its_row() {
    let source = text("src/config/setting.rs");
    let list = source.split_once("const ORDER: &[&str] = &[").expect("the list of keys").1;
    let list = list.split_once("];").expect("it ends").0;
    let known = list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| {
        if let Some(key) = quoted(word, '"').next() {
            return key.to_owned();
        }
        let constant = source.split_once(&format!("const {word}: &str = \"")).expect("a constant");
        constant.1.split('"').next().expect("its text").to_owned()
    });
    let mut wanted: BTreeSet<String> = known.collect();
    for volume in fixtures().into_values() {
        wanted.extend(volume["setting"].as_object().expect("a setting").keys().cloned());
    }
    covers("Setting", wanted, 27);
}

/// A key with the names of its numbers as this page has them: `c{ino}_{index}` is `c<ino>_<index>`.
fn with_marks(literal: &str) -> String {
    literal.replace('{', "<").replace('}', ">")
}

#[test]
fn each_key_of_redis_has_its_row() {
    let source = text("src/meta/redis/keys.rs");
    let source = source.split("#[cfg(test)]").next().expect("there is product code");
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut wanted: BTreeSet<String> = code
        .flat_map(|line| quoted(line, '"'))
        // Fields of hashes and lists begin with a number.
        .filter(|literal| literal.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(with_marks)
        .collect();
    for job in ["src/daemon/jobs/hourly.rs", "src/daemon/jobs/sessions.rs"] {
        let source = text(job);
        let stamps = quoted(&source, '"').filter(|word| word.contains("Cleanup"));
        wanted.extend(stamps.map(str::to_owned));
    }
    covers("Keys of Redis", wanted, 32);
}

#[test]
fn each_table_of_sqlite_has_its_row() {
    let source = text("src/meta/sqlite/schema.rs");
    let tables = source.split("CREATE TABLE IF NOT EXISTS ").skip(1);
    let tables = tables.map(|rest| rest.split(' ').next().expect("a name").to_owned());
    covers("Tables of SQLite", tables.collect(), 22);
}

#[test]
fn each_field_of_a_node_has_its_row() {
    let source = text("src/types.rs");
    let fields = source.split_once("pub struct Attr {").expect("the fields of a node").1;
    let fields = fields.split_once("\n}").expect("it ends").0;
    let names = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let names = names.map(|rest| rest.split(':').next().expect("a name").to_owned());
    covers("Fields of a node", names.collect(), 15);
}
