use std::fmt;
use std::sync::Arc;

/// Lines for the person at the terminal, for a sink that has something to say beyond its errors.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use logcore::Notices;
///
/// let said = Arc::new(Mutex::new(Vec::new()));
/// let notices = Notices::new({
///     let said = Arc::clone(&said);
///     move |kind, text| said.lock().unwrap().push(format!("{kind}: {text}"))
/// });
/// notices.print("address", "the run is at http://localhost");
/// assert_eq!(*said.lock().unwrap(), ["address: the run is at http://localhost"]);
/// ```
#[derive(Clone)]
pub struct Notices(Arc<Say>);

type Say = dyn Fn(&str, &str) + Send + Sync;

impl Notices {
    /// Lines go to `say`, each with the kind of thing that it is about.
    pub fn new(say: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }

    /// Says a line, from any thread. One of the same kind may be left out for a minute.
    pub fn print(&self, kind: &str, text: &str) {
        (self.0)(kind, text);
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
