//! The sink that looks at each value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use logcore::reserved_names::is_system_metric;
use logcore::{Deadline, EventKind, MetricBatch, MetricValue, Notices, Rule, Sink, SinkError};

use super::finding::{Episode, EpisodeEnd, Finding, FindingHook, RuleFacts};
use super::history::{ROWS_AROUND, RowHistory};
use super::incident::{Incident, Rows, count_incident};
use super::layouts::{Found, Layouts};
use super::missing::MissingWatch;
use super::pattern::matches_pattern;
use super::tripped::TrippedMetrics;
use super::watch::{Change, Watch};

/// Bytes of the incidents that wait to be written.
const MAX_IN_FLIGHT: usize = 3 << 20;

/// Most values of a step whose last finite ones are looked for in the rows: thousands of metrics
/// may be NaN at once, and each look may pass all rows.
const MAX_LOOKS_BACK: usize = 100;

/// Looks at each value of a logger, on the writer's thread, and sends what the rules find.
///
/// A rule speaks once a step, about the metrics that have come by then. A metric that turns bad in
/// a later call for the step is in the incident, and is told at the next step at which it is bad.
///
/// With an empty list of rules one is on: each metric that is no finite number is told by a line at
/// level WARN.
///
/// The sink remembers at most 2 MiB of rows, 3 MiB of incidents that nobody has dropped yet, and
/// 65,536 names of metrics; a metric beyond is not watched. A rule with `spike` takes 4 bytes a
/// value of its `window` for each metric.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use logcore::{MetricBatch, MetricValue, Sink as _};
/// use logcore_health::rules::{Finding, RuleSink};
///
/// let (findings, found) = mpsc::channel();
/// let mut sink = RuleSink::new(&[], "metrics/", findings, Arc::default());
/// for (step, loss) in [(1, 0.5), (2, f32::NAN), (3, f32::NAN)] {
///     sink.metrics(&MetricBatch::new("trainer", step, &[("metrics/loss", MetricValue::F32(loss))]))?;
/// }
/// let findings: Vec<Finding> = found.try_iter().collect();
/// let [Finding::Incident(_), Finding::Began(episode)] = &findings[..] else { panic!() };
/// assert_eq!(episode.text(), "loss is NaN at step 2, after 0.5 (rule *-nan)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RuleSink {
    rules: Vec<Arc<RuleFacts>>,
    prefix: String,
    findings: FindingHook,
    tripped: Arc<TrippedMetrics>,
    missing: Option<Arc<MissingWatch>>,
    notices: Option<Notices>,
    layouts: Layouts,
    /// The metrics by their numbers.
    metrics: Vec<Metric>,
    /// The names of the metrics as the program logs them.
    logged_names: Vec<Arc<str>>,
    history: RowHistory,
    /// For each layout whether it is calm, see [`is_calm`](Self::is_calm); `None` if unknown.
    calm: Vec<Option<bool>>,
    step: Option<u64>,
    /// The newest row in which last finite values were looked for, and the number of looks there.
    looks_back: (u64, usize),
    changes: Vec<FoundChange>,
    scratch: Vec<i32>,
    /// The findings of the present step.
    began: Vec<HeldEpisode>,
    ended: Vec<(usize, EpisodeEnd)>,
    pending: VecDeque<PendingIncident>,
    /// Number of incidents so far, those beyond the bound included.
    incidents: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Metric {
    watches: Vec<Watch>,
    /// The last finite value, or NaN.
    last: f64,
}

#[derive(Debug)]
struct FoundChange {
    metric: u32,
    watch: usize,
    value: MetricValue,
    change: Change,
}

/// An episode to which further calls for the same step may add.
#[derive(Debug)]
struct HeldEpisode {
    /// Place of the rule in the config.
    rule: usize,
    episode: Episode,
    is_sent: bool,
    /// `true` if the episode is to have its rows in a file.
    has_incident: bool,
}

/// An episode whose rows are not complete.
#[derive(Debug)]
struct PendingIncident {
    episode: Episode,
    row: u64,
}

