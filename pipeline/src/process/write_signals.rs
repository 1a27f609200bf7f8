//! Writes that fail instead of ending the process.

/// Has writes of the calling thread fail whose reader has gone, or which pass a limit of the process (`ulimit -f`). Where the
/// program has not ignored the signals for that, they would end it.
pub(crate) fn shield_writes() {
    #[cfg(unix)]
    block(&[libc::SIGPIPE, libc::SIGXFSZ]);
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn block(signals: &[libc::c_int]) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is made before anything is put into it, and the calls change only it and the mask of this thread. Both
    // signals come from a write of the thread itself, so that no other thread gets them instead.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}
