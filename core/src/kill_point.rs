//! Points at which the crash rig (`cargo xtask torture`) has the process kill itself. Without `--cfg logcore_kill_points`
//! nothing of them is in the program.
//!
//! The points are here because the ring and the files have some, and see nothing else of each other.

#[cfg(logcore_kill_points)]
pub use self::armed::{arm_kill_point, kill_point, kill_point_amid};

#[cfg(logcore_kill_points)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct ArmedPoint {
        name: String,
        passes_left: AtomicU64,
        kill: fn(),
    }

    static ARMED: OnceLock<ArmedPoint> = OnceLock::new();

    /// Has `kill` called when the point `name` is passed for the n-th time, `times` being n. Only the first call counts.
    pub fn arm_kill_point(name: &str, times: u64, kill: fn()) {
        let _ = ARMED.set(ArmedPoint {
            name: name.to_owned(),
            passes_left: AtomicU64::new(times),
            kill,
        });
    }

    /// Kills the process if this point is armed and its time has come.
    pub fn kill_point(name: &str) {
        if let Some(point) = ARMED.get()
            && point.name == name
            && point.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            (point.kill)();
        }
    }

    /// Passes a point in the middle of a copy: half of `bytes` is written first.
    pub fn kill_point_amid(name: &str, bytes: &[u8], write: impl FnOnce(&[u8])) {
        write(&bytes[..bytes.len() / 2]);
        kill_point(name);
    }
}

/// Does nothing.
#[cfg(not(logcore_kill_points))]
#[inline(always)]
pub fn kill_point(_: &str) {}

/// Does nothing.
#[cfg(not(logcore_kill_points))]
#[inline(always)]
pub fn kill_point_amid(_: &str, _: &[u8], _: impl FnOnce(&[u8])) {}