impl RuleSink {
    /// Creates the sink of a logger. `prefix` is the config's `metrics_prefix`, which the names in
    /// batches have and those in rules do not. A finding that nobody receives is dropped.
    #[must_use]
    pub fn new(rules: &[Rule], prefix: &str, findings: impl Into<FindingHook>, tripped: Arc<TrippedMetrics>) -> Self {
        let default = [Rule {
            metric: "*".to_owned(),
            nan: true,
            ..Rule::default()
        }];
        let rules = if rules.is_empty() { &default } else { rules };
        let rules: Vec<_> = rules.iter().map(|rule| Arc::new(RuleFacts::new(rule))).collect();
        let incidents = Arc::default();
        let missing = MissingWatch::new(rules.clone(), Arc::clone(&tripped), Arc::clone(&incidents)).map(Arc::new);
        Self {
            rules,
            prefix: prefix.to_owned(),
            findings: findings.into(),
            tripped,
            missing,
            notices: None,
            layouts: Layouts::default(),
            metrics: Vec::new(),
            logged_names: Vec::new(),
            history: RowHistory::default(),
            calm: Vec::new(),
            step: None,
            looks_back: (0, 0),
            changes: Vec::new(),
            scratch: Vec::new(),
            began: Vec::new(),
            ended: Vec::new(),
            pending: VecDeque::new(),
            incidents,
            in_flight: Arc::default(),
        }
    }

    /// Returns the watch that looks for missing metrics; `None` if no rule has `missing`. Another
    /// thread calls its [`check`](MissingWatch::check) once a second.
    #[must_use]
    pub fn missing_watch(&self) -> Option<Arc<MissingWatch>> {
        self.missing.clone()
    }

    /// Ends the present step: its findings are complete.
    #[cold]
    fn end_step(&mut self) {
        self.send_findings();
        let row = self.history.newest();
        for held in std::mem::take(&mut self.began) {
            if held.has_incident {
                self.pending.push_back(PendingIncident {
                    episode: held.episode,
                    row,
                });
            }
        }
    }

    /// Sends the findings of the present step that were not sent yet.
    fn send_findings(&mut self) {
        for at in 0..self.began.len() {
            let held = &mut self.began[at];
            if std::mem::replace(&mut held.is_sent, true) {
                continue;
            }
            held.has_incident = count_incident(&self.incidents);
            let (episode, has_incident) = (held.episode.clone(), held.has_incident);
            if has_incident {
                let rows = self.copy_around(self.history.newest());
                let incident = Incident::begun(episode.clone(), rows, &self.in_flight);
                self.findings.tell(Finding::Incident(Box::new(incident)));
            }
            self.findings.tell(Finding::Began(episode));
        }
        for (_, end) in self.ended.drain(..) {
            self.findings.tell(Finding::Ended(end));
        }
    }

    /// Copies the rows around a row.
    fn copy_around(&self, row: u64) -> Rows {
        let free = MAX_IN_FLIGHT.saturating_sub(self.in_flight.load(Ordering::Relaxed));
        // Each may take half of the rest, so that the next one has rows, too.
        self.history
            .copy_around(row, free / 2, &self.layouts, &self.logged_names)
    }

    /// Hands over the incidents that `is_due` finds complete.
    fn hand_over(&mut self, is_due: impl Fn(&PendingIncident, &RowHistory) -> bool) {
        while let Some(at) = self.pending.iter().position(|pending| is_due(pending, &self.history)) {
            let Some(PendingIncident { episode, row }) = self.pending.remove(at) else {
                return;
            };
            let rows = self.copy_around(row);
            let incident = Incident::complete(episode, rows, &self.in_flight);
            self.findings.tell(Finding::Incident(Box::new(incident)));
        }
    }

    #[inline]
    fn begin_row(&mut self) {
        if !(self.began.is_empty() && self.ended.is_empty()) {
            self.end_step();
        }
        if !self.pending.is_empty() {
            self.hand_over(|pending, history| pending.row + ROWS_AROUND <= history.newest());
        }
        self.history.begin_row();
    }

