//! The batches of a request: as much as a server takes at once.

use serde_json::json;

use crate::window::MetricPoint;

/// Most metrics of a batch.
const MOST_METRICS: usize = 1000;
/// Most params, and most tags, of a batch.
const MOST_PAIRS: usize = 100;
/// Most bytes of a batch. A server takes 1,000,000 with all the rest of the request.
const MOST_BYTES: usize = 900_000;

/// A point in the form of a request, with the metric and the point that it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EncodedPoint {
    pub(crate) name: String,
    pub(crate) point: MetricPoint,
    pub(crate) json: String,
}

impl EncodedPoint {
    /// Encodes a point. A value that is no finite number is a text, because MLflow takes a bare NaN
    /// for 0 at step 0.
    pub(crate) fn new(name: String, point: MetricPoint) -> Self {
        let value = match point.value {
            value if value.is_nan() => json!("NaN"),
            value if value.is_infinite() => json!(describe_infinity(value)),
            value => json!(value),
        };
        let json = json!({"key": name, "value": value, "timestamp": to_millis(point.time), "step": point.step});
        Self {
            name,
            point,
            json: json.to_string(),
        }
    }
}

/// Returns the text of an infinity. MLflow keeps it as the greatest or least number.
pub(crate) fn describe_infinity(value: f64) -> &'static str {
    match value > 0.0 {
        true => "Infinity",
        false => "-Infinity",
    }
}

/// Returns milliseconds since 1970.
pub(crate) fn to_millis(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and NaN becomes 0"
    )]
    let millis = (seconds * 1000.0).round() as u64;
    // MLflow keeps times as signed numbers.
    millis.min(i64::MAX as u64)
}

/// Splits points into the metrics of batches.
pub(crate) fn split_points(points: &[EncodedPoint]) -> impl Iterator<Item = &[EncodedPoint]> {
    split(points, MOST_METRICS, |point| point.json.len() + 1)
}

/// Splits pairs of a name and a value into the params or tags of batches.
pub(crate) fn split_pairs(pairs: &[(String, String)]) -> impl Iterator<Item = &[(String, String)]> {
    split(pairs, MOST_PAIRS, |(name, value)| {
        // A control character has six bytes in JSON.
        let escaped = |text: &str| {
            text.chars()
                .map(|c| if c < ' ' { 6 } else { c.len_utf8() + 1 })
                .sum::<usize>()
        };
        escaped(name) + escaped(value) + 30
    })
}

fn split<T>(items: &[T], most: usize, bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fitting = rest.iter().take(most).take_while(|item| {
            sum += bytes(item);
            sum <= MOST_BYTES
        });
        // A single item is shorter than a batch: its name and its value have bounds.
        let count = fitting.count().max(1);
        let (batch, later) = rest.split_at_checked(count)?;
        rest = later;
        Some(batch)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn point(value: f64) -> MetricPoint {
        MetricPoint {
            step: 7,
            time: 1_763_909_295.123_4,
            value,
            row: 3,
        }
    }

    #[test]
    fn values_keep_all_digits_and_odd_ones_are_texts() {
        let value = |value: f64| {
            let json: Value = serde_json::from_str(&EncodedPoint::new("a".to_owned(), point(value)).json).unwrap();
            json["value"].clone()
        };
        assert_eq!(value(0.1), json!(0.1));
        assert_eq!(value(1e300), json!(1e300));
        assert_eq!(
            (value(f64::NAN), value(f64::INFINITY)),
            (json!("NaN"), json!("Infinity"))
        );
        assert_eq!(value(f64::NEG_INFINITY), json!("-Infinity"));
    }

    #[test]
    fn times_are_milliseconds() {
        let point = EncodedPoint::new("a".to_owned(), point(0.5));
        let expected = json!({"key": "a", "value": 0.5, "timestamp": 1_763_909_295_123_u64, "step": 7});
        assert_eq!(serde_json::from_str::<Value>(&point.json).unwrap(), expected);
        assert_eq!([f64::NAN, -1.0, 1e300].map(to_millis), [0, 0, i64::MAX as u64]);
    }

    proptest! {
        /// No pair is lost, and each batch is as long as a server takes it.
        #[test]
        fn batches_have_everything_and_are_short(lengths in prop::collection::vec(0..6000_usize, 0..400)) {
            let pairs: Vec<_> = lengths.iter().map(|length| ("name".to_owned(), "ä\u{1}\"".repeat(length / 3))).collect();
            let batches: Vec<_> = split_pairs(&pairs).collect();
            prop_assert_eq!(batches.concat(), pairs.clone());
            for batch in batches {
                let json: Value = batch.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
                prop_assert!(batch.len() <= MOST_PAIRS && json.to_string().len() <= MOST_BYTES);
            }
        }
    }
}
