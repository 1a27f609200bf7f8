//! Merges the values of one step over all ranks, and writes them as a row.

use std::collections::{BTreeMap, HashMap, HashSet};

use logcore::{MetricValue, nonfinite};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// The values of one rank in a step.
pub(crate) struct RankStep {
    pub(crate) rank: u32,
    pub(crate) time: f64,
    pub(crate) samples: Option<f64>,
    pub(crate) values: Vec<(String, MetricValue)>,
}

/// A step with the values of all ranks that have it.
pub(crate) struct MergedStep {
    number: u64,
    parts: BTreeMap<u32, RankStep>,
}

/// Columns of each merged row. `_` is appended to a metric of such a name.
const COLUMNS: [&str; 7] = [
    "step",
    "time",
    "logger",
    "ranks",
    "slowest_rank",
    "nonfinite",
    "attempt",
];
/// Metric that tells the slowest rank.
const BATCH_TIME: &str = "throughput/batch_time_ms";

impl MergedStep {
    /// A step that one rank has so far.
    pub(crate) fn new(number: u64, part: RankStep) -> Self {
        Self {
            number,
            parts: [(part.rank, part)].into(),
        }
    }

    /// Adds the values of another rank.
    pub(crate) fn add(&mut self, part: RankStep) {
        self.parts.insert(part.rank, part);
    }

    /// Returns `true` if the rank has the step.
    pub(crate) fn has(&self, rank: u32) -> bool {
        self.parts.contains_key(&rank)
    }

    /// Returns the row, with its line end. The first row of a file has all columns that are no
    /// metrics.
    pub(crate) fn line(&self, logger: &str, is_first: bool) -> Vec<u8> {
        let mut line = Vec::new();
        // Neither the row nor a vector can fail.
        let row = MergedRow {
            step: self,
            logger,
            is_first,
        };
        if serde_json::to_writer(&mut line, &row).is_ok() {
            line.push(b'\n');
        }
        line
    }

    /// Returns the time of the last rank's row.
    fn time(&self) -> f64 {
        self.parts
            .values()
            .map(|part| part.time)
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// Returns the rank with the highest batch time or, if no rank has one, the rank whose row is
    /// last in time.
    fn slowest_rank(&self) -> Option<u32> {
        let slowest = |measure: &dyn Fn(&RankStep) -> Option<f64>| {
            let measured = self.parts.values().filter_map(|part| Some((measure(part)?, part.rank)));
            // Of equal ranks the lowest.
            measured.reduce(|slowest, other| if other.0 > slowest.0 { other } else { slowest })
        };
        let batch_time = |part: &RankStep| {
            let (_, value) = part.values.iter().find(|(name, _)| name == BATCH_TIME)?;
            Some(value.as_f64()).filter(|time| time.is_finite())
        };
        let found = slowest(&batch_time).or_else(|| slowest(&|part| Some(part.time)));
        found.map(|(_, rank)| rank)
    }

    /// Returns the values and weights by name, in the order in which the names occur first.
    fn metrics(&self) -> Vec<(&str, Vec<(MetricValue, f64)>)> {
        let has_samples = self.parts.values().all(|part| part.samples.is_some());
        let mut metrics: Vec<(&str, Vec<(MetricValue, f64)>)> = Vec::new();
        let mut indices: HashMap<&str, usize> = HashMap::new();
        for part in self.parts.values() {
            let weight = part.samples.filter(|_| has_samples).unwrap_or(1.0);
            for (name, value) in &part.values {
                let at = *indices.entry(name).or_insert_with(|| {
                    metrics.push((name, Vec::new()));
                    metrics.len() - 1
                });
                metrics[at].1.push((*value, weight));
            }
        }
        metrics
    }
}

/// A row as it is written.
struct MergedRow<'a> {
    step: &'a MergedStep,
    logger: &'a str,
    is_first: bool,
}

