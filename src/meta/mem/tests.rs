//! The memory engine passes the suite, repeats itself, and is one for all cores.

use super::*;
use crate::meta::conformance::{agrees, conforms, formats};
use crate::meta::txn::{Expect, Mutation};
use crate::types::{FileType, Name};
use crate::uring::block_on;

#[test]
fn conforms_to_the_language() {
    let engine = MemBase::new().engine();
    block_on(async {
        formats(&*engine).await;
        conforms(engine).await;
    });
}

#[test]
fn a_life_repeats_itself() {
    block_on(async {
        let (a, b) = (MemBase::new().engine(), MemBase::new().engine());
        formats(&*a).await;
        formats(&*b).await;
        agrees(&*a, &*b, 1).await;
    });
}

#[test]
fn cores_share_one_volume() {
    let base = MemBase::new();
    block_on(formats(&*base.engine()));
    let create = |base: MemBase, core: u64| {
        let engine = base.engine();
        block_on(async move {
            for number in 0..1000 {
                let name: Name = format!("{core}-{number}").into_bytes().into();
                let commit = Commit {
                    expects: vec![Expect::EntryAbsent(Ino::ROOT, name.clone())],
                    mutations: vec![
                        Mutation::PutEntry(Ino::ROOT, name, FileType::File, Ino(2)),
                        Mutation::Add(Counter::TotalInodes, 1),
                    ],
                    returns: vec![],
                };
                assert_eq!(engine.commit(commit).await.unwrap(), Outcome::Applied(vec![]));
            }
        });
    };
    std::thread::scope(|scope| {
        for core in 0..3 {
            let base = base.clone();
            scope.spawn(move || create(base, core));
        }
    });
    let keys = [Key::DirLen(Ino::ROOT), Key::Counter(Counter::TotalInodes)];
    let found = block_on(base.engine().fetch(&keys)).unwrap();
    assert_eq!(found, [Value::DirLen(3000), Value::Counter(3000)]);
}
