//! The kernel, its switches and this process's limits.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::uring;

/// Oldest kernel that works, and the oldest with FUSE over io_uring.
const KERNEL_MIN: (u32, u32) = (5, 12);
const KERNEL_URING: (u32, u32) = (6, 14);
/// What cures an old kernel.
const NEWER_KERNEL: &str = "boot Linux 5.12 or later, on Debian: apt-get install linux-image-$(dpkg --print-architecture), then reboot";
const URING_KERNEL: &str = "boot Linux 6.14 or later for more speed; until then mounts go through /dev/fuse, and nothing need be done";
/// Descriptors that a busy mount may need: connections, cache folders, blocks being read.
const FILES_MIN: u64 = 4096;
/// Locked memory for registered buffers, bytes.
const MEMLOCK_MIN: u64 = 8 << 20;

pub fn examine() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        kernel(&release),
        ring(),
        fuse_device(),
        fuse_over_uring(),
        helper(),
        files(getrlimit(Resource::Nofile).current),
        memlock(getrlimit(Resource::Memlock).current),
    ]
}

fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn kernel(release: &str) -> Finding {
    let found = version(release);
    if found < KERNEL_MIN {
        return Finding::bad("kernel", release, NEWER_KERNEL);
    }
    if found < KERNEL_URING {
        let seen = format!("{release}: /dev/fuse only, FUSE over io_uring came with 6.14");
        return Finding::poor("kernel", seen, URING_KERNEL);
    }
    Finding::good("kernel", release)
}

fn ring() -> Finding {
    match uring::probe() {
        Ok(()) => Finding::good("io_uring", "works"),
        Err(error) => {
            let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let is_disabled = disabled.is_ok_and(|text| text.trim() != "0");
            let cure = if is_disabled {
                "sysctl -w kernel.io_uring_disabled=0"
            } else {
                "docker run --security-opt seccomp=PROFILE.json, where PROFILE.json allows \
                 io_uring_setup, io_uring_enter and io_uring_register"
            };
            Finding::bad("io_uring", format!("refused: {error}"), cure)
        }
    }
}

fn fuse_device() -> Finding {
    match fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Finding::good("/dev/fuse", "opens"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let cure = "modprobe fuse (in a container: --device /dev/fuse)";
            Finding::bad("/dev/fuse", error.to_string(), cure)
        }
        Err(error) => Finding::bad("/dev/fuse", error.to_string(), "chmod 0666 /dev/fuse"),
    }
}

fn fuse_over_uring() -> Finding {
    let switch = "/sys/module/fuse/parameters/enable_uring";
    match fs::read_to_string(switch) {
        Ok(text) if text.trim() == "Y" => Finding::good("FUSE over io_uring", "on"),
        Ok(_) => {
            let seen = "off (a mount by root turns it on)";
            Finding::poor("FUSE over io_uring", seen, format!("echo Y > {switch}"))
        }
        Err(_) => Finding::poor("FUSE over io_uring", "this kernel has none", URING_KERNEL),
    }
}

/// Users mount through fusermount3.
fn helper() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Finding::good("mounting", "as root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join("fusermount3").exists());
    if there {
        Finding::good("mounting", "as a user, through fusermount3")
    } else {
        Finding::bad("mounting", "fusermount3 is missing", "apt-get install fuse3")
    }
}

/// `None` is no limit.
fn files(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < FILES_MIN => {
            Finding::poor("open files", format!("at most {limit}"), "ulimit -n 65536")
        }
        Some(limit) => Finding::good("open files", format!("at most {limit}")),
        None => Finding::good("open files", "no limit"),
    }
}

fn memlock(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < MEMLOCK_MIN => {
            let seen = format!("at most {} KiB", limit >> 10);
            Finding::poor(
                "locked memory",
                seen,
                "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
            )
        }
        Some(limit) => Finding::good("locked memory", format!("at most {} KiB", limit >> 10)),
        None => Finding::good("locked memory", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_version() {
        assert_eq!(kernel("6.18.44-fc").health, Health::Good);
        assert_eq!(kernel("6.1.0-17-amd64").health, Health::Poor);
        assert_eq!(kernel("5.10.0").health, Health::Bad);
        assert_eq!(kernel("odd").health, Health::Bad);
    }

    #[test]
    fn limits_that_are_too_low_have_a_cure() {
        assert!(files(Some(1024)).cure.contains("ulimit -n"));
        assert!(files(None).cure.is_empty());
        assert!(memlock(Some(64 << 10)).cure.contains("ulimit -l"));
        assert_eq!(memlock(Some(1 << 30)).health, Health::Good);
    }
}
