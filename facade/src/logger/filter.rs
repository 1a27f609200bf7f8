//! The filter on the caller's side: directives, rate limits and redaction, before a record goes
//! into the ring.

use std::sync::Arc;

use logcore::log::{Log, Metadata, Record};
use logcore::{Directives, Redaction, is_logging_suppressed};
use logcore_pipeline::{RecordOrigin, count_call_after_end};

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
}

impl RecordFilter {
    pub(crate) fn new(gate: &Arc<CallGate>, rules: &FilterRules) -> Self {
        let dispatch = |origin| dispatch(Arc::clone(gate), origin, rules.clone());
        Self {
            method: dispatch(RecordOrigin::Method),
            addressed: dispatch(RecordOrigin::Addressed),
            facade: dispatch(RecordOrigin::Facade),
        }
    }

    /// Returns the filter of a logger that has ended: it drops and counts every record.
    pub(crate) fn closed(logger: &str) -> Self {
        let closed = || Box::new(ClosedLog(logger.to_owned()));
        Self {
            method: closed(),
            addressed: closed(),
            facade: closed(),
        }
    }

    pub(crate) fn for_origin(&self, origin: RecordOrigin) -> &dyn Log {
        match origin {
            RecordOrigin::Method => &*self.method,
            RecordOrigin::Addressed => &*self.addressed,
            RecordOrigin::Facade => &*self.facade,
        }
    }
}

fn dispatch(gate: Arc<CallGate>, origin: RecordOrigin, rules: FilterRules) -> Box<dyn Log> {
    let FilterRules {
        directives,
        limiter,
        redaction,
    } = rules;
    let mut dispatch = fern::Dispatch::new();
    if !directives.is_empty() {
        dispatch = dispatch.filter(move |metadata| directives.allows(metadata.target(), metadata.level()));
    }
    let appender: Box<dyn Log> = Box::new(RingAppender {
        gate,
        origin,
        limiter,
        redaction,
    });
    dispatch.chain(appender).into_log().1
}

/// The last part of a dispatch: limits, redacts, and puts the record into the ring.
struct RingAppender {
    gate: Arc<CallGate>,
    origin: RecordOrigin,
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
        if let Some(limiter) = &self.limiter
            && !limiter.admits(producer, self.origin, record)
        {
            return;
        }
        match &self.redaction {
            // The producer formats the record once and redacts the encoded texts. Redacting the
            // `log::Record` would run the user's `Display` impls twice, and they may have side
            // effects.
            Some(redaction) => producer.record_rewritten(self.origin, record, &|text| redaction.hide(text)),
            None => producer.record(self.origin, record),
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
