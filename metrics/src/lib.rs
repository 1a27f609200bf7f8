//! Metrics in memory: averages over a window, statistics of the run, and a history with a memory
//! budget.
//!
//! A [`Tracker`] has any number of series, each under an index that counts up from 0. The caller
//! maps names to indices.
//!
//! - [`Tracker::record`] takes nanoseconds: it only stores the value. Averages are computed when
//!   they are requested.
//! - [`Tracker::average`] is over the finite values of the window, and exact.
//! - [`Tracker::stats`] counts NaN and infinite values separately.
//! - [`Tracker::history`] is exact until the memory budget is used up, and thinned after that.
//!
//! ```
//! use logcore_metrics::{Tracker, TrackerOptions};
//!
//! let mut tracker = Tracker::new(TrackerOptions { window: 2, ..TrackerOptions::default() });
//! let loss = tracker.add();
//! for (step, value) in [(0, 4.0), (1, 2.0), (2, f64::NAN), (3, 1.0)] {
//!     tracker.record(loss, step, value);
//! }
//! assert_eq!(tracker.average(loss), Some(1.0)); // The window has NaN and 1.0.
//! let stats = tracker.stats(loss);
//! assert_eq!((stats.min, stats.max, stats.count, stats.nan_count), (1.0, 4.0, 4, 1));
//! assert_eq!(tracker.history(loss).unwrap()[1], logcore::Point::new(1, 2.0));
//! ```
//!
//! The history is for looking at a running program. The complete values are in the files of the
//! sinks.

mod chunked_list;
mod history;
mod mean;
mod pending_values;
mod series;
mod step_list;
mod tracker;
mod window;

pub use self::tracker::{Tracker, TrackerOptions};
