//! A store that becomes another one while it is used: the setting of its volume names another bucket, or
//! other keys.
//!
//! Owns the moment: a request that has begun ends at the store where it began, the next one goes to the new
//! store. Patience belongs above it, so that a request that is tried again goes where the objects are then.
//! What a store is opened from is the caller's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;

/// What the stores of all cores are opened from now.
pub struct Current<T>(Mutex<Arc<T>>);

impl<T> Current<T> {
    /// From this at first.
    pub fn new(first: T) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(first))))
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From this from now on.
    pub fn replace(&self, next: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// The decorator, of one core.
pub struct Following<T, F> {
    current: Arc<Current<T>>,
    open: F,
    opened: RefCell<(Arc<T>, Rc<dyn Store>)>,
}

impl<T, F: Fn(&T) -> Box<dyn Store>> Following<T, F> {
    /// What `open` makes of whatever is current.
    pub fn new(current: Arc<Current<T>>, open: F) -> Self {
        let from = current.get();
        let store = Rc::from(open(&from));
        Self { current, open, opened: RefCell::new((from, store)) }
    }

    fn store(&self) -> Rc<dyn Store> {
        let (now, mut opened) = (self.current.get(), self.opened.borrow_mut());
        if !Arc::ptr_eq(&now, &opened.0) {
            *opened = (Arc::clone(&now), Rc::from((self.open)(&now)));
        }
        Rc::clone(&opened.1)
    }
}

impl<T, F: Fn(&T) -> Box<dyn Store>> Store for Following<T, F> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let store = self.store();
        Box::pin(async move { store.put(key, body).await })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        let store = self.store();
        Box::pin(async move { store.get(key, offset, into).await })
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        let store = self.store();
        Box::pin(async move { store.delete(key).await })
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        let store = self.store();
        Box::pin(async move { store.list(prefix, start_after, limit).await })
    }

    fn describe(&self) -> String {
        self.store().describe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::{Faults, Faulty, Retried, mem};
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    fn open(name: &&'static str) -> Box<dyn Store> {
        Box::new(mem::open(name))
    }

    #[test]
    fn conforms() {
        check(&Following::new(Current::new("following-conforms"), open));
    }

    #[test]
    fn the_next_request_goes_to_the_new_store_and_so_does_the_next_try() {
        let pool = Pool::new(4 * PAGE_BYTES);
        let (old, new) = ("following-old", "following-new");
        let current = Current::new(old);
        let always = Faults { unreached: 1000, ..Faults::default() };
        let open = move |name: &&'static str| -> Box<dyn Store> {
            let faults = if *name == old { always } else { Faults::default() };
            Box::new(Faulty::new(mem::open(name), 1, faults))
        };
        let store = Retried::new(Following::new(Arc::clone(&current), open), 10);
        block_on(async {
            let put = store.put("a".into(), body(&pool, b"x"));
            let moved = async {
                crate::uring::sleep(std::time::Duration::from_millis(20)).await;
                current.replace(new);
            };
            let (put, ()) = futures_util::future::join(put, moved).await;
            put.unwrap();
            let listed = mem::open(new).list(String::new(), String::new(), 10).await.unwrap();
            assert_eq!(listed.len(), 1, "it was tried again where the objects are now");
            assert!(
                mem::open(old).list(String::new(), String::new(), 10).await.unwrap().is_empty()
            );
        });
        assert!(store.describe().contains(new), "{}", store.describe());
    }
}
