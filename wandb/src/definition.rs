//! What a metric means: its x-axis, and what its summary holds.

use serde::{Deserialize, Serialize};

use crate::log_format::proto;

/// How W&B shows a metric, or all whose names begin alike.
///
/// ```
/// use logcore_wandb::MetricDefinition;
///
/// // All of `val/` is drawn over `epoch`; the summary of `loss` holds its best and its newest value.
/// let validation = MetricDefinition::new("val/*").step_metric("epoch");
/// let loss = MetricDefinition::new("loss").summary(["min", "last"]);
/// assert_ne!(validation, loss);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricDefinition {
    name: String,
    /// The names that sinks may have for it; none where it is the name itself.
    #[serde(default)]
    names: Vec<String>,
    step_metric: Option<String>,
    step_sync: Option<bool>,
    hidden: bool,
    summary: Vec<String>,
    overwrite: bool,
}

impl MetricDefinition {
    /// A definition of the metric `name`; with a `*` at its end, of all that begin so.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            names: Vec::new(),
            step_metric: None,
            step_sync: None,
            hidden: false,
            summary: Vec::new(),
            overwrite: false,
        }
    }

    /// The metric that is its x-axis. Rows without it get its last value; see [`step_sync`](Self::step_sync).
    pub fn step_metric(mut self, name: impl Into<String>) -> Self {
        self.step_metric = Some(name.into());
        self
    }

    /// Whether rows that have the metric but not its step metric get the step metric's last value. On, unless said here.
    pub fn step_sync(mut self, on: bool) -> Self {
        self.step_sync = Some(on);
        self
    }

    /// Leaves the metric out of the charts that W&B makes on its own.
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// What the summary holds instead of the last value: any of `min`, `max`, `mean`, `last`, `first`;
    /// or `copy`, which is the last value by itself, or `none`.
    pub fn summary(mut self, kinds: impl IntoIterator<Item: AsRef<str>>) -> Self {
        self.summary = kinds.into_iter().map(|kind| kind.as_ref().to_owned()).collect();
        self
    }

    /// Replaces an earlier definition of the same name; without it, what is not said here stays as it was said there.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// The same with names as the sinks have them: all that the metric may have, and the one of its step metric.
    #[doc(hidden)]
    pub fn map_names(mut self, names: impl Fn(&str) -> Vec<String>, step: impl Fn(&str) -> String) -> Self {
        self.names = names(&self.name);
        self.step_metric = self.step_metric.map(|name| step(&name));
        self
    }

    /// What is wrong with it, if something is.
    #[doc(hidden)]
    pub fn problem(&self) -> Option<String> {
        if self.name.is_empty() || self.name == "*" {
            return Some(format!(
                "define_metric(`{}`): name a metric, or a beginning and `*`",
                self.name
            ));
        }
        if self.name.trim_end_matches('*').contains('*') || self.name.ends_with("**") {
            return Some(format!(
                "define_metric(`{}`): a `*` can only stand at the end",
                self.name
            ));
        }
        let known = |kind: &str| SUMMARIES.iter().any(|(name, _)| *name == kind);
        if let Some(kind) = self.summary.iter().find(|kind| !known(kind)) {
            let names: Vec<_> = SUMMARIES.iter().map(|(name, _)| *name).collect();
            return Some(format!(
                "define_metric(`{}`): there is no summary `{kind}`; there are {}",
                self.name,
                names.join(", ")
            ));
        }
        None
    }

    /// A record for each name that it may have.
    pub(crate) fn records(&self) -> Vec<proto::MetricRecord> {
        match self.names.as_slice() {
            [] => vec![self.record(&self.name)],
            names => names.iter().map(|name| self.record(name)).collect(),
        }
    }

    fn record(&self, name: &str) -> proto::MetricRecord {
        let glob = name.ends_with('*');
        let mut summary = proto::MetricSummaryKinds::default();
        for kind in &self.summary {
            if let Some((_, flag)) = SUMMARIES.iter().find(|(name, _)| name == kind) {
                *flag(&mut summary) = true;
            }
        }
        proto::MetricRecord {
            name: if glob { String::new() } else { name.to_owned() },
            glob_name: if glob { name.to_owned() } else { String::new() },
            step_metric: self.step_metric.clone().unwrap_or_default(),
            options: Some(proto::MetricOptions {
                step_sync: self.step_sync.unwrap_or(self.step_metric.is_some()),
                hidden: self.hidden,
                defined: !glob,
            }),
            summary: (!self.summary.is_empty()).then_some(summary),
            control: self.overwrite.then_some(proto::MetricControl { overwrite: true }),
            ..proto::MetricRecord::default()
        }
    }
}

type SummaryFlag = fn(&mut proto::MetricSummaryKinds) -> &mut bool;

const SUMMARIES: [(&str, SummaryFlag); 7] = [
    ("min", |summary| &mut summary.min),
    ("max", |summary| &mut summary.max),
    ("mean", |summary| &mut summary.mean),
    ("last", |summary| &mut summary.last),
    ("none", |summary| &mut summary.none),
    ("copy", |summary| &mut summary.copy),
    ("first", |summary| &mut summary.first),
];
