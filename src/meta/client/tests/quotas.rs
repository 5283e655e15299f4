//! Quotas: what they cost, what they refuse, and that directories may move meanwhile.

use super::trips::{Volume, dir, file};
use super::*;
use crate::meta::plan::attr::Wanted;
use crate::meta::txn::{Holder, Key, Quota, Value};

async fn limit(meta: &Meta, dir: Ino, max_space: i64, max_inodes: i64) {
    let quota = Quota { max_space, max_inodes, ..Quota::default() };
    let commit = Commit {
        mutations: vec![Mutation::PutQuota(Holder::Dir(dir), quota)],
        ..Commit::default()
    };
    meta.engine().commit(commit).await.unwrap();
    meta.load_quotas().await.unwrap();
}

async fn used(meta: &Meta, dir: Ino) -> (i64, i64) {
    let found = meta.engine().fetch(&[Key::Quota(Holder::Dir(dir))]).await.unwrap();
    match found[0] {
        Value::Quota(Some(quota)) => (quota.used_space, quota.used_inodes),
        ref other => panic!("{dir} has no quota: {other:?}"),
    }
}

fn slices(ino: Ino, id: u64, bytes: u32) -> NewSlices {
    let record = SliceRecord { pos: 0, id, size: bytes, off: 0, len: bytes };
    NewSlices { ino, chunk: 0, records: vec![record], mtime: Time::default() }
}

#[test]
fn what_is_seen_below_a_quota_takes_one_trip() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let a = dir(&meta, Ino::ROOT, b"a").await;
        let b = dir(&meta, a, b"b").await;
        limit(&meta, a, 1 << 30, 100).await;
        let plain = new(FileType::File);
        assert_eq!(volume.trips(meta.create(b, b"f", &plain, ROOT)).await, 1);
        let (f, _) = meta.lookup(b, b"f").await.unwrap();
        assert_eq!(volume.trips(meta.push(slices(f, 1, 9000))).await, 1);
        let moved = meta.rename((b, b"f"), (a, b"f"), 0, ROOT, &|_| false);
        assert_eq!(volume.trips(moved).await, 1);
        assert_eq!(used(&meta, a).await, (12288, 1));
        let cold = volume.mount();
        cold.load_quotas().await.unwrap();
        // The directory and its names, what is above it one by one, the commit.
        assert_eq!(volume.trips(cold.create(b, b"g", &plain, ROOT)).await, 3);
        assert_eq!(used(&meta, a).await, (16384, 2));
    });
}

#[test]
fn nothing_grows_beyond_the_nearest_nor_beyond_a_further_quota() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let a = dir(&meta, Ino::ROOT, b"a").await;
        limit(&meta, a, 5 * 4096, -1).await;
        let b = dir(&meta, a, b"b").await;
        limit(&meta, b, 0, 2).await;
        let f = file(&meta, b, b"f").await;
        file(&meta, b, b"g").await;
        let third = meta.create(b, b"h", &new(FileType::File), ROOT).await;
        assert_eq!(errno(third), Errno::DQUOT);
        assert_eq!(errno(meta.link(f, b, b"h").await), Errno::DQUOT);
        let other = file(&meta, Ino::ROOT, b"other").await;
        meta.push(slices(other, 1, 3 * 4096)).await.unwrap();
        let rename = async |name: &[u8], to: Ino| {
            meta.rename((Ino::ROOT, name), (to, b"moved"), 0, ROOT, &|_| false).await
        };
        assert_eq!(errno(rename(b"other", b).await), Errno::DQUOT, "inodes of the nearer");
        assert_eq!(errno(rename(b"other", a).await), Errno::DQUOT, "space of the further");
        assert_eq!(errno(meta.push(slices(f, 2, 4 * 4096)).await), Errno::DQUOT);
        assert_eq!(errno(meta.truncate(f, 4 * 4096).await), Errno::DQUOT);
        assert_eq!(errno(meta.fallocate(f, 0, 4 * 4096, 0).await), Errno::DQUOT);
        assert_eq!(errno(meta.copy_range((other, 0), (f, 5000), 3 * 4096).await), Errno::DQUOT);
        meta.push(slices(f, 3, 2 * 4096)).await.unwrap();
        assert_eq!((used(&meta, a).await, used(&meta, b).await), ((16384, 3), (12288, 2)));
        // Within the further one nothing grows for it.
        meta.rename((b, b"g"), (a, b"g"), 0, ROOT, &|_| false).await.unwrap();
        meta.rename((a, b"g"), (b, b"g"), 0, ROOT, &|_| false).await.unwrap();
        meta.truncate(f, 0).await.unwrap();
        meta.unlink(b, b"g", ROOT, &|_| false).await.unwrap();
        assert_eq!((used(&meta, a).await, used(&meta, b).await), ((8192, 2), (4096, 1)));
    });
}

