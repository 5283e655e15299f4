//! Memory for file bytes: 64 KiB pages under one hard budget.
//!
//! Owns allocation, the budget and the two shapes of a page. Does not know what bytes mean.

mod arena;
mod page;

pub use arena::Region;
pub use page::{PAGE_BYTES, Page, PageMut, Pool, Waiter};
