//! Commits of many tasks at once: each has its own outcome, whatever shares a batch.

use std::cell::RefCell;
use std::rc::Rc;

use super::{dir, file, get, name, time};
use crate::meta::engine::Engine;
use crate::meta::txn::{
    Commit, Counter, Expect, Key, Mutation, NodeField, Outcome, Patch, SetNode, Value,
};
use crate::stdx::oneshot;
use crate::types::{Attr, FileType, Ino, SliceRecord};
use crate::uring::spawn;

const DIR: Ino = Ino(500);
const FILE: Ino = Ino(501);
const CROWD: u64 = 300;

/// Commit all at once, each from a task of its own; outcomes in the order of the commits.
async fn at_once(engine: &Rc<dyn Engine>, commits: Vec<Commit>) -> Vec<Outcome> {
    let done = Rc::new(RefCell::new(Vec::new()));
    let mut ends = Vec::new();
    for (number, commit) in commits.into_iter().enumerate() {
        let (engine, done) = (Rc::clone(engine), Rc::clone(&done));
        let (sender, receiver) = oneshot();
        spawn(async move {
            let outcome = engine.commit(commit).await.unwrap();
            done.borrow_mut().push((number, outcome));
            sender.send(());
        });
        ends.push(receiver);
    }
    for end in ends {
        end.await.unwrap();
    }
    let mut done = done.take();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

pub(super) async fn check(engine: &Rc<dyn Engine>) {
    let setup =
        vec![Mutation::PutNode(DIR, Attr { nlink: 2, ..dir() }), Mutation::PutNode(FILE, file())];
    super::change(&**engine, setup).await;
    commuting(engine).await;
    racing(engine).await;
    guarded(engine).await;
    appending(engine).await;
}

fn create(number: u64, text: &str) -> Commit {
    let patch = Patch { nlink: 1, mtime: time(100 + number as i64, 0), ..Patch::default() };
    Commit {
        expects: vec![
            Expect::NodeFields(DIR, vec![NodeField::Mode(FileType::Dir, 0o777)]),
            Expect::EntryAbsent(DIR, name(text)),
        ],
        mutations: vec![
            Mutation::PutNode(Ino(1000 + number), Attr { uid: number as u32, ..file() }),
            Mutation::PutEntry(DIR, name(text), FileType::File, Ino(1000 + number)),
            Mutation::Add(Counter::TotalInodes, 1),
            Mutation::Patch(DIR, patch),
        ],
        returns: vec![Ino(1000 + number)],
    }
}

async fn commuting(engine: &Rc<dyn Engine>) {
    let commits = (0..CROWD).map(|number| create(number, &format!("n{number}"))).collect();
    let outcomes = at_once(engine, commits).await;
    for (number, outcome) in (0u32..).zip(outcomes) {
        assert_eq!(outcome, Outcome::Applied(vec![Some(Attr { uid: number, ..file() })]));
    }
    let keys = [Key::DirLen(DIR), Key::Counter(Counter::TotalInodes), Key::Node(DIR)];
    let grown =
        Attr { nlink: 2 + CROWD as u32, mtime: time(99 + CROWD as i64, 0).unwrap(), ..dir() };
    let wanted = [Value::DirLen(CROWD), Value::Counter(CROWD as i64), Value::Node(Some(grown))];
    assert_eq!(engine.fetch(&keys).await.unwrap(), wanted);
    assert_eq!(engine.list(DIR, true).await.unwrap().len() as u64, CROWD);
}

/// Three want each name: one gets it, and the others have left nothing.
async fn racing(engine: &Rc<dyn Engine>) {
    let commits = (0..CROWD).map(|number| create(CROWD + number, &format!("r{}", number / 3)));
    let outcomes = at_once(engine, commits.collect()).await;
    let mut made = 0;
    for (chosen, three) in outcomes.chunks(3).enumerate() {
        let won = three.iter().position(|outcome| matches!(outcome, Outcome::Applied(_)));
        let won = won.expect("somebody gets the name");
        let lost = three.iter().filter(|outcome| **outcome == Outcome::Conflict(1)).count();
        assert_eq!(lost, 2);
        for number in 0..3 {
            let ino = Ino(1000 + CROWD + (chosen * 3 + number) as u64);
            assert_eq!(super::node(&**engine, ino).await.is_some(), number == won);
            if number == won {
                let entry = get(&**engine, Key::Entry(DIR, name(&format!("r{chosen}")))).await;
                assert_eq!(entry, Value::Entry(Some((FileType::File, ino))));
            }
        }
        made += 1;
    }
    let keys = [Key::DirLen(DIR), Key::Counter(Counter::TotalInodes)];
    let wanted = [Value::DirLen(CROWD + made), Value::Counter((CROWD + made) as i64)];
    assert_eq!(engine.fetch(&keys).await.unwrap(), wanted);
}

/// All saw the same length and want to change it: one does.
async fn guarded(engine: &Rc<dyn Engine>) {
    let truncate = |length| Commit {
        expects: vec![Expect::NodeFields(FILE, vec![NodeField::Length(0)])],
        mutations: vec![
            Mutation::Set(FILE, SetNode { length: Some(length), ..SetNode::default() }),
            Mutation::Add(Counter::UsedSpace, length as i64),
        ],
        returns: vec![FILE],
    };
    let outcomes = at_once(engine, (1..=20).map(truncate).collect()).await;
    let applied: Vec<_> =
        (1..=20).zip(&outcomes).filter(|(_, outcome)| **outcome != Outcome::Conflict(0)).collect();
    let [(length, outcome)] = applied[..] else { panic!("one applies, not {applied:?}") };
    let after = Some(Attr { length, ..file() });
    assert_eq!(*outcome, Outcome::Applied(vec![after.clone()]));
    let keys = [Key::Node(FILE), Key::Counter(Counter::UsedSpace)];
    let wanted = [Value::Node(after), Value::Counter(length as i64)];
    assert_eq!(engine.fetch(&keys).await.unwrap(), wanted);
}

/// No record is lost or doubled, and what one commit pushes stays together.
async fn appending(engine: &Rc<dyn Engine>) {
    let record = |id| SliceRecord { pos: 0, id, size: 1, off: 0, len: 1 };
    let push = |number| {
        let pair = vec![record(3000 + 2 * number), record(3001 + 2 * number)];
        let mutations = vec![Mutation::PushSlices(FILE, 0, pair)];
        Commit { expects: vec![Expect::Node(FILE, FileType::File)], mutations, returns: vec![] }
    };
    let outcomes = at_once(engine, (0..CROWD).map(push).collect()).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied(vec![])));
    let Value::Chunk(list) = get(&**engine, Key::Chunk(FILE, 0)).await else {
        panic!("a chunk was asked for")
    };
    assert!(list.chunks(2).all(|pair| pair[0].id % 2 == 0 && pair[1].id == pair[0].id + 1));
    let mut ids: Vec<_> = list.iter().map(|record| record.id).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(3000..3000 + 2 * CROWD));
}
