//! Stored slices become visible, in order.
//!
//! Owns driving commits; the order itself is `extents`'. Exactly one driver commits a chunk at a
//! time; whoever makes a slice ready drives it and all that become ready by it.

use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::Data;
use super::abandoned::{InHand, Work};
use super::error::DataError;
use super::shared::File;
use crate::meta::NewSlices;
use crate::types::Attr;

impl Data {
    /// Commit every slice of a file whose turn it is, many of a chunk at once.
    pub(super) async fn commit_ready(self: &Rc<Self>, file: &Arc<File>) {
        while let Some(slices) = file.with(|extents| extents.next_commit(file.ino)) {
            let (chunk, records) = (slices.chunk, slices.records.clone());
            let in_hand = InHand::new(&self.shared, file, Work::Commit(chunk));
            self.compact_if_full(file, chunk).await;
            let result = self.push(slices).await;
            if let Err(error) = &result
                && self.waits_for_better(file, chunk, error).await
            {
                // Handed back, for the next who looks.
                drop(in_hand);
                return;
            }
            in_hand.done();
            self.let_notes_go(records.iter().map(|record| record.id));
            match &result {
                Ok(_) => {}
                // Its writer is told at close; nobody else can miss it.
                Err(DataError::Posix(Errno::NOENT)) => {
                    tracing::warn!(
                        ino = file.ino.0,
                        chunk,
                        "the file was removed meanwhile; what was written to it goes too"
                    );
                }
                Err(error) => {
                    tracing::error!(ino = file.ino.0, chunk, %error, "data not committed");
                }
            }
            // After an unclear error the records may exist: objects stay for garbage collection.
            let certain = matches!(result, Err(DataError::Posix(_) | DataError::Full(_)));
            let lost = file.with(|extents| {
                if let Ok(attr) = &result {
                    extents.refused = None;
                    extents.committed_attr = Some(attr.clone());
                }
                extents.committed(chunk, &records, result.map(|_| ()))
            });
            file.moved.open();
            if file.with(|extents| extents.weight(chunk).is_due()) {
                self.compact_soon(file, chunk);
            }
            if certain {
                self.remove_later(lost);
            }
        }
    }

    async fn push(&self, slices: NewSlices) -> Result<Attr, DataError> {
        Ok(self.patiently(|| self.slices.push(slices.clone())).await?)
    }
}
