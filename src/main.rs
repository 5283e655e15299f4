//! The binary: hands over to `jfs_uring::cli`.

fn main() -> std::process::ExitCode {
    jfs_uring::cli::run(std::env::args_os().collect())
}
