//! What a process that was forked from one with a ring, without `exec`, has to do: it shares the ring, whose writer lives in
//! the other process.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Whether this process was forked, without `exec`, from one whose threads serve its loggers: there are none here.
pub fn is_child() -> bool {
    offset() != 0
}

/// 0 in the process that has the writer; a number of its own in the upper half in any other.
pub(crate) fn offset() -> u64 {
    OFFSET.load(Ordering::Relaxed)
}

/// Lets a child know that it is one. Only the first call counts.
pub(crate) fn watch() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: the function has the C signature, lives for ever, and calls nothing but what is allowed after a fork.
            // Failure means that the system has no room for one more handler; then a child waits for answers in vain.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
    }
}

/// Has every child close its copy of this descriptor, so that the lock on the ring ends with the process that has the
/// writer.
#[cfg(unix)]
pub(crate) fn close_in_children(descriptor: i32) {
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
}

static OFFSET: AtomicU64 = AtomicU64::new(0);
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

#[cfg(unix)]
extern "C" fn in_child() {
    // SAFETY: always allowed.
    let pid = unsafe { libc::getpid() };
    OFFSET.store(u64::from(pid.unsigned_abs()) << 32, Ordering::Relaxed);
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: the child's copy of a descriptor that its owner never closes in a child: see `ring_file`.
        let _ = unsafe { libc::close(descriptor) };
    }
}
