//! Calls the thread `logcore-health` before its next look.

use std::fmt;

use logcore_pipeline::ForkMutex;

/// The bell of a run. Nobody hears it before the run is watched.
#[derive(Default)]
pub(crate) struct Bell(ForkMutex<Option<Box<dyn Fn() + Send>>>);

impl Bell {
    /// Calls `answer` at each ring, from now on. The answer must not wait.
    pub(super) fn call(&self, answer: impl Fn() + Send + 'static) {
        *self.0.lock() = Some(Box::new(answer));
    }

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
