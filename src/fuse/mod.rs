//! The FUSE wire on one side, `vfs::op` on the other; two transports, chosen at run time.

mod abi;
mod decode;
mod encode;
mod handler;
mod mount;
pub mod notify;
mod session;
pub mod transport;

pub use handler::{Handler, guarded, panic_count};
pub use mount::{MountOptions, mount, unmount};
pub use session::{Session, Transport, WRITE_BYTES_LIMIT, Wishes};
