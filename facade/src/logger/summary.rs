//! Renders the closing summary of a run for the terminal: its end, its metrics, and the account of
//! each sink.

use std::fmt::Write as _;

use logcore::escape::to_short_line;
use logcore::{LoggerSummary, RunEnd, SinkBooks, Stats, text};

use crate::logger::report::FinishReport;

/// Number of metrics that the summary shows; it counts the rest.
pub(crate) const SHOWN_METRICS: usize = 12;

/// Width of the first column, in characters.
const LABEL: usize = 8;

/// Longest metric name that is shown, in characters.
const NAME: usize = 60;
/// Longest text of any other kind that is shown, in characters.
const TEXT: usize = 1000;

/// Returns the summary as people read it. `sparklines` are those of the first metrics, in their
/// order.
pub(crate) fn render(run: &LoggerSummary, sparklines: &[String], report: &FinishReport, color: bool) -> String {
    let style = AnsiStyle(color);
    let mut out = String::new();
    let (mark, code) = match report.end {
        RunEnd::Finished => ("✓", "32"),
        _ => ("✗", "31"),
    };
    let duration = text::format_duration(run.duration);
    let end = match &report.end {
        RunEnd::Panicked { message } => format!("failed after {duration}: {}", to_short_line(message, TEXT)),
        end => format!("{} after {duration}", to_short_line(&end.to_string(), TEXT)),
    };
    let title = format!("{mark} {} {end}", to_short_line(&report.logger, TEXT));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{}", style.styled(&format!("1;{code}"), &title));
    for (label, line) in facts(run) {
        let _ = writeln!(out, "  {} {line}", style.label(label));
    }
    out.push_str(&metric_table(run, sparklines, style));
    for (sink, books) in &report.sinks {
        let place = report.places.get(sink).map_or("", String::as_str);
        let sink = to_short_line(sink, NAME);
        let _ = writeln!(out, "  {} {}", style.label(&sink), account(books, place));
    }
    out.push('\n');
    out
}

fn facts(run: &LoggerSummary) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut steps: Vec<String> = run.last_step.iter().map(|step| format!("up to {step}")).collect();
    steps.extend(run.steps_per_sec.map(text::format_rate));
    let samples = run.samples_per_sec;
    steps.extend(samples.map(|rate| format!("{} samples/s", text::format_count(rate))));
    if !steps.is_empty() {
        facts.push(("steps", steps.join(", ")));
    }
    let system = run.system_metrics.iter();
    let memory: Vec<String> = system
        .filter_map(|metric| {
            let name = metric.name.strip_prefix("memory/")?.strip_suffix("_gb")?;
            let name = to_short_line(name, NAME);
            Some(format!("{name} {} GB at most", text::format_value(metric.stats.max)))
        })
        .collect();
    if !memory.is_empty() {
        facts.push(("memory", memory.join(", ")));
    }
    if run.warnings + run.errors > 0 {
        let (warnings, errors) = (counted(run.warnings, "warning"), counted(run.errors, "error"));
        facts.push(("said", format!("{warnings}, {errors}")));
    }
    facts
}

fn metric_table(run: &LoggerSummary, sparklines: &[String], style: AnsiStyle) -> String {
    let mut out = String::new();
    let first = run.metrics.iter().zip(sparklines);
    let shown: Vec<_> = first
        .map(|(metric, sparkline)| (to_short_line(&metric.name, NAME), metric.stats, sparkline))
        .collect();
    let Some(names) = shown.iter().map(|(name, ..)| name.chars().count()).max() else {
        return out;
    };
    let lines = shown.iter().map(|(.., sparkline)| sparkline.chars().count()).max();
    let (names, lines) = (names.max(LABEL), lines.unwrap_or(0));
    let head = format!(
        "{:names$} {:lines$} {:>10} {:>10} {:>10} {:>10}",
        "metric", "", "last", "mean", "min", "max"
    );
    let _ = writeln!(out, "  {}", style.styled("2", &head));
    for (name, stats, sparkline) in shown {
        let Stats {
            last, mean, min, max, ..
        } = stats;
        let [last, mean, min, max] = [last, mean, min, max].map(text::format_value);
        let sparkline = style.styled("36", &format!("{sparkline:lines$}"));
        let _ = writeln!(
            out,
            "  {name:names$} {sparkline} {last:>10} {mean:>10} {min:>10} {max:>10}"
        );
    }
    if let Some(more) = run.metrics.len().checked_sub(SHOWN_METRICS).filter(|more| *more > 0) {
        let _ = writeln!(out, "  … and {more} more");
    }
    out
}

