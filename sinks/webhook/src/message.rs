//! The messages, before they have the form of a destination.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use logcore::log::Level;
use logcore::text::{format_duration, format_value};
use logcore::{Alert, AlertLevel, BuildContext, LoggerEnd, LoggerSummary, Record, RunEnd, RunState, epoch_seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::template::number;

/// Units of UTF-16 in the longest title. Discord shows 256, and a digest adds a few.
const LONGEST_TITLE: usize = 200;
/// Units of UTF-16 in the longest text. Discord takes 4,096 units; Slack takes 40,000 characters,
/// which five times this length, with every character escaped, does not reach.
const LONGEST_TEXT: usize = 4000;
/// Number of metrics in the message about the end of a run.
const MOST_METRICS: usize = 12;
/// Number of titles that a digest lists.
const MOST_TITLES: usize = 20;

/// A message: an alert, a record, the end of the run, or a digest of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// The number of the call, from 1; 0 for a message of an earlier attempt.
    pub(crate) number: u64,
    pub(crate) kind: MessageKind,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) level: AlertLevel,
    pub(crate) step: Option<u64>,
    /// Seconds since 1970.
    pub(crate) time: f64,
    /// The state of a run that has ended.
    pub(crate) status: Option<String>,
    /// Seconds of the run, at its end.
    pub(crate) duration: Option<f64>,
}

/// The origin of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageKind {
    Alert,
    Record,
    End,
    Digest,
}

/// The run and the process from which messages come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) run: String,
    pub(crate) run_id: String,
    pub(crate) logger: String,
    pub(crate) rank: u32,
    /// `true` if the run has several ranks.
    pub(crate) has_ranks: bool,
    pub(crate) attempt: u32,
}

impl Message {
    /// Creates the message of an alert.
    pub(crate) fn alert(alert: &Alert) -> Self {
        let message = Self::new(MessageKind::Alert, &alert.title, &alert.text, alert.level);
        Self {
            step: alert.step,
            time: epoch_seconds(alert.time),
            ..message
        }
    }

    /// Creates the message of a record. Its first line is the title.
    pub(crate) fn record(record: &Record<'_>) -> Self {
        let level = match record.level() {
            Level::Error => AlertLevel::Error,
            Level::Warn => AlertLevel::Warn,
            _ => AlertLevel::Info,
        };
        let (title, rest) = record.message().split_once('\n').unwrap_or((record.message(), ""));
        let mut text = rest.to_owned();
        for (name, value) in record.unique_fields(&[]) {
            let _ = write!(text, "{}{name}={value}", if text.is_empty() { "" } else { "\n" });
        }
        Self {
            time: epoch_seconds(record.time()),
            ..Self::new(MessageKind::Record, title, &text, level)
        }
    }

    /// Creates the message about the end of a run.
    pub(crate) fn end(run: &str, end: &LoggerEnd, summary: &LoggerSummary) -> Self {
        let status = match &end.run_end {
            RunEnd::Finished => "finished",
            RunEnd::Interrupted { .. } => "interrupted",
            RunEnd::Killed => "killed",
            RunEnd::Stopped { .. } => RunState::after(end).as_str(),
            _ => "failed",
        };
        let level = match &end.run_end {
            RunEnd::Finished => AlertLevel::Info,
            RunEnd::Interrupted { .. } | RunEnd::Stopped { .. } => AlertLevel::Warn,
            _ => AlertLevel::Error,
        };
        let mut facts = Vec::new();
        if end.run_end != RunEnd::Killed {
            facts.push(format!("after {}", format_duration(summary.duration)));
        }
        facts.extend(summary.last_step.map(|step| format!("at step {step}")));
        for (count, name) in [(summary.warnings, "warning"), (summary.errors, "error")] {
            if count > 0 {
                facts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
            }
        }
        let mut text = facts.join(", ");
        for metric in summary.metrics.iter().take(MOST_METRICS) {
            let _ = write!(text, "\n{} {}", metric.name, format_value(metric.stats.last));
            if let Some(best) = &metric.best {
                let _ = write!(text, " (best {} at step {})", format_value(best.value), best.step);
            }
        }
        let title = match &end.run_end {
            RunEnd::Panicked { .. } | RunEnd::Failed { .. } | RunEnd::Interrupted { .. } | RunEnd::Stopped { .. } => {
                format!("{run} {}", end.run_end)
            }
            _ => format!("{run} {status}"),
        };
        Self {
            step: summary.last_step,
            time: epoch_seconds(SystemTime::now()),
            status: Some(status.to_owned()),
            duration: (end.run_end != RunEnd::Killed).then_some(summary.duration.as_secs_f64()),
            ..Self::new(MessageKind::End, &title, &text, level)
        }
    }

