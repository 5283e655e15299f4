//! A dump of a volume's metadata: the JSON that `juicefs dump` writes and `juicefs load` reads.
//!
//! `head` writes what is told of the whole volume, `walk` the tree, `form` the words. Does not own
//! where the text goes, nor when.

mod form;
mod head;
mod walk;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use crate::meta::{Engine, EngineError};
use crate::types::Ino;
use crate::uring;

/// Between two batches: an engine that answers at once would keep the core from all others.
const PAUSE: Duration = Duration::from_micros(200);

/// What stands in the way of a dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Metadata failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The text could not be written.
    #[error("the dump cannot be written: {0}")]
    Output(#[from] io::Error),
    /// More than may be in memory at a time.
    #[error("{what} are more than {max}, too many for a backup by a mount; use `juicefs dump`")]
    TooMany {
        /// What there are so many of.
        what: String,
        /// How many there may be.
        max: usize,
    },
    /// The volume is not whole.
    #[error("{0}; look with `jfs-uring fsck`")]
    Damaged(String),
}

/// Write the metadata of a volume; returns how many names there were.
///
/// In memory is a batch of nodes, and the names of one directory for each step of the path that is
/// being walked. What is changed meanwhile may be in it or not; a name that moves, twice or not at all.
///
/// # Errors
/// When the engine fails, a record cannot be read, or `out` takes no more.
pub async fn dump<W: Write>(
    engine: &dyn Engine,
    skip_trash: bool,
    out: &mut W,
) -> Result<u64, DumpError> {
    head::write(engine, out).await?;
    let mut names = walk::write(engine, "FSTree", Ino::ROOT, out).await?;
    if !skip_trash {
        names += walk::write(engine, "Trash", Ino::TRASH, out).await?;
    }
    out.write_all(b"\n}\n")?;
    Ok(names)
}

/// Whether so many may be in memory.
fn check_count(count: usize, max: usize, what: impl FnOnce() -> String) -> Result<(), DumpError> {
    if count > max { Err(DumpError::TooMany { what: what(), max }) } else { Ok(()) }
}

/// Let others have the core.
async fn pause() {
    uring::sleep(PAUSE).await;
}
