use std::time::{Duration, SystemTime};

/// The state of a progress at one moment.
///
/// Progress is a state and not a history: a sink may miss any but the first and the last event of one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProgressEvent<'a> {
    /// What happened.
    pub kind: ProgressKind,
    /// Tells the progresses of one process apart; a new one has a new number.
    pub id: u64,
    /// The logger that it belongs to.
    pub logger: &'a str,
    /// What is being done: `Training`.
    pub description: &'a str,
    /// When this was the state.
    pub time: SystemTime,
    /// How far it has come; it may exceed the total.
    pub position: u64,
    /// How far it will go, if that is known.
    pub total: Option<u64>,
    /// All batch sizes so far, if there were any.
    pub samples: Option<u64>,
    /// Units a second over the window, if known: finite and above 0.
    pub rate: Option<f64>,
    /// Samples a second over the window, if known: finite and above 0.
    pub samples_per_sec: Option<f64>,
    /// How long it will still take, if that can be said.
    pub eta: Option<Duration>,
    /// Time since the start.
    pub elapsed: Duration,
    /// The line among the bars that it asks for (`progress_position`).
    pub line: u32,
    /// Whether its bar stays on the screen at the end (`progress_leave`).
    pub leave: bool,
}

impl<'a> ProgressEvent<'a> {
    /// An event of now with nothing known but what is given.
    pub fn new(kind: ProgressKind, id: u64, logger: &'a str, description: &'a str) -> Self {
        Self {
            kind,
            id,
            logger,
            description,
            time: SystemTime::now(),
            position: 0,
            total: None,
            samples: None,
            rate: None,
            samples_per_sec: None,
            eta: None,
            elapsed: Duration::ZERO,
            line: 0,
            leave: true,
        }
    }

    /// The same state with other texts, so that it can outlive those that it borrows.
    pub fn with_texts<'b>(&self, logger: &'b str, description: &'b str) -> ProgressEvent<'b> {
        ProgressEvent {
            logger,
            description,
            ..*self
        }
    }

    /// How much of the total is done, from 0 to 100; `None` where the total is unknown.
    ///
    /// ```
    /// use logcore::{ProgressEvent, ProgressKind};
    ///
    /// let mut event = ProgressEvent::new(ProgressKind::Advanced, 1, "trainer", "Training");
    /// assert_eq!(event.percent(), None);
    /// event.total = Some(8);
    /// event.position = 2;
    /// assert_eq!(event.percent(), Some(25.0));
    /// event.position = 9;
    /// assert_eq!(event.percent(), Some(100.0));
    /// ```
    pub fn percent(&self) -> Option<f64> {
        match self.total {
            None | Some(0) => None,
            Some(total) => Some((self.position as f64 / total as f64 * 100.0).min(100.0)),
        }
    }
}

/// What happened to a progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressKind {
    /// It began.
    Started,
    /// It moved.
    Advanced,
    /// It ended: at its total, by `finish_progress`, by the next start, or with the logger.
    Finished,
}

/// Whatever can say how many: every integer type, and `Option<u64>`.
///
/// `None`, and anything below 0, is "not known".
///
/// ```
/// use logcore::Count;
///
/// assert_eq!(32_usize.count(), Some(32));
/// assert_eq!((-1).count(), None);
/// assert_eq!(Some(7).count(), Some(7));
/// assert_eq!(None.count(), None);
/// ```
pub trait Count {
    /// The count, if there is one.
    fn count(self) -> Option<u64>;
}

impl Count for Option<u64> {
    fn count(self) -> Option<u64> {
        self
    }
}

macro_rules! counts {
    ($($integer:ty)*) => {
        $(impl Count for $integer {
            // One form for all widths; for u64 it is the identity.
            #[allow(clippy::unnecessary_fallible_conversions, unused_comparisons)]
            fn count(self) -> Option<u64> {
                match u64::try_from(self) {
                    Ok(count) => Some(count),
                    // What does not fit is below 0, or beyond any count there will ever be.
                    Err(_) => if self < 0 { None } else { Some(u64::MAX) },
                }
            }
        })*
    };
}

counts!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);
