//! What a node is made of: asked of the mount it is in, as `juicefs info` asks, or of its volume.
//!
//! Owns the question. Does not own its way (`control`), the answer (`vfs`), nor how it is shown (`cli`).

use std::io;
use std::path::Path;

use serde_json::Value;

use super::control::Control;
use super::failure::Failure;
use super::volume::Volume;
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

/// The answer of the mount that `path` is in; `ino` is asked about if it is given, otherwise the
/// path. Links are followed.
///
/// # Errors
/// When the path is not there, or in no mount that answers.
pub fn info_from_mount(path: &Path, ino: Option<u64>, plan: InfoPlan) -> Result<Value, Failure> {
    let mut control = Control::of(path, "; with --meta META-URL it is looked for in one")?;
    let asked = ino.unwrap_or(control.ino);
    let text = control.ask_text(&message(asked, plan))?;
    let wrong = |error| Failure::failed(format!("{}: {error}", path.display()));
    serde_json::from_slice(&text).map_err(wrong)
}

fn message(ino: u64, plan: InfoPlan) -> Vec<u8> {
    let InfoPlan { recursive, strict, raw } = plan;
    let how = [u8::from(recursive), u8::from(raw), u8::from(strict)];
    let (command, len) = (INFO.to_be_bytes(), BODY_BYTES.to_be_bytes());
    [&command[..], &len, &ino.to_be_bytes(), &how].concat()
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
    }

    #[test]
    fn inodes_are_numbers() {
        assert_eq!(inode("0").unwrap_err().code, 2);
        assert_eq!(inode("7").unwrap(), 7);
    }
}
