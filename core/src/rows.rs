//! Rows: all metrics of one step, merged from several calls.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::reserved_names::is_system_metric;
use crate::{MetricBatch, MetricValue};

/// One row of metrics: all values of one step.
///
/// [`RowMerger`] makes rows of metric calls.
///
/// ```
/// use logcore::{MetricBatch, MetricValue, RowMerger};
///
/// let mut rows = RowMerger::default();
/// rows.push(&MetricBatch::new("trainer", 3, &[("loss", MetricValue::Float(0.5))]));
/// rows.push(&MetricBatch::new("trainer", 3, &[("epoch", MetricValue::Int(1))]));
/// let row = rows.take().unwrap();
/// assert_eq!((row.step, row.values.len()), (3, 2));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// Step of all values.
    pub step: u64,
    /// Time of the newest value.
    #[serde(with = "crate::signed_time")]
    pub time: SystemTime,
    /// Name of the logger.
    pub logger: String,
    /// Names and values, in the order in which the names first occurred.
    pub values: Vec<(String, MetricValue)>,
    /// Times of the values; empty until a second call. Each time holds from its index in `values`
    /// to the next index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    times: BTreeMap<usize, LogTime>,
    #[serde(skip)]
    layout: RowLayout,
}

/// [`MetricBatch::layout`] of the names. It says nothing that the names do not say, so rows that
/// differ by it are equal.
#[derive(Debug, Clone, Copy, Default)]
struct RowLayout(Option<NonZeroU64>);

impl PartialEq for RowLayout {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct LogTime(#[serde(with = "crate::signed_time")] SystemTime);

impl Row {
    /// Returns the row of a batch, in the memory of `spare`, whose names are often the same.
    fn from_batch(batch: &MetricBatch<'_>, spare: Option<Self>) -> Self {
        let layout = RowLayout(batch.layout());
        let has_names = |row: &Self| layout.0.is_some() && row.layout.0 == layout.0;
        if let Some(mut row) = spare {
            if has_names(&row) && row.values.len() == batch.iter().len() {
                for ((_, old), (_, value)) in row.values.iter_mut().zip(batch.iter()) {
                    *old = value;
                }
            } else {
                row.take_names(batch);
                row.layout = layout;
            }
            (row.step, row.time) = (batch.step(), batch.time());
            if row.logger != batch.logger() {
                batch.logger().clone_into(&mut row.logger);
            }
            row.times.clear();
            return row;
        }
        Self {
            step: batch.step(),
            time: batch.time(),
            logger: batch.logger().to_owned(),
            values: batch.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            times: BTreeMap::new(),
            layout,
        }
    }

    /// Takes names and values of a batch, in the memory of the names before.
    fn take_names(&mut self, batch: &MetricBatch<'_>) {
        let mut count = 0;
        for (name, value) in batch.iter() {
            match self.values.get_mut(count) {
                Some((old, old_value)) => {
                    if old != name {
                        name.clone_into(old);
                    }
                    *old_value = value;
                }
                None => self.values.push((name.to_owned(), value)),
            }
            count += 1;
        }
        self.values.truncate(count);
    }

    /// Returns [`MetricBatch::layout`] of the batch with these names.
    #[doc(hidden)]
    #[must_use]
    pub fn layout(&self) -> Option<NonZeroU64> {
        self.layout.0
    }

    /// Returns the time at which the value at `index` was logged.
    fn time_of(&self, index: usize) -> SystemTime {
        self.times
            .range(..=index)
            .next_back()
            .map_or(self.time, |(_, time)| time.0)
    }

    fn set_time_of(&mut self, index: usize, time: SystemTime) {
        if index + 1 < self.values.len() {
            let next = self.time_of(index + 1);
            self.times.entry(index + 1).or_insert(LogTime(next));
        }
        self.times.insert(index, LogTime(time));
    }

    /// Returns a row that holds only the value at `index`.
    fn single_value_row(&self, index: usize) -> Self {
        Self {
            step: self.step,
            time: self.time_of(index),
            logger: self.logger.clone(),
            values: vec![self.values[index].clone()],
            times: BTreeMap::new(),
            layout: RowLayout::default(),
        }
    }
}

/// Merges metric calls into one row per step, for sinks that write rows.
///
/// The merger has at most one open row. The row is complete when a call for another step comes, or
/// when the sink takes the row with [`RowMerger::take`], as on `flush` and `finish`.
///
/// No value of the user is dropped. A late or repeated step makes a row of its own. A value that is
/// logged twice in a step makes a row for the earlier value. The logger's own families
/// (`throughput/`, `progress/`, `memory/`, `system/`, `time/`) describe a state, so the row keeps
/// only their last value.
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
    /// Index of each name in the open row. Empty until a second call for the row.
    index: HashMap<String, usize>,
    /// A row whose memory the next one uses.
    spare: Option<Row>,
}

impl RowMerger {
    /// Adds a call and returns the rows that are now complete.
    ///
    /// A call for another step completes the open row. A call for the same step completes a row for
    /// each value that it replaces, with the time of the replaced value.
    pub fn push(&mut self, batch: &MetricBatch<'_>) -> Vec<Row> {
        let mut complete = Vec::new();
        let open = self.open.as_ref();
        if open.is_some_and(|row| row.step == batch.step() && row.logger == batch.logger()) {
            self.merge(batch, &mut complete);
        } else {
            complete.extend(self.take());
            self.open = Some(Row::from_batch(batch, self.spare.take()));
        }
        complete
    }

