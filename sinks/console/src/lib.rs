//! The terminal, as the sink `console`: colored lines with bars below them; plain lines where there is no terminal.
//!
//! Options, under `sinks.console`:
//!
//! | option | default | |
//! |---|---|---|
//! | `stream` | `stdout` | or `stderr` |
//! | `color` | `auto` | `always`, `never`; `auto` asks the terminal, `NO_COLOR`, `CLICOLOR_FORCE` and `TERM` |
//! | `keywords` | on | words such as Starting, Complete and Failed are highlighted |
//! | `bars` | `auto` | `always`, `never`; `auto` draws them on a terminal |
//! | `formatter` | `colored` | how a record becomes text |
//! | `utc` | off | times in UTC |
//!
//! Ranks above 0 have no bars and no lines of progress, and their messages are marked: `[rank 3] …`.
//!
//! Off a terminal a progress is a plain line every few percent and every few seconds at most.

mod bar_area;
#[cfg(feature = "progress")]
mod bar_metrics;
mod display;
mod frame;
mod output;
#[cfg(feature = "progress")]
mod progress;
mod terminal;

use std::sync::Arc;

use logcore::serde_json::Value;
use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, Formatter, LogConfig, LoggerEnd, LoggerSummary, MetricBatch,
    Notices, OnFull, PendingDelivery, ProgressEvent, Record, Sink, SinkBooks, SinkError, Style,
};
// Names the crate, so that its formatters are linked.
use logcore_formatters as _;
use serde::Deserialize;

use crate::display::{DisplayMode, DisplayWhen, StreamEnvironment};
use crate::output::StdStream;
use crate::terminal::TerminalHandle;

/// Writes to the terminal. All of a process that write to the same stream share its one owner.
pub struct ConsoleSink {
    handle: Arc<TerminalHandle>,
    /// The run has ended: who ends the logger waits for the terminal, and not the writer.
    ended: bool,
    /// For a stream that takes nothing at the moment.
    waits: bool,
    stream: StdStream,
    formatter: Box<dyn Formatter>,
    style: Style,
    line: String,
    #[cfg(feature = "progress")]
    progress: progress::ProgressView,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConsoleOptions {
    stream: StdStream,
    color: DisplayWhen,
    keywords: bool,
    bars: DisplayWhen,
    formatter: Value,
    utc: bool,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self {
            stream: StdStream::Stdout,
            color: DisplayWhen::Auto,
            keywords: true,
            bars: DisplayWhen::Auto,
            formatter: "colored".into(),
            utc: false,
        }
    }
}

impl ConsoleSink {
    fn build(options: ConsoleOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let display = DisplayMode::decide(options.color, options.bars, &StreamEnvironment::of(options.stream));
        let mut style = Style::default();
        (style.color, style.keywords, style.utc) = (display.color, options.keywords, options.utc);
        let ranks = context.ranks();
        style.rank = (!ranks.is_first()).then_some(ranks.rank);
        Ok(Self {
            handle: Arc::new(TerminalHandle::at(options.stream)),
            ended: false,
            waits: context.config().on_full == OnFull::Wait,
            stream: options.stream,
            formatter: context.build_formatter(&options.formatter)?,
            style,
            line: String::new(),
            #[cfg(feature = "progress")]
            progress: progress::ProgressView::new(context.config(), display),
        })
    }
}

impl Sink for ConsoleSink {
    fn wants(&self, what: EventKind) -> bool {
        // Only the first of several ranks shows how far the run is.
        let shown_behind_bars = matches!(what, EventKind::Metrics | EventKind::Progress) && self.style.rank.is_none();
        what == EventKind::Record || (shown_behind_bars && cfg!(feature = "progress"))
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        if !self.style.utc
            && let Some(problem) = logcore_formatters::take_zone_problem()
        {
            notices.print("time zone", &problem);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.line.clear();
        self.formatter.format(record, &self.style, &mut self.line);
        let urgent = record.level() == logcore::log::Level::Error;
        match self.waits {
            true => self.handle.put_patiently(&self.line, urgent),
            false => self.handle.put(&self.line, urgent),
        }
        Ok(())
    }

    #[cfg(feature = "progress")]
    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.progress.note(batch);
        Ok(())
    }

