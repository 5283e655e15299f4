//! The whole staging area on a disk that freezes at every call or loses power.
//!
//! Owns the promises as plain data: when each block was kept and when it went, and up to when all was
//! synced. After a kill everything that was kept is served with its bytes and nothing removed comes back;
//! after a loss of power that holds for what was done before the last sync that succeeded. A sync is about
//! what is kept: when a disk fails of which nothing is needed any more it succeeds, and what was removed
//! there may come back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Fault, Model, pause};
use crate::object::{BlockKey, Layout};
use crate::pages::Page;
use crate::stage::staging::area::Staging;
use crate::stage::staging::block::{NewBlock, Removed};
use crate::stage::staging::config::StagingConfig;
use crate::stage::staging::files::Files;
use crate::stage::staging::folder::Folder;
use crate::stage::staging::level::Standing;
use crate::stage::staging::recover;
use crate::stdx::Chance;
use crate::uring::{block_on, spawn};

/// Longest block that goes into the log here.
const LOG_BLOCK_BYTES_MAX: u32 = 1000;

/// Steps of a life are counted; nothing has happened at 0.
type Step = usize;

/// What was promised of a block.
#[derive(Debug, Clone, Copy)]
struct Promise {
    size: u32,
    kept: Step,
    /// When it was removed.
    removed: Option<Step>,
    /// It may be there or not: a call about it was cut off, or it was uploaded.
    open: bool,
}

/// Up to when all was synced.
#[derive(Debug, Clone, Default)]
struct Synced {
    /// What was kept by then is there.
    kept: Cell<Step>,
    /// What was removed by then stays away.
    removed: Cell<Step>,
}

/// All promises, and those of notes.
#[derive(Debug, Clone, Default)]
struct Promises {
    now: Step,
    synced: Rc<Synced>,
    blocks: BTreeMap<u64, Promise>,
    /// The values of each tag, and since when; `None` for none.
    notes: BTreeMap<u64, Vec<(Step, Option<u8>)>>,
    /// Tags from this one on are used; what became of earlier ones is not certain.
    first_tag: u64,
    next_id: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    PowerLoss,
}

type Area = Rc<Staging<Model>>;

fn layout() -> Layout {
    Layout::new(4096, false)
}

fn key(id: u64, size: u32) -> BlockKey {
    BlockKey { id, index: 0, size }
}

fn bytes(id: u64, size: u32) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251u8).map(|at| at.wrapping_mul(7) ^ id as u8).collect();
    let mut bytes = pattern.repeat(size as usize / pattern.len() + 1);
    bytes.truncate(size as usize);
    bytes
}

fn open(model: &Model) -> Result<Area, String> {
    let config = StagingConfig {
        folders: Vec::new(),
        takes: true,
        threshold_bytes: 0,
        max_bytes: 0,
        max_writes: 0,
        upload_delay: Duration::ZERO,
        upload_hours: None,
        upload_deadline: Duration::ZERO,
        free_space_ratio: 0.0,
        file_mode: 0o600,
        checksums: true,
    };
    let medium = Arc::new(model.clone());
    let files = Files::new(Arc::clone(&medium), layout(), true);
    let mut folder = Folder::new("disk".to_owned(), "disk".to_owned(), medium, files);
    folder.segment_bytes = 4096;
    let staging = Staging::over(&config, layout(), vec![folder]);
    let mut staging = staging.map_err(|error| error.to_string())?;
    staging.log_block_bytes_max = LOG_BLOCK_BYTES_MAX;
    recover::walk_now(&staging.held);
    Ok(Rc::new(staging))
}

impl Synced {
    /// A sync of what was done by this step succeeded.
    fn reach(&self, step: Step, area: &Area) {
        self.kept.set(self.kept.get().max(step));
        if area.held.folders.iter().all(|folder| folder.lost().is_none()) {
            self.removed.set(self.removed.get().max(step));
        }
    }
}

impl Promises {
    /// Look at what is there after an end.
    async fn judge(&self, area: &Area, end: End) -> Result<(), String> {
        let kept = |step: Step| end == End::Kill || step <= self.synced.kept.get();
        let gone = |step: Step| end == End::Kill || step <= self.synced.removed.get();
        for (id, promise) in &self.blocks {
            let key = key(*id, promise.size);
            let read = area.read(&key, 0, key.size).await;
            let wrong = |what: &str| Err(format!("{end:?}: block {id} {what}: {promise:?}"));
            match read {
                Some(page) if *page != *bytes(*id, key.size) => return wrong("has other bytes"),
                Some(_) if !promise.open && promise.removed.is_some_and(gone) => {
                    return wrong("came back");
                }
                None if !promise.open && promise.removed.is_none() && kept(promise.kept) => {
                    return wrong("is lost");
                }
                _ => {}
            }
        }
        let notes: BTreeMap<u64, Vec<u8>> = area.take_notes().into_iter().collect();
        for (tag, values) in &self.notes {
            let found = notes.get(tag).map(|bytes| bytes[0]);
            let promised = |(step, value): &(Step, Option<u8>)| match value {
                Some(_) => kept(*step),
                None => gone(*step),
            };
            let last = values.iter().rposition(promised).unwrap_or(0);
            if !values[last..].iter().any(|(_, value)| *value == found) {
                return Err(format!("{end:?}: note {tag} is {found:?}, not one of {values:?}"));
            }
        }
        Ok(())
    }

