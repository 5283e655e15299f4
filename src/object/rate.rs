//! So many bytes a second (`--upload-limit`, `--download-limit`).
//!
//! Owns the token bucket, shared by all cores of a mount; its rate may change at any time. As JuiceFS it fills with 85 % of the
//! asked rate, what heads and repetitions take besides, and holds a tenth of a second of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Local, ObjectInfo, Store, StoreError};
use crate::limits::SEALED_BYTES_MAX;
use crate::pages::Page;
use crate::stdx::monotonic_ns;
use crate::uring;

/// Share of the asked rate that bodies get.
const BODIES: f64 = 0.85;
/// Bytes for which one waits at a time: who has more, such as a backup of metadata, lets others go between.
const PIECE_BYTES: usize = SEALED_BYTES_MAX;
/// Seconds of the rate that may be saved up.
const SAVED_S: f64 = 0.1;

/// A rate in one direction, or none.
pub struct Rate(Mutex<State>);

struct State {
    /// Zero for no limit.
    bytes_per_s: f64,
    /// Negative when those who were let through have still to be paid for.
    tokens: f64,
    at_ns: u64,
}

impl Rate {
    /// A rate as people say it, in megabits a second; 0 for no limit.
    pub fn of_mbps(mbps: u64) -> Arc<Self> {
        let rate = Self(Mutex::new(State { bytes_per_s: 0.0, tokens: 0.0, at_ns: 0 }));
        rate.set_mbps(mbps);
        Arc::new(rate)
    }

    /// This rate from now on, for who comes next.
    pub fn set_mbps(&self, mbps: u64) {
        let bytes_per_s = mbps as f64 * 1e6 / 8.0;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes_per_s != bytes_per_s {
            *state = State { bytes_per_s, tokens: bytes_per_s * SAVED_S, at_ns: monotonic_ns() };
        }
    }

    /// Take `bytes` at `now_ns`; how long to wait before they may go. Who comes later waits
    /// longer, so that large ones are not overtaken for ever.
    fn take(&self, bytes: usize, now_ns: u64) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes_per_s == 0.0 {
            return Duration::ZERO;
        }
        let bytes_per_ns = state.bytes_per_s * BODIES / 1e9;
        let passed_ns = now_ns.saturating_sub(state.at_ns) as f64;
        state.at_ns = state.at_ns.max(now_ns);
        let saved_bytes = state.bytes_per_s * SAVED_S;
        state.tokens = (state.tokens + passed_ns * bytes_per_ns).min(saved_bytes) - bytes as f64;
        Duration::from_nanos((-state.tokens / bytes_per_ns).max(0.0) as u64)
    }

    async fn wait(&self, bytes: usize) {
        for from in (0..bytes.max(1)).step_by(PIECE_BYTES) {
            let pause = self.take(PIECE_BYTES.min(bytes - from), monotonic_ns());
            if !pause.is_zero() {
                uring::sleep(pause).await;
            }
        }
    }
}

/// The decorator.
pub struct Rated<S> {
    inner: S,
    up: Arc<Rate>,
    down: Arc<Rate>,
}

impl<S: Store> Rated<S> {
    /// `inner`, with bodies put at rate `up` and got at rate `down`.
    pub fn new(inner: S, up: Arc<Rate>, down: Arc<Rate>) -> Self {
        Self { inner, up, down }
    }
}

impl<S: Store> Store for Rated<S> {
    fn put(&self, key: String, body: Vec<Page>) -> Local<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.up.wait(body.iter().map(|page| page.len()).sum()).await;
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
            self.down.wait(got.1).await;
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
        let fast = || Rate::of_mbps(100_000);
        check(&Rated::new(mem::open("rate-conforms"), fast(), fast()));
        check(&Rated::new(mem::open("rate-none"), Rate::of_mbps(0), Rate::of_mbps(0)));
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
    fn the_rate_may_change_at_any_time() {
        let rate = Rate::of_mbps(0);
        let begin = monotonic_ns() + SECOND_NS;
        assert_eq!(rate.take(1 << 40, begin), Duration::ZERO, "no limit");
        rate.set_mbps(8);
        assert_eq!(rate.take(525_000, begin), Duration::from_millis(500));
        rate.set_mbps(8);
        assert_eq!(rate.take(425_000, begin), Duration::from_secs(1), "the same one goes on");
        rate.set_mbps(80);
        let soon = rate.take(5_250_000, begin);
        assert!((499..=501).contains(&soon.as_millis()), "debts are forgotten: {soon:?}");
        rate.set_mbps(0);
        assert_eq!(rate.take(1 << 40, begin), Duration::ZERO);
    }

    #[test]
    fn a_large_body_lets_others_go_between_its_pieces() {
        use crate::uring::{block_on, spawn};
        // 85 MB a second for bodies, so that a piece takes 0.2 s.
        let rate = Rate::of_mbps(800);
        block_on(async {
            let began = monotonic_ns();
            let (large, ended) = (Arc::clone(&rate), crate::stdx::oneshot());
            spawn(async move {
                large.wait(4 * PIECE_BYTES).await;
                ended.0.send(monotonic_ns());
            });
            uring::sleep(Duration::from_millis(1)).await;
            rate.wait(1000).await;
            let small_ms = (monotonic_ns() - began) / 1_000_000;
            let large_ms = (ended.1.await.expect("it ends") - began) / 1_000_000;
            assert!(small_ms < 500 && large_ms >= 650, "{small_ms} ms beside {large_ms} ms");
        });
    }

    #[test]
    fn puts_and_gets_take_their_time() {
        let pool = Pool::new(8 * PAGE_BYTES);
        let bytes = vec![7; 300_000];
        // 80 Mbps: saved are 1,000,000 bytes, then 8.5 bytes a microsecond.
        let store = Rated::new(mem::open("rate-time"), Rate::of_mbps(80), Rate::of_mbps(80));
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
