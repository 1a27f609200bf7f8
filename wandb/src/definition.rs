//! Definitions of metrics: the x-axis and the summary.

use serde::{Deserialize, Serialize};

use crate::log_format::proto;

/// The presentation of a metric in W&B, or of all metrics with a common prefix.
///
/// ```
/// use logcore_wandb::MetricDefinition;
///
/// // Metrics of `val/` are drawn over `epoch`. The summary of `loss` has its least and its last value.
/// let validation = MetricDefinition::new("val/*").step_metric("epoch");
/// let loss = MetricDefinition::new("loss").summary(["min", "last"]);
/// assert_ne!(validation, loss);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricDefinition {
    name: String,
    /// The names that sinks may use for the metric. Empty if `name` is the only one.
    #[serde(default)]
    names: Vec<String>,
    step_metric: Option<String>,
    step_sync: Option<bool>,
    hidden: bool,
    summary: Vec<String>,
    overwrite: bool,
}

impl MetricDefinition {
    /// Creates a definition of a metric, or of all metrics with a prefix if `name` ends with `*`.
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// assert_ne!(MetricDefinition::new("loss"), MetricDefinition::new("val/*"));
    /// ```
    #[must_use]
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

    /// Sets the metric of the x-axis. Rows without that metric get its last value; see
    /// [`without_step_sync`](Self::without_step_sync).
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// let loss = MetricDefinition::new("loss");
    /// assert_ne!(loss.clone().step_metric("epoch"), loss);
    /// ```
    #[must_use]
    pub fn step_metric(mut self, name: impl Into<String>) -> Self {
        self.step_metric = Some(name.into());
        self
    }

    /// Keeps rows without the step metric as they are, instead of adding its last value.
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// let loss = MetricDefinition::new("loss");
    /// assert_ne!(loss.clone().without_step_sync(), loss);
    /// ```
    #[must_use]
    pub fn without_step_sync(mut self) -> Self {
        self.step_sync = Some(false);
        self
    }

    /// Hides the metric in W&B's automatic charts.
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// let loss = MetricDefinition::new("loss");
    /// assert_ne!(loss.clone().hidden(), loss);
    /// ```
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Sets the values of the summary: any of `min`, `max`, `mean`, `last` and `first`, or else
    /// `copy` (the plain last value, which is the default) or `none`.
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// let loss = MetricDefinition::new("loss");
    /// assert_ne!(loss.clone().summary(["min", "last"]), loss);
    /// ```
    #[must_use]
    pub fn summary(mut self, kinds: impl IntoIterator<Item: AsRef<str>>) -> Self {
        self.summary = kinds.into_iter().map(|kind| kind.as_ref().to_owned()).collect();
        self
    }

    /// Replaces an earlier definition of the same name. By default the definitions are merged.
    ///
    /// ```
    /// use logcore_wandb::MetricDefinition;
    ///
    /// let loss = MetricDefinition::new("loss");
    /// assert_ne!(loss.clone().overwrite(), loss);
    /// ```
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Translates the names into those of the sinks: all names of the metric, and the name of its
    /// step metric.
    #[doc(hidden)]
    #[must_use]
    pub fn map_names(mut self, names: impl Fn(&str) -> Vec<String>, step: impl Fn(&str) -> String) -> Self {
        self.names = names(&self.name);
        self.step_metric = self.step_metric.map(|name| step(&name));
        self
    }

    /// Checks the name and the summaries.
    ///
    /// # Errors
    ///
    /// A description of the problem.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.is_empty() || name == "*" {
            return Err(format!("define_metric(`{name}`): write a name, or a prefix and `*`"));
        }
        if name.trim_end_matches('*').contains('*') || name.ends_with("**") {
            return Err(format!("define_metric(`{name}`): write `*` only at the end"));
        }
        let is_known = |kind: &str| SUMMARIES.iter().any(|(name, _)| *name == kind);
        if let Some(kind) = self.summary.iter().find(|kind| !is_known(kind)) {
            let names: Vec<_> = SUMMARIES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "define_metric(`{name}`): there is no summary `{kind}`; use one of {}",
                names.join(", ")
            ));
        }
        Ok(())
    }

    /// Returns a record for each name of the metric.
    pub(crate) fn records(&self) -> Vec<proto::MetricRecord> {
        match self.names.as_slice() {
            [] => vec![self.record(&self.name)],
            names => names.iter().map(|name| self.record(name)).collect(),
        }
    }

    /// Returns the record for one name.
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

/// Selects one flag of the summary kinds.
type SummaryFlag = fn(&mut proto::MetricSummaryKinds) -> &mut bool;

/// The names of the summary kinds, each with its flag.
const SUMMARIES: [(&str, SummaryFlag); 7] = [
    ("min", |summary| &mut summary.min),
    ("max", |summary| &mut summary.max),
    ("mean", |summary| &mut summary.mean),
    ("last", |summary| &mut summary.last),
    ("none", |summary| &mut summary.none),
    ("copy", |summary| &mut summary.copy),
    ("first", |summary| &mut summary.first),
];
