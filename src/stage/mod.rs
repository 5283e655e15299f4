//! What happens to sealed blocks on this machine: their encoding, and keeping them near.
//!
//! Does not know inodes, paths, the order of commits or who waits.

mod codec;

pub use codec::{Codec, Compression, Damaged};
