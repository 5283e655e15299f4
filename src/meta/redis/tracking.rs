//! What any client changes, told by Redis: its client-side caching in broadcast mode.
//!
//! Owns a connection of its own that hears which nodes and directories were written to, and how soon
//! its loss is noticed. Only keys are told: not who changed them, so this client's own changes come
//! too, and not which database, so those of a volume in another one do. Messages of one round of the
//! server are one message, and each key comes once in it. (Its NOLOOP leaves out what another client
//! changed in the same round as this one, and is of no use here.)

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::dial::{Failed, Met, ask, dial};
use super::link::Shared;
use super::prefix::Prefix;
use super::reply;
use super::wire::{Pushed, Wire};
use super::words::Asked;
use crate::meta::engine::{EngineError, Heard};
use crate::stdx::Gate;
use crate::types::Ino;
use crate::uring::timeout;

/// What keys of nodes and of directories begin with; `keys` has them whole.
const NODE: u8 = b'i';
const DIR: u8 = b'd';
/// How often the server is asked whether it is there.
const LOOK: Duration = Duration::from_secs(1);
/// Without an answer for this long it is not: what it would have told is missed.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Tell `hear` what is changed, until that cannot be told any more, and why.
pub(super) async fn watch(shared: &Arc<Shared>, hear: Rc<dyn Fn(Heard)>) -> EngineError {
    match begin(shared, &hear).await {
        Ok((wire, cut)) => {
            hear(Heard::Began);
            let look = match shared.seen.prefix() {
                // A node of a cluster that gave the volume away tells of no change, nor that it did.
                Some(prefix) => prefix.is_it_here(),
                None => Asked::one(&[b"PING"]),
            };
            follow(&wire, &cut, &look).await;
            EngineError::Unavailable("the connection that tells of changes is lost".into())
        }
        Err(error) => error,
    }
}

/// A connection over which changes come, and what opens when it is cut.
async fn begin(
    shared: &Arc<Shared>,
    hear: &Rc<dyn Fn(Heard)>,
) -> Result<(Rc<Wire>, Rc<Gate>), EngineError> {
    let target = &shared.target;
    let told = |failed| match failed {
        Failed::Absent(reason) | Failed::Silent(reason) | Failed::Passing(reason) => {
            EngineError::Unavailable(format!("no Redis at {}: {reason}", target.place))
        }
        Failed::Unfit(error) | Failed::Refused(error) => error,
    };
    let Met { wire, .. } = Box::pin(dial(shared.one_try())).await.map_err(told)?;
    let (cut, hear) = (Rc::<Gate>::default(), Rc::clone(hear));
    let (opens, teller) = (Rc::clone(&cut), Arc::clone(shared));
    wire.listen(move |pushed| match pushed {
        Pushed::Data(data) => {
            data.iter().for_each(|keys| tell(keys, teller.seen.prefix(), &*hear));
        }
        Pushed::Cut => opens.open(),
    });
    let begun = match ask(shared.one_try(), &wire, &greeting(shared.seen.prefix())).await {
        Ok(replies) => match reply::first_error(&replies) {
            None => return Ok((wire, cut)),
            Some(error) if reply::next(error) != reply::Next::Tell => {
                EngineError::Unavailable(error.to_string())
            }
            Some(error) => reply::told("CLIENT TRACKING", error),
        },
        Err(failed) => told(failed),
    };
    wire.close();
    Err(begun)
}

