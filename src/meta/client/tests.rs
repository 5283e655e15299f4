//! Operations on engines that outlive a mount, held against what is recounted.

mod acls;
mod ends;
mod holes;
mod lives;
mod quotas;
mod trips;

use rustix::io::Errno;

use super::trash::hour_name;
use super::*;
use crate::meta::plan::Who;
use crate::meta::plan::create::NewNode;
use crate::meta::redis::tests::server::TestServer;
use crate::meta::slices::{NewSlices, Slices};
use crate::meta::sqlite::SqliteFile;
use crate::meta::txn::Mutation;
use crate::types::{FileType, SliceRecord, Time, charged_bytes};
use crate::uring::block_on;

const ROOT: Who = Who { uid: 0, gid: 0 };

fn root() -> Attr {
    Attr::new(FileType::Dir, 0o777, Time::default())
}

fn fresh(engine: Rc<dyn Engine>) -> Rc<Meta> {
    block_on(engine.store_setting("{}".into(), vec![(Ino::ROOT, root())])).unwrap();
    Meta::new(engine, MetaShared::new(Ino::ROOT, false, 0, Rules::default()))
}

/// Run a test on a new volume of each engine that outlives the mount.
fn on_each_engine(test: impl AsyncFn(&Meta)) {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteFile::open(&folder.path().join("meta.db"), true).unwrap();
    let server = TestServer::start(&[]);
    for engine in [file.engine(), server.engine()] {
        block_on(test(&fresh(engine)));
    }
}

fn new(kind: FileType) -> NewNode {
    NewNode { kind, mode: 0o755, umask: 0, rdev: 0, target: None }
}

fn errno<T: std::fmt::Debug>(done: Result<T, MetaError>) -> Errno {
    match done.unwrap_err() {
        MetaError::Posix(errno) => errno,
        other => panic!("{other}"),
    }
}

/// Walk the tree and compare links, parents and the volume's counters with what is stored.
async fn recount(meta: &Meta) {
    let (mut space, mut inodes, mut stack) = (0, 0, vec![Ino::ROOT]);
    let mut names = std::collections::HashMap::<Ino, u32>::new();
    while let Some(dir) = stack.pop() {
        let mut below = 0;
        for entry in meta.list(dir, true).await.unwrap() {
            let attr = entry.attr.unwrap();
            let seen = names.entry(entry.ino).or_default();
            *seen += 1;
            if *seen == 1 {
                space += charged_bytes(attr.kind, attr.length);
                inodes += 1;
            }
            if attr.kind == FileType::Dir {
                below += 1;
                assert_eq!(attr.parent, dir);
                stack.push(entry.ino);
            }
        }
        assert_eq!(meta.getattr(dir).await.unwrap().nlink, 2 + below, "links of {dir}");
    }
    for (ino, count) in names {
        let attr = meta.getattr(ino).await.unwrap();
        assert!(attr.kind == FileType::Dir || attr.nlink == count, "links of {ino}");
    }
    let usage = meta.usage().await.unwrap();
    assert_eq!((usage.space as i64, usage.inodes), (space, inodes));
}

