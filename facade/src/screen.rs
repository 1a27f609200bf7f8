use logcore::LogConfig;
#[cfg(feature = "console")]
use logcore::log::LevelFilter;
#[cfg(feature = "console")]
use logcore_pipeline::is_child;

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
    if !is_child() {
        return logcore_console::suspend(work);
    }
    work()
}

/// Shows `text` where a logger of this config has its lines, if it shows any that say what happens. It is asked whether
/// colour is wanted.
pub(crate) fn print(config: &LogConfig, text: impl FnOnce(bool) -> String) {
    #[cfg(feature = "console")]
    if config.enable_console && config.console_level >= LevelFilter::Info {
        logcore_console::print(config, text);
    }
    #[cfg(not(feature = "console"))]
    let _ = (config, text);
}

/// Lines of trouble on stderr stand above the bars, too.
pub(crate) fn share_with_notices() {
    logcore_pipeline::write_notices_by(|write| suspend(write));
}
