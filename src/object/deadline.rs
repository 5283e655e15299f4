//! A limit on how long one request may take (`--get-timeout`, `--put-timeout`).
//!
//! Owns the clock of one try, which is for a block: a body of many blocks has the time of each. What is given
//! up may still happen in the store. Waiting for a turn or for the rate lies before it, so that a queue makes
//! no request late.

use std::time::Duration;

use super::{Local, ObjectInfo, Store, StoreError};
use crate::limits::SEALED_BYTES_MAX;
use crate::pages::Page;
use crate::uring;

/// The decorator.
pub struct Deadline<S> {
    inner: S,
    get: Duration,
    put: Duration,
}

impl<S: Store> Deadline<S> {
    /// `inner`, whose gets and listings end within `get`, puts and deletions within `put`.
    pub fn new(inner: S, get: Duration, put: Duration) -> Self {
        Self { inner, get, put }
    }
}

/// Named by the option that sets it.
const GET: &str = "--get-timeout";
const PUT: &str = "--put-timeout";

/// The limit for a body of so many bytes, if `limit` is that for a block.
fn limit_for(limit: Duration, bytes: usize) -> Duration {
    limit.saturating_mul(bytes.div_ceil(SEALED_BYTES_MAX).max(1) as u32)
}

async fn within<T>(
    limit: Duration,
    option: &str,
    request: Local<'_, Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match uring::timeout(limit, request).await {
        Ok(answer) => answer,
        Err(_) => {
            let seconds = limit.as_secs_f64();
            Err(StoreError::Unavailable(format!("no answer within {seconds} s ({option})")))
        }
    }
}

impl<S: Store> Store for Deadline<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        let limit = limit_for(self.put, body.iter().map(|page| page.len()).sum());
        Box::pin(within(limit, PUT, self.inner.put(key, body)))
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(within(self.get, GET, self.inner.get(key, offset, into)))
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        Box::pin(within(self.put, PUT, self.inner.delete(key)))
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        Box::pin(within(self.get, GET, self.inner.list(prefix, start_after, limit)))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::{Faults, Faulty, mem};
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    #[test]
    fn conforms() {
        let minute = Duration::from_secs(60);
        check(&Deadline::new(mem::open("deadline-conforms"), minute, minute));
    }

    #[test]
    fn each_kind_of_request_has_its_limit() {
        let pool = Pool::new(PAGE_BYTES);
        let slow = Faults { delay_max: Duration::from_secs(600), ..Faults::default() };
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(600));
        let faulty = || Faulty::new(mem::open("deadline-kinds"), 7, slow);
        let gets = Deadline::new(faulty(), short, long);
        let late = block_on(gets.get("a".into(), 0, vec![0; 1])).unwrap_err();
        assert!(
            matches!(&late, StoreError::Unavailable(text) if text.contains("0.005 s (--get-timeout)")),
            "{late}"
        );
        assert!(block_on(gets.list(String::new(), String::new(), 1)).is_err());
        let puts = Deadline::new(faulty(), long, short);
        let late = block_on(puts.put("a".into(), body(&pool, b"x"))).unwrap_err().to_string();
        assert!(late.contains("0.005 s (--put-timeout)"), "{late}");
        let many = vec![Page::from_vec(vec![0; SEALED_BYTES_MAX]); 3];
        let late = block_on(puts.put("a".into(), many)).unwrap_err().to_string();
        assert!(late.contains("0.015 s"), "three blocks have the time of three: {late}");
        assert!(block_on(puts.delete("a".into())).is_err());
        assert_eq!(pool.used_pages(), 0);
    }
}
