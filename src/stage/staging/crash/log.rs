//! The log on a disk that freezes at every call, fails any, loses power, or rots.
//!
//! Owns the plain truth that a log is compared with: the state after each record. What is found must be
//! one of those states: after a kill the last one, after a loss of power one that is not older than the
//! last that was synced.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{Fault, Model, pause};
use crate::object::BlockKey;
use crate::pages::Page;
use crate::stage::staging::log::{Found, Log, LogError, Place, Record};
use crate::stdx::Chance;
use crate::uring::{block_on, spawn};

/// What somebody who opens the log finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    blocks: BTreeMap<u64, u32>,
    notes: Vec<(u64, Vec<u8>)>,
}

/// Every state there was, oldest first, and how much of it was promised.
#[derive(Debug, Clone)]
struct Truth {
    states: Vec<State>,
    /// Synced up to this state.
    synced: Rc<Cell<usize>>,
    /// States after a record whose write was answered with an error, by the state before it: the bytes may
    /// be there after all, until something else is promised.
    maybe: Vec<(usize, State)>,
    /// Somebody has begun to remove the log.
    destroyed: bool,
    next_id: u64,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    PowerLoss,
}

/// A log that is open, with the places that its owner has to know.
struct Life {
    log: Rc<Log<Model>>,
    places: BTreeMap<u64, Place>,
}

fn key(id: u64, size: u32) -> BlockKey {
    BlockKey { id, index: 0, size }
}

fn bytes(id: u64, size: u32) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251u64).map(|at| (at * 7 + id * 31) as u8).collect();
    let mut bytes = pattern.repeat(size as usize / pattern.len() + 1);
    bytes.truncate(size as usize);
    bytes
}

impl State {
    fn set_note(&mut self, tag: u64, bytes: Vec<u8>) {
        self.notes.retain(|(own, _)| *own != tag);
        self.notes.push((tag, bytes));
    }
}

impl Truth {
    fn new() -> Self {
        Self {
            states: vec![State::default()],
            synced: Rc::default(),
            maybe: Vec::new(),
            destroyed: false,
            next_id: 1,
        }
    }

    fn now(&self) -> &State {
        self.states.last().expect("there is a state from the start")
    }

    fn push(&mut self, state: State) {
        self.states.push(state);
    }

    fn push_maybe(&mut self, state: State) {
        self.maybe.push((self.states.len() - 1, state));
    }

    /// A found state must be one of those that the end of the life allows; which of them it is.
    fn judge(&self, found: &State, end: End) -> Result<usize, String> {
        let last = self.states.len() - 1;
        let least = if end == End::Kill { last } else { self.synced.get() };
        let known = (least..=last).rev().find(|at| self.states[*at] == *found);
        let mut maybe = self.maybe.iter().filter(|(at, state)| *at >= least && state == found);
        let empty = self.destroyed && *found == State::default();
        match known.or(maybe.next_back().map(|(at, _)| *at)) {
            Some(at) => Ok(at),
            None if empty => Ok(last),
            None => {
                Err(format!("{end:?}: found {found:?}, not one of {:?}", &self.states[least..]))
            }
        }
    }

    /// Go on from what was found.
    fn goes_on(&mut self, at: usize, found: State, end: End) {
        self.states.truncate(at + 1);
        self.maybe.retain(|(before, _)| *before <= at);
        if self.states[at] != found {
            self.states.push(found);
        }
        if end == End::PowerLoss {
            self.synced = Rc::new(Cell::new(self.states.len() - 1));
        }
        self.destroyed = false;
    }
}

impl Life {
    /// Open the log; what is in it.
    fn open(model: &Model, segment_bytes: u32) -> Result<(Self, State), LogError> {
        let (mut state, mut places, mut gone) = (State::default(), BTreeMap::new(), Vec::new());
        let log = Log::open(Arc::new(model.clone()), segment_bytes, &mut |found| match found {
            Found::Block { key, place, tier, group, kept_ms } => {
                assert_eq!((tier, group, kept_ms), (key.id as u8, key.id * 3, key.id * 5));
                state.blocks.insert(key.id, key.size);
                gone.extend(places.insert(key.id, place).map(|place| (place, key.size)));
            }
            Found::Gone { key } => {
                state.blocks.remove(&key.id);
                gone.extend(places.remove(&key.id).map(|place| (place, key.size)));
            }
            Found::Note { tag, bytes } => state.set_note(tag, bytes),
        })?;
        gone.into_iter().for_each(|(place, size)| log.release(place, size));
        Ok((Self { log: Rc::new(log), places }, state))
    }

