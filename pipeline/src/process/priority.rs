//! Threads that have time.

/// Has the calling thread give way to others: to the training, above all. Where that is not allowed, it stays as it is.
pub fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    yield_on_linux();
}

/// Of 19; what is meant for background work by convention.
#[cfg(target_os = "linux")]
const NICE: libc::c_int = 10;

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn yield_on_linux() {
    // SAFETY: the calls take and return integers. Linux means by a process here the calling thread alone.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS as _, 0);
        libc::setpriority(libc::PRIO_PROCESS as _, 0, nice.max(NICE));
    }
}
