//! The request to stop a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag with which a sink asks the run to stop, for instance after a click on W&B's stop button.
///
/// Clones share one flag. The program reads the flag through `UnifiedLogger::stop_requested`.
///
/// ```
/// let stop = logcore::StopFlag::default();
/// let copy_of_sink = stop.clone();
/// assert!(!stop.is_requested());
/// copy_of_sink.request();
/// assert!(stop.is_requested());
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the run was asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
