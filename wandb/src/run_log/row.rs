//! The columns of a run: the values of the open row, and the summary of each metric.
//!
//! The summary of a metric is its last value, or the statistics that its definition asks for. A
//! program can set a summary value itself, which holds until the metric is logged again.

use std::collections::HashMap;
use std::num::NonZeroU64;

use logcore::digits::with_kept_digits;
use logcore::{MetricBatch, MetricValue};

use crate::log_format::proto::{Item, MetricRecord, MetricSummaryKinds};
use crate::log_format::{RowItem, json};

/// The columns of all rows.
///
/// A loop logs the same names in the same order. So a name is first compared with the name at the
/// same position of the last row. Strings are reused, so that a row does not allocate.
#[derive(Default)]
pub(crate) struct RowColumns {
    all: Vec<MetricColumn>,
    index: HashMap<String, usize>,
    /// The columns of the open row, in order.
    open: Vec<usize>,
    /// The columns of the previous row, in order.
    previous_row: Vec<usize>,
    /// The columns whose summary the program has set since their last value.
    summary_set: Vec<usize>,
    /// The [layout](MetricBatch::layout) of the last batch.
    last_layout: Option<NonZeroU64>,
    /// A layout that came twice in a row, and its columns.
    known_layout: (Option<NonZeroU64>, Vec<usize>),
    /// Definitions by name.
    definitions: HashMap<String, MetricRecord>,
    /// Definitions by prefix.
    globs: Vec<MetricRecord>,
}

/// A metric with its current value and its statistics.
struct MetricColumn {
    /// The name, and the value of the open row or of the last row with this column.
    item: RowItem,
    in_row: bool,
    /// `true` if the program has set the summary since the last value.
    summary_set: bool,
    definition: Option<MetricRecord>,
    aggregate: Aggregate,
    /// `true` if the summary in the file is older than the last value.
    stale: bool,
}

impl RowColumns {
    /// Sets a number of the open row.
    pub(crate) fn set_number(&mut self, name: &str, value: MetricValue) {
        let at = self.open_column(name);
        self.all[at].item.set(|text| json::put_number(value, text));
    }

    /// Returns `true` if [`set_numbers`](Self::set_numbers) knows the columns of a batch.
    pub(crate) fn knows(&self, batch: &MetricBatch<'_>) -> bool {
        batch.layout().is_some() && batch.layout() == self.known_layout.0
    }

    /// Sets the numbers of a batch whose columns are known, in the open row.
    pub(crate) fn set_numbers(&mut self, batch: &MetricBatch<'_>) {
        let columns = std::mem::take(&mut self.known_layout.1);
        with_kept_digits(|digits| {
            for (&at, (_, value)) in columns.iter().zip(batch.iter()) {
                self.open_at(at);
                let item = &mut self.all[at].item;
                item.set(|text| json::put_kept_number(value, digits, text));
            }
        });
        self.known_layout.1 = columns;
        self.last_layout = batch.layout();
    }

    /// Notes the columns of a batch, all of whose values are in the open row, if the batch before
    /// had the same names: a program that alternates between layouts would find none known.
    pub(crate) fn note_layout(&mut self, batch: &MetricBatch<'_>) {
        if batch.layout().is_some() && batch.layout() == self.last_layout {
            let places = batch.iter().map(|(name, _)| self.index.get(name).copied());
            let places: Option<Vec<_>> = places.collect();
            self.known_layout = (batch.layout().filter(|_| places.is_some()), places.unwrap_or_default());
        }
        self.last_layout = batch.layout();
    }

    /// Sets a JSON value of the open row.
    pub(crate) fn set_json(&mut self, name: &str, value: &str) {
        let at = self.open_column(name);
        self.all[at].item.set(|text| text.extend_from_slice(value.as_bytes()));
    }