fn greeting(prefix: Option<&Prefix>) -> Asked {
    let named = |kind: u8| prefix.map_or(vec![kind], |prefix| prefix.named(&[kind]));
    let (node, dir) = (named(NODE), named(DIR));
    let mut asked = Asked::one(&[b"HELLO", b"3"]);
    asked.add(&[b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", &node, b"PREFIX", &dir]);
    prefix.iter().for_each(|prefix| asked.append(&prefix.is_it_here()));
    asked
}

/// Until the connection is cut.
async fn follow(wire: &Wire, cut: &Gate, look: &Asked) {
    loop {
        let ticket = cut.ticket();
        if wire.is_cut() {
            return;
        }
        if timeout(LOOK, cut.wait(ticket)).await.is_err() {
            match timeout(SILENCE_MAX, wire.ask(look)).await {
                Ok(Ok(replies)) if reply::first_error(&replies).is_none() => {}
                _ => wire.close(),
            }
        }
    }
}

/// The keys of one message; none stands for all of them.
fn tell(keys: &Value, prefix: Option<&Prefix>, hear: &dyn Fn(Heard)) {
    match keys {
        Value::Array(keys) => {
            keys.iter().filter_map(|key| heard(key, prefix)).for_each(hear);
        }
        Value::Nil => hear(Heard::Everything),
        // The words that come with a message of another kind.
        _ => {}
    }
}

/// What a key stands for; others begin with the same letters.
fn heard(key: &Value, prefix: Option<&Prefix>) -> Option<Heard> {
    let Value::BulkString(key) = key else { return None };
    let key = prefix.map_or(&key[..], |prefix| prefix.plain(key));
    let (kind, number) = key.split_first()?;
    let ino = Ino(std::str::from_utf8(number).ok()?.parse().ok()?);
    match *kind {
        NODE => Some(Heard::Node(ino)),
        DIR => Some(Heard::Dir(ino)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Instant;

    use super::*;
    use crate::meta::redis::keys;
    use crate::meta::redis::tests::server::TestServer;
    use crate::meta::txn::{Commit, Mutation};
    use crate::types::{Attr, FileType, Time};
    use crate::uring::{block_on, sleep, spawn};

    #[test]
    fn keys_are_told_by_what_they_stand_for() {
        let key = |key: &str| heard(&Value::BulkString(key.into()), None);
        assert_eq!(key(&keys::node(Ino(7))), Some(Heard::Node(Ino(7))));
        assert_eq!(key(&keys::dir(Ino(u64::MAX))), Some(Heard::Dir(Ino(u64::MAX))));
        for other in keys::DIR_STATS.into_iter().chain([keys::DELETED_FILES, "i", "d7x", "c7_0"]) {
            assert_eq!(key(other), None, "{other}");
        }
        let named = Value::BulkString(b"{3}i7".into());
        assert_eq!(heard(&named, Some(&Prefix::of(3))), Some(Heard::Node(Ino(7))));
    }

    /// Wait until `is_so`.
    async fn eventually(is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(5), "it did not happen");
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn changes_of_any_client_are_heard_until_the_connection_is_lost() {
        let server = TestServer::start(&[]);
        block_on(async {
            let engine = server.engine();
            let told = Rc::new(RefCell::new(Vec::new()));
            let hears = Rc::clone(&told);
            let hear: Rc<dyn Fn(Heard)> = Rc::new(move |heard| hears.borrow_mut().push(heard));
            let (watching, ended) = (server.engine(), Rc::new(RefCell::new(None)));
            let end = Rc::clone(&ended);
            spawn(async move {
                let reason = watching.watch(hear).await;
                *end.borrow_mut() = Some(reason.to_string());
            });
            eventually(|| *told.borrow() == [Heard::Began]).await;
            let attr = Attr::new(FileType::File, 0o644, Time { sec: 1, nsec: 0 });
            let changes = vec![
                Mutation::PutNode(Ino(7), attr),
                Mutation::PutEntry(Ino(1), (*b"a").into(), FileType::File, Ino(7)),
            ];
            engine.commit(Commit { mutations: changes, ..Commit::default() }).await.unwrap();
            eventually(|| told.borrow().len() == 3).await;
            let mut heard = told.borrow_mut().split_off(1);
            heard.sort_by_key(|heard| matches!(heard, Heard::Dir(_)));
            assert_eq!(heard, [Heard::Node(Ino(7)), Heard::Dir(Ino(1))]);
            server.text("FLUSHALL");
            eventually(|| told.borrow().last() == Some(&Heard::Everything)).await;
            assert!(ended.borrow().is_none());
            server.text("CLIENT KILL TYPE normal SKIPME yes");
            eventually(|| ended.borrow().is_some()).await;
        });
    }

    #[test]
    fn who_may_not_listen_is_told_so() {
        let server = TestServer::start(&[]);
        server.text("ACL SETUSER default -client");
        block_on(async {
            let reason = server.engine().watch(Rc::new(|_| panic!("heard"))).await;
            assert!(matches!(reason, EngineError::Refused(_)), "{reason}");
        });
    }
}