    /// Creates one message of several, which there was no room to send one by one. `left_out` is
    /// the number of further messages, of which nothing is known. `None` without a message.
    pub(crate) fn digest<'m>(messages: impl Iterator<Item = &'m Self> + Clone, left_out: u64) -> Option<Self> {
        let last = messages.clone().last()?;
        let mut counts: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for (place, message) in messages.clone().enumerate() {
            counts.entry(&message.title).or_insert((place, 0)).1 += 1;
        }
        let mut titles: Vec<_> = counts.into_iter().collect();
        titles.sort_by_key(|(_, (place, _))| *place);
        let mut text = String::new();
        for (title, (_, count)) in titles.iter().take(MOST_TITLES) {
            let times = if *count > 1 {
                format!("{count} × ")
            } else {
                String::new()
            };
            let _ = writeln!(text, "{times}{title}");
        }
        if titles.len() > MOST_TITLES {
            let _ = writeln!(text, "… and {} other titles", titles.len() - MOST_TITLES);
        }
        if left_out > 0 {
            let _ = writeln!(text, "{left_out} further messages had no room and are left out");
        }
        let count = messages.clone().count() as u64 + left_out;
        let level = messages.map(|message| message.level).max().unwrap_or(last.level);
        Some(Self {
            number: last.number,
            step: last.step,
            time: last.time,
            ..Self::new(
                MessageKind::Digest,
                &format!("{count} more messages"),
                text.trim_end(),
                level,
            )
        })
    }

    /// Returns `true` for a message of an earlier attempt.
    pub(crate) fn is_left(&self) -> bool {
        self.number == 0
    }

    fn new(kind: MessageKind, title: &str, text: &str, level: AlertLevel) -> Self {
        Self {
            number: 0,
            kind,
            title: shorten(title.trim(), LONGEST_TITLE),
            text: shorten(text.trim_end(), LONGEST_TEXT),
            level,
            step: None,
            time: 0.0,
            status: None,
            duration: None,
        }
    }

    /// Returns the value of a placeholder.
    pub(crate) fn value(&self, name: &str, source: &Source) -> Value {
        match name {
            "kind" => json!(self.kind),
            "title" => json!(self.title),
            "text" => json!(self.text),
            "level" => json!(self.level.name()),
            "run" => json!(source.run),
            "run_id" => json!(source.run_id),
            "logger" => json!(source.logger),
            "rank" => json!(source.rank),
            "step" => json!(self.step),
            "status" => json!(self.status),
            "duration" => self.duration.map_or(Value::Null, number),
            "time" => number(self.time),
            _ => Value::Null,
        }
    }
}

/// The names of the placeholders.
pub(crate) const PLACEHOLDERS: &[&str] = &[
    "kind", "title", "text", "level", "run", "run_id", "logger", "rank", "step", "status", "duration", "time",
];

impl Source {
    /// Returns the source of the messages of a logger.
    pub(crate) fn of(context: &BuildContext<'_>) -> Self {
        Self {
            run: context.run().name().to_owned(),
            run_id: context.run().id().to_owned(),
            logger: context.logger().to_owned(),
            rank: context.rank(),
            has_ranks: context.rank() > 0 || context.ranks().world_size.is_some_and(|size| size > 1),
            attempt: context.run().attempt(),
        }
    }

    /// Describes the place of a message in one line: `trainer · rank 3 · step 120`.
    pub(crate) fn describe(&self, message: &Message) -> String {
        let mut parts = vec![self.run.clone()];
        if self.logger != self.run {
            parts.push(self.logger.clone());
        }
        if !self.run_id.is_empty() {
            parts.push(self.run_id.clone());
        }
        if self.has_ranks {
            parts.push(format!("rank {}", self.rank));
        }
        parts.extend(message.step.map(|step| format!("step {step}")));
        parts.join(" · ")
    }
}

/// Cuts a text to a number of UTF-16 units, in which Discord counts, and tells how much is missing.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    /// Units of the remark.
    const REMARK: usize = 40;
    if text.len() <= longest || text.encode_utf16().count() <= longest {
        return text.to_owned();
    }
    let mut units = 0;
    let kept = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= longest.saturating_sub(REMARK)
    });
    let kept: String = kept.collect();
    let missing = text[kept.len()..].chars().count();
    format!("{kept}… ({missing} characters more)")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use logcore::{MetricSummary, Point, Stats};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_has_the_newest_metrics() {
        let mut summary = LoggerSummary::default();
        (summary.duration, summary.last_step, summary.errors) = (Duration::from_secs(3725), Some(12), 1);
        let mut stats = Stats::empty();
        stats.last = 0.25;
        let mut loss = MetricSummary::new("loss", stats);
        loss.best = Some(Point::new(7, 0.125));
        summary.metrics.push(loss);
        let message = Message::end("trainer", &LoggerEnd::from_exit_code(3), &summary);
        assert_eq!(message.title, "trainer failed with exit code 3");
        assert!(
            message.text.contains("at step 12, 1 error\nloss 0.2500"),
            "{}",
            message.text
        );
        assert!(message.text.ends_with("(best 0.1250 at step 7)"), "{}", message.text);
        assert_eq!(
            (message.status.as_deref(), message.duration),
            (Some("failed"), Some(3725.0))
        );
        let killed = Message::end("trainer", &LoggerEnd::killed(), &LoggerSummary::default());
        assert_eq!(
            (&*killed.title, &*killed.text, killed.duration),
            ("trainer killed", "", None)
        );
    }

    #[test]
    fn a_digest_counts_equal_titles_in_their_order() {
        let of = |title: &str, number| Message {
            number,
            ..Message::new(MessageKind::Alert, title, "", AlertLevel::Warn)
        };
        let messages = [of("b", 1), of("a", 2), of("b", 3)];
        let digest = Message::digest(messages.iter(), 4).unwrap();
        assert_eq!((digest.number, &*digest.title), (3, "7 more messages"));
        assert_eq!(digest.text, "2 × b\na\n4 further messages had no room and are left out");
        assert_eq!(Message::digest([].iter(), 0), None);
    }

    proptest! {
        #[test]
        fn a_shortened_text_has_room(text in "\\PC{0,300}", longest in 40..200_usize) {
            let short = shorten(&text, longest);
            prop_assert!(short.encode_utf16().count() <= longest);
            prop_assert!(short == text || text.encode_utf16().count() > longest);
        }
    }
}
