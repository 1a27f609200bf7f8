//! The names of a run: what the open row holds of each, and its summary.

use std::collections::HashMap;

use logcore::MetricValue;

use crate::log_format::json;
use crate::log_format::proto::{Item, MetricRecord, MetricSummaryKinds};

/// All names that rows have had.
///
/// A loop logs the same names in the same order, so a name is first looked for where it stood in the last row; and its
/// strings are used again, so that a row allocates nothing.
#[derive(Default)]
pub(crate) struct RowColumns {
    all: Vec<MetricColumn>,
    index: HashMap<String, usize>,
    /// The columns of the open row, in the order in which they came; then those of the row before.
    open: Vec<usize>,
    before: Vec<usize>,
    /// The columns whose summary a program has set since their last value.
    said: Vec<usize>,
    /// What was defined by name, and by beginning.
    definitions: HashMap<String, MetricRecord>,
    globs: Vec<MetricRecord>,
    /// The items of one record; kept for their memory.
    items: Vec<Item>,
}

struct MetricColumn {
    /// The name and the value of the open row, or the last one.
    item: Item,
    in_row: bool,
    /// It is among those that are `said`.
    said: bool,
    definition: Option<MetricRecord>,
    aggregate: Aggregate,
    /// The summary in the file is older than the last value.
    stale: bool,
}

impl RowColumns {
    pub(crate) fn set_number(&mut self, name: &str, value: MetricValue) {
        let at = self.enter(name);
        let column = &mut self.all[at];
        column.item.value_json.clear();
        json::put_number(value, &mut column.item.value_json);
    }

    pub(crate) fn set_json(&mut self, name: &str, value: &str) {
        let at = self.enter(name);
        let text = &mut self.all[at].item.value_json;
        text.clear();
        text.push_str(value);
    }

    /// Whether the open row has no values.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Defines a metric, or a family of them, for rows to come.
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
            column.definition = find(&self.definitions, &self.globs, &column.item.key);
        }
    }

    /// Puts the last values of step metrics into the open row, where it has a metric over them and not them.
    pub(crate) fn sync_steps(&mut self) {
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
                && !self.all[step].item.value_json.is_empty()
            {
                self.all[step].in_row = true;
                self.open.push(step);
            }
        }
    }

    /// Closes the open row: lends its items, and makes its values the last ones.
    pub(crate) fn close<T>(
        &mut self,
        more: impl IntoIterator<Item = Item>,
        take: impl FnOnce(Vec<Item>) -> (T, Vec<Item>),
    ) -> T {
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        for &at in &self.open {
            let column = &mut self.all[at];
            column.in_row = false;
            column.stale = !column.said;
            column
                .aggregate
                .add(column.definition.as_ref(), &column.item.value_json);
            items.push(std::mem::take(&mut column.item));
        }
        items.extend(more);
        let (result, mut items) = take(items);
        for (&at, item) in self.open.iter().zip(items.drain(..)) {
            self.all[at].item = item;
        }
        self.items = items;
        std::mem::swap(&mut self.open, &mut self.before);
        self.open.clear();
        result
    }

    /// The summary of every name with a newer value than at the last call; the open row is for the next.
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

    /// The summary in the file is gone.
    pub(crate) fn make_stale(&mut self) {
        for column in &mut self.all {
            column.stale = !column.said && !column.item.value_json.is_empty();
        }
    }

    /// A program has set the summary of this name: older values do not count for it any more.
    pub(crate) fn say(&mut self, name: &str) {
        if let Some(&at) = self.index.get(name) {
            self.all[at].aggregate = Aggregate::default();
        }
        self.keep_said(name);
    }

    /// The summary of this name is what a program has set.
    pub(crate) fn keep_said(&mut self, name: &str) {
        let Some(&at) = self.index.get(name) else { return };
        let column = &mut self.all[at];
        column.stale = false;
        if !std::mem::replace(&mut column.said, true) {
            self.said.push(at);
        }
    }

    /// The names and values of the open row.
    pub(crate) fn row(&self) -> impl Iterator<Item = (&str, &str)> {
        let items = self.open.iter().map(|&at| &self.all[at].item);
        items.map(|item| (item.key.as_str(), item.value_json.as_str()))
    }

    /// The names whose summary a program has set since their last value.
    pub(crate) fn said(&self) -> impl Iterator<Item = &str> {
        self.said.iter().map(|&at| self.all[at].item.key.as_str())
    }

    /// Takes in a row that was closed by an earlier process.
    pub(crate) fn take_in(&mut self, row: &[Item]) {
        for item in row {
            self.set_json(&item.key, &item.value_json);
        }
        self.close([], |items| ((), items));
    }

    /// The summary that was written by an earlier process has these.
    pub(crate) fn in_summary(&mut self, items: &[Item]) {
        for item in items {
            if let Some(&at) = self.index.get(&item.key) {
                self.all[at].stale = false;
            }
        }
    }

    fn enter(&mut self, name: &str) -> usize {
        let at = self.find(name);
        if std::mem::take(&mut self.all[at].said) {
            self.said.retain(|said| *said != at);
        }
        if !std::mem::replace(&mut self.all[at].in_row, true) {
            self.open.push(at);
        }
        at
    }

    fn find(&mut self, name: &str) -> usize {
        if let Some(&at) = self.before.get(self.open.len())
            && self.all[at].item.key == name
        {
            return at;
        }
        if let Some(&at) = self.index.get(name) {
            return at;
        }
        let at = self.all.len();
        self.all.push(MetricColumn {
            item: Item {
                key: name.to_owned(),
                ..Item::default()
            },
            in_row: false,
            said: false,
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
        let value_json = match self.definition.as_ref().and_then(|definition| definition.summary) {
            Some(kinds) => self.aggregate.summary(kinds, &self.item.value_json)?,
            None => self.item.value_json.clone(),
        };
        // A null makes no entry.
        (value_json != "null").then(|| Item {
            key: self.item.key.clone(),
            value_json,
            ..Item::default()
        })
    }
}

fn find(definitions: &HashMap<String, MetricRecord>, globs: &[MetricRecord], name: &str) -> Option<MetricRecord> {
    // The system's own names are in nobody's family.
    let in_family =
        |glob: &&MetricRecord| !name.starts_with('_') && name.starts_with(glob.glob_name.trim_end_matches('*'));
    definitions.get(name).or_else(|| globs.iter().find(in_family)).cloned()
}

/// What the values of one metric come to.
#[derive(Default)]
struct Aggregate {
    first: Option<f64>,
    min: f64,
    max: f64,
    sum: f64,
    count: u64,
}

impl Aggregate {
    fn add(&mut self, definition: Option<&MetricRecord>, value: &str) {
        if definition.is_none_or(|definition| definition.summary.is_none()) {
            return;
        }
        let Some(value) = json::number(value) else { return };
        if self.first.is_none() {
            *self = Self {
                first: Some(value),
                min: value,
                max: value,
                ..Self::default()
            };
        }
        // As W&B has it, one value that is no number spoils them all.
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
        // A copy is the value by itself, and has no place beside others.
        Some(match members.is_empty() {
            true => last.to_owned(),
            false => format!("{{{}}}", members.join(",")),
        })
    }
}
