//! The findings of the rules, and the sentences that tell them.

use std::fmt::{self, Write as _};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use logcore::escape::to_short_line;
use logcore::text::format_value;
use logcore::{MetricValue, Rule, RuleAnswer};

use super::incident::Incident;

/// Number of metrics that a finding names.
const MAX_NAMED: usize = 10;

/// Number of characters of a name in a sentence.
const MAX_NAME_CHARS: usize = 200;

/// Something that the rules have found.
#[derive(Debug)]
pub enum Finding {
    /// Metrics began to meet the condition of a rule.
    Began(Episode),
    /// Metrics no longer meet the condition of a rule.
    Ended(EpisodeEnd),
    /// The rows around an episode: first those up to its step, right before [`Began`](Self::Began),
    /// and [later](Incident::is_complete) all of them. Beyond the 100th incident of a logger there
    /// are none.
    Incident(Box<Incident>),
}

/// Takes findings on the writer's thread, so that it must not wait: the sender of a channel, or
/// a function.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use logcore::{MetricBatch, MetricValue, Sink as _};
/// use logcore_health::rules::{FindingHook, RuleSink};
///
/// let count = Arc::new(Mutex::new(0));
/// let hook = FindingHook::new({
///     let count = Arc::clone(&count);
///     move |_| *count.lock().unwrap() += 1
/// });
/// let mut sink = RuleSink::new(&[], "", hook, Arc::default());
/// sink.metrics(&MetricBatch::new("trainer", 7, &[("loss", MetricValue::F32(f32::NAN))]))?;
/// sink.deliver()?;
/// // The rows so far, and the start of the episode.
/// assert_eq!(*count.lock().unwrap(), 2);
/// # Ok::<(), logcore::SinkError>(())
/// ```
pub struct FindingHook(Box<dyn FnMut(Finding) + Send>);

impl FindingHook {
    /// Creates a hook that calls a function.
    pub fn new(tell: impl FnMut(Finding) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    pub(super) fn tell(&mut self, finding: Finding) {
        (self.0)(finding);
    }
}

impl From<Sender<Finding>> for FindingHook {
    /// Sends each finding. Without a receiver, nobody wants to know.
    fn from(sender: Sender<Finding>) -> Self {
        Self::new(move |finding| drop(sender.send(finding)))
    }
}

impl fmt::Debug for FindingHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FindingHook").finish_non_exhaustive()
    }
}

/// The start of an episode: one rule, one step, and the metrics that began to meet its condition.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use logcore::{MetricBatch, MetricValue, Rule, Sink as _};
/// use logcore_health::rules::{Finding, RuleSink};
///
/// let rules = [Rule { metric: "*".into(), above: Some(100.0), ..Rule::default() }];
/// let (findings, found) = mpsc::channel();
/// let mut sink = RuleSink::new(&rules, "metrics/", findings, Arc::default());
/// let values = [("metrics/loss", MetricValue::F32(812.4)), ("metrics/norm", MetricValue::F32(101.5))];
/// sink.metrics(&MetricBatch::new("trainer", 5120, &values))?;
/// sink.deliver()?;
///
/// let began = found.iter().find_map(|finding| match finding {
///     Finding::Began(episode) => Some(episode),
///     _ => None,
/// });
/// let episode = began.unwrap();
/// let text = "2 metrics at step 5120 (rule *-above): loss is 812.4, above 100; norm is 101.5, above 100";
/// assert_eq!(episode.text(), text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Episode {
    /// Name of the rule, such as `loss-spike`.
    pub rule: String,
    /// The answer that the rule asks for.
    pub then: RuleAnswer,
    /// Step of the values; of a missing metric that of its last value, if it had one.
    pub step: Option<u64>,
    /// Time of the values; of a missing metric the time at which it was found missing.
    pub time: SystemTime,
    /// The first ten metrics.
    pub breaches: Vec<Breach>,
    /// Number of all metrics.
    pub count: usize,
    condition: Condition,
    /// Name of the file with the incident, once the file is there. All copies share the name.
    pub(super) file: Arc<OnceLock<String>>,
}

/// One metric that began to meet a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// Name of the metric as the program logs it. It may hold any characters.
    pub metric: String,
    /// The value; `None` if it is missing.
    pub value: Option<MetricValue>,
    /// The median of the last values for `spike`, the bound for `above` and `below`, the last
    /// finite value for `nan`, the value itself for `flat`.
    pub usual: Option<f64>,
    /// Step of the value, or of the last one.
    pub step: Option<u64>,
}

