//! Blocks on local disk: codec, block cache. Knows sealed blocks, not inodes.
