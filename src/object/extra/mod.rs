//! Stores beside folders and S3, behind the cargo feature `object-extra`, with JuiceFS's names.
//!
//! Owns their names, what their buckets look like, and the requests. Objects have the same names
//! and bytes everywhere. Does not try again, wait or limit: decorators do.

mod address;
mod store;
mod walk;

#[cfg(test)]
mod tests;

pub use address::{BadBucket, Extra};
pub use store::ExtraStore;