/// The end of episodes: one rule, one step, and the metrics that no longer meet its condition.
#[derive(Debug, Clone)]
pub struct EpisodeEnd {
    /// Name of the rule.
    pub rule: String,
    /// Step of the last value.
    pub step: Option<u64>,
    /// Time of the last value.
    pub time: SystemTime,
    /// The first ten metrics.
    pub metrics: Vec<EndedMetric>,
    /// Number of all metrics.
    pub count: usize,
    condition: Condition,
}

/// One metric that no longer meets a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedMetric {
    /// Name of the metric as the program logs it. It may hold any characters.
    pub metric: String,
    /// The value; `None` if it had been missing.
    pub value: Option<MetricValue>,
    /// The level that counts as usual now, if the episode ended because the metric stayed there.
    pub new_usual: Option<f64>,
}

/// The condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Condition {
    Nan,
    Above(f64),
    Below(f64),
    Spike(f64),
    Flat(usize),
    Missing(Duration),
}

/// A rule of the config, as the engine uses it.
#[derive(Debug)]
pub(super) struct RuleFacts {
    pub(super) name: String,
    /// The pattern for names of metrics.
    pub(super) metric: String,
    pub(super) condition: Condition,
    pub(super) window: usize,
    pub(super) then: RuleAnswer,
}

impl RuleFacts {
    /// Reads a rule that the config has validated. Of several conditions the first counts.
    pub(super) fn new(rule: &Rule) -> Self {
        let condition = match (rule.above, rule.below, rule.spike, rule.flat, rule.missing_time()) {
            _ if rule.nan => Condition::Nan,
            (Some(bound), ..) => Condition::Above(bound),
            (_, Some(bound), ..) => Condition::Below(bound),
            (_, _, Some(factor), ..) => Condition::Spike(factor),
            (_, _, _, Some(count), _) => Condition::Flat(count),
            (.., Some(time)) => Condition::Missing(time),
            _ => Condition::Nan,
        };
        Self {
            name: rule.name(),
            metric: rule.metric.clone(),
            condition,
            // The limits of `spike` need as many; a config has no fewer.
            window: rule.window.max(10),
            then: rule.then,
        }
    }
}

impl Condition {
    pub(super) fn missing_time(&self) -> Option<Duration> {
        match self {
            Self::Missing(time) => Some(*time),
            _ => None,
        }
    }
}

impl Episode {
    pub(super) fn new(rule: &RuleFacts, step: Option<u64>, time: SystemTime) -> Self {
        Self {
            rule: rule.name.clone(),
            then: rule.then,
            step,
            time,
            breaches: Vec::new(),
            count: 0,
            condition: rule.condition,
            file: Arc::default(),
        }
    }

    /// Returns the name of the file with the incident, in the folder `incidents`; `None` before
    /// [`write_incident`](super::write_incident) has written the file.
    #[must_use]
    pub fn incident_file(&self) -> Option<&str> {
        self.file.get().map(String::as_str)
    }

    pub(super) fn add(&mut self, metric: &str, value: Option<MetricValue>, usual: Option<f64>, step: Option<u64>) {
        self.count += 1;
        if self.breaches.len() < MAX_NAMED {
            self.breaches.push(Breach {
                metric: metric.to_owned(),
                value,
                usual,
                step,
            });
        }
    }

    /// Returns one line for people. Each control character in a name is escaped, and a long name is
    /// cut. For example: `loss is 812.4 at step 5120, usually 2.31 (rule loss-spike)`.
    #[must_use]
    pub fn text(&self) -> String {
        let rule = to_short_line(&self.rule, MAX_NAME_CHARS);
        // The step of a missing metric is its own.
        let step = self.step.filter(|_| self.condition.missing_time().is_none());
        if let [breach] = self.breaches.as_slice() {
            let (start, detail) = self.describe(breach);
            return format!("{start}{}{detail} (rule {rule})", at_step(step));
        }
        let parts = self.breaches.iter().map(|breach| {
            let (start, detail) = self.describe(breach);
            start + &detail
        });
        list(self.count, step, &rule, parts)
    }

