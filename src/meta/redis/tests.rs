//! The engine against a real server, which each test starts for itself.

mod alike;
mod basics;
mod outage;
mod server;
mod suite;
