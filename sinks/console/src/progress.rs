//! Progress on the terminal as bars, elsewhere as a line now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use logcore::log::LevelFilter;
use logcore::{LogConfig, MetricBatch, ProgressEvent, ProgressKind};
use logcore_progress::text;

use crate::bar_metrics::BarMetrics;
use crate::display::DisplayMode;
use crate::terminal::Terminal;

/// A line is due after so many percent, …
const LINE_PERCENT: f64 = 5.0;
/// … but not sooner than this after the last, …
const LINE_NOT_BEFORE: Duration = Duration::from_secs(3);
/// … and in any case after this, if it has moved.
const LINE_AT_LATEST: Duration = Duration::from_secs(60);

/// The progresses of one logger, as it shows them.
pub(crate) struct ProgressView {
    display: DisplayMode,
    lines: bool,
    behind: BarMetrics,
    /// When the last line of each progress was written.
    said: HashMap<u64, LastProgressLine>,
    /// Progresses that have a bar.
    open: Vec<u64>,
}

#[derive(Default)]
struct LastProgressLine {
    elapsed: Duration,
    percent: f64,
    position: u64,
}

impl ProgressView {
    pub(crate) fn new(config: &LogConfig, display: DisplayMode) -> Self {
        Self {
            display,
            lines: config.console_level >= LevelFilter::Info,
            behind: BarMetrics::new(config),
            said: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Keeps what is to be shown behind the progress.
    pub(crate) fn note(&mut self, batch: &MetricBatch<'_>) {
        self.behind.note(batch);
    }

    /// Shows a progress; returns the line to be written, if one is due.
    pub(crate) fn show(&mut self, event: &ProgressEvent<'_>, terminal: &Terminal) -> Option<String> {
        let finished = event.kind == ProgressKind::Finished;
        match (self.display.bars, finished) {
            (true, false) => {
                if !self.open.contains(&event.id) {
                    self.open.push(event.id);
                }
                let (behind, now) = (self.behind.shown(), Instant::now());
                terminal.change_bars(|area| area.bars(self.display.color).show(event, &behind, now));
                None
            }
            (true, true) => {
                self.open.retain(|id| *id != event.id);
                terminal.change_bars(|area| area.bars(self.display.color).finish(event.id));
                (event.leave && event.position > 0).then(|| text::line(event, &self.behind.shown()))
            }
            (false, _) => self.line_due(event).then(|| text::line(event, &self.behind.shown())),
        }
    }

    /// Takes the bars of a logger that ends.
    pub(crate) fn end(&mut self, terminal: &Terminal) {
        for id in self.open.drain(..) {
            terminal.change_bars(|area| area.bars(self.display.color).finish(id));
        }
    }

    fn line_due(&mut self, event: &ProgressEvent<'_>) -> bool {
        if !self.lines {
            return false;
        }
        match event.kind {
            ProgressKind::Started => {
                self.said.insert(event.id, LastProgressLine::default());
                false
            }
            ProgressKind::Finished => {
                self.said.remove(&event.id);
                event.position > 0
            }
            _ => {
                let said = self.said.entry(event.id).or_default();
                let percent = event.percent().unwrap_or(0.0);
                let since = event.elapsed.saturating_sub(said.elapsed);
                // The sum of two rounded numbers may lie a hair above the third.
                let enough = percent + 1e-9 >= said.percent + LINE_PERCENT && since >= LINE_NOT_BEFORE;
                let due = enough || (since >= LINE_AT_LATEST && event.position > said.position);
                if due {
                    *said = LastProgressLine {
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
    fn a_line_every_few_percent_and_every_few_seconds_at_most() {
        let lines = |seconds_a_unit: u64, up_to: u64| {
            let mut view = view();
            view.line_due(&event(ProgressKind::Started, 0, 0));
            (1..=up_to)
                .filter(|i| view.line_due(&event(ProgressKind::Advanced, *i, i * seconds_a_unit)))
                .count()
        };
        assert_eq!(lines(0, 100), 0, "too fast for any but the last");
        assert_eq!(lines(1, 100), 20, "each 5 %");
        assert_eq!(lines(90, 10), 10, "slow ones at each minute or more");
        assert!(
            view().line_due(&event(ProgressKind::Finished, 100, 0)),
            "the last always"
        );
    }

    #[test]
    fn a_day_leaves_few_lines() {
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
                bytes += "2026-11-23 14:48:15 | INFO  | my_module | \n".len() + text::line(&event, &newest).len();
            }
        }
        assert!((100_000..300_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_quiet_console_has_no_lines() {
        let config = LogConfig {
            console_level: LevelFilter::Warn,
            ..LogConfig::default()
        };
        assert!(!ProgressView::new(&config, LINES).line_due(&event(ProgressKind::Finished, 100, 0)));
    }
}
