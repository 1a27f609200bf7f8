/// The run is kept as at most so many segments: 6 KiB, and half a percent to a percent of the run each.
pub(crate) const MAX_SEGMENTS: usize = 256;
/// What was done in a part of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunSegment {
    pub(crate) units: f64,
    /// Seconds without the pauses.
    pub(crate) seconds: f64,
    pub(crate) paused: f64,
}

impl RunSegment {
    /// Seconds a unit.
    pub(crate) fn pace(&self) -> f64 {
        self.seconds / self.units
    }
}

/// The pace that this part of the segments, of which there are some, is quicker than.
pub(crate) fn pace_quantile(segments: &[RunSegment], part: f64) -> f64 {
    let mut paces = [0.0; MAX_SEGMENTS];
    let paces = &mut paces[..segments.len()];
    for (pace, segment) in paces.iter_mut().zip(segments) {
        *pace = segment.pace();
    }
    let at = (part * paces.len() as f64) as usize;
    *paces.select_nth_unstable_by(at, f64::total_cmp).1
}
