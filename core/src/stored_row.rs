//! Rows of `metrics.jsonl`, read back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::{MetricValue, canonical_name, nonfinite};

/// A row of `metrics.jsonl`, read back.
///
/// A value that is no finite number is `null` in the file, and its text stands in the column
/// `nonfinite`. This type gives the value back.
///
/// ```
/// use logcore::StoredRow;
///
/// let line = r#"{"step":13,"time":1763909295.2,"logger":"trainer","attempt":2,
///     "nonfinite":"{\"metrics/loss\":\"NaN\"}","metrics/loss":null,"metrics/lr":0.1}"#;
/// let row: StoredRow = serde_json::from_str(line).unwrap();
/// assert_eq!((row.step, row.attempt), (13, 2));
/// assert!(row.value("metrics/loss").unwrap().is_nan());
/// assert_eq!(row.value("metrics/lr"), Some(0.1));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredRow {
    /// Step of all values.
    pub step: u64,
    /// Time of the newest value, in seconds since 1970.
    pub time: f64,
    /// Name of the logger.
    pub logger: String,
    /// Number of the attempt that wrote the row. Rows of the first attempt need not name it.
    pub attempt: u32,
    /// Names and values, in the order of the row.
    pub values: Vec<(String, MetricValue)>,
}

impl StoredRow {
    /// Creates a row of the first attempt, without values.
    #[must_use]
    pub fn new(step: u64, time: f64, logger: impl Into<String>) -> Self {
        Self {
            step,
            time,
            logger: logger.into(),
            attempt: 1,
            values: Vec::new(),
        }
    }

    /// Returns the value of this name as a float.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        let found = self.values.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_f64())
    }

    /// Adds the values of a later row of the same step; they replace earlier ones of the same name.
    ///
    /// ```
    /// use logcore::{MetricValue, StoredRow};
    ///
    /// let mut row = StoredRow::new(7, 1.0, "trainer");
    /// row.values.push(("loss".to_owned(), MetricValue::Float(0.5)));
    /// let mut later = StoredRow::new(7, 2.0, "trainer");
    /// later.values.push(("loss".to_owned(), MetricValue::Float(0.4)));
    /// row.add(later);
    /// assert_eq!((row.time, row.value("loss")), (2.0, Some(0.4)));
    /// ```
    pub fn add(&mut self, later: Self) {
        self.time = later.time;
        self.attempt = later.attempt;
        if later.values.len() <= FEW {
            for (name, value) in later.values {
                match self.values.iter_mut().find(|(own, _)| *own == name) {
                    Some((_, own)) => *own = value,
                    None => self.values.push((name, value)),
                }
            }
            return;
        }
        let mut places: HashMap<String, usize> = HashMap::with_capacity(self.values.len());
        for (place, (name, _)) in self.values.iter().enumerate() {
            places.entry(name.clone()).or_insert(place);
        }
        for (name, value) in later.values {
            match places.get(&name) {
                Some(place) => self.values[*place].1 = value,
                None => {
                    places.insert(name.clone(), self.values.len());
                    self.values.push((name, value));
                }
            }
        }
    }
}

/// Most values whose names are looked for one by one: of more, the time would grow with the square.
const FEW: usize = 16;

impl<'de> Deserialize<'de> for StoredRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StoredRowVisitor)
    }
}

struct StoredRowVisitor;

impl<'de> Visitor<'de> for StoredRowVisitor {
    type Value = StoredRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with step, time, logger and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoredRow, A::Error> {
        let (mut step, mut time, mut logger) = (None, None, None);
        let (mut attempt, mut nonfinite_text) = (None, None);
        let mut values: Vec<(String, Option<MetricValue>)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "step" => step = Some(map.next_value()?),
                "time" => time = Some(map.next_value()?),
                "logger" => logger = Some(map.next_value()?),
                "attempt" => attempt = map.next_value()?,
                "nonfinite" => nonfinite_text = map.next_value::<Option<String>>()?,
                _ => values.push((name, map.next_value()?)),
            }
        }
        let mut others = nonfinite::read(&nonfinite_text.unwrap_or_default());
        let values = values
            .into_iter()
            .filter_map(|(name, value)| Some((value.or_else(|| others.remove(&name))?, name)))
            .map(|(value, name)| (name, value))
            .collect();
        Ok(StoredRow {
            step: step.ok_or_else(|| de::Error::missing_field("step"))?,
            time: time.ok_or_else(|| de::Error::missing_field("time"))?,
            logger: logger.ok_or_else(|| de::Error::missing_field("logger"))?,
            attempt: attempt.unwrap_or(1),
            values,
        })
    }
}

