//! The terminal, if the console sink is linked: handing it over, and printing the closing summary.

#[cfg(feature = "console")]
use logcore::log::LevelFilter;
use logcore::{Deadline, LogConfig};

use crate::logger::summary::SummaryForm;

/// Runs `work` with the terminal to itself.
///
/// The bars disappear before `work` and return after it; log lines wait meanwhile. Use it for what
/// a program prints by itself, and to hand the terminal to another program. Without the feature
/// `console`, it only runs `work`.
///
/// Nothing waits for `work` to return. A [flush](crate::UnifiedLogger::flush) meanwhile succeeds
/// without the lines that wait. A logger that ends meanwhile, on any thread, writes all waiting
/// lines and the closing summary at once, over the output of `work`; so does the end of the
/// process, by `exit` or by a signal. With [`OnFull::Wait`](crate::OnFull::Wait), a pipe or a file
/// gets the lines beyond 64 MiB at once, too.
///
/// ```
/// let answer = facade::suspend(|| {
///     println!("two lines of my own,");
///     println!("whole, above the bars");
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
pub fn suspend<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "console")]
    return logcore_console::suspend(work);
    #[cfg(not(feature = "console"))]
    work()
}

/// Prints the closing summary of a run after all lines of a logger, where the lines went. Made
/// before the sinks are released.
pub(crate) struct SummaryPrinter {
    #[cfg(feature = "console")]
    printer: logcore_console::ConsolePrinter,
}

impl SummaryPrinter {
    /// Returns the printer for a logger with this config; `None` if the console shows no records at
    /// INFO, or lines for programs, among which a table would be no line.
    pub(crate) fn new(config: &LogConfig) -> Option<Self> {
        #[cfg(feature = "console")]
        return logcore_console::ConsolePrinter::from_config(config)
            .filter(|_| config.console_level >= LevelFilter::Info && !has_lines_for_programs(config))
            .map(|printer| Self { printer });
        #[cfg(not(feature = "console"))]
        {
            let _ = config;
            None
        }
    }

    /// Prints the text that `render` returns in the form that suits the stream.
    pub(crate) fn print(&self, render: impl FnOnce(SummaryForm) -> String, deadline: Deadline) {
        #[cfg(feature = "console")]
        self.printer
            .print(|color, columns| render(SummaryForm { color, columns }), deadline);
        #[cfg(not(feature = "console"))]
        let _ = (render, deadline);
    }
}

/// Returns `true` if a program reads the console of this config, line by line.
#[cfg(feature = "console")]
fn has_lines_for_programs(config: &LogConfig) -> bool {
    let formatter = config.sinks.get("console").and_then(|options| options.get("formatter"));
    let name = formatter.and_then(|formatter| formatter.as_str().or_else(|| formatter.get("name")?.as_str()));
    matches!(name, Some("json" | "logfmt"))
}

/// Returns `true` if people who look at stderr see the console of this config.
pub(crate) fn is_seen_beside_stderr(config: &LogConfig) -> bool {
    #[cfg(feature = "console")]
    return logcore_console::ConsolePrinter::from_config(config).is_some_and(|console| console.is_seen_beside_stderr());
    #[cfg(not(feature = "console"))]
    {
        let _ = config;
        false
    }
}

/// Limits how long anything may wait for the terminal from now on.
pub(crate) fn limit_waiting(deadline: Deadline) {
    #[cfg(feature = "console")]
    logcore_console::limit_waiting(deadline);
    #[cfg(not(feature = "console"))]
    let _ = deadline;
}

/// Has the lines that a pause holds written, because the process ends.
pub(crate) fn write_held_lines() {
    #[cfg(feature = "console")]
    logcore_console::write_held_lines();
}

/// Sends the notices on stderr through the owner of the terminal, so that they do not break the
/// bars.
pub(crate) fn print_notices_above_bars() {
    #[cfg(feature = "console")]
    logcore_pipeline::set_notice_writer(logcore_console::print_line);
}
