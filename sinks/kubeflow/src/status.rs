//! The status of a training, as it is now.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use logcore::sync::lock;
use logcore::{MetricBatch, MetricValue, ProgressEvent, ProgressKind};
use serde::Serialize;

/// Most metrics in a status. The status is a part of an object of the cluster, which must stay
/// small.
const MAX_METRICS: usize = 32;
/// Most characters in the name and in the value of a metric. The server refuses a status as a whole
/// if one of them is longer or empty.
const MAX_CHARACTERS: usize = 64;

/// The newest status, written by the writer and read by the reporter.
#[derive(Debug)]
pub(crate) struct Status {
    /// Names of metrics; one that ends in `*` is a beginning.
    names: Vec<String>,
    /// The prefix that the logger puts before the program's names.
    prefix: String,
    state: Mutex<StatusState>,
}

#[derive(Debug, Default)]
struct StatusState {
    /// The open progresses, in the order in which they began.
    open: Vec<OpenProgress>,
    percentage: Option<i32>,
    remaining: Option<Duration>,
    has_ended: bool,
    metrics: Vec<(String, MetricValue)>,
    /// Number of calls that the status has in it.
    calls: u64,
    reported_calls: u64,
}

#[derive(Debug)]
struct OpenProgress {
    id: u64,
    percentage: Option<i32>,
    remaining: Option<Duration>,
}

impl StatusState {
    /// Counts a call. Returns `true` if the server has all calls before.
    fn count_call(&mut self) -> bool {
        self.calls += 1;
        self.calls == self.reported_calls + 1
    }
}

/// A report for the server, and the number of calls in it.
pub(crate) struct StatusReport {
    pub(crate) body: Vec<u8>,
    pub(crate) calls: u64,
}

impl Status {
    pub(crate) fn new(names: &[String], prefix: &str) -> Self {
        Self {
            names: names.to_vec(),
            prefix: prefix.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Takes the state of a progress. Returns `true` if the server knew all before.
    pub(crate) fn take_progress(&self, event: &ProgressEvent<'_>) -> bool {
        let mut state = lock(&self.state);
        let is_first_news = state.count_call();
        let at = state.open.iter().position(|open| open.id == event.id);
        let now = OpenProgress {
            id: event.id,
            // A percentage of 100 is the end of the run.
            percentage: event.percent().map(|percent| percent.clamp(0.0, 99.0) as i32),
            remaining: event.eta,
        };
        match (at, event.kind) {
            (Some(at), ProgressKind::Finished) => {
                state.open.remove(at);
                // An ended progress has no remaining time; its percentage stands until the next
                // one.
                if at == 0 {
                    (state.percentage, state.remaining) = (now.percentage, None);
                }
            }
            (Some(at), _) => state.open[at] = now,
            (None, ProgressKind::Finished) => {}
            (None, _) => state.open.push(now),
        }
        let outermost = state.open.iter().find(|open| open.percentage.is_some());
        if let Some(&OpenProgress {
            percentage, remaining, ..
        }) = outermost
        {
            (state.percentage, state.remaining) = (percentage, remaining);
        }
        is_first_news
    }

    /// Takes the metrics of one call. Returns `true` if the server knew all before.
    pub(crate) fn take_metrics(&self, batch: &MetricBatch<'_>) -> bool {
        let mut state = lock(&self.state);
        let mut is_wanted = false;
        for (name, value) in batch.iter() {
            // Without the prefix it is one of the system's names.
            let Some(name) = name.strip_prefix(&*self.prefix).filter(|name| self.wants(name)) else {
                continue;
            };
            match state.metrics.iter().position(|(known, _)| known == name) {
                Some(at) => state.metrics[at].1 = value,
                None if state.metrics.len() < MAX_METRICS => state.metrics.push((name.to_owned(), value)),
                None => continue,
            }
            is_wanted = true;
        }
        is_wanted && state.count_call()
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => wanted == name,
        };
        let is_allowed = !name.is_empty() && name.chars().count() <= MAX_CHARACTERS;
        is_allowed && self.names.iter().any(matches)
    }

    /// Notes the end of the run.
    pub(crate) fn end(&self, is_success: bool) {
        let mut state = lock(&self.state);
        (state.remaining, state.has_ended) = (None, true);
        if is_success {
            (state.percentage, state.remaining) = (Some(100), Some(Duration::ZERO));
        }
    }

    /// Returns the status now.
    pub(crate) fn report(&self) -> StatusReport {
        let state = lock(&self.state);
        let metrics = state.metrics.iter().map(|(name, value)| ReportedMetric {
            name,
            value: show(*value),
        });
        let report = Report {
            trainer_status: TrainerStatus {
                progress_percentage: state.percentage,
                estimated_remaining_seconds: state.remaining.map(|time| {
                    // Up to the next second: 0 is the end.
                    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
                    i32::try_from(seconds).unwrap_or(i32::MAX)
                }),
                metrics: metrics.collect(),
                last_updated_time: rfc3339(SystemTime::now()),
            },
        };
        StatusReport {
            body: serde_json::to_vec(&report).unwrap_or_default(),
            calls: state.calls,
        }
    }

    /// Returns `true` if something has changed since the last report that the server has.
    pub(crate) fn is_news(&self) -> bool {
        let state = lock(&self.state);
        state.calls > state.reported_calls
    }

    /// Returns `true` if the run has ended.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).has_ended
    }

