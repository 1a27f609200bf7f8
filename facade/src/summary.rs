//! The last word of a run: what it was, in numbers, for the terminal and for `summary.json`.

use std::fmt::Write as _;
use std::time::Duration;

use logcore::escape::short_line;
use logcore::{SinkBooks, Stats, text};
use serde::Serialize;

use crate::report::{FinishReport, RunEnd};

/// More metrics than this are counted, not shown.
pub(crate) const SHOWN: usize = 12;

/// Columns for what a line is about.
const LABEL: usize = 8;

/// No more characters of a metric's name are shown; …
const NAME: usize = 60;
/// … of any other text of others.
const TEXT: usize = 1000;

/// What a run was.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) end: RunEnd,
    pub(crate) exit_code: i32,
    #[serde(rename = "duration_seconds", serialize_with = "as_seconds")]
    pub(crate) duration: Duration,
    /// The highest step there was.
    pub(crate) last_step: Option<u64>,
    /// Over all time in which a progress ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps_per_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) samples_per_sec: Option<f64>,
    pub(crate) warnings: u64,
    pub(crate) errors: u64,
    /// In the order in which they were logged first.
    pub(crate) metrics: Vec<MetricSummary>,
    /// The system's own families.
    #[serde(skip)]
    pub(crate) system: Vec<MetricSummary>,
}

/// One metric of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MetricSummary {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) stats: Stats,
    /// How the values went, a level for each stretch of the run.
    #[serde(skip)]
    pub(crate) course: String,
}

impl Summary {
    /// Whether there is more to tell than that a program has logged text.
    pub(crate) fn is_of_a_run(&self) -> bool {
        !self.metrics.is_empty() || !self.system.is_empty()
    }

    /// As `summary.json` has it.
    pub(crate) fn json(&self, logger: &str) -> String {
        serde_json::json!({ logger: self }).to_string()
    }

    /// As people read it.
    pub(crate) fn text(&self, report: &FinishReport, color: bool) -> String {
        let ink = Ink(color);
        let mut out = String::new();
        let (mark, paint) = match self.end {
            RunEnd::Finished => ("✓", "32"),
            _ => ("✗", "31"),
        };
        let duration = text::duration(self.duration);
        let end = match &self.end {
            RunEnd::Panicked { message } => format!("failed after {duration}: {}", short_line(message, TEXT)),
            end => format!("{} after {duration}", short_line(&end.to_string(), TEXT)),
        };
        let title = format!("{mark} {} {end}", short_line(&report.logger, TEXT));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\n{}", ink.paint(&format!("1;{paint}"), &title));
        for (label, line) in self.facts() {
            let _ = writeln!(out, "  {} {line}", ink.label(label));
        }
        out.push_str(&self.table(ink));
        for (sink, books) in &report.sinks {
            let place = report.places.get(sink).map_or("", String::as_str);
            let sink = short_line(sink, NAME);
            let _ = writeln!(out, "  {} {}", ink.label(&sink), account(books, place));
        }
        out.push('\n');
        out
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        let mut steps: Vec<String> = self.last_step.iter().map(|step| format!("up to {step}")).collect();
        steps.extend(self.steps_per_sec.map(text::rate));
        steps.extend(
            self.samples_per_sec
                .map(|rate| format!("{} samples/s", text::count(rate))),
        );
        if !steps.is_empty() {
            facts.push(("steps", steps.join(", ")));
        }
        let memory: Vec<String> = self
            .system
            .iter()
            .filter_map(|metric| {
                let name = metric.name.strip_prefix("memory/")?.strip_suffix("_gb")?;
                let name = short_line(name, NAME);
                Some(format!("{name} {} GB at most", text::value(metric.stats.max)))
            })
            .collect();
        if !memory.is_empty() {
            facts.push(("memory", memory.join(", ")));
        }
        if self.warnings + self.errors > 0 {
            facts.push((
                "said",
                format!(
                    "{}, {}",
                    counted(self.warnings, "warning"),
                    counted(self.errors, "error")
                ),
            ));
        }
        facts
    }

