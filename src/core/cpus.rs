//! Which CPUs there are, and how a thread stays on one.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs that may ever come online: the kernel keeps a FUSE queue for each.
pub fn possible_cpus() -> usize {
    let told = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok();
    let count = told.as_deref().and_then(count_of);
    count.unwrap_or_else(|| allowed_cpus().len()).max(1)
}

/// CPUs this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keep the calling thread on `cpu`.
pub(super) fn stay_on(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// CPUs in a list such as `0-3,8`.
fn count_of(list: &str) -> Option<usize> {
    list.trim()
        .split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
                Some(last.checked_sub(first)? + 1)
            }
            None => part.parse::<usize>().ok().map(|_| 1),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        assert_eq!(count_of("0-3\n"), Some(4));
        assert_eq!(count_of("0,2-3,8"), Some(4));
        assert_eq!(count_of("0"), Some(1));
        assert_eq!(count_of(""), None);
        assert_eq!(count_of("3-0"), None);
    }

    #[test]
    fn a_thread_stays_where_it_is_told() {
        let cpu = allowed_cpus()[0];
        assert!(possible_cpus() >= allowed_cpus().len());
        std::thread::spawn(move || {
            stay_on(cpu).unwrap();
            assert_eq!(allowed_cpus(), [cpu]);
        })
        .join()
        .unwrap();
    }
}
