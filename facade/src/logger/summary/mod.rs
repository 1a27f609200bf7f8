//! The closing summary of a run on the terminal: its end, and for each logger its metrics and the
//! account of each sink.
//!
//! The width of the window decides how much is shown. A sink's place is never cut off: it may be
//! the argument of a command.

mod sparkline;
mod style;
mod table;

use std::path::Path;
use std::time::Duration;

use logcore::escape::to_short_line;
use logcore::{Deadline, LoggerSummary, RunEnd, RunState, SinkBooks, text};

pub(crate) use self::sparkline::sparkline;
use self::style::AnsiStyle;
use self::table::metric_table;
use crate::logger::report::FinishReport;
use crate::logger::terminal::SummaryPrinter;

/// Number of metrics that the summary shows; it counts the rest.
pub(crate) const SHOWN_METRICS: usize = 12;

/// Width of the labels, in characters.
const LABEL: usize = 9;
/// Longest name that is shown, in characters.
const NAME: usize = 60;
/// Longest text of any other kind that is shown, in characters.
const TEXT: usize = 1000;
/// Number of metrics with a NaN that the title names; it counts the rest.
const NAMED_NAN: usize = 3;

/// A logger's part of the closing summary, which is printed when the last logger of the run ends.
pub(crate) struct ClosingPart {
    pub(crate) section: SummarySection,
    /// `None` if the logger's console shows no summary.
    pub(crate) printer: Option<SummaryPrinter>,
}

/// Prints the closing summary of a run: a section for each logger that said anything, and the path
/// of the run's page. A run of text alone has none.
pub(crate) fn print_closing(run: &str, parts: Vec<ClosingPart>, page: Option<&Path>, deadline: Deadline) {
    let has_figures = |part: &ClosingPart| part.section.summary.has_metrics();
    if !parts.iter().any(has_figures) {
        return;
    }
    let mut printers = Vec::new();
    let mut sections = Vec::new();
    for part in parts {
        let said_anything = part.section.report.sinks.values().any(|books| books.accepted > 0);
        if has_figures(&part) || said_anything {
            sections.push(part.section);
        }
        printers.extend(part.printer);
    }
    let worst = sections.iter().map(|section| &section.report).max_by_key(|report| {
        let end = report.logger_end();
        (RunState::after(&end), end.exit_code)
    });
    if let (Some(printer), Some(worst)) = (printers.first(), worst) {
        printer.print(|form| render(run, &worst.end, &sections, page, form), deadline);
    }
}

/// The part of the closing summary that one logger has.
pub(crate) struct SummarySection {
    pub(crate) summary: LoggerSummary,
    /// The courses of the first metrics, in their order.
    pub(crate) sparklines: Vec<String>,
    /// Number of values that the means are over.
    pub(crate) window: usize,
    pub(crate) report: FinishReport,
}

/// The form of the text: its styles and its width.
#[derive(Clone, Copy)]
pub(crate) struct SummaryForm {
    pub(crate) color: bool,
    /// Width of the window; `usize::MAX` where there is none.
    pub(crate) columns: usize,
}

/// Returns the summary of a run as people read it: the end of the run, and a section for each
/// logger. `run` is the run's name, `end` its end, and `page` the path of its page.
fn render(run: &str, end: &RunEnd, sections: &[SummarySection], page: Option<&Path>, form: SummaryForm) -> String {
    let style = AnsiStyle(form.color);
    let with_nan = metrics_with_nan(sections);
    let (mark, code) = match end {
        RunEnd::Finished if with_nan.is_empty() => ("✓", "1;32"),
        RunEnd::Finished | RunEnd::Stopped { .. } => ("!", "1;33"),
        _ => ("✗", "1;31"),
    };
    let duration = sections.iter().map(|section| section.summary.duration).max();
    let mut title = format!("{mark} {}", end_of(run, end, duration.unwrap_or_default()));
    if !with_nan.is_empty() {
        title.push_str(", with NaN in ");
        title.push_str(&with_nan);
    }
    let mut lines = vec![String::new(), style.styled(code, &title)];
    if let Some(summary) = sections
        .iter()
        .map(|section| &section.summary)
        .rfind(|summary| !summary.ledger.is_empty())
    {
        let indent = 2;
        lines.extend(Block::new(indent, form).entry("time", &uses_of_time(summary)));
    }
    match sections {
        [section] => section.push_lines(&mut lines, Block::new(2, form)),
        sections => {
            for section in sections {
                let report = &section.report;
                let title = end_of(&report.logger, &report.end, section.summary.duration);
                lines.push(format!("  {}", style.styled("1", &title)));
                section.push_lines(&mut lines, Block::new(4, form));
            }
        }
    }
    if let Some(page) = page {
        let path = to_short_line(&page.to_string_lossy(), TEXT).into_owned();
        lines.push(Block::new(2, form).labelled("report", &path));
    }
    lines.push(String::new());
    lines.push(String::new());
    lines.join("\n")
}

