//! The newest values of the metrics, between two exports.

use std::collections::BTreeMap;
use std::sync::Mutex;

use logcore::MetricBatch;
use logcore::sync::lock;

use crate::log_record::unix_nanos;
use crate::message::{Gauge, Metric, NumberDataPoint};
use crate::name_pattern::NamePattern;

/// The greatest number of names. More are left out, so that names with a number in them cost no
/// endless memory here and no endless series in the backend.
const MOST_NAMES: usize = 10_000;

/// The newest value of each metric, which a sink and its thread share.
pub(crate) struct Gauges {
    names: Vec<NamePattern>,
    has_min_max: bool,
    state: Mutex<GaugeState>,
}

#[derive(Default)]
struct GaugeState {
    values: BTreeMap<String, GaugeValue>,
    /// Number of calls since the last export that succeeded.
    pending: u64,
}

/// The values of a metric since the last export.
#[derive(Debug, Clone, Copy)]
struct GaugeValue {
    last: f64,
    min: f64,
    max: f64,
    time: u64,
    /// `true` if the value is newer than the last export.
    is_new: bool,
}

/// The content of an export.
pub(crate) struct GaugeExport {
    pub(crate) metrics: Vec<Metric>,
    /// Number of calls in it.
    pub(crate) calls: u64,
}

impl Gauges {
    pub(crate) fn new(names: Vec<NamePattern>, has_min_max: bool) -> Self {
        Self {
            names,
            has_min_max,
            state: Mutex::default(),
        }
    }

    /// Takes the values of a call. Returns `false` if none of its names is wanted.
    pub(crate) fn take(&self, batch: &MetricBatch<'_>) -> bool {
        let mut state = lock(&self.state);
        let mut has_taken = false;
        for (name, value) in batch.iter() {
            let value = value.as_decimal();
            let time = unix_nanos(batch.time());
            let has_room = state.values.len() < MOST_NAMES;
            match state.values.get_mut(name) {
                Some(gauge) => gauge.add(value, time),
                None if has_room && self.wants(name) => {
                    state.values.insert(name.to_owned(), GaugeValue::new(value, time));
                }
                None => continue,
            }
            has_taken = true;
        }
        state.pending += u64::from(has_taken);
        has_taken
    }

    /// Returns the metrics with a new value; `None` if there is none.
    pub(crate) fn export(&self) -> Option<GaugeExport> {
        let mut state = lock(&self.state);
        let mut metrics = Vec::new();
        for (name, gauge) in state.values.iter_mut().filter(|(_, gauge)| gauge.is_new) {
            metrics.push(metric(name.clone(), gauge.last, gauge.time));
            if self.has_min_max {
                metrics.push(metric(format!("{name}.min"), gauge.min, gauge.time));
                metrics.push(metric(format!("{name}.max"), gauge.max, gauge.time));
            }
            gauge.is_new = false;
        }
        let calls = std::mem::take(&mut state.pending);
        (!metrics.is_empty()).then_some(GaugeExport { metrics, calls })
    }

    /// Takes the calls of an export back that has failed: their values are sent with the next one.
    pub(crate) fn take_back(&self, export: &GaugeExport) {
        let mut state = lock(&self.state);
        state.pending += export.calls;
        for metric in &export.metrics {
            if let Some(gauge) = state.values.get_mut(&metric.name) {
                gauge.is_new = true;
            }
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }
}

impl GaugeValue {
    fn new(value: f64, time: u64) -> Self {
        Self {
            last: value,
            min: value,
            max: value,
            time,
            is_new: true,
        }
    }

    fn add(&mut self, value: f64, time: u64) {
        if !self.is_new {
            *self = Self::new(value, time);
            return;
        }
        // The minimum of NaN and a number is the number.
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        (self.last, self.time) = (value, time);
    }
}

fn metric(name: String, value: f64, time: u64) -> Metric {
    Metric {
        name,
        gauge: Some(Gauge {
            data_points: vec![NumberDataPoint {
                time_unix_nano: time,
                as_double: Some(value),
            }],
        }),
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;

    use super::*;

    fn take(gauges: &Gauges, name: &str, value: f64) -> bool {
        gauges.take(&MetricBatch::new("trainer", 1, &[(name, MetricValue::Float(value))]))
    }

    fn values(export: &GaugeExport) -> Vec<(&str, f64)> {
        let value = |metric: &Metric| metric.gauge.as_ref().unwrap().data_points[0].as_double.unwrap();
        export
            .metrics
            .iter()
            .map(|metric| (&*metric.name, value(metric)))
            .collect()
    }

    #[test]
    fn an_export_has_the_last_value_and_the_range_of_its_period() {
        let gauges = Gauges::new(vec![NamePattern::new("memory/*")], true);
        assert!(!take(&gauges, "metrics/loss", 1.0), "the name is not wanted");
        assert!(gauges.export().is_none());
        for value in [2.0, 0.0, 1.0] {
            assert!(take(&gauges, "memory/gpu", value));
        }
        let export = gauges.export().unwrap();
        let expected = [("memory/gpu", 1.0), ("memory/gpu.min", 0.0), ("memory/gpu.max", 2.0)];
        assert_eq!((values(&export), export.calls), (expected.to_vec(), 3));
        assert!(gauges.export().is_none(), "nothing is new");
        take(&gauges, "memory/gpu", 5.0);
        let expected = [("memory/gpu", 5.0), ("memory/gpu.min", 5.0), ("memory/gpu.max", 5.0)];
        assert_eq!(values(&gauges.export().unwrap()), expected);
    }

    #[test]
    fn a_failed_export_comes_again_with_newer_values() {
        let gauges = Gauges::new(vec![NamePattern::new("*")], false);
        take(&gauges, "a", 1.0);
        take(&gauges, "b", 2.0);
        let failed = gauges.export().unwrap();
        take(&gauges, "b", 3.0);
        gauges.take_back(&failed);
        let export = gauges.export().unwrap();
        assert_eq!((values(&export), export.calls), (vec![("a", 1.0), ("b", 3.0)], 3));
    }
}