    /// Forgets rows until the others need no more memory than they may.
    #[cold]
    fn forget_rows(&mut self) {
        while let Some(oldest) = self.history.row_too_much() {
            // An incident with fewer rows before it than after it would lose more than it gains.
            self.hand_over(|pending, history| pending.row.saturating_sub(oldest) <= history.newest() - pending.row);
            self.history.forget_oldest();
        }
    }

    /// Forgets all rows, and with them the sequences of names.
    #[cold]
    fn forget_layouts(&mut self) {
        self.hand_over(|_, _| true);
        self.history.clear();
        self.calm.clear();
        self.layouts.forget_layouts();
    }

    /// Begins to watch the metrics whose names came with the last batch.
    #[cold]
    fn add_metrics(&mut self, step: u64) {
        for name in &self.layouts.names()[self.metrics.len()..] {
            let logged: Arc<str> = match name.strip_prefix(&*self.prefix) {
                Some(logged) if !is_system_metric(name) => logged.into(),
                _ => Arc::clone(name),
            };
            let rules = self.rules.iter().enumerate();
            let rules = rules.filter(|(_, facts)| matches_pattern(&facts.metric, &logged));
            let watches = rules.map(|(rule, facts)| {
                Watch::new(rule, &facts.condition, facts.window, || match &self.missing {
                    Some(missing) => missing.add_metric(facts, &logged, step),
                    None => Arc::default(),
                })
            });
            self.metrics.push(Metric {
                watches: watches.collect(),
                last: f64::NAN,
            });
            self.logged_names.push(logged);
        }
    }

    /// Returns `true` if no finite value can change anything for the metrics of a layout: they have
    /// no rule but `nan`, and no open episode.
    #[inline]
    fn is_calm(&mut self, layout: u32) -> bool {
        match self.calm.get(layout as usize) {
            Some(Some(is_calm)) => *is_calm,
            _ => self.find_calm(layout),
        }
    }

    #[cold]
    fn find_calm(&mut self, layout: u32) -> bool {
        let mut watches = self
            .layouts
            .ids(layout)
            .iter()
            .flat_map(|id| &self.metrics[*id as usize].watches);
        let is_calm = watches.all(Watch::is_calm);
        let at = layout as usize;
        if self.calm.len() <= at {
            self.calm.resize(at + 1, None);
        }
        self.calm[at] = Some(is_calm);
        is_calm
    }

    /// Looks at the values of a batch.
    fn observe(&mut self, batch: &MetricBatch<'_>, layout: u32) {
        for (id, (_, value)) in self.layouts.ids(layout).iter().zip(batch.iter()) {
            let metric = &mut self.metrics[*id as usize];
            if !value.as_f64().is_finite() && metric.watches.iter().any(Watch::is_calm) {
                // Values of a calm layout have been passed over.
                let row = self.history.newest();
                let looks = if self.looks_back.0 == row { self.looks_back.1 } else { 0 };
                self.looks_back = (row, looks + 1);
                metric.last = match looks < MAX_LOOKS_BACK {
                    true => self.history.last_finite(*id, &self.layouts).unwrap_or(metric.last),
                    false => f64::NAN,
                };
            }
            metric.observe(*id, value, batch.step(), &mut self.scratch, &mut self.changes);
        }
    }

    /// Looks at the values of a batch whose names are not all known.
    #[cold]
    fn observe_known(&mut self, batch: &MetricBatch<'_>) {
        if let Some(notices) = self.notices.take() {
            notices.print(
                "rules",
                "cannot watch further metrics: the logger has more than 65,536 names; use the same names in \
                 each step",
            );
        }
        for (name, value) in batch.iter() {
            if let Some(id) = self.layouts.id(name) {
                let metric = &mut self.metrics[id as usize];
                metric.observe(id, value, batch.step(), &mut self.scratch, &mut self.changes);
            }
        }
    }

