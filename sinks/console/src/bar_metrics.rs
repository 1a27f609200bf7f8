//! The metrics beside a progress bar: those that the user chose, else the first few.
//!
//! `progress_metrics = ["loss", "loss:mean", "memory/gpu_allocated_gb"]` chooses the newest value
//! of `loss`, its average over `metrics_window`, and the GPU memory. Without a choice, the first
//! four metrics of the user are shown, and the GPU memory if it is logged. Names are shown without
//! their prefix and family, and a suffix `_gb` becomes the unit.

use std::cmp::Reverse;
use std::collections::VecDeque;

use logcore::reserved_names::is_system_metric;
use logcore::{LogConfig, MetricBatch, text};

/// Number of metrics that are shown if the user chose none.
const DEFAULT_COUNT: usize = 4;
/// The only metric of the system that is shown without being chosen.
const MEMORY: &str = "memory/gpu_allocated_gb";
/// Suffix of a name in `progress_metrics` that chooses the average over `metrics_window` instead of
/// the newest value.
const MEAN: &str = ":mean";

/// The newest values, or averages, of some metrics.
pub(crate) struct BarMetrics {
    prefix: String,
    window: usize,
    /// `true` if the user chose none, so that the first few are shown.
    takes_first: bool,
    metrics: Vec<BarMetric>,
    /// Number of calls of `log_metrics` so far.
    calls: u64,
}

struct BarMetric {
    /// The full name, with the prefix of the user's metrics.
    name: String,
    /// Name beside the bar.
    label: String,
    unit: &'static str,
    /// The newest values: those of the window for an average, else one.
    values: VecDeque<f64>,
    /// Maximum number of `values`.
    keep: usize,
    /// Number of the call with the newest value.
    call: u64,
}

impl BarMetrics {
    pub(crate) fn new(config: &LogConfig) -> Self {
        let mut metrics = Self {
            prefix: config.metrics_prefix.clone(),
            window: config.metrics_window,
            takes_first: config.progress_metrics.is_empty(),
            metrics: Vec::new(),
            calls: 0,
        };
        for chosen in &config.progress_metrics {
            let (name, keep) = match chosen.strip_suffix(MEAN) {
                Some(name) => (name, metrics.window),
                None => (chosen.as_str(), 1),
            };
            let full = match is_system_metric(name) {
                true => name.to_owned(),
                false => format!("{}{name}", metrics.prefix),
            };
            let metric = BarMetric::new(full, name, keep);
            metrics.metrics.push(metric);
        }
        metrics
    }

    /// Notes the values of a call of `log_metrics`.
    pub(crate) fn record(&mut self, batch: &MetricBatch<'_>) {
        self.calls += 1;
        for (name, value) in batch.iter() {
            let mut shown = false;
            for metric in self.metrics.iter_mut().filter(|metric| metric.name == name) {
                metric.record(value.as_f64(), self.calls);
                shown = true;
            }
            if shown || !self.takes_first {
                continue;
            }
            let label = match name.strip_prefix(self.prefix.as_str()) {
                _ if name == MEMORY => name,
                Some(label) if !(self.prefix.is_empty() && is_system_metric(name)) && self.has_room() => label,
                _ => continue,
            };
            let mut metric = BarMetric::new(name.to_owned(), label, 1);
            metric.record(value.as_f64(), self.calls);
            self.metrics.push(metric);
            // The memory comes after the user's own metrics.
            self.metrics.sort_by_key(|metric| metric.name == MEMORY);
        }
    }

