//! What is decided on the caller's side; what passes goes into the ring.

use std::sync::Arc;

use logcore::log::{LevelFilter, Log, Metadata, Record};
use logcore::{Directives, Redaction, is_logging_suppressed};
use logcore_pipeline::{Producer, RecordOrigin, count_call_after_end};

use crate::limit::Limiter;

/// What may keep a record, or some of it, from the sinks.
#[derive(Clone, Default)]
pub(crate) struct Screens {
    pub(crate) directives: Directives,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) redaction: Option<Arc<Redaction>>,
}

impl Screens {
    /// Whether there is none of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.directives.is_empty() && self.limiter.is_none() && self.redaction.is_none()
    }
}

/// A logger's dispatches, one for each way in which a record can come to it.
pub(crate) struct Switchboard {
    method: Box<dyn Log>,
    addressed: Box<dyn Log>,
    facade: Box<dyn Log>,
}

impl Switchboard {
    pub(crate) fn new(producer: &Arc<Producer>, level: LevelFilter, screens: &Screens) -> Self {
        let dispatch = |route| dispatch(Arc::clone(producer), route, level, screens.clone());
        Self {
            method: dispatch(RecordOrigin::Method),
            addressed: dispatch(RecordOrigin::Addressed),
            facade: dispatch(RecordOrigin::Facade),
        }
    }

    /// That of a logger that has ended.
    pub(crate) fn closed(logger: &str) -> Self {
        let closed = || Box::new(Closed(logger.to_owned()));
        Self {
            method: closed(),
            addressed: closed(),
            facade: closed(),
        }
    }

    pub(crate) fn of(&self, route: RecordOrigin) -> &dyn Log {
        match route {
            RecordOrigin::Method => &*self.method,
            RecordOrigin::Addressed => &*self.addressed,
            RecordOrigin::Facade => &*self.facade,
        }
    }
}

fn dispatch(producer: Arc<Producer>, route: RecordOrigin, level: LevelFilter, screens: Screens) -> Box<dyn Log> {
    let Screens {
        directives,
        limiter,
        redaction,
    } = screens;
    let mut dispatch = fern::Dispatch::new().level(level);
    if !directives.is_empty() {
        dispatch = dispatch.filter(move |metadata| directives.allows(metadata.target(), metadata.level()));
    }
    let appender: Box<dyn Log> = Box::new(RingAppender {
        producer,
        route,
        limiter,
        redaction,
    });
    dispatch.chain(appender).into_log().1
}

/// The end of the caller's side.
struct RingAppender {
    producer: Arc<Producer>,
    route: RecordOrigin,
    limiter: Option<Arc<Limiter>>,
    redaction: Option<Arc<Redaction>>,
}

impl Log for RingAppender {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // What a sink says itself goes nowhere, and so is not counted.
        if is_logging_suppressed() {
            return;
        }
        if let Some(limiter) = &self.limiter
            && !limiter.admits(&self.producer, self.route, record)
        {
            return;
        }
        match &self.redaction {
            Some(redaction) => self
                .producer
                .rewritten_record(self.route, record, &|text| redaction.hide(text)),
            None => self.producer.record(self.route, record),
        }
    }

    fn flush(&self) {}
}

/// Counts what is said to the logger of this name.
struct Closed(String);

impl Log for Closed {
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
