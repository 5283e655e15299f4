//! Holes over far more chunks than a file has, and the end of such files.

use super::trips::Volume;
use super::*;
use crate::meta::mem::MemBase;
use crate::meta::overlay::overlay;
use crate::meta::plan::content::{KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate, truncate};
use crate::stdx::Chance;
use crate::types::{CHUNK_BYTES, SliceId};

pub(super) async fn made(meta: &Meta, name: &[u8]) -> Ino {
    meta.create(Ino::ROOT, name, &new(FileType::File), ROOT).await.unwrap().ino
}

/// A slice of 9000 bytes at the start of a chunk.
pub(super) async fn written(meta: &Meta, ino: Ino, chunk: u32) -> SliceId {
    let id = meta.next_slice_id().await.unwrap();
    let record = SliceRecord { pos: 0, id, size: 9000, off: 0, len: 9000 };
    let slices = NewSlices { ino, chunk, records: vec![record], mtime: Time::default() };
    meta.push(slices).await.unwrap();
    id
}

#[test]
fn a_sparse_file_costs_what_is_in_it() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let file = made(&meta, b"f").await;
        let ids = [written(&meta, file, 3).await, written(&meta, file, 700).await];
        let (trips, mutations) = volume.counts(meta.truncate(file, 1 << 56)).await;
        assert!(trips <= 2 && mutations <= 5, "{trips} trips, {mutations} mutations");
        let punch = meta.fallocate(file, 0, 1 << 55, KEEP_SIZE | PUNCH_HOLE);
        let (trips, mutations) = volume.counts(punch).await;
        assert!(trips <= 2 && mutations <= 6, "{trips} trips, {mutations} mutations");
        let (trips, mutations) = volume.counts(meta.truncate(file, 1 << 50)).await;
        assert!(trips <= 2 && mutations <= 6, "{trips} trips, {mutations} mutations");
        meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap();
        let drop = async { meta.drop_chunks(vec![(file, 1 << 50)]).await };
        let mut freed = Vec::new();
        let (trips, _) = volume.counts(async { drop.await.map(|found| freed = found) }).await;
        assert_eq!(freed, ids.map(|id| (id, 9000)));
        assert_eq!(trips, 4, "what is listed, the lists, their end, and the references");
    });
}

#[test]
fn sparse_files_go_from_each_engine() {
    on_each_engine(async |meta| {
        let file = made(meta, b"f").await;
        let id = written(meta, file, 70).await;
        meta.truncate(file, 1 << 50).await.unwrap();
        assert_eq!(meta.chunk(file, 70).await.unwrap().len(), 2, "the slice and a hole behind");
        meta.fallocate(file, 5, 1 << 40, KEEP_SIZE | ZERO_RANGE).await.unwrap();
        assert_eq!(meta.chunk(file, 70).await.unwrap()[2..].len(), 1);
        meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap();
        assert_eq!(meta.drop_chunks(vec![(file, 1 << 50)]).await.unwrap(), [(id, 9000)]);
        recount(meta).await;
    });
}

#[test]
fn what_a_truncation_left_goes_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    for engine in [sqlite.engine(), MemBase::new().engine()] {
        let meta = fresh(engine);
        block_on(async {
            let file = made(&meta, b"f").await;
            let ids = [written(&meta, file, 0).await, written(&meta, file, 300).await];
            meta.truncate(file, 0).await.unwrap();
            meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap();
            let freed = meta.drop_chunks(vec![(file, 0)]).await.unwrap();
            assert_eq!(freed, ids.map(|id| (id, 9000)));
        });
    }
}

/// What is seen of a file's chunks, one after the other; holes and what no list covers are alike.
async fn seen(meta: &Meta, ino: Ino, chunks: u32) -> Vec<Vec<SliceRecord>> {
    let mut all = Vec::new();
    for index in 0..chunks {
        let mut pieces = overlay(&meta.chunk(ino, index).await.unwrap());
        pieces.retain(|piece| piece.id > 0);
        all.push(pieces);
    }
    all
}

#[test]
fn holes_where_lists_are_look_like_holes_everywhere() {
    const CHUNKS: u32 = 12;
    let metas = [fresh(MemBase::new().engine()), fresh(MemBase::new().engine())];
    block_on(async {
        let mut chance = Chance::seeded(7);
        let mut files = Vec::new();
        for meta in &metas {
            files.push(made(meta, b"f").await);
        }
        for step in 0..600 {
            let place = chance.below(u64::from(CHUNKS) * CHUNK_BYTES);
            let len = 1 + chance.below(u64::from(CHUNKS) * CHUNK_BYTES);
            let aligned = chance.below(3) == 0;
            let place = if aligned { place - place % CHUNK_BYTES } else { place };
            let what = chance.below(4);
            for (listing, (meta, file)) in metas.iter().zip(&files).enumerate() {
                if what == 0 {
                    written(meta, *file, (place / CHUNK_BYTES) as u32).await;
                    continue;
                }
                let keys = [Key::Node(*file), Key::Chunks(*file, 0, CHUNKS)];
                let found = meta.engine().fetch(&keys).await.unwrap();
                let (node, Value::Chunks(indexes)) = (node_in(&found[0]).unwrap(), &found[1])
                else {
                    panic!("chunks were asked for")
                };
                let listed = (listing == 1).then_some(&indexes[..]);
                let rules = Rules::default();
                let commit = match what {
                    1 => truncate((*file, node), place, listed, &rules, now()).unwrap(),
                    _ => {
                        let mode = KEEP_SIZE | PUNCH_HOLE;
                        let range = (place, len);
                        let done = fallocate((*file, node), range, mode, listed, &rules, now());
                        Some(done.unwrap())
                    }
                };
                let Some(commit) = commit else { continue };
                let done = meta.engine().commit(commit).await.unwrap();
                assert!(matches!(done, Outcome::Applied(_)));
            }
            let alike =
                [seen(&metas[0], files[0], CHUNKS).await, seen(&metas[1], files[1], CHUNKS).await];
            assert_eq!(alike[0], alike[1], "step {step}");
        }
    });
}
