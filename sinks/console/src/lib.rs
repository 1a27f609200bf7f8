//! The sink `console`: log lines on the terminal with progress bars below them, and plain lines
//! elsewhere.
//!
//! ```text
//! 2026-11-25 10:04:10 | INFO  | train | Starting: 1502711 bytes of 264 files
//! 2026-11-25 10:04:11 | INFO  | train | Validation at step 150: 3.800 bits per byte
//!
//! Training  33% ━━━━━━━╸─────────────── 301/900 [00:01<00:03, 151 it/s, 19.3k samples/s] loss=3.3973
//! ```
//!
//! - One thread owns the terminal, so lines and bars never mix. A stalled terminal (Ctrl-S, a
//!   pager) delays nothing.
//! - In a file, a pipe or CI, a progress is a plain line every few percent, and at most every few
//!   seconds.
//! - Ranks above 0 show no progress, and their messages begin with the rank: `[rank 3] …`.
//!
//! # Options
//!
//! Under `sinks.console` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `stream` | `"stdout"`, `"stderr"` | `"stdout"` | the stream that gets the lines |
//! | `color` | `"auto"`, `"always"`, `"never"` | `"auto"` | `auto` obeys the terminal, `NO_COLOR`, `CLICOLOR_FORCE` and `TERM` |
//! | `keywords` | bool | `true` | highlight words such as Starting, Complete and Failed |
//! | `bars` | `"auto"`, `"always"`, `"never"` | `"auto"` | `auto` draws bars on a terminal |
//! | `formatter` | text or table | `"colored"` | format of a record |
//! | `utc` | bool | `false` | write times in UTC instead of local time |
//!
//! Bars and progress lines need the Cargo feature `progress`.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use logcore::{BuildContext, Deadline, LogConfig, Record, StopFlag, log::Level, registry, serde_json::json};
//! # use logcore_console as _;
//!
//! let (config, stop) = (LogConfig::default(), StopFlag::default());
//! let context = BuildContext::new(&config, &stop);
//! let mut sink = registry::build_sink("console", &json!({"stream": "stderr", "color": "never"}), &context).unwrap();
//! sink.record(&Record::new(Level::Info, "train", "hello")).unwrap();
//! sink.flush(Deadline::after(Duration::from_secs(1))).unwrap();
//! assert_eq!(sink.books().unwrap().delivered, 1);
//! ```

mod bar_area;
#[cfg(feature = "progress")]
mod bar_metrics;
mod display;
mod frame;
mod output;
#[cfg(feature = "progress")]
mod progress;
mod terminal;

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "progress")]
use std::time::SystemTime;

use logcore::panic_text::{BacktraceStyle, PANIC_TARGET};
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
use crate::terminal::{TerminalHandle, WriteRequest};

/// The sink that writes to the terminal. It is registered as `console`, and built from a config.
///
/// All console sinks of a process that write to the same stream share its owner.
pub struct ConsoleSink {
    handle: Arc<TerminalHandle>,
    /// `true` once the logger has ended. Then the thread that ends it waits for the terminal, not
    /// the writer thread.
    logger_ended: bool,
    /// `true` if records wait for room in a stalled pipe or file.
    waits_for_room: bool,
    /// The part of its backtrace that a panic shows. The other sinks get all of it.
    backtraces: BacktraceStyle,
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

impl ConsoleOptions {
    fn display(&self) -> DisplayMode {
        DisplayMode::decide(self.color, self.bars, &StreamEnvironment::of(self.stream))
    }
}

impl ConsoleSink {
    fn build(options: ConsoleOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let display = options.display();
        let mut style = Style::default();
        (style.color, style.keywords, style.utc) = (display.color, options.keywords, options.utc);
        let ranks = context.ranks();
        style.rank = (!ranks.is_first()).then_some(ranks.rank);
        Ok(Self {
            handle: Arc::new(TerminalHandle::open(options.stream)),
            logger_ended: false,
            waits_for_room: context.config().on_full == OnFull::Wait,
            backtraces: BacktraceStyle::read(std::env::var("RUST_BACKTRACE").ok().as_deref()),
            stream: options.stream,
            formatter: context.build_formatter(&options.formatter)?,
            style,
            line: String::new(),
            #[cfg(feature = "progress")]
            progress: progress::ProgressView::new(context.config(), display),
        })
    }
}

#[cfg(feature = "progress")]
impl ConsoleSink {
    /// Writes the last line of a progress that has ended, if that is still to be done.
    fn write_ended_progress(&mut self) {
        let terminal = Arc::clone(&self.handle.terminal);
        let Some(ended) = self.progress.take_ended() else {
            return;
        };
        let room = match terminal.columns() {
            Some(columns) => {
                self.format_progress(ended.event.time, &ended.logger, "");
                let taken = console::measure_text_width(self.line.trim_end_matches('\n'));
                columns.saturating_sub(taken + 1)
            }
            None => usize::MAX,
        };
        let text = self.progress.last_line(&ended, room);
        self.format_progress(ended.event.time, &ended.logger, &text);
        // The line first, so that one frame has the line instead of the bar.
        terminal.put_aside(&self.line);
        self.progress.remove_bar(ended.event.id, &terminal);
    }

