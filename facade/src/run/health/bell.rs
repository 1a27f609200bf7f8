//! Calls the thread `logcore-health` before its next look.

use std::fmt;
#[cfg(feature = "health")]
use std::sync::Arc;

use logcore_pipeline::ForkMutex;

/// The bell of a run. Nobody hears it before the run is watched. It may be rung under the lock of a
/// logger's metrics.
pub(crate) struct Bell(ForkMutex<Option<Answer>>);

enum Answer {
    /// Calls the thread.
    Call(Box<dyn Fn() + Send>),
    /// Looks at the run: there is no thread to call.
    #[cfg(feature = "health")]
    Look(Arc<dyn Fn() + Send + Sync>),
}

impl Default for Bell {
    fn default() -> Self {
        Self(ForkMutex::inner(None))
    }
}

impl Bell {
    /// Sets the function that each ring calls from now on. The function must not wait.
    pub(super) fn set_answer(&self, answer: impl Fn() + Send + 'static) {
        *self.0.lock() = Some(Answer::Call(Box::new(answer)));
    }

    /// Sets the function that looks at the run in place of the missing thread. A ring does not call
    /// it, because the writer rings, which must not wait for a disk.
    #[cfg(feature = "health")]
    pub(super) fn set_look(&self, look: impl Fn() + Send + Sync + 'static) {
        *self.0.lock() = Some(Answer::Look(Arc::new(look)));
    }

    /// Rings: the thread looks at the run as soon as it can.
    pub(crate) fn ring(&self) {
        if let Some(Answer::Call(call)) = &*self.0.lock() {
            call();
        }
    }

    /// Looks at the run on this thread, if the thread that should look is missing; returns `false`
    /// if it is not.
    #[cfg(feature = "health")]
    pub(crate) fn look_without_thread(&self) -> bool {
        let look = match &*self.0.lock() {
            Some(Answer::Look(look)) => Arc::clone(look),
            _ => return false,
        };
        look();
        true
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
