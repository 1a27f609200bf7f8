//! Windowed averages, statistics and a compact, bounded history of metrics for logcore.
//!
//! A [`Tracker`] keeps any number of series, each under an index that counts up from 0; which name an index stands for
//! is the caller's business. [`Tracker::record`] stores and does no more: averages are computed when they are asked for,
//! and even the statistics and the history take values in by the dozen, or when someone looks.
//!
//! ```
//! use logcore_metrics::{Tracker, TrackerOptions};
//!
//! let mut tracker = Tracker::new(TrackerOptions { window: 2, history: true, budget_bytes: 24 << 20 });
//! let loss = tracker.add();
//! for (step, value) in [(0, 4.0), (1, 2.0), (2, f64::NAN), (3, 1.0)] {
//!     tracker.record(loss, step, value);
//! }
//! assert_eq!(tracker.average(loss), Some(1.0)); // the window holds NaN and 1.0
//! let stats = tracker.stats(loss);
//! assert_eq!((stats.min, stats.max, stats.count, stats.nan_count), (1.0, 4.0, 4, 1));
//! assert_eq!(tracker.history(loss).unwrap()[1], logcore::Point::new(1, 2.0));
//! ```

mod chunked_list;
mod history;
mod mean;
mod pending_values;
mod series;
mod step_list;
mod tracker;
mod window;

pub use self::tracker::{Tracker, TrackerOptions};
