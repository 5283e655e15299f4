//! The binary: hands over to `jfs_uring::cli`.

#[global_allocator]
static ALLOCATOR: jfs_uring::pages::Allocator = jfs_uring::pages::Allocator;

fn main() -> std::process::ExitCode {
    jfs_uring::cli::run(std::env::args_os().collect())
}
