//! What the benches share: the caller's side, systems to call, and the table of results.
//!
//! A bench mounts its systems side by side and lets a process of its own call each in turn, round
//! by round, so that what disturbs the machine disturbs all alike. `BENCH_QUICK=1` runs one short
//! round of each, to prove that the bench runs.

#![allow(dead_code, clippy::unwrap_used)] // each bench uses its part; a bench may stop at once

pub mod caller;
pub mod null_fs;
pub mod null_s3;
pub mod systems;
pub mod table;
