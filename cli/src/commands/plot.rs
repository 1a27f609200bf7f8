//! `logcore plot`: curves in the terminal.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use console::{Color, Style};
use logcore::escape::{to_one_line, to_short_line};
use logcore_runs::{Curve, CurvePoint, StoredRun, find_run};
use serde_json::{Value, json};

use super::{read_entry, report_left_out};
use crate::arguments::PlotArguments;
use crate::columns::short_number;
use crate::output::{Outcome, Output};

/// Width of a plot where there is no window.
const USUAL_WIDTH: usize = 80;

/// Columns beside the plot: the numbers of the axis.
const MARGIN: usize = 11;

/// Colours of the runs, which also people who see red and green alike tell apart.
const COLORS: [Color; 6] = [
    Color::Cyan,
    Color::Yellow,
    Color::Magenta,
    Color::Blue,
    Color::Green,
    Color::Red,
];

/// A curve of one run.
struct PlottedCurve {
    label: String,
    color: Color,
    points: Vec<CurvePoint>,
}

/// Largest number of plots that nobody has asked for.
const MAX_PLOTS: usize = 4;

pub(super) fn run(arguments: &PlotArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let mut runs: Vec<StoredRun> = Vec::new();
    let mut metrics: &[String] = &arguments.words;
    // The words up to the first that is no run are runs.
    while let [word, rest @ ..] = metrics
        && let Ok(run) = find_run(log_dir, word)
    {
        runs.push(run);
        metrics = rest;
    }
    if runs.is_empty() {
        runs.push(find_run(log_dir, "latest")?);
    }
    let width = output
        .width()
        .unwrap_or(USUAL_WIDTH)
        .saturating_sub(MARGIN)
        .clamp(10, 200);
    let height = usize::from(arguments.height.clamp(2, 100));
    let mut all: Vec<(String, Curve)> = Vec::new();
    let mut outcome = Outcome::Done;
    for run in runs {
        let entry = read_entry(run, false, output);
        let dir = entry.run.dir.to_string_lossy();
        match entry.run.curves(0, width * 2) {
            Ok(read) => {
                report_left_out(&read.left_out, &format!("the curves of {dir}"), output);
                if read.curves.is_empty() && !read.left_out.is_empty() {
                    outcome = Outcome::DoneInPart;
                }
                all.extend(read.curves.into_iter().map(|curve| (entry.id(), curve)));
            }
            Err(error) => {
                output.problem(Some(&dir), &error.to_string());
                outcome = Outcome::DoneInPart;
            }
        }
    }
    let is_wanted = |curve: &Curve, metric: &str| {
        let name = curve.name();
        name == metric || name.strip_prefix("metrics/") == Some(metric)
    };
    let names: BTreeSet<&str> = all.iter().map(|(_, curve)| curve.name()).collect();
    let own = names.iter().filter_map(|name| name.strip_prefix("metrics/"));
    let chosen: Vec<String> = match metrics {
        [] => own.take(MAX_PLOTS).map(str::to_owned).collect(),
        _ => metrics.to_vec(),
    };
    let mut plots: Vec<Value> = Vec::new();
    for metric in &chosen {
        let curves = all.iter().filter(|(_, curve)| is_wanted(curve, metric));
        let curves: Vec<PlottedCurve> = curves
            .enumerate()
            .map(|(at, (label, curve))| PlottedCurve {
                label: label.clone(),
                color: COLORS[at % COLORS.len()],
                points: curve.buckets().iter().flat_map(|bucket| bucket.points()).collect(),
            })
            .collect();
        ensure!(
            !curves.is_empty(),
            "cannot plot {metric}: it is neither a run nor a metric of one. {}",
            remedy_of(&names)
        );
        print(metric, &curves, width, height, output);
        plots.push(json!({
            "metric": metric,
            "curves": curves.iter().map(as_json).collect::<Vec<_>>(),
        }));
    }
    if plots.is_empty() && outcome == Outcome::Done {
        output.line(format!("there is nothing to plot. {}", remedy_of(&names)));
    }
    output.member("plots", plots.into());
    Ok(outcome)
}

/// Returns what the user can name, of the metrics of the runs.
fn remedy_of(names: &BTreeSet<&str>) -> String {
    match names.is_empty() {
        true => "Name a run that has values".to_owned(),
        false => format!("Name one of {}", names.iter().copied().collect::<Vec<_>>().join(", ")),
    }
}

fn as_json(curve: &PlottedCurve) -> Value {
    let points: Vec<_> = curve
        .points
        .iter()
        .map(|point| json!([point.step, point.value]))
        .collect();
    json!({"run": curve.label, "points": points})
}

