//! The engine against a real server, which each test starts for itself.

mod alike;
pub(super) mod basics;
mod outage;
pub(crate) mod server;
mod suite;
