//! Buckets of S3 and of servers that speak its language.
//!
//! Owns the addresses of JuiceFS, the client's settings, and the sorting of answers. Signatures, the
//! chain of credentials and the requests themselves are `opendal`'s. Everything runs on the
//! network's threads (`net::runtime`), never on a core.

mod address;
mod error;
mod http;
mod make;
mod store;
#[cfg(test)]
mod tests;

#[cfg(feature = "object-extra")]
pub(super) use error::chain;
#[cfg(feature = "object-extra")]
pub(super) use http::plain_client;

pub use address::{Address, BadAddress, Flavour, Tls};
pub use store::{Keys, S3Store};
