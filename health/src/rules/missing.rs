//! The condition `missing`: metrics without a value for a time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::finding::{Episode, EpisodeEnd, Finding, RuleFacts};
use super::incident::{Incident, Rows, count_incident};
use super::tripped::TrippedMetrics;

/// Number of checks, and so of seconds, between two findings of a rule on one metric.
const QUIET_CHECKS: u64 = 60;

/// Looks for metrics without a value for the time of a rule with `missing`, from another thread
/// than the writer's.
///
/// Time is counted in calls of [`check`](Self::check), which the thread makes once a second: a
/// process that was stopped finds nothing missing when it goes on.
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use std::time::SystemTime;
///
/// use logcore::{MetricBatch, MetricValue, Rule, Sink as _};
/// use logcore_health::rules::{Finding, RuleSink};
///
/// let rules = [Rule { metric: "val/loss".into(), missing: Some("2s".into()), ..Rule::default() }];
/// let mut sink = RuleSink::new(&rules, "metrics/", mpsc::channel().0, Arc::default());
/// let watch = sink.missing_watch().unwrap();
/// sink.metrics(&MetricBatch::new("trainer", 7, &[("metrics/val/loss", MetricValue::F32(0.5))]))?;
///
/// assert!(watch.check(SystemTime::now()).is_empty());
/// assert!(watch.check(SystemTime::now()).is_empty());
/// let findings = watch.check(SystemTime::now());
/// let [Finding::Incident(_), Finding::Began(episode)] = &findings[..] else { panic!() };
/// let text = "val/loss has had no value for 2s, since step 7 (rule val/loss-missing)";
/// assert_eq!(episode.text(), text);
/// # Ok::<(), logcore::SinkError>(())
/// ```
#[derive(Debug)]
pub struct MissingWatch {
    state: Mutex<State>,
    /// `true` if `told` of the state holds anything.
    has_told: AtomicBool,
    tripped: Arc<TrippedMetrics>,
    /// Number of incidents of the logger.
    incidents: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<WatchedRule>,
    /// Episodes that were found, until the sink takes them for incidents.
    told: Vec<Episode>,
    is_ended: bool,
}

#[derive(Debug)]
struct WatchedRule {
    facts: Arc<RuleFacts>,
    /// Number of checks without a value that open an episode.
    limit: u64,
    /// The metrics that match; until one has come, a stand-in.
    metrics: Vec<WatchedMetric>,
}

#[derive(Debug)]
struct WatchedMetric {
    name: Arc<str>,
    slot: Arc<MissingSlot>,
    /// The number of values at the last check.
    values: u64,
    quiet_checks: u64,
    is_open: bool,
    /// `true` if the open episode was told.
    is_told: bool,
    /// Number of checks since an episode was told.
    checks_since_told: u64,
    /// `true` for the rule's own pattern, which stands in until a metric has matched it.
    is_stand_in: bool,
}

/// The values of one metric, counted by the writer.
#[derive(Debug, Default)]
pub(super) struct MissingSlot {
    values: AtomicU64,
    /// Step of the last value.
    step: AtomicU64,
}

impl MissingSlot {
    /// Counts a value. Only the writer's thread calls this.
    #[inline]
    pub(super) fn note_value(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        let values = self.values.load(Ordering::Relaxed);
        // Makes the step visible with the count.
        self.values.store(values + 1, Ordering::Release);
    }
}

impl MissingWatch {
    /// Creates the watch of these rules; `None` if there are none.
    pub(super) fn new(
        rules: Vec<Arc<RuleFacts>>,
        tripped: Arc<TrippedMetrics>,
        incidents: Arc<AtomicUsize>,
    ) -> Option<Self> {
        let rules: Vec<_> = rules.into_iter().filter_map(WatchedRule::new).collect();
        (!rules.is_empty()).then(|| Self {
            state: Mutex::new(State {
                rules,
                ..State::default()
            }),
            has_told: AtomicBool::new(false),
            tripped,
            incidents,
        })
    }

