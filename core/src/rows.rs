use std::collections::HashMap;
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
    #[serde(with = "crate::any_time")]
    pub time: SystemTime,
    /// The logger.
    pub logger: String,
    /// Names and values, in the order in which the names first came.
    pub values: Vec<(String, MetricValue)>,
}

/// Merges calls into one row a step, for sinks that have rows.
///
/// A row is complete when a call for another step comes, or when the sink asks for it ([`RowMerger::take`], as on
/// `flush` and `finish`). A late or repeated step makes a row of its own: nothing is dropped.
///
/// ```
/// use logcore::{MetricBatch, MetricValue, RowMerger};
///
/// let mut rows = RowMerger::default();
/// let loss = [("loss", MetricValue::Float(0.5))];
/// let accuracy = [("accuracy", MetricValue::Float(0.9))];
/// assert!(rows.push(&MetricBatch::new("trainer", 1, &loss)).is_none());
/// assert!(rows.push(&MetricBatch::new("trainer", 1, &accuracy)).is_none());
/// let row = rows.push(&MetricBatch::new("trainer", 2, &loss)).unwrap();
/// assert_eq!((row.step, row.values.len()), (1, 2));
/// assert_eq!(rows.take().unwrap().step, 2);
/// assert!(rows.take().is_none());
/// ```
#[derive(Debug, Default)]
pub struct RowMerger {
    open: Option<Row>,
    /// Where each name of the open row stands; built only when a second call meets the row.
    index: HashMap<String, usize>,
}

impl RowMerger {
    /// Adds a call; returns the row that it completed, if it did.
    pub fn push(&mut self, batch: &MetricBatch<'_>) -> Option<Row> {
        if self
            .open
            .as_ref()
            .is_some_and(|row| row.step == batch.step() && row.logger == batch.logger())
        {
            self.merge(batch);
            return None;
        }
        let complete = self.take();
        self.open = Some(Row {
            step: batch.step(),
            time: batch.time(),
            logger: batch.logger().to_owned(),
            values: batch.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        });
        complete
    }

    /// Takes the open row, complete or not.
    pub fn take(&mut self) -> Option<Row> {
        self.index.clear();
        self.open.take()
    }

    /// The open row, which a sink's [`Mark`](crate::Mark) has to hold.
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

    fn merge(&mut self, batch: &MetricBatch<'_>) {
        let Some(row) = &mut self.open else { return };
        if self.index.is_empty() {
            self.index
                .extend(row.values.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)));
        }
        row.time = batch.time();
        for (name, value) in batch.iter() {
            match self.index.get(name) {
                Some(&at) => row.values[at].1 = value,
                None => {
                    self.index.insert(name.to_owned(), row.values.len());
                    row.values.push((name.to_owned(), value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_open_row_goes_on_as_it_was(floats in prop::collection::vec(any::<f64>(), 1..9), int: i64, uint: u64) {
            let mut values: Vec<_> = floats.into_iter().map(MetricValue::from).collect();
            values.extend([MetricValue::from(int), MetricValue::from(uint)]);
            let names: Vec<_> = (0..values.len()).map(|at| format!("m/{at}")).collect();
            let pairs: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            let mut rows = RowMerger::default();
            rows.push(&MetricBatch::new("trainer", 7, &pairs));
            let text = serde_json::to_string(&rows.open()).unwrap();
            let mut again = RowMerger::reopen(serde_json::from_str(&text).unwrap());
            let more = [("m/0", MetricValue::Int(1)), ("new", MetricValue::Int(2))];
            for rows in [&mut rows, &mut again] {
                prop_assert!(rows.push(&MetricBatch::at(std::time::UNIX_EPOCH, "trainer", 7, &more)).is_none());
            }
            prop_assert_eq!(format!("{:?}", rows.take()), format!("{:?}", again.take()));
        }
    }
}