/// Names the metrics that were NaN at least once, of all loggers.
fn metrics_with_nan(sections: &[SummarySection]) -> String {
    let metrics = sections.iter().flat_map(|section| &section.summary.metrics);
    let with_nan = metrics.filter(|metric| metric.stats.nan_count > 0);
    let mut names: Vec<_> = with_nan.map(|metric| to_short_line(&metric.name, NAME)).collect();
    let more = names.len().saturating_sub(NAMED_NAN);
    names.truncate(NAMED_NAN);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Returns the name of a run or a logger with its end.
fn end_of(name: &str, end: &RunEnd, duration: Duration) -> String {
    let (name, duration) = (to_short_line(name, TEXT), text::format_duration(duration));
    match end {
        RunEnd::Panicked { message } => format!("{name} failed after {duration}: {}", to_short_line(message, TEXT)),
        end => format!("{name} {} after {duration}", to_short_line(&end.to_string(), TEXT)),
    }
}

/// Returns the share of the time that moved the run forward, and the uses of the time.
fn uses_of_time(summary: &LoggerSummary) -> Vec<String> {
    let goodput = summary.goodput.map(|share| format!("goodput {:.0}%", share * 100.0));
    let uses = summary.ledger.iter();
    let uses = uses.map(|(name, seconds)| format!("{} {}", to_short_line(name, NAME), format_seconds(*seconds)));
    goodput.into_iter().chain(uses).collect()
}

/// Formats a part of the time of a run: exact to a percent.
fn format_seconds(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds >= 60.0 => text::format_duration(duration),
        _ => format!("{seconds:.2} s"),
    }
}

impl SummarySection {
    fn push_lines(&self, lines: &mut Vec<String>, block: Block) {
        for (label, parts) in self.facts() {
            lines.extend(block.entry(label, &parts));
        }
        let table = metric_table(&self.summary, &self.sparklines, self.window, block.columns, block.style);
        lines.extend(table.into_iter().map(|line| block.indented(&line)));
        let places = &self.report.places;
        let amounts = || self.report.sinks.values().map(amount);
        let widest = amounts().map(|amount| amount.chars().count()).max().unwrap_or(0);
        let names = self
            .report
            .sinks
            .keys()
            .map(|sink| to_short_line(sink, NAME).chars().count());
        let longest = names.max().unwrap_or(0);
        for (sink, books) in &self.report.sinks {
            let (name, place) = (to_short_line(sink, NAME), places.get(sink).map_or("", String::as_str));
            let line = format!("{:widest$}  {}", amount(books), to_short_line(place, TEXT));
            lines.push(block.labelled(&format!("{name:longest$}"), line.trim_end()));
            for (reason, count) in &books.dropped {
                lines.push(block.labelled(
                    &" ".repeat(longest),
                    &format!("{count} dropped ({})", to_short_line(reason, NAME)),
                ));
            }
        }
    }

