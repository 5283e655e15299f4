//! Stored slices become visible, in order.
//!
//! Owns driving commits; the order itself is `extents`'. Exactly one driver commits a chunk at a
//! time; whoever makes a slice ready drives it and all that become ready by it.

use std::rc::Rc;
use std::sync::Arc;

use super::Data;
use super::error::DataError;
use super::shared::File;
use crate::meta::NewSlice;

impl Data {
    /// Commit every slice of a file whose turn it is.
    pub(super) async fn commit_ready(self: &Rc<Self>, file: &Arc<File>) {
        while let Some((seq, slice)) = file.with(|extents| extents.next_commit(file.ino)) {
            let result = self.push(slice).await;
            if let Err(error) = &result {
                tracing::error!(ino = file.ino.0, chunk = slice.chunk, %error, "data not committed");
            }
            // After an unclear error the record may exist: its objects stay for garbage collection.
            let certain = matches!(result, Err(DataError::Posix(_) | DataError::Full(_)));
            let lost = file.with(|extents| extents.committed(seq, &slice, result));
            file.moved.open();
            if certain {
                self.remove_later(lost);
            }
        }
    }

    async fn push(&self, slice: NewSlice) -> Result<(), DataError> {
        let mut tries = self.patience();
        loop {
            match self.slices.push(slice).await {
                Ok(_) => return Ok(()),
                Err(error) if !super::patience::is_passing(&error) || !tries.pause().await => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
    }
}
