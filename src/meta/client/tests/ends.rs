//! The end of deleted files' data while somebody still changes it, and in pieces.

use super::holes::{made, written};
use super::trips::Volume;
use super::*;
use crate::limits::FORGOTTEN_TOGETHER_MAX;
use crate::types::SliceId;

/// A deleted file with one slice in each of its first two chunks.
async fn deleted(meta: &Meta) -> (Ino, [SliceId; 2]) {
    let file = made(meta, b"f").await;
    let ids = [written(meta, file, 0).await, written(meta, file, 1).await];
    meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap();
    (file, ids)
}

/// Another client compacts chunk 1, which had the slice `old`: its new slice is there instead.
async fn compacted(meta: &Meta, file: Ino, old: SliceId) -> (SliceId, Commit) {
    let id = meta.next_slice_id().await.unwrap();
    let record = SliceRecord { pos: 0, id, size: 9000, off: 0, len: 9000 };
    let mutations = vec![
        Mutation::ReplacePrefix(file, 1, 1, vec![record]),
        Mutation::AddSliceRef(id, 9000, 1),
        Mutation::AddSliceRef(old, 9000, -1),
    ];
    (id, Commit { mutations, ..Commit::default() })
}

async fn lists(meta: &Meta, file: Ino) -> Value {
    meta.engine().fetch(&[Key::Chunks(file, 0, 9)]).await.unwrap().remove(0)
}

#[test]
fn lists_that_others_compact_while_they_are_dropped_go_as_they_became() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let (file, ids) = deleted(&meta).await;
        let first = compacted(&meta, file, ids[1]).await;
        let second = compacted(&meta, file, first.0).await;
        // Both lists together, the first alone, the second alone, the second again.
        volume.rivals([first.1, Commit::default(), second.1]);
        let mut freed = Vec::new();
        let drop = async { meta.drop_chunks(vec![(file, 1 << 27)]).await };
        let (trips, _) = volume.counts(async { drop.await.map(|found| freed = found) }).await;
        // Those that were replaced are the other client's to remove.
        assert_eq!(freed, [ids[0], second.0].map(|id| (id, 9000)));
        assert_eq!(lists(&meta, file).await, Value::Chunks(vec![]));
        assert_eq!(trips, 1 + 4 * 2 + 1, "what is listed, four drops, the references");
    });
}

#[test]
fn a_list_that_never_rests_is_left_for_later() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let (file, ids) = deleted(&meta).await;
        let mut last = ids[1];
        // Both together, the first alone, and the second again and again.
        for _ in 0..TRIES + 3 {
            let (id, commit) = compacted(&meta, file, last).await;
            volume.rivals([commit]);
            last = id;
        }
        let dropped = meta.drop_chunks(vec![(file, 1 << 27)]).await;
        assert_eq!(errno(dropped), Errno::AGAIN);
        assert_eq!(lists(&meta, file).await, Value::Chunks(vec![1]), "the other one is gone");
        let freed = meta.drop_chunks(vec![(file, 1 << 27)]).await.unwrap();
        assert_eq!(freed, [(last, 9000)]);
    });
}

#[test]
fn many_slices_are_forgotten_in_pieces_and_the_file_last() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let (file, _) = deleted(&meta).await;
        let slices: Vec<_> = (0..3 * FORGOTTEN_TOGETHER_MAX as u64).map(|id| (id, 9000)).collect();
        let waiting = async || meta.queued_files(i64::MAX, 9).await.unwrap();
        assert_eq!(waiting().await.len(), 1);
        let files = waiting().await;
        assert_eq!(files[0].0, file);
        let (trips, mutations) = volume.counts(meta.forget_slices(files, slices)).await;
        assert_eq!((trips, mutations), (4, 3 * FORGOTTEN_TOGETHER_MAX + 1));
        assert_eq!(waiting().await, []);
    });
}
