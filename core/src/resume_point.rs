use serde::Serialize;

/// Where the output of a sink stands, in a form that a later process can go on from; see [`Sink::resume_point`](crate::Sink::resume_point).
///
/// ```
/// use logcore::ResumePoint;
///
/// let mark = ResumePoint::new(&serde_json::json!({"path": "run/training.log", "bytes": 4096})).unwrap();
/// assert_eq!(mark.text(), r#"{"bytes":4096,"path":"run/training.log"}"#);
/// assert!(mark.is_complete());
/// assert!(!mark.incomplete().is_complete());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    text: String,
    complete: bool,
}

impl ResumePoint {
    /// A mark of this state, which the function that was registered with the sink reads again. `None` if it has no form in
    /// JSON.
    pub fn new(state: &impl Serialize) -> Option<Self> {
        let text = serde_json::to_string(state).ok()?;
        Some(Self { text, complete: true })
    }

    /// The same mark, of a sink that still keeps something in memory which is neither in its output nor in the mark: a disk
    /// takes nothing. What it was given since its last complete mark is kept for it, as long as there is room.
    #[must_use]
    pub fn incomplete(mut self) -> Self {
        self.complete = false;
        self
    }

    /// Whether everything that the sink was given is in its output or in the mark.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The state, as JSON.
    pub fn text(&self) -> &str {
        &self.text
    }
}