    #[cfg(not(feature = "progress"))]
    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    #[cfg(feature = "progress")]
    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        if let Some(text) = self.progress.show(event, &self.handle.terminal) {
            let record = Record::at(event.time, logcore::log::Level::Info, event.logger, &text);
            self.line.clear();
            self.formatter.format(&record, &self.style, &mut self.line);
            self.handle.terminal.put_aside(&self.line);
        }
        Ok(())
    }

    #[cfg(not(feature = "progress"))]
    fn progress(&mut self, _: &ProgressEvent<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.handle.terminal.write_out()
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.handle.terminal.flush(deadline)
    }

    fn logger_ended(&mut self, _: &LoggerEnd, _: &LoggerSummary) {
        self.ended = true;
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        #[cfg(feature = "progress")]
        self.progress.end(&self.handle.terminal);
        match self.ended {
            true => self.handle.terminal.write_last(),
            false => self.handle.settle(deadline),
        }
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let handle = Arc::clone(&self.handle);
        let waits = self.ended && handle.terminal.is_stuck();
        waits.then(|| -> PendingDelivery {
            Box::new(move |deadline| {
                let settled = handle.settle(deadline);
                (handle.books(), settled)
            })
        })
    }

    fn folds_repeats(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        Some(self.handle.books())
    }

    fn destination(&self) -> Option<String> {
        Some(self.stream.name().to_owned())
    }
}

logcore::register_sink!("console", ConsoleSink::build);

/// Writes, where the sink of a logger has its lines, what is no record. It keeps the terminal, so that what it writes stands
/// behind all that was written before.
pub struct ConsolePrinter {
    handle: TerminalHandle,
    color: bool,
}

impl ConsolePrinter {
    /// For a logger with this config; `None` if it has no console.
    pub fn from_config(config: &LogConfig) -> Option<Self> {
        let options = match config.sinks.get("console") {
            _ if !config.enable_console => return None,
            Some(Value::Bool(false)) => return None,
            Some(options) if options.is_object() => ConsoleOptions::deserialize(options).unwrap_or_default(),
            _ => ConsoleOptions::default(),
        };
        let display = DisplayMode::decide(options.color, options.bars, &StreamEnvironment::of(options.stream));
        Some(Self {
            handle: TerminalHandle::at(options.stream),
            color: display.color,
        })
    }

    /// Writes `text`, which is asked whether color is wanted. What is not written by the deadline is given up.
    pub fn print(&self, text: impl FnOnce(bool) -> String, deadline: Deadline) {
        self.handle.put(&text(self.color), true);
        // There is nobody who could be told on this terminal.
        let _ = self.handle.settle(deadline);
    }
}

/// Writes a line that ends with a line feed to stderr, if that is a terminal: above the bars, and without waiting for one that
/// stands still. Returns whether it is one; to anything else whoever asks can write by himself.
pub fn print_line(line: &str) -> bool {
    if !StdStream::Stderr.is_terminal() {
        return false;
    }
    let handle = TerminalHandle::at(StdStream::Stderr);
    handle.put(line, true);
    let _ = handle.terminal.write_last();
    true
}

/// A logger ends by this deadline, and waits for no stream that stands still for longer than half of the time: lines that find no
/// room then are left out and counted.
pub fn limit_waiting(deadline: Deadline) {
    terminal::limit_waiting(deadline);
}

/// Runs `work` with the terminal to itself: the bars are taken away before and come back after it, and lines wait
/// meanwhile. For what a program prints by itself, or when it hands the terminal to another.
///
/// ```
/// let answer = logcore_console::suspend(|| {
///     println!("this stands above the bars, whole");
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
pub fn suspend<T>(work: impl FnOnce() -> T) -> T {
    terminal::suspend(work)
}
