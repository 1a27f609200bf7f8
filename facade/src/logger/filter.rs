//! The filter on the caller's side: directives, rate limits and redaction, before a record goes
//! into the ring.

use std::sync::Arc;

use logcore::log::{LevelFilter, Log, Metadata, Record};
use logcore::{Directives, Redaction, is_logging_suppressed};
use logcore_pipeline::{LevelRule, RecordArrival, RecordOrigin, count_call_after_end, print_line_of_logger};

use crate::logger::gate::CallGate;
use crate::logger::rate_limit::SiteRateLimiter;

/// The rules by which a filter drops or changes records.
#[derive(Clone, Default)]
pub(crate) struct FilterRules {
    pub(crate) directives: Directives,
    pub(crate) limiter: Option<Arc<SiteRateLimiter>>,
    pub(crate) redaction: Option<Arc<Redaction>>,
}

impl FilterRules {
    /// Returns `true` if the rules let every record through unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.directives.is_empty() && self.limiter.is_none() && self.redaction.is_none()
    }
}

/// The filter of a logger: a dispatch for each way in which a record can reach the logger. The
/// logger itself checks the level.
pub(crate) struct RecordFilter {
    method: Box<dyn Log>,
    addressed: Box<dyn Log>,
    facade: Box<dyn Log>,
    foreign: Box<dyn Log>,
}

impl RecordFilter {
    /// Returns the filter of a logger whose sinks take records up to `level`.
    pub(crate) fn new(gate: &Arc<CallGate>, rules: &FilterRules, level: LevelFilter) -> Self {
        let limits = Arc::new(TargetLimits::new(&rules.directives, level));
        let dispatch = |arrival| dispatch(Arc::clone(gate), arrival, Arc::clone(&limits), rules.clone());
        Self {
            method: dispatch(RecordOrigin::Method.into()),
            addressed: dispatch(RecordOrigin::Addressed.into()),
            facade: dispatch(RecordOrigin::Facade.into()),
            foreign: dispatch(RecordArrival {
                origin: RecordOrigin::Facade,
                rule: LevelRule::Foreign,
            }),
        }
    }

    /// Returns the filter of a logger that has no sinks yet: it writes every record to stderr.
    pub(crate) fn to_stderr(logger: &str) -> Self {
        let to_stderr = || Box::new(StderrLog(logger.to_owned()));
        Self {
            method: to_stderr(),
            addressed: to_stderr(),
            facade: to_stderr(),
            foreign: to_stderr(),
        }
    }

    /// Returns the filter of a logger that has ended: it drops and counts every record.
    pub(crate) fn closed(logger: &str) -> Self {
        let closed = || Box::new(ClosedLog(logger.to_owned()));
        Self {
            method: closed(),
            addressed: closed(),
            facade: closed(),
            foreign: closed(),
        }
    }

    pub(crate) fn for_arrival(&self, arrival: RecordArrival) -> &dyn Log {
        match (arrival.origin, arrival.rule) {
            (RecordOrigin::Method, _) => &*self.method,
            (RecordOrigin::Addressed, _) => &*self.addressed,
            (RecordOrigin::Facade, LevelRule::Foreign) => &*self.foreign,
            (RecordOrigin::Facade, _) => &*self.facade,
        }
    }
}

/// The levels by target, for a logger with directives.
struct TargetLimits {
    directives: Directives,
    /// The limit for targets that no directive names: the directives' level without a target, and
    /// what the sinks take.
    others: LevelFilter,
}

impl TargetLimits {
    fn new(directives: &Directives, level: LevelFilter) -> Self {
        Self {
            others: directives.default_level().map_or(level, |ceiling| ceiling.min(level)),
            directives: directives.clone(),
        }
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let limit = self.directives.explicit_level(metadata.target());
        metadata.level() <= limit.unwrap_or(self.others)
    }

    fn is_named(&self, target: &str) -> bool {
        self.directives.explicit_level(target).is_some()
    }
}

fn dispatch(
    gate: Arc<CallGate>,
    arrival: RecordArrival,
    limits: Arc<TargetLimits>,
    rules: FilterRules,
) -> Box<dyn Log> {
    let mut dispatch = fern::Dispatch::new();
    if !rules.directives.is_empty() {
        let limits = Arc::clone(&limits);
        dispatch = dispatch.filter(move |metadata| limits.admits(metadata));
    }
    let appender: Box<dyn Log> = Box::new(RingAppender {
        gate,
        arrival,
        limits,
        limiter: rules.limiter,
        redaction: rules.redaction,
    });
    dispatch.chain(appender).into_log().1
}

/// The last part of a dispatch: limits, redacts, and puts the record into the ring.
struct RingAppender {
    gate: Arc<CallGate>,
    arrival: RecordArrival,
    limits: Arc<TargetLimits>,
    limiter: Option<Arc<SiteRateLimiter>>,
    redaction: Option<Arc<Redaction>>,
}

impl Log for RingAppender {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The pipeline drops records that a sink logs, so the limiter must not count them.
        if is_logging_suppressed() {
            return;
        }
        let producer = self.gate.producer();
        let mut arrival = self.arrival;
        if self.limits.is_named(record.target()) {
            arrival.rule = LevelRule::Directed;
        }
        if let Some(limiter) = &self.limiter
            && !limiter.admits(producer, arrival, record)
        {
            return;
        }
        match &self.redaction {
            // The producer formats the record once and redacts the encoded texts. Redacting the
            // `log::Record` would run the user's `Display` impls twice, and they may have side
            // effects.
            Some(redaction) => producer.record_rewritten(arrival, record, &|text| redaction.hide(text)),
            None => producer.record(arrival, record),
        }
    }

    fn flush(&self) {}
}

/// Writes the records for a logger of this name to stderr.
struct StderrLog(String);

impl Log for StderrLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if !is_logging_suppressed() {
            print_line_of_logger(&format!("{:<5} | {} | {}", record.level(), self.0, record.args()));
        }
    }

    fn flush(&self) {}
}

/// Drops and counts the records for a logger of this name that has ended.
struct ClosedLog(String);

impl Log for ClosedLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &Record<'_>) {
        if !is_logging_suppressed() {
            count_call_after_end(&self.0);
        }
    }

    fn flush(&self) {}
}
