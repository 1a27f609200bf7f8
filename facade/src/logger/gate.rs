//! The gate between the calls of a logger and the pipeline.

use std::sync::atomic::{AtomicBool, Ordering};

use logcore::is_logging_suppressed;
use logcore_pipeline::{Producer, count_call_after_end};

/// Name and producer of a logger, and whether the logger still takes calls.
pub(crate) struct CallGate {
    logger: String,
    producer: Producer,
    closed: AtomicBool,
}

impl CallGate {
    pub(crate) fn new(logger: &str, producer: Producer) -> Self {
        Self {
            logger: logger.to_owned(),
            producer,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn logger(&self) -> &str {
        &self.logger
    }

    #[inline]
    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the logger takes a call now. Counts the call if the logger has ended.
    #[inline]
    pub(crate) fn admits_call(&self) -> bool {
        let is_closed = self.is_closed();
        if is_closed && !is_logging_suppressed() {
            count_call_after_end(&self.logger);
        }
        !is_closed
    }

    /// Returns `true` if this process has the open logger from the process that forked it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.producer.is_inherited() && !self.is_closed()
    }
}
