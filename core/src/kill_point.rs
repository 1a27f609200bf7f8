//! Where the crash rig (`cargo xtask torture`) has the process kill itself. Without the feature `kill-points` there is
//! nothing of it in the program.
//!
//! It is here because the ring and the files have such points, and see nothing else of each other.

/// Kills the process when `KILL_POINT=<name>:<n>` stands in the environment and this is the n-th time that `name` is passed.
#[cfg(all(unix, feature = "kill-points"))]
pub fn kill_point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static ASKED: OnceLock<Option<(String, AtomicI64)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("KILL_POINT").ok()?;
        let (name, times) = asked.rsplit_once(':')?;
        Some((name.to_owned(), AtomicI64::new(times.parse().ok()?)))
    });
    if let Some((point, left)) = asked
        && point == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(all(unix, feature = "kill-points")))]
#[inline(always)]
pub fn kill_point(_: &str) {}

/// The same in the middle of a copy: has half of `bytes` written first.
#[cfg(all(unix, feature = "kill-points"))]
pub fn kill_point_amid(name: &str, bytes: &[u8], write: impl FnOnce(&[u8])) {
    write(&bytes[..bytes.len() / 2]);
    kill_point(name);
}

/// Nothing.
#[cfg(not(all(unix, feature = "kill-points")))]
#[inline(always)]
pub fn kill_point_amid(_: &str, _: &[u8], _: impl FnOnce(&[u8])) {}
