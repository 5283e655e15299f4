//! Names of keys in a Redis Cluster: JuiceFS puts `{DB}` before each of them, so that all keys of a
//! volume have one slot.
//!
//! Owns where the names stand in what is asked. Elsewhere keys have their plain names; scripts find the
//! prefix in the first key that is declared to them.

use std::borrow::Cow;

use super::words::Asked;

/// A key that never exists. While a slot moves, Redis sends away whoever declares a key that is not
/// there: a script with this one does not begin, and so never stops half-way at a key that has gone.
const NONE: &str = "Uring:none";

/// What all names of a volume begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Prefix(String);

impl Prefix {
    /// That of the database of META-URL.
    pub(super) fn of(db: u32) -> Self {
        Self(format!("{{{db}}}"))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The name in Redis of a key.
    pub(super) fn named(&self, key: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), key].concat()
    }

    /// The plain name of a key in Redis.
    pub(super) fn plain<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        name.strip_prefix(self.0.as_bytes()).unwrap_or(name)
    }

    /// A question that a node answers without error only while the slot is there and stays.
    pub(super) fn is_it_here(&self) -> Asked {
        Asked::one(&[b"EXISTS", &self.named(NONE.as_bytes())])
    }

    /// What is asked, with the names that keys have in Redis. Replies come in the same order, and one
    /// more may come behind them, of which only an error tells something.
    pub(super) fn applied(&self, asked: &Asked) -> Asked {
        let (mut all, mut unbound) = (Asked::default(), false);
        for words in asked.commands() {
            unbound |= matches!(words[0], b"SCAN" | b"DBSIZE");
            all.add(&self.command(&words).iter().map(|word| &**word).collect::<Vec<_>>());
        }
        if unbound {
            // They name no key: a node without the slot answers, too.
            all.append(&self.is_it_here());
        }
        all
    }

    fn command<'a>(&self, words: &[&'a [u8]]) -> Vec<Cow<'a, [u8]>> {
        let keys = match words[0] {
            b"MULTI" | b"EXEC" | b"INFO" | b"CONFIG" | b"DBSIZE" => 0..0,
            b"MGET" => 1..words.len(),
            // Of `SCAN 0 MATCH pattern` the pattern.
            b"SCAN" => 3..4,
            b"EVALSHA" => return self.script(words),
            _ => 1..2,
        };
        let named = |(at, word): (usize, &&'a [u8])| {
            if keys.contains(&at) { self.named(word).into() } else { Cow::Borrowed(*word) }
        };
        words.iter().enumerate().map(named).collect()
    }

    fn script<'a>(&self, words: &[&'a [u8]]) -> Vec<Cow<'a, [u8]>> {
        let count = std::str::from_utf8(words[2]).ok().and_then(|count| count.parse().ok());
        let count: usize = count.expect("the number of keys is one");
        let (keys, rest) = words[3..].split_at(count);
        let count = (count + 1).to_string().into_bytes();
        let mut all = vec![Cow::Borrowed(words[0]), words[1].into(), count.into()];
        all.extend(keys.iter().map(|key| Cow::Owned(self.named(key))));
        all.push(self.named(NONE.as_bytes()).into());
        all.extend(rest.iter().map(|word| Cow::Borrowed(*word)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(line: &str) -> (String, usize) {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        let asked = Prefix::of(7).applied(&Asked::one(&words));
        let text = |words: Vec<&[u8]>| String::from_utf8(words.join(&b' ')).unwrap();
        (asked.commands().map(text).collect::<Vec<_>>().join("; "), asked.replies)
    }

    #[test]
    fn names_of_keys_are_found_in_every_form_of_command() {
        for (plain, named) in [
            ("GET i1", "GET {7}i1"),
            ("HSET d1 i1 i1", "HSET {7}d1 i1 i1"),
            ("MGET i1 i2 i3", "MGET {7}i1 {7}i2 {7}i3"),
            ("MULTI", "MULTI"),
            ("CONFIG GET appendfsync", "CONFIG GET appendfsync"),
            ("EVALSHA abc 0 i1", "EVALSHA abc 1 {7}Uring:none i1"),
            ("EVALSHA abc 2 a b c", "EVALSHA abc 3 {7}a {7}b {7}Uring:none c"),
        ] {
            assert_eq!(applied(plain), (named.into(), 1));
        }
    }

    #[test]
    fn commands_without_a_key_ask_whether_the_slot_is_there() {
        let guard = "EXISTS {7}Uring:none";
        assert_eq!(applied("DBSIZE"), (format!("DBSIZE; {guard}"), 2));
        let scan = "SCAN 0 MATCH i[0-9]* COUNT 10";
        let named = format!("SCAN 0 MATCH {{7}}i[0-9]* COUNT 10; {guard}");
        assert_eq!(applied(scan), (named, 2));
    }

    #[test]
    fn plain_names_come_back() {
        let prefix = Prefix::of(0);
        assert_eq!(prefix.plain(&prefix.named(b"i1")), b"i1");
        assert_eq!(prefix.plain(b"i1"), b"i1");
        assert_eq!(prefix.text(), "{0}");
    }
}
