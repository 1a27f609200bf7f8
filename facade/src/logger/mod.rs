//! One logger: its text, its metrics, its progress, its probes, and its end.

pub(crate) mod bars;
pub(crate) mod earlier_rows;
mod ending;
pub(crate) mod filter;
pub(crate) mod gate;
pub(crate) mod goals;
pub(crate) mod inner;
pub(crate) mod media;
pub(crate) mod metric_names;
pub(crate) mod metric_table;
pub(crate) mod metrics;
pub(crate) mod probe_thread;
pub(crate) mod probes;
pub(crate) mod progress;
pub(crate) mod rate_limit;
pub(crate) mod report;
pub(crate) mod settings;
pub(crate) mod sinks;
#[cfg(feature = "tracing")]
pub(crate) mod span_times;
pub(crate) mod steps;
pub(crate) mod summary;
pub(crate) mod terminal;
