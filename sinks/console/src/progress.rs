//! Progress on the terminal as bars, elsewhere as a line now and then.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressDrawTarget, TermLike};
use logcore::log::LevelFilter;
use logcore::{LogConfig, MetricBatch, MetricValue, ProgressEvent, ProgressKind};
use logcore_progress::{Bars, text};

use crate::lock;
use crate::output::{Output, Stream};
use crate::terminal::Terminal;

/// A line is due after so many percent, …
const LINE_PERCENT: f64 = 5.0;
/// … but not sooner than this after the last, …
const LINE_NOT_BEFORE: Duration = Duration::from_secs(3);
/// … and in any case after this, if it has moved.
const LINE_AT_LATEST: Duration = Duration::from_secs(60);
/// So many metrics are shown.
const METRICS: usize = 4;
/// The system's own families are not.
const SYSTEM: [&str; 4] = ["throughput/", "progress/", "memory/", "system/"];

/// The progresses of one logger, as it shows them.
pub(crate) struct ProgressView {
    bars: bool,
    lines: bool,
    prefix: String,
    /// The newest values of the first few metrics.
    newest: Vec<(String, MetricValue)>,
    /// When the last line of each progress was written.
    said: HashMap<u64, Said>,
    /// Progresses that have a bar.
    open: Vec<u64>,
}

#[derive(Default)]
struct Said {
    elapsed: Duration,
    percent: f64,
    position: u64,
}

impl ProgressView {
    pub(crate) fn new(config: &LogConfig, bars: bool) -> Self {
        Self {
            bars,
            lines: config.console_level >= LevelFilter::Info,
            prefix: config.metrics_prefix.clone(),
            newest: Vec::new(),
            said: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Keeps the newest values of the user's metrics, to be shown behind the progress.
    pub(crate) fn note(&mut self, batch: &MetricBatch<'_>) {
        for (name, value) in batch.iter() {
            let Some(name) = name.strip_prefix(self.prefix.as_str()) else {
                continue;
            };
            if self.prefix.is_empty() && SYSTEM.iter().any(|family| name.starts_with(family)) {
                continue;
            }
            match self.newest.iter().position(|(known, _)| known == name) {
                Some(at) => self.newest[at].1 = value,
                None if self.newest.len() < METRICS => self.newest.push((name.to_owned(), value)),
                None => {}
            }
        }
    }

    /// Shows a progress; returns the line to be written, if one is due.
    pub(crate) fn show(&mut self, event: &ProgressEvent<'_>, terminal: &mut Terminal) -> Option<String> {
        let newest = self.newest();
        let finished = event.kind == ProgressKind::Finished;
        match (self.bars, finished) {
            (true, false) => {
                if event.kind == ProgressKind::Started {
                    self.open.push(event.id);
                }
                terminal.bars().show(event, &newest);
                None
            }
            (true, true) => {
                self.open.retain(|id| *id != event.id);
                terminal.bars().finish(event.id);
                (event.leave && event.position > 0).then(|| text::line(event, &newest))
            }
            (false, _) => self.line_due(event).then(|| text::line(event, &newest)),
        }
    }

    /// Takes the bars of a logger that ends.
    pub(crate) fn end(&mut self, terminal: &mut Terminal) {
        for id in self.open.drain(..) {
            terminal.bars().finish(id);
        }
    }

    fn line_due(&mut self, event: &ProgressEvent<'_>) -> bool {
        if !self.lines {
            return false;
        }
        match event.kind {
            ProgressKind::Started => {
                self.said.insert(event.id, Said::default());
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
                    *said = Said {
                        elapsed: event.elapsed,
                        percent,
                        position: event.position,
                    };
                }
                due
            }
        }
    }

    fn newest(&self) -> String {
        let shown: Vec<_> = self
            .newest
            .iter()
            .map(|(name, value)| format!("{name}={}", text::value(value.as_f64())))
            .collect();
        shown.join(" ")
    }
}

/// The bars of a stream, drawn through the same output as its lines.
pub(crate) fn bars(stream: Stream, output: &Arc<Output>) -> Bars {
    let screen = Screen {
        stream,
        output: Arc::clone(output),
        drawn: Mutex::default(),
    };
    Bars::new(ProgressDrawTarget::term_like_with_hz(Box::new(screen), 10), move || {
        columns(stream)
    })
}

fn columns(stream: Stream) -> u16 {
    let term = match stream {
        Stream::Stdout => console::Term::stdout(),
        Stream::Stderr => console::Term::stderr(),
    };
    term.size_checked().map_or(80, |(_, columns)| columns.max(20))
}

/// What `indicatif` draws on: collects a whole redraw and writes it in one go.
struct Screen {
    stream: Stream,
    output: Arc<Output>,
    drawn: Mutex<String>,
}

impl Screen {
    fn put(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut *lock(&self.drawn), text);
        Ok(())
    }

    fn moved(&self, n: usize, code: char) -> io::Result<()> {
        if n == 0 {
            Ok(())
        } else {
            self.put(format_args!("\x1b[{n}{code}"))
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        columns(self.stream)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.put(format_args!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *lock(&self.drawn));
        if drawn.is_empty() {
            Ok(())
        } else {
            self.output.write(&drawn)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ProgressView {
        ProgressView::new(&LogConfig::default(), false)
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
    fn a_quiet_console_has_no_lines() {
        let config = LogConfig {
            console_level: LevelFilter::Warn,
            ..LogConfig::default()
        };
        assert!(!ProgressView::new(&config, false).line_due(&event(ProgressKind::Finished, 100, 0)));
    }

    #[test]
    fn the_first_few_metrics_of_the_user_are_shown_with_their_newest_values() {
        let mut view = view();
        let value = |v| MetricValue::Float(v);
        view.note(&MetricBatch::new(
            "t",
            1,
            &[("metrics/loss", value(0.5)), ("throughput/batch_time_ms", value(1.0))],
        ));
        view.note(&MetricBatch::new(
            "t",
            2,
            &[("metrics/loss", value(0.25)), ("metrics/lr", value(1e-4))],
        ));
        insta::assert_snapshot!(text::line(&event(ProgressKind::Advanced, 45, 12), &view.newest()), @"Training: 45% 45/100 [00:12] loss=0.2500 lr=1.000e-4");
    }
}