    /// Returns the parts of the sentence before and after the step.
    fn describe(&self, breach: &Breach) -> (String, String) {
        let name = to_short_line(&breach.metric, MAX_NAME_CHARS);
        let (value, usual) = short_pair(breach.value, breach.usual);
        let usual = |word: &str| {
            usual
                .as_ref()
                .map_or_else(String::new, |usual| format!(", {word} {usual}"))
        };
        match self.condition {
            Condition::Nan => (format!("{name} is {value}"), usual("after")),
            Condition::Above(_) => (format!("{name} is {value}"), usual("above")),
            Condition::Below(_) => (format!("{name} is {value}"), usual("below")),
            Condition::Spike(_) => (format!("{name} is {value}"), usual("usually")),
            Condition::Flat(count) => {
                let detail = format!(", as each of its last {count} values");
                (format!("{name} is {value}"), detail)
            }
            Condition::Missing(time) => {
                let since = match breach.step {
                    Some(step) => format!(", since step {step}"),
                    None => ", since the start".to_owned(),
                };
                (format!("{name} has had no value for {}", short_time(time)), since)
            }
        }
    }
}

impl EpisodeEnd {
    pub(super) fn new(rule: &RuleFacts, step: Option<u64>, time: SystemTime) -> Self {
        Self {
            rule: rule.name.clone(),
            step,
            time,
            metrics: Vec::new(),
            count: 0,
            condition: rule.condition,
        }
    }

    pub(super) fn add(&mut self, metric: &str, value: Option<MetricValue>, new_usual: Option<f64>) {
        self.count += 1;
        if self.metrics.len() < MAX_NAMED {
            self.metrics.push(EndedMetric {
                metric: metric.to_owned(),
                value,
                new_usual,
            });
        }
    }

    /// Returns one line for people, such as `loss is usual again at step 5300 (rule loss-spike)`.
    #[must_use]
    pub fn text(&self) -> String {
        let rule = to_short_line(&self.rule, MAX_NAME_CHARS);
        if let [metric] = self.metrics.as_slice() {
            return format!("{}{} (rule {rule})", self.describe(metric), at_step(self.step));
        }
        list(
            self.count,
            self.step,
            &rule,
            self.metrics.iter().map(|metric| self.describe(metric)),
        )
    }

    fn describe(&self, ended: &EndedMetric) -> String {
        let name = to_short_line(&ended.metric, MAX_NAME_CHARS);
        match (ended.new_usual, self.condition) {
            (Some(usual), _) => format!("{name} has stayed near {}, which counts as usual now,", short(usual)),
            (_, Condition::Nan) => format!("{name} is finite again"),
            (_, Condition::Above(bound)) => format!("{name} is not above {} any more", short(bound)),
            (_, Condition::Below(bound)) => format!("{name} is not below {} any more", short(bound)),
            (_, Condition::Spike(_)) => format!("{name} is usual again"),
            (_, Condition::Flat(_)) => format!("{name} changes again"),
            (_, Condition::Missing(_)) => format!("{name} has values again"),
        }
    }
}

/// Returns the sentence about several metrics.
fn list(count: usize, step: Option<u64>, rule: &str, parts: impl ExactSizeIterator<Item = String>) -> String {
    let more = count - parts.len();
    let mut text = format!("{count} metrics{} (rule {rule}): ", at_step(step));
    text += &parts.collect::<Vec<_>>().join("; ");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    text
}

fn at_step(step: Option<u64>) -> String {
    step.map_or_else(String::new, |step| format!(" at step {step}"))
}

/// Returns a value and what is usual, with so many digits that the two texts compare as the numbers
/// do: 10.0000001 is not "10, above 10".
fn short_pair(value: Option<MetricValue>, usual: Option<f64>) -> (String, Option<String>) {
    let (Some(value), Some(usual)) = (value, usual) else {
        let value = value.map_or_else(|| "missing".to_owned(), short_metric);
        return (value, usual.map(short));
    };
    let (short_value, short_usual) = (short_metric(value), short(usual));
    let shown = [&short_value, &short_usual].map(|text| text.parse::<f64>().unwrap_or(f64::NAN));
    // The rules compare doubles, and so an f32 is shown as one: 0.1 as f32 is above 0.1.
    let exact = value.as_f64();
    match shown[0].partial_cmp(&shown[1]) == exact.partial_cmp(&usual) {
        true => (short_value, Some(short_usual)),
        false => (all_digits(exact), Some(all_digits(usual))),
    }
}