    /// Counts a second, and returns the episodes that began or ended. A metric counts as missing
    /// from its last value on, or from the start of the logger.
    ///
    /// Unlike other episodes, one of a missing metric ends with its next value. Otherwise a metric
    /// that is logged once an hour would be missing for four days.
    #[must_use]
    pub fn check(&self, now: SystemTime) -> Vec<Finding> {
        let mut state = self.lock();
        if state.is_ended {
            return Vec::new();
        }
        let mut findings = Vec::new();
        let state = &mut *state;
        for rule in &mut state.rules {
            rule.check(now, &self.tripped, &mut findings);
        }
        let began = findings.iter().filter_map(|finding| match finding {
            Finding::Began(episode) => Some(episode.clone()),
            _ => None,
        });
        let episodes: Vec<Episode> = began.filter(|_| count_incident(&self.incidents)).collect();
        // The sink alone has the rows. It may be long until its next one.
        let incidents = episodes.iter().map(|episode| {
            let incident = Incident::begun(episode.clone(), Rows::default(), &Arc::default());
            Finding::Incident(Box::new(incident))
        });
        findings.splice(0..0, incidents);
        state.told.extend(episodes);
        self.has_told.store(!state.told.is_empty(), Ordering::Relaxed);
        findings
    }

    /// Adds a metric that a rule's pattern matches, at its first value.
    pub(super) fn add_metric(&self, facts: &Arc<RuleFacts>, name: &Arc<str>, step: u64) -> Arc<MissingSlot> {
        let slot = Arc::new(MissingSlot::default());
        let mut state = self.lock();
        if let Some(rule) = state.rules.iter_mut().find(|rule| Arc::ptr_eq(&rule.facts, facts)) {
            // The stand-in is the first one. There may be tens of thousands of others.
            if let Some(stand_in) = rule.metrics.first().filter(|metric| metric.is_stand_in) {
                stand_in.slot.note_value(step);
            }
            rule.metrics
                .push(WatchedMetric::new(Arc::clone(name), Arc::clone(&slot), false));
        }
        slot
    }

