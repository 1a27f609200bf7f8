//! Curves as JSON, with their numbers as bytes.
//!
//! | numbers, little endian | for each |
//! |---|---|
//! | `u32` steps above `step0`; `f64` steps if `wide` | point |
//! | `f32` seconds after `time0` | point |
//! | `f64` values, so that NaN and the infinities stay what they are | point |
//! | `u8` number of points | bucket, if the buckets are wider than a value |
//! | `f32` means | bucket, if the buckets are wider than a value |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{Curve, CurveBucket, CurvePoint};

/// Returns at least as many bytes as [`EncodedCurve::into_text`] has for steps that fit in an
/// `u32`.
pub(super) fn encoded_len(curve: &Curve) -> usize {
    let (points, buckets) = match curve.width() {
        1 => (curve.buckets().len(), 0),
        _ => {
            let points = curve.buckets().iter().map(|bucket| bucket.points().count());
            (points.sum(), curve.buckets().len())
        }
    };
    (points * (4 + 4 + 8) + buckets * (1 + 4)).div_ceil(3) * 4 + FRAME
}

/// Returns the bytes that a curve would have with all of its values.
pub(super) fn whole_len(curve: &Curve) -> usize {
    let points = usize::try_from(curve.count()).unwrap_or(usize::MAX);
    (points.saturating_mul(4 + 4 + 8))
        .div_ceil(3)
        .saturating_mul(4)
        .saturating_add(FRAME)
}

/// Most bytes of the JSON around the numbers.
const FRAME: usize = 250;

/// A curve for the page, which knows its names by their numbers.
pub(super) struct EncodedCurve {
    /// The facts of the curve.
    pub(super) facts: Value,
    /// The numbers.
    pub(super) bytes: Vec<u8>,
}

impl EncodedCurve {
    /// Returns the curve as JSON, with the numbers as one text in base64.
    pub(super) fn into_text(mut self) -> String {
        self.facts["data"] = STANDARD.encode(self.bytes).into();
        self.facts.to_string()
    }
}

pub(super) fn encode(curve: &Curve, name: Value, logger: Value) -> EncodedCurve {
    let points: Vec<CurvePoint> = curve.buckets().iter().flat_map(CurveBucket::points).collect();
    let step0 = points.iter().map(|point| point.step).min().unwrap_or(0);
    let time0 = points.first().map_or(0.0, |point| point.time);
    let mut bytes = Vec::new();
    let offsets: Option<Vec<u32>> = points
        .iter()
        .map(|point| u32::try_from(point.step - step0).ok())
        .collect();
    match &offsets {
        Some(offsets) => bytes.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes())),
        #[expect(clippy::cast_precision_loss, reason = "the page has no other numbers")]
        None => bytes.extend(points.iter().flat_map(|point| (point.step as f64).to_le_bytes())),
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a week in seconds keeps a tenth of a second"
    )]
    bytes.extend(
        points
            .iter()
            .flat_map(|point| ((point.time - time0) as f32).to_le_bytes()),
    );
    bytes.extend(points.iter().flat_map(|point| point.value.to_le_bytes()));
    let mut facts = json!({
        "name": name,
        "logger": logger,
        "count": curve.count(),
        "step0": step0,
        "step1": points.iter().map(|point| point.step).max(),
        "time0": time0,
        "time1": points.last().map(|point| point.time),
        "points": points.len(),
    });
    if curve.width() > 1 {
        let buckets = curve.buckets();
        bytes.extend(
            buckets
                .iter()
                .map(|bucket| u8::try_from(bucket.points().count()).unwrap_or(u8::MAX)),
        );
        #[expect(clippy::cast_possible_truncation, reason = "a mean is drawn, and never read")]
        bytes.extend(buckets.iter().flat_map(|bucket| (bucket.mean() as f32).to_le_bytes()));
        facts["width"] = curve.width().into();
        facts["buckets"] = buckets.len().into();
    }
    if curve.rank() > 0 {
        facts["rank"] = curve.rank().into();
    }
    if curve.nonfinite() > 0 {
        facts["nonfinite"] = curve.nonfinite().into();
    }
    if offsets.is_none() {
        facts["wide"] = true.into();
    }
    EncodedCurve { facts, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode_as_json(curve: &Curve) -> (serde_json::Value, Vec<u8>) {
        let text = encode(curve, 2.into(), 1.into()).into_text();
        assert!(text.len() <= encoded_len(curve), "{text}");
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((data["name"].as_u64(), data["logger"].as_u64()), (Some(2), Some(1)));
        let bytes = STANDARD.decode(data["data"].as_str().unwrap()).unwrap();
        (data, bytes)
    }

    fn split<const N: usize>(bytes: &[u8]) -> Vec<[u8; N]> {
        bytes.chunks(N).map(|chunk| chunk.try_into().unwrap()).collect()
    }

    #[test]
    fn values_read_back_to_the_last_bit() {
        let mut curve = Curve::new("a", "loss", 3, 16);
        let values = [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX];
        for (step, value) in (7..).zip(values) {
            curve.add(CurvePoint {
                step,
                time: 100.5,
                value,
            });
        }
        let (data, bytes) = encode_as_json(&curve);
        assert_eq!((data["rank"].as_u64(), data["nonfinite"].as_u64()), (Some(3), Some(3)));
        let steps: Vec<u32> = split(&bytes[..24]).into_iter().map(u32::from_le_bytes).collect();
        assert_eq!((steps, data["step0"].as_u64()), (vec![0, 1, 2, 3, 4, 5], Some(7)));
        let read: Vec<u64> = split(&bytes[48..]).into_iter().map(u64::from_le_bytes).collect();
        assert_eq!(read, values.map(f64::to_bits));
    }

    #[test]
    fn steps_far_apart_are_floats() {
        let mut curve = Curve::new("a", "loss", 0, 16);
        for step in [1, u64::MAX] {
            curve.add(CurvePoint {
                step,
                time: 0.0,
                value: 1.0,
            });
        }
        let (data, bytes) = encode_as_json(&curve);
        let steps: Vec<f64> = split(&bytes[..16]).into_iter().map(f64::from_le_bytes).collect();
        assert_eq!(
            (steps, data["wide"].as_bool()),
            (vec![1.0, 18_446_744_073_709_551_615.0], Some(true))
        );
    }

    #[test]
    fn thinned_curves_say_how_their_points_belong_together() {
        let mut curve = Curve::new("a", "loss", 0, 4);
        for (step, value) in (0..).zip([1.0, 5.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0]) {
            curve.add(CurvePoint { step, time: 0.0, value });
        }
        curve.thin(2);
        let (data, bytes) = encode_as_json(&curve);
        assert_eq!((data["points"].as_u64(), data["buckets"].as_u64()), (Some(6), Some(2)));
        let (sizes, means) = bytes[6 * 16..].split_at(2);
        let means: Vec<f32> = split(means).into_iter().map(f32::from_le_bytes).collect();
        assert_eq!((sizes, means), (&[4, 2][..], vec![2.25, 2.0]));
    }
}
