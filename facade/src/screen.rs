#[cfg(feature = "console")]
use logcore::log::LevelFilter;
use logcore::{Deadline, LogConfig};

/// Runs `work` with the terminal to itself: the bars are taken away before and come back after it, and log lines wait
/// meanwhile. It is for what a program prints by itself, and for handing the terminal to another program.
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

/// Writes the last word of a logger where it has its lines, behind all of them. Made before they are let go.
pub(crate) struct Printer {
    #[cfg(feature = "console")]
    printer: Option<logcore_console::ConsolePrinter>,
}

impl Printer {
    /// For a logger with this config; it prints nothing where the console shows nothing of what happens.
    pub(crate) fn of(config: &LogConfig) -> Self {
        #[cfg(not(feature = "console"))]
        let _ = config;
        Self {
            #[cfg(feature = "console")]
            printer: (config.console_level >= LevelFilter::Info)
                .then(|| logcore_console::ConsolePrinter::from_config(config))
                .flatten(),
        }
    }

    /// Prints `text`, which is asked whether color is wanted.
    pub(crate) fn print(&self, text: impl FnOnce(bool) -> String, deadline: Deadline) {
        #[cfg(feature = "console")]
        if let Some(printer) = &self.printer {
            printer.print(text, deadline);
        }
        #[cfg(not(feature = "console"))]
        let _ = (text, deadline);
    }
}

/// A logger ends by this deadline, whoever does not read its lines.
pub(crate) fn hurry(deadline: Deadline) {
    #[cfg(feature = "console")]
    logcore_console::limit_waiting(deadline);
    #[cfg(not(feature = "console"))]
    let _ = deadline;
}

/// Lines of trouble on stderr go through the owner of the terminal.
pub(crate) fn share_with_notices() {
    #[cfg(feature = "console")]
    logcore_pipeline::set_notice_writer(logcore_console::print_line);
}
