//! Memory for file bytes: 64 KiB pages under one hard budget.
//!
//! Owns allocation, the budget, the two shapes of a page, and buffers of the size of blocks. Does not
//! know what bytes mean.

mod allocator;
mod arena;
mod buffers;
mod page;

pub use allocator::Allocator;
pub use arena::Region;
pub use buffers::{buffer, give_back};
pub use page::{PAGE_BYTES, Page, PageMut, Pool, Waiter};
