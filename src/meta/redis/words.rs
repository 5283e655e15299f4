//! Words on their way to Redis, in the form in which they go out: arguments of a script, commands
//! of one exchange.

use std::io::Write;

/// What an ordinary commit takes without growing.
const ROOM_BYTES: usize = 1000;
/// Digits of a number of 64 bits, with its sign.
const DIGITS_MAX: usize = 20;

/// Words back to back, to be arguments of a command later.
pub(super) struct Words {
    packed: Vec<u8>,
    count: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self { packed: Vec::with_capacity(ROOM_BYTES), count: 0 }
    }
}

impl Words {
    pub(super) fn add(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        put_word(&mut self.packed, word.as_ref());
        self.count += 1;
        self
    }

    pub(super) fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        let mut digits = [0; DIGITS_MAX];
        let mut free = &mut digits[..];
        write!(free, "{number}").expect("a number has 64 bits");
        let len = DIGITS_MAX - free.len();
        self.add(&digits[..len])
    }

    pub(super) fn append(&mut self, words: &Self) -> &mut Self {
        self.packed.extend_from_slice(&words.packed);
        self.count += words.count;
        self
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.packed.len()
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
        let framed = |word: &&[u8]| 2 * DIGITS_MAX + word.len();
        self.packed.reserve(DIGITS_MAX + words.iter().map(framed).sum::<usize>());
        put_head(&mut self.packed, b'*', words.len());
        words.iter().for_each(|word| put_word(&mut self.packed, word));
        self.replies += 1;
    }

    /// What is asked by another one, too, after this.
    pub(super) fn append(&mut self, asked: &Self) {
        self.packed.extend_from_slice(&asked.packed);
        self.replies += asked.replies;
    }

    /// The words of each command.
    pub(super) fn commands(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        let mut rest = &self.packed[..];
        std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| {
                let count = take_head(&mut rest, b'*');
                (0..count).map(|_| take_word(&mut rest)).collect()
            })
        })
    }

    pub(super) fn command(&mut self, words: &Words) {
        self.packed.reserve(2 * DIGITS_MAX + words.packed.len());
        put_head(&mut self.packed, b'*', words.count);
        self.packed.extend_from_slice(&words.packed);
        self.replies += 1;
    }
}

fn put_word(packed: &mut Vec<u8>, word: &[u8]) {
    put_head(packed, b'$', word.len());
    packed.extend_from_slice(word);
    packed.extend_from_slice(b"\r\n");
}

/// How many bytes, or words, follow. Every word has one: formatting costs more than all the rest.
fn put_head(packed: &mut Vec<u8>, kind: u8, mut count: usize) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 {
            break;
        }
    }
    packed.push(kind);
    packed.extend_from_slice(&digits[at..]);
    packed.extend_from_slice(b"\r\n");
}

/// The number behind `kind`; what was packed here is well formed.
fn take_head(rest: &mut &[u8], kind: u8) -> usize {
    assert_eq!(rest[0], kind, "a packed command is well formed");
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a head ends");
    let count = rest[1..end].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    *rest = &rest[end + 2..];
    count
}

fn take_word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = take_head(rest, b'$');
    let word = &rest[..len];
    *rest = &rest[len + 2..];
    word
}

#[cfg(test)]
mod tests {
    use redis::Cmd;

    use super::*;

    fn packed(words: &[&[u8]]) -> Vec<u8> {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.get_packed_command()
    }

    #[test]
    fn commands_go_out_as_every_client_sends_them() {
        for len in [0, 1, 9, 10, 99, 100, 1000, 65_536] {
            let word = vec![b'\n'; len];
            let words: [&[u8]; 3] = [b"SET", &word, b"\r\n$1\r\n\0\xff"];
            assert_eq!(Asked::one(&words).packed, packed(&words), "{len}");
        }
        let many: Vec<&[u8]> = vec![b"w"; 1234];
        assert_eq!(Asked::one(&many).packed, packed(&many));
    }

    #[test]
    fn words_become_one_command_behind_others() {
        let (mut head, mut tail) = (Words::default(), Words::default());
        tail.number(i64::MIN).number(u64::MAX).add("");
        head.add("EVAL").number(0).append(&tail);
        assert_eq!((head.count(), tail.count()), (5, 3));
        let mut asked = Asked::one(&[b"PING"]);
        asked.command(&head);
        let words: [&[u8]; 5] =
            [b"EVAL", b"0", b"-9223372036854775808", b"18446744073709551615", b""];
        assert_eq!(asked.packed, [packed(&[b"PING"]), packed(&words)].concat());
        assert_eq!((asked.replies, head.bytes() < asked.packed.len()), (2, true));
        let read: Vec<_> = asked.commands().collect();
        assert_eq!(read, [vec![&b"PING"[..]], words.to_vec()]);
    }
}
