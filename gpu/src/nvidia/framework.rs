//! The memory that a framework reports about its own allocator: pushed to a gauge, or returned by a
//! callback.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::nvidia::source_select::MemoryUsage;

/// The memory that the program's own framework reports for a device; returned by [`gauge`].
///
/// A gauge is the best source: once it has a value, the device's `memory/gpu_…` readings are that
/// value.
///
/// ```
/// use logcore_gpu::{Gauge, gauge};
///
/// let first: &'static Gauge = gauge(0);
/// first.set(1_500_000_000, 2_000_000_000);
/// assert!(std::ptr::eq(first, gauge(0)), "a device has one gauge");
/// assert!(format!("{first:?}").contains("1500000000"));
/// ```
pub struct Gauge {
    /// Bytes, or [`UNSET`] before the first value.
    allocated: AtomicU64,
    reserved: AtomicU64,
    peak: AtomicU64,
}

/// A number of bytes that no device has.
const UNSET: u64 = u64::MAX;

// Some thread may be reading at a fork. Reader locks do not shut the forked child out.
static GAUGES: RwLock<BTreeMap<usize, &'static Gauge>> = RwLock::new(BTreeMap::new());
/// The registered callbacks, by ordinal.
static ALLOCATORS: RwLock<BTreeMap<usize, RegisteredAllocator>> = RwLock::new(BTreeMap::new());

#[derive(Clone)]
struct RegisteredAllocator {
    name: &'static str,
    usage: Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>,
}

/// Returns the gauge of the device that CUDA calls `ordinal` in this process.
///
/// All calls return the same gauge, so a program can keep it.
///
/// ```
/// use logcore::{Probe, Readings};
///
/// // In the program: bytes in live tensors, and bytes held from the driver.
/// logcore_gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
///
/// // In the logger, at `log_memory`.
/// let mut readings = Readings::default();
/// logcore_gpu::GpuProbe::new(Default::default()).sample(&mut readings).unwrap();
/// let allocated = readings.iter().find(|(name, _)| *name == "memory/gpu_allocated_gb");
/// assert_eq!(allocated.map(|(_, value)| value.as_f64()), Some(1.5));
/// assert_eq!(readings.source(), Some(("GPU memory", "framework:gauge")));
/// ```
#[must_use = "a gauge has no value before `set`"]
pub fn gauge(ordinal: usize) -> &'static Gauge {
    write(&GAUGES)
        .entry(ordinal)
        .or_insert_with(|| Box::leak(Box::new(Gauge::new())))
}

/// Registers a callback that reports the memory of a framework's allocator.
///
/// `log_memory` calls it on the thread that logs, at most every 50 ms. `usage` returns the bytes in
/// live tensors and the bytes held from the driver, or `None` if they are unknown at the moment. It
/// must be quick, must not wait for the GPU and must not log memory itself.
///
/// A second callback for the same device replaces the first. A callback that panics is removed. A
/// [`gauge`] that has a value takes precedence.
///
/// ```
/// use logcore::{Probe, Readings};
///
/// logcore_gpu::ask_allocator(1, "burn", || Some((3_000_000_000, 4_000_000_000)));
///
/// let mut readings = Readings::default();
/// logcore_gpu::GpuProbe::new(Default::default()).sample(&mut readings).unwrap();
/// let reserved = readings.iter().find(|(name, _)| *name == "memory/gpu_reserved_gb/cuda:1");
/// assert_eq!(reserved.map(|(_, value)| value.as_f64()), Some(4.0));
/// ```
pub fn ask_allocator(
    ordinal: usize,
    name: &'static str,
    usage: impl Fn() -> Option<(u64, u64)> + Send + Sync + 'static,
) {
    let usage = Arc::new(usage);
    write(&ALLOCATORS).insert(ordinal, RegisteredAllocator { name, usage });
}

