//! What a node is made of: asked of the mount it is in, as `juicefs info` asks, or of its volume.
//!
//! Owns the way of a question through `.control`, of this client's mounts and the official one's.
//! Does not own the answer (`vfs`), nor how it is shown (`cli`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;

use super::failure::Failure;
use super::volume::Volume;
use crate::limits::CONTROL_ANSWERS_BYTES_MAX;
use crate::meta::{Meta, MetaError, MetaShared};
use crate::object::Layout;
use crate::types::Ino;
use crate::uring;
use crate::vfs::{Inquiry, info_of};

/// How much is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct InfoPlan {
    /// All below directories counts.
    pub recursive: bool,
    /// Sums may not come from statistics; this client never takes them from there.
    pub strict: bool,
    /// Slices in place of objects.
    pub raw: bool,
}

/// The message, and the length of what follows its head.
const INFO: u32 = 1005;
const BODY_BYTES: u32 = 11;
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

/// The answer of the mount that `path` is in; `ino` is asked about if it is given, otherwise the
/// path. Links are followed.
///
/// # Errors
/// When the path is not there, or in no mount that answers.
pub fn info_from_mount(path: &Path, ino: Option<u64>, plan: InfoPlan) -> Result<Value, Failure> {
    let shown = path.display();
    let wrong = |error: io::Error| Failure::failed(format!("{shown}: {error}"));
    let whole = path.canonicalize().map_err(wrong)?;
    let found = fs::metadata(&whole).map_err(wrong)?;
    let folder = if found.is_dir() { &*whole } else { whole.parent().unwrap_or(&whole) };
    let mut control = control_in(folder).ok_or_else(|| {
        Failure::failed(format!(
            "{shown} is in no mount of a volume; with --meta META-URL it is looked for in one"
        ))
    })?;
    let asked = ino.unwrap_or(found.ino());
    control.write_all(&message(asked, plan)).map_err(wrong)?;
    match answer(&mut control).map_err(wrong)? {
        Ok(text) => Ok(serde_json::from_slice(&text).map_err(|error| wrong(error.into()))?),
        Err(errno) if i32::from(errno) == Errno::INVAL.raw_os_error() => Err(Failure::failed(
            format!("{shown}: its mount does not know this question; mount it with a newer client"),
        )),
        Err(errno) => Err(wrong(io::Error::from_raw_os_error(errno.into()))),
    }
}

fn control_in(folder: &Path) -> Option<File> {
    NAMES.iter().find_map(|name| {
        let path = folder.join(name);
        let is_it = fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == CONTROL);
        is_it.then(|| OpenOptions::new().read(true).write(true).open(path).ok()).flatten()
    })
}

fn message(ino: u64, plan: InfoPlan) -> Vec<u8> {
    let InfoPlan { recursive, strict, raw } = plan;
    let how = [u8::from(recursive), u8::from(raw), u8::from(strict)];
    let (command, len) = (INFO.to_be_bytes(), BODY_BYTES.to_be_bytes());
    [&command[..], &len, &ino.to_be_bytes(), &how].concat()
}

/// Read until the answer is there: its text, or an errno.
fn answer(from: &mut impl Read) -> io::Result<Result<Vec<u8>, u8>> {
    let (mut got, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let count = from.read(&mut piece)?;
        got.extend_from_slice(&piece[..count]);
        if let Some(answer) = whole_answer(&got) {
            return Ok(answer.map(<[u8]>::to_vec));
        }
        if got.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer does not end"));
        }
        if count == 0 {
            std::thread::sleep(PACE);
        }
    }
}

/// The answer in what was read, when all of it is there. How far it is comes before it.
fn whole_answer(mut got: &[u8]) -> Option<Result<&[u8], u8>> {
    while got.first() == Some(&PROGRESS) {
        got = got.get(PROGRESS_BYTES..)?;
    }
    let (first, rest) = got.split_first()?;
    if *first != DATA {
        return Some(Err(*first));
    }
    let (len, text) = rest.split_first_chunk::<4>()?;
    text.get(..u32::from_be_bytes(*len) as usize).map(Ok)
}

/// The answer of a volume about what `word` names: a path from its root, or an inode.
///
/// # Errors
/// When the volume cannot be read, or the path is not there.
pub fn info_from_volume(
    volume: &Volume,
    word: &str,
    is_ino: bool,
    plan: InfoPlan,
) -> Result<Value, Failure> {
    let setting = &volume.setting;
    setting.check(true)?;
    let layout = Layout::new(setting.block_size_kib(), setting.hash_prefix());
    uring::block_on(async {
        let shared = MetaShared::new(Ino::ROOT, true, 0, volume.rules());
        let meta = Meta::new(volume.engines.engine(), shared);
        let ino = if is_ino { Ino(inode(word)?) } else { find(&meta, word).await? };
        let InfoPlan { recursive, raw, .. } = plan;
        let (volume, setting) = (setting.name(), &setting.without_secrets());
        Ok(info_of(&meta, Inquiry { layout, volume, setting, ino, recursive, raw }).await)
    })
}

/// The number of an inode.
///
/// # Errors
/// When it is none.
pub fn inode(word: &str) -> Result<u64, Failure> {
    let number = word.parse().ok().filter(|ino| *ino > 0);
    number.ok_or_else(|| Failure::usage(format!("{word:?} is no number of an inode")))
}

async fn find(meta: &Meta, path: &str) -> Result<Ino, Failure> {
    let mut at = Ino::ROOT;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        at = match meta.lookup(at, part.as_bytes()).await {
            Ok((ino, _)) => ino,
            Err(MetaError::Posix(errno)) => {
                let why = io::Error::from(errno);
                return Err(Failure::failed(format!("{path}: {part:?}: {why}")));
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_those_of_the_official_tool() {
        let plan = InfoPlan { recursive: true, strict: false, raw: true };
        let sent = b"\0\0\x03\xed\0\0\0\x0b\0\0\0\0\0\0\x01\x02\x01\x01\0";
        assert_eq!(message(258, plan), sent);
        let mut stream = Vec::new();
        for _ in 0..2 {
            stream.push(PROGRESS);
            stream.extend_from_slice(&[7; 16]);
        }
        let waits = stream.len();
        stream.extend_from_slice(b"\xff\0\0\0\x02{}");
        for end in 0..stream.len() {
            assert_eq!(whole_answer(&stream[..end]), None, "{end} bytes");
        }
        assert_eq!(whole_answer(&stream), Some(Ok(&b"{}"[..])));
        stream.truncate(waits);
        stream.push(13);
        assert_eq!(whole_answer(&stream), Some(Err(13)));
        assert_eq!(answer(&mut &stream[..]).unwrap(), Err(13));
    }

    #[test]
    fn a_file_called_control_is_not_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".control");
        fs::write(&path, "mine").unwrap();
        let error = info_from_mount(folder.path(), None, InfoPlan::default()).unwrap_err();
        assert!(error.text.contains("--meta"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(info_from_mount(&folder.path().join("none"), None, InfoPlan::default()).is_err());
        assert_eq!(inode("0").unwrap_err().code, 2);
        assert_eq!(inode("7").unwrap(), 7);
    }
}