fn all_digits(value: f64) -> String {
    // `Debug` has an exponent where `Display` has hundreds of zeros.
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

fn short_metric(value: MetricValue) -> String {
    match value {
        MetricValue::Int(value) => value.to_string(),
        MetricValue::UInt(value) => value.to_string(),
        other => short(other.as_decimal()),
    }
}

/// Returns a number without zeros at its end.
fn short(value: f64) -> String {
    let text = format_value(value);
    let (number, exponent) = match text.split_once('e') {
        Some((number, exponent)) => (number, format!("e{exponent}")),
        None => (&*text, String::new()),
    };
    match number.contains('.') {
        true => format!("{}{exponent}", number.trim_end_matches('0').trim_end_matches('.')),
        false => text,
    }
}

/// Returns a time with the unit in which people give it.
fn short_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(rule: Rule) -> Episode {
        Episode::new(&RuleFacts::new(&rule), Some(5120), SystemTime::UNIX_EPOCH)
    }

    fn text(rule: Rule, value: impl Into<MetricValue>, usual: Option<f64>) -> String {
        let mut episode = episode(rule);
        episode.add("loss", Some(value.into()), usual, Some(5120));
        episode.text()
    }

    #[test]
    fn each_condition_has_its_sentence() {
        let rule = || Rule {
            metric: "loss".into(),
            ..Rule::default()
        };
        let spike = Rule {
            spike: Some(6.0),
            ..rule()
        };
        assert_eq!(
            text(spike, 812.4_f32, Some(2.31)),
            "loss is 812.4 at step 5120, usually 2.31 (rule loss-spike)"
        );
        let nan = Rule { nan: true, ..rule() };
        assert_eq!(
            text(nan.clone(), f32::NAN, None),
            "loss is NaN at step 5120 (rule loss-nan)"
        );
        assert_eq!(
            text(nan, f64::INFINITY, Some(1e-7)),
            "loss is inf at step 5120, after 1e-7 (rule loss-nan)"
        );
        let below = Rule {
            below: Some(-1.0),
            ..rule()
        };
        assert_eq!(
            text(below, -20, Some(-1.0)),
            "loss is -20 at step 5120, below -1 (rule loss-below)"
        );
        let flat = Rule {
            flat: Some(50),
            ..rule()
        };
        assert_eq!(
            text(flat, 0.5, Some(0.5)),
            "loss is 0.5 at step 5120, as each of its last 50 values (rule loss-flat)"
        );
    }

    #[test]
    fn a_value_near_its_bound_is_told_from_it() {
        let above = |bound| Rule {
            metric: "loss".into(),
            above: Some(bound),
            ..Rule::default()
        };
        let cases: [(f64, MetricValue, &str); 4] = [
            (10.0, 10.000_000_1.into(), "10.0000001 at step 5120, above 10"),
            // 0.1 as f32 is 0.100000001490116…; the rule compares doubles.
            (0.1, 0.1_f32.into(), "0.10000000149011612 at step 5120, above 0.1"),
            // Rounded to four digits the bound would be 123500000, and above the value.
            (
                123_456_788.5,
                123_456_789.into(),
                "123456789 at step 5120, above 123456788.5",
            ),
            (10.0, 10.25.into(), "10.25 at step 5120, above 10"),
        ];
        for (bound, value, expected) in cases {
            assert_eq!(
                text(above(bound), value, Some(bound)),
                format!("loss is {expected} (rule loss-above)")
            );
        }
    }

    #[test]
    fn a_sentence_names_ten_metrics_and_escapes_them() {
        let rule = Rule {
            metric: "*\u{1b}[2J".into(),
            nan: true,
            ..Rule::default()
        };
        let mut episode = episode(rule);
        for at in 0..13 {
            episode.add(&format!("a\n{at}"), Some(f64::NAN.into()), Some(f64::from(at)), None);
        }
        let text = episode.text();
        assert!(
            text.starts_with(
                r"13 metrics at step 5120 (rule *\x1b[2J-nan): a\n0 is NaN, after 0; a\n1 is NaN, after 1;"
            ),
            "{text}"
        );
        assert!(text.ends_with(r"; a\n9 is NaN, after 9; and 3 more"), "{text}");
        assert_eq!((episode.breaches.len(), episode.count), (10, 13));
    }

    #[test]
    fn numbers_have_no_zeros_at_their_end() {
        assert_eq!(
            [2.31, 812.4, 0.5, 1e-7, 100.0, 1e9, f64::NAN].map(short),
            ["2.31", "812.4", "0.5", "1e-7", "100", "1e9", "NaN"]
        );
    }
}
