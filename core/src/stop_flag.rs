use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Through this a sink passes on that someone wants the run to stop.
///
/// ```
/// let stop = logcore::StopFlag::default();
/// let sinks_copy = stop.clone();
/// assert!(!stop.is_requested());
/// sinks_copy.request();
/// assert!(stop.is_requested());
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
