//! Metric definitions in the form of the server: `_wandb.m` in the config.

use serde_json::{Map, Value};

use crate::log_format::proto::MetricRecord;

/// The metric definitions of a run, in their order.
#[derive(Default)]
pub(crate) struct MetricDefinitions(Vec<MetricRecord>);

impl MetricDefinitions {
    /// Adds a definition, or merges it with the definition of the same name.
    pub(crate) fn add(&mut self, metric: MetricRecord) {
        if metric.expanded_from_glob {
            return;
        }
        if !metric.step_metric.is_empty() && !self.0.iter().any(|known| known.name == metric.step_metric) {
            self.0.push(MetricRecord {
                name: metric.step_metric.clone(),
                ..MetricRecord::default()
            });
        }
        let same = |known: &&mut MetricRecord| known.name == metric.name && known.glob_name == metric.glob_name;
        match self.0.iter_mut().find(same) {
            Some(known) => known.update(metric),
            None => self.0.push(metric),
        }
    }

    /// Returns a list of objects whose keys are field numbers.
    pub(crate) fn list(&self) -> Value {
        self.0.iter().map(|metric| self.entry(metric)).collect()
    }

    /// Returns the object of one definition.
    fn entry(&self, metric: &MetricRecord) -> Value {
        let mut entry = Map::new();
        let mut put = |number: &str, value: Value| entry.insert(number.to_owned(), value);
        if metric.glob_name.is_empty() {
            put("1", metric.name.as_str().into());
        } else {
            put("2", metric.glob_name.as_str().into());
        }
        if !metric.step_metric.is_empty()
            && let Some(at) = self.0.iter().position(|known| known.name == metric.step_metric)
        {
            // Definitions are numbered from 1.
            put("5", (at + 1).into());
        }
        let options = metric.options.unwrap_or_default();
        put(
            "6",
            numbers([
                options.step_sync,
                options.hidden,
                options.defined && metric.glob_name.is_empty(),
            ]),
        );
        let kinds = metric.summary.unwrap_or_default();
        put(
            "7",
            numbers([
                kinds.min,
                kinds.max,
                kinds.mean,
                kinds.best,
                kinds.last,
                kinds.none,
                // `copy` is never sent: it is the default.
                false,
                kinds.first,
            ]),
        );
        if metric.goal != 0 {
            put("8", metric.goal.into());
        }
        Value::Object(entry)
    }
}

/// Returns the field numbers of the flags that are set.
fn numbers<const N: usize>(flags: [bool; N]) -> Value {
    let set = flags.iter().enumerate().filter(|(_, on)| **on);
    set.map(|(at, _)| Value::from(at + 1)).collect()
}