    fn table(&self, ink: Ink) -> String {
        let mut out = String::new();
        let first = self.metrics.iter().take(SHOWN);
        let shown: Vec<_> = first.map(|metric| (short_line(&metric.name, NAME), metric)).collect();
        let Some(names) = shown.iter().map(|(name, _)| name.chars().count()).max() else {
            return out;
        };
        let courses = shown.iter().map(|(_, metric)| metric.course.chars().count()).max();
        let (names, courses) = (names.max(LABEL), courses.unwrap_or(0));
        let head = format!(
            "{:names$} {:courses$} {:>10} {:>10} {:>10} {:>10}",
            "metric", "", "last", "mean", "min", "max"
        );
        let _ = writeln!(out, "  {}", ink.paint("2", &head));
        for (name, metric) in shown {
            let Stats {
                last, mean, min, max, ..
            } = metric.stats;
            let [last, mean, min, max] = [last, mean, min, max].map(text::value);
            let course = ink.paint("36", &format!("{:courses$}", metric.course));
            let _ = writeln!(
                out,
                "  {name:names$} {course} {last:>10} {mean:>10} {min:>10} {max:>10}"
            );
        }
        if let Some(more) = self.metrics.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(out, "  … and {more} more");
        }
        out
    }
}

impl MetricSummary {
    pub(crate) fn new(name: &str, stats: Stats) -> Self {
        Self {
            name: name.to_owned(),
            stats,
            course: String::new(),
        }
    }

    /// Shows how the values went.
    pub(crate) fn show_course(&mut self, values: impl Iterator<Item = f64>) {
        self.course = course(&values.collect::<Vec<_>>());
    }
}

/// How values went, as bars of eight heights, each the mean of a stretch; one without a finite value is blank. Nothing where
/// there are not two values to compare.
fn course(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH: usize = 12;
    if values.len() < 2 {
        return String::new();
    }
    let width = WIDTH.min(values.len());
    let mean_of = |at: usize| {
        let stretch = &values[at * values.len() / width..(at + 1) * values.len() / width];
        let finite: Vec<f64> = stretch.iter().copied().filter(|value| value.is_finite()).collect();
        // Divided first, so that the sum of huge values stays finite.
        (!finite.is_empty()).then(|| finite.iter().map(|value| value / finite.len() as f64).sum::<f64>())
    };
    let means: Vec<Option<f64>> = (0..width).map(mean_of).collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = (
        known().fold(f64::INFINITY, f64::min),
        known().fold(f64::NEG_INFINITY, f64::max),
    );
    let height = |value: f64| {
        let range = high - low;
        match range > 0.0 && range.is_finite() {
            true => (((value - low) / range * 7.0).round() as usize).min(7),
            false => 0,
        }
    };
    means
        .iter()
        .map(|mean| mean.map_or(' ', |mean| BARS[height(mean)]))
        .collect()
}

