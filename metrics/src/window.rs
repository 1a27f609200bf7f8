//! The window of a series: its newest values.

use crate::mean::mean;

/// The newest values, up to the length of the window. Memory is allocated for existing values only.
#[derive(Debug, Default)]
pub(crate) struct ValueWindow {
    values: Vec<f64>,
    /// Index of the oldest value, which the next one replaces once the window is full.
    oldest: usize,
}

impl ValueWindow {
    /// Adds values to a window of `length`. Only [`ValueWindow::resize`] changes the length.
    pub(crate) fn record(&mut self, values: &[f64], length: usize) {
        let newest = &values[values.len().saturating_sub(length)..];
        let room = length - self.values.len();
        let (growing, replacing) = newest.split_at(newest.len().min(room));
        self.values.extend_from_slice(growing);
        if replacing.is_empty() {
            return;
        }
        let (to_the_end, from_the_start) = replacing.split_at(replacing.len().min(length - self.oldest));
        self.values[self.oldest..][..to_the_end.len()].copy_from_slice(to_the_end);
        self.values[..from_the_start.len()].copy_from_slice(from_the_start);
        self.oldest = (self.oldest + replacing.len()) % length;
    }

    /// Changes the length; keeps the newest values.
    pub(crate) fn resize(&mut self, length: usize) {
        self.values.rotate_left(self.oldest);
        self.oldest = 0;
        if self.values.len() > length {
            self.values.drain(..self.values.len() - length);
            self.values.shrink_to_fit();
        }
    }

    /// Returns the mean of the finite values; `None` if there are none.
    pub(crate) fn mean(&self) -> Option<f64> {
        mean(self.values.iter().copied().filter(|value| value.is_finite()))
    }
}