impl Serialize for MergedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metrics = self.step.metrics();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &self.step.number)?;
        map.serialize_entry("time", &self.step.time())?;
        map.serialize_entry("logger", self.logger)?;
        map.serialize_entry("ranks", &self.step.parts.len())?;
        map.serialize_entry("slowest_rank", &self.step.slowest_rank())?;
        let mut taken: HashSet<String> = COLUMNS.map(str::to_owned).into();
        let mut names: Vec<String> = Vec::new();
        // The run's own names take precedence over the names made here.
        for (name, _) in &metrics {
            names.push(unique((*name).to_owned(), &mut taken));
        }
        let mut others: Vec<(String, MetricValue)> = Vec::new();
        for (name, (_, values)) in names.iter().zip(&metrics) {
            let summary = ValueSummary::new(values);
            let (min, max) = (
                unique(format!("{name}/min"), &mut taken),
                unique(format!("{name}/max"), &mut taken),
            );
            for (column, value) in [(name.clone(), summary.mean), (min, summary.min), (max, summary.max)] {
                map.serialize_entry(&column, &Some(value).filter(is_finite))?;
                if !is_finite(&value) {
                    others.push((column, value));
                }
            }
            if summary.not_finite > 0 {
                map.serialize_entry(&unique(format!("{name}/nan"), &mut taken), &summary.not_finite)?;
            }
        }
        let others: Vec<_> = others.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        if let Some(text) = nonfinite::write(&others).or_else(|| self.is_first.then(String::new)) {
            map.serialize_entry("nonfinite", &text)?;
        }
        map.end()
    }
}

fn is_finite(value: &MetricValue) -> bool {
    value.as_f64().is_finite()
}