fn account(books: &SinkBooks, place: &str) -> String {
    let mut parts = vec![format!("{} delivered", books.delivered)];
    if books.spooled > 0 {
        parts.push(format!("{} kept for later", books.spooled));
    }
    for (reason, count) in &books.dropped {
        parts.push(format!("{count} dropped ({})", short_line(reason, NAME)));
    }
    match place {
        "" => parts.join(", "),
        place => format!("{}: {}", short_line(place, TEXT), parts.join(", ")),
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Color where it is wanted.
#[derive(Clone, Copy)]
struct Ink(bool);

impl Ink {
    fn paint(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn label(self, text: &str) -> String {
        self.paint("2", &format!("{text:LABEL$}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, values: &[f64]) -> MetricSummary {
        let mut stats = Stats::empty();
        stats.last = values[values.len() - 1];
        stats.mean = values.iter().sum::<f64>() / values.len() as f64;
        stats.min = values.iter().copied().fold(f64::INFINITY, f64::min);
        stats.max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut metric = MetricSummary::new(name, stats);
        metric.show_course(values.iter().copied());
        metric
    }

    #[test]
    fn what_a_person_reads() {
        let falling: Vec<f64> = (0..100).map(|i| 8.0 / f64::from(i + 1)).collect();
        let summary = Summary {
            duration: Duration::from_secs(3723),
            last_step: Some(1200),
            steps_per_sec: Some(36.23),
            samples_per_sec: Some(1158.7),
            warnings: 2,
            errors: 1,
            metrics: vec![
                metric("loss", &falling),
                metric("learning_rate", &[1e-4, f64::NAN, 1e-5]),
            ],
            system: vec![metric("memory/gpu_allocated_gb", &[2.0, 3.25])],
            ..Summary::default()
        };
        let mut report = FinishReport {
            logger: "trainer".to_owned(),
            ..FinishReport::default()
        };
        let mut books = SinkBooks::default();
        (books.accepted, books.delivered) = (1203, 1200);
        books.drop_for("disk full", 3);
        report.sinks.insert("file".to_owned(), books);
        report
            .places
            .insert("file".to_owned(), "outputs/logs/training.log".to_owned());
        insta::assert_snapshot!(summary.text(&report, false), @r"
        ✓ trainer finished after 1:02:03
          steps    up to 1200, 36.2 it/s, 1.16k samples/s
          memory   gpu_allocated 3.2500 GB at most
          said     2 warnings, 1 error
          metric                           last       mean        min        max
          loss          █▃▂▂▁▁▁▁▁▁▁▁     0.0800     0.4150     0.0800          8
          learning_rate █ ▁            1.000e-5        NaN   1.000e-5   1.000e-4
          file     outputs/logs/training.log: 1200 delivered, 3 dropped (disk full)
        ");
        assert!(
            summary
                .text(&report, true)
                .contains("\x1b[1;32m✓ trainer finished after 1:02:03\x1b[0m")
        );
    }

    #[test]
    fn the_course_of_values() {
        let courses = [
            &[][..],
            &[1.0],
            &[1.0, 2.0],
            &[5.0, 5.0, 5.0],
            &[0.0, f64::NAN, 7.0, f64::INFINITY, 3.0],
            &[f64::MAX, f64::MIN],
            &[f64::NAN, f64::NAN],
        ]
        .map(course);
        assert_eq!(courses, ["", "", "▁█", "▁▁▁", "▁ █ ▄", "▁▁", "  "]);
        let rising: Vec<f64> = (0..10_000).map(f64::from).collect();
        assert_eq!(course(&rising), "▁▂▂▃▄▄▅▅▆▇▇█");
    }

    #[test]
    fn texts_of_others_stay_on_their_line_and_say_nothing_to_the_terminal() {
        let evil =
            "acc/\u{1b}]52;c;ZQ==\u{7}\u{1b}[2J\n2026-11-28 10:00:00 | ERROR | t | forged\u{202e}\u{200b}\u{9b}2J";
        let summary = Summary {
            end: RunEnd::Panicked {
                message: evil.repeat(1000),
            },
            metrics: vec![metric(evil, &[1.0]), metric(&"n".repeat(1 << 20), &[1.0])],
            system: vec![metric(&format!("memory/{evil}_gb"), &[1.0])],
            ..Summary::default()
        };
        let mut report = FinishReport {
            logger: evil.to_owned(),
            ..FinishReport::default()
        };
        let mut books = SinkBooks::default();
        books.drop_for(evil, 1);
        report.sinks.insert(evil.to_owned(), books);
        report.places.insert(evil.to_owned(), evil.to_owned());
        for color in [false, true] {
            let text = summary.text(&report, color);
            // An empty line, the title, memory, three of the table, a sink, an empty line.
            assert_eq!(text.lines().count(), 8, "{text}");
            assert!(text.lines().all(|line| line.chars().count() < 3000), "{text}");
            assert_eq!(logcore::escape::escape_except_styles(&text), text);
        }
    }
}