    fn facts(&self) -> Vec<(&'static str, Vec<String>)> {
        let summary = &self.summary;
        let mut steps: Vec<String> = summary.last_step.iter().map(u64::to_string).collect();
        steps.extend(summary.steps_per_sec.map(text::format_rate));
        let samples = summary.samples_per_sec;
        steps.extend(samples.map(|rate| format!("{} samples/s", text::format_count(rate))));
        steps.extend(summary.mfu.map(|mfu| format!("MFU {:.1}%", mfu * 100.0)));
        let energy = summary.gpu_energy_kwh;
        let energy = energy.map(|kwh| format!("{} kWh of the GPUs", text::format_value(kwh)));
        let memory = summary.system_metrics.iter().filter_map(|metric| {
            let name = metric.name.strip_prefix("memory/")?.strip_suffix("_gb")?;
            let name = to_short_line(name, NAME);
            Some(format!("{name} {} GB at most", text::format_value(metric.stats.max)))
        });
        let mut logged = Vec::new();
        if summary.warnings + summary.errors > 0 {
            logged = vec![counted(summary.warnings, "warning"), counted(summary.errors, "error")];
        }
        let mut facts = vec![
            ("step", steps),
            ("memory", memory.collect()),
            ("energy", energy.into_iter().collect()),
            ("logged", logged),
        ];
        facts.retain(|(_, parts)| !parts.is_empty());
        facts
    }
}

/// Returns the delivered calls of a sink, and those that wait for a later delivery.
fn amount(books: &SinkBooks) -> String {
    let mut parts = Vec::new();
    if books.delivered > 0 || books.spooled == 0 {
        parts.push(in_units(books.delivered, books));
    }
    if books.spooled > 0 {
        parts.push(format!("{} kept for later", in_units(books.spooled, books)));
    }
    parts.join(", ")
}

