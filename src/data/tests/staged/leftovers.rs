//! What an earlier mount left: blocks and notes that come back into their files, or do not.

use super::*;
use crate::data::DataError;
use crate::data::compaction::Target;
use crate::data::notes::Note;
use crate::data::staged::Owner;
use crate::stage::{Codec, Removed};

#[test]
fn leftovers_are_served_and_uploaded_by_a_mount_that_keeps_nothing() {
    for publish in BOTH {
        let mut world = World::new(publish, HOUR);
        let bytes = noise(1, BLOCK + 100);
        world.life(async |mount| mount.save(0, &bytes).await);
        (world.staging.takes, world.staging.upload_delay) = (false, Duration::ZERO);
        world.life(async |mount| {
            assert!(mount.all().await == bytes);
            assert_eq!(world.requests(), (0, 0, 0));
            mount.drain();
            mount.reach(Level::Committed).await;
            assert_eq!(world.puts(), 2);
            mount.save(0, b"direct").await;
            assert_eq!(world.puts(), 3);
            mount.data.sync(mount.ino).await.unwrap();
            assert_eq!(mount.level().await, Level::Committed);
        });
    }
}

#[test]
fn a_note_of_what_is_committed_or_gone_is_only_forgotten() {
    let world = World::new(Publish::Uploaded, HOUR);
    let first = world.life(async |mount| {
        mount.drain();
        mount.save(0, b"first").await;
        mount.reach(Level::Committed).await;
        mount.save(0, b"again").await;
        mount.reach(Level::Committed).await;
        let records = world.list(0).await;
        // As if the crash came before it was forgotten.
        let mtime = Time::default();
        let (ino, record) = (mount.ino, records[0]);
        let note = Note { ino, chunk: 0, seq: 1, record, mtime, grows: true };
        mount.staging.note(record.id, &note.encode()).unwrap();
        records
    });
    world.life(async |mount| {
        assert_eq!(mount.data.pending(mount.ino), None);
        assert_eq!((mount.all().await, world.list(0).await), (b"again".to_vec(), first.clone()));
        mount.save(0, b"of a file that goes").await;
    });
    let puts = world.puts();
    uring::block_on(async {
        let shared = MetaShared::new(Ino::ROOT, false, 0, Rules::default());
        let meta = Meta::new(world.base.engine(), shared);
        meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap();
        let engine = world.base.engine();
        let found = engine.fetch(&[Key::Node(world.ino)]).await.unwrap();
        assert_eq!(found, [Value::Node(None)]);
        let slices: &dyn crate::meta::Slices = &*meta;
        slices.drop_chunks(vec![(world.ino, 100)]).await.unwrap();
    });
    world.life(async |mount| {
        a_while().await;
        assert!(mount.staging.is_empty(), "its blocks are dropped");
        assert_eq!((mount.data.pending(mount.ino), world.puts()), (None, puts));
    });
    world.life(async |mount| assert_eq!(mount.staging.take_notes(), []));
}

#[test]
fn notes_of_an_earlier_mount_go_with_their_commit_whatever_this_one_publishes() {
    let mut world = World::new(Publish::Uploaded, HOUR);
    world.life(async |mount| mount.save(0, b"old").await);
    world.publish = Publish::Local;
    world.life(async |mount| {
        mount.drain();
        let saved = uring::timeout(Duration::from_secs(20), mount.save(0, b"new")).await;
        saved.expect("what it waits behind goes first");
        mount.reach(Level::Committed).await;
        assert_eq!((mount.all().await, mount.data.pending(mount.ino)), (b"new".to_vec(), None));
    });
    // Then somebody compacts the chunk, and nothing in its list tells that the old slice was there.
    uring::block_on(async {
        assert_eq!(world.mount().staging.take_notes(), [], "nothing comes back");
    });
    world.life(async |mount| assert_eq!(mount.all().await, b"new"));
}

