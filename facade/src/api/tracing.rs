//! `tracing`: a layer that gives events and spans to the loggers.

use logcore_tracing::{Layer, LookupSpan, Subscriber};

use crate::UnifiedLogger;
use crate::process::span_layer::LoggerReceiver;

/// Returns a layer that gives the events and spans of `tracing` to the loggers.
///
/// An event is a record like those of the `log` macros: the logger whose name is above its target
/// takes the event, else the logger that the thread has [entered](UnifiedLogger::enter), else one
/// whose directives name the target, else `logger`. Levels, directives, `redact` and limits hold,
/// also after a change. The layer does not keep `logger` open.
///
/// - **Fields** keep their types. After those of the event come those of its spans, the outermost
///   first; of equal names the nearest counts. `span` has the names of the spans: `train:epoch`.
///   Records of the `log` macros and of the logger's methods get the fields of the thread's spans,
///   too.
/// - **Metrics**: a field `metric.loss = 0.5` is logged as the metric `loss` of `logger`, at the
///   step in the field `step` if the event has one.
/// - **Times**: spans with `metric = true`, and those in
///   [`span_metrics`](crate::LogConfig::span_metrics), are metrics `time/<name>_ms`, from the
///   beginning of a span to its end, summed for each step. The sum is logged once the logger is at
///   another step, or ends.
/// - **Bars**: a span with `progress = 100` is a bar with this total until the span ends; a value
///   that is recorded in its field `pos` is the position.
///
/// With the feature `log-always` of `tracing`, the copies that it makes for `log` are dropped.
///
/// The layer filters for itself alone, by the most verbose level of all loggers. Other layers and
/// filters may stand beside it. A program needs one layer, also for several loggers.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let quiet = facade::LogConfig { enable_console: false, run: "flat".into(), ..Default::default() };
/// # let config = facade::LogConfig { log_dir: folder.path().into(), ..quiet };
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let logger = facade::setup_logging(config)?;
/// let subscriber = tracing_subscriber::registry().with(facade::tracing::layer(&logger));
/// # tracing::subscriber::with_default(subscriber, || {
/// # #[cfg(any())]
/// tracing::subscriber::set_global_default(subscriber)?;
///
/// let epoch = tracing::info_span!("epoch", epoch = 3).entered();
/// tracing::warn!(rate = 0.5, "learning rate is high");
/// tracing::info!(metric.loss = 0.25);
/// drop(epoch);
/// # });
///
/// assert_eq!(logger.metrics().average("loss"), Some(0.25));
/// logger.flush()?;
/// # #[cfg(feature = "file")] {
/// let text = std::fs::read_to_string(logger.log_file()).unwrap();
/// assert!(text.contains("learning rate is high | rate=0.5 epoch=3 span=epoch"));
/// # }
/// # Ok::<(), facade::LogError>(())
/// ```
pub fn layer<S>(logger: &UnifiedLogger) -> Layer<LoggerReceiver, S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    logcore_tracing::layer(LoggerReceiver::new(logger.shared()))
}
