//! Settings of a volume, where it is, and how people write sizes and times: plain data.

mod secret;
mod setting;
mod units;
mod url;

pub use setting::{Refusal, SecretKey, Setting};
pub use units::{parse_duration, parse_mbps, parse_size};
pub use url::{MetaUrl, UrlError, split_password};
