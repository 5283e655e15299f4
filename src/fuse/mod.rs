//! The FUSE wire on one side, `vfs::op` on the other; two transports, chosen at run time.

mod handler;

pub use handler::{Handler, guarded, panic_count};
