//! Words on their way to Redis: arguments of a script, commands of one exchange.

use redis::Cmd;

/// Words back to back, to be arguments later.
#[derive(Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    pub(super) fn add(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        self.bytes.extend_from_slice(word.as_ref());
        self.ends.push(self.bytes.len());
        self
    }

    pub(super) fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        use std::io::Write;
        write!(self.bytes, "{number}").expect("a vector takes all bytes");
        self.ends.push(self.bytes.len());
        self
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Commands that go out together, packed, and the number of their replies.
#[derive(Default, Clone)]
pub(super) struct Asked {
    pub packed: Vec<u8>,
    pub replies: usize,
}

impl Asked {
    pub(super) fn one(words: &[&[u8]]) -> Self {
        let mut asked = Self::default();
        asked.add(words);
        asked
    }

    pub(super) fn add(&mut self, words: &[&[u8]]) {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        self.command(&command);
    }

    pub(super) fn command(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.packed);
        self.replies += 1;
    }
}