/// Returns the values as bars of eight heights, each the mean of a stretch of values. A stretch
/// without a finite value is blank. Fewer than two values give no bars.
pub(crate) fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH: usize = 12;
    if values.len() < 2 {
        return String::new();
    }
    let width = WIDTH.min(values.len());
    let mean_of = |at: usize| {
        let stretch = &values[at * values.len() / width..(at + 1) * values.len() / width];
        let finite: Vec<f64> = stretch.iter().copied().filter(|value| value.is_finite()).collect();
        // Dividing before adding keeps the sum of huge values finite.
        (!finite.is_empty()).then(|| finite.iter().map(|value| value / finite.len() as f64).sum::<f64>())
    };
    let means: Vec<Option<f64>> = (0..width).map(mean_of).collect();
    let finite = || means.iter().flatten().copied();
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
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
        parts.push(format!("{count} dropped ({})", to_short_line(reason, NAME)));
    }
    match place {
        "" => parts.join(", "),
        place => format!("{}: {}", to_short_line(place, TEXT), parts.join(", ")),
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Styles text if color is wanted.
#[derive(Clone, Copy)]
struct AnsiStyle(bool);

impl AnsiStyle {
    fn styled(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn label(self, text: &str) -> String {
        self.styled("2", &format!("{text:LABEL$}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use logcore::MetricSummary;

    use super::*;

    fn metric(name: &str, values: &[f64]) -> (MetricSummary, String) {
        let mut stats = Stats::empty();
        stats.last = values[values.len() - 1];
        stats.mean = values.iter().sum::<f64>() / values.len() as f64;
        stats.min = values.iter().copied().fold(f64::INFINITY, f64::min);
        stats.max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (MetricSummary::new(name, stats), sparkline(values))
    }

    fn summary(metrics: Vec<(MetricSummary, String)>, system: (MetricSummary, String)) -> (LoggerSummary, Vec<String>) {
        let mut summary = LoggerSummary::default();
        let (metrics, sparklines) = metrics.into_iter().unzip();
        (summary.metrics, summary.system_metrics) = (metrics, vec![system.0]);
        (summary, sparklines)
    }

    #[test]
    fn a_closing_summary_shows_steps_memory_metrics_and_sinks() {
        let falling: Vec<f64> = (0..100).map(|i| 8.0 / f64::from(i + 1)).collect();
        let metrics = vec![
            metric("loss", &falling),
            metric("learning_rate", &[1e-4, f64::NAN, 1e-5]),
        ];
        let (mut run, sparklines) = summary(metrics, metric("memory/gpu_allocated_gb", &[2.0, 3.25]));
        run.duration = Duration::from_secs(3723);
        (run.last_step, run.steps_per_sec, run.samples_per_sec) = (Some(1200), Some(36.23), Some(1158.7));
        (run.warnings, run.errors) = (2, 1);
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
        insta::assert_snapshot!(render(&run, &sparklines, &report, false), @r"
        ✓ trainer finished after 1:02:03
          steps    up to 1200, 36.2 it/s, 1.16k samples/s
          memory   gpu_allocated 3.2500 GB at most
          said     2 warnings, 1 error
          metric                           last       mean        min        max
          loss          █▃▂▂▁▁▁▁▁▁▁▁     0.0800     0.4150     0.0800          8
          learning_rate █ ▁            1.000e-5        NaN   1.000e-5   1.000e-4
          file     outputs/logs/training.log: 1200 delivered, 3 dropped (disk full)
        ");
        let colored = render(&run, &sparklines, &report, true);
        assert!(colored.contains("\x1b[1;32m✓ trainer finished after 1:02:03\x1b[0m"));
    }

    #[test]
    fn a_sparkline_has_a_bar_for_each_stretch_of_values() {
        let sparklines = [
            &[][..],
            &[1.0],
            &[1.0, 2.0],
            &[5.0, 5.0, 5.0],
            &[0.0, f64::NAN, 7.0, f64::INFINITY, 3.0],
            &[f64::MAX, f64::MIN],
            &[f64::NAN, f64::NAN],
        ]
        .map(sparkline);
        assert_eq!(sparklines, ["", "", "▁█", "▁▁▁", "▁ █ ▄", "▁▁", "  "]);
        let rising: Vec<f64> = (0..10_000).map(f64::from).collect();
        assert_eq!(sparkline(&rising), "▁▂▂▃▄▄▅▅▆▇▇█");
    }

    #[test]
    fn texts_of_a_program_stay_on_their_line_and_are_escaped() {
        let evil =
            "acc/\u{1b}]52;c;ZQ==\u{7}\u{1b}[2J\n2026-11-28 10:00:00 | ERROR | t | forged\u{202e}\u{200b}\u{9b}2J";
        let metrics = vec![metric(evil, &[1.0]), metric(&"n".repeat(1 << 20), &[1.0])];
        let (run, sparklines) = summary(metrics, metric(&format!("memory/{evil}_gb"), &[1.0]));
        let mut report = FinishReport {
            logger: evil.to_owned(),
            end: RunEnd::Panicked {
                message: evil.repeat(1000),
            },
            ..FinishReport::default()
        };
        let mut books = SinkBooks::default();
        books.drop_for(evil, 1);
        report.sinks.insert(evil.to_owned(), books);
        report.places.insert(evil.to_owned(), evil.to_owned());
        for color in [false, true] {
            let text = render(&run, &sparklines, &report, color);
            // An empty line, the title, memory, three of the table, a sink, an empty line.
            assert_eq!(text.lines().count(), 8, "{text}");
            assert!(text.lines().all(|line| line.chars().count() < 3000), "{text}");
            assert_eq!(logcore::escape::escape_except_styles(&text), text);
        }
    }
}