/// Writes a number of a sink's books with its unit.
fn in_units(count: u64, books: &SinkBooks) -> String {
    format!("{count} {}", books.unit.of(count))
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The lines of a section: their indentation, and the width that is left.
#[derive(Clone, Copy)]
struct Block {
    indent: usize,
    columns: usize,
    style: AnsiStyle,
}

impl Block {
    fn new(indent: usize, form: SummaryForm) -> Self {
        Self {
            indent,
            // No terminal wraps a line that leaves its last column free.
            columns: form.columns.saturating_sub(indent + 1),
            style: AnsiStyle(form.color),
        }
    }

    fn indented(self, line: &str) -> String {
        format!("{:indent$}{line}", "", indent = self.indent)
    }

    fn labelled(self, label: &str, line: &str) -> String {
        self.indented(&format!(
            "{} {line}",
            self.style.styled("2", &format!("{label:LABEL$}"))
        ))
    }

    /// Returns the parts in as many lines as they need, with a label before the first.
    fn entry(self, label: &str, parts: &[String]) -> Vec<String> {
        let room = self.columns.saturating_sub(LABEL + 1);
        let mut rows: Vec<String> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let part = match at + 1 < parts.len() {
                true => format!("{part},"),
                false => part.clone(),
            };
            match rows.last_mut() {
                Some(row) if row.chars().count() + 1 + part.chars().count() <= room => {
                    row.push(' ');
                    row.push_str(&part);
                }
                _ => rows.push(part),
            }
        }
        let labels = [label].into_iter().chain(std::iter::repeat(""));
        labels
            .zip(&rows)
            .map(|(label, row)| self.labelled(label, row))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use logcore::{BookUnit, MetricSummary, Point, Stats};

    use super::*;

    /// A metric with these values, whose mean is over the last 100.
    fn metric(name: &str, values: &[f64]) -> (MetricSummary, String) {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let windowed: Vec<f64> = values[values.len().saturating_sub(100)..]
            .iter()
            .copied()
            .filter(|v| v.is_finite())
            .collect();
        let mut stats = Stats::empty();
        stats.last = values[values.len() - 1];
        stats.mean = windowed.iter().sum::<f64>() / windowed.len() as f64;
        stats.min = finite().fold(f64::INFINITY, f64::min);
        stats.max = finite().fold(f64::NEG_INFINITY, f64::max);
        stats.count = values.len() as u64;
        stats.nan_count = values.iter().filter(|value| value.is_nan()).count() as u64;
        (
            MetricSummary::new(name, stats),
            sparkline(values.len(), values.iter().copied()),
        )
    }

    fn section(logger: &str, metrics: Vec<(MetricSummary, String)>) -> SummarySection {
        let (metrics, sparklines) = metrics.into_iter().unzip();
        let mut summary = LoggerSummary::default();
        summary.metrics = metrics;
        let report = FinishReport {
            logger: logger.to_owned(),
            ..FinishReport::default()
        };
        SummarySection {
            summary,
            sparklines,
            window: 100,
            report,
        }
    }

    fn books(delivered: u64, spooled: u64) -> SinkBooks {
        let mut books = SinkBooks::default();
        (books.delivered, books.spooled) = (delivered, spooled);
        books
    }

    fn training() -> SummarySection {
        let falling: Vec<f64> = (0..1200).map(|i| 8.0 / f64::from(i + 1)).collect();
        let mut validation = metric("val/loss", &[0.4, 0.3, 0.1, 0.2]);
        validation.0.best = Some(Point::new(900, 0.1));
        let mut section = section(
            "trainer",
            vec![
                metric("loss", &falling),
                validation,
                metric("learning_rate", &[3e-4; 1200]),
            ],
        );
        let summary = &mut section.summary;
        summary.system_metrics = vec![metric("memory/gpu_allocated_gb", &[2.0, 3.25]).0];
        (summary.mfu, summary.gpu_energy_kwh) = (Some(0.412), Some(1.25));
        summary.duration = Duration::from_secs(3723);
        (summary.last_step, summary.steps_per_sec, summary.samples_per_sec) = (Some(1200), Some(36.23), Some(1158.7));
        (summary.warnings, summary.errors) = (2, 1);
        summary.goodput = Some(0.912);
        summary.ledger = [
            ("startup", 41.2),
            ("data", 192.0),
            ("step", 3310.0),
            ("eval", 121.0),
            ("checkpoint", 31.5),
            ("other", 27.3),
        ]
        .map(|(name, seconds)| (name.to_owned(), seconds))
        .into();
        let mut file = books(1200, 0).in_unit(BookUnit::Lines);
        file.drop_for("disk full", 3);
        let folder = "/home/ada/outputs/logs/trainer-20261129-101500-k3v9";
        section.report.sinks = [
            ("console", books(10, 0).in_unit(BookUnit::Lines)),
            ("file", file),
            ("jsonl", books(1204, 0)),
        ]
        .map(|(name, books)| (name.to_owned(), books))
        .into();
        section.report.places = [
            ("console", "stdout".to_owned()),
            ("file", format!("{folder}/training.log")),
            ("jsonl", format!("{folder}/metrics.jsonl")),
        ]
        .map(|(name, place)| (name.to_owned(), place))
        .into();
        section
    }

    fn plain(sections: &[SummarySection], columns: usize) -> String {
        render(
            "trainer",
            &RunEnd::Finished,
            sections,
            None,
            SummaryForm { color: false, columns },
        )
    }

    #[test]
    fn a_wide_window_shows_everything() {
        insta::assert_snapshot!(plain(&[training()], 120), @r"
        ✓ trainer finished after 1:02:03
          time      goodput 91%, startup 41.20 s, data 03:12, step 55:10, eval 02:01, checkpoint 31.50 s, other 27.30 s
          step      1200, 36.2 it/s, 1.16k samples/s, MFU 41.2%
          memory    gpu_allocated 3.2500 GB at most
          energy    1.2500 kWh of the GPUs
          logged    2 warnings, 1 error
          metric                           last  mean of ≤100       min       max  best
          loss           █▂▁▁▁▁▁▁▁▁▁▁    0.0067        0.0070    0.0067         8
          val/loss       █▆▁▃            0.2000        0.2500    0.1000    0.4000  0.1000 at step 900
          learning_rate  ▁▁▁▁▁▁▁▁▁▁▁▁  3.000e-4      3.000e-4  3.000e-4  3.000e-4
          console   10 lines    stdout
          file      1200 lines  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/training.log
                    3 dropped (disk full)
          jsonl     1204 calls  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/metrics.jsonl
        ");
        assert_eq!(plain(&[training()], 120), plain(&[training()], usize::MAX));
    }

    #[test]
    fn a_narrow_window_leaves_out_the_least_important_columns() {
        insta::assert_snapshot!(plain(&[training()], 80), @r"
        ✓ trainer finished after 1:02:03
          time      goodput 91%, startup 41.20 s, data 03:12, step 55:10, eval 02:01,
                    checkpoint 31.50 s, other 27.30 s
          step      1200, 36.2 it/s, 1.16k samples/s, MFU 41.2%
          memory    gpu_allocated 3.2500 GB at most
          energy    1.2500 kWh of the GPUs
          logged    2 warnings, 1 error
          metric             last  mean of ≤100       min       max  best
          loss             0.0067        0.0070    0.0067         8
          val/loss         0.2000        0.2500    0.1000    0.4000  0.1000 at step 900
          learning_rate  3.000e-4      3.000e-4  3.000e-4  3.000e-4
          console   10 lines    stdout
          file      1200 lines  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/training.log
                    3 dropped (disk full)
          jsonl     1204 calls  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/metrics.jsonl
        ");
        insta::assert_snapshot!(plain(&[training()], 60), @r"
        ✓ trainer finished after 1:02:03
          time      goodput 91%, startup 41.20 s, data 03:12,
                    step 55:10, eval 02:01, checkpoint 31.50 s,
                    other 27.30 s
          step      1200, 36.2 it/s, 1.16k samples/s, MFU 41.2%
          memory    gpu_allocated 3.2500 GB at most
          energy    1.2500 kWh of the GPUs
          logged    2 warnings, 1 error
          metric             last       min  best
          loss             0.0067    0.0067
          val/loss         0.2000    0.1000  0.1000 at step 900
          learning_rate  3.000e-4  3.000e-4
          console   10 lines    stdout
          file      1200 lines  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/training.log
                    3 dropped (disk full)
          jsonl     1204 calls  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/metrics.jsonl
        ");
        insta::assert_snapshot!(plain(&[training()], 40), @r"
        ✓ trainer finished after 1:02:03
          time      goodput 91%,
                    startup 41.20 s,
                    data 03:12, step 55:10,
                    eval 02:01,
                    checkpoint 31.50 s,
                    other 27.30 s
          step      1200, 36.2 it/s,
                    1.16k samples/s, MFU 41.2%
          memory    gpu_allocated 3.2500 GB at most
          energy    1.2500 kWh of the GPUs
          logged    2 warnings, 1 error
          metric        last  best
          loss        0.0067
          val/loss    0.2000  0.1000 at step 900
          learnin…  3.000e-4
          console   10 lines    stdout
          file      1200 lines  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/training.log
                    3 dropped (disk full)
          jsonl     1204 calls  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/metrics.jsonl
        ");
    }

    #[test]
    fn only_lines_with_a_place_are_wider_than_the_window() {
        for columns in 44..200 {
            for line in plain(&[training()], columns).lines() {
                assert!(
                    line.contains('/') || line.chars().count() < columns,
                    "{columns} columns: {line}"
                );
            }
        }
    }

    #[test]
    fn a_nan_is_counted_and_takes_the_green_mark() {
        let values = [0.5, f64::NAN, f64::NAN];
        let diverged = section(
            "trainer",
            vec![metric("loss", &values), metric("accuracy", &[0.5, 0.5])],
        );
        insta::assert_snapshot!(plain(&[diverged], 80), @r"
        ! trainer finished after 00:00, with NaN in loss
          metric           last    mean     min     max  NaN
          loss      ▁       NaN  0.5000  0.5000  0.5000    2
          accuracy  ▁▁   0.5000  0.5000  0.5000  0.5000
        ");
        let many = (0..5).map(|i| metric(&format!("loss_{i}"), &[f64::NAN])).collect();
        let title = plain(&[section("trainer", many)], 80);
        assert!(
            title.contains("! trainer finished after 00:00, with NaN in loss_0, loss_1, loss_2 and 2 more\n"),
            "{title}"
        );
    }

    #[test]
    fn the_mean_is_named_by_its_window() {
        let name_of_mean = |lengths: &[usize]| {
            let metrics = lengths
                .iter()
                .map(|length| metric(&length.to_string(), &vec![1.0; *length]));
            let text = plain(&[section("trainer", metrics.collect())], usize::MAX);
            let head = text.lines().nth(2).unwrap().to_owned();
            head[head.find("mean").unwrap()..head.find("min").unwrap()]
                .trim()
                .to_owned()
        };
        assert_eq!(name_of_mean(&[1, 100]), "mean");
        assert_eq!(name_of_mean(&[101, 1000]), "mean of 100");
        assert_eq!(name_of_mean(&[1, 1000]), "mean of ≤100");
    }

    #[test]
    fn each_logger_of_a_run_has_a_section() {
        let mut evaluation = section("trainer.eval", vec![metric("accuracy", &[0.5, 0.9])]);
        evaluation.summary.duration = Duration::from_secs(61);
        evaluation.report.end = RunEnd::Failed { exit_code: 3 };
        let sections = [training(), evaluation];
        let text = render(
            "trainer",
            &RunEnd::Failed { exit_code: 3 },
            &sections,
            Some(Path::new("/home/ada/outputs/logs/report.html")),
            SummaryForm {
                color: false,
                columns: 100,
            },
        );
        insta::assert_snapshot!(text, @r"
        ✗ trainer failed with exit code 3 after 1:02:03
          time      goodput 91%, startup 41.20 s, data 03:12, step 55:10, eval 02:01, checkpoint 31.50 s,
                    other 27.30 s
          trainer finished after 1:02:03
            step      1200, 36.2 it/s, 1.16k samples/s, MFU 41.2%
            memory    gpu_allocated 3.2500 GB at most
            energy    1.2500 kWh of the GPUs
            logged    2 warnings, 1 error
            metric                           last  mean of ≤100       min       max  best
            loss           █▂▁▁▁▁▁▁▁▁▁▁    0.0067        0.0070    0.0067         8
            val/loss       █▆▁▃            0.2000        0.2500    0.1000    0.4000  0.1000 at step 900
            learning_rate  ▁▁▁▁▁▁▁▁▁▁▁▁  3.000e-4      3.000e-4  3.000e-4  3.000e-4
            console   10 lines    stdout
            file      1200 lines  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/training.log
                      3 dropped (disk full)
            jsonl     1204 calls  /home/ada/outputs/logs/trainer-20261129-101500-k3v9/metrics.jsonl
          trainer.eval failed with exit code 3 after 01:01
            metric          last    mean     min     max
            accuracy  ▁█  0.9000  0.7000  0.5000  0.9000
          report    /home/ada/outputs/logs/report.html
        ");
    }

    #[test]
    fn colors_mark_the_end_and_the_nan() {
        let form = SummaryForm {
            color: true,
            columns: 80,
        };
        let finished = render("trainer", &RunEnd::Finished, &[training()], None, form);
        assert!(
            finished.contains("\x1b[1;32m✓ trainer finished after 1:02:03\x1b[0m\n"),
            "{finished}"
        );
        let diverged = section("trainer", vec![metric("loss", &[f64::NAN])]);
        let diverged = render("trainer", &RunEnd::Finished, &[diverged], None, form);
        assert!(diverged.contains("\x1b[1;33m! trainer finished"), "{diverged}");
        let failed = RunEnd::Interrupted {
            signal: "SIGTERM".to_owned(),
        };
        let failed = render("trainer", &failed, &[training()], None, form);
        assert!(
            failed.contains("\x1b[1;31m✗ trainer interrupted by SIGTERM after 1:02:03"),
            "{failed}"
        );
    }

    #[test]
    fn texts_of_a_program_stay_on_their_line_and_are_escaped() {
        let evil =
            "acc/\u{1b}]52;c;ZQ==\u{7}\u{1b}[2J\n2026-11-28 10:00:00 | ERROR | t | forged\u{202e}\u{200b}\u{9b}2J";
        let mut section = section(evil, vec![metric(evil, &[1.0]), metric(&"n".repeat(1 << 20), &[1.0])]);
        section.summary.system_metrics = vec![metric(&format!("memory/{evil}_gb"), &[1.0]).0];
        section.summary.ledger = vec![(evil.to_owned(), 1.0)];
        let mut books = SinkBooks::default();
        books.drop_for(evil, 1);
        section.report.sinks.insert(evil.to_owned(), books);
        section.report.places.insert(evil.to_owned(), evil.to_owned());
        let end = RunEnd::Panicked {
            message: evil.repeat(1000),
        };
        let sections = [section];
        for color in [false, true] {
            for columns in [20, 80, usize::MAX] {
                let text = render(
                    evil,
                    &end,
                    &sections,
                    Some(Path::new(evil)),
                    SummaryForm { color, columns },
                );
                // An empty line, the title, time, memory, three of the table, two of a sink, the
                // page, an empty line.
                assert_eq!(text.lines().count(), 11, "{text}");
                assert!(text.lines().all(|line| line.chars().count() < 3000), "{text}");
                assert_eq!(logcore::escape::escape_except_styles(&text), text);
            }
        }
    }
}
