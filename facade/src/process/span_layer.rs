//! The loggers as receivers of `tracing`, and its spans as fields of every record.

use std::sync::Arc;

use logcore::MetricValue;
use logcore::log::{LevelFilter, Metadata};
use logcore_tracing::{EventReceiver, GiveRecord};

use crate::Bar;
use crate::logger::inner::LoggerInner;
use crate::logger::metric_table::StepChoice;
use crate::process::global_log;

/// Takes the events and spans of a layer. It does not keep its logger open.
pub struct LoggerReceiver {
    logger: Arc<LoggerInner>,
}

impl LoggerReceiver {
    pub(crate) fn new(logger: &Arc<LoggerInner>) -> Self {
        Self {
            logger: Arc::clone(logger),
        }
    }

    /// Returns the logger that has taken the place of the layer's: a sweep sets the name up again,
    /// and a forked child sets its own logger up.
    fn logger(&self) -> Arc<LoggerInner> {
        global_log::newest(&self.logger).unwrap_or_else(|| Arc::clone(&self.logger))
    }
}

impl std::fmt::Debug for LoggerReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggerReceiver")
            .field("logger", &self.logger.name())
            .finish_non_exhaustive()
    }
}

impl EventReceiver for LoggerReceiver {
    type Bar = Bar;

    fn max_level() -> LevelFilter {
        global_log::max_level()
    }

    fn receive_record(&self, metadata: &Metadata<'_>, give: &GiveRecord<'_>) {
        global_log::route_event(metadata, &self.logger, |logger, arrival| {
            if logger.is_enabled(arrival, metadata) {
                give(&mut |record| logger.log_complete(arrival, record));
            }
        });
    }

    fn receive_metrics(&self, step: Option<u64>, metrics: &[(&'static str, MetricValue)]) {
        let step = step.map_or(StepChoice::Next, StepChoice::At);
        self.logger().metrics().log(step, metrics.iter().copied());
    }

    fn is_timed(&self, span: &str) -> bool {
        self.logger().has_span_metric(span)
    }

    fn receive_time(&self, span: &'static str, seconds: f64) {
        self.logger().metrics().add_span_time(span, seconds);
    }

    fn start_bar(&self, total: u64, description: &str) -> Self::Bar {
        Bar::new(self.logger().start_bar(total, description))
    }

    fn advance_bar(bar: &Self::Bar, n: u64) {
        bar.advance(n);
    }
}
