//! How much memory the payloads of a core's entries hold, and which of it goes back.
//!
//! There is a payload of the largest size for every request that may be in the works, and the
//! system backs what was once touched for good. Owns the count of that while no request is in
//! them, its bound, and the choice of what goes back: what was used longest ago, for the kernel
//! takes the entry that came back last first. A few streams therefore never pay. Does not own
//! payloads; relies on `uring::command` to know when an entry holds nothing.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use crate::uring::command::{Flight, when_quiet};

/// Start of a payload that stays: names, attributes, small reads and writes fit in. Whole pages.
pub(super) const KEPT_BYTES: usize = 16 << 10;

/// What is known of the payload of one entry.
#[derive(Default)]
pub(super) struct Place {
    /// While the entry is the kernel's.
    flight: RefCell<Option<Flight>>,
    /// Backed beyond what stays.
    warm_bytes: Cell<usize>,
    /// Number of the last use that reached beyond it.
    used: Cell<u64>,
}

/// All places of a core.
pub(super) struct Warmth {
    places: Vec<Rc<Place>>,
    most_bytes: usize,
    /// Of places whose entry is the kernel's.
    idle_bytes: Cell<usize>,
    uses: Cell<u64>,
}

impl Warmth {
    /// For `count` entries that may hold `most_bytes` in all while no request is in them.
    pub(super) fn new(count: usize, most_bytes: usize) -> Self {
        let places = (0..count).map(|_| Rc::default()).collect();
        Self { places, most_bytes, idle_bytes: Cell::new(0), uses: Cell::new(0) }
    }

    /// One for each entry.
    pub(super) fn places(&self) -> &[Rc<Place>] {
        &self.places
    }

    /// The payload of an entry at hand is, or is about to be, touched up to `end`.
    pub(super) fn touch(&self, place: &Place, end: usize) {
        if end > KEPT_BYTES {
            self.uses.set(self.uses.get() + 1);
            place.used.set(self.uses.get());
            place.warm_bytes.set(place.warm_bytes.get().max(end - KEPT_BYTES));
        }
    }

    /// Wait for the command that handed an entry to the kernel; meanwhile its payload may be asked
    /// to give memory back.
    pub(super) async fn landing(
        &self,
        place: &Place,
        flight: Flight,
    ) -> <Flight as Future>::Output {
        self.rest(place, flight);
        let landed = poll_fn(|context| {
            let mut flight = place.flight.borrow_mut();
            Pin::new(flight.as_mut().expect("it flies until it lands")).poll(context)
        })
        .await;
        *place.flight.borrow_mut() = None;
        self.idle_bytes.set(self.idle_bytes.get() - place.warm_bytes.get());
        landed
    }

    fn rest(&self, place: &Place, flight: Flight) {
        *place.flight.borrow_mut() = Some(flight);
        self.idle_bytes.set(self.idle_bytes.get() + place.warm_bytes.get());
        if self.idle_bytes.get() > self.most_bytes {
            when_quiet(|quiet| {
                self.cool(|place| {
                    let flight = place.flight.borrow();
                    flight.as_ref().is_some_and(|flight| flight.forget_body(quiet, KEPT_BYTES))
                });
            });
        }
    }

    /// Let go of idle places, those used longest ago first, until an eighth of the bound is free:
    /// so that not every entry beyond the bound comes here. `forget` tells whether it could.
    fn cool(&self, mut forget: impl FnMut(&Place) -> bool) {
        let is_warm =
            |place: &&Rc<Place>| place.warm_bytes.get() > 0 && place.flight.borrow().is_some();
        let mut idle: Vec<_> = self.places.iter().filter(is_warm).collect();
        idle.sort_unstable_by_key(|place| place.used.get());
        for place in idle {
            if self.idle_bytes.get() <= self.most_bytes / 8 * 7 {
                return;
            }
            if forget(place) {
                self.idle_bytes.set(self.idle_bytes.get() - place.warm_bytes.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::block_on;
    use crate::uring::command::{Envelope, null_command};

    const MIB: usize = 1 << 20;

    #[test]
    fn the_coldest_idle_payloads_go_until_there_is_room() {
        block_on(async {
            let mut warmth = Warmth::new(6, 8 * MIB);
            for place in warmth.places() {
                warmth.touch(place, MIB + KEPT_BYTES);
            }
            // A smaller use makes it younger, not larger.
            warmth.touch(&warmth.places()[0], 10 * KEPT_BYTES);
            let null = std::fs::File::open("/dev/null").unwrap();
            // The second one is in use.
            for (at, place) in warmth.places().iter().enumerate().filter(|(at, _)| *at != 1) {
                let envelope = Envelope::new(16, 2 * MIB).unwrap();
                warmth.rest(place, null_command(&null, envelope));
                assert!(warmth.idle_bytes.get() <= (at + 1) * MIB);
            }
            assert_eq!(warmth.idle_bytes.get(), 5 * MIB);
            warmth.most_bytes = 4 * MIB;
            let mut asked = Vec::new();
            warmth.cool(|place| {
                let at = warmth.places().iter().position(|each| std::ptr::eq(&**each, place));
                asked.extend(at);
                // The command of the third one has come back meanwhile.
                at != Some(2)
            });
            assert_eq!(asked, [2, 3, 4]);
            assert_eq!(warmth.idle_bytes.get(), 3 * MIB);
        });
    }

    #[test]
    fn a_landed_command_takes_its_payload_along() {
        block_on(async {
            let warmth = Warmth::new(1, 7 * MIB);
            let place = &warmth.places()[0];
            warmth.touch(place, KEPT_BYTES);
            assert_eq!((place.warm_bytes.get(), place.used.get()), (0, 0), "small ones stay");
            warmth.touch(place, 2 * KEPT_BYTES);
            let null = std::fs::File::open("/dev/null").unwrap();
            let envelope = Envelope::new(16, 2 * MIB).unwrap();
            let (_, envelope) = warmth.landing(place, null_command(&null, envelope)).await;
            assert!(envelope.body().len() == 2 * MIB && place.flight.borrow().is_none());
            assert_eq!((warmth.idle_bytes.get(), place.warm_bytes.get()), (0, KEPT_BYTES));
        });
    }
}