    /// Returns `true` if the open row has no values.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Defines a metric, or all metrics with a prefix, for later rows.
    pub(crate) fn define(&mut self, metric: MetricRecord) {
        if metric.glob_name.is_empty() {
            match self.definitions.get_mut(&metric.name) {
                Some(known) => known.update(metric),
                None => drop(self.definitions.insert(metric.name.clone(), metric)),
            }
        } else {
            match self.globs.iter_mut().find(|known| known.glob_name == metric.glob_name) {
                Some(known) => known.update(metric),
                None => self.globs.push(metric),
            }
        }
        for column in &mut self.all {
            column.definition = find(&self.definitions, &self.globs, column.item.name());
        }
    }

    /// Adds the last values of step metrics to the open row, for metrics that are drawn over them.
    pub(crate) fn fill_step_metrics(&mut self) {
        if self.definitions.is_empty() && self.globs.is_empty() {
            return;
        }
        for at in 0..self.open.len() {
            let Some(definition) = &self.all[self.open[at]].definition else {
                continue;
            };
            let wanted = definition.options.is_some_and(|options| options.step_sync);
            if !wanted || definition.step_metric.starts_with('_') {
                continue;
            }
            if let Some(&step) = self.index.get(&definition.step_metric)
                && !self.all[step].in_row
                && !self.all[step].item.is_empty()
            {
                self.all[step].in_row = true;
                self.open.push(step);
            }
        }
    }

    /// Closes the open row, which was written.
    pub(crate) fn close_row(&mut self) {
        for &at in &self.open {
            let column = &mut self.all[at];
            column.in_row = false;
            column.stale = !column.summary_set;
            if column.summary_kinds().is_some() {
                column.aggregate.add(column.item.value());
            }
        }
        std::mem::swap(&mut self.open, &mut self.previous_row);
        self.open.clear();
    }

    /// Returns the summary of every column that changed since the last call, without the open row.
    pub(crate) fn take_stale(&mut self) -> Vec<Item> {
        let stale = self.all.iter_mut().filter(|column| column.stale && !column.in_row);
        stale
            .filter_map(|column| {
                let summary = column.summary()?;
                column.stale = false;
                Some(summary)
            })
            .collect()
    }

    /// Marks all summaries as missing in the file.
    pub(crate) fn mark_all_stale(&mut self) {
        for column in &mut self.all {
            column.stale = !column.summary_set && !column.item.is_empty();
        }
    }

    /// Notes that the program has set a summary. Statistics of earlier values are forgotten.
    pub(crate) fn set_summary(&mut self, name: &str) {
        if let Some(&at) = self.index.get(name) {
            self.all[at].aggregate = Aggregate::default();
        }
        self.mark_summary_set(name);
    }

    /// Notes that the program has set a summary since the last value of the column.
    pub(crate) fn mark_summary_set(&mut self, name: &str) {
        let Some(&at) = self.index.get(name) else { return };
        let column = &mut self.all[at];
        column.stale = false;
        if !std::mem::replace(&mut column.summary_set, true) {
            self.summary_set.push(at);
        }
    }

    /// Returns the names and values of the open row.
    pub(crate) fn row(&self) -> impl Iterator<Item = &RowItem> + Clone {
        self.open.iter().map(|&at| &self.all[at].item)
    }

    /// Returns the names whose summary the program has set since their last value.
    pub(crate) fn set_summaries(&self) -> impl Iterator<Item = &str> {
        self.summary_set.iter().map(|&at| self.all[at].item.name())
    }

    /// Adds a row of the log that a recovery continues.
    pub(crate) fn add_closed_row(&mut self, row: &[Item]) {
        for item in row {
            self.set_json(&item.key, &item.value_json);
        }
        self.close_row();
    }

    /// Notes the summaries in the log that a recovery continues.
    pub(crate) fn mark_written(&mut self, items: &[Item]) {
        for item in items {
            if let Some(&at) = self.index.get(&item.key) {
                self.all[at].stale = false;
            }
        }
    }

