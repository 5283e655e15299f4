//! Commits on their way: whatever is queued while one batch flies shares the next one.
//!
//! Owns the queue, the sequence of batches of this core and the reading of their answers. A batch
//! is applied at most once (`commit.lua`), so it is sent until there is an answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Value;

use super::link::Link;
use super::pack::pack;
use super::script::Script;
use super::words::{Asked, Words};
use super::{fetch, keys, reply};
use crate::limits::{REDIS_BATCH_BYTES_MAX, REDIS_BATCH_COMMITS_MAX, REDIS_COMMITS_WAITING_MAX};
use crate::meta::engine::EngineError;
use crate::meta::txn::{Commit, Outcome};
use crate::stdx::{Chance, Permits, Sender, now, oneshot};
use crate::types::Ino;
use crate::uring::spawn;

type Answer = Result<Outcome, EngineError>;

struct Queued {
    words: Words,
    returns: Vec<Ino>,
    sender: Sender<Answer>,
}

pub(super) struct Committer {
    link: Rc<Link>,
    queue: RefCell<VecDeque<Queued>>,
    flying: Cell<bool>,
    room: Arc<Permits>,
    /// The last sequence number used.
    sequence: Cell<u64>,
    /// The session and the name under which our last batch is kept.
    client: RefCell<(u64, String)>,
}

/// Lands when the task that flies batches ends, also by being dropped with its core.
struct Flight(Rc<Committer>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.flying.set(false);
    }
}

impl Committer {
    pub(super) fn new(link: Rc<Link>) -> Rc<Self> {
        Rc::new(Self {
            link,
            queue: RefCell::default(),
            flying: Cell::new(false),
            room: Permits::new(REDIS_COMMITS_WAITING_MAX),
            sequence: Cell::new(0),
            client: RefCell::default(),
        })
    }

    pub(super) async fn commit(self: &Rc<Self>, commit: Commit) -> Answer {
        let _place = self.room.take().await;
        let (sender, receiver) = oneshot();
        let words = pack(&commit);
        self.queue.borrow_mut().push_back(Queued { words, returns: commit.returns, sender });
        if !self.flying.replace(true) {
            spawn(fly(Flight(Rc::clone(self))));
        }
        let gone = || EngineError::Unavailable("the core that sends commits has ended".into());
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    fn next_batch(&self) -> Vec<Queued> {
        let mut queue = self.queue.borrow_mut();
        let (mut count, mut bytes) = (0, 0);
        for queued in queue.iter().take(REDIS_BATCH_COMMITS_MAX) {
            bytes += queued.words.bytes();
            if count > 0 && bytes > REDIS_BATCH_BYTES_MAX {
                break;
            }
            count += 1;
        }
        queue.drain(..count).collect()
    }

    /// Our name; another one for another session, so that it goes with its session.
    fn client(&self) -> String {
        let sid = self.link.shared.sid.load(Ordering::Acquire);
        let mut client = self.client.borrow_mut();
        if client.1.is_empty() || client.0 != sid {
            let chance = Chance::from_system().next_u64();
            *client = (sid, format!("{sid}_{chance:016x}_{}", now().sec));
        }
        client.1.clone()
    }

    /// Send a batch until it is answered; the answer's bytes.
    async fn send(&self, batch: &[Queued]) -> Result<Vec<u8>, EngineError> {
        self.sequence.set(self.sequence.get() + 1);
        let scripts = self.link.scripts().await?;
        let mut call = Words::default();
        call.add("EVALSHA").add(scripts.of(Script::Commit)).number(1).add(keys::SEQUENCES);
        call.add(self.client()).number(self.sequence.get());
        for Queued { words, .. } in batch {
            if batch.len() == 1 {
                call.add("");
            } else {
                call.number(words.count());
            }
            call.append(words);
        }
        let mut asked = Asked::default();
        asked.command(&call);
        let answer = self.link.ask(&asked).await?.swap_remove(0);
        match answer {
            Value::BulkString(bytes) => Ok(bytes),
            other => Err(reply::strange("a commit", &other)),
        }
    }
}

async fn fly(flight: Flight) {
    let committer = &flight.0;
    loop {
        let batch = committer.next_batch();
        if batch.is_empty() {
            return;
        }
        match committer.send(&batch).await {
            Ok(bytes) => {
                let mut rest = &bytes[..];
                for Queued { returns, sender, .. } in batch {
                    sender.send(read_answer(&mut rest, &returns));
                }
            }
            Err(error) => {
                batch.into_iter().for_each(|queued| queued.sender.send(Err(same(&error))));
            }
        }
    }
}

/// An error of a batch is an error of each of its commits.
fn same(error: &EngineError) -> EngineError {
    match error {
        EngineError::Unavailable(text) => EngineError::Unavailable(text.clone()),
        EngineError::Full(text) => EngineError::Full(text.clone()),
        EngineError::Corrupt { key, reason } => {
            EngineError::Corrupt { key: key.clone(), reason: reason.clone() }
        }
        EngineError::Refused(text) => EngineError::Refused(text.clone()),
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], EngineError> {
    let (taken, left) = rest
        .split_at_checked(count)
        .ok_or_else(|| reply::damaged(keys::SEQUENCES, "the answer to a batch ends early"))?;
    *rest = left;
    Ok(taken)
}

/// The next commit's part of an answer.
fn read_answer(rest: &mut &[u8], returns: &[Ino]) -> Answer {
    let length = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    match take(rest, 1)? {
        b"A" => {
            let mut records = Vec::with_capacity(returns.len());
            for _ in returns {
                let bytes = take(rest, 1)?[0];
                records.push(take(rest, usize::from(bytes))?);
            }
            let nodes = returns.iter().zip(records).map(|(ino, record)| {
                fetch::node(&keys::node(*ino), (!record.is_empty()).then_some(record))
            });
            Ok(Outcome::Applied(nodes.collect::<Result<_, _>>()?))
        }
        b"X" => Ok(Outcome::Conflict(length(take(rest, 2)?))),
        b"E" => {
            let count = length(take(rest, 2)?);
            let text = String::from_utf8_lossy(take(rest, count)?).into_owned();
            let key = text.strip_prefix("DAMAGED ").and_then(|rest| rest.split(' ').next());
            Err(reply::told_text(key.unwrap_or("of a commit"), text.clone()))
        }
        _ => Err(reply::damaged(keys::SEQUENCES, "no answer to a batch")),
    }
}