    /// Nothing is certain any more but what is found again by the same promises.
    fn go_on(&mut self, end: End) {
        if end == End::Kill {
            return;
        }
        self.synced = Rc::new(Synced::clone(&self.synced));
        let (kept, removed) = (self.synced.kept.get(), self.synced.removed.get());
        for promise in self.blocks.values_mut() {
            promise.open |= promise.kept > kept || promise.removed.is_some_and(|at| at > removed);
        }
        self.begin_tags();
    }

    /// Which notes came through is not looked at again; others are made from now on.
    fn begin_tags(&mut self) {
        self.notes.clear();
        self.first_tag += 4;
    }

    async fn keep(&mut self, area: &Area, model: &Model, chance: &mut Chance) {
        self.next_id += 1;
        let id = self.next_id;
        let size = match chance.below(16) {
            0 => LOG_BLOCK_BYTES_MAX + 1 + chance.below(2000) as u32,
            _ => 1 + chance.below(900) as u32,
        };
        let pages = [Page::from_vec(bytes(id, size))];
        let block =
            NewBlock { key: key(id, size), tier: 0, group: id % 3, kept_ms: None, pages: &pages };
        let kept = area.keep(block).await;
        assert!(kept.is_ok() || model.is_frozen(), "{kept:?}");
        let promise = Promise { size, kept: self.now, removed: None, open: kept.is_err() };
        self.blocks.insert(id, promise);
    }

    fn remove(&mut self, area: &Area, model: &Model, chance: &mut Chance) {
        let certain = |promise: &Promise| !promise.open && promise.removed.is_none();
        let live: Vec<u64> =
            self.blocks.iter().filter(|(_, one)| certain(one)).map(|(id, _)| *id).collect();
        if live.is_empty() {
            return;
        }
        let id = live[chance.below(live.len() as u64) as usize];
        let promise = self.blocks.get_mut(&id).expect("it is live");
        let removed = area.remove(&key(id, promise.size));
        assert!(removed == Removed::Dropped || model.is_frozen(), "{removed:?}");
        promise.removed = Some(self.now);
        promise.open = model.is_frozen();
    }

    async fn upload(&mut self, area: &Area, model: &Model) {
        let Some(upload) = area.next_upload() else { return };
        let id = upload.key.id;
        if let Some(promise) = self.blocks.get_mut(&id) {
            promise.open = true;
        }
        match area.load(&upload).await {
            Ok(page) => {
                assert_eq!(*page, *bytes(id, upload.key.size), "only what was kept is uploaded");
                area.uploaded(&upload);
            }
            Err(reason) => {
                assert!(model.is_frozen() || reason.contains("damaged") || !reason.is_empty());
                area.upload_failed(&upload, &reason);
            }
        }
    }

    fn note(&mut self, area: &Area, model: &Model, chance: &mut Chance) {
        let (tag, byte) = (self.first_tag + chance.below(4), chance.below(256) as u8);
        let value = (chance.below(3) > 0).then_some(byte);
        let done = match value {
            Some(byte) => area.note(tag, &[byte; 40]).is_ok(),
            None => {
                area.forget_note(tag);
                true
            }
        };
        let values = self.notes.entry(tag).or_insert_with(|| vec![(0, None)]);
        match done && !model.is_frozen() {
            true => values.push((self.now, value)),
            false => self.begin_tags(),
        }
    }

    fn sync(&self, area: &Area, running: &Rc<Cell<usize>>) {
        let (area, synced, running) =
            (Rc::clone(area), Rc::clone(&self.synced), Rc::clone(running));
        let now = self.now;
        running.set(running.get() + 1);
        spawn(async move {
            if area.sync().await.is_ok() {
                synced.reach(now, &area);
            }
            running.set(running.get() - 1);
        });
    }

    async fn work(&mut self, area: &Area, model: &Model, chance: &mut Chance, steps: usize) {
        let running = Rc::new(Cell::new(0));
        for _ in 0..steps {
            self.now += 1;
            match chance.below(20) {
                0..=8 => self.keep(area, model, chance).await,
                9..=11 => self.remove(area, model, chance),
                12..=13 => self.upload(area, model).await,
                14..=15 => self.note(area, model, chance),
                16..=17 => self.sync(area, &running),
                _ => pause().await,
            }
            if model.is_frozen() {
                break;
            }
        }
        while running.get() > 0 {
            pause().await;
        }
        if !model.is_frozen() && chance.below(3) == 0 {
            self.now += 1;
            area.close().await;
            if !model.is_frozen() {
                self.synced.reach(self.now, area);
            }
        }
    }
}