    /// Adds a column to the open row, and returns the index of the column.
    fn open_column(&mut self, name: &str) -> usize {
        let at = self.find(name);
        self.open_at(at);
        at
    }

    /// Adds the column at this index to the open row.
    #[inline]
    fn open_at(&mut self, at: usize) {
        let column = &mut self.all[at];
        if std::mem::take(&mut column.summary_set) {
            self.summary_set.retain(|summary_set| *summary_set != at);
        }
        if !std::mem::replace(&mut column.in_row, true) {
            self.open.push(at);
        }
    }

    /// Returns the index of a column. A new name gets a new column.
    fn find(&mut self, name: &str) -> usize {
        if let Some(&at) = self.previous_row.get(self.open.len())
            && self.all[at].item.name() == name
        {
            return at;
        }
        if let Some(&at) = self.index.get(name) {
            return at;
        }
        let at = self.all.len();
        self.all.push(MetricColumn {
            item: RowItem::new(name),
            in_row: false,
            summary_set: false,
            definition: find(&self.definitions, &self.globs, name),
            aggregate: Aggregate::default(),
            stale: false,
        });
        self.index.insert(name.to_owned(), at);
        at
    }
}

impl MetricColumn {
    fn summary(&self) -> Option<Item> {
        let value_json = match self.summary_kinds() {
            Some(kinds) => self.aggregate.summary(kinds, self.item.value())?,
            None => self.item.value().to_owned(),
        };
        // The summary has no null values.
        (value_json != "null").then(|| Item {
            key: self.item.name().to_owned(),
            value_json,
            ..Item::default()
        })
    }

    /// Returns the statistics that the definition of the metric asks for.
    fn summary_kinds(&self) -> Option<MetricSummaryKinds> {
        self.definition.as_ref()?.summary
    }
}

fn find(definitions: &HashMap<String, MetricRecord>, globs: &[MetricRecord], name: &str) -> Option<MetricRecord> {
    // Internal names do not match prefixes.
    let has_prefix =
        |glob: &&MetricRecord| !name.starts_with('_') && name.starts_with(glob.glob_name.trim_end_matches('*'));
    definitions.get(name).or_else(|| globs.iter().find(has_prefix)).cloned()
}

/// Statistics of the values of one metric.
#[derive(Default)]
struct Aggregate {
    first: Option<f64>,
    min: f64,
    max: f64,
    sum: f64,
    count: u64,
}

impl Aggregate {
    fn add(&mut self, value: &str) {
        let Some(value) = json::number(value) else { return };
        if self.first.is_none() {
            *self = Self {
                first: Some(value),
                min: value,
                max: value,
                ..Self::default()
            };
        }
        // As in W&B, NaN is the minimum and the maximum once it occurs.
        self.min = if value < self.min || value.is_nan() {
            value
        } else {
            self.min
        };
        self.max = if value > self.max || value.is_nan() {
            value
        } else {
            self.max
        };
        self.sum += value;
        self.count += 1;
    }

    fn summary(&self, kinds: MetricSummaryKinds, last: &str) -> Option<String> {
        if kinds.none {
            return None;
        }
        if self.first.is_none() {
            return Some(last.to_owned());
        }
        let mean = self.sum / self.count as f64;
        let parts = [
            (kinds.min, "min", json::float(self.min)),
            (kinds.max, "max", json::float(self.max)),
            (kinds.mean, "mean", json::float(mean)),
            (kinds.last, "last", last.to_owned()),
            (kinds.first, "first", json::float(self.first.unwrap_or(f64::NAN))),
        ];
        let members: Vec<_> = parts
            .iter()
            .filter(|(wanted, ..)| *wanted)
            .map(|(_, name, value)| format!("\"{name}\":{value}"))
            .collect();
        // `copy` alone is the plain value, and is ignored beside other kinds.
        Some(match members.is_empty() {
            true => last.to_owned(),
            false => format!("{{{}}}", members.join(",")),
        })
    }
}
