//! Whose turn it is to be uploaded.
//!
//! Owns the order: those that somebody waits for, then failed ones whose time has come, then those
//! past `--upload-deadline`, then the groups in turn, of each the oldest. Groups share a fixed number of
//! lanes by their number, so that one huge file holds up few others and the table needs no room for
//! each. Pure: the clock comes in with each question, the links are in the slots of `index`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::config::UploadHours;
use super::index::{Index, LANES, NONE, Slot, Stand};

/// First wait after a failure, doubled with each, ms.
const BACKOFF_MS: u64 = 1000;
/// Longest wait after a failure, ms: JuiceFS tries again each minute.
const BACKOFF_MAX_MS: u64 = 60_000;
/// So many failures in a row are a store that is away: fresh blocks go one at a time from then on.
const FRUITLESS_MAX: u32 = 64;
/// How long until the next of those, ms.
const PROBE_MS: u64 = 1000;

/// What a user decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Least age.
    pub(super) delay_ms: u64,
    /// Age from which on a block goes first; 0 for never.
    pub(super) deadline_ms: u64,
    /// Hours of uploads.
    pub(super) hours: Option<UploadHours>,
}

impl Rules {
    pub(super) fn new(delay: Duration, deadline: Duration, hours: Option<UploadHours>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { delay_ms: ms(delay), deadline_ms: ms(deadline), hours }
    }
}

impl UploadHours {
    /// Whether an hour of the day belongs to it, by JuiceFS's rule.
    pub(super) fn holds(self, hour: u32) -> bool {
        let Self { from, to } = self;
        match from.cmp(&to) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => (from..to).contains(&hour),
            std::cmp::Ordering::Greater => hour >= from || hour < to,
        }
    }
}

/// The moment of a question.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// Wall clock, ms since 1970.
    pub(super) wall_ms: u64,
    /// A clock that never steps, ms.
    pub(super) steady_ms: u64,
    /// Hour of the local day.
    pub(super) hour: u32,
    /// The disk is nearly full: no delay.
    pub(super) pressed: bool,
    /// Writers wait for room: neither delay nor hours.
    pub(super) starved: bool,
}

/// First and last of a list of slots.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };

    fn push(&mut self, index: &mut Index, at: u32) {
        let slot = index.get_mut(at);
        (slot.before, slot.next) = (self.last, NONE);
        match self.last {
            NONE => self.first = at,
            last => index.get_mut(last).next = at,
        }
        self.last = at;
    }

    fn unlink(&mut self, index: &mut Index, at: u32) {
        let (before, next) = (index.get(at).before, index.get(at).next);
        match before {
            NONE => self.first = next,
            before => index.get_mut(before).next = next,
        }
        match next {
            NONE => self.last = before,
            next => index.get_mut(next).before = before,
        }
    }
}

/// Of a block whose upload failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) failures: u32,
    pub(super) reason: Arc<str>,
    /// On the steady clock.
    pub(super) retry_ms: u64,
}

/// The order of uploads.
pub(super) struct Queue {
    rules: Rules,
    urgent: List,
    lanes: [List; LANES],
    /// The lane whose turn is next.
    turn: usize,
    /// All that failed, also those in hand again.
    failures: HashMap<u32, Failure, RandomState>,
    /// Those that wait, by the time of their retry.
    retries: BTreeSet<(u64, u32)>,
    /// No waiting block is older.
    oldest_ms: u64,
    fruitless: u32,
    probe_ms: u64,
}

