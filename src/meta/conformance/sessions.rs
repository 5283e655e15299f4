//! Sessions with what they hold, and the election of who does a job.

use super::{change, get};
use crate::meta::engine::{Engine, Session};
use crate::meta::txn::{Flock, Key, LockOwner, Mutation, Plock, Value};
use crate::types::Ino;

const A: Ino = Ino(400);
const B: Ino = Ino(401);

pub(super) async fn check(engine: &dyn Engine) {
    known(engine).await;
    ends(engine).await;
    jobs(engine).await;
}

fn session(sid: u64, expire: i64, info: &str) -> Session {
    Session { sid, expire, info: info.into() }
}

async fn all(engine: &dyn Engine) -> Vec<Session> {
    let mut sessions = engine.sessions().await.unwrap();
    sessions.sort_by_key(|session| session.sid);
    sessions
}

async fn known(engine: &dyn Engine) {
    assert_eq!(all(engine).await, []);
    engine.put_session(session(42, 100, "{\"HostName\":\"\u{e4}\"}")).await.unwrap();
    engine.put_session(session(41, 99, "{}")).await.unwrap();
    engine.put_session(session(42, 200, "{}")).await.unwrap();
    assert_eq!(all(engine).await, [session(41, 99, "{}"), session(42, 200, "{}")]);
}

async fn ends(engine: &dyn Engine) {
    let owner = |sid, owner| LockOwner { sid, owner };
    let records = || Box::from([7; 48]);
    change(
        engine,
        vec![
            Mutation::SetFlock(A, owner(41, 1), Some(false)),
            Mutation::SetFlock(A, owner(42, 1), Some(false)),
            Mutation::SetFlock(B, owner(42, 2), Some(true)),
            Mutation::SetPlock(A, owner(42, 1), Some(records())),
            Mutation::SetPlock(B, owner(42, 2), Some(records())),
            Mutation::SetPlock(B, owner(41, 2), Some(records())),
            Mutation::PutSustained(42, A),
            Mutation::PutSustained(42, B),
            Mutation::PutSustained(42, B),
            Mutation::PutSustained(41, A),
            Mutation::DelSustained(42, Ino(499)),
        ],
    )
    .await;
    let mut kept = engine.end_session(42).await.unwrap();
    kept.sort();
    assert_eq!(kept, [A, B]);
    assert_eq!(all(engine).await.len(), 2, "it keeps something, so it is still known");
    let found = engine
        .fetch(&[Key::Flocks(A), Key::Flocks(B), Key::Plocks(A), Key::Plocks(B)])
        .await
        .unwrap();
    let wanted = [
        Value::Flocks(vec![Flock { owner: owner(41, 1), exclusive: false }]),
        Value::Flocks(vec![]),
        Value::Plocks(vec![]),
        Value::Plocks(vec![Plock { owner: owner(41, 2), records: records() }]),
    ];
    assert_eq!(found, wanted);
    // Ended half-way, it is ended again: only what was deleted is not told any more.
    change(engine, vec![Mutation::DelSustained(42, A)]).await;
    assert_eq!(engine.end_session(42).await.unwrap(), [B]);
    change(engine, vec![Mutation::DelSustained(42, B)]).await;
    assert_eq!(all(engine).await.len(), 2);
    assert_eq!(engine.end_session(42).await.unwrap(), []);
    assert_eq!(all(engine).await, [session(41, 99, "{}")]);
    assert_eq!(engine.end_session(42).await.unwrap(), [], "there is none any more");
    assert_eq!(engine.end_session(41).await.unwrap(), [A]);
    change(engine, vec![Mutation::DelSustained(41, A)]).await;
    assert_eq!(engine.end_session(41).await.unwrap(), []);
    assert_eq!(all(engine).await, []);
    assert_eq!(get(engine, Key::Flocks(A)).await, Value::Flocks(vec![]));
}

async fn jobs(engine: &dyn Engine) {
    let wins = async |name, now| engine.win_job(name, now, 10).await.unwrap();
    assert!(wins("lastCleanupFiles", 1000).await);
    assert!(!wins("lastCleanupFiles", 1000).await);
    assert!(!wins("lastCleanupFiles", 1009).await);
    assert!(wins("lastCleanupTrash", 1009).await, "each job has its own stamp");
    assert!(wins("lastCleanupFiles", 1010).await);
    assert!(!wins("lastCleanupFiles", 1019).await, "who loses does not move the stamp");
    assert!(wins("lastCleanupFiles", 1020).await);
    assert!(!wins("lastCleanupFiles", 1011).await, "clocks that differ a little");
    assert!(wins("lastCleanupFiles", 1010).await, "a stamp by a clock that was ahead");
}
