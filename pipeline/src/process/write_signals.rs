//! Writes that fail instead of ending the process.

/// Makes a write of the calling thread fail if its reader is gone, or if it passes a limit of the
/// process (`ulimit -f`).
///
/// Unless the program ignores SIGPIPE and SIGXFSZ, these signals would end the process. Both come
/// from a write of the thread itself, so no other thread receives a signal that this one blocks.
///
/// ```
/// std::thread::spawn(|| {
///     logcore_pipeline::block_write_signals();
///     // A write to a file beyond `ulimit -f` is an error here.
/// })
/// .join()
/// .unwrap();
/// ```
pub fn block_write_signals() {
    #[cfg(unix)]
    super::sys::block_in_this_thread(&[libc::SIGPIPE, libc::SIGXFSZ]);
}
