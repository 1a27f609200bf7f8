//! Events and spans of `tracing` in the loggers of logcore.
//!
//! Programs use `facade::tracing::layer`, which gives [`layer`] a logger. The interface of this
//! crate has no stability of its own.
//!
//! - **An event** is a record with typed fields: those of the event, then those of its spans.
//! - **A span** gives its fields to the records of its thread, those of the `log` macros included;
//!   on request its time is a metric, and a field makes it a bar.
//! - **Nothing comes twice**: with the feature `log-always` of `tracing` each event is also a
//!   record of `log`, which [`is_echo`] recognizes.
//! - **Nothing comes back**: threads on which logging is suppressed, as those of a delivery, give
//!   no events.
//!
//! # Example: events of a program, received as records
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use log::{LevelFilter, Metadata};
//! use logcore::MetricValue;
//! use logcore_tracing::{EventReceiver, GiveRecord};
//! use tracing_subscriber::layer::SubscriberExt as _;
//!
//! #[derive(Clone, Default)]
//! struct Lines(Arc<Mutex<Vec<String>>>);
//!
//! impl EventReceiver for Lines {
//!     type Bar = ();
//!
//!     fn max_level() -> LevelFilter {
//!         LevelFilter::Info
//!     }
//!
//!     fn receive_record(&self, _: &Metadata<'_>, give: &GiveRecord<'_>) {
//!         give(&mut |record| {
//!             let epoch = record.key_values().get("epoch".into());
//!             self.0.lock().unwrap().push(format!("{} epoch={}", record.args(), epoch.unwrap()));
//!         });
//!     }
//!
//!     fn receive_metrics(&self, _: Option<u64>, _: &[(&'static str, MetricValue)]) {}
//!
//!     fn is_timed(&self, _: &str) -> bool {
//!         false
//!     }
//!
//!     fn receive_time(&self, _: &'static str, _: f64) {}
//!
//!     fn start_bar(&self, _: u64, _: &str) {}
//!
//!     fn advance_bar(_: &(), _: u64) {}
//! }
//!
//! let lines = Lines::default();
//! let subscriber = tracing_subscriber::registry().with(logcore_tracing::layer(lines.clone()));
//! tracing::subscriber::with_default(subscriber, || {
//!     let _epoch = tracing::info_span!("train", epoch = 3).entered();
//!     tracing::info!("a step was made");
//! });
//! assert_eq!(*lines.0.lock().unwrap(), ["a step was made epoch=3"]);
//! ```

mod echo;
mod event;
mod field;
mod layer;
mod span;

pub use self::echo::is_echo;
pub use self::layer::{EventLayer, EventReceiver, GiveRecord, Layer, LevelGate, is_installed, layer, note_new_level};
pub use self::span::with_span_fields;
pub use tracing_core::Subscriber;
pub use tracing_subscriber::registry::LookupSpan;
