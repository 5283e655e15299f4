//! Patterns in names of cache folders, with the meaning they have for JuiceFS: `*`, `?`, `[a-z]`,
//! `[^a-z]`, and `\` before a character that is meant as it is.
//!
//! Owns the match and the walk. A path up to its last pattern must be there; what follows need not.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The folders that a path with patterns stands for; without patterns the path itself.
pub(super) fn expand(path: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(path).components() {
        let tokens = match component {
            Component::Normal(name) => name.to_str().filter(|name| has_meta(name)).map(parse),
            _ => None,
        };
        match tokens {
            Some(Some(tokens)) => {
                found = found.iter().flat_map(|folder| matching(folder, &tokens)).collect();
            }
            // What is no pattern, or is badly written as one, is a name.
            Some(None) | None => found.iter_mut().for_each(|folder| folder.push(component)),
        }
    }
    found
}

fn has_meta(name: &str) -> bool {
    name.contains(['*', '?', '[', '\\'])
}

/// Folders in `folder` with a name that matches.
fn matching(folder: &Path, tokens: &[Token]) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // What cannot be read has no match; without any match the user is told.
    let Ok(entries) = fs::read_dir(here) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let fit = names.filter(|name| matches(tokens, &name.chars().collect::<Vec<_>>()));
    fit.map(|name| folder.join(name)).filter(|path| path.is_dir()).collect()
}

/// A piece of a pattern.
enum Token {
    /// Any characters, or none.
    Any,
    /// One character.
    One,
    /// This character.
    Char(char),
    /// A character of these ranges; of none of them when the flag is set.
    Set(bool, Vec<(char, char)>),
}

/// The pieces of a pattern; `None` when it is badly written.
fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut rest = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(char) = rest.next() {
        tokens.push(match char {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Char(rest.next()?),
            '[' => {
                let inverted = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                    let low = set_char(&mut rest)?;
                    let ranged = rest.next_if_eq(&'-').is_some();
                    ranges.push((low, if ranged { set_char(&mut rest)? } else { low }));
                }
                Token::Set(inverted, ranges)
            }
            other => Token::Char(other),
        });
    }
    Some(tokens)
}

/// One end of a range.
fn set_char(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        char => Some(char),
    }
}

fn matches(tokens: &[Token], name: &[char]) -> bool {
    let Some((token, later)) = tokens.split_first() else { return name.is_empty() };
    if let Token::Any = token {
        return (0..=name.len()).any(|at| matches(later, &name[at..]));
    }
    let Some((char, rest)) = name.split_first() else { return false };
    let fits = match token {
        Token::Any | Token::One => true,
        Token::Char(wanted) => wanted == char,
        Token::Set(inverted, ranges) => {
            ranges.iter().any(|(low, high)| (low..=high).contains(&char)) != *inverted
        }
    };
    fits && matches(later, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        parse(pattern).is_some_and(|tokens| matches(&tokens, &name.chars().collect::<Vec<_>>()))
    }

    #[test]
    fn patterns_mean_what_they_mean_for_juicefs() {
        let yes = [
            ("*", "abc"),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("*b*", "abc"),
            ("nvme[0-3]", "nvme2"),
            ("[^ab]", "c"),
            ("a\\*", "a*"),
            ("*", ".hidden"),
            ("[\\]]x", "]x"),
            ("", ""),
        ];
        let no = [
            ("a*c", "abd"),
            ("a?c", "ac"),
            ("nvme[0-3]", "nvme4"),
            ("[^ab]", "a"),
            ("a\\*", "ab"),
            ("[a-", "a"),
            ("[]a]", "]"),
            ("a\\", "a"),
            ("?", ""),
        ];
        yes.iter().for_each(|(pattern, name)| assert!(fits(pattern, name), "{pattern} {name}"));
        no.iter().for_each(|(pattern, name)| assert!(!fits(pattern, name), "{pattern} {name}"));
    }

    #[test]
    fn only_folders_match_and_what_follows_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for name in ["disk1", "disk2/cache", "disk3", "other"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("disk4"), b"a file").unwrap();
        let found = |pattern: &str| {
            let mut found: Vec<String> = expand(&format!("{root}/{pattern}"))
                .iter()
                .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
                .collect();
            found.sort();
            found
        };
        assert_eq!(found("disk*"), ["disk1", "disk2", "disk3"]);
        assert_eq!(found("disk[12]/jfs/"), ["disk1/jfs", "disk2/jfs"]);
        assert_eq!(found("d*/c*"), ["disk2/cache"]);
        assert_eq!(found("nothing*"), [""; 0]);
        assert_eq!(found("not/there"), ["not/there"]);
        assert_eq!(found("bad["), ["bad["]);
        assert_eq!(expand("/"), [Path::new("/")]);
        assert_eq!(expand("some/where/"), [Path::new("some/where")]);
    }
}
