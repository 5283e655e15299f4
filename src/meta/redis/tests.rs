//! The engine against a real server, which each test starts for itself.

mod alike;
pub(super) mod basics;
mod cluster;
mod outage;
mod points;
mod proxy;
mod sentinel;
pub(crate) mod server;
mod suite;
mod tls;