    /// Takes back a row that was written, so that a later row can use its memory. The row has the
    /// names that it had when the merger gave it out.
    ///
    /// ```
    /// use logcore::{MetricBatch, MetricValue, RowMerger};
    ///
    /// let mut rows = RowMerger::default();
    /// for step in 1..4 {
    ///     let values = [("loss", MetricValue::UInt(step))];
    ///     for row in rows.push(&MetricBatch::new("trainer", step, &values)) {
    ///         assert_eq!(row.values, [("loss".to_owned(), MetricValue::UInt(step - 1))]);
    ///         rows.recycle(row);
    ///     }
    /// }
    /// ```
    pub fn recycle(&mut self, row: Row) {
        self.spare = Some(row);
    }

    /// Takes the open row.
    pub fn take(&mut self) -> Option<Row> {
        self.index.clear();
        let mut row = self.open.take()?;
        row.times.clear();
        Some(row)
    }

    /// Returns the open row, which a sink's [`ResumePoint`](crate::ResumePoint) must include.
    #[must_use]
    pub fn open(&self) -> Option<&Row> {
        self.open.as_ref()
    }

    /// Creates a merger that continues the open row of a killed process.
    ///
    /// ```
    /// use logcore::{MetricBatch, MetricValue, RowMerger};
    ///
    /// let mut rows = RowMerger::default();
    /// rows.push(&MetricBatch::new("trainer", 7, &[("loss", MetricValue::Float(0.5))]));
    /// let state = serde_json::to_string(&rows.open()).unwrap();
    ///
    /// let mut resumed = RowMerger::reopen(serde_json::from_str(&state).unwrap());
    /// assert_eq!(resumed.take().unwrap().step, 7);
    /// ```
    #[must_use]
    pub fn reopen(row: Option<Row>) -> Self {
        Self {
            open: row,
            ..Self::default()
        }
    }

