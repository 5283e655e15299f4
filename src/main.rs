//! The binary: hands over to `jfs_uring::cli`.

fn main() {}