#[test]
fn a_directory_takes_all_that_is_below_along() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let [a, b, c] =
            [dir(&meta, Ino::ROOT, b"a").await, dir(&meta, Ino::ROOT, b"b").await, Ino::ROOT];
        let tree = dir(&meta, c, b"tree").await;
        let inner = dir(&meta, tree, b"inner").await;
        let f = file(&meta, inner, b"f").await;
        meta.push(slices(f, 1, 5000)).await.unwrap();
        meta.link(f, tree, b"again").await.unwrap();
        limit(&meta, a, -1, -1).await;
        limit(&meta, b, 6 * 4096 - 1, -1).await;
        meta.rename((c, b"tree"), (a, b"tree"), 0, ROOT, &|_| false).await.unwrap();
        assert_eq!(used(&meta, a).await, (6 * 4096, 4), "two directories, two names of two pages");
        let too_large = meta.rename((a, b"tree"), (b, b"tree"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(too_large), Errno::DQUOT);
        limit(&meta, b, 6 * 4096, -1).await;
        meta.rename((a, b"tree"), (b, b"tree"), 0, ROOT, &|_| false).await.unwrap();
        assert_eq!((used(&meta, a).await, used(&meta, b).await), ((0, 0), (6 * 4096, 4)));
        // All names of a file count what it grows by.
        limit(&meta, b, -1, -1).await;
        meta.push(slices(f, 2, 9000)).await.unwrap();
        assert_eq!(used(&meta, b).await, (2 * 4096, 0), "the quota was set anew");
    });
}

#[test]
fn a_directory_below_itself_ends_the_count() {
    block_on(async {
        let volume = Volume::new(0).await;
        let meta = volume.mount();
        let a = dir(&meta, Ino::ROOT, b"a").await;
        let tree = dir(&meta, Ino::ROOT, b"tree").await;
        let inner = dir(&meta, tree, b"inner").await;
        limit(&meta, a, -1, -1).await;
        let entry = Mutation::PutEntry(inner, (*b"up").into(), FileType::Dir, tree);
        let commit = Commit { mutations: vec![entry], ..Commit::default() };
        meta.engine().commit(commit).await.unwrap();
        let moved = meta.rename((Ino::ROOT, b"tree"), (a, b"tree"), 0, ROOT, &|_| false).await;
        assert_eq!(errno(moved), Errno::LOOP);
        assert_eq!(used(&meta, a).await, (0, 0));
    });
}

/// A volume in which users and groups have quotas.
async fn owned() -> (Volume, Rc<Meta>) {
    let volume = Volume::new(0).await;
    let meta = volume.mount();
    meta.shared.rules.lock().unwrap().owner_quotas = true;
    meta.load_quotas().await.unwrap();
    (volume, meta)
}

async fn owns(meta: &Meta, holder: Holder) -> (i64, i64) {
    match meta.engine().fetch(&[Key::Quota(holder)]).await.unwrap()[0] {
        Value::Quota(Some(quota)) => (quota.used_space, quota.used_inodes),
        ref other => panic!("{holder:?} has no quota: {other:?}"),
    }
}