/// The rows that later attempts of a run have superseded.
///
/// An attempt that goes on from a checkpoint names the first step that it logs, for each logger.
/// Rows of earlier attempts from that step on are superseded, whether they were logged again or
/// not.
///
/// ```
/// use logcore::{StoredRow, SupersededRows};
///
/// let mut superseded = SupersededRows::default();
/// superseded.add(2, "trainer", 501);
/// let row = StoredRow::new(500, 0.0, "trainer");
/// assert!(!superseded.contains(&row));
/// assert!(superseded.contains(&StoredRow::new(501, 0.0, "trainer")));
/// assert!(!superseded.contains(&StoredRow::new(501, 0.0, "evaluator")));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SupersededRows {
    /// Attempts and their first steps, by the canonical name of the logger.
    first_steps: BTreeMap<String, Vec<(u32, u64)>>,
}

impl SupersededRows {
    /// Adds the first step of a logger in an attempt.
    pub fn add(&mut self, attempt: u32, logger: &str, first_step: u64) {
        let steps = self.first_steps.entry(canonical_name(logger).into_owned()).or_default();
        steps.push((attempt, first_step));
    }

    /// Returns `true` if a later attempt has superseded the row.
    #[must_use]
    pub fn contains(&self, row: &StoredRow) -> bool {
        if self.first_steps.is_empty() {
            return false;
        }
        let steps = self.first_steps.get(&*canonical_name(&row.logger));
        steps.is_some_and(|steps| {
            let is_later = |(attempt, first): &(u32, u64)| *attempt > row.attempt && row.step >= *first;
            steps.iter().any(is_later)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_row_replaces_values_of_few_and_of_many_names() {
        for count in [4, FEW, 1000] {
            let values = |names: std::ops::Range<usize>, value: u64| {
                let values = names.map(|name| (format!("m{name}"), MetricValue::UInt(value)));
                values.collect::<Vec<_>>()
            };
            let (mut row, mut later) = (StoredRow::new(7, 1.0, "a"), StoredRow::new(7, 2.0, "a"));
            row.values = values(0..count, 1);
            later.values = values(count / 2..count / 2 + count, 2);
            later.values.push(("m0".to_owned(), MetricValue::UInt(3)));
            row.add(later);
            let names = row.values.iter().map(|(name, _)| name.clone());
            assert!(names.eq((0..count / 2 + count).map(|name| format!("m{name}"))));
            assert_eq!((row.value("m0"), row.value("m1")), (Some(3.0), Some(1.0)));
            assert_eq!(row.value(&format!("m{count}")), Some(2.0));
        }
    }

    fn row(attempt: u32, step: u64) -> StoredRow {
        StoredRow {
            attempt,
            ..StoredRow::new(step, 0.0, "trainer")
        }
    }

    #[test]
    fn each_attempt_supersedes_only_rows_of_earlier_attempts() {
        let mut superseded = SupersededRows::default();
        superseded.add(2, "trainer", 501);
        superseded.add(4, "trainer", 301);
        let kept = |attempt, step| !superseded.contains(&row(attempt, step));
        assert_eq!([kept(1, 300), kept(1, 301), kept(1, 501)], [true, false, false]);
        assert_eq!([kept(2, 300), kept(2, 501), kept(3, 900)], [true, false, false]);
        assert_eq!([kept(4, 301), kept(5, 301)], [true, true]);
    }

    #[test]
    fn rows_of_older_versions_read_as_well() {
        let line = r#"{"step":1,"time":2.0,"logger":"a","x":"NaN","y":"-Infinity","z":null}"#;
        let row: StoredRow = serde_json::from_str(line).unwrap();
        assert_eq!((row.attempt, row.values.len()), (1, 2));
        assert_eq!(row.value("y"), Some(f64::NEG_INFINITY));
        let first = r#"{"step":1,"time":2.0,"logger":"a","nonfinite":"","attempt":1,"x":1}"#;
        let row: StoredRow = serde_json::from_str(first).unwrap();
        assert_eq!(row.values, [("x".to_owned(), MetricValue::Int(1))]);
    }
}