    /// Returns the metrics that have a value, each as `name=value`.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.metrics.iter().filter_map(BarMetric::shown).collect()
    }

    /// Returns the metrics for a line that stays: those of the newest call first, if the user chose
    /// none. So the line of an epoch begins with the results of its validation.
    pub(crate) fn shown_newest_first(&self) -> Vec<String> {
        let mut metrics: Vec<&BarMetric> = self.metrics.iter().collect();
        if self.takes_first {
            metrics.sort_by_key(|metric| (metric.name == MEMORY, Reverse(metric.call)));
        }
        metrics.into_iter().filter_map(BarMetric::shown).collect()
    }

    /// Returns `true` if fewer than the default number of metrics are shown.
    fn has_room(&self) -> bool {
        self.metrics.iter().filter(|metric| metric.name != MEMORY).count() < DEFAULT_COUNT
    }
}

impl BarMetric {
    fn new(name: String, label: &str, keep: usize) -> Self {
        let label = match is_system_metric(&name) {
            true => label.rsplit('/').next().unwrap_or(label),
            false => label,
        };
        let (label, unit) = match label.strip_suffix("_gb") {
            Some(label) => (label, " GB"),
            None => (label, ""),
        };
        Self {
            name,
            label: label.to_owned(),
            unit,
            values: VecDeque::new(),
            keep,
            call: 0,
        }
    }

    fn record(&mut self, value: f64, call: u64) {
        self.call = call;
        if self.values.len() >= self.keep {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Returns the metric as `name=value`; `None` without a value.
    fn shown(&self) -> Option<String> {
        let value = match self.keep {
            1 => *self.values.back()?,
            _ => {
                // Averages are over the finite values, as in `metrics().average`.
                let finite: Vec<f64> = self.values.iter().copied().filter(|value| value.is_finite()).collect();
                finite.iter().sum::<f64>() / finite.len() as f64
            }
        };
        (!self.values.is_empty()).then(|| format!("{}={}{}", self.label, text::format_value(value), self.unit))
    }
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;

    use super::*;

    fn record(metrics: &mut BarMetrics, values: &[(&str, f64)]) {
        let batch: Vec<_> = values
            .iter()
            .map(|(name, value)| (*name, MetricValue::Float(*value)))
            .collect();
        metrics.record(&MetricBatch::new("t", 1, &batch));
    }

    #[test]
    fn the_first_few_metrics_are_shown_and_the_memory_after_them() {
        let mut metrics = BarMetrics::new(&LogConfig::default());
        record(
            &mut metrics,
            &[("memory/gpu_allocated_gb", 3.25), ("throughput/batch_time_ms", 1.0)],
        );
        record(&mut metrics, &[("metrics/loss", 0.5)]);
        record(&mut metrics, &[("metrics/loss", 0.25), ("metrics/lr", 1e-4)]);
        for more in ["metrics/a", "metrics/b", "metrics/c"] {
            record(&mut metrics, &[(more, 1.0)]);
        }
        insta::assert_snapshot!(metrics.shown().join(" "), @"loss=0.2500 lr=1.000e-4 a=1 b=1 gpu_allocated=3.2500 GB");
        record(&mut metrics, &[("metrics/lr", 1e-5), ("memory/gpu_allocated_gb", 3.5)]);
        let newest = metrics.shown_newest_first().join(" ");
        insta::assert_snapshot!(newest, @"lr=1.000e-5 b=1 a=1 loss=0.2500 gpu_allocated=3.5000 GB");
    }

    #[test]
    fn chosen_metrics_are_shown_newest_or_averaged() {
        let config = LogConfig {
            progress_metrics: vec!["loss:mean".into(), "loss".into(), "throughput/batch_time_ms".into()],
            metrics_window: 2,
            ..LogConfig::default()
        };
        let mut metrics = BarMetrics::new(&config);
        assert!(metrics.shown().is_empty());
        for value in [9.0, f64::NAN, 3.0, 1.0] {
            record(
                &mut metrics,
                &[
                    ("metrics/loss", value),
                    ("metrics/other", 1.0),
                    ("throughput/batch_time_ms", 7.5),
                ],
            );
        }
        insta::assert_snapshot!(metrics.shown().join(" "), @"loss=2 loss=1 batch_time_ms=7.5000");
    }
}
