//! The resources that this process and its children use.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process, those that ended included, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Seconds of the clock that tracers use, too.
pub(crate) fn monotonic_seconds() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
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

/// CPU time, user and system, of all children that were waited for, and of theirs, in seconds; NaN
/// where the system does not tell.
pub(crate) fn cpu_seconds_of_children() -> f64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(f64::NAN, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

/// How often this thread was interrupted by the kernel.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThreadEvents {
    /// Page faults, minor and major.
    pub(crate) faults: i64,
    /// Context switches, by its own will or not.
    pub(crate) switches: i64,
}

impl ThreadEvents {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            faults: self.faults - before.faults,
            switches: self.switches - before.switches,
        }
    }
}

/// The events of this thread so far; none where the system does not tell.
pub(crate) fn thread_events() -> ThreadEvents {
    getrusage(UsageWho::RUSAGE_THREAD).map_or_else(
        |_| ThreadEvents::default(),
        |usage| ThreadEvents {
            faults: usage.minor_page_faults() + usage.major_page_faults(),
            switches: usage.voluntary_context_switches() + usage.involuntary_context_switches(),
        },
    )
}

/// Resident memory of this process in MB (1e6 bytes); NaN where `/proc` does not tell.
pub(crate) fn resident_mb() -> f64 {
    memory_mb("self", "VmRSS:")
}

/// A line of `/proc/<process>/status` in MB (1e6 bytes); NaN where `/proc` does not tell.
pub(crate) fn memory_mb(process: &str, line_name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(line_name)?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}