#[test]
fn names_come_and_go() {
    on_each_engine(async |meta| {
        let d = meta.create(Ino::ROOT, b"d", &new(FileType::Dir), ROOT).await.unwrap().ino;
        let f = meta.create(d, b"f", &new(FileType::File), ROOT).await.unwrap().ino;
        assert_eq!(errno(meta.create(d, b"f", &new(FileType::File), ROOT).await), Errno::EXIST);
        assert_eq!(errno(meta.rmdir(Ino::ROOT, b"d", ROOT).await), Errno::NOTEMPTY);
        assert_eq!(errno(meta.unlink(Ino::ROOT, b"d", ROOT, &|_| false).await), Errno::ISDIR);
        assert_eq!(meta.link(f, Ino::ROOT, b"again").await.unwrap().nlink, 2);
        recount(meta).await;
        meta.rename((d, b"f"), (Ino::ROOT, b"moved"), 0, ROOT, &|_| false).await.unwrap();
        meta.rename((Ino::ROOT, b"d"), (Ino::ROOT, b"e"), 0, ROOT, &|_| false).await.unwrap();
        recount(meta).await;
        let below = meta.rename((Ino::ROOT, b"e"), (d, b"inside"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(below), Errno::INVAL);
        meta.rmdir(Ino::ROOT, b"e", ROOT).await.unwrap();
        assert!(!meta.unlink(Ino::ROOT, b"moved", ROOT, &|_| false).await.unwrap().0.delete_data);
        assert!(meta.unlink(Ino::ROOT, b"again", ROOT, &|_| false).await.unwrap().0.delete_data);
        recount(meta).await;
    });
}

#[test]
fn slices_grow_files_and_go_with_them() {
    on_each_engine(async |meta| {
        let f = meta.create(Ino::ROOT, b"f", &new(FileType::File), ROOT).await.unwrap().ino;
        let id = meta.next_slice_id().await.unwrap();
        let record = SliceRecord { pos: 100, id, size: 9000, off: 0, len: 9000 };
        let slice =
            NewSlices { ino: f, chunk: 1, records: vec![record], mtime: Time { sec: 9, nsec: 9 } };
        assert_eq!(meta.push(slice).await.unwrap().length, (64 << 20) + 9100);
        let g = meta.create(Ino::ROOT, b"g", &new(FileType::File), ROOT).await.unwrap().ino;
        let copied = meta.copy_range((f, 64 << 20), (g, 10), 5000).await.unwrap();
        assert_eq!((copied, meta.getattr(g).await.unwrap().length), (5000, 5010));
        recount(meta).await;
        let length = meta.getattr(f).await.unwrap().length;
        assert!(meta.unlink(Ino::ROOT, b"f", ROOT, &|_| false).await.unwrap().0.delete_data);
        assert_eq!(
            meta.drop_chunks(vec![(f, length)]).await.unwrap(),
            [],
            "the copy still refers to the slice"
        );
        assert!(meta.unlink(Ino::ROOT, b"g", ROOT, &|_| false).await.unwrap().0.delete_data);
        assert_eq!(meta.drop_chunks(vec![(g, 5010)]).await.unwrap(), [(id, 9000)]);
        meta.forget_slices(vec![(g, 5010)], vec![(id, 9000)]).await.unwrap();
        recount(meta).await;
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_each_engine(async |meta| {
        meta.open_session("{}".into(), 60).await.unwrap();
        let f = meta.create(Ino::ROOT, b"f", &new(FileType::File), ROOT).await.unwrap().ino;
        assert!(!meta.unlink(Ino::ROOT, b"f", ROOT, &|_| true).await.unwrap().0.delete_data);
        assert_eq!(meta.getattr(f).await.unwrap().nlink, 0);
        meta.truncate(f, 70_000).await.unwrap();
        assert_eq!(meta.drop_sustained(f).await.unwrap(), Some(70_000));
        assert_eq!(errno(meta.getattr(f).await), Errno::NOENT);
        recount(meta).await;
    });
}

#[test]
fn a_session_goes_with_the_last_it_keeps() {
    on_each_engine(async |meta| {
        let sid = meta.open_session("{}".into(), -9).await.unwrap();
        for name in [b"f", b"g"] {
            let ino = meta.create(Ino::ROOT, name, &new(FileType::File), ROOT).await.unwrap().ino;
            meta.truncate(ino, 70_000).await.unwrap();
            meta.unlink(Ino::ROOT, name, ROOT, &|_| true).await.unwrap();
        }
        let gone = Ino(1 << 40);
        let stale = vec![Mutation::PutSustained(sid, gone)];
        let named = meta.create(Ino::ROOT, b"h", &new(FileType::File), ROOT).await.unwrap().ino;
        let linked = vec![Mutation::PutSustained(sid, named)];
        for mutations in [stale, linked] {
            let commit = Commit { mutations, ..Commit::default() };
            meta.engine().commit(commit).await.unwrap();
        }
        // One that died half-way: locks are gone, nothing else.
        assert_eq!(meta.engine().end_session(sid).await.unwrap().len(), 4);
        let known = meta.sessions().await.unwrap();
        assert_eq!(known.iter().map(|session| session.sid).collect::<Vec<_>>(), [sid]);
        assert_eq!(meta.close_session(sid).await.unwrap().len(), 2);
        assert_eq!(meta.sessions().await.unwrap(), []);
        assert_eq!(meta.getattr(named).await.unwrap().nlink, 1);
        recount(meta).await;
    });
}

#[test]
fn hours_have_their_names() {
    assert_eq!(hour_name(0), "1970-01-01-00");
    assert_eq!(hour_name(1_795_244_998), "2026-11-21-07");
    assert_eq!(hour_name(951_782_400), "2000-02-29-00");
}
