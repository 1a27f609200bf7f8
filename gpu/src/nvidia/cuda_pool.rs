//! Reads the memory pools of a CUDA driver that the program may load later.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::nvidia::cuda::{CudaDriver, libraries_loaded};
use crate::nvidia::source_select::MemoryUsage;

/// Finds the driver once the program has loaded it.
#[derive(Debug)]
pub(crate) struct CudaFinder {
    library: OsString,
    driver: Option<CudaDriver>,
    /// Time of the last search, and the number of libraries that the process had loaded by then.
    last_search: Option<(Instant, Option<u64>)>,
}

/// Time between two searches if the loader does not count libraries. The loader searches the disk
/// for a library that is not loaded, which takes tens of microseconds.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

impl CudaFinder {
    /// A finder for the library of this name. Searches nothing yet.
    pub(crate) fn new(library: OsString) -> Self {
        Self {
            library,
            driver: None,
            last_search: None,
        }
    }

    /// Returns the driver, if the program has loaded it. Searches only if the number of loaded
    /// libraries has changed or, where the loader does not count them, after [`SEARCH_INTERVAL`].
    pub(crate) fn find(&mut self, now: Instant) -> Option<&CudaDriver> {
        if self.driver.is_none() {
            let libraries = libraries_loaded();
            let is_due = self.last_search.is_none_or(|(at, before)| match libraries {
                Some(_) => libraries != before,
                None => now >= at + SEARCH_INTERVAL,
            });
            if is_due {
                self.last_search = Some((now, libraries));
                self.driver = CudaDriver::loaded(&self.library);
            }
        }
        self.driver.as_ref()
    }
}

/// Returns the usage of the default pools, by ordinal. A pool that never held a byte is left out:
/// the framework allocates in another way, and 0 would be wrong.
pub(crate) fn pools(cuda: &CudaDriver) -> Vec<(usize, MemoryUsage)> {
    let count = cuda.device_count().unwrap_or(0);
    let pools = (0..count).filter_map(|ordinal| Some((ordinal, cuda.pool_usage(ordinal)?)));
    pools
        .filter(|(_, pool)| pool.used != 0 || pool.reserved != 0 || pool.peak_used != 0)
        .map(|(ordinal, pool)| {
            let memory = MemoryUsage {
                allocated: pool.used,
                reserved: pool.reserved,
                max_allocated: Some(pool.peak_used),
            };
            (ordinal, memory)
        })
        .collect()
}