    /// Notes that the server has a report.
    pub(crate) fn note_reported(&self, report: &StatusReport) {
        lock(&self.state).reported_calls = report.calls;
    }

    /// Returns the number of calls, and of those that the server has.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.calls, state.reported_calls)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    trainer_status: TrainerStatus<'a>,
}

/// Kubeflow's type of this name; absent is unknown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrainerStatus<'a> {
    /// From 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_percentage: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_remaining_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<ReportedMetric<'a>>,
    last_updated_time: String,
}

#[derive(Serialize)]
struct ReportedMetric<'a> {
    name: &'a str,
    value: String,
}

/// Returns a value as text, as the status has all values: `0.15`, `1e300`, `NaN`, `inf`.
fn show(value: MetricValue) -> String {
    let digits = match value {
        MetricValue::Int(value) => value.to_string(),
        MetricValue::UInt(value) => value.to_string(),
        MetricValue::F32(value) => value.to_string(),
        other => other.as_f64().to_string(),
    };
    // Without an exponent a number has up to 327 characters.
    match digits.len() > MAX_CHARACTERS {
        true => format!("{:e}", value.as_f64()),
        false => digits,
    }
}

fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    // Kubernetes writes times to the second.
    jiff::Timestamp::from_second(time.as_second())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(status: &Status) -> serde_json::Value {
        let mut report: serde_json::Value = serde_json::from_slice(&status.report().body).unwrap();
        let time = report["trainerStatus"]
            .as_object_mut()
            .unwrap()
            .remove("lastUpdatedTime");
        assert!(time.unwrap().as_str().unwrap().ends_with('Z'));
        report["trainerStatus"].take()
    }

    fn event(kind: ProgressKind, id: u64, position: u64, total: Option<u64>) -> ProgressEvent<'static> {
        let mut event = ProgressEvent::new(kind, id, "trainer", "work");
        (event.position, event.total) = (position, total);
        event.eta = Some(Duration::from_millis(90_500));
        event
    }

    #[test]
    fn the_outermost_progress_with_a_total_counts() {
        use ProgressKind::{Advanced, Finished, Started};
        let status = Status::new(&["*".to_owned()], "metrics/");
        assert_eq!(shown(&status), serde_json::json!({}));
        status.take_progress(&event(Started, 1, 0, None));
        status.take_progress(&event(Started, 2, 0, Some(10)));
        status.take_progress(&event(Advanced, 2, 3, Some(10)));
        status.take_progress(&event(Started, 3, 9, Some(10)));
        assert_eq!(
            shown(&status),
            serde_json::json!({"progressPercentage": 30, "estimatedRemainingSeconds": 91})
        );
        status.take_progress(&event(Finished, 3, 10, Some(10)));
        status.take_progress(&event(Advanced, 2, 10, Some(10)));
        assert_eq!(shown(&status)["progressPercentage"], 99, "the run has not ended");
        status.take_progress(&event(Finished, 2, 10, Some(10)));
        status.end(false);
        assert_eq!(shown(&status), serde_json::json!({"progressPercentage": 99}));
        status.end(true);
        assert_eq!(
            shown(&status),
            serde_json::json!({"progressPercentage": 100, "estimatedRemainingSeconds": 0})
        );
    }

    #[test]
    fn metrics_are_the_newest_values_as_text() {
        let status = Status::new(&["loss".to_owned(), "val/*".to_owned()], "metrics/");
        let values = [
            ("metrics/loss", MetricValue::Float(0.5)),
            ("metrics/lr", MetricValue::Float(0.1)),
            ("metrics/val/loss", MetricValue::F32(0.1)),
            ("metrics/val/nan", MetricValue::Float(f64::NAN)),
            ("throughput/samples_per_sec", MetricValue::Float(9.0)),
        ];
        let take =
            |step, values: &[(&str, MetricValue)]| status.take_metrics(&MetricBatch::new("trainer", step, values));
        assert!(take(1, &values), "the first news");
        assert!(!take(2, &[("metrics/loss", MetricValue::Int(2))]));
        assert!(!take(2, &[("metrics/lr", MetricValue::Int(2))]));
        assert_eq!(status.counts(), (2, 0));
        let metrics = serde_json::json!([
            {"name": "loss", "value": "2"},
            {"name": "val/loss", "value": "0.1"},
            {"name": "val/nan", "value": "NaN"},
        ]);
        assert_eq!(shown(&status), serde_json::json!({"metrics": metrics}));
    }

    #[test]
    fn the_status_stays_small() {
        let status = Status::new(&["*".to_owned()], "metrics/");
        for number in 0..100_000 {
            let name = format!("metrics/m{number}");
            status.take_metrics(&MetricBatch::new(
                "trainer",
                number,
                &[(&*name, MetricValue::UInt(number))],
            ));
        }
        assert_eq!(shown(&status)["metrics"].as_array().unwrap().len(), MAX_METRICS);
    }

    #[test]
    fn a_name_that_the_server_would_refuse_is_left_out() {
        let status = Status::new(&["*".to_owned()], "metrics/");
        for (length, is_taken) in [
            (0, false),
            (1, true),
            (MAX_CHARACTERS, true),
            (MAX_CHARACTERS + 1, false),
        ] {
            // Characters count, not bytes.
            let name = format!("metrics/{}", "ö".repeat(length));
            let before = status.counts().0;
            status.take_metrics(&MetricBatch::new("trainer", 1, &[(&*name, MetricValue::Int(1))]));
            assert_eq!(status.counts().0 > before, is_taken, "{length}");
        }
    }

    proptest! {
        /// The server takes texts of 1 to 64 characters.
        #[test]
        fn a_value_is_short_and_reads_back(bits in any::<u64>(), single in any::<u32>()) {
            for value in [
                MetricValue::Float(f64::from_bits(bits)), MetricValue::F32(f32::from_bits(single)),
                MetricValue::UInt(bits), MetricValue::Int(bits.cast_signed()),
            ] {
                let text = show(value);
                prop_assert!((1..=MAX_CHARACTERS).contains(&text.len()), "{text}");
                let back: f64 = text.parse().unwrap();
                let is_same = match value {
                    MetricValue::F32(value) => back as f32 == value || value.is_nan(),
                    other => back == other.as_f64() || back.is_nan(),
                };
                prop_assert!(is_same, "{value:?} {text}");
            }
        }
    }
}