    /// Takes the episodes that were found since the last call.
    #[inline]
    pub(super) fn take_told(&self) -> Vec<Episode> {
        if !self.has_told.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.has_told.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.lock().told)
    }

    /// Ends the watch: the logger has ended, so that nothing is missing any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        for metric in state.rules.iter_mut().flat_map(|rule| &mut rule.metrics) {
            if std::mem::take(&mut metric.is_open) {
                self.tripped.end_episode(&metric.name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedRule {
    fn new(facts: Arc<RuleFacts>) -> Option<Self> {
        let limit = facts.condition.missing_time()?.as_secs().max(1);
        let pattern = WatchedMetric::new(facts.metric.as_str().into(), Arc::default(), true);
        Some(Self {
            facts,
            limit,
            metrics: vec![pattern],
        })
    }

    fn check(&mut self, now: SystemTime, tripped: &TrippedMetrics, findings: &mut Vec<Finding>) {
        let mut began: Option<Episode> = None;
        let mut ended: Option<EpisodeEnd> = None;
        for metric in &mut self.metrics {
            let values = metric.slot.values.load(Ordering::Acquire);
            let step = (values > 0).then(|| metric.slot.step.load(Ordering::Relaxed));
            metric.checks_since_told = metric.checks_since_told.saturating_add(1);
            metric.quiet_checks += 1;
            if values != metric.values {
                metric.values = values;
                metric.quiet_checks = 0;
                if !std::mem::take(&mut metric.is_open) {
                    continue;
                }
                tripped.end_episode(&metric.name);
                if metric.is_told {
                    ended
                        .get_or_insert_with(|| EpisodeEnd::new(&self.facts, step, now))
                        .add(&metric.name, None, None);
                }
            } else if metric.quiet_checks >= self.limit {
                if !std::mem::replace(&mut metric.is_open, true) {
                    metric.is_told = false;
                    tripped.open_episode(&metric.name);
                }
                // One that was too early to be told is told later, if it lasts.
                if !metric.is_told && metric.checks_since_told >= QUIET_CHECKS {
                    (metric.is_told, metric.checks_since_told) = (true, 0);
                    began.get_or_insert_with(|| Episode::new(&self.facts, step, now)).add(
                        &metric.name,
                        None,
                        None,
                        step,
                    );
                }
            }
        }
        self.metrics.retain(|metric| !metric.is_stand_in || metric.values == 0);
        findings.extend(began.map(Finding::Began));
        findings.extend(ended.map(Finding::Ended));
    }
}

impl WatchedMetric {
    fn new(name: Arc<str>, slot: Arc<MissingSlot>, is_stand_in: bool) -> Self {
        Self {
            name,
            slot,
            values: 0,
            quiet_checks: 0,
            is_open: false,
            is_told: false,
            checks_since_told: QUIET_CHECKS,
            is_stand_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use logcore::Rule;

    use super::*;

    fn watch(pattern: &str, tripped: &Arc<TrippedMetrics>) -> (MissingWatch, Arc<RuleFacts>) {
        let facts = Arc::new(RuleFacts::new(&Rule {
            metric: pattern.to_owned(),
            missing: Some("2s".to_owned()),
            ..Rule::default()
        }));
        let watch = MissingWatch::new(vec![Arc::clone(&facts)], Arc::clone(tripped), Arc::default()).unwrap();
        (watch, facts)
    }

    fn texts(watch: &MissingWatch, checks: usize) -> Vec<String> {
        let findings = (0..checks).flat_map(|_| watch.check(SystemTime::UNIX_EPOCH));
        findings
            .filter_map(|finding| match finding {
                Finding::Began(episode) => Some(episode.text()),
                Finding::Ended(end) => Some(end.text()),
                Finding::Incident(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_pattern_without_a_metric_is_missing_from_the_start_until_one_comes() {
        let tripped = Arc::new(TrippedMetrics::default());
        let (watch, facts) = watch("val/*", &tripped);
        assert_eq!(
            texts(&watch, 5),
            ["val/* has had no value for 2s, since the start (rule val/*-missing)"]
        );
        assert!(tripped.is_tripped("val/*"));
        watch.add_metric(&facts, &"val/loss".into(), 7).note_value(7);
        assert_eq!(
            texts(&watch, 4),
            [
                "val/* has values again at step 7 (rule val/*-missing)",
                "val/loss has had no value for 2s, since step 7 (rule val/*-missing)",
            ]
        );
        assert!(tripped.is_tripped("val/loss") && !tripped.is_tripped("val/*"));
        watch.end();
        assert!(!tripped.is_tripped("val/loss") && texts(&watch, 5).is_empty());
    }

    #[test]
    fn an_episode_that_was_too_early_to_be_told_is_told_if_it_lasts() {
        let (watch, facts) = watch("loss", &Arc::default());
        let slot = watch.add_metric(&facts, &"loss".into(), 0);
        slot.note_value(1);
        let first = texts(&watch, 5);
        slot.note_value(2);
        assert_eq!((first.len(), texts(&watch, 50).len()), (1, 1));
        let later = texts(&watch, 200);
        assert_eq!(
            later,
            ["loss has had no value for 2s, since step 2 (rule loss-missing)"]
        );
    }

    #[test]
    fn a_metric_is_told_once_a_minute_and_its_untold_end_is_not() {
        let tripped = Arc::new(TrippedMetrics::default());
        let (watch, facts) = watch("loss", &tripped);
        let slot = watch.add_metric(&facts, &"loss".into(), 0);
        let mut told = Vec::new();
        for step in 1..=20 {
            slot.note_value(step);
            told.extend(texts(&watch, 5).iter().map(|text| (step, text.contains("again"))));
        }
        // Five checks a step: the second episode after a minute is the 13th.
        assert_eq!(told, [(1, false), (2, true), (13, false), (14, true)]);
        assert!(tripped.is_tripped("loss"));
    }
}