    /// All blocks have their bytes.
    fn read_all(&self, state: &State) -> Result<(), String> {
        for (id, size) in &state.blocks {
            let mut read = vec![0; *size as usize];
            let done = self.log.read(self.places[id], key(*id, *size), 0, &mut read);
            done.map_err(|error| format!("block {id}: {error}"))?;
            if read != bytes(*id, *size) {
                return Err(format!("block {id} has other bytes"));
            }
        }
        Ok(())
    }

    fn append_block(&mut self, id: u64, size: u32) -> std::io::Result<Option<Place>> {
        let data = bytes(id, size);
        let cut = data.len() / 3;
        let pages = [Page::from_vec(data[..cut].to_vec()), Page::from_vec(data[cut..].to_vec())];
        let (key, tier, group, kept_ms) = (key(id, size), id as u8, id * 3, id * 5);
        let record = Record::Block { key, tier, group, kept_ms, pages: &pages };
        let place = self.log.append(&record)?;
        Ok(self.places.insert(id, place))
    }

    fn keep(&mut self, truth: &mut Truth, chance: &mut Chance) {
        let (id, size) = (truth.next_id, 1 + chance.below(700) as u32);
        truth.next_id += 1;
        let mut state = truth.now().clone();
        state.blocks.insert(id, size);
        match self.append_block(id, size) {
            Ok(_) => truth.push(state),
            Err(_) => truth.push_maybe(state),
        }
    }

    fn remove(&mut self, truth: &mut Truth, chance: &mut Chance) {
        let mut state = truth.now().clone();
        if state.blocks.is_empty() {
            return;
        }
        let at = chance.below(state.blocks.len() as u64) as usize;
        let (id, size) = state.blocks.iter().nth(at).map(|(id, size)| (*id, *size)).unwrap();
        state.blocks.remove(&id);
        match self.log.append(&Record::Gone { key: key(id, size) }) {
            Ok(_) => {
                truth.push(state);
                self.log.release(self.places.remove(&id).expect("it was kept"), size);
            }
            Err(_) => truth.push_maybe(state),
        }
    }

    fn note(&mut self, truth: &mut Truth, chance: &mut Chance) {
        let mut state = truth.now().clone();
        let tag = chance.below(5);
        let bytes = vec![chance.below(256) as u8; chance.below(60) as usize];
        let record = match chance.below(3) {
            0 => {
                state.notes.retain(|(own, _)| *own != tag);
                Record::NoteGone { tag }
            }
            _ => {
                state.set_note(tag, bytes.clone());
                Record::Note { tag, bytes: &bytes }
            }
        };
        match self.log.append(&record) {
            Ok(_) => truth.push(state),
            Err(_) => truth.push_maybe(state),
        }
    }

    /// Blocks that hold up the log are copied.
    fn tidy(&mut self, truth: &mut Truth) {
        let Some(segment) = self.log.holding_up() else { return };
        let state = truth.now().clone();
        for (id, size) in &state.blocks {
            let old = self.places[id];
            if old.segment != segment {
                continue;
            }
            if self.append_block(*id, *size).is_err() {
                return;
            }
            truth.push(state.clone());
            self.log.release(old, *size);
        }
    }

    fn sync(&self, truth: &Truth, running: &Rc<Cell<usize>>) {
        let (log, synced, running) =
            (Rc::clone(&self.log), Rc::clone(&truth.synced), Rc::clone(running));
        let (upto, at) = (log.tail(), truth.states.len() - 1);
        running.set(running.get() + 1);
        spawn(async move {
            if log.sync(upto).await.is_ok() {
                synced.set(synced.get().max(at));
            }
            running.set(running.get() - 1);
        });
    }

    /// Random work until it is done or the disk freezes.
    async fn work(&mut self, model: &Model, truth: &mut Truth, chance: &mut Chance, steps: usize) {
        let running = Rc::new(Cell::new(0));
        for _ in 0..steps {
            match chance.below(20) {
                0..=7 => self.keep(truth, chance),
                8..=12 => self.remove(truth, chance),
                13..=14 => self.note(truth, chance),
                15..=16 => self.sync(truth, &running),
                17 => self.tidy(truth),
                _ => pause().await,
            }
            if model.is_frozen() {
                break;
            }
        }
        if chance.below(4) == 0 && !model.is_frozen() {
            while running.get() > 0 {
                pause().await;
            }
            truth.destroyed = true;
            let done = self.log.destroy().await;
            if done.is_ok() {
                truth.states = vec![State::default()];
                truth.synced = Rc::default();
            }
        }
        while running.get() > 0 {
            pause().await;
        }
    }
}