impl Gauge {
    fn new() -> Self {
        Self {
            allocated: AtomicU64::new(UNSET),
            reserved: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Sets the bytes in live tensors, and the bytes that the allocator holds from the driver.
    ///
    /// Takes a few nanoseconds, on any thread.
    ///
    /// ```
    /// use logcore::{Probe, Readings};
    /// use logcore_gpu::{GpuProbe, gauge};
    ///
    /// gauge(2).set(6_000_000_000, 8_000_000_000);
    /// gauge(2).set(1_000_000_000, 8_000_000_000);
    ///
    /// let mut readings = Readings::default();
    /// GpuProbe::new(Default::default()).sample(&mut readings).unwrap();
    /// // Between two samples the gauge keeps the peak.
    /// let peak = readings.iter().find(|(name, _)| *name == "memory/gpu_max_allocated_gb/cuda:2");
    /// assert_eq!(peak.map(|(_, value)| value.as_f64()), Some(6.0));
    /// ```
    pub fn set(&self, allocated: u64, reserved: u64) {
        self.reserved.store(reserved, Ordering::Relaxed);
        self.allocated.store(allocated, Ordering::Relaxed);
        if self.peak.load(Ordering::Relaxed) < allocated {
            self.peak.fetch_max(allocated, Ordering::Relaxed);
        }
    }

    /// Returns the value, or `None` before the first one.
    fn read(&self) -> Option<MemoryUsage> {
        let allocated = self.allocated.load(Ordering::Relaxed);
        (allocated != UNSET).then(|| MemoryUsage {
            allocated,
            // The two numbers may come from different calls of `set`.
            reserved: self.reserved.load(Ordering::Relaxed).max(allocated),
            max_allocated: Some(self.peak.load(Ordering::Relaxed).max(allocated)),
        })
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.read()).finish()
    }
}

/// Returns the values of all gauges that have one, by ordinal.
pub(crate) fn gauge_values() -> Vec<(usize, MemoryUsage)> {
    let value = |(ordinal, gauge): (&usize, &&Gauge)| Some((*ordinal, gauge.read()?));
    read(&GAUGES).iter().filter_map(value).collect()
}

/// The result of calling the registered callbacks.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct AllocatorAnswers {
    /// Ordinal, name and usage.
    pub(crate) usages: Vec<(usize, &'static str, MemoryUsage)>,
    /// Names of the callbacks that panicked.
    pub(crate) panicked: Vec<&'static str>,
}

/// Calls the registered callbacks, and removes those that panic.
pub(crate) fn ask_allocators() -> AllocatorAnswers {
    // A callback is the program's code, so no lock is held.
    let allocators = read(&ALLOCATORS).clone();
    let answers = call_each(&allocators);
    if !answers.panicked.is_empty() {
        write(&ALLOCATORS).retain(|_, allocator| !answers.panicked.contains(&allocator.name));
    }
    answers
}

/// Calls each callback, and catches panics: a failing callback must not end the program's step.
fn call_each(allocators: &BTreeMap<usize, RegisteredAllocator>) -> AllocatorAnswers {
    let mut answers = AllocatorAnswers::default();
    for (&ordinal, RegisteredAllocator { name, usage }) in allocators {
        match catch_unwind(AssertUnwindSafe(|| usage())) {
            Ok(None) => {}
            Ok(Some((allocated, reserved))) => answers.usages.push((
                ordinal,
                *name,
                MemoryUsage {
                    allocated,
                    reserved: reserved.max(allocated),
                    max_allocated: None,
                },
            )),
            Err(_) => answers.panicked.push(*name),
        }
    }
    answers
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_is_empty_before_set_and_keeps_its_peak() {
        let gauge = Gauge::new();
        assert_eq!(gauge.read(), None);
        for (allocated, reserved, peak) in [(5, 8, 5), (3, 8, 5), (9, 7, 9), (0, 0, 9)] {
            gauge.set(allocated, reserved);
            let read = gauge.read().expect("it was set");
            assert_eq!((read.allocated, read.max_allocated), (allocated, Some(peak)));
            assert_eq!(read.reserved, reserved.max(allocated));
        }
    }

    #[test]
    fn callback_may_panic_or_return_none() {
        let allocator = |name, usage: fn() -> Option<(u64, u64)>| RegisteredAllocator {
            name,
            usage: Arc::new(usage),
        };
        let all = BTreeMap::from([
            (0, allocator("broken", || panic!("made to panic"))),
            (1, allocator("idle", || None)),
            (2, allocator("whole", || Some((3, 2)))),
        ]);
        let answers = call_each(&all);
        assert_eq!(answers.panicked, ["broken"]);
        let whole = MemoryUsage {
            allocated: 3,
            reserved: 3,
            max_allocated: None,
        };
        assert_eq!(answers.usages, [(2, "whole", whole)]);
    }
}
