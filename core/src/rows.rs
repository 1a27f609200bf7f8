use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{MetricBatch, MetricValue};

/// One row of metrics: all that was logged at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// The step.
    pub step: u64,
    /// When the newest value of the row was logged.
    #[serde(with = "crate::signed_time")]
    pub time: SystemTime,
    /// The logger.
    pub logger: String,
    /// Names and values, in the order in which the names first came.
    pub values: Vec<(String, MetricValue)>,
    /// When values were logged, once there was a second call: each time holds from its place in `values` to the next.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    times: BTreeMap<usize, Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Moment(#[serde(with = "crate::signed_time")] SystemTime);

impl Row {
    fn of(batch: &MetricBatch<'_>) -> Self {
        Self {
            step: batch.step(),
            time: batch.time(),
            logger: batch.logger().to_owned(),
            values: batch.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            times: BTreeMap::new(),
        }
    }

    /// When the value at a place was logged.
    fn time_of(&self, at: usize) -> SystemTime {
        self.times
            .range(..=at)
            .next_back()
            .map_or(self.time, |(_, time)| time.0)
    }

    fn set_time_of(&mut self, at: usize, time: SystemTime) {
        if at + 1 < self.values.len() {
            let next = self.time_of(at + 1);
            self.times.entry(at + 1).or_insert(Moment(next));
        }
        self.times.insert(at, Moment(time));
    }

    /// The value at a place, in a row of its own.
    fn alone(&self, at: usize) -> Self {
        Self {
            step: self.step,
            time: self.time_of(at),
            logger: self.logger.clone(),
            values: vec![self.values[at].clone()],
            times: BTreeMap::new(),
        }
    }
}

/// Merges calls into one row a step, for sinks that have rows.
///
/// A row is complete when a call for another step comes, or when the sink asks for it ([`RowMerger::take`], as on
/// `flush` and `finish`). A late or repeated step makes a row of its own, and so does a value of the user's that is said
/// again at its step: nothing is dropped. Of the system's own families (`throughput/`, `progress/`, `memory/`, `system/`,
/// `time/`), which tell a state, the row has the last value.
///
/// ```
/// use logcore::{MetricBatch, MetricValue, RowMerger};
///
/// let mut rows = RowMerger::default();
/// let first = [("loss", MetricValue::Float(0.5)), ("throughput/batch_time_ms", MetricValue::Float(7.0))];
/// let second = [("loss", MetricValue::Float(0.4)), ("throughput/batch_time_ms", MetricValue::Float(8.0))];
/// assert!(rows.push(&MetricBatch::new("trainer", 1, &first)).is_empty());
/// let earlier = rows.push(&MetricBatch::new("trainer", 1, &second));
/// assert_eq!((earlier.len(), earlier[0].step), (1, 1));
/// assert_eq!(earlier[0].values, [("loss".to_owned(), MetricValue::Float(0.5))]);
///
/// let complete = rows.push(&MetricBatch::new("trainer", 2, &first));
/// assert_eq!((complete[0].step, complete[0].values[0].1), (1, MetricValue::Float(0.4)));
/// assert_eq!(rows.take().unwrap().step, 2);
/// assert!(rows.take().is_none());
/// ```
#[derive(Debug, Default)]
pub struct RowMerger {
    open: Option<Row>,
    /// Where each name of the open row stands; built only when a second call meets the row.
    index: HashMap<String, usize>,
}

/// Families whose values tell a state, so that the last one of a step is all there is to keep.
const STATES: [&str; 5] = ["throughput/", "progress/", "memory/", "system/", "time/"];

impl RowMerger {
    /// Adds a call. Returns the rows that it made complete: the one before it, if it is of another step, or else a row for
    /// each earlier value that it says anew, with the time at which that was logged.
    pub fn push(&mut self, batch: &MetricBatch<'_>) -> Vec<Row> {
        let mut complete = Vec::new();
        let open = self.open.as_ref();
        if open.is_some_and(|row| row.step == batch.step() && row.logger == batch.logger()) {
            self.merge(batch, &mut complete);
        } else {
            complete.extend(self.take());
            self.open = Some(Row::of(batch));
        }
        complete
    }

    /// Takes the open row, complete or not.
    pub fn take(&mut self) -> Option<Row> {
        self.index.clear();
        let mut row = self.open.take()?;
        row.times.clear();
        Some(row)
    }

