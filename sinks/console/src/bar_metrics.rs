//! What stands behind a progress: the metrics that the user chose, else the first few.

use std::collections::VecDeque;

use logcore::{LogConfig, MetricBatch, text};

/// So many metrics are shown where none are chosen.
const FIRST: usize = 4;
/// The system's own families are shown only where they are chosen, …
const SYSTEM: [&str; 4] = ["throughput/", "progress/", "memory/", "system/"];
/// … except this one.
const MEMORY: &str = "memory/gpu_allocated_gb";
/// Behind a name in `progress_metrics`: the average over `metrics_window` instead of the newest value.
const MEAN: &str = ":mean";

/// The newest values, or averages, of some metrics.
pub(crate) struct BarMetrics {
    prefix: String,
    window: usize,
    /// Whether the first few are taken as they come.
    by_itself: bool,
    metrics: Vec<BarMetric>,
}

struct BarMetric {
    /// As the sinks have it.
    name: String,
    label: String,
    unit: &'static str,
    /// The values of the window where the average is shown, else the newest.
    values: VecDeque<f64>,
    keep: usize,
}

impl BarMetrics {
    pub(crate) fn new(config: &LogConfig) -> Self {
        let mut behind = Self {
            prefix: config.metrics_prefix.clone(),
            window: config.metrics_window,
            by_itself: config.progress_metrics.is_empty(),
            metrics: Vec::new(),
        };
        for chosen in &config.progress_metrics {
            let (name, keep) = match chosen.strip_suffix(MEAN) {
                Some(name) => (name, behind.window),
                None => (chosen.as_str(), 1),
            };
            let full = match is_system(name) {
                true => name.to_owned(),
                false => format!("{}{name}", behind.prefix),
            };
            let metric = BarMetric::new(full, name, keep);
            behind.metrics.push(metric);
        }
        behind
    }

    pub(crate) fn note(&mut self, batch: &MetricBatch<'_>) {
        for (name, value) in batch.iter() {
            let mut known = false;
            for metric in self.metrics.iter_mut().filter(|metric| metric.name == name) {
                metric.note(value.as_f64());
                known = true;
            }
            if known || !self.by_itself {
                continue;
            }
            let label = match name.strip_prefix(self.prefix.as_str()) {
                _ if name == MEMORY => name,
                Some(label) if !(self.prefix.is_empty() && is_system(name)) && self.has_room() => label,
                _ => continue,
            };
            let mut metric = BarMetric::new(name.to_owned(), label, 1);
            metric.note(value.as_f64());
            self.metrics.push(metric);
            // The memory stands behind the user's own.
            self.metrics.sort_by_key(|metric| metric.name == MEMORY);
        }
    }

    /// Each as `name=value`.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.metrics.iter().filter_map(BarMetric::shown).collect()
    }

    fn has_room(&self) -> bool {
        self.metrics.iter().filter(|metric| metric.name != MEMORY).count() < FIRST
    }
}

impl BarMetric {
    fn new(name: String, label: &str, keep: usize) -> Self {
        let label = match is_system(&name) {
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
        }
    }

    fn note(&mut self, value: f64) {
        if self.values.len() >= self.keep {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    fn shown(&self) -> Option<String> {
        let value = match self.keep {
            1 => *self.values.back()?,
            _ => {
                // The same as the average that `metrics().average` gives: of what is finite.
                let finite: Vec<f64> = self.values.iter().copied().filter(|value| value.is_finite()).collect();
                finite.iter().sum::<f64>() / finite.len() as f64
            }
        };
        (!self.values.is_empty()).then(|| format!("{}={}{}", self.label, text::format_value(value), self.unit))
    }
}

fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;

    use super::*;

    fn note(behind: &mut BarMetrics, metrics: &[(&str, f64)]) {
        let batch: Vec<_> = metrics
            .iter()
            .map(|(name, value)| (*name, MetricValue::Float(*value)))
            .collect();
        behind.note(&MetricBatch::new("t", 1, &batch));
    }

    #[test]
    fn the_first_few_of_the_user_and_the_memory_behind_them() {
        let mut behind = BarMetrics::new(&LogConfig::default());
        note(
            &mut behind,
            &[("memory/gpu_allocated_gb", 3.25), ("throughput/batch_time_ms", 1.0)],
        );
        note(&mut behind, &[("metrics/loss", 0.5)]);
        note(&mut behind, &[("metrics/loss", 0.25), ("metrics/lr", 1e-4)]);
        for more in ["metrics/a", "metrics/b", "metrics/c"] {
            note(&mut behind, &[(more, 1.0)]);
        }
        insta::assert_snapshot!(behind.shown().join(" "), @"loss=0.2500 lr=1.000e-4 a=1 b=1 gpu_allocated=3.2500 GB");
    }

    #[test]
    fn those_that_are_chosen_newest_or_averaged() {
        let config = LogConfig {
            progress_metrics: vec!["loss:mean".into(), "loss".into(), "throughput/batch_time_ms".into()],
            metrics_window: 2,
            ..LogConfig::default()
        };
        let mut behind = BarMetrics::new(&config);
        assert!(behind.shown().is_empty());
        for value in [9.0, f64::NAN, 3.0, 1.0] {
            note(
                &mut behind,
                &[
                    ("metrics/loss", value),
                    ("metrics/other", 1.0),
                    ("throughput/batch_time_ms", 7.5),
                ],
            );
        }
        insta::assert_snapshot!(behind.shown().join(" "), @"loss=2 loss=1 batch_time_ms=7.5000");
    }
}