    fn merge(&mut self, batch: &MetricBatch<'_>, replaced: &mut Vec<Row>) {
        let Some(row) = &mut self.open else { return };
        row.layout = RowLayout::default();
        if self.index.is_empty() {
            let names = row.values.iter().enumerate();
            self.index.extend(names.map(|(index, (name, _))| (name.clone(), index)));
        }
        if row.times.is_empty() {
            row.times.insert(0, LogTime(row.time));
        }
        // The time of a single value by handle is coarse, and may lie a moment back.
        row.time = row.time.max(batch.time());
        row.times.insert(row.values.len(), LogTime(batch.time()));
        for (name, value) in batch.iter() {
            let Some(&index) = self.index.get(name) else {
                self.index.insert(name.to_owned(), row.values.len());
                row.values.push((name.to_owned(), value));
                continue;
            };
            if !is_system_metric(name) {
                replaced.push(row.single_value_row(index));
            }
            row.set_time_of(index, batch.time());
            row.values[index].1 = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any calls, each value of the user is in one row, with its time, and the newest value
        /// is in the last row.
        #[test]
        fn every_value_of_a_step_is_kept_with_its_time(
            calls in prop::collection::vec(prop::collection::btree_map("[ab]|throughput/a", any::<i32>(), 0..4), 1..9),
            killed_after in 0_usize..9,
        ) {
            let (mut rows, mut written) = (RowMerger::default(), Vec::new());
            // The clock may be before 1970.
            let start = std::time::UNIX_EPOCH - std::time::Duration::from_millis(2500);
            let time = |call: usize| start + std::time::Duration::from_secs(call as u64);
            for (call, values) in calls.iter().enumerate() {
                let pairs = values.iter().map(|(name, value)| (name.as_str(), MetricValue::from(*value)));
                let pairs: Vec<_> = pairs.collect();
                written.extend(rows.push(&MetricBatch::at(time(call), "trainer", 7, &pairs)));
                if call == killed_after {
                    let state = serde_json::to_string(&rows.open()).unwrap();
                    rows = RowMerger::reopen(serde_json::from_str(&state).unwrap());
                }
            }
            let last = rows.take().unwrap();
            prop_assert_eq!(last.time, time(calls.len() - 1));
            for name in ["a", "b", "throughput/a"] {
                let calls = calls.iter().enumerate();
                let logged = calls.filter_map(|(call, values)| Some((time(call), *values.get(name)?)));
                let mut logged: Vec<_> = logged.map(|(time, value)| (time, MetricValue::from(value))).collect();
                let newest = logged.pop().map(|(_, value)| value);
                let in_last = last.values.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
                prop_assert_eq!(in_last, newest);
                let of_name = written.iter().filter(|row| row.values[0].0 == name);
                let alone: Vec<_> = of_name.map(|row| (row.time, row.values[0].1)).collect();
                prop_assert_eq!(alone, if name == "throughput/a" { Vec::new() } else { logged });
            }
            prop_assert!(written.iter().all(|row| row.values.len() == 1 && row.step == 7));
        }

        /// Rows in the memory of earlier ones are as new ones, with layouts and without.
        #[test]
        fn recycled_row_is_as_a_new_one(
            calls in prop::collection::vec((0..4_u64, 0..4_usize, any::<bool>()), 1..20),
        ) {
            let layouts: [&[&str]; 4] = [&["a", "b"], &["b", "a"], &["a"], &["b", "a", "c"]];
            let (mut kept, mut fresh, mut step) = (RowMerger::default(), RowMerger::default(), 0);
            for (at, (pause, layout, has_layout)) in calls.into_iter().enumerate() {
                step += pause;
                let number = NonZeroU64::new(1 + layout as u64).filter(|_| has_layout);
                let values: Vec<_> = layouts[layout].iter().map(|name| (*name, MetricValue::from(at))).collect();
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
                let mut batch = MetricBatch::at(time, "trainer", step, &values);
                let expected = fresh.push(&batch);
                if let Some(number) = number {
                    batch = batch.with_layout(number);
                }
                let rows = kept.push(&batch);
                prop_assert_eq!(&rows, &expected);
                for row in rows {
                    let names: Vec<_> = row.values.iter().map(|(name, _)| name.as_str()).collect();
                    if let Some(layout) = row.layout() {
                        prop_assert_eq!(names, layouts[layout.get() as usize - 1]);
                    }
                    kept.recycle(row);
                }
            }
            prop_assert_eq!(kept.take(), fresh.take());
        }

        #[test]
        fn reopened_row_continues_as_before(floats in prop::collection::vec(any::<f64>(), 1..9), int: i64, uint: u64) {
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
