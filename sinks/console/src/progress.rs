//! Progress as bars on a terminal, and as rate-limited lines elsewhere.
//!
//! A line is written
//!
//! - after 5 percent of the total, but at most every 3 seconds,
//! - at least every minute, if the position has changed,
//! - at the end of each progress that was updated.
//!
//! So a progress of a day writes less than 300 KB. A bar leaves one line when its progress ends, if
//! `progress_leave` is set.
//!
//! The line of an ended progress waits for the metrics of its last step, because programs log them
//! after the update that ends the progress. The next other call of the logger has the line written:
//! metrics of a further step, a record, a progress, a flush, the end. Until then the bar stays at
//! its end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use logcore::log::LevelFilter;
use logcore::{LogConfig, MetricBatch, ProgressEvent, ProgressKind};
use logcore_progress::text;

use crate::bar_metrics::BarMetrics;
use crate::display::DisplayMode;
use crate::terminal::Terminal;

/// Progress between two lines, in percent of the total …
const LINE_PERCENT: f64 = 5.0;
/// … if this time has passed since the last line.
const LINE_NOT_BEFORE: Duration = Duration::from_secs(3);
/// A line is due after this time in any case, if the position has changed.
const LINE_AT_LATEST: Duration = Duration::from_secs(60);

/// Shows the progresses of one logger.
pub(crate) struct ProgressView {
    display: DisplayMode,
    /// `true` if the console level admits progress lines.
    lines: bool,
    metrics: BarMetrics,
    /// The last line of each progress, by its id.
    last_lines: HashMap<u64, LastProgressLine>,
    /// Ids of the progresses that have a bar.
    open: Vec<u64>,
    /// The progress whose last line is to be written.
    ended: Option<EndedProgress>,
}

/// A progress that has ended.
pub(crate) struct EndedProgress {
    /// The last state, without texts.
    pub(crate) event: ProgressEvent<'static>,
    pub(crate) logger: String,
    description: String,
    /// The step of the first metrics after the end.
    step: Option<u64>,
}

impl EndedProgress {
    fn new(event: &ProgressEvent<'_>) -> Self {
        let mut last = event.with_texts("", "");
        last.eta = None;
        Self {
            event: last,
            logger: event.logger.to_owned(),
            description: event.description.to_owned(),
            step: None,
        }
    }
}

#[derive(Default)]
struct LastProgressLine {
    elapsed: Duration,
    percent: f64,
    position: u64,
}

impl ProgressView {
    /// Returns a view for the logger of this config.
    pub(crate) fn new(config: &LogConfig, display: DisplayMode) -> Self {
        Self {
            display,
            lines: config.console_level >= LevelFilter::Info,
            metrics: BarMetrics::new(config),
            last_lines: HashMap::new(),
            open: Vec::new(),
            ended: None,
        }
    }

    /// Notes metrics that are shown beside the progress.
    pub(crate) fn record_metrics(&mut self, batch: &MetricBatch<'_>, terminal: &Terminal) {
        self.metrics.record(batch);
        if self.display.bars
            && let Some(ended) = &self.ended
        {
            self.draw(&ended.event, terminal);
        }
    }

    /// Shows a progress; returns the line to write, if one is due.
    pub(crate) fn show(&mut self, event: &ProgressEvent<'_>, terminal: &Terminal) -> Option<String> {
        let finished = event.kind == ProgressKind::Finished;
        if !self.display.bars {
            let due = self.line_due(event);
            if due && finished {
                self.ended = Some(EndedProgress::new(event));
            }
            return (due && !finished).then(|| text::line(event, &self.metrics.shown(), usize::MAX));
        }
        if finished && !(event.leave && event.position > 0) {
            self.remove_bar(event.id, terminal);
            return None;
        }
        if finished {
            self.ended = Some(EndedProgress::new(event));
        }
        if !self.open.contains(&event.id) {
            self.open.push(event.id);
        }
        self.draw(event, terminal);
        None
    }

    /// Returns `true` if the last line of an ended progress belongs before these metrics: their
    /// step is not that of the first metrics after its end.
    pub(crate) fn ended_before(&mut self, batch: &MetricBatch<'_>) -> bool {
        let Some(ended) = &mut self.ended else { return false };
        *ended.step.get_or_insert(batch.step()) != batch.step()
    }

    /// Takes the ended progress, whose last line the caller writes before
    /// [`remove_bar`](Self::remove_bar).
    pub(crate) fn take_ended(&mut self) -> Option<EndedProgress> {
        self.ended.take()
    }