    /// The open row, which a sink's [`ResumePoint`](crate::ResumePoint) has to hold.
    pub fn open(&self) -> Option<&Row> {
        self.open.as_ref()
    }

    /// Goes on with a row that was open when its process was killed.
    pub fn reopen(row: Option<Row>) -> Self {
        Self {
            open: row,
            ..Self::default()
        }
    }

    fn merge(&mut self, batch: &MetricBatch<'_>, earlier: &mut Vec<Row>) {
        let Some(row) = &mut self.open else { return };
        if self.index.is_empty() {
            let names = row.values.iter().enumerate();
            self.index.extend(names.map(|(at, (name, _))| (name.clone(), at)));
        }
        if row.times.is_empty() {
            row.times.insert(0, Moment(row.time));
        }
        row.time = batch.time();
        row.times.insert(row.values.len(), Moment(batch.time()));
        for (name, value) in batch.iter() {
            let Some(&at) = self.index.get(name) else {
                self.index.insert(name.to_owned(), row.values.len());
                row.values.push((name.to_owned(), value));
                continue;
            };
            if !STATES.iter().any(|family| name.starts_with(family)) {
                earlier.push(row.alone(at));
            }
            row.set_time_of(at, batch.time());
            row.values[at].1 = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever calls come, each value of the user's is in a row once, with its time, and the newest is in the last row.
        #[test]
        fn every_value_of_a_step_is_kept_with_its_time(
            calls in prop::collection::vec(prop::collection::btree_map("[ab]|throughput/a", any::<i32>(), 0..4), 1..9),
            killed_after in 0_usize..9,
        ) {
            let (mut rows, mut written) = (RowMerger::default(), Vec::new());
            // Clocks may stand at any year.
            let start = std::time::UNIX_EPOCH - std::time::Duration::from_millis(2500);
            let time = |call: usize| start + std::time::Duration::from_secs(call as u64);
            for (call, values) in calls.iter().enumerate() {
                let pairs: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), MetricValue::from(*value))).collect();
                written.extend(rows.push(&MetricBatch::at(time(call), "trainer", 7, &pairs)));
                if call == killed_after {
                    let mark = serde_json::to_string(&rows.open()).unwrap();
                    rows = RowMerger::reopen(serde_json::from_str(&mark).unwrap());
                }
            }
            let last = rows.take().unwrap();
            prop_assert_eq!(last.time, time(calls.len() - 1));
            for name in ["a", "b", "throughput/a"] {
                let said = calls.iter().enumerate().filter_map(|(call, values)| Some((time(call), *values.get(name)?)));
                let mut said: Vec<_> = said.map(|(time, value)| (time, MetricValue::from(value))).collect();
                let newest = said.pop().map(|(_, value)| value);
                let in_last = last.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
                prop_assert_eq!(in_last, newest);
                let alone: Vec<_> = written.iter().filter(|row| row.values[0].0 == name).map(|row| (row.time, row.values[0].1)).collect();
                prop_assert_eq!(alone, if name == "throughput/a" { Vec::new() } else { said });
            }
            prop_assert!(written.iter().all(|row| row.values.len() == 1 && row.step == 7));
        }

        #[test]
        fn an_open_row_goes_on_as_it_was(floats in prop::collection::vec(any::<f64>(), 1..9), int: i64, uint: u64) {
            let mut values: Vec<_> = floats.into_iter().map(MetricValue::from).collect();
            values.extend([MetricValue::from(int), MetricValue::from(uint)]);
            let names: Vec<_> = (0..values.len()).map(|at| format!("m/{at}")).collect();
            let pairs: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            let mut rows = RowMerger::default();
            rows.push(&MetricBatch::at(std::time::UNIX_EPOCH, "trainer", 7, &pairs));
            let text = serde_json::to_string(&rows.open()).unwrap();
            let mut again = RowMerger::reopen(serde_json::from_str(&text).unwrap());
            let more = [("m/0", MetricValue::Int(1)), ("new", MetricValue::Int(2))];
            for rows in [&mut rows, &mut again] {
                let earlier = rows.push(&MetricBatch::at(std::time::UNIX_EPOCH, "trainer", 7, &more));
                prop_assert_eq!(&earlier[0].values[0].0, "m/0");
            }
            prop_assert_eq!(format!("{:?}", rows.take()), format!("{:?}", again.take()));
        }
    }
}
