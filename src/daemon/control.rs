//! Questions to a mount through its `.control`, of this client's mounts and the official one's.
//!
//! Owns finding the file, and reading an answer with how far it is until it is there. Does not own what
//! is asked, nor what an answer says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::failure::Failure;
use crate::limits::CONTROL_ANSWERS_BYTES_MAX;
use crate::types::Ino;

/// What parts of an answer begin with, and how long the first kind is.
const PROGRESS: u8 = 0xFE;
const PROGRESS_BYTES: usize = 17;
const DATA: u8 = 0xFF;
/// The number of `.control`: a file of that name elsewhere is nobody's to write into.
const CONTROL: u64 = Ino::VIRTUAL.0 + 2;
const NAMES: [&str; 2] = [".control", ".jfs.control"];
/// How soon an answer that is not there yet is looked for again.
const PACE: Duration = Duration::from_millis(10);
/// Bytes read at a time.
const PIECE_BYTES: usize = 128 << 10;
/// The largest answer that is taken: one with a record for each slice of a huge file.
const ANSWER_BYTES_MAX: usize = 1 << 30;
const _: () = assert!(CONTROL_ANSWERS_BYTES_MAX < ANSWER_BYTES_MAX);

/// A path in a mount, and the mount's `.control`; closing it gives up what was asked.
pub struct Control {
    file: File,
    /// The inode of the path.
    pub ino: u64,
    shown: String,
}

/// How a question ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this text.
    Data(Vec<u8>),
    /// With this number of an error, or 0.
    Errno(u8),
    /// Not before the deadline.
    Late,
}

impl Control {
    /// The one of the mount that `path` is in. Links are followed.
    ///
    /// # Errors
    /// When the path is not there, or in no mount that may be asked; `cure` is what else can be done then.
    pub fn of(path: &Path, cure: &str) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let wrong = |error: io::Error| Failure::failed(format!("{shown}: {error}"));
        let whole = path.canonicalize().map_err(wrong)?;
        let found = fs::metadata(&whole).map_err(wrong)?;
        let folder = if found.is_dir() { &*whole } else { whole.parent().unwrap_or(&whole) };
        match control_in(folder) {
            Some(Ok(file)) => Ok(Self { file, ino: found.ino(), shown }),
            Some(Err(error)) => {
                Err(Failure::failed(format!("{shown}: its mount cannot be asked: {error}")))
            }
            None => Err(Failure::failed(format!("{shown} is in no mount of a volume{cure}"))),
        }
    }

    /// Whether the path is the root of the mount.
    pub fn is_root(&self) -> bool {
        self.ino == Ino::ROOT.0
    }

    /// The answer to a message; `progress` hears how far it is, as two numbers.
    ///
    /// # Errors
    /// When the mount goes away.
    pub fn ask(
        &mut self,
        message: &[u8],
        deadline: Option<Instant>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Answer, Failure> {
        let asked = self.file.write_all(message);
        let answer = asked.and_then(|()| answer(&mut self.file, deadline, progress));
        answer.map_err(|error| Failure::failed(format!("{}: {error}", self.shown)))
    }

    /// The text of the answer to a message that is answered with one.
    ///
    /// # Errors
    /// What the mount said is wrong.
    pub fn ask_text(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self.ask(message, None, |_, _| {})? {
            Answer::Data(text) => Ok(text),
            Answer::Errno(errno) => Err(self.failed(errno)),
            Answer::Late => unreachable!("there is no deadline"),
        }
    }

    /// What an error says that the mount answered with.
    pub fn failed(&self, errno: u8) -> Failure {
        let shown = &self.shown;
        if i32::from(errno) == Errno::INVAL.raw_os_error() {
            return Failure::failed(format!(
                "{shown}: its mount does not know this question; mount it with this client, or a newer one"
            ));
        }
        let error = io::Error::from_raw_os_error(errno.into());
        Failure::failed(format!("{shown}: {error}"))
    }
}

/// `.control` as it is seen in a folder; `None` where there is none.
fn control_in(folder: &Path) -> Option<io::Result<File>> {
    NAMES.iter().find_map(|name| {
        let path = folder.join(name);
        let is_it = fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == CONTROL);
        is_it.then(|| OpenOptions::new().read(true).write(true).open(path))
    })
}

/// Read until the answer is there.
fn answer(
    from: &mut impl Read,
    deadline: Option<Instant>,
    mut progress: impl FnMut(u64, u64),
) -> io::Result<Answer> {
    let (mut got, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let count = from.read(&mut piece)?;
        got.extend_from_slice(&piece[..count]);
        while let Some((first, second)) = take_progress(&mut got) {
            progress(first, second);
        }
        if let Some(answer) = whole_answer(&got) {
            return Ok(answer);
        }
        if got.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer does not end"));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Answer::Late);
        }
        if count == 0 {
            std::thread::sleep(PACE);
        }
    }
}

/// How far it is, taken from the front of what was read, if all of that is there.
fn take_progress(got: &mut Vec<u8>) -> Option<(u64, u64)> {
    let numbers = got.get(..PROGRESS_BYTES)?.strip_prefix(&[PROGRESS])?;
    let (first, second) = numbers.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let both = (number(first), number(second));
    got.drain(..PROGRESS_BYTES);
    Some(both)
}

/// The answer in what was read, when all of it is there.
fn whole_answer(got: &[u8]) -> Option<Answer> {
    match got.split_first()? {
        (&PROGRESS, _) => None,
        (&DATA, rest) => {
            let (len, text) = rest.split_first_chunk::<4>()?;
            text.get(..u32::from_be_bytes(*len) as usize).map(|text| Answer::Data(text.to_vec()))
        }
        (errno, _) => Some(Answer::Errno(*errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and then no more.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn answers_are_taken_as_they_come() {
        let mut stream = Vec::new();
        for number in [7_u8, 9] {
            stream.push(PROGRESS);
            stream.extend_from_slice(&[[0, 0, 0, 0, 0, 0, 0, number]; 2].concat());
        }
        let waits = stream.clone();
        stream.extend_from_slice(b"\xff\0\0\0\x02{}");
        let mut heard = Vec::new();
        let read = answer(&mut Slow(&stream), None, |first, second| heard.push((first, second)));
        assert_eq!(read.unwrap(), Answer::Data(b"{}".to_vec()));
        assert_eq!(heard, [(7, 7), (9, 9)]);
        let refused = [&waits[..], &[13]].concat();
        let read = answer(&mut &refused[..], None, |_, _| {});
        assert_eq!(read.unwrap(), Answer::Errno(13));
        let late = answer(&mut Slow(&waits), Some(Instant::now()), |_, _| {});
        assert_eq!(late.unwrap(), Answer::Late);
    }

    #[test]
    fn a_file_called_control_is_not_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".control");
        fs::write(&path, "mine").unwrap();
        let refused = Control::of(folder.path(), "; do that").err().expect("no mount");
        assert!(refused.text.ends_with("is in no mount of a volume; do that"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(Control::of(&folder.path().join("none"), "").is_err());
    }
}
