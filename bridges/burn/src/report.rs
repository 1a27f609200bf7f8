//! The values that burn reports for an iteration, or for a whole pass over the data.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::mem;
use std::sync::Arc;

use burn_train::metric::{MetricAttributes, MetricDefinition, MetricId, NumericEntry, format_float};
use burn_train::renderer::MetricState;
use facade::{Goal, MetricValue};

/// Collects what burn reports, until somebody takes it.
#[derive(Default)]
pub(crate) struct Report {
    metrics: HashMap<MetricId, Arc<KnownMetric>>,
    numbers: Vec<MetricNumber>,
    texts: BTreeMap<String, String>,
}

/// A metric that burn has announced.
#[derive(Debug)]
pub(crate) struct KnownMetric {
    pub(crate) name: String,
    unit: Option<String>,
    /// Which values burn calls better; `None` for a metric of texts.
    pub(crate) goal: Option<Goal>,
}

/// A number of a metric.
#[derive(Debug, Clone)]
pub(crate) struct MetricNumber {
    pub(crate) metric: Arc<KnownMetric>,
    pub(crate) entry: NumericEntry,
}

impl Report {
    /// Takes note of a metric. Values of others are left out.
    pub(crate) fn announce(&mut self, definition: MetricDefinition) {
        let (unit, goal) = match definition.attributes {
            MetricAttributes::Numeric(numeric) if numeric.higher_is_better => (numeric.unit, Some(Goal::Max)),
            MetricAttributes::Numeric(numeric) => (numeric.unit, Some(Goal::Min)),
            MetricAttributes::None => (None, None),
        };
        let name = definition.name.to_string();
        let metric = KnownMetric { name, unit, goal };
        self.metrics.insert(definition.metric_id, Arc::new(metric));
    }

    /// Adds a value, as burn's file logger does: numbers, or else texts.
    pub(crate) fn add(&mut self, state: MetricState) {
        let (entry, number) = match state {
            MetricState::Numeric(entry, number) => (entry, number),
            // A metric that burn is asked to show as text may have numbers all the same.
            MetricState::Generic(entry) => {
                let number = NumericEntry::deserialize(&entry.serialized_entry.serialized).ok();
                (entry, number)
            }
        };
        let Some(metric) = self.metrics.get(&entry.metric_id) else {
            return;
        };
        // A metric over the whole pass has nothing to tell of a batch.
        if entry.serialized_entry.is_not_available() {
            return;
        }
        match number {
            Some(entry) => self.numbers.push(MetricNumber {
                metric: Arc::clone(metric),
                entry,
            }),
            None => {
                self.texts.insert(metric.name.clone(), entry.serialized_entry.formatted);
            }
        }
    }

    pub(crate) fn take_numbers(&mut self) -> Vec<MetricNumber> {
        mem::take(&mut self.numbers)
    }

    /// Takes the newest text of each metric without numbers.
    pub(crate) fn take_texts(&mut self) -> BTreeMap<String, String> {
        mem::take(&mut self.texts)
    }
}

/// Returns the names, behind a prefix, and the values for a row.
pub(crate) fn row(prefix: &str, numbers: &[MetricNumber]) -> Vec<(String, MetricValue)> {
    let pair = |number: &MetricNumber| {
        let name = format!("{prefix}{}", number.metric.name);
        (name, number.entry.current().into())
    };
    numbers.iter().map(pair).collect()
}

/// Returns the values as a text: `Loss 0.3127, Accuracy 91.2500 %`.
pub(crate) fn describe(numbers: &[MetricNumber]) -> String {
    let mut text = String::new();
    for MetricNumber { metric, entry } in numbers {
        if !text.is_empty() {
            text.push_str(", ");
        }
        // A write to a string cannot fail.
        let _ = write!(text, "{} {}", metric.name, format_float(entry.current(), 4));
        if let Some(unit) = &metric.unit {
            let _ = write!(text, " {unit}");
        }
    }
    text
}

/// The values of a whole pass, from those of its batches.
///
/// They are what burn's summary shows: the mean by the number of elements.
#[derive(Default)]
pub(crate) struct PassMeans(Vec<PassMean>);

struct PassMean {
    metric: Arc<KnownMetric>,
    sum: f64,
    count: usize,
}

impl PassMeans {
    pub(crate) fn add(&mut self, numbers: &[MetricNumber]) {
        for MetricNumber { metric, entry } in numbers {
            let count = match entry {
                NumericEntry::Aggregated { count, .. } => *count,
                NumericEntry::Value(_) | NumericEntry::Final(_) => 1,
            };
            let sum = entry.current() * count as f64;
            match self.0.iter_mut().find(|mean| Arc::ptr_eq(&mean.metric, metric)) {
                Some(mean) => {
                    mean.sum += sum;
                    mean.count += count;
                }
                None => self.0.push(PassMean {
                    metric: Arc::clone(metric),
                    sum,
                    count,
                }),
            }
        }
    }

    pub(crate) fn into_numbers(self) -> Vec<MetricNumber> {
        let number = |mean: PassMean| MetricNumber {
            metric: mean.metric,
            entry: NumericEntry::Final(mean.sum / mean.count as f64),
        };
        self.0.into_iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn_train::metric::{MetricEntry, NumericAttributes, SerializedEntry};

    use super::*;

    fn report_of(name: &str, attributes: MetricAttributes) -> (Report, MetricId) {
        let mut report = Report::default();
        let id = MetricId::new(Arc::new(name.to_owned()));
        report.announce(MetricDefinition {
            metric_id: id.clone(),
            name: Arc::new(name.to_owned()),
            description: None,
            attributes,
        });
        (report, id)
    }

    fn text(id: &MetricId, serialized: &str) -> MetricState {
        let entry = SerializedEntry::new("shown".to_owned(), serialized.to_owned());
        MetricState::Generic(MetricEntry::new(id.clone(), entry))
    }

    #[test]
    fn numbers_shown_as_text_stay_numbers_and_what_is_not_available_is_left_out() {
        let (mut report, id) = report_of("Power", MetricAttributes::None);
        for serialized in ["1.5", "0.25,8", "N/A", "", "75 W"] {
            report.add(text(&id, serialized));
        }
        report.add(text(&MetricId::new(Arc::new("Unknown".to_owned())), "3"));
        assert_eq!(
            row("a/", &report.take_numbers()),
            [1.5, 0.25].map(|value| ("a/Power".into(), value.into()))
        );
        assert_eq!(report.take_texts(), BTreeMap::from([("Power".into(), "shown".into())]));
        assert!(report.take_numbers().is_empty());
    }

    #[test]
    fn the_mean_of_a_pass_weighs_each_value_with_its_elements() {
        let attributes = NumericAttributes {
            unit: Some("%".into()),
            higher_is_better: true,
        };
        let (mut report, id) = report_of("Accuracy", attributes.into());
        report.add(text(&id, "0.5"));
        report.add(text(&id, "1.25,2"));
        let mut means = PassMeans::default();
        means.add(&report.take_numbers());
        let numbers = means.into_numbers();
        assert_eq!(numbers[0].metric.goal, Some(Goal::Max));
        assert_eq!(describe(&numbers), "Accuracy 1.0000 %");
    }
}
