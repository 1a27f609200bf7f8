//! What a framework says of its own allocator: pushed to a gauge, or asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::nvidia::source_select::MemoryUsage;

/// The memory that the program's own framework reports for a device; from [`gauge`].
///
/// Nothing can stand above it: while a gauge has a value, the device's `memory/gpu_…` readings are that value.
pub struct Gauge {
    /// [`UNSET`] before the first value.
    allocated: AtomicU64,
    reserved: AtomicU64,
    highest: AtomicU64,
}

/// No device has so much.
const UNSET: u64 = u64::MAX;

// Read on every call, and so by some thread at a fork: readers do not shut a child out.
static GAUGES: RwLock<BTreeMap<usize, &'static Gauge>> = RwLock::new(BTreeMap::new());
static ALLOCATORS: RwLock<BTreeMap<usize, RegisteredAllocator>> = RwLock::new(BTreeMap::new());

#[derive(Clone)]
struct RegisteredAllocator {
    name: &'static str,
    usage: Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>,
}

/// The gauge of the device that CUDA calls `ordinal` in this process. The same one each time, so it can be kept.
///
/// ```
/// use logcore::{Probe, Readings};
///
/// // In the program, wherever the numbers are at hand: bytes in live tensors, and bytes held from the driver.
/// logcore_gpu::gauge(0).set(1_500_000_000, 2_000_000_000);
///
/// // In the logger, at `log_memory`.
/// let mut readings = Readings::default();
/// logcore_gpu::GpuProbe::new(Default::default()).sample(&mut readings).unwrap();
/// let allocated = readings.iter().find(|(name, _)| *name == "memory/gpu_allocated_gb");
/// assert_eq!(allocated.map(|(_, value)| value.as_f64()), Some(1.5));
/// assert_eq!(readings.source(), Some(("GPU memory", "framework:gauge")));
/// ```
pub fn gauge(ordinal: usize) -> &'static Gauge {
    write(&GAUGES)
        .entry(ordinal)
        .or_insert_with(|| Box::leak(Box::new(Gauge::new())))
}

/// Has a framework's allocator asked at each `log_memory`, at most every 50 ms, on the thread that logs.
///
/// `usage` returns the bytes in live tensors and the bytes held from the driver, or nothing if that cannot be known now. It
/// must be quick, must not wait for the GPU and must not log memory itself. If it panics it is not asked again. A second
/// allocator for the same device takes the place of the first; a [`gauge`] that has a value goes before it.
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
            highest: AtomicU64::new(0),
        }
    }

    /// The bytes in live tensors, and the bytes that the allocator holds from the driver. A few nanoseconds; any thread.
    pub fn set(&self, allocated: u64, reserved: u64) {
        self.reserved.store(reserved, Ordering::Relaxed);
        self.allocated.store(allocated, Ordering::Relaxed);
        if self.highest.load(Ordering::Relaxed) < allocated {
            self.highest.fetch_max(allocated, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Option<MemoryUsage> {
        let allocated = self.allocated.load(Ordering::Relaxed);
        (allocated != UNSET).then(|| MemoryUsage {
            allocated,
            // The two may be of different calls.
            reserved: self.reserved.load(Ordering::Relaxed).max(allocated),
            max_allocated: Some(self.highest.load(Ordering::Relaxed).max(allocated)),
        })
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.read()).finish()
    }
}

/// The gauges that have a value, by ordinal.
pub(crate) fn pushed() -> Vec<(usize, MemoryUsage)> {
    let value = |(ordinal, gauge): (&usize, &&Gauge)| Some((*ordinal, gauge.read()?));
    read(&GAUGES).iter().filter_map(value).collect()
}

/// Asks the allocators: what they say, and which of them panicked.
pub(crate) fn asked() -> (Vec<(usize, &'static str, MemoryUsage)>, Vec<&'static str>) {
    // Not under the lock: it is the user's code.
    let allocators = read(&ALLOCATORS).clone();
    let (answers, panicked) = answers(&allocators);
    if !panicked.is_empty() {
        write(&ALLOCATORS).retain(|_, allocator| !panicked.contains(&allocator.name));
    }
    (answers, panicked)
}

fn answers(of: &BTreeMap<usize, RegisteredAllocator>) -> (Vec<(usize, &'static str, MemoryUsage)>, Vec<&'static str>) {
    let (mut answers, mut panicked) = (Vec::new(), Vec::new());
    for (&ordinal, RegisteredAllocator { name, usage }) in of {
        match catch_unwind(AssertUnwindSafe(|| usage())) {
            Ok(None) => {}
            Ok(Some((allocated, reserved))) => answers.push((
                ordinal,
                *name,
                MemoryUsage {
                    allocated,
                    reserved: reserved.max(allocated),
                    max_allocated: None,
                },
            )),
            Err(_) => panicked.push(*name),
        }
    }
    (answers, panicked)
}

fn read<T>(of_all: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    of_all.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(of_all: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    of_all.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_has_nothing_before_it_is_set_and_keeps_its_peak() {
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
    fn an_allocator_may_panic_or_know_nothing() {
        let allocator = |name, usage: fn() -> Option<(u64, u64)>| RegisteredAllocator {
            name,
            usage: Arc::new(usage),
        };
        let all = BTreeMap::from([
            (0, allocator("broken", || panic!("made to panic"))),
            (1, allocator("idle", || None)),
            (2, allocator("whole", || Some((3, 2)))),
        ]);
        let (answers, panicked) = answers(&all);
        assert_eq!(panicked, ["broken"]);
        let whole = MemoryUsage {
            allocated: 3,
            reserved: 3,
            max_allocated: None,
        };
        assert_eq!(answers, [(2, "whole", whole)]);
    }
}
