//! Lines for the user at the terminal.

use std::fmt;
use std::sync::Arc;

/// A handle with which a sink prints lines on the terminal, from any thread.
///
/// Errors of calls need no notice: the writer prints them. Notices are for everything else, such as
/// the address of a run, or problems on a thread of the sink.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use logcore::Notices;
///
/// let lines = Arc::new(Mutex::new(Vec::new()));
/// let notices = Notices::new({
///     let lines = Arc::clone(&lines);
///     move |kind, text| lines.lock().unwrap().push(format!("{kind}: {text}"))
/// });
/// notices.print("address", "the run is at http://localhost");
/// assert_eq!(*lines.lock().unwrap(), ["address: the run is at http://localhost"]);
/// ```
#[derive(Clone)]
pub struct Notices(Arc<PrintFn>);

type PrintFn = dyn Fn(&str, &str) + Send + Sync;

impl Notices {
    /// Creates a handle that passes the kind and the text of each notice to `print`.
    #[must_use]
    pub fn new(print: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(print))
    }

    /// Prints a line. The logger may drop further lines of the same kind for a minute.
    pub fn print(&self, kind: &str, text: &str) {
        (self.0)(kind, text);
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}
