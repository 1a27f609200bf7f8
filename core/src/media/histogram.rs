//! Histograms.

#[cfg(feature = "media")]
use super::{EncodedMedia, MediaContent, MediaError, sealed::Encode};
use crate::Number;

/// The greatest number of bins; that of W&B.
const MOST_BINS: usize = 512;

/// Counts of values in ranges.
///
/// ```
/// use logcore::Histogram;
///
/// let of_values = Histogram::of([0.0, 0.1, 0.2, 1.0], 2);
/// assert_eq!(of_values, Histogram::from_counts([3, 1], [0.0, 0.5, 1.0]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    edges: Vec<f64>,
}

impl Histogram {
    /// Counts values in `bins` equal ranges (1 to 512) from the least to the greatest value. The
    /// last range includes its upper end. NaN and infinities are skipped. If all values are equal,
    /// or too close for so many ranges, the ranges extend half a unit to either side, or as far as
    /// numbers of that size need.
    ///
    /// ```
    /// use logcore::Histogram;
    ///
    /// let gradients = Histogram::of([0.0, 0.1, f64::NAN, 1.0], 2);
    /// assert_eq!(gradients, Histogram::from_counts([2, 1], [0.0, 0.5, 1.0]));
    /// ```
    #[must_use]
    pub fn of(values: impl IntoIterator<Item: Number>, bins: usize) -> Self {
        let values = values.into_iter().map(|value| value.value().as_f64());
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let bins = bins.clamp(1, MOST_BINS);
        let (low, high) = match values.is_empty() {
            true => (0.0, 1.0),
            false => values
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                }),
        };
        let mut edges = divide(low, high, bins);
        if !edges.is_sorted_by(|edge, next| edge < next) {
            // Each range is at least two steps of the floating-point grid wide.
            let wider = f64::max(0.5, low.abs().max(high.abs()) * f64::EPSILON * bins as f64);
            edges = divide((low - wider).max(f64::MIN), (high + wider).min(f64::MAX), bins);
        }
        let mut counts = vec![0; bins];
        for value in values {
            // W&B shows the edges, so that they decide the range even if rounding disagrees.
            let above = edges.partition_point(|edge| *edge <= value);
            counts[above.saturating_sub(1).min(bins - 1)] += 1;
        }
        Self { counts, edges }
    }

    /// Creates a histogram from counts and edges. There is one more edge than counts.
    ///
    /// ```
    /// use logcore::Histogram;
    ///
    /// let counted = Histogram::from_counts([1, 1], [0.0, 0.5, 1.0]);
    /// assert_eq!(counted, Histogram::of([0.0, 1.0], 2));
    /// ```
    #[must_use]
    pub fn from_counts(counts: impl Into<Vec<u64>>, edges: impl Into<Vec<f64>>) -> Self {
        Self {
            counts: counts.into(),
            edges: edges.into(),
        }
    }
}

/// Returns the limits of `bins` equal ranges from `low` to `high`.
fn divide(low: f64, high: f64, bins: usize) -> Vec<f64> {
    let width = (high - low) / bins as f64;
    let edge = |at: usize| match (at, width.is_finite()) {
        (at, _) if at == bins => high,
        (at, true) => low + at as f64 * width,
        // The range is wider than the greatest number.
        (at, false) => {
            let share = at as f64 / bins as f64;
            low * (1.0 - share) + high * share
        }
    };
    (0..=bins).map(edge).collect()
}

#[cfg(feature = "media")]
impl Encode for Histogram {
    fn encode(self) -> Result<EncodedMedia, MediaError> {
        let (counts, edges) = (self.counts.len(), self.edges.len());
        if counts == 0 || counts > MOST_BINS || edges != counts + 1 {
            return Err(MediaError::Malformed(format!(
                "a histogram has {counts} counts and {edges} edges; use 1 to {MOST_BINS} counts, and one more edge"
            )));
        }
        let rising = self.edges.windows(2).all(|pair| pair[0] <= pair[1]);
        if !rising || !self.edges.iter().all(|edge| edge.is_finite()) {
            return Err(MediaError::Malformed(
                "the edges of a histogram are not finite numbers in rising order".to_owned(),
            ));
        }
        Ok(EncodedMedia::new(MediaContent::Histogram {
            counts: self.counts,
            edges: self.edges,
        }))
    }
}

#[cfg(all(test, feature = "media"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_finite_value_is_counted_once(
            values in prop::collection::vec(any::<f64>(), 0..50),
            bins in 0_usize..600,
        ) {
            let finite = values.iter().filter(|value| value.is_finite()).count() as u64;
            let histogram = Histogram::of(&values, bins);
            prop_assert_eq!(histogram.counts.iter().sum::<u64>(), finite);
            prop_assert_eq!(histogram.edges.len(), histogram.counts.len() + 1);
            prop_assert!(histogram.edges.iter().all(|edge| edge.is_finite()), "{:?}", histogram.edges);
            prop_assert!(histogram.edges.is_sorted_by(|edge, next| edge < next), "{:?}", histogram.edges);
        }
    }

    #[test]
    fn values_are_counted_as_in_numpy() {
        // numpy.histogram([1, 2, 2, 3, 10], bins=3)
        let histogram = Histogram::of([1, 2, 2, 3, 10], 3);
        assert_eq!(histogram, Histogram::from_counts([4, 0, 1], [1.0, 4.0, 7.0, 10.0]));
        // numpy.histogram([5, 5], bins=2)
        assert_eq!(
            Histogram::of([5, 5], 2),
            Histogram::from_counts([0, 2], [4.5, 5.0, 5.5])
        );
    }

    #[test]
    fn the_edges_of_the_widest_and_narrowest_values_are_finite_and_rise() {
        for values in [
            &[f64::MAX, f64::MIN, 0.0][..],
            &[f64::MAX, 0.0],
            &[f64::MAX, f64::MAX],
            &[f64::MIN, f64::MIN],
            &[0.0, 5e-324],
            &[1e20, 1e20],
            &[1.0, 1.0 + f64::EPSILON],
        ] {
            for bins in [1, 3, 4, 64, 512] {
                let Histogram { counts, edges } = Histogram::of(values, bins);
                assert!(
                    edges.is_sorted_by(|edge, next| edge < next),
                    "{values:?} {bins}: {edges:?}"
                );
                assert!(
                    edges.iter().all(|edge| edge.is_finite()),
                    "{values:?} {bins}: {edges:?}"
                );
                assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
            }
        }
    }

    #[test]
    fn counts_and_edges_that_do_not_fit_are_refused() {
        for (counts, edges) in [
            (vec![], vec![0.0]),
            (vec![1], vec![0.0]),
            (vec![1], vec![1.0, 0.0]),
            (vec![1], vec![0.0, f64::NAN]),
        ] {
            assert!(Histogram::from_counts(counts, edges).encode().is_err());
        }
    }
}
