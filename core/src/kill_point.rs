//! Kill points: places in the code at which the crash tests kill the process.
//!
//! Without `--cfg logcore_kill_points`, the functions are empty. They live in this crate because
//! the ring and the file sinks both call them and share no other crate.

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

    /// Arms the point `name`: its pass number `times` calls `kill`. Further calls have no effect.
    pub fn arm_kill_point(name: &str, times: u64, kill: fn()) {
        let _ = ARMED.set(ArmedPoint {
            name: name.to_owned(),
            passes_left: AtomicU64::new(times),
            kill,
        });
    }

    /// Passes a point, and kills the process if the point is armed for this pass.
    pub fn kill_point(name: &str) {
        if let Some(point) = ARMED.get()
            && point.name == name
            && point.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            (point.kill)();
        }
    }

    /// Writes half of `bytes`, and passes a point in the middle of the copy.
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