/// Prints a plot with its title, axes and legend.
fn print(metric: &str, curves: &[PlottedCurve], width: usize, height: usize, output: &mut Output) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let finite = || points().map(|point| point.value).filter(|value| value.is_finite());
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
    );
    let (first, last) = (
        points().map(|point| point.step).min().unwrap_or(0),
        points().map(|point| point.step).max().unwrap_or(0),
    );
    let title = to_short_line(metric, width).into_owned();
    output.line(Style::new().force_styling(output.has_colors()).bold().apply_to(title));
    if low > high {
        output.line("no finite value");
        return;
    }
    let mut canvas = BrailleCanvas::new(width, height);
    let span = if high > low { high - low } else { 1.0 };
    let steps = (last - first).max(1) as f64;
    for (number, curve) in curves.iter().enumerate() {
        let mut before: Option<(usize, usize)> = None;
        for point in &curve.points {
            if !point.value.is_finite() {
                before = None;
                continue;
            }
            let x = ((point.step - first) as f64 / steps * (canvas.dots_across() - 1) as f64).round() as usize;
            let y = ((high - point.value) / span * (canvas.dots_down() - 1) as f64).round() as usize;
            canvas.line(before.unwrap_or((x, y)), (x, y), number);
            before = Some((x, y));
        }
    }
    for row in 0..height {
        let number = match row {
            0 => short_number(high),
            _ if row + 1 == height => short_number(low),
            _ => String::new(),
        };
        let cells: String = (0..width)
            .map(|column| {
                let (text, owner) = canvas.cell(column, row);
                let style = Style::new().force_styling(output.has_colors());
                match owner {
                    Some(owner) => style.fg(curves[owner].color).apply_to(text).to_string(),
                    None => text.to_string(),
                }
            })
            .collect();
        output.line(format!("{number:>9} ┤{}", cells.trim_end()));
    }
    output.line(format!("{:>9} └{}", "", "─".repeat(width)));
    let (first, last) = (first.to_string(), last.to_string());
    let gap = width.saturating_sub(first.len());
    output.line(format!("{:>11}{first}{last:>gap$}", ""));
    if curves.len() > 1 {
        for curve in curves {
            let mark = Style::new()
                .force_styling(output.has_colors())
                .fg(curve.color)
                .apply_to("●");
            let newest = curve.points.last().map(|point| short_number(point.value));
            output.line(format!(
                "{:>9} {mark} {} {}",
                "",
                to_one_line(&curve.label),
                newest.unwrap_or_default()
            ));
        }
    }
    output.line("");
}

/// Dots, of which 2 × 4 are one character: <https://www.unicode.org/charts/PDF/U2800.pdf>.
struct BrailleCanvas {
    width: usize,
    height: usize,
    cells: Vec<(u8, Option<usize>)>,
}

impl BrailleCanvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            cells: vec![(0, None); width * height],
        }
    }

    fn dots_across(&self) -> usize {
        self.width * 2
    }

    fn dots_down(&self) -> usize {
        self.height * 4
    }

    /// Draws a line of dots, which belongs to a curve.
    fn line(&mut self, from: (usize, usize), to: (usize, usize), curve: usize) {
        let length = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for at in 0..=length {
            let part = at as f64 / length as f64;
            let between = |from: usize, to: usize| (from as f64 + (to as f64 - from as f64) * part).round() as usize;
            self.dot(between(from.0, to.0), between(from.1, to.1), curve);
        }
    }

    fn dot(&mut self, x: usize, y: usize, curve: usize) {
        /// The bit of each dot, by row and column.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let (x, y) = (x.min(self.dots_across() - 1), y.min(self.dots_down() - 1));
        let cell = &mut self.cells[y / 4 * self.width + x / 2];
        cell.0 |= BITS[y % 4][x % 2];
        cell.1 = Some(curve);
    }

    /// Returns the character of a cell, and the curve that was drawn there last.
    fn cell(&self, column: usize, row: usize) -> (char, Option<usize>) {
        let (dots, owner) = self.cells[row * self.width + column];
        match dots {
            0 => (' ', None),
            dots => (char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '), owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_where_they_were_drawn() {
        let mut canvas = BrailleCanvas::new(2, 1);
        canvas.dot(0, 0, 0);
        canvas.dot(3, 3, 1);
        assert_eq!((canvas.cell(0, 0), canvas.cell(1, 0)), (('⠁', Some(0)), ('⢀', Some(1))));
        let mut diagonal = BrailleCanvas::new(2, 1);
        diagonal.line((0, 0), (3, 3), 0);
        assert_eq!((diagonal.cell(0, 0).0, diagonal.cell(1, 0).0), ('⠑', '⢄'));
        diagonal.dot(99, 99, 0);
        assert_eq!(diagonal.cell(1, 0).0, '⢄', "it is the last dot");
    }
}
