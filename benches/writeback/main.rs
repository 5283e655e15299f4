//! Write-back: what a writer pays for promises of the local disk, and how soon the store has it all.
//!
//! Each row stands beside the same work without this client, in the same round: the empty file system,
//! fio on the disk of the cache, ext4 in the temporary folder, parallel puts by the same HTTP client.
//! The store does nothing (`common/null_s3.rs`), 10 ms late. Run as root, with fio and the ring switched
//! on, on an idle machine whose temporary folder is on ext4:
//!
//! ```text
//! echo Y > /sys/module/fuse/parameters/enable_uring
//! cargo bench --bench writeback
//! ```

mod appends;
#[path = "../common/mod.rs"]
mod common;
mod creates;
mod drain;
mod restart;
mod rig;
mod staged;
mod stream;

fn main() {
    common::caller::call_if_asked();
    creates::run();
    appends::run();
    stream::run();
    drain::run();
    staged::run();
    restart::run();
}
