//! The times of spans, summed for each step.

use std::collections::HashMap;

use logcore::process_number;

use crate::logger::metric_table::MetricSample;

/// The times of the spans that have ended at a step, until the step is over: averages, rules and
/// charts are of whole steps.
#[derive(Default)]
pub(crate) struct SpanTimes {
    step: u64,
    /// The process that the spans have ended in: a child of a fork begins anew.
    process: u64,
    /// Sums in milliseconds, in the order in which the first spans have ended.
    sums: Vec<MetricSample>,
    /// The metric of each span.
    metrics: HashMap<&'static str, u32>,
}

/// The sums of a step that is over.
pub(crate) struct StepTimes {
    pub(crate) step: u64,
    pub(crate) sums: Vec<MetricSample>,
}

impl SpanTimes {
    /// Returns `true` if spans have ended at a step that is not the current one.
    #[inline]
    pub(crate) fn have_ended(&self, current: u64) -> bool {
        !self.sums.is_empty() && self.step != current
    }

    /// Returns the metric of a span, if the span was timed before.
    pub(crate) fn metric(&self, span: &str) -> Option<u32> {
        self.metrics.get(span).copied()
    }

    pub(crate) fn set_metric(&mut self, span: &'static str, metric: u32) {
        self.metrics.insert(span, metric);
    }

    /// Adds the time of a span at the current step. The sums of the step before must be taken.
    pub(crate) fn add(&mut self, current: u64, time: MetricSample) {
        if self.process != process_number() {
            self.sums.clear();
        }
        (self.step, self.process) = (current, process_number());
        match self.sums.iter_mut().find(|sum| sum.metric == time.metric) {
            Some(sum) => sum.value = (sum.value.as_f64() + time.value.as_f64()).into(),
            None => self.sums.push(time),
        }
    }

    /// Takes the sums; `None` if this process has none.
    pub(crate) fn take(&mut self) -> Option<StepTimes> {
        let sums = std::mem::take(&mut self.sums);
        (!sums.is_empty() && self.process == process_number()).then_some(StepTimes { step: self.step, sums })
    }
}
