//! Settings of a volume, where it is, and how people write sizes and times: plain data.

mod setting;
mod units;
mod url;

pub use setting::{DIR_QUOTAS, Refusal, Setting};
pub use units::{parse_duration, parse_size};
pub use url::{MetaUrl, UrlError, split_password};
