//! Calls the thread `logcore-health` before its next look.

use std::fmt;

use logcore_pipeline::ForkMutex;

/// The bell of a run. Nobody hears it before the run is watched.
#[derive(Default)]
pub(crate) struct Bell(ForkMutex<Option<Box<dyn Fn() + Send>>>);

impl Bell {
    /// Sets the function that each ring calls from now on. The function must not wait.
    pub(super) fn set_answer(&self, answer: impl Fn() + Send + 'static) {
        *self.0.lock() = Some(Box::new(answer));
    }

    /// Rings: the thread looks at the run as soon as it can.
    pub(crate) fn ring(&self) {
        if let Some(answer) = &*self.0.lock() {
            answer();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
