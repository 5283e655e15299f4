//! A request from its beginning to its end, as it is counted and told to those who follow the log.
//!
//! Owns what is counted of requests. The clock is asked as seldom as that allows.

use super::dispatch::{Vfs, told};
use super::error::Done;
use super::internal::Line;
use super::method::{Method, NAMES};
use super::op::{Reply, Request};
use crate::metrics::spread::{BucketSum, Buckets, OPERATIONS, SIZES};
use crate::metrics::{Amounts, Begun, Count, Sum, Times};

/// Numbers of errors end before this.
const ERRORS: usize = 134;

/// Of one core.
pub(super) struct Counts {
    operations: [Times; NAMES.len()],
    errors: [Count; ERRORS],
    read_bytes: Amounts,
    written_bytes: Amounts,
    /// How the times of all operations are spread, and how much is read and written at a time.
    times: Buckets,
    read_sizes: Buckets,
    written_sizes: Buckets,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            operations: std::array::from_fn(|_| Times::default()),
            errors: std::array::from_fn(|_| Count::default()),
            read_bytes: Amounts::default(),
            written_bytes: Amounts::default(),
            times: Buckets::new(&OPERATIONS),
            read_sizes: Buckets::new(&SIZES),
            written_sizes: Buckets::new(&SIZES),
        }
    }
}

/// Of all cores.
pub(super) struct Sums {
    /// For each method.
    pub operations: Vec<Sum>,
    /// For each number of an error.
    pub errors: Vec<u64>,
    pub read_bytes: Sum,
    pub written_bytes: Sum,
    /// How they are spread: times of all operations, and bytes.
    pub times: BucketSum,
    pub read_sizes: BucketSum,
    pub written_sizes: BucketSum,
}

/// A request that is counted.
pub(super) struct Span {
    method: Method,
    begun: Begun,
    line: Option<Box<Line>>,
}

impl Vfs {
    /// A request begins.
    pub(super) fn begin(&self, request: &Request) -> Option<Span> {
        let method = Method::of(&request.op)?;
        let times = &self.counts.operations[method as usize];
        let followed = self.shared.access_log.is_followed();
        let begun = match method.is_frequent() && !followed {
            true => times.begin_often(),
            false => times.begin(),
        };
        let line = followed.then(|| Box::new(Line::new(method, request)));
        Some(Span { method, begun, line })
    }

    /// It is answered.
    pub(super) fn end(&self, span: Option<Span>, done: Done) -> Reply {
        let reply = told(done);
        let Some(Span { method, begun, line }) = span else { return reply };
        let took_ns = self.counts.operations[method as usize].end(begun);
        if let Some(took_ns) = took_ns {
            self.counts.times.add(took_ns, begun.stands_for());
        }
        match &reply {
            Reply::Error(errno) => {
                let number = usize::try_from(*errno).unwrap_or(0).min(ERRORS - 1);
                self.counts.errors[number].add(1);
            }
            Reply::Data(pages) => {
                let len_bytes: usize = pages.iter().map(|page| page.len()).sum();
                self.counts.read_bytes.add(len_bytes as u64);
                self.counts.read_sizes.add(len_bytes as u64, 1);
            }
            Reply::Written(len_bytes) => {
                self.counts.written_bytes.add(u64::from(*len_bytes));
                self.counts.written_sizes.add(u64::from(*len_bytes), 1);
            }
            _ => {}
        }
        if let Some(line) = line {
            self.shared.access_log.tell(&line.finish(&reply, took_ns.unwrap_or(0)));
        }
        reply
    }

    /// What all cores of the mount counted.
    pub(super) fn sums(&self) -> Sums {
        let counts = &self.shared.counts;
        let operations = (0..NAMES.len()).map(|at| counts.sum(|core| core.operations[at].sum()));
        let errors = (0..ERRORS).map(|at| counts.sum(|core| core.errors[at].get()));
        Sums {
            operations: operations.collect(),
            errors: errors.collect(),
            read_bytes: counts.sum(|core| core.read_bytes.sum()),
            written_bytes: counts.sum(|core| core.written_bytes.sum()),
            times: counts.sum(|core| core.times.sum()),
            read_sizes: counts.sum(|core| core.read_sizes.sum()),
            written_sizes: counts.sum(|core| core.written_sizes.sum()),
        }
    }
}
