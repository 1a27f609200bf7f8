//! The memory pools of a CUDA driver that may yet be loaded.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::nvidia::cuda::{CudaDriver, libraries_loaded};
use crate::nvidia::source_select::MemoryUsage;

/// Finds the driver when the program has loaded it.
#[derive(Debug)]
pub(crate) struct CudaFinder {
    library: OsString,
    found: Option<CudaDriver>,
    /// When it was last looked for, and how many libraries there were then.
    looked: Option<(Instant, Option<u64>)>,
}

/// The loader searches the disk for a library that is not there, which takes tens of microseconds. Where it counts what it
/// loads, it is asked again when that has grown; elsewhere after this time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

impl CudaFinder {
    pub(crate) fn new(library: OsString) -> Self {
        Self {
            library,
            found: None,
            looked: None,
        }
    }

    pub(crate) fn find(&mut self, now: Instant) -> Option<&CudaDriver> {
        if self.found.is_none() {
            let libraries = libraries_loaded();
            let is_due = self.looked.is_none_or(|(looked, before)| match libraries {
                Some(_) => libraries != before,
                None => now >= looked + BETWEEN_LOOKS,
            });
            if is_due {
                self.looked = Some((now, libraries));
                self.found = CudaDriver::loaded(&self.library);
            }
        }
        self.found.as_ref()
    }
}

/// What the default pools of this process's devices hold. A pool that never held a byte is not in use: its framework
/// allocates in another way, and 0 would be wrong.
pub(crate) fn pools(cuda: &CudaDriver) -> Vec<(usize, MemoryUsage)> {
    let count = cuda.device_count().unwrap_or(0);
    let used = (0..count).filter_map(|ordinal| Some((ordinal, cuda.pool_usage(ordinal)?)));
    used.filter(|(_, pool)| pool.used != 0 || pool.reserved != 0 || pool.highest_used != 0)
        .map(|(ordinal, pool)| {
            let memory = MemoryUsage {
                allocated: pool.used,
                reserved: pool.reserved,
                max_allocated: Some(pool.highest_used),
            };
            (ordinal, memory)
        })
        .collect()
}
