//! The priority of background threads.

/// Lowers the priority of the calling thread, so that it gives way to the training above all.
///
/// The thread gets a nice value of at least 10, the conventional one for background work. If the
/// system refuses, or is not Linux, the priority stays as it is.
///
/// ```
/// std::thread::spawn(logcore_pipeline::lower_thread_priority).join().unwrap();
/// # #[cfg(target_os = "linux")]
/// std::thread::spawn(|| {
///     logcore_pipeline::lower_thread_priority();
///     // The 19th field of the thread's statistics is its nice value.
///     let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
///     let nice: i32 = stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().parse().unwrap();
///     assert!(nice >= 10);
/// })
/// .join()
/// .unwrap();
/// ```
pub fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    super::sys::calls::raise_thread_nice_to(BACKGROUND_NICE);
}

/// Nice values go up to 19.
#[cfg(target_os = "linux")]
const BACKGROUND_NICE: i32 = 10;