    /// Makes findings of the changes that a batch has brought.
    #[cold]
    fn note_changes(&mut self, step: u64, time: SystemTime) {
        self.calm.clear();
        for found in std::mem::take(&mut self.changes) {
            let watch = &mut self.metrics[found.metric as usize].watches[found.watch];
            let name = &self.logged_names[found.metric as usize];
            let (rule, value) = (watch.rule, Some(found.value));
            let facts = &self.rules[rule];
            match found.change {
                Change::Began(usual) | Change::Lasts(usual) => {
                    let is_new = matches!(found.change, Change::Began(_));
                    if is_new {
                        self.tripped.open_episode(name);
                    }
                    let at = self.began.iter().position(|held| held.rule == rule);
                    if let Some(at) = at.filter(|at| self.began[*at].is_sent) {
                        // One line a rule and step: the next step at which the metric is bad tells
                        // it.
                        if is_new {
                            self.began[at].episode.add(name, value, usual, Some(step));
                        }
                        continue;
                    }
                    if !watch.tell(time) {
                        continue;
                    }
                    let held = match at {
                        Some(at) => &mut self.began[at],
                        None => {
                            self.began.push(HeldEpisode {
                                rule,
                                episode: Episode::new(facts, Some(step), time),
                                is_sent: false,
                                has_incident: false,
                            });
                            let last = self.began.len() - 1;
                            &mut self.began[last]
                        }
                    };
                    held.episode.add(name, value, usual, Some(step));
                }
                Change::Ended(new_usual) => {
                    self.tripped.end_episode(name);
                    if !watch.is_told() {
                        continue;
                    }
                    let at = match self.ended.iter().position(|(other, _)| *other == rule) {
                        Some(at) => at,
                        None => {
                            self.ended.push((rule, EpisodeEnd::new(facts, Some(step), time)));
                            self.ended.len() - 1
                        }
                    };
                    self.ended[at].1.add(name, value, new_usual);
                }
            }
        }
    }

    /// Makes incidents of the metrics that were found missing.
    #[inline]
    fn take_missing(&mut self) {
        let Some(missing) = &self.missing else { return };
        let row = self.history.newest();
        for episode in missing.take_told() {
            self.pending.push_back(PendingIncident { episode, row });
        }
    }
}

impl Metric {
    #[inline]
    fn observe(
        &mut self,
        id: u32,
        value: MetricValue,
        step: u64,
        scratch: &mut Vec<i32>,
        changes: &mut Vec<FoundChange>,
    ) {
        let number = value.as_f64();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            if let Some(change) = watch.observe(number, self.last, step, scratch) {
                changes.push(FoundChange {
                    metric: id,
                    watch: at,
                    value,
                    change,
                });
            }
        }
        if number.is_finite() {
            self.last = number;
        }
    }
}

impl Sink for RuleSink {
    fn wants(&self, kind: EventKind) -> bool {
        kind == EventKind::Metrics
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        self.notices = Some(notices.clone());
        Ok(())
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let step = batch.step();
        self.take_missing();
        if self.step != Some(step) {
            self.begin_row();
            self.step = Some(step);
        }
        let mut found = self.layouts.find(batch);
        if found == Found::TooManyLayouts {
            self.forget_layouts();
            found = self.layouts.find(batch);
        }
        if self.metrics.len() < self.layouts.names().len() {
            self.add_metrics(step);
        }
        if let Found::Layout(layout) = found {
            if !self.is_calm(layout) || batch.iter().any(|(_, value)| !value.as_f64().is_finite()) {
                self.observe(batch, layout);
            }
            self.history.push(batch, layout);
            if self.history.row_too_much().is_some() {
                self.forget_rows();
            }
        } else {
            self.observe_known(batch);
        }
        if !self.changes.is_empty() {
            self.note_changes(step, batch.time());
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.send_findings();
        Ok(())
    }

    fn finish(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.take_missing();
        self.end_step();
        self.hand_over(|_, _| true);
        if let Some(missing) = &self.missing {
            missing.end();
        }
        Ok(())
    }
}

/// Ends the episodes: the values of a sink that is no more trip nothing.
impl Drop for RuleSink {
    fn drop(&mut self) {
        if let Some(missing) = &self.missing {
            missing.end();
        }
        for (metric, name) in self.metrics.iter().zip(&self.logged_names) {
            for _ in metric.watches.iter().filter(|watch| watch.is_open()) {
                self.tripped.end_episode(name);
            }
        }
    }
}
