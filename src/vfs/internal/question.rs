//! Messages to `.control` of this client's own: how far data has come, and to wait for it.
//!
//! Owns their form, for who asks and for who answers. Their numbers are far from the official client's, which
//! answers EINVAL to them.

use rustix::io::Errno;

use crate::types::{Ino, Level};

/// The first of their numbers: "jf", and a count.
const STATE: u32 = 0x6A66_0001;
const REACH: u32 = 0x6A66_0002;
const RETRY: u32 = 0x6A66_0003;

/// What a mount is asked; the root stands for the whole mount, a directory for all files below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How far it has come; the answer is JSON.
    State(Ino),
    /// To take it so far; while that goes on blocks and bytes that are left are told, and in the end how
    /// it went.
    Reach(Ino, Level),
    /// To try failed uploads again now; the answer is JSON with their number.
    Retry,
}

impl Question {
    /// The whole message.
    pub fn message(&self) -> Vec<u8> {
        let (command, body) = match self {
            Self::State(ino) => (STATE, ino.0.to_be_bytes().to_vec()),
            Self::Reach(ino, level) => {
                let at = Level::ALL.iter().position(|known| known == level);
                let number = at.expect("all levels are known") as u8;
                (REACH, [&ino.0.to_be_bytes()[..], &[number]].concat())
            }
            Self::Retry => (RETRY, Vec::new()),
        };
        let len = body.len() as u32;
        [&command.to_be_bytes()[..], &len.to_be_bytes(), &body].concat()
    }

    /// Its name, for the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::State(_) => "state",
            Self::Reach(..) => "flush",
            Self::Retry => "retry",
        }
    }

    /// The question of a message; `None` if its number is none of ours.
    pub(super) fn parse(command: u32, body: &[u8]) -> Option<Result<Self, Errno>> {
        let ino = |bytes: &[u8]| match bytes.try_into() {
            Ok(number) => Ok(Ino(u64::from_be_bytes(number))),
            Err(_) => Err(Errno::INVAL),
        };
        match (command, body) {
            (STATE, ino_bytes) => Some(ino(ino_bytes).map(Self::State)),
            (REACH, [ino_bytes @ .., number]) => {
                let level = Level::ALL.get(usize::from(*number)).copied().ok_or(Errno::INVAL);
                Some(level.and_then(|level| Ok(Self::Reach(ino(ino_bytes)?, level))))
            }
            (RETRY, []) => Some(Ok(Self::Retry)),
            (REACH | RETRY, _) => Some(Err(Errno::INVAL)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(message: &[u8]) -> Option<Result<Question, Errno>> {
        let (head, body) = message.split_at(8);
        let (command, len) = head.split_at(4);
        assert_eq!(len, (body.len() as u32).to_be_bytes());
        Question::parse(u32::from_be_bytes(command.try_into().unwrap()), body)
    }

    #[test]
    fn questions_arrive_as_they_were_asked() {
        let mut all = vec![Question::State(Ino(258)), Question::Retry];
        all.extend(Level::ALL.map(|level| Question::Reach(Ino(7), level)));
        for question in all {
            assert_eq!(parsed(&question.message()), Some(Ok(question)));
        }
        let golden = b"jf\0\x02\0\0\0\x09\0\0\0\0\0\0\0\x07\x03";
        assert_eq!(Question::Reach(Ino(7), Level::Uploaded).message(), golden);
    }

    #[test]
    fn others_are_left_to_others_and_wrong_ones_are_told() {
        assert_eq!(Question::parse(1005, b"\0\0\0\0\0\0\0\x01"), None);
        assert_eq!(Question::parse(STATE, b"\0"), Some(Err(Errno::INVAL)));
        assert_eq!(Question::parse(REACH, b""), Some(Err(Errno::INVAL)));
        assert_eq!(Question::parse(REACH, b"\0\0\0\0\0\0\0\x01\x05"), Some(Err(Errno::INVAL)));
        assert_eq!(Question::parse(RETRY, b"\0"), Some(Err(Errno::INVAL)));
    }
}
