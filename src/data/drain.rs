//! What is kept on this machine goes to the object store.
//!
//! Owns the uploads, and that one given up half-way is somebody's again. Whose turn it is, is
//! `stage`'s; that slices which wait together become one first is `merge`'s.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Data;
use super::compaction::Target;
use super::shared::DataShared;
use super::staged::{Crowd, Owner};
use crate::object::StoreError;
use crate::pages::Page;
use crate::stage::{Staging, Upload};
use crate::stdx::Permit;
use crate::uring;

/// How long small blocks gather before their uploads begin: what is removed, overwritten or appended to
/// within that time costs nothing, and a burst of small files is not held up by its own uploads.
const GATHER: Duration = Duration::from_secs(1);

/// A block in hand; dropping it without an end gives it back.
struct InHand {
    shared: Arc<DataShared>,
    staging: Arc<Staging>,
    upload: Option<Upload>,
}

impl InHand {
    fn new(shared: &Arc<DataShared>, staging: &Arc<Staging>, upload: Upload) -> Self {
        shared.staged.take(upload.key);
        let (shared, staging) = (Arc::clone(shared), Arc::clone(staging));
        Self { shared, staging, upload: Some(upload) }
    }

    fn failed(mut self, reason: &str) {
        if let Some(upload) = self.upload.take() {
            self.shared.staged.give_back(&upload.key);
            self.staging.upload_failed(&upload, reason);
        }
    }

    /// It is in the store, or unwanted; false if it is nobody's.
    fn uploaded(mut self) -> bool {
        let upload = self.upload.take().expect("an upload ends once");
        let wanted = self.staging.uploaded(&upload);
        self.shared.staged.give_back(&upload.key);
        wanted
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.shared.staged.give_back(&upload.key);
            self.staging.upload_failed(&upload, "given up half-way");
        }
    }
}

/// Slices of a chunk are being merged; dropping it says that this is over.
struct Merging {
    shared: Arc<DataShared>,
    owner: Owner,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.shared.staged.merged(self.owner);
    }
}

impl Data {
    /// Upload what is kept, forever; each core runs this.
    pub async fn drain(self: Rc<Self>) {
        let Some(staging) = self.shared.config.staging.clone() else { return };
        loop {
            let ticket = self.shared.bell.ticket();
            let permit = self.shared.uploads.take().await;
            let Some(upload) = staging.next_upload() else {
                drop(permit);
                // Who waits rings the bell; time alone makes others due.
                let _ = uring::timeout(GATHER, self.shared.bell.wait(ticket)).await;
                continue;
            };
            let in_hand = InHand::new(&self.shared, &staging, upload);
            let data = Rc::clone(&self);
            let Some(crowd) = self.shared.staged.crowded(upload.key.id) else {
                uring::spawn(async move { data.send(in_hand, upload, permit).await });
                continue;
            };
            // Merging takes permits of its own.
            drop(permit);
            let turn = uring::timeout(GATHER, self.shared.merges.take()).await;
            uring::spawn(async move {
                data.thin_out(crowd, turn.ok()).await;
                let permit = data.shared.uploads.take().await;
                data.send(in_hand, upload, permit).await;
            });
        }
    }

    /// Slices that wait beside one whose turn it is become few before it goes. Without a turn it goes as it
    /// is: uploads do not stop for merges that take long.
    async fn thin_out(self: &Rc<Self>, (owner, crowd): (Owner, Crowd), turn: Option<Permit>) {
        match crowd {
            Crowd::Merging if turn.is_some() => self.shared.staged.until_merged(owner).await,
            Crowd::Merging => {}
            Crowd::Due => {
                let _done = Merging { shared: Arc::clone(&self.shared), owner };
                if turn.is_some() {
                    self.merge_waiting(owner, Target::Store).await;
                }
            }
        }
    }

    /// Upload one block, unless it was removed.
    async fn send(self: Rc<Self>, in_hand: InHand, upload: Upload, permit: Permit) {
        let (staging, key) = (Arc::clone(&in_hand.staging), upload.key);
        if self.shared.staged.is_unwanted(&key) {
            in_hand.uploaded();
            self.shared.staged.block_left(key.id);
            return;
        }
        let page = match self.put_staged(&staging, &upload).await {
            Ok(page) => page,
            Err(reason) => {
                tracing::warn!(?key, reason, failures = upload.failures + 1, "not uploaded yet");
                in_hand.failed(&reason);
                return;
            }
        };
        drop(permit);
        let owner = self.shared.staged.owner(key.id);
        let wanted = in_hand.uploaded();
        self.shared.staged.block_left(key.id);
        if !wanted {
            // Removed while it was under way.
            self.remove_later(vec![key]);
            return;
        }
        if let Some(cache) = &self.shared.config.cache
            && self.keeps(key.size)
            && cache.place(&key).is_none()
        {
            cache.insert(key, page);
        }
        if let Some(owner) = owner.filter(|owner| owner.seq > 0) {
            self.published(owner, key).await;
        }
    }

    /// The bytes of a block that was stored; words for people if it could not be.
    async fn put_staged(&self, staging: &Staging, upload: &Upload) -> Result<Page, String> {
        let page = staging.load(upload).await?;
        let name = self.shared.config.layout.name(upload.key);
        let body = self.encoded(vec![page.clone()], page.len()).await;
        let store = self.stores.tier(upload.tier);
        let put = self.put_object(&*store, name, body).await;
        put.map_err(|error: StoreError| error.to_string())?;
        Ok(page)
    }
}