/// How many points a suite looked at, and what was wrong.
#[derive(Default)]
struct Report {
    points: usize,
    wrong: Vec<String>,
}

/// Sizes of one run.
struct Plan {
    seed: u64,
    segment_bytes: u32,
    steps: usize,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut chance = Chance::seeded(seed ^ 0xBEEF);
        let segment_bytes = 1500 + chance.below(4500) as u32;
        Self { seed, segment_bytes, steps: 40 + chance.below(60) as usize }
    }

    /// A first life on a new disk; what was promised in it.
    async fn first_life(&self, faults: &[Fault]) -> (Model, Truth) {
        let model = Model::new(self.seed);
        faults.iter().for_each(|fault| model.fault(*fault));
        let mut truth = Truth::new();
        let mut chance = Chance::seeded(self.seed);
        let (mut life, _) = Life::open(&model, self.segment_bytes).expect("nothing is there");
        life.work(&model, &mut truth, &mut chance, self.steps).await;
        (model, truth)
    }

    /// Look at what is left after a life; and at what is left after further ones, which are crashed
    /// somewhere, maybe while they open the log.
    async fn judge(
        &self,
        model: &Model,
        mut truth: Truth,
        mut end: End,
        seed: u64,
    ) -> Result<(), String> {
        let mut chance = Chance::seeded(seed);
        let mut model = Self::revive(model, end, &mut chance);
        for _ in 0..3 {
            if chance.below(2) == 0 {
                model.fault(Fault::FreezeAt(1 + chance.below(30)));
            }
            let opened = Life::open(&model, self.segment_bytes);
            if let Ok((mut life, state)) = opened {
                let at = truth.judge(&state, end)?;
                life.read_all(&state)?;
                truth.goes_on(at, state, end);
                life.work(&model, &mut truth, &mut chance, 15).await;
                end = End::Kill;
            } else if let Err(error) = opened
                && !model.is_frozen()
            {
                return Err(error.to_string());
            }
            // Power that was lost before what a kill left was synced takes more than the kill.
            let next = if chance.below(2) == 0 { End::Kill } else { End::PowerLoss };
            model = Self::revive(&model, next, &mut chance);
            end = if next == End::PowerLoss { next } else { end };
        }
        let (life, state) =
            Life::open(&model, self.segment_bytes).map_err(|error| error.to_string())?;
        truth.judge(&state, end)?;
        life.read_all(&state)
    }

    fn revive(model: &Model, end: End, chance: &mut Chance) -> Model {
        match end {
            End::Kill => model.after_kill(chance.next_u64()),
            End::PowerLoss => model.after_power_loss(chance.next_u64()),
        }
    }

    /// The same life with these faults, and all ends that it may come to.
    async fn try_out(&self, faults: &[Fault], report: &mut Report) {
        let (model, truth) = self.first_life(faults).await;
        for (number, end) in [End::Kill, End::PowerLoss, End::PowerLoss].into_iter().enumerate() {
            let seed = self.seed * 1000 + model.calls() * 3 + number as u64;
            let truth = Truth { synced: Rc::new(Cell::new(truth.synced.get())), ..truth.clone() };
            report.points += 1;
            if let Err(wrong) = self.judge(&model, truth, end, seed).await {
                report.wrong.push(format!("seed {}, {faults:?}, {end:?}: {wrong}", self.seed));
            }
        }
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_promised() {
    let mut report = Report::default();
    block_on(async {
        for seed in 0..40 {
            let plan = Plan::of(seed);
            let (whole, _) = plan.first_life(&[]).await;
            for call in 1..=whole.calls() {
                plan.try_out(&[Fault::FreezeAt(call)], &mut report).await;
            }
        }
    });
    assert!(report.points >= 10_000, "{} points", report.points);
    assert!(report.wrong.is_empty(), "{} wrong: {}", report.wrong.len(), report.wrong[0]);
}

#[test]
fn a_call_that_fails_takes_nothing_with_it() {
    let mut report = Report::default();
    block_on(async {
        for seed in 100..120 {
            let plan = Plan::of(seed);
            let (whole, _) = plan.first_life(&[]).await;
            for call in 1..=whole.calls() {
                let code = if call % 2 == 0 { libc::EIO } else { libc::ENOSPC };
                plan.try_out(&[Fault::FailAt(call, code)], &mut report).await;
            }
        }
    });
    assert!(report.points >= 3_000, "{} points", report.points);
    assert!(report.wrong.is_empty(), "{} wrong: {}", report.wrong.len(), report.wrong[0]);
}

#[test]
fn a_sync_that_is_left_out_is_found() {
    let mut report = Report::default();
    block_on(async {
        for seed in 200..220 {
            let plan = Plan::of(seed);
            let (whole, _) = plan.first_life(&[]).await;
            for sync in 1..=whole.syncs() {
                plan.try_out(&[Fault::LeaveOutSync(sync)], &mut report).await;
            }
        }
    });
    assert!(report.wrong.len() > 20, "{} of {}", report.wrong.len(), report.points);
}

/// A log with several segments that were synced, and their names.
async fn rested() -> (Model, Truth, Vec<String>) {
    let model = Model::new(1);
    let mut truth = Truth::new();
    let mut chance = Chance::seeded(1);
    let (mut life, _) = Life::open(&model, 2000).unwrap();
    for _ in 0..15 {
        life.keep(&mut truth, &mut chance);
        life.note(&mut truth, &mut chance);
        life.log.sync(life.log.tail()).await.unwrap();
    }
    let names = model.list_log();
    assert!(names.len() > 3);
    (model, truth, names)
}

impl Model {
    fn list_log(&self) -> Vec<String> {
        use crate::stage::staging::medium::Medium;
        let names = self.list("log").unwrap();
        names.into_iter().map(|(name, _)| format!("log/{name}")).collect()
    }
}

#[test]
fn no_flipped_bit_is_taken_for_what_was_written() {
    let (mut damaged, mut cut, mut unreadable, mut harmless) = (0, 0, 0, 0);
    block_on(async {
        let (whole, truth, names) = rested().await;
        for name in &names {
            let len = whole.bytes(name).len();
            for offset in (0..len).step_by(7) {
                let model = whole.after_kill(7);
                model.flip(name, offset, offset as u8 % 8);
                let (life, state) = match Life::open(&model, 2000) {
                    Err(LogError::Damaged(words)) => {
                        assert!(words.contains("log/") && words.contains("mount again"), "{words}");
                        damaged += 1;
                        continue;
                    }
                    opened => opened.expect("the disk works"),
                };
                assert!(truth.states.contains(&state), "{name} {offset}: {state:?}");
                if state != *truth.now() {
                    assert_eq!(Some(name), names.last(), "{name} {offset}: only the end is cut");
                    cut += 1;
                } else if life.read_all(&state).is_err() {
                    unreadable += 1;
                } else {
                    harmless += 1;
                }
            }
        }
    });
    assert!(
        damaged > 80,
        "{damaged} damaged, {cut} cut, {unreadable} unreadable, {harmless} harmless"
    );
    assert!(cut > 0 && unreadable > 80 && harmless > 0, "{cut} cut, {unreadable} unreadable");
}

#[test]
fn a_segment_that_is_missing_is_told() {
    block_on(async {
        let (whole, truth, names) = rested().await;
        for name in &names[..names.len() - 1] {
            use crate::stage::staging::medium::Medium;
            let model = whole.after_kill(7);
            model.remove(name).unwrap();
            let opened = Life::open(&model, 2000).map(|_| ());
            let error = opened.expect_err("blocks are missing").to_string();
            assert!(error.contains(name.as_str()), "{error}");
        }
        let (life, state) = Life::open(&whole, 2000).unwrap();
        assert_eq!(state, *truth.now());
        life.read_all(&state).unwrap();
    });
}

#[test]
fn needless_segments_go_and_a_log_does_not_grow() {
    block_on(async {
        let model = Model::new(3);
        let mut truth = Truth::new();
        let mut chance = Chance::seeded(3);
        let (mut life, _) = Life::open(&model, 4000).unwrap();
        life.note(&mut truth, &mut chance);
        let mut most = 0;
        for round in 0..300 {
            life.keep(&mut truth, &mut chance);
            if round % 50 != 0 {
                life.remove(&mut truth, &mut chance);
            }
            life.tidy(&mut truth);
            life.log.sync(life.log.tail()).await.unwrap();
            most = most.max(model.list_log().len());
        }
        assert!((3..12).contains(&most), "{most} segments");
        life.read_all(truth.now()).unwrap();
        let (life, state) = Life::open(&model, 4000).unwrap();
        assert_eq!(state, *truth.now());
        life.read_all(&state).unwrap();
        life.log.destroy().await.unwrap();
        assert_eq!(model.list_log(), Vec::<String>::new());
    });
}
