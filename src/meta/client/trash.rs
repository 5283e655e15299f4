//! The folders of the trash: the one where deletions go now, and those that are to be emptied.
//!
//! Owns their names and numbers. Who empties them, and when, is not decided here.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::{Meta, found_in, node_in, now};
use crate::meta::plan::Who;
use crate::meta::plan::create::NewNode;
use crate::meta::plan::remove::rmdir;
use crate::meta::slices::MetaError;
use crate::meta::txn::{Counter, Key};
use crate::stdx::calendar::{Utc, seconds, utc};
use crate::types::{FileType, Ino, Name};

/// Nobody else may take things out of the trash.
const ROOT: Who = Who { uid: 0, gid: 0 };

/// A folder of the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashFolder {
    /// Its inode.
    pub ino: Ino,
    /// Its name.
    pub name: Name,
    /// The hour in which it was filled, as unix seconds of its beginning.
    pub hour_s: i64,
}

impl Meta {
    /// The trash folders, the oldest first. What else is in the trash's root is none of anybody's.
    pub async fn trash_folders(&self) -> Result<Vec<TrashFolder>, MetaError> {
        let entries = self.engine.list(Ino::TRASH, false).await?.into_iter();
        let folders = entries.filter_map(|entry| {
            let hour_s = parse_hour(&entry.name).filter(|_| entry.kind == FileType::Dir)?;
            Some(TrashFolder { ino: entry.ino, name: entry.name, hour_s })
        });
        let mut folders: Vec<_> = folders.collect();
        folders.sort_unstable_by_key(|folder| (folder.hour_s, folder.ino));
        Ok(folders)
    }

    /// Take away a trash folder that is empty; ENOTEMPTY if it is not.
    pub async fn remove_trash_folder(&self, name: &[u8]) -> Result<(), MetaError> {
        let keys = [Key::Node(Ino::TRASH), Key::EntryNode(Ino::TRASH, name.into())];
        let rules = self.shared.rules();
        let done = self.decide(&keys, |found| {
            let target = found_in(&found[1])?.ok_or(Errno::NOENT)?;
            rmdir((Ino::TRASH, node_in(&found[0])?), name, target, ROOT, &rules, now())
                .map(|commit| (Some(commit), target.1))
        });
        let (ino, _) = done.await?;
        self.gone(Ino::TRASH, name, ino);
        let known = &self.shared.trash_folder;
        known.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(_, folder)| *folder == ino);
        Ok(())
    }

    /// Today's trash folder, made when it is first needed; `None` without a trash.
    pub(super) async fn trash_folder(&self) -> Result<Option<Ino>, MetaError> {
        if self.shared.trash_days.load(Ordering::Acquire) == 0 {
            return Ok(None);
        }
        let name = hour_name(now().sec);
        {
            let known = self.shared.trash_folder.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((hour, ino)) = known.as_ref()
                && *hour == name
            {
                return Ok(Some(*ino));
            }
        }
        let ino = self.find_or_make_hour(&name).await?;
        *self.shared.trash_folder.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((name, ino));
        Ok(Some(ino))
    }

    async fn find_or_make_hour(&self, name: &str) -> Result<Ino, MetaError> {
        if let Ok((ino, _)) = self.lookup(Ino::TRASH, name.as_bytes()).await {
            return Ok(ino);
        }
        let number = self.engine.reserve(Counter::NextTrash, 1).await? as u64;
        let new = NewNode { kind: FileType::Dir, mode: 0o555, umask: 0, rdev: 0, target: None };
        let ino = Ino(Ino::TRASH.0 + number);
        match self.create_as(ino, Ino::TRASH, name.as_bytes(), &new, ROOT).await {
            Ok(made) => Ok(made.ino),
            Err(MetaError::Posix(Errno::EXIST)) => {
                Ok(self.lookup(Ino::TRASH, name.as_bytes()).await?.0)
            }
            Err(error) => Err(error),
        }
    }
}

/// `YYYY-MM-DD-HH` of the hour in UTC.
pub(super) fn hour_name(sec: i64) -> String {
    let hour = utc(sec);
    format!("{:04}-{:02}-{:02}-{:02}", hour.year, hour.month, hour.day, hour.hour)
}

/// The beginning of the hour that a trash folder is named after.
fn parse_hour(name: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(name).ok()?;
    let mut numbers = text.split('-').map(|part| part.parse::<i64>().ok());
    let mut next = || numbers.next().flatten();
    let (year, month, day, hour) = (next()?, next()?, next()?, next()?);
    let sec = seconds(Utc { year, month, day, hour, minute: 0, second: 0 });
    (hour_name(sec) == text).then_some(sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_come_back_from_their_names() {
        for sec in [0, 951_782_400, 1_700_000_000, 4_102_444_800] {
            let hour = sec - sec % 3600;
            assert_eq!(parse_hour(hour_name(sec).as_bytes()), Some(hour));
        }
        for wrong in ["", "2026-11-21", "2026-11-21-6", "2026-13-21-06", "2026-11-21-24", "a-b-c-d"]
        {
            assert_eq!(parse_hour(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse_hour(b"2026-11-21-06-07"), None);
        assert_eq!(parse_hour(b"\xff"), None);
        assert_eq!(parse_hour(b"9999999999999999-01-01-00"), None);
    }
}
