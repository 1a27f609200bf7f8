//! The resources that this process uses.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process, those that ended included, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// CPU time of those threads of this process that have one of these names, in seconds; 0 where
/// `/proc` does not tell.
pub(crate) fn seconds_of_threads(names: &[&str]) -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let seconds = threads.filter_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        // The kernel keeps fifteen bytes of a name.
        let is_one = names.iter().any(|one| one.get(..15).unwrap_or(one) == name.trim_end());
        let nanoseconds = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanoseconds: f64 = nanoseconds.split_whitespace().next()?.parse().ok()?;
        is_one.then_some(nanoseconds * 1e-9)
    });
    seconds.sum()
}

/// Resident memory of this process in MB (1e6 bytes); NaN where `/proc` does not tell.
pub(crate) fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}