    fn format_progress(&mut self, time: SystemTime, logger: &str, text: &str) {
        let record = Record::at(time, logcore::log::Level::Info, logger, text);
        self.line.clear();
        self.formatter.format(&record, &self.style, &mut self.line);
    }
}

impl Sink for ConsoleSink {
    fn wants(&self, what: EventKind) -> bool {
        // Only the first rank shows progress.
        let of_progress = matches!(what, EventKind::Metrics | EventKind::Progress) && self.style.rank.is_none();
        what == EventKind::Record || (of_progress && cfg!(feature = "progress"))
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
        #[cfg(feature = "progress")]
        self.write_ended_progress();
        self.line.clear();
        if record.is_from_facade() && record.target() == PANIC_TARGET {
            let text = self.backtraces.shorten(record.message());
            let short = Record::at(record.time(), record.level(), record.logger(), &text);
            let short = short.with_facade_target(record.target());
            self.formatter.format(&short, &self.style, &mut self.line);
        } else {
            self.formatter.format(record, &self.style, &mut self.line);
        }
        let request = match record.level() {
            logcore::log::Level::Error => WriteRequest::Now,
            _ => WriteRequest::None,
        };
        match self.waits_for_room {
            true => self.handle.put_when_room(&self.line, request),
            false => self.handle.put(&self.line, request),
        }
        Ok(())
    }

    #[cfg(feature = "progress")]
    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if self.progress.ended_before(batch) {
            self.write_ended_progress();
        }
        self.progress.record_metrics(batch, &self.handle.terminal);
        Ok(())
    }

    #[cfg(not(feature = "progress"))]
    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    #[cfg(feature = "progress")]
    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        self.write_ended_progress();
        if let Some(text) = self.progress.show(event, &self.handle.terminal) {
            self.format_progress(event.time, event.logger, &text);
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
        #[cfg(feature = "progress")]
        self.write_ended_progress();
        self.handle.terminal.flush(deadline)
    }