impl Queue {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            urgent: List::EMPTY,
            lanes: [List::EMPTY; LANES],
            turn: 0,
            failures: HashMap::default(),
            retries: BTreeSet::new(),
            oldest_ms: u64::MAX,
            fruitless: 0,
            probe_ms: 0,
        }
    }

    /// A block came in.
    pub(super) fn push(&mut self, index: &mut Index, at: u32) {
        self.oldest_ms = self.oldest_ms.min(index.get(at).kept_ms);
        let lane = index.get(at).lane();
        index.get_mut(at).set_stand(Stand::Waiting);
        self.lanes[lane].push(index, at);
    }

    /// The block whose turn it is; it is in hand then.
    pub(super) fn take(&mut self, index: &mut Index, now: &Now) -> Option<u32> {
        let at = self.choose(index, now)?;
        self.unlink(index, at);
        index.get_mut(at).set_stand(Stand::Flying);
        Some(at)
    }

    /// A block leaves, whether in a list or in hand.
    pub(super) fn leave(&mut self, index: &mut Index, at: u32) {
        self.unlink(index, at);
        self.failures.remove(&at);
    }

    /// A block in hand is in the store.
    pub(super) fn stored(&mut self) {
        self.fruitless = 0;
    }

    /// The upload of a block in hand failed.
    pub(super) fn failed(&mut self, index: &mut Index, at: u32, reason: &str, now: &Now) {
        assert!(index.get(at).stand() == Stand::Flying, "it was in hand");
        let same = self.failures.values().next().map(|failure| &failure.reason);
        let reason =
            same.filter(|known| ***known == *reason).cloned().unwrap_or_else(|| reason.into());
        let failures = self.failures.get(&at).map_or(0, |failure| failure.failures) + 1;
        let wait_ms = (BACKOFF_MS << (failures - 1).min(16)).min(BACKOFF_MAX_MS);
        let retry_ms = now.steady_ms + wait_ms;
        self.failures.insert(at, Failure { failures, reason, retry_ms });
        self.retries.insert((retry_ms, at));
        index.get_mut(at).set_stand(Stand::Failed);
        self.fruitless = self.fruitless.saturating_add(1);
        self.probe_ms = now.steady_ms + PROBE_MS;
    }

    /// Somebody waits for a block.
    pub(super) fn hurry(&mut self, index: &mut Index, at: u32) {
        index.get_mut(at).set_hurried();
        if index.get(at).stand() == Stand::Waiting {
            self.unlink(index, at);
            index.get_mut(at).set_stand(Stand::Urgent);
            self.urgent.push(index, at);
        }
    }

    /// Somebody waits for all that is here.
    pub(super) fn hurry_all(&mut self, index: &mut Index) {
        let all: Vec<u32> = index.iter().map(|(at, _)| at).collect();
        all.into_iter().for_each(|at| index.get_mut(at).set_hurried());
    }

    /// Try all failed ones again now; how many.
    pub(super) fn retry(&mut self, now: &Now) -> usize {
        let waiting = std::mem::take(&mut self.retries);
        self.retries = waiting.iter().map(|(_, at)| (now.steady_ms, *at)).collect();
        for (_, at) in &waiting {
            self.failure_mut(*at).retry_ms = now.steady_ms;
        }
        self.fruitless = 0;
        waiting.len()
    }

    /// How often the upload of a block failed.
    pub(super) fn failures(&self, at: u32) -> u32 {
        self.failures.get(&at).map_or(0, |failure| failure.failures)
    }

    /// Those that wait to be tried again.
    pub(super) fn waiting_retries(&self) -> impl Iterator<Item = (u32, &Failure)> {
        self.retries.iter().map(|(_, at)| (*at, &self.failures[at]))
    }

    /// Whether a block that comes now may be uploaded at once.
    pub(super) fn goes_at_once(&self, now: &Now) -> bool {
        self.is_open(now) && (self.rules.delay_ms == 0 || now.pressed || now.starved)
    }

    /// Whether a block of this age is past its deadline.
    pub(super) fn is_late(&self, kept_ms: u64, now: &Now) -> bool {
        self.rules.deadline_ms > 0 && kept_ms.saturating_add(self.rules.deadline_ms) <= now.wall_ms
    }

    fn choose(&mut self, index: &mut Index, now: &Now) -> Option<u32> {
        if self.urgent.first != NONE {
            return Some(self.urgent.first);
        }
        let open = self.is_open(now);
        let due = self.retries.range(..=(now.steady_ms, u32::MAX));
        let due = due.map(|(_, at)| *at).find(|at| open || index.get(*at).is_hurried());
        if due.is_some() {
            return due;
        }
        if self.fruitless >= FRUITLESS_MAX && now.steady_ms < self.probe_ms {
            return None;
        }
        let fresh = self.late(index, now, open).or_else(|| self.in_turn(index, now, open));
        if fresh.is_some() {
            self.probe_ms = now.steady_ms + PROBE_MS;
        }
        fresh
    }

    /// The oldest block, if it is past its deadline.
    fn late(&mut self, index: &mut Index, now: &Now, open: bool) -> Option<u32> {
        if !open || !self.is_late(self.oldest_ms, now) {
            return None;
        }
        let heads = self.lanes.iter().filter(|lane| lane.first != NONE);
        let oldest = heads.map(|lane| (index.get(lane.first).kept_ms, lane.first)).min();
        self.oldest_ms = oldest.map_or(u64::MAX, |(kept_ms, _)| kept_ms);
        oldest.filter(|(kept_ms, _)| self.is_late(*kept_ms, now)).map(|(_, at)| at)
    }

    /// The oldest block of the next lane that has one that may go.
    fn in_turn(&mut self, index: &mut Index, now: &Now, open: bool) -> Option<u32> {
        for step in 0..LANES {
            let lane = (self.turn + step) % LANES;
            let first = self.lanes[lane].first;
            if first == NONE {
                continue;
            }
            let slot = index.get_mut(first);
            // The clock was set back: its age counts from now on, not from a time to come.
            slot.kept_ms = slot.kept_ms.min(now.wall_ms);
            if self.may_go(index.get(first), now, open) {
                self.turn = (lane + 1) % LANES;
                return Some(first);
            }
        }
        None
    }

    fn may_go(&self, slot: &Slot, now: &Now, open: bool) -> bool {
        let aged = slot.kept_ms.saturating_add(self.rules.delay_ms) <= now.wall_ms;
        slot.is_hurried() || now.starved || open && (aged || now.pressed)
    }

    fn is_open(&self, now: &Now) -> bool {
        now.starved || self.rules.hours.is_none_or(|hours| hours.holds(now.hour))
    }

    fn unlink(&mut self, index: &mut Index, at: u32) {
        match index.get(at).stand() {
            Stand::Waiting => {
                let lane = index.get(at).lane();
                self.lanes[lane].unlink(index, at);
            }
            Stand::Urgent => self.urgent.unlink(index, at),
            Stand::Failed => {
                let retry_ms = self.failure_mut(at).retry_ms;
                self.retries.remove(&(retry_ms, at));
            }
            Stand::Flying => {}
        }
    }

    fn failure_mut(&mut self, at: u32) -> &mut Failure {
        self.failures.get_mut(&at).expect("a failed block has its failure")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::object::BlockKey;
    use crate::stage::staging::index::{Home, Kept};
    use proptest::prelude::*;

    struct Bench {
        index: Index,
        queue: Queue,
        now: Now,
    }

    fn bench(delay_ms: u64, deadline_ms: u64, hours: Option<(u32, u32)>) -> Bench {
        let hours = hours.map(|(from, to)| UploadHours { from, to });
        let queue = Queue::new(Rules { delay_ms, deadline_ms, hours });
        let now = Now { wall_ms: 1_000_000, hour: 12, ..Now::default() };
        Bench { index: Index::new(), queue, now }
    }

    impl Bench {
        fn keep(&mut self, id: u64, group: u64) -> u32 {
            let key = BlockKey { id, index: 0, size: 1 };
            let kept_ms = self.now.wall_ms;
            let kept = Kept { key, tier: 0, group, kept_ms, home: Home::File(0), mark: 0 };
            let at = self.index.insert(&kept);
            self.queue.push(&mut self.index, at);
            at
        }

        fn take(&mut self) -> Option<u64> {
            let at = self.queue.take(&mut self.index, &self.now)?;
            Some(self.index.get(at).key().id)
        }

        fn find(&self, id: u64) -> u32 {
            self.index.find(&BlockKey { id, index: 0, size: 1 }).unwrap()
        }

        fn fail(&mut self, id: u64) {
            let at = self.find(id);
            self.queue.failed(&mut self.index, at, "away", &self.now);
        }

        fn pass(&mut self, ms: u64) {
            self.now.wall_ms += ms;
            self.now.steady_ms += ms;
        }
    }

    #[test]
    fn a_huge_file_does_not_starve_others() {
        let mut bench = bench(0, 0, None);
        for id in 1..=1000 {
            bench.keep(id, 7);
        }
        for id in 2001..=2003 {
            bench.keep(id, id);
        }
        let first: Vec<u64> = (0..6).map(|_| bench.take().unwrap()).collect();
        for id in [1, 2001, 2002, 2003] {
            assert!(first.contains(&id), "{id} in {first:?}");
        }
        assert!(first.iter().filter(|id| **id <= 1000).is_sorted());
    }

    #[test]
    fn waited_for_goes_before_late_and_late_before_the_rest() {
        let mut bench = bench(0, 100, None);
        bench.keep(1, 1);
        bench.pass(50);
        bench.keep(2, 2);
        bench.pass(60);
        bench.keep(3, 3);
        let at = bench.find(3);
        bench.queue.hurry(&mut bench.index, at);
        bench.queue.turn = 2;
        assert_eq!((bench.take(), bench.take()), (Some(3), Some(1)));
        assert_eq!((bench.take(), bench.take()), (Some(2), None));
    }

    #[test]
    fn a_delay_is_waited_for_unless_somebody_waits() {
        let mut bench = bench(1000, 0, None);
        bench.keep(1, 1);
        bench.keep(2, 2);
        assert_eq!((bench.take(), bench.queue.goes_at_once(&bench.now)), (None, false));
        let at = bench.find(2);
        bench.queue.hurry(&mut bench.index, at);
        assert_eq!((bench.take(), bench.take()), (Some(2), None));
        bench.pass(1000);
        assert_eq!(bench.take(), Some(1));
        for id in 3..6 {
            bench.keep(id, id);
        }
        bench.now.pressed = true;
        assert_eq!(bench.take(), Some(3));
        bench.now.pressed = false;
        assert_eq!(bench.take(), None);
        bench.queue.hurry_all(&mut bench.index);
        bench.keep(9, 9);
        assert_eq!((bench.take(), bench.take(), bench.take()), (Some(4), Some(5), None));
    }

    #[test]
    fn a_clock_that_is_set_back_costs_one_delay() {
        let mut bench = bench(1000, 0, None);
        bench.keep(1, 1);
        bench.now.wall_ms -= 500_000;
        assert_eq!(bench.take(), None);
        bench.pass(999);
        assert_eq!(bench.take(), None);
        bench.pass(1);
        assert_eq!(bench.take(), Some(1));
    }

    #[test]
    fn hours_are_those_of_the_official_client() {
        let holds = |from, to, hour| UploadHours { from, to }.holds(hour);
        assert!(holds(1, 5, 1) && holds(1, 5, 4) && !holds(1, 5, 5) && !holds(1, 5, 0));
        assert!(holds(22, 6, 23) && holds(22, 6, 5) && !holds(22, 6, 6) && !holds(22, 6, 21));
        assert!((0..24).all(|hour| holds(3, 3, hour)));
        let mut bench = bench(0, 10, Some((1, 5)));
        bench.keep(1, 1);
        bench.pass(1000);
        bench.now.pressed = true;
        assert_eq!((bench.take(), bench.queue.goes_at_once(&bench.now)), (None, false));
        bench.now.hour = 4;
        assert_eq!(bench.take(), Some(1));
        bench.now.hour = 5;
        bench.keep(2, 2);
        assert_eq!(bench.take(), None);
        bench.now.starved = true;
        assert_eq!(bench.take(), Some(2), "who waits for room waits for no hour");
    }

    #[test]
    fn failed_ones_wait_longer_each_time_and_are_listed() {
        let mut bench = bench(0, 0, None);
        bench.keep(1, 1);
        for (failures, wait_ms) in [(1, 1000), (2, 2000), (3, 4000)] {
            assert_eq!(bench.take(), Some(1));
            bench.fail(1);
            let (at, failure) = bench.queue.waiting_retries().next().unwrap();
            assert_eq!((at, failure.failures, &*failure.reason), (bench.find(1), failures, "away"));
            bench.pass(wait_ms - 1);
            assert_eq!(bench.take(), None);
            bench.pass(1);
        }
        assert_eq!((bench.take(), bench.queue.waiting_retries().count()), (Some(1), 0));
        bench.fail(1);
        assert_eq!((bench.queue.retry(&bench.now), bench.take()), (1, Some(1)));
        let at = bench.find(1);
        bench.queue.leave(&mut bench.index, at);
        assert_eq!(bench.queue.failures(at), 0);
    }

    #[test]
    fn a_store_that_is_away_is_asked_once_a_second() {
        let mut bench = bench(0, 0, None);
        for id in 1..=200 {
            bench.keep(id, id);
        }
        for _ in 0..FRUITLESS_MAX {
            let id = bench.take().unwrap();
            bench.fail(id);
        }
        assert_eq!(bench.take(), None);
        let before = bench.queue.retries.len();
        bench.pass(PROBE_MS);
        while bench.queue.retries.iter().any(|(at, _)| *at <= bench.now.steady_ms) {
            let id = bench.take().unwrap();
            bench.fail(id);
        }
        assert_eq!((bench.take(), bench.queue.retries.len()), (None, before));
        bench.pass(PROBE_MS);
        let probe = bench.take().unwrap();
        assert_eq!(bench.take(), None);
        let at = bench.find(probe);
        bench.queue.leave(&mut bench.index, at);
        bench.queue.stored();
        assert!(bench.take().is_some() && bench.take().is_some());
    }

    proptest! {
        /// Against a plain list: nothing twice in hand, nothing lost, order within a lane.
        #[test]
        fn each_block_is_in_one_hand_at_a_time(
            steps in prop::collection::vec((0u8..8, 1u64..30, 0u64..5), 0..300),
        ) {
            let mut bench = bench(50, 400, None);
            let mut waits = BTreeMap::<u64, u64>::new();
            let mut flies = BTreeMap::<u64, u64>::new();
            for (step, id, group) in steps {
                bench.pass(10);
                let known = waits.contains_key(&id) || flies.contains_key(&id);
                match step {
                    0..=2 if !known => {
                        bench.keep(id, group);
                        waits.insert(id, group);
                    }
                    3 => if let Some(id) = bench.take() {
                        let group = waits.remove(&id);
                        prop_assert!(group.is_some(), "{} was not waiting", id);
                        flies.insert(id, group.unwrap());
                    },
                    4 if flies.contains_key(&id) => {
                        bench.fail(id);
                        waits.insert(id, flies.remove(&id).unwrap());
                    }
                    5 if known => {
                        let at = bench.find(id);
                        bench.queue.leave(&mut bench.index, at);
                        bench.index.remove(at);
                        waits.remove(&id);
                        flies.remove(&id);
                    }
                    6 if known => {
                        let at = bench.find(id);
                        bench.queue.hurry(&mut bench.index, at);
                    }
                    7 => drop(bench.queue.retry(&bench.now)),
                    _ => {}
                }
            }
            bench.pass(BACKOFF_MAX_MS);
            let mut seen = Vec::new();
            while let Some(id) = bench.take() {
                seen.push(id);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, waits.into_keys().collect::<Vec<_>>());
        }
    }
}