#[test]
fn after_half_a_merge_what_was_merged_stands() {
    let world = World::new(Publish::Uploaded, HOUR);
    world.life(async |mount| {
        mount.save(0, b"aaaa").await;
        mount.save(2, b"bb").await;
        let (ino, data) = (mount.ino, &mount.data);
        let run = data.shared.file(ino).with(|extents| extents.waiting_run(ino, 0));
        let [first, second] = run[..] else { panic!("two slices wait, not {run:?}") };
        let slices: &dyn crate::meta::Slices = &*mount.meta;
        let id = slices.next_slice_id().await.unwrap();
        let record = SliceRecord { id, ..first.record };
        let merged = Note { record, ..first };
        let owner = Owner { ino, chunk: 0, seq: merged.seq };
        let pieces = [first.record, second.record].map(|record| SliceRecord { len: 2, ..record });
        let stored =
            data.store_merged((owner, id), &pieces, (Target::Staging, None)).await.unwrap();
        assert_eq!(stored.unwrap().len(), 1);
        mount.staging.note(id, &merged.encode()).unwrap();
        // The other note lies in another folder, and is gone.
        mount.staging.forget_note(second.record.id);
    });
    world.life(async |mount| {
        assert_eq!(mount.all().await, b"aabb");
        mount.drain();
        mount.reach(Level::Committed).await;
        assert_eq!((mount.all().await, world.list(0).await.len()), (b"aabb".to_vec(), 1));
    });
    world.life(async |mount| assert_eq!(mount.all().await, b"aabb"));
}

#[test]
fn a_slice_is_not_committed_while_one_of_its_blocks_is_nowhere() {
    let mut world = World::new(Publish::Uploaded, HOUR);
    let (layout, bytes) = (Layout::new(64, false), noise(1, BLOCK + 100));
    let lost = world.life(async |mount| {
        mount.save(0, &bytes).await;
        let file = mount.data.shared.file(mount.ino);
        let run = file.with(|extents| extents.waiting_run(mount.ino, 0));
        let key = layout.blocks(run[0].record.id, run[0].record.size).nth(1).unwrap();
        assert_eq!(mount.staging.remove(&key), Removed::Dropped);
        key
    });
    let nowhere = |result: Result<(), DataError>| {
        assert!(result.unwrap_err().to_string().contains(&layout.name(lost)));
    };
    world.life(async |mount| {
        mount.drain();
        let flushed = uring::timeout(Duration::from_secs(20), mount.data.flush(mount.ino)).await;
        nowhere(flushed.expect("it does not wait for what never comes"));
        let state = mount.data.state_of(mount.ino, mount.length.get()).await.unwrap();
        assert!(state.level < Level::Committed && state.last_error.unwrap().contains("neither"));
        assert_eq!(world.list(0).await, []);
        mount.data.keep(mount.ino).await.unwrap();
    });
    world.publish = Publish::Local;
    world.life(async |mount| {
        mount.drain();
        mount.write(7, b"behind it").await;
        let kept = uring::timeout(Duration::from_secs(20), mount.data.keep(mount.ino)).await;
        nowhere(kept.expect("a close does not wait, either"));
        assert_eq!(world.list(0).await, []);
    });
    uring::block_on(async {
        let page = Page::from_vec(bytes[BLOCK..].to_vec());
        let body = Codec::new(Compression::Lz4).encode(vec![page]);
        mem::open(&world.objects).put(layout.name(lost), body).await.unwrap();
    });
    world.life(async |mount| {
        mount.drain();
        mount.reach(Level::Committed).await;
        assert_eq!(world.list(0).await.len(), 1);
        assert!(mount.all().await == bytes, "restored, it is committed");
    });
}

#[test]
fn slices_of_a_file_come_back_in_their_order() {
    let world = World::new(Publish::Uploaded, HOUR);
    let mut model = Model::default();
    let spots = [(0, 1), (100, 2), (50, 3), (CHUNK_BYTES - 30, 4), (20, 5), (CHUNK_BYTES + 5, 6)];
    for (place, seed) in spots {
        // Each in a life of its own, over those before.
        world.life(async |mount| {
            model.write(place, &noise(seed, 90));
            mount.save(place, &noise(seed, 90)).await;
        });
        world.life(async |mount| {
            assert_eq!(mount.length.get(), model.length);
            for start in [0, CHUNK_BYTES - 100] {
                assert!(mount.read(start, 300).await == model.read(start, 300));
            }
        });
    }
    world.life(async |mount| {
        assert_eq!(world.list(0).await, []);
        mount.drain();
        mount.reach(Level::Committed).await;
        for start in [0, CHUNK_BYTES - 100] {
            assert!(mount.read(start, 300).await == model.read(start, 300));
        }
        world.until_tidy().await;
    });
}