#[test]
fn users_and_groups_are_held_to_what_they_may_own() {
    block_on(async {
        let (volume, meta) = owned().await;
        let (user, group) = (Holder::User(7), Holder::Group(8));
        let who = Who { uid: 7, gid: 8 };
        let d = dir(&meta, Ino::ROOT, b"d").await;
        let plain = new(FileType::File);
        let made = async |name: &[u8]| meta.create(d, name, &plain, who).await;
        assert_eq!(volume.trips(made(b"a")).await, 1);
        let f = made(b"b").await.unwrap().ino;
        assert_eq!((owns(&meta, user).await, owns(&meta, group).await), ((8192, 2), (8192, 2)));
        let set = async |holder, max_space, max_inodes| {
            let (used_space, used_inodes) = owns(&meta, holder).await;
            let quota = Quota { max_space, max_inodes, used_space, used_inodes };
            let mutations = vec![Mutation::PutQuota(holder, quota)];
            meta.engine().commit(Commit { mutations, ..Commit::default() }).await.unwrap();
        };
        set(user, 16384, 3).await;
        assert_eq!(volume.trips(meta.push(slices(f, 1, 9000))).await, 1);
        assert_eq!(errno(meta.push(slices(f, 2, 20_000)).await), Errno::DQUOT);
        assert_eq!(errno(meta.truncate(f, 20_000).await), Errno::DQUOT);
        assert_eq!(errno(made(b"c").await), Errno::DQUOT, "no space");
        set(user, -1, 2).await;
        assert_eq!(errno(made(b"c").await), Errno::DQUOT, "no inodes");
        set(user, -1, -1).await;
        set(group, 0, 2).await;
        assert_eq!(errno(made(b"c").await), Errno::DQUOT, "none for the group");
        meta.link(f, d, b"again").await.unwrap();
        assert_eq!(owns(&meta, user).await, (16384, 2), "a name more is nothing more");
        let given = Wanted { uid: Some(9), ..Wanted::default() };
        meta.setattr(f, &given).await.unwrap();
        assert_eq!(owns(&meta, user).await, (4096, 1));
        assert_eq!(owns(&meta, Holder::User(9)).await, (12288, 1));
        let back = Wanted { uid: Some(7), gid: Some(0), ..Wanted::default() };
        meta.setattr(f, &back).await.unwrap();
        assert_eq!((owns(&meta, user).await, owns(&meta, group).await), ((16384, 2), (4096, 1)));
        for name in [&b"again"[..], b"a", b"b"] {
            meta.unlink(d, name, ROOT, &|_| false).await.unwrap();
        }
        assert_eq!((owns(&meta, user).await, owns(&meta, group).await), ((0, 0), (0, 0)));
        // A symlink is nothing, but whoever has one has a quota.
        let target = NewNode { target: Some((*b"x").into()), ..new(FileType::Symlink) };
        meta.create(d, b"s", &target, Who { uid: 11, gid: 12 }).await.unwrap();
        assert_eq!(owns(&meta, Holder::Group(12)).await, (0, 0));
    });
}

#[test]
fn the_hour_of_the_trash_keeps_nobody_from_removing() {
    block_on(async {
        let volume = Volume::new(1).await;
        let meta = volume.mount();
        meta.shared.rules.lock().unwrap().owner_quotas = true;
        meta.load_quotas().await.unwrap();
        let d = dir(&meta, Ino::ROOT, b"d").await;
        let who = Who { uid: 7, gid: 8 };
        meta.create(d, b"a", &new(FileType::File), who).await.unwrap();
        for holder in [Holder::User(0), Holder::Group(0)] {
            let (used_space, used_inodes) = owns(&meta, holder).await;
            let quota = Quota { max_space: 4096, max_inodes: 1, used_space, used_inodes };
            let mutations = vec![Mutation::PutQuota(holder, quota)];
            meta.engine().commit(Commit { mutations, ..Commit::default() }).await.unwrap();
        }
        let full = meta.create(d, b"b", &new(FileType::File), ROOT).await;
        assert_eq!(errno(full), Errno::DQUOT);
        meta.unlink(d, b"a", ROOT, &|_| false).await.unwrap();
        assert_eq!(owns(&meta, Holder::User(0)).await, (8192, 2), "it is counted all the same");
    });
}

#[test]
fn where_a_directory_is_now_counts_wherever_it_was_seen() {
    block_on(async {
        let volume = Volume::new(0).await;
        let [meta, other] = [volume.mount(), volume.mount()];
        let [a, b] = [dir(&meta, Ino::ROOT, b"a").await, dir(&meta, Ino::ROOT, b"b").await];
        let tree = dir(&meta, a, b"tree").await;
        let inner = dir(&meta, tree, b"inner").await;
        let f = file(&meta, inner, b"f").await;
        limit(&meta, a, -1, -1).await;
        limit(&meta, b, -1, 4).await;
        other.load_quotas().await.unwrap();
        other.rename((a, b"tree"), (b, b"tree"), 0, ROOT, &|_| false).await.unwrap();
        file(&meta, inner, b"g").await;
        meta.push(slices(f, 1, 5000)).await.unwrap();
        assert_eq!(used(&meta, b).await, (5 * 4096, 4));
        let fifth = meta.create(inner, b"h", &new(FileType::File), ROOT).await;
        assert_eq!(errno(fifth), Errno::DQUOT);
        other.rename((b, b"tree"), (a, b"tree"), 0, ROOT, &|_| false).await.unwrap();
        file(&meta, inner, b"h").await;
        let since = used(&meta, a).await.1;
        assert_eq!((since, used(&meta, b).await), (2, (0, 0)), "three were there before its quota");
    });
}
