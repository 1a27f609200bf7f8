//! The metrics of a logger as a table that fits the window.

use logcore::escape::to_short_line;
use logcore::{LoggerSummary, MetricSummary, text};

use super::style::AnsiStyle;
use super::{NAME, SHOWN_METRICS};

/// Blanks between two columns.
const GAP: usize = 2;
/// Minimum width of the column of names, in characters.
const SHORTEST_NAME: usize = 8;

/// A column with a cell for each metric. All cells and the head have the same width.
struct Column {
    head: String,
    cells: Vec<String>,
    /// Rank of the column among those that a narrow window leaves out; the lowest goes first.
    /// `None` for a column that stays.
    leaves: Option<u8>,
    is_text: bool,
    /// Style of the cells.
    code: &'static str,
}

/// Returns the table, a line for each of the first metrics, each line no wider than `columns`.
/// `window` is the number of values that the means are over.
pub(super) fn metric_table(
    summary: &LoggerSummary,
    sparklines: &[String],
    window: usize,
    columns: usize,
    style: AnsiStyle,
) -> Vec<String> {
    let count = summary.metrics.len().min(sparklines.len()).min(SHOWN_METRICS);
    let metrics = &summary.metrics[..count];
    if metrics.is_empty() {
        return Vec::new();
    }
    let mut table = columns_of(metrics, sparklines, window);
    while width(&table) > columns
        && let Some(at) = (0..table.len())
            .filter(|at| table[*at].leaves.is_some())
            .min_by_key(|at| table[*at].leaves)
    {
        table.remove(at);
    }
    let too_wide = width(&table).saturating_sub(columns);
    let names = table[0].width().saturating_sub(too_wide).max(SHORTEST_NAME);
    table[0].shorten(names);
    let mut lines = vec![style.styled("2", &line(&table, |column| column.head.clone()))];
    lines.extend((0..count).map(|row| line(&table, |column| column.cell(row, style))));
    if let Some(more) = summary.metrics.len().checked_sub(count).filter(|more| *more > 0) {
        lines.push(format!("… and {more} more"));
    }
    lines
}

fn columns_of(metrics: &[MetricSummary], sparklines: &[String], window: usize) -> Vec<Column> {
    let stats = |value: fn(&logcore::Stats) -> f64| -> Vec<String> {
        metrics
            .iter()
            .map(|metric| text::format_value(value(&metric.stats)))
            .collect()
    };
    let counts = |count: fn(&logcore::Stats) -> u64| -> Vec<String> {
        let shown = |count: u64| if count == 0 { String::new() } else { count.to_string() };
        metrics.iter().map(|metric| shown(count(&metric.stats))).collect()
    };
    let names = metrics
        .iter()
        .map(|metric| to_short_line(&metric.name, NAME).into_owned());
    let best = metrics.iter().map(|metric| {
        metric.best.map_or(String::new(), |best| {
            format!("{} at step {}", text::format_value(best.value), best.step)
        })
    });
    let mut table = vec![
        Column::texts("metric", names.collect(), None, ""),
        Column::texts(
            "",
            sparklines.iter().take(metrics.len()).cloned().collect(),
            Some(0),
            "36",
        ),
        Column::numbers("last", stats(|stats| stats.last), None, ""),
        Column::numbers(&name_of_mean(metrics, window), stats(|stats| stats.mean), Some(1), ""),
        Column::numbers("min", stats(|stats| stats.min), Some(3), ""),
        Column::numbers("max", stats(|stats| stats.max), Some(2), ""),
        Column::texts("best", best.collect(), None, ""),
        Column::numbers("NaN", counts(|stats| stats.nan_count), None, "33"),
        Column::numbers("inf", counts(|stats| stats.infinite_count), None, "33"),
    ];
    // The first column has the names, and "last" is shown for every metric.
    table.retain(|column| column.cells.iter().any(|cell| !cell.is_empty()));
    for column in &mut table {
        column.pad();
    }
    table
}

/// Returns the head of the means: those of series that are longer than the window are means of the
/// window.
fn name_of_mean(metrics: &[MetricSummary], window: usize) -> String {
    let longer = metrics
        .iter()
        .filter(|metric| metric.stats.count > window as u64)
        .count();
    match longer {
        0 => "mean".to_owned(),
        all if all == metrics.len() => format!("mean of {window}"),
        _ => format!("mean of ≤{window}"),
    }
}

fn line(table: &[Column], cell: impl Fn(&Column) -> String) -> String {
    let cells: Vec<String> = table.iter().map(cell).collect();
    cells.join(&" ".repeat(GAP)).trim_end().to_owned()
}

fn width(table: &[Column]) -> usize {
    table.iter().map(Column::width).sum::<usize>() + GAP * (table.len() - 1)
}

impl Column {
    fn texts(head: &str, cells: Vec<String>, leaves: Option<u8>, code: &'static str) -> Self {
        Self {
            head: head.to_owned(),
            cells,
            leaves,
            is_text: true,
            code,
        }
    }

    fn numbers(head: &str, cells: Vec<String>, leaves: Option<u8>, code: &'static str) -> Self {
        Self {
            is_text: false,
            ..Self::texts(head, cells, leaves, code)
        }
    }

    /// Gives head and cells the width of the widest.
    fn pad(&mut self) {
        let cells = self.cells.iter().chain([&self.head]);
        let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        let is_text = self.is_text;
        let padded = |cell: &String| match is_text {
            true => format!("{cell:width$}"),
            false => format!("{cell:>width$}"),
        };
        self.cells = self.cells.iter().map(padded).collect();
        self.head = padded(&self.head);
    }

    fn width(&self) -> usize {
        self.head.chars().count()
    }

    /// Shortens the texts of the column.
    fn shorten(&mut self, width: usize) {
        if width >= self.width() {
            return;
        }
        let short = |cell: &String| to_short_line(cell.trim_end(), width).into_owned();
        self.cells = self.cells.iter().map(short).collect();
        self.head = short(&self.head);
        self.pad();
    }

    fn cell(&self, row: usize, style: AnsiStyle) -> String {
        style.styled(self.code, &self.cells[row])
    }
}
