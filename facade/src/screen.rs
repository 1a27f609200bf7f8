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

/// Lines of trouble on stderr stand above the bars, too.
pub(crate) fn share_with_notices() {
    logcore_pipeline::write_notices_by(|write| suspend(write));
}
