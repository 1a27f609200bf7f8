//! The segments into which the past of a progress is divided.

/// Maximum number of segments: 6 KiB in memory, and 0.4 to 0.8 percent of the run each.
pub(crate) const MAX_SEGMENTS: usize = 256;

/// The work in one part of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunSegment {
    pub(crate) units: f64,
    /// Seconds, without pauses.
    pub(crate) seconds: f64,
    /// Seconds of pauses.
    pub(crate) paused: f64,
}

impl RunSegment {
    /// Returns the seconds per unit, without pauses.
    pub(crate) fn pace(&self) -> f64 {
        self.seconds / self.units
    }

    /// Returns the seconds per unit, with pauses.
    pub(crate) fn whole_pace(&self) -> f64 {
        (self.seconds + self.paused) / self.units
    }
}

/// Returns the `part` quantile of the paces, with `part` from 0 to below 1. `segments` must not be
/// empty.
pub(crate) fn pace_quantile(segments: &[RunSegment], part: f64) -> f64 {
    let mut paces = [0.0; MAX_SEGMENTS];
    let paces = &mut paces[..segments.len()];
    for (pace, segment) in paces.iter_mut().zip(segments) {
        *pace = segment.pace();
    }
    let at = (part * paces.len() as f64) as usize;
    *paces.select_nth_unstable_by(at, f64::total_cmp).1
}
