//! The points of one series, thinned when memory is short.

use std::mem;

use logcore::Point;

use crate::column::Column;
use crate::steps::Steps;

/// Keeps one point of every `stride`, the first among them, and always the newest.
#[derive(Debug)]
pub(crate) struct History {
    values: Column<f64>,
    steps: Steps,
    /// A power of two.
    stride: u64,
    /// How many points there have been.
    seen: u64,
    newest: Point,
}

/// A series of so few points is not thinned: they fit in the first chunk, so nothing would be freed.
pub(crate) const SHORTEST: usize = 16;

impl History {
    pub(crate) fn new() -> Self {
        Self {
            values: Column::default(),
            steps: Steps::default(),
            stride: 1,
            seen: 0,
            newest: Point::new(0, f64::NAN),
        }
    }

    /// Adds a point; returns by how many bytes the history has grown.
    #[inline]
    pub(crate) fn record(&mut self, step: u64, value: f64) -> usize {
        let keep = self.is_kept(self.seen);
        self.seen += 1;
        self.newest = Point::new(step, value);
        if keep { self.keep(step, value) } else { 0 }
    }

    /// The points that are left, in the order in which they were recorded.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mut points = Vec::with_capacity(self.len() + 1);
        points.extend(
            self.steps
                .iter()
                .zip(self.values.iter())
                .map(|(step, value)| Point::new(step, value)),
        );
        if self.seen > 0 && !self.is_kept(self.seen - 1) {
            points.push(self.newest);
        }
        points
    }

    /// Drops every second of the points that are kept, and from now on keeps half as many.
    ///
    /// The old columns are freed while the new ones grow, so that no more memory is needed on the way.
    pub(crate) fn thin(&mut self) {
        let steps = mem::take(&mut self.steps).into_values();
        let values = mem::take(&mut self.values).into_values();
        for (step, value) in steps.zip(values).step_by(2) {
            self.keep(step, value);
        }
        self.stride *= 2;
    }

    /// How many points are kept.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// What the history takes, itself included.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.values.bytes() + self.steps.bytes()
    }

    fn is_kept(&self, index: u64) -> bool {
        index & (self.stride - 1) == 0
    }

    fn keep(&mut self, step: u64, value: f64) -> usize {
        self.values.push(value) + self.steps.push(step)
    }
}
