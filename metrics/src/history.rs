//! The history of one series, which is thinned when memory is short.

use std::mem;

use logcore::Point;

use crate::chunked_list::ChunkedList;
use crate::step_list::{StepList, StepRun};

/// Points of a series: of every `stride` points the first one, and always the newest.
#[derive(Debug)]
pub(crate) struct SeriesHistory {
    values: ChunkedList<f64>,
    steps: StepList,
    /// A power of two.
    stride: u64,
    /// Number of points that were recorded.
    seen: u64,
    newest: Point,
}

/// Number of points up to which a series is not thinned: they fit into the first chunk, so no
/// memory would be freed.
pub(crate) const SHORTEST: usize = 16;

impl SeriesHistory {
    pub(crate) fn new() -> Self {
        Self {
            values: ChunkedList::default(),
            steps: StepList::default(),
            stride: 1,
            seen: 0,
            newest: Point::new(0, f64::NAN),
        }
    }

    /// Adds points; returns the number of bytes by which the history has grown.
    pub(crate) fn record(&mut self, steps: StepRun, values: &[f64]) -> usize {
        if let (Some(step), Some(value)) = (steps.steps().last(), values.last()) {
            self.newest = Point::new(step, *value);
        }
        let before = self.seen;
        self.seen += values.len() as u64;
        if self.stride == 1 {
            return self.values.extend(values) + self.steps.push_run(steps);
        }
        let points = (before..).zip(steps.steps().zip(values));
        let kept = points.filter(|(index, _)| index & (self.stride - 1) == 0);
        let mut grown = 0;
        for (_, (step, value)) in kept {
            grown += self.values.push(*value) + self.steps.push(step);
        }
        grown
    }

    /// Returns the kept points in the order in which they were recorded.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mut points = Vec::with_capacity(self.len() + 1);
        points.extend(
            self.steps
                .iter()
                .zip(self.values.iter())
                .map(|(step, value)| Point::new(step, value)),
        );
        points.extend(self.newest_alone());
        points
    }

    /// Returns the number of [`points`](Self::points), and their values.
    pub(crate) fn values(&self) -> (usize, impl Iterator<Item = f64>) {
        let newest = self.newest_alone().map(|point| point.value);
        let count = self.len() + usize::from(newest.is_some());
        (count, self.values.iter().chain(newest))
    }

    /// Drops every second point, and from now on keeps half as many.
    ///
    /// The old lists are freed while the new ones grow, so that no additional memory is needed.
    pub(crate) fn thin(&mut self) {
        let steps = mem::take(&mut self.steps).into_values();
        let values = mem::take(&mut self.values).into_values();
        for (step, value) in steps.zip(values).step_by(2) {
            self.values.push(value);
            self.steps.push(step);
        }
        self.stride *= 2;
    }

    /// Returns the number of points that are kept, without the newest one.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// Returns the size of the history in bytes, including the struct itself.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.values.bytes() + self.steps.bytes()
    }

    /// Returns the newest point if it is not among the kept ones.
    fn newest_alone(&self) -> Option<Point> {
        (self.seen > 0 && !self.is_kept(self.seen - 1)).then_some(self.newest)
    }

    fn is_kept(&self, index: u64) -> bool {
        index & (self.stride - 1) == 0
    }
}
