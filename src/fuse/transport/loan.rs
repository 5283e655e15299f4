//! Lends part of a transport's buffer to a request and knows when it has come back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::pages::Region;

/// Where lent memory comes back to; one request borrows at a time.
#[derive(Clone, Default)]
pub(super) struct Home(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    lent: bool,
    waiting: Option<Waker>,
}

impl Home {
    /// Lend `range` of `region`.
    pub(super) fn lend(&self, region: &Rc<Region>, range: Range<usize>) -> Loan {
        assert!(range.end <= region.len(), "a loan lies inside its buffer");
        let lent_before = std::mem::replace(&mut self.0.borrow_mut().lent, true);
        assert!(!lent_before, "one request borrows at a time");
        Loan { region: Some(Rc::clone(region)), range, home: self.clone() }
    }

    /// Whether something is out now.
    pub(super) fn is_lent(&self) -> bool {
        self.0.borrow().lent
    }

    /// Wait until nothing is lent.
    pub(super) async fn returned(&self) {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if !state.lent {
                return Poll::Ready(());
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Lent bytes; dropping them gives them back.
pub(super) struct Loan {
    region: Option<Rc<Region>>,
    range: Range<usize>,
    home: Home,
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let region = self.region.as_ref().expect("a loan holds its memory until dropped");
        &region[self.range.clone()]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.region = None;
        let waiting = {
            let mut state = self.home.0.borrow_mut();
            state.lent = false;
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::uring::{block_on, sleep, spawn};

    #[test]
    fn the_owner_waits_for_what_it_lent() {
        block_on(async {
            let mut region = Rc::new(Region::map(4096).unwrap());
            let home = Home::default();
            let loan = home.lend(&region, 10..20);
            assert_eq!(loan.len(), 10);
            spawn(async move {
                sleep(Duration::from_millis(5)).await;
                drop(loan);
            });
            home.returned().await;
            assert!(Rc::get_mut(&mut region).is_some());
            home.returned().await;
        });
    }
}
