//! The newest values of a series.

use crate::mean::mean;

/// The newest values, up to the length of the window. It takes memory for the values that there are, not for those
/// that there might be.
#[derive(Debug, Default)]
pub(crate) struct Window {
    values: Vec<f64>,
    /// The oldest value, which the next one replaces once the window is full.
    oldest: usize,
}

impl Window {
    #[inline]
    pub(crate) fn record(&mut self, value: f64, length: usize) {
        if self.values.len() < length {
            self.values.push(value);
            return;
        }
        self.values[self.oldest] = value;
        self.oldest += 1;
        if self.oldest == self.values.len() {
            self.oldest = 0;
        }
    }

    /// Makes the window fit for another length; keeps the newest values.
    pub(crate) fn resize(&mut self, length: usize) {
        self.values.rotate_left(self.oldest);
        self.oldest = 0;
        if self.values.len() > length {
            self.values.drain(..self.values.len() - length);
            self.values.shrink_to_fit();
        }
    }

    /// The mean of the finite values, if there are any.
    pub(crate) fn mean(&self) -> Option<f64> {
        mean(self.values.iter().copied().filter(|value| value.is_finite()))
    }
}