/// Appends `_` to a name until no column has it.
fn unique(mut name: String, taken: &mut HashSet<String>) -> String {
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// The summary of one metric in a step.
#[derive(Debug, PartialEq)]
struct ValueSummary {
    mean: MetricValue,
    min: MetricValue,
    max: MetricValue,
    /// Number of values that are NaN or infinite.
    not_finite: usize,
}

impl ValueSummary {
    /// Summarizes values with their weights.
    fn new(values: &[(MetricValue, f64)]) -> Self {
        let finite: Vec<_> = values.iter().filter(|(value, _)| value.as_f64().is_finite()).collect();
        let not_finite = values.len() - finite.len();
        let (Some(min), Some(max)) = (
            finite
                .iter()
                .map(|(value, _)| *value)
                .reduce(|a, b| if less(b, a) { b } else { a }),
            finite
                .iter()
                .map(|(value, _)| *value)
                .reduce(|a, b| if less(a, b) { b } else { a }),
        ) else {
            // The sum is infinite if all values are the same infinity, else NaN.
            let sum = MetricValue::Float(values.iter().map(|(value, _)| value.as_f64()).sum());
            return Self {
                mean: sum,
                min: sum,
                max: sum,
                not_finite,
            };
        };
        let total: f64 = finite.iter().map(|(_, weight)| weight).sum();
        let share = |weight: f64| match total > 0.0 {
            true => weight / total,
            false => 1.0 / finite.len() as f64,
        };
        let mean = if less(min, max) {
            // The shares add up to 1, so the sum cannot overflow. The clamp undoes rounding.
            let sum: f64 = finite
                .iter()
                .map(|(value, weight)| value.as_f64() * share(*weight))
                .sum();
            MetricValue::Float(sum.clamp(min.as_f64(), max.as_f64()))
        } else {
            // If all values are equal, the mean keeps their type.
            min
        };
        Self {
            mean,
            min,
            max,
            not_finite,
        }
    }
}

/// Compares integers as integers, because not every integer is an `f64`.
fn less(a: MetricValue, b: MetricValue) -> bool {
    let integer = |value| match value {
        MetricValue::Int(value) => Some(i128::from(value)),
        MetricValue::UInt(value) => Some(i128::from(value)),
        _ => None,
    };
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(values: &[f64]) -> Vec<(MetricValue, f64)> {
        values.iter().map(|value| (MetricValue::Float(*value), 1.0)).collect()
    }

    #[test]
    fn summary_leaves_out_and_counts_values_that_are_not_finite() {
        let summary = ValueSummary::new(&values(&[1.0, f64::NAN, 3.0, f64::INFINITY]));
        assert_eq!((summary.mean.as_f64(), summary.not_finite), (2.0, 2));
        assert_eq!((summary.min.as_f64(), summary.max.as_f64()), (1.0, 3.0));
        assert_eq!(
            ValueSummary::new(&values(&[f64::INFINITY; 2])).mean.as_f64(),
            f64::INFINITY
        );
        assert!(ValueSummary::new(&values(&[f64::NAN; 2])).mean.as_f64().is_nan());
    }

    #[test]
    fn mean_of_equal_integers_is_an_integer() {
        let large = MetricValue::Int((1 << 53) + 1);
        let summary = ValueSummary::new(&[(large, 1.0), (large, 2.0)]);
        assert_eq!(summary.mean, large);
        let summary = ValueSummary::new(&[(MetricValue::Int(1), 1.0), (MetricValue::Int(2), 3.0)]);
        assert_eq!(summary.mean, MetricValue::Float(1.75));
        assert_eq!((summary.min, summary.max), (MetricValue::Int(1), MetricValue::Int(2)));
    }

    #[test]
    fn row_has_unique_columns() {
        let part = |rank| RankStep {
            rank,
            time: f64::from(rank),
            samples: None,
            values: [("x", 1.0), ("x/min", 2.0), ("ranks", 3.0)]
                .map(|(name, value)| (name.to_owned(), MetricValue::Float(value)))
                .into(),
        };
        let mut step = MergedStep::new(7, part(0));
        step.add(part(1));
        assert_eq!(
            String::from_utf8(step.line("a", true)).unwrap(),
            "{\"step\":7,\"time\":1.0,\"logger\":\"a\",\"ranks\":2,\"slowest_rank\":1,\
             \"x\":1.0,\"x/min_\":1.0,\"x/max\":1.0,\
             \"x/min\":2.0,\"x/min/min\":2.0,\"x/min/max\":2.0,\
             \"ranks_\":3.0,\"ranks_/min\":3.0,\"ranks_/max\":3.0,\"nonfinite\":\"\"}\n"
        );
    }

    #[test]
    fn column_stays_numeric_where_no_rank_has_a_finite_value() {
        let values = vec![("x".to_owned(), MetricValue::F32(f32::NAN))];
        let part = RankStep {
            rank: 0,
            time: 0.5,
            samples: None,
            values,
        };
        assert_eq!(
            String::from_utf8(MergedStep::new(7, part).line("a", false)).unwrap(),
            "{\"step\":7,\"time\":0.5,\"logger\":\"a\",\"ranks\":1,\"slowest_rank\":0,\
             \"x\":null,\"x/min\":null,\"x/max\":null,\"x/nan\":1,\
             \"nonfinite\":\"{\\\"x\\\":\\\"NaN\\\",\\\"x/max\\\":\\\"NaN\\\",\\\"x/min\\\":\\\"NaN\\\"}\"}\n"
        );
    }

    fn finite() -> impl Strategy<Value = f64> {
        any::<f64>().prop_filter("finite", |value| value.is_finite())
    }

    proptest! {
        #[test]
        fn mean_lies_between_min_and_max(
            values in prop::collection::vec((finite(), 0.0..1e9), 1..9),
        ) {
            let values: Vec<_> = values
                .into_iter()
                .map(|(value, weight)| (MetricValue::Float(value), weight))
                .collect();
            let ValueSummary { mean, min, max, .. } = ValueSummary::new(&values);
            prop_assert!(min.as_f64() <= mean.as_f64() && mean.as_f64() <= max.as_f64());
        }
    }
}
