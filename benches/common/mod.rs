//! What the benches share: the caller's side of a measurement.

pub mod client;
