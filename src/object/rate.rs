//! So many bytes a second (`--upload-limit`, `--download-limit`).
//!
//! Owns the token bucket, shared by all cores of a mount. As JuiceFS it fills with 85 % of the
//! asked rate, what heads and repetitions take besides, and holds a tenth of a second of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Local, ObjectInfo, Store, StoreError};
use crate::pages::Page;
use crate::stdx::monotonic_ns;
use crate::uring;

/// Share of the asked rate that bodies get.
const BODIES: f64 = 0.85;
/// Seconds of the rate that may be saved up.
const SAVED_S: f64 = 0.1;

/// A rate in one direction.
pub struct Rate {
    bytes_per_ns: f64,
    saved_bytes: f64,
    state: Mutex<State>,
}

struct State {
    /// Negative when those who were let through have still to be paid for.
    tokens: f64,
    at_ns: u64,
}

impl Rate {
    /// A rate as people say it, in megabits a second.
    pub fn of_mbps(mbps: u64) -> Arc<Self> {
        assert!(mbps > 0, "no rate is no limit");
        let bytes_per_s = mbps as f64 * 1e6 / 8.0;
        Arc::new(Self {
            bytes_per_ns: bytes_per_s * BODIES / 1e9,
            saved_bytes: bytes_per_s * SAVED_S,
            state: Mutex::new(State { tokens: bytes_per_s * SAVED_S, at_ns: monotonic_ns() }),
        })
    }

    /// Take `bytes` at `now_ns`; how long to wait before they may go. Who comes later waits
    /// longer, so that large ones are not overtaken for ever.
    fn take(&self, bytes: usize, now_ns: u64) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ns = now_ns.saturating_sub(state.at_ns) as f64;
        state.at_ns = state.at_ns.max(now_ns);
        state.tokens = (state.tokens + passed_ns * self.bytes_per_ns).min(self.saved_bytes);
        state.tokens -= bytes as f64;
        Duration::from_nanos((-state.tokens / self.bytes_per_ns).max(0.0) as u64)
    }

    async fn wait(&self, bytes: usize) {
        let pause = self.take(bytes, monotonic_ns());
        if !pause.is_zero() {
            uring::sleep(pause).await;
        }
    }
}

/// The decorator.
pub struct Rated<S> {
    inner: S,
    up: Option<Arc<Rate>>,
    down: Option<Arc<Rate>>,
}

impl<S: Store> Rated<S> {
    /// `inner`, with bodies put at rate `up` and got at rate `down`; `None` for no limit.
    pub fn new(inner: S, up: Option<Arc<Rate>>, down: Option<Arc<Rate>>) -> Self {
        Self { inner, up, down }
    }
}

impl<S: Store> Store for Rated<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if let Some(rate) = &self.up {
                rate.wait(body.iter().map(|page| page.len()).sum()).await;
            }
            self.inner.put(key, body).await
        })
    }

    fn get(
        &self,
        key: String,
        offset: u64,
        into: Vec<u8>,
    ) -> Local<'_, Result<(Vec<u8>, usize), StoreError>> {
        Box::pin(async move {
            let got = self.inner.get(key, offset, into).await?;
            // Only now it is known how much it was; the next ones wait for it.
            if let Some(rate) = &self.down {
                rate.wait(got.1).await;
            }
            Ok(got)
        })
    }

    fn delete(&self, key: String) -> Local<'_, Result<(), StoreError>> {
        self.inner.delete(key)
    }

    fn list(
        &self,
        prefix: String,
        start_after: String,
        limit: usize,
    ) -> Local<'_, Result<Vec<ObjectInfo>, StoreError>> {
        self.inner.list(prefix, start_after, limit)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{body, check};
    use super::super::mem;
    use super::*;
    use crate::pages::{PAGE_BYTES, Pool};
    use crate::uring::block_on;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn conforms() {
        let fast = || Some(Rate::of_mbps(100_000));
        check(&Rated::new(mem::open("rate-conforms"), fast(), fast()));
        check(&Rated::new(mem::open("rate-none"), None, None));
    }

    #[test]
    fn bytes_go_at_the_rate_whoever_takes_them() {
        // 8 Mbps are a million bytes a second, of which bodies get 850,000.
        let rate = Rate::of_mbps(8);
        let begin = monotonic_ns() + SECOND_NS;
        assert_eq!(rate.take(100_000, begin), Duration::ZERO, "what was saved up goes at once");
        assert_eq!(rate.take(425_000, begin), Duration::from_millis(500));
        assert_eq!(rate.take(425_000, begin), Duration::from_secs(1));
        assert_eq!(rate.take(0, begin + SECOND_NS), Duration::ZERO);
        let later = rate.take(525_000, begin + 60 * SECOND_NS);
        assert_eq!(later, Duration::from_millis(500), "no more than a tenth of a second is saved");
    }

    #[test]
    fn puts_and_gets_take_their_time() {
        let pool = Pool::new(8 * PAGE_BYTES);
        let bytes = vec![7; 300_000];
        // 80 Mbps: saved are 1,000,000 bytes, then 8.5 bytes a microsecond.
        let store =
            Rated::new(mem::open("rate-time"), Some(Rate::of_mbps(80)), Some(Rate::of_mbps(80)));
        block_on(async {
            let began = monotonic_ns();
            for _ in 0..5 {
                store.put("a".into(), body(&pool, &bytes)).await.unwrap();
            }
            let put_ms = (monotonic_ns() - began) / 1_000_000;
            assert!(put_ms >= 55, "500,000 bytes beyond what was saved: {put_ms} ms");
            let began = monotonic_ns();
            for _ in 0..5 {
                store.get("a".into(), 0, vec![0; 300_000]).await.unwrap();
            }
            let got_ms = (monotonic_ns() - began) / 1_000_000;
            assert!(got_ms >= 55, "and down: {got_ms} ms");
        });
    }
}