    /// Returns the last line of a progress, as much as fits: a line above bars never wraps, unless
    /// the window has hardly room for the beginning of a record.
    pub(crate) fn last_line(&self, ended: &EndedProgress, columns: usize) -> String {
        let event = ended.event.with_texts(&ended.logger, &ended.description);
        text::line(&event, &self.metrics.shown_newest_first(), columns)
    }

    /// Removes the bar of a progress, if it has one.
    pub(crate) fn remove_bar(&mut self, id: u64, terminal: &Terminal) {
        if let Some(at) = self.open.iter().position(|open| *open == id) {
            self.open.remove(at);
            terminal.change_bars(|area| area.bars(self.display.color).finish(id));
        }
    }

    /// Removes the bars of a logger that ends.
    pub(crate) fn end(&mut self, terminal: &Terminal) {
        for id in self.open.drain(..) {
            terminal.change_bars(|area| area.bars(self.display.color).finish(id));
        }
    }

    fn draw(&self, event: &ProgressEvent<'_>, terminal: &Terminal) {
        let (metrics, now) = (self.metrics.shown(), Instant::now());
        terminal.change_bars(|area| area.bars(self.display.color).show(event, &metrics, now));
    }

    /// Returns `true` if a line about this event is due, and notes its position.
    fn line_due(&mut self, event: &ProgressEvent<'_>) -> bool {
        if !self.lines {
            return false;
        }
        match event.kind {
            ProgressKind::Started => {
                self.last_lines.insert(event.id, LastProgressLine::default());
                false
            }
            ProgressKind::Finished => {
                self.last_lines.remove(&event.id);
                event.position > 0
            }
            _ => {
                let last = self.last_lines.entry(event.id).or_default();
                let percent = event.percent().unwrap_or(0.0);
                let since = event.elapsed.saturating_sub(last.elapsed);
                // The sum of two rounded numbers may be slightly above the exact one.
                let enough = percent + 1e-9 >= last.percent + LINE_PERCENT && since >= LINE_NOT_BEFORE;
                let due = enough || (since >= LINE_AT_LATEST && event.position > last.position);
                if due {
                    *last = LastProgressLine {
                        elapsed: event.elapsed,
                        percent,
                        position: event.position,
                    };
                }
                due
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: DisplayMode = DisplayMode {
        color: false,
        bars: false,
    };

    fn view() -> ProgressView {
        ProgressView::new(&LogConfig::default(), LINES)
    }

    fn event(kind: ProgressKind, position: u64, seconds: u64) -> ProgressEvent<'static> {
        let mut event = ProgressEvent::new(kind, 1, "trainer", "Training");
        (event.position, event.total, event.elapsed) = (position, Some(100), Duration::from_secs(seconds));
        event
    }

    #[test]
    fn line_due_limits_lines_by_percent_and_by_seconds() {
        let lines = |seconds_a_unit: u64, up_to: u64| {
            let mut view = view();
            view.line_due(&event(ProgressKind::Started, 0, 0));
            (1..=up_to)
                .filter(|i| view.line_due(&event(ProgressKind::Advanced, *i, i * seconds_a_unit)))
                .count()
        };
        assert_eq!(lines(0, 100), 0, "too fast for any line but the last");
        assert_eq!(lines(1, 100), 20, "each 5 %");
        assert_eq!(lines(90, 10), 10, "slow updates: one line a minute at most");
        assert!(
            view().line_due(&event(ProgressKind::Finished, 100, 0)),
            "the last line always"
        );
    }

    #[test]
    fn a_progress_of_a_day_writes_less_than_300_kb() {
        const DAY: u64 = 86_400;
        let mut view = view();
        let newest: Vec<String> = (0..4).map(|i| format!("a_metric_{i}=0.{i}123")).collect();
        let mut event = event(ProgressKind::Started, 0, 0);
        view.line_due(&event);
        (event.kind, event.total) = (ProgressKind::Advanced, Some(DAY));
        (event.rate, event.samples_per_sec) = (Some(1.0), Some(32.0));
        let mut bytes = 0;
        for second in 1..=DAY {
            (event.position, event.elapsed) = (second, Duration::from_secs(second));
            event.eta = Some(Duration::from_secs(DAY - second));
            if view.line_due(&event) {
                bytes += "2026-11-23 14:48:15 | INFO  | my_module | \n".len()
                    + text::line(&event, &newest, usize::MAX).len();
            }
        }
        assert!((100_000..300_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_console_level_above_info_has_no_progress_lines() {
        let config = LogConfig {
            console_level: LevelFilter::Warn,
            ..LogConfig::default()
        };
        assert!(!ProgressView::new(&config, LINES).line_due(&event(ProgressKind::Finished, 100, 0)));
    }
}
