//! The state of a progress, as sinks receive it.

use std::time::{Duration, SystemTime};

/// The state of a progress at one moment.
///
/// Progress is a state and not a history. A sink may skip every event of a progress except the
/// first and the last.
///
/// ```
/// use logcore::{ProgressEvent, ProgressKind};
///
/// let mut event = ProgressEvent::new(ProgressKind::Started, 1, "trainer", "Training");
/// event.total = Some(1000);
/// assert_eq!((event.position, event.percent()), (0, Some(0.0)));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProgressEvent<'a> {
    /// The change that caused the event.
    pub kind: ProgressKind,
    /// Number of the progress, unique in the process.
    pub id: u64,
    /// Name of the logger.
    pub logger: &'a str,
    /// Description of the work: `Training`.
    pub description: &'a str,
    /// Time of the state.
    pub time: SystemTime,
    /// Number of units that are done. May exceed the total.
    pub position: u64,
    /// Number of units of the whole work, if known.
    pub total: Option<u64>,
    /// Sum of all batch sizes so far, if there were any.
    pub samples: Option<u64>,
    /// Units per second over the window, if known; finite and above 0.
    pub rate: Option<f64>,
    /// Samples per second over the window, if known; finite and above 0.
    pub samples_per_sec: Option<f64>,
    /// Estimated time until the end, if known.
    pub eta: Option<Duration>,
    /// Time since the start.
    pub elapsed: Duration,
    /// Line of the bar among several bars; the config field `progress_position`.
    pub line: u32,
    /// `true` if the finished bar stays on the screen; the config field `progress_leave`.
    pub leave: bool,
}

impl<'a> ProgressEvent<'a> {
    /// Creates an event of the present moment. The position is 0 and everything else is unknown.
    #[must_use]
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

    /// Returns the same state with other texts, for instance with texts that live longer.
    ///
    /// ```
    /// use logcore::{ProgressEvent, ProgressKind};
    ///
    /// let event = ProgressEvent::new(ProgressKind::Started, 1, "trainer", "Training");
    /// let kept: ProgressEvent<'static> = event.with_texts("", "");
    /// assert_eq!(kept.with_texts("trainer", "Training"), event);
    /// ```
    #[must_use]
    pub fn with_texts<'b>(&self, logger: &'b str, description: &'b str) -> ProgressEvent<'b> {
        ProgressEvent {
            logger,
            description,
            ..*self
        }
    }

    /// Returns the done share of the total in percent, at most 100. Returns `None` if the total is
    /// unknown.
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
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        match self.total {
            None | Some(0) => None,
            Some(total) => Some((self.position as f64 / total as f64 * 100.0).min(100.0)),
        }
    }
}

/// The change of a progress that caused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgressKind {
    /// The progress started.
    Started,
    /// The position changed.
    Advanced,
    /// The progress ended: at its total, by `finish_progress`, by the next start, or with the
    /// logger.
    Finished,
}

/// A number of units that may be unknown: every integer type, and `Option<u64>`.
///
/// `None` and negative numbers mean "unknown". The trait is open, so that a program can implement
/// it for its own counters.
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
    /// Returns the number of units, or `None` if it is unknown.
    fn count(self) -> Option<u64>;
}

impl Count for Option<u64> {
    fn count(self) -> Option<u64> {
        self
    }
}

macro_rules! impl_count {
    ($($integer:ty)*) => {
        $(impl Count for $integer {
            #[allow(
                clippy::unnecessary_fallible_conversions,
                unused_comparisons,
                reason = "one body serves all widths; for u64 the conversion is the identity"
            )]
            fn count(self) -> Option<u64> {
                match u64::try_from(self) {
                    Ok(count) => Some(count),
                    // Negative, or beyond any real count.
                    Err(_) => if self < 0 { None } else { Some(u64::MAX) },
                }
            }
        })*
    };
}

impl_count!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);
