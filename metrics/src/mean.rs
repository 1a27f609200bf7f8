//! The mean of values, without intermediate rounding.

/// Returns the mean of finite values, within one unit in the last place of the exact mean; `None`
/// without values.
///
/// It is exact for 1e16, 1, -1e16, too, and does not overflow.
pub(crate) fn mean(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let count = values.clone().count() as f64;
    if count == 0.0 {
        return None;
    }
    let sum = exact_sum(values.clone());
    if sum.is_finite() {
        return Some(sum / count);
    }
    // The sum is larger than any double, but the mean is not. Dividing by a power of two loses only
    // bits that are far below the last place of such a mean.
    let scale = (2.0 * count).log2().ceil().exp2();
    let mean = exact_sum(values.map(|value| value / scale)) / count * scale;
    Some(mean.clamp(f64::MIN, f64::MAX))
}

/// Returns the sum, computed with Shewchuk's expansions ("Adaptive precision floating-point
/// arithmetic", 1997): the exact sum is held as doubles that do not overlap, the smallest first;
/// rarely more than three. On overflow it is not finite.
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut parts: Vec<f64> = Vec::with_capacity(8);
    for value in values {
        let mut carried = value;
        let mut kept = 0;
        for index in 0..parts.len() {
            let (sum, lost) = add(carried, parts[index]);
            carried = sum;
            if lost != 0.0 {
                parts[kept] = lost;
                kept += 1;
            }
        }
        parts.truncate(kept);
        parts.push(carried);
    }
    parts.into_iter().sum()
}

/// Returns the rounded sum of two doubles, and the rounding error (Knuth's form, for operands of
/// any order).
fn add(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mean_of(values: &[f64]) -> Option<f64> {
        mean(values.iter().copied())
    }

    #[test]
    fn mean_is_exact_under_cancellation() {
        assert_eq!(mean_of(&[1e16, 1.0, -1e16]), Some(1.0 / 3.0));
        assert_eq!(mean_of(&[1e300, 1e200, 1.0, -1e300, -1e200]), Some(0.2));
        assert_eq!(mean_of(&[0.1; 10]), Some(0.1));
        assert_eq!(mean_of(&[-0.0]).map(|mean| mean == 0.0), Some(true));
    }

    #[test]
    fn mean_of_the_largest_values_does_not_overflow() {
        for count in [2, 3, 100, 1000] {
            assert_eq!(mean_of(&vec![1e308; count]), Some(1e308), "{count}");
            assert_eq!(mean_of(&vec![f64::MAX; count]), Some(f64::MAX), "{count}");
            assert_eq!(mean_of(&vec![f64::MIN; count]), Some(f64::MIN), "{count}");
        }
        assert_eq!(mean_of(&[f64::MAX, f64::MAX, f64::MIN, f64::MIN]), Some(0.0));
    }

    #[test]
    fn mean_of_no_values_is_none() {
        assert_eq!(mean_of(&[]), None);
    }

    proptest! {
        /// Integers times 2^-40 have an exact sum in i128.
        #[test]
        fn exact_sum_equals_the_sum_of_integers(
            integers in prop::collection::vec(-(1_i64 << 53)..1 << 53, 1..300),
            shifts in any::<u64>(),
        ) {
            let shift = |index: usize| (shifts.rotate_left(index as u32) % 60) as i32;
            let values: Vec<f64> = integers
                .iter()
                .enumerate()
                .map(|(index, integer)| *integer as f64 * f64::from(shift(index) - 40).exp2())
                .collect();
            let exact: i128 = integers
                .iter()
                .enumerate()
                .map(|(index, integer)| i128::from(*integer) << shift(index))
                .sum();
            let exact = exact as f64 * (-40_f64).exp2();
            let sum = exact_sum(values.into_iter());
            prop_assert!((sum - exact).abs() <= exact.abs() * f64::EPSILON, "{sum} is not {exact}");
        }

        #[test]
        fn mean_is_between_the_smallest_and_the_largest_value(
            values in prop::collection::vec(-f64::MAX..f64::MAX, 1..50),
        ) {
            let mean = mean_of(&values).unwrap();
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
            prop_assert!(mean.is_finite());
            prop_assert!(mean >= min - min.abs() * f64::EPSILON && mean <= max + max.abs() * f64::EPSILON);
        }
    }
}