async fn first_life(seed: u64, faults: &[Fault]) -> (Model, Promises) {
    let model = Model::new(seed);
    faults.iter().for_each(|fault| model.fault(*fault));
    let mut promises = Promises::default();
    let mut chance = Chance::seeded(seed);
    let area = open(&model).expect("nothing is there");
    let steps = 30 + chance.below(30) as usize;
    promises.work(&area, &model, &mut chance, steps).await;
    (model, promises)
}

/// Look at what a life left, then live on and crash again, maybe while the area is opened.
async fn judge(
    model: &Model,
    mut promises: Promises,
    mut end: End,
    seed: u64,
) -> Result<(), String> {
    let mut chance = Chance::seeded(seed);
    let mut model = revive(model, end, &mut chance);
    for _ in 0..2 {
        if chance.below(2) == 0 {
            model.fault(Fault::FreezeAt(1 + chance.below(25)));
        }
        match open(&model) {
            Ok(area) if !model.is_frozen() => {
                promises.judge(&area, end).await?;
                promises.go_on(end);
                promises.work(&area, &model, &mut chance, 12).await;
                end = End::Kill;
            }
            Err(error) if !model.is_frozen() => return Err(error),
            _ => {}
        }
        let next = if chance.below(2) == 0 { End::Kill } else { End::PowerLoss };
        model = revive(&model, next, &mut chance);
        end = if next == End::PowerLoss { next } else { end };
    }
    promises.judge(&open(&model)?, end).await
}

fn revive(model: &Model, end: End, chance: &mut Chance) -> Model {
    match end {
        End::Kill => model.after_kill(chance.next_u64()),
        End::PowerLoss => model.after_power_loss(chance.next_u64()),
    }
}

/// All ends of one life; how many, and what was wrong.
async fn try_out(seed: u64, faults: &[Fault], wrong: &mut Vec<String>) -> usize {
    let (model, promises) = first_life(seed, faults).await;
    let ends = [End::Kill, End::PowerLoss];
    for (number, end) in ends.into_iter().enumerate() {
        let synced = Rc::new(Synced::clone(&promises.synced));
        let own = Promises { synced, ..promises.clone() };
        let seed_of_end = seed * 10_000 + model.calls() * 2 + number as u64;
        if let Err(what) = judge(&model, own, end, seed_of_end).await {
            wrong.push(format!("seed {seed}, {faults:?}, {end:?}: {what}"));
        }
    }
    ends.len()
}

/// Crashes at every call of lives of these seeds.
fn crash_everywhere(seeds: std::ops::Range<u64>) -> (usize, Vec<String>) {
    let (mut points, mut wrong) = (0, Vec::new());
    block_on(async {
        for seed in seeds {
            let (whole, _) = first_life(seed, &[]).await;
            for call in 1..=whole.calls() {
                points += try_out(seed, &[Fault::FreezeAt(call)], &mut wrong).await;
            }
        }
    });
    (points, wrong)
}

#[test]
fn a_crash_at_any_call_breaks_no_promise() {
    let parts: Vec<_> = (0..4u64)
        .map(|part| std::thread::spawn(move || crash_everywhere(part * 20..part * 20 + 15)))
        .collect();
    let mut points = 0;
    for part in parts {
        let (looked_at, wrong) = part.join().expect("no life panics");
        assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong[0]);
        points += looked_at;
    }
    assert!(points >= 10_000, "{points} points");
}

#[test]
fn a_sync_that_is_left_out_is_found_in_the_staging_area() {
    let mut wrong = Vec::new();
    let mut points = 0;
    block_on(async {
        for seed in 500..510 {
            let (whole, _) = first_life(seed, &[]).await;
            for sync in 1..=whole.syncs() {
                points += try_out(seed, &[Fault::LeaveOutSync(sync)], &mut wrong).await;
            }
        }
    });
    assert!(wrong.len() > 3, "{} of {points} points", wrong.len());
}

#[test]
fn a_note_is_on_the_disk_only_when_its_blocks_are() {
    block_on(async {
        let mut frozen = 0;
        loop {
            let model = Model::new(1);
            let area = open(&model).expect("nothing is there");
            let size = LOG_BLOCK_BYTES_MAX + 1;
            let (key, pages) = (key(1, size), [Page::from_vec(bytes(1, size))]);
            let block = NewBlock { key, tier: 0, group: 0, kept_ms: None, pages: &pages };
            area.keep(block).await.unwrap();
            area.note(1, b"of block 1").unwrap();
            model.fault(Fault::FreezeAt(model.calls() + 1 + frozen));
            let synced = area.sync().await;
            let (folder, mark) = area.held.lock().notes[&1];
            let noted = area.held.folders[folder].has_record(mark);
            let local = area.standing(&key) == Some(Standing::Local);
            assert!(local || !noted, "frozen after {frozen} calls");
            if !model.is_frozen() {
                assert!(synced.is_ok() && noted);
                break;
            }
            frozen += 1;
        }
        assert!(frozen > 3, "{frozen} calls");
    });
}
