//! The course of a metric in one short word.

/// Maximum number of bars.
const WIDTH: usize = 12;
/// Values that differ by less than this share of their magnitude are equal: their means differ only
/// by rounding.
const EQUAL_WITHIN: f64 = 1e-9;

/// Returns `count` values as bars of eight heights, each the mean of a stretch of values. A stretch
/// without a finite value is blank. Fewer than two values give no bars, equal ones a flat line.
pub(crate) fn sparkline(count: usize, values: impl Iterator<Item = f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if count < 2 {
        return String::new();
    }
    let width = WIDTH.min(count);
    let (mut means, mut finite) = (Vec::with_capacity(width), Vec::new());
    let (mut seen, mut end) = (0, count / width);
    // Measured for a value: 30 instructions, and 60 with an iterator for each stretch.
    values.for_each(|value| {
        seen += 1;
        if value.is_finite() {
            finite.push(value);
        }
        if seen == end {
            means.push(mean_of(&finite));
            finite.clear();
            end = (means.len() + 1) * count / width;
        }
    });
    let finite = || means.iter().flatten().copied();
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
    );
    let (range, magnitude) = (high - low, high.abs().max(low.abs()));
    let is_flat = range <= magnitude * EQUAL_WITHIN || !range.is_finite();
    let height = |value: f64| match is_flat {
        true => 0,
        false => (((value - low) / range * 7.0).round() as usize).min(7),
    };
    means
        .iter()
        .map(|mean| mean.map_or(' ', |mean| BARS[height(mean)]))
        .collect()
}

/// Returns the mean of finite values; `None` without any.
fn mean_of(finite: &[f64]) -> Option<f64> {
    // Dividing before adding keeps the sum of huge values finite.
    let parts = finite.iter().map(|value| value / finite.len() as f64);
    (!finite.is_empty()).then(|| parts.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(values: &[f64]) -> String {
        sparkline(values.len(), values.iter().copied())
    }

    #[test]
    fn a_sparkline_has_a_bar_for_each_stretch_of_values() {
        let sparklines = [
            &[][..],
            &[1.0],
            &[1.0, 2.0],
            &[0.0, f64::NAN, 7.0, f64::INFINITY, 3.0],
            &[f64::MAX, f64::MIN],
            &[f64::NAN, f64::NAN],
        ]
        .map(bars);
        assert_eq!(sparklines, ["", "", "▁█", "▁ █ ▄", "▁▁", "  "]);
        let rising: Vec<f64> = (0..10_000).map(f64::from).collect();
        assert_eq!(bars(&rising), "▁▂▂▃▄▄▅▅▆▇▇█");
    }

    #[test]
    fn a_constant_gives_a_flat_line() {
        for constant in [0.0, 0.95, -0.1, 1e-300, 1e300] {
            for count in [2, 3, 100, 1001] {
                let flat = "▁".repeat(WIDTH.min(count));
                assert_eq!(bars(&vec![constant; count]), flat, "{count} times {constant}");
            }
        }
    }
}