    fn logger_ended(&mut self, _: &LoggerEnd, _: &LoggerSummary) {
        self.logger_ended = true;
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        #[cfg(feature = "progress")]
        {
            self.write_ended_progress();
            self.progress.end(&self.handle.terminal);
        }
        match self.logger_ended {
            true => self.handle.terminal.write_last(),
            false => self.handle.settle(deadline),
        }
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let handle = Arc::clone(&self.handle);
        let pending = self.logger_ended && handle.terminal.is_stuck();
        pending.then(|| -> PendingDelivery {
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

impl fmt::Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSink")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

logcore::register_sink!("console", ConsoleSink::build);

/// Prints texts that are not records to the stream of a logger's console sink, such as the summary
/// at the end of a run.
///
/// The printer shares the owner of the stream, so its text comes after all lines that were written
/// before.
///
/// ```
/// use std::time::Duration;
///
/// use logcore::{Deadline, LogConfig};
/// use logcore_console::ConsolePrinter;
///
/// let printer = ConsolePrinter::from_config(&LogConfig::default()).unwrap();
/// let text = |color, columns: usize| format!("{}\n", if color && columns > 20 { "✓ finished" } else { "finished" });
/// printer.print(text, Deadline::after(Duration::from_secs(1)));
///
/// let silent = LogConfig { enable_console: false, ..LogConfig::default() };
/// assert!(ConsolePrinter::from_config(&silent).is_none());
/// ```
pub struct ConsolePrinter {
    stream: StdStream,
    handle: TerminalHandle,
    display: DisplayMode,
}

impl ConsolePrinter {
    /// Opens the stream of the console sink in this config; `None` if the config has no console
    /// sink.
    #[must_use]
    pub fn from_config(config: &LogConfig) -> Option<Self> {
        let options = match config.sinks.get("console") {
            _ if !config.enable_console => return None,
            Some(Value::Bool(false)) => return None,
            // An invalid option was refused when the sink was built.
            Some(options) if options.is_object() => ConsoleOptions::deserialize(options).unwrap_or_default(),
            _ => ConsoleOptions::default(),
        };
        Some(Self {
            stream: options.stream,
            handle: TerminalHandle::open(options.stream),
            display: options.display(),
        })
    }

    /// Returns `true` unless stderr is a terminal, and the stream of the console leads elsewhere.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use logcore_console::ConsolePrinter;
    ///
    /// let on_stderr = [("console".to_owned(), serde_json::json!({"stream": "stderr"}))];
    /// let config = LogConfig { sinks: on_stderr.into(), ..LogConfig::default() };
    /// assert!(ConsolePrinter::from_config(&config).unwrap().is_seen_beside_stderr());
    /// # use logcore::serde_json;
    /// ```
    #[must_use]
    pub fn is_seen_beside_stderr(&self) -> bool {
        self.stream.is_terminal() || !StdStream::Stderr.is_terminal()
    }

    /// Prints the text that `text` returns. Its arguments are `true` if the stream shows color, and
    /// the width of the window; `usize::MAX` if the stream is no terminal. A text that is not
    /// written by the deadline is dropped.
    pub fn print(&self, text: impl FnOnce(bool, usize) -> String, deadline: Deadline) {
        let columns = self.handle.terminal.columns().unwrap_or(usize::MAX);
        self.handle.put(&text(self.display.color, columns), WriteRequest::Now);
        // An error of this stream cannot be reported on this stream.
        let _ = self.handle.settle(deadline);
    }
}

impl fmt::Debug for ConsolePrinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsolePrinter")
            .field("display", &self.display)
            .finish_non_exhaustive()
    }
}

/// Writes a line, including its line end, to stderr above the bars, if stderr is a terminal. Never
/// waits for a stalled one.
///
/// Returns `false` if stderr is not a terminal. Then the caller writes the line itself: there are
/// no bars to disturb.
///
/// ```
/// let line = "logcore: the disk is full\n";
/// if !logcore_console::print_line(line) {
///     eprint!("{line}");
/// }
/// ```
pub fn print_line(line: &str) -> bool {
    if !StdStream::Stderr.is_terminal() {
        return false;
    }
    TerminalHandle::open(StdStream::Stderr).print_notice(line);
    true
}

/// Limits the wait for stalled streams to half of the time until `deadline`, because a logger has
/// to end by then.
///
/// After that half, lines that find no room are skipped and counted instead.
///
/// ```
/// use std::time::Duration;
///
/// logcore_console::limit_waiting(logcore::Deadline::after(Duration::from_secs(30)));
/// ```
pub fn limit_waiting(deadline: Deadline) {
    terminal::limit_waiting(deadline);
}

/// Has the lines that [`suspend`] holds written now, because the process ends. Waits at most a
/// moment for a stalled stream. Later notices ([`print_line`]) are not held, either.
///
/// ```
/// logcore_console::suspend(|| {
///     logcore_console::print_line("logcore: the disk is full\n");
///     logcore_console::write_held_lines(); // The line is on the screen before `exit`.
/// });
/// ```
pub fn write_held_lines() {
    terminal::write_held();
}

/// Runs `work` with the terminal to itself: the bars are erased before and drawn again after it,
/// and lines wait.
///
/// Use it around output of the program's own, or around another program that uses the terminal.
///
/// Nobody waits for `work` to return: a flush meanwhile returns without the lines that wait, and a
/// logger that ends meanwhile, on any thread, has all waiting lines written at once.
///
/// ```
/// let answer = logcore_console::suspend(|| {
///     println!("this appears above the bars, complete");
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
pub fn suspend<T>(work: impl FnOnce() -> T) -> T {
    terminal::suspend(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_sink_is_send_and_printer_is_sync() {
        fn assert_send<T: Send>() {}
        fn assert_sync<T: Sync>() {}
        assert_send::<ConsoleSink>();
        assert_send::<ConsolePrinter>();
        assert_sync::<ConsolePrinter>();
    }
}
