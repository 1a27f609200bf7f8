//! Progress of a run: throughput, estimated time to the end, and bars.
//!
//! - [`Meter`] measures a progress in the thread that makes it. An update costs nanoseconds.
//! - [`Throughput`] adds up several progresses, such as the epochs of a run.
//! - [`Bars`] draws progresses as lines of text, for the owner of a terminal.
//! - [`mod@text`] has the texts that bars and plain lines share.
//!
//! Rates and ETA ignore the warm-up and count pauses by their share; the code of the forecast
//! explains the method.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use logcore::ProgressKind;
//! use logcore_progress::{Bars, Meter, MeterOptions, Viewport};
//!
//! let start = Instant::now();
//! let mut meter = Meter::start(1, "Training", Some(100), MeterOptions::default(), start);
//! for step in 1..=50 {
//!     meter.update(1, Some(32), start + step * Duration::from_millis(100));
//! }
//! let now = start + Duration::from_secs(5);
//! let mut bars = Bars::plain();
//! bars.show(&meter.measured_event(ProgressKind::Advanced, "trainer"), &[], now);
//! let lines = bars.lines(Viewport { columns: 80, rows: 24 }, now);
//! assert_eq!(lines, ["Training  50% ━━━━━━━━╸───────  50/100 [00:05<00:05, 10.0 it/s, 320 samples/s]"]);
//! ```

#[cfg(feature = "bars")]
mod bars;
mod forecast;
mod meter;
mod pace_history;
mod segment;
#[cfg(feature = "bars")]
pub mod text;
mod throughput;

#[cfg(feature = "bars")]
pub use self::bars::{Bars, Viewport};
pub use self::meter::{DerivedMetrics, Meter, MeterOptions, WorkSample};
pub use self::throughput::Throughput;
