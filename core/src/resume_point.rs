//! The state from which a later process resumes the output of a sink.

use serde::Serialize;

/// The position in a sink's output, from which a later process can resume; see
/// [`Sink::resume_point`](crate::Sink::resume_point).
///
/// ```
/// use logcore::ResumePoint;
///
/// let point = ResumePoint::new(&serde_json::json!({"path": "run/training.log", "bytes": 4096})).unwrap();
/// assert_eq!(point.text(), r#"{"bytes":4096,"path":"run/training.log"}"#);
/// assert!(point.is_complete());
/// assert!(!point.incomplete().is_complete());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    text: String,
    complete: bool,
}

impl ResumePoint {
    /// Creates a complete resume point from a state, which the third argument of
    /// [`register_sink!`](crate::register_sink) reads again. Returns `None` if the state has no
    /// form in JSON.
    #[must_use]
    pub fn new(state: &impl Serialize) -> Option<Self> {
        let text = serde_json::to_string(state).ok()?;
        Some(Self { text, complete: true })
    }

    /// Marks data that is still only in memory, for instance because the disk is full: neither the
    /// output nor the resume point holds it.
    ///
    /// The ring then keeps the calls since the last complete resume point, as long as it has room.
    #[must_use]
    pub fn incomplete(mut self) -> Self {
        self.complete = false;
        self
    }

    /// Returns `true` if the output and the resume point together hold every call that the sink
    /// received.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the state as JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
